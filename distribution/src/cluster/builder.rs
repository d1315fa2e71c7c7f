//! `ClusterBuilder`: the settings of a caller, and its start.

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::{fmt, time::Duration};

use super::{handle::Cluster, session, shared::ClusterShared, status::Status};
#[cfg(feature = "tls")]
use crate::security::{Certificates, TokenText};
use crate::{
    config::{LONGEST_TIME, MAX_DEPTH, MAX_MESSAGE_SIZE, check_max_message_size},
    error::Error,
    process_name::default_name,
    security::{Access, SecurityConfig},
    wire::{authenticator::PeerAuthenticator, dial::check_address, handshake::CallerHello},
};

/// The default of `connect_timeout` and `reconnect_timeout`.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The roles in which a caller may come.
const CALLER: &[Access] = &[Access::Callers, Access::Admins, Access::Viewers];
#[cfg(feature = "tls")]
const ADMIN: &[Access] = &[Access::Admins, Access::Viewers];
#[cfg(feature = "tls")]
const VIEWER: &[Access] = &[Access::Viewers];

/// Configures a caller and connects it to a master. Made by [`Cluster::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `connect`"]
pub struct ClusterBuilder {
    name: Option<String>,
    max_message_size: usize,
    connect_timeout: Duration,
    reconnect_timeout: Duration,
    security: SecurityConfig,
    roles: &'static [Access],
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            name: None,
            max_message_size: MAX_MESSAGE_SIZE,
            connect_timeout: TIMEOUT,
            reconnect_timeout: TIMEOUT,
            security: SecurityConfig::default(),
            roles: CALLER,
        }
    }
}

impl Cluster {
    /// Connects to the master at this address (`host:port`), with default settings: without security on loopback, and by the
    /// token in `DISTRIBUTION_TOKEN` anywhere.
    ///
    /// # Errors
    ///
    /// Those of [`ClusterBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub async fn connect(master: impl fmt::Display) -> Result<Self, Error> {
        Self::builder().connect(master).await
    }

    /// A builder with default settings.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }
}

impl ClusterBuilder {
    /// The caller's name in lists and logs: 1 to 128 bytes without blanks. Host name and process number by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long the first connection may take; 30 s by default, above zero, up to 365 days. A master that is not up yet is
    /// waited for until then.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long calls wait for a master that was lost; 30 s by default, up to 365 days. Then they end as
    /// [`CallError::MasterLost`](crate::CallError::MasterLost). With zero they do not wait. The caller goes on dialling, and
    /// calls that are made once the master is back work again.
    pub fn reconnect_timeout(mut self, time: Duration) -> Self {
        self.reconnect_timeout = time;
        self
    }

