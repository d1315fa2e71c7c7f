//! Why a handshake failed, and whether trying again helps.

use std::{io, time::Duration};

#[cfg(feature = "tls")]
use super::codes::AuthenticationResult;
use super::{
    codes::{PROTOCOL_VERSION, Security, role_name, security_name},
    limits::REGISTRATION_LIMIT,
};
use crate::{
    error::CodecError,
    text::{LONGEST, in_one_line},
    wire::codec::CODEC_NAME,
};

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("it does not speak this protocol: it began with {0}")]
    OtherProtocol(String),
    #[error(
        "it speaks protocol version {theirs} and this end speaks {PROTOCOL_VERSION}; run the same release of `distribution` on both ends"
    )]
    Version { theirs: u16 },
    #[error("it says it is {}, and this end expects {expected}", role_name(*.theirs))]
    Role { theirs: u8, expected: &'static str },
    #[error(
        "it requires {}, and this end has {}; set up the same on both",
        security_name(*.theirs), security_name(*.ours as u8)
    )]
    Security { theirs: u8, ours: Security },
    /// At a node or a caller: the other end may be a master with security, or another server.
    #[error(
        "it speaks TLS. If it is the master, it requires a join token or a certificate. Set DISTRIBUTION_TOKEN, .token(..) or \
         .token_file(..) to the line that the master printed at its first start or that `Token::issue` made, or set \
         .certificates(..). If not, the address is that of another server"
    )]
    MasterSpeaksTls,
    /// At a master without security.
    #[error(
        "it speaks TLS, and this master has no security; give the master .token_file(..) or .certificates(..), or start the \
         node without a token and without certificates"
    )]
    NodeSpeaksTls,
    /// At a node with a token or certificates.
    #[cfg(feature = "tls")]
    #[error(
        "it does not speak TLS: the master has no security, or it is not a master. Start the master with .token_file(..) or \
         .certificates(..), or this node without a token (is DISTRIBUTION_TOKEN set?)"
    )]
    NoTls,
    #[cfg(feature = "tls")]
    #[error("{}", in_one_line(.0, LONGEST))]
    Untrusted(String),
    /// At a node: the other end refused the TLS handshake or this node's certificate.
    #[cfg(feature = "tls")]
    #[error("it refused the TLS handshake: {0}")]
    TlsRefused(String),
    /// At a node.
    #[cfg(feature = "tls")]
    #[error("too many other nodes register at the moment; it asks to try again after {0:?}")]
    Busy(Duration),
    /// At a node.
    #[cfg(feature = "tls")]
    #[error(
        "it closed the connection before the TLS handshake was complete; look at the master's log (its token file or \
         certificates may be unusable)"
    )]
    NoHandshake,
    #[cfg(feature = "tls")]
    #[error("the TLS handshake failed: {}", in_one_line(.0, LONGEST))]
    Tls(String),
    #[cfg(feature = "tls")]
    #[error("{0}")]
    NotAuthenticated(AuthenticationResult),
    /// At a master. A node goes on with the last contents of its files that it could use.
    #[cfg(feature = "tls")]
    #[error("this master's files cannot be used: {0}")]
    NotReady(String),
    #[cfg(feature = "tls")]
    #[error(
        "it has the master's key and does not know the secret of the token: somebody has copied the key. Make new token files"
    )]
    MasterUnproven,
    #[error("it encodes values with `{theirs}` and this end with `{}`", CODEC_NAME.escape_ascii())]
    Codec { theirs: String },
    #[error("its {what} claims {size} bytes; the limit is {REGISTRATION_LIMIT}")]
    TooLong { what: &'static str, size: usize },
    #[error("its {what} cannot be decoded: {source}")]
    Malformed { what: &'static str, source: CodecError },
    #[error("it closed the connection before its {0} was complete")]
    Closed(&'static str),
    #[error("its {what} was not complete within {time:?}")]
    Late { what: &'static str, time: Duration },
    #[error("reading or writing failed: {}", in_one_line(&.0.to_string(), LONGEST))]
    Io(io::Error),
}

/// Whether a node should try again after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryPolicy {
    /// It should: the cause may go away by itself.
    Retry,
    /// It should if it has been registered. The cause does not go away by itself, but anybody on the network between could
    /// pretend it, and a node that has been registered knows that there is a master.
    RetryIfRegistered,
    /// It should not: the same two programs fail again.
    Never,
}

impl HandshakeError {
    /// Whether the node that has this error should try again. It should if the other end does not speak this protocol:
    /// another program may have the port while a master restarts.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        match self {
            Self::Version { .. } | Self::Role { .. } | Self::Security { .. } | Self::Codec { .. } => RetryPolicy::Never,
            // Said within TLS, by the owner of the master's certificate.
            #[cfg(feature = "tls")]
            Self::NotAuthenticated(result) if *result != AuthenticationResult::Unknown => RetryPolicy::Never,
            #[cfg(feature = "tls")]
            Self::NotAuthenticated(_)
            | Self::NoTls
            | Self::Untrusted(_)
            | Self::TlsRefused(_)
            | Self::MasterUnproven => RetryPolicy::RetryIfRegistered,
            Self::MasterSpeaksTls => RetryPolicy::RetryIfRegistered,
            _ => RetryPolicy::Retry,
        }
    }

    /// Whether only a peer that cannot authenticate itself causes it: neither a correct peer nor a lost connection does.
    pub(crate) fn is_failure_to_prove(&self) -> bool {
        #[cfg(feature = "tls")]
        if matches!(self, Self::NotReady(_)) {
            return false;
        }
        !matches!(self, Self::Closed(_) | Self::Late { .. } | Self::Io(_))
    }

    /// What the node's owner has to look at.
    pub(crate) fn subject(&self) -> ErrorSubject {
        match self {
            #[cfg(feature = "tls")]
            Self::Untrusted(_) | Self::MasterUnproven | Self::NoTls => ErrorSubject::Trust,
            #[cfg(feature = "tls")]
            Self::NotAuthenticated(_) | Self::TlsRefused(_) => ErrorSubject::Credential,
            Self::MasterSpeaksTls => ErrorSubject::NoCredential,
            Self::Security { theirs, .. } if *theirs != Security::Open as u8 => ErrorSubject::NoCredential,
            _ => ErrorSubject::Protocol,
        }
    }
}

/// What an error is about, at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorSubject {
    /// Whether the other end is really the master.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "without TLS nothing is proven"))]
    Trust,
    /// Whether the master accepts the node's credential.
    Credential,
    /// The master wants a credential that the peer was not given.
    NoCredential,
    /// The protocol or the settings of the two ends.
    Protocol,
}
