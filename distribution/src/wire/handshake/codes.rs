//! The codes of a handshake, one byte each, and what they mean: security mode, role, and result of the authentication.

use crate::security::Access;

/// Increased with each change that an older peer would misread.
pub(crate) const PROTOCOL_VERSION: u16 = 2;

/// What the two ends have to prove to each other: the security mode of the preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Security {
    Open = 0,
    #[cfg(feature = "tls")]
    Token = 1,
    #[cfg(feature = "tls")]
    Certificates = 2,
}

pub(super) fn security_name(security: u8) -> String {
    match security {
        0 => "no security".to_owned(),
        1 => "a join token".to_owned(),
        2 => "certificates".to_owned(),
        other => format!("security mode {other}"),
    }
}

/// How the master answers the proof or the certificate of a peer.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AuthenticationResult {
    Accepted = 0,
    /// None of the master's tokens made the proof.
    UnknownToken = 1,
    /// The credential is for another role.
    WrongRole = 2,
    /// The certificate is not for the name that the master requires.
    WrongName = 3,
    /// A result of a later release.
    Unknown = 255,
}

#[cfg(feature = "tls")]
impl AuthenticationResult {
    pub(crate) fn from_byte(byte: u8) -> Self {
        let known = [Self::Accepted, Self::UnknownToken, Self::WrongRole, Self::WrongName];
        known.into_iter().find(|result| *result as u8 == byte).unwrap_or(Self::Unknown)
    }
}

#[cfg(feature = "tls")]
impl std::fmt::Display for AuthenticationResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accepted => "it was accepted",
            Self::UnknownToken => {
                "the master does not know the token: it belongs to another cluster, or was rotated out. The valid tokens are in \
                 the master's token file"
            }
            Self::WrongRole => {
                "the credential is for another role. A token is for the role that it was issued for (`Token::issue`), and a \
                 certificate for the one that the master's `Certificates` list its name for"
            }
            Self::WrongName => {
                "the node's certificate is for another name than the master's `Certificates::peer_name`"
            }
            Self::Unknown => "the master gave a reason that this release does not know",
        })
    }
}

/// What a connection of a peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// What the role says: to be a node, or to make calls.
    OfRole = 0,
    /// The second connection of a node, on which its handlers make nested calls.
    NestedCalls = 1,
}

impl Purpose {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::OfRole, Self::NestedCalls].into_iter().find(|purpose| *purpose as u8 == byte)
    }
}

/// The role in which an end of a connection comes, as its preface says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Master,
    /// It dials a master, for this.
    Peer(Access),
}

impl Role {
    const ALL: [Self; 5] = [
        Self::Master,
        Self::Peer(Access::Nodes),
        Self::Peer(Access::Callers),
        Self::Peer(Access::Admins),
        Self::Peer(Access::Viewers),
    ];

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Master => 1,
            Self::Peer(Access::Nodes) => 2,
            Self::Peer(Access::Callers) => 3,
            Self::Peer(Access::Admins) => 4,
            Self::Peer(Access::Viewers) => 5,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.byte() == byte)
    }
}

pub(super) fn role_name(role: u8) -> String {
    match Role::from_byte(role) {
        Some(Role::Master) => "a master".to_owned(),
        Some(Role::Peer(access)) => format!("a peer in the role of {access}"),
        None => format!("in the unknown role {role}"),
    }
}