    /// The largest message that the caller sends or accepts, in bytes: limits the arguments of a call and its reply. From
    /// 16 KiB to 4 GiB - 1; 1 GiB by default. The master has a
    /// [limit of its own](crate::MasterBuilder::max_message_size), and the smaller one counts.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Connects by this token, over TLS 1.3: one that was [issued](crate::Token::issue) for callers (or admins).
    /// `DISTRIBUTION_TOKEN` in the environment does the same for a caller without other security settings; if it is set and
    /// empty, that is an error.
    #[cfg(feature = "tls")]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.security.token = Some(TokenText::new(token.into()));
        self
    }

    /// Connects by the first token for callers (or admins) in this file, over TLS 1.3. `DISTRIBUTION_TOKEN_FILE` in the
    /// environment does the same for a caller without other security settings. The file is read again before each
    /// connection, and is used only if nobody else can have changed it: see
    /// [`MasterBuilder::token_file`](crate::MasterBuilder::token_file).
    #[cfg(feature = "tls")]
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.security.token_file = Some(file.into());
        self
    }

    /// Connects by a certificate of your own authority, over TLS 1.3. The master has to list its name:
    /// [`Certificates::callers`].
    #[cfg(feature = "tls")]
    pub fn certificates(mut self, certificates: Certificates) -> Self {
        self.security.certificates = Some(certificates);
        self
    }

    /// Connects as an administrator: by a token for admins (or viewers, who change nothing), or by a certificate whose name
    /// the master lists with [`Certificates::admins`].
    #[cfg(feature = "tls")]
    pub fn admin(mut self) -> Self {
        self.roles = ADMIN;
        self
    }

    /// Connects as a viewer, who may look and change nothing: by a token for viewers, or by a certificate whose name the
    /// master lists with [`Certificates::viewers`].
    #[cfg(feature = "tls")]
    pub fn viewer(mut self) -> Self {
        self.roles = VIEWER;
        self
    }

    /// Connects to masters on other machines without any security: anybody on the network can read and change the traffic,
    /// and any program at the master's address can answer. Logs a warning.
    pub fn insecure(mut self) -> Self {
        self.security.insecure = true;
        self
    }

    /// Connects to the master at this address (`host:port`), and returns once it is connected. Waits for a master that is
    /// not up yet, for [`connect_timeout`](Self::connect_timeout).
    ///
    /// # Errors
    ///
    /// - [`Error::Setting`] (also for an address that is not `host:port`), [`Error::Token`], [`Error::TokenFile`] and
    ///   [`Error::Certificates`], before anything is started.
    /// - [`Error::Insecure`]: the address is not on loopback, and the caller has no security settings.
    /// - [`Error::NoCredential`]: the master requires a token or a certificate, and the caller was given none, or
    ///   one of the other kind.
    /// - [`Error::Refused`], [`Error::Protocol`] and [`Error::Untrusted`]: the master refuses the caller for good, or cannot
    ///   prove its identity.
    /// - [`Error::ConnectTimeout`]: the caller was not connected within `connect_timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, on which the connection's task runs.
    pub async fn connect(self, master: impl fmt::Display) -> Result<Cluster, Error> {
        let cluster = self.start(master.to_string())?;
        let mut status = cluster.status();
        let reached = status.wait_for(|status| !matches!(status, Status::Connecting)).await;
        let ended = match reached.as_deref() {
            Ok(Status::Ended(Some(reason))) => Some(reason.clone()),
            _ => None,
        };
        drop(reached);
        match ended {
            Some(reason) => Err(reason.into_error(cluster.master())),
            None => Ok(cluster),
        }
    }

    /// Not in the `async fn` above, because the body of one is compiled again in each program that awaits it.
    fn start(self, master: String) -> Result<Cluster, Error> {
        check_address(&master, "a caller")?;
        let name = self.name.unwrap_or_else(|| default_name("caller"));
        let max_message_size = check_max_message_size(self.max_message_size)? as u64;
        let hello = CallerHello { name, max_message_size, node: None, session: None };
        hello.check().map_err(|_| {
            Error::setting("name", format_args!("{:?}", hello.name), "it must have 1 to 128 bytes without blanks")
        })?;
        let connect_timeout = check_timeout("connect_timeout", self.connect_timeout)?;
        if connect_timeout.is_zero() {
            return Err(Error::setting("connect_timeout", "0ns", "it must be above zero"));
        }
        let reconnect_timeout = check_timeout("reconnect_timeout", self.reconnect_timeout)?;
        let authenticator = PeerAuthenticator::new(&self.security, "", self.roles)?;
        if self.security.insecure {
            tracing::warn!(
                caller = hello.name,
                master,
                "`.insecure()` is set: anybody on the network can read and change what is sent to the master"
            );
        }
        let shared =
            ClusterShared::new(master, hello, authenticator, connect_timeout, reconnect_timeout, MAX_DEPTH, None);
        tokio::spawn(session::run(std::sync::Arc::clone(&shared)));
        Ok(Cluster::new(shared))
    }
}

fn check_timeout(name: &'static str, time: Duration) -> Result<Duration, Error> {
    match time > LONGEST_TIME {
        true => Err(Error::setting(name, format_args!("{time:?}"), "it must be 365 days at most")),
        false => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_setting_that_cannot_work_is_an_error_that_names_it() {
        let cluster = Cluster::builder;
        let long = LONGEST_TIME + Duration::from_nanos(1);
        for (name, builder) in [
            ("name", cluster().name("a b")),
            ("max_message_size", cluster().max_message_size(0)),
            ("connect_timeout", cluster().connect_timeout(Duration::ZERO)),
            ("connect_timeout", cluster().connect_timeout(long)),
            ("reconnect_timeout", cluster().reconnect_timeout(long)),
        ] {
            let error = builder.connect("127.0.0.1:1").await.expect_err(name);
            assert!(matches!(error, Error::Setting { name: named, .. } if named == name), "{name}: {error}");
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
        let error = cluster().connect("nowhere").await.expect_err("is not an address");
        assert!(error.to_string().contains("a caller dials a `host:port`"), "{error}");
    }
}
