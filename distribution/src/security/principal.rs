//! Who a peer is, as far as it has proven it, and what it may do.

use std::{fmt, sync::Arc};

use serde::Serialize;

/// Who a peer is, as far as it has proven it: the credential by which its master let it in.
///
/// Prints `token 1a2b3c4d` or `certificate 5e6f7a8b`; `no credential` where the master asks for none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Principal {
    /// What kind of credential it is.
    pub kind: PrincipalKind,
    /// Eight characters that tell credentials of a kind apart and reveal nothing: [`Token::id`](crate::Token::id), or the
    /// first 32 bits of a certificate's SHA-256 in hexadecimal. Empty where there is no credential.
    pub credential: Arc<str>,
    /// The names that the credential is for: the name that a token was issued for, or the DNS names of a certificate.
    /// A node that has such a token registers under no other name.
    pub names: Arc<[String]>,
}

/// How a peer has proven that it may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum PrincipalKind {
    /// Not at all: the master has no security.
    Open,
    /// By the secret of a join token.
    Token,
    /// By a certificate of the authority that the master trusts.
    Certificate,
}

impl Principal {
    /// A peer of a master without security.
    pub(crate) fn open() -> Self {
        Self { kind: PrincipalKind::Open, credential: "".into(), names: [].into() }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn new(kind: PrincipalKind, credential: String, names: Vec<String>) -> Self {
        Self { kind, credential: credential.into(), names: names.into() }
    }

    /// Whether both are the same peer's, as far as anybody knows: they have the same credential, or one that is for the
    /// same names, as a renewed certificate is.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let same_names = !self.names.is_empty() && self.names == other.names;
        self.kind == other.kind && (self.credential == other.credential || same_names)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PrincipalKind::Open => f.write_str("no credential"),
            PrincipalKind::Token => write!(f, "token {}", self.credential),
            PrincipalKind::Certificate => write!(f, "certificate {}", self.credential),
        }
    }
}
