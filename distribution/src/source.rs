//! Whether nodes belong to the same party, as far as the master can tell.

use std::net::IpAddr;

use crate::hash::{hash, hash_on};

/// The party that a node belongs to: the names of its credential, or its address if the credential has no names.
///
/// A token or certificate for a name belongs to one party. A token that all nodes share, or none, does not show the party, so
/// the address does: of IPv6 the /64, which one host has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source(u64);

impl Source {
    /// The party behind a credential for these names that comes from this address.
    pub(crate) fn of(credential_names: &[String], addr: IpAddr) -> Self {
        if !credential_names.is_empty() {
            // With a byte that no UTF-8 text contains, so that neighbours cannot run into one another.
            return Self(
                credential_names
                    .iter()
                    .fold(hash(b"names"), |before, name| hash_on(hash_on(before, &[0xff]), name.as_bytes())),
            );
        }
        Self(match addr.to_canonical() {
            IpAddr::V4(addr) => hash_on(hash(b"v4"), &addr.octets()),
            IpAddr::V6(addr) => hash_on(hash(b"v6"), &addr.octets()[..8]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], addr: &str) -> Source {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Source::of(&names, addr.parse().expect("an address"))
    }

    #[test]
    fn the_names_of_the_credential_decide_or_else_the_address() {
        assert_eq!(of(&["n1"], "10.0.0.1"), of(&["n1"], "10.0.0.2"));
        assert_ne!(of(&["n1"], "10.0.0.1"), of(&["n2"], "10.0.0.1"));
        assert_ne!(of(&["a", "b"], "10.0.0.1"), of(&["ab"], "10.0.0.1"));
        assert_eq!(of(&[], "10.0.0.1"), of(&[], "::ffff:10.0.0.1"));
        assert_ne!(of(&[], "10.0.0.1"), of(&[], "10.0.0.2"));
        assert_eq!(of(&[], "2001:db8::1"), of(&[], "2001:db8::2"));
        assert_ne!(of(&[], "2001:db8::1"), of(&[], "2001:db8:0:1::1"));
    }
}
