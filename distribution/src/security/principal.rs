//! Who a peer is, as far as it has proven it, and what it may do.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Who a peer is, as far as it has proven it: the credential with which it authenticated itself to its master.
///
/// Prints `token 1a2b3c4d` or `certificate 5e6f7a8b`; `no credential` where the master asks for none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Principal {
    /// What kind of credential it is.
    pub kind: PrincipalKind,
    /// Eight characters that tell credentials of a kind apart and reveal nothing: [`Token::id`](crate::Token::id), or the
    /// first 32 bits of the SHA-256 of a certificate's public key (its `SubjectPublicKeyInfo`) in hexadecimal, so that a
    /// certificate that is renewed for the same key keeps it. Empty where there is no credential.
    pub credential: Arc<str>,
    /// What the master tells credentials apart by: eight characters may be the same by chance.
    #[serde(skip)]
    pub(crate) id: CredentialId,
    /// The names that the credential is for: the name that a token was issued for, or the DNS names of a certificate.
    /// A node that has such a token registers under no other name.
    pub names: Arc<[String]>,
}

/// How a peer has authenticated itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PrincipalKind {
    /// Not at all: the master has no security.
    Open,
    /// By the secret of a join token.
    Token,
    /// By a certificate of the authority that the master trusts.
    Certificate,
}

/// SHA-256 of what makes a credential: a token's secret, or the public key of a certificate.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct CredentialId([u8; 32]);

impl CredentialId {
    #[cfg(feature = "tls")]
    pub(super) fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// As people see it.
    pub(crate) fn short(&self) -> String {
        self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Principal {
    /// A peer of a master without security.
    pub(crate) fn open() -> Self {
        Self { kind: PrincipalKind::Open, credential: "".into(), id: CredentialId([0; 32]), names: [].into() }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn new(kind: PrincipalKind, id: CredentialId, names: Vec<String>) -> Self {
        Self { kind, credential: id.short().into(), id, names: names.into() }
    }

    /// Whether the credential is for a node of this name.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|bound| bound == name)
    }

    /// Whether nodes that came by these two may have this name at the same time: by the same credential, by two that are
    /// both for the name, or by two that are for the same names, as a renewed certificate is.
    pub(crate) fn may_share(&self, other: &Self, name: &str) -> bool {
        self.kind == other.kind
            && (self.id == other.id || (self.is_for(name) && other.is_for(name)) || self.has_names_of(other))
    }

    fn has_names_of(&self, other: &Self) -> bool {
        fn names(principal: &Principal) -> BTreeSet<&str> {
            principal.names.iter().map(String::as_str).collect()
        }
        !self.names.is_empty() && (self.names == other.names || names(self) == names(other))
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

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn nodes_may_share_a_name_if_their_credentials_show_the_same_owner() {
        let certificate = |id: u8, names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Principal::new(PrincipalKind::Certificate, CredentialId::new([id; 32]), names)
        };
        let own = certificate(1, &["a", "b"]);
        assert!(own.may_share(&certificate(1, &[]), "x"), "the same key");
        assert!(own.may_share(&certificate(2, &["b", "a"]), "x"), "the same names in another order");
        assert!(own.may_share(&certificate(2, &["a", "c"]), "a"), "both are for it");
        assert!(!own.may_share(&certificate(2, &["a", "c"]), "x"), "they have a name in common, and it is another");
        assert!(!own.may_share(&certificate(2, &["c"]), "a"));
        assert!(!certificate(1, &[]).may_share(&certificate(2, &[]), "x"));
        // Two that look alike to people.
        let alike = |last| CredentialId::new(std::array::from_fn(|at| if at == 31 { last } else { 0 }));
        let [one, other] = [1, 2].map(|last| Principal::new(PrincipalKind::Token, alike(last), Vec::new()));
        assert_eq!(one.credential, other.credential);
        assert!(!one.may_share(&other, "x"));
    }
}
