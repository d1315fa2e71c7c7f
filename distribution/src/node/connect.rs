//! Connects to the master's address, and has the master prove that it is the master, where the node can check that.

use std::{fmt, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::state::EndReason;
use crate::wire::{
    authenticator::NodeAuthenticator,
    channel::Channel,
    handshake::{ErrorSubject, HandshakeError, RetryPolicy},
};

/// How long one connection attempt may take; a host that drops packets would hold it up for minutes.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an attempt to register failed.
pub(super) enum RegisterError {
    /// Nothing answers at the address. Another attempt may succeed.
    NoAnswer(String),
    /// Something answered. Another attempt may succeed.
    Passing(String),
    /// Too many other nodes register at the moment; the master asks the node to come again after this time.
    Busy(Duration),
    /// Another attempt would fail too. With `first_only`, that holds only for a node that was never registered.
    Permanent { reason: EndReason, first_only: bool },
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(reason) | Self::Passing(reason) => f.write_str(reason),
            // Without the time, which differs with each attempt.
            Self::Busy(_) => f.write_str("the master is busy with the registration of other nodes"),
            Self::Permanent { reason, .. } => reason.fmt(f),
        }
    }
}

/// Opens a connection to the master.
pub(super) async fn connect(authenticator: &NodeAuthenticator, master: &str) -> Result<Channel, RegisterError> {
    let stream = match timeout(ATTEMPT_TIMEOUT, open(authenticator, master)).await {
        Ok(opened) => opened?,
        Err(_) => {
            return Err(RegisterError::NoAnswer(format!(
                "cannot connect: no answer within {ATTEMPT_TIMEOUT:?}; a firewall may drop the packets"
            )));
        }
    };
    // Frames are written whole, so Nagle's algorithm could only delay the last of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    authenticator.authenticate(stream, host(master)).await.map_err(|error| classify(&error, authenticator))
}

async fn open(authenticator: &NodeAuthenticator, master: &str) -> Result<TcpStream, RegisterError> {
    let failed = |error| RegisterError::NoAnswer(format!("cannot connect: {error}"));
    let addrs: Vec<_> = lookup_host(master).await.map_err(failed)?.collect();
    match authenticator.check_addresses(&addrs) {
        // The addresses that were checked, and not the name: it may resolve to others the next moment.
        Ok(()) => TcpStream::connect(&addrs[..]).await.map_err(failed),
        Err(addr) => Err(RegisterError::Permanent { reason: EndReason::Insecure(addr.to_string()), first_only: true }),
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// What a failed handshake means for the node.
///
/// Until a master has proven its identity, anybody who got its port may have sent the answer, so it does not end a node
/// that has been registered before. Nor does the refusal of a credential that is in a file: the node's file may be replaced
/// later than the master's.
pub(super) fn classify(error: &HandshakeError, authenticator: &NodeAuthenticator) -> RegisterError {
    #[cfg(feature = "tls")]
    if let HandshakeError::Busy(again) = error {
        return RegisterError::Busy(*again);
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
        RetryPolicy::Retry => return RegisterError::Passing(text),
    };
    let reason = match error.subject() {
        ErrorSubject::Trust => EndReason::Untrusted(text),
        ErrorSubject::Credential => EndReason::Refused(text),
        ErrorSubject::Protocol => EndReason::Protocol(text),
    };
    RegisterError::Permanent { reason, first_only }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::SecurityConfig;

    #[test]
    fn the_host_of_an_address_has_no_brackets() {
        for (address, expected) in [("a.example:1", "a.example"), ("10.0.0.1:1", "10.0.0.1"), ("[::1]:1", "::1")] {
            assert_eq!(host(address), expected);
        }
    }

    #[test]
    fn a_late_handshake_says_what_to_check() {
        let authenticator = NodeAuthenticator::new(&SecurityConfig::default(), "n").expect("loopback needs nothing");
        let error = HandshakeError::Late { what: "hello", time: Duration::from_secs(10) };
        let text = classify(&error, &authenticator).to_string();
        assert!(text.contains("within 10s") && text.contains("check that the port is the master's"), "{text}");
    }
}
