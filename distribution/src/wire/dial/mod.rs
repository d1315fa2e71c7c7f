//! How a node or a caller reaches its master: one attempt ([`dial`]), and what lies between two ([`Backoff`], [`RetryLog`]).

mod address;
mod backoff;
mod retry_log;

use std::{fmt, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

pub(crate) use self::{address::check_address, backoff::Backoff, retry_log::RetryLog};
use super::{
    authenticator::PeerAuthenticator,
    channel::Channel,
    handshake::{ErrorSubject, HandshakeError, RetryPolicy},
};

/// How long one connection attempt may take; a host that drops packets would hold it up for minutes.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a master could not be reached.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Nothing answers at the address. Another attempt may succeed.
    NoAnswer(String),
    /// Something answered. Another attempt may succeed.
    Passing(String),
    /// Too many others connect at the moment; the master asks to come again after this time.
    Busy(Duration),
    /// Without security this address must not be dialled.
    Insecure(SocketAddr),
    /// Another attempt would fail too. With `first_only`, that holds only for a peer that was never accepted.
    Permanent { subject: ErrorSubject, text: String, first_only: bool },
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(text) | Self::Passing(text) | Self::Permanent { text, .. } => f.write_str(text),
            // Without the time, which differs with each attempt.
            Self::Busy(_) => f.write_str("the master is busy with other connections"),
            Self::Insecure(addr) => {
                write!(f, "the master's address {addr} is not on loopback, and there are no security settings")
            }
        }
    }
}

impl DialError {
    /// What a failed handshake means for the peer that dialled.
    ///
    /// Until a master has proven its identity, anybody who got its port may have sent the answer, so it does not end a peer
    /// that has been accepted before. Nor does the refusal of a credential that is in a file: the peer's file may be
    /// replaced later than the master's.
    pub(crate) fn of_handshake(error: &HandshakeError, authenticator: &PeerAuthenticator) -> Self {
        #[cfg(feature = "tls")]
        if let HandshakeError::Busy(again) = error {
            return Self::Busy(*again);
        }
        let text = match error {
            HandshakeError::Late { time, .. } => format!(
                "the connection was accepted, but the master's part of the handshake did not come within {time:?}; check that \
                 the port is the master's and not another program's, and that the master is not stopped or overloaded"
            ),
            error => error.to_string(),
        };
        let first_only = match error.retry_policy() {
            RetryPolicy::Never => {
                !authenticator.knows_master()
                    || (authenticator.may_change() && matches!(error.subject(), ErrorSubject::Credential))
            }
            RetryPolicy::RetryIfRegistered => true,
            RetryPolicy::Retry => return Self::Passing(text),
        };
        Self::Permanent { subject: error.subject(), text, first_only }
    }
}

/// Opens a connection to the master at this address (`host:port`), and authenticates both ends.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub(crate) async fn dial(authenticator: &PeerAuthenticator, master: &str) -> Result<Channel, DialError> {
    let stream = match timeout(ATTEMPT_TIMEOUT, open(authenticator, master)).await {
        Ok(opened) => opened?,
        Err(_) => {
            return Err(DialError::NoAnswer(format!(
                "cannot connect: no answer within {ATTEMPT_TIMEOUT:?}; a firewall may drop the packets"
            )));
        }
    };
    // Frames are written whole, so Nagle's algorithm could only delay the last of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(master, reason = %error, "TCP_NODELAY cannot be set");
    }
    authenticator
        .authenticate(stream, host(master))
        .await
        .map_err(|error| DialError::of_handshake(&error, authenticator))
}

async fn open(authenticator: &PeerAuthenticator, master: &str) -> Result<TcpStream, DialError> {
    let failed = |error| DialError::NoAnswer(format!("cannot connect: {error}"));
    let addrs: Vec<_> = lookup_host(master).await.map_err(failed)?.collect();
    match authenticator.check_addresses(&addrs) {
        // The addresses that were checked, and not the name: it may resolve to others the next moment.
        Ok(()) => TcpStream::connect(&addrs[..]).await.map_err(failed),
        Err(addr) => Err(DialError::Insecure(addr)),
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::{Access, SecurityConfig};

    #[test]
    fn the_host_of_an_address_has_no_brackets() {
        for (address, expected) in [("a.example:1", "a.example"), ("10.0.0.1:1", "10.0.0.1"), ("[::1]:1", "::1")] {
            assert_eq!(host(address), expected);
        }
    }

    #[test]
    fn a_late_handshake_says_what_to_check() {
        let authenticator =
            PeerAuthenticator::new(&SecurityConfig::default(), "n", &[Access::Nodes]).expect("loopback needs nothing");
        let error = HandshakeError::Late { what: "hello", time: Duration::from_secs(10) };
        let text = DialError::of_handshake(&error, &authenticator).to_string();
        assert!(text.contains("within 10s") && text.contains("check that the port is the master's"), "{text}");
    }
}
