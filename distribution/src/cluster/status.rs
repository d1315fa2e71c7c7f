//! Whether a caller is connected, and why it ended.

use std::time::Duration;

use crate::{
    error::{Endpoint, Error},
    wire::{dial::DialError, handshake::ErrorSubject},
};

/// How a caller stands with its master.
#[derive(Clone, Debug)]
pub(super) enum Status {
    /// Not connected yet.
    Connecting,
    Connected,
    /// It was connected, and is not at the moment.
    Away,
    /// It has ended; with a reason unless its owner ended it.
    Ended(Option<EndReason>),
}

/// Why a caller ended against its owner's will.
#[derive(Clone, Debug)]
pub(super) enum EndReason {
    Refused(String),
    /// The master wants a credential that it was not given.
    NoCredential(String),
    Protocol(String),
    Untrusted(String),
    /// The address, which is not on loopback.
    Insecure(String),
    /// The first connection took longer than `connect_timeout`.
    ConnectTimeout {
        timeout: Duration,
        last_failure: String,
    },
}

impl EndReason {
    /// Why the caller ends after this failure, if another attempt would fail too. `is_first` says that the caller was never
    /// connected.
    pub(super) fn of_failure(failure: &DialError, is_first: bool) -> Option<Self> {
        match failure {
            DialError::Insecure(addr) => Some(Self::Insecure(addr.to_string())),
            DialError::Permanent { subject, text, first_only } if is_first || !first_only => Some(match subject {
                ErrorSubject::Trust => Self::Untrusted(text.clone()),
                ErrorSubject::Credential => Self::Refused(text.clone()),
                ErrorSubject::NoCredential => Self::NoCredential(text.clone()),
                ErrorSubject::Protocol => Self::Protocol(text.clone()),
            }),
            _ => None,
        }
    }

    /// The error for the owner of the caller.
    pub(super) fn into_error(self, master: &str) -> Error {
        let (master, end) = (master.to_owned(), Endpoint::Caller);
        match self {
            Self::Refused(reason) => Error::Refused { end, master, reason },
            Self::NoCredential(reason) => Error::NoCredential { end, master, reason },
            Self::Protocol(reason) => Error::Protocol { end, master, reason },
            Self::Untrusted(reason) => Error::Untrusted { end, master, reason },
            Self::Insecure(addr) => Error::Insecure { end, addr },
            Self::ConnectTimeout { timeout, last_failure } => {
                Error::ConnectTimeout { end, master, timeout, last_failure }
            }
        }
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(reason) | Self::NoCredential(reason) | Self::Protocol(reason) | Self::Untrusted(reason) => {
                f.write_str(reason)
            }
            Self::Insecure(addr) => {
                write!(f, "the master's address {addr} is not on loopback, and the caller has no security settings")
            }
            Self::ConnectTimeout { timeout, last_failure } => {
                write!(f, "not connected within the connect timeout of {timeout:?}: {last_failure}")
            }
        }
    }
}
