//! Connects to the master's address, and has the master prove that it is the master, where the node can check that.

use std::{fmt, time::Duration};

use super::state::EndReason;
use crate::wire::{
    authenticator::PeerAuthenticator,
    channel::Channel,
    dial::{DialError, dial},
    handshake::{ErrorSubject, HandshakeError},
};

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

impl From<DialError> for RegisterError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NoAnswer(reason) => Self::NoAnswer(reason),
            DialError::Passing(reason) => Self::Passing(reason),
            DialError::Busy(again) => Self::Busy(again),
            DialError::Insecure(addr) => {
                Self::Permanent { reason: EndReason::Insecure(addr.to_string()), first_only: true }
            }
            DialError::Permanent { subject, text, first_only } => {
                let reason = match subject {
                    ErrorSubject::Trust => EndReason::Untrusted(text),
                    ErrorSubject::Credential => EndReason::Refused(text),
                    ErrorSubject::NoCredential => EndReason::NoCredential(text),
                    ErrorSubject::Protocol => EndReason::Protocol(text),
                };
                Self::Permanent { reason, first_only }
            }
        }
    }
}

/// Opens a connection to the master.
pub(super) async fn connect(authenticator: &PeerAuthenticator, master: &str) -> Result<Channel, RegisterError> {
    dial(authenticator, master).await.map_err(RegisterError::from)
}

/// What a failed handshake means for the node.
pub(super) fn classify(error: &HandshakeError, authenticator: &PeerAuthenticator) -> RegisterError {
    DialError::of_handshake(error, authenticator).into()
}
