//! Whether nodes come from the same place, as far as anybody can tell.

use std::net::IpAddr;

use super::Principal;
use crate::hash::{hash, hash_on};

/// What one party may have many nodes of: the names of its credential, or its address where the credential names nobody.
///
/// A token or certificate for a name is that name's alone. A token that all nodes share, or none, says nothing about who
/// is behind it, and then the address does: of IPv6 the /64, which one host has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source(u64);

impl Source {
    pub(crate) fn of(principal: &Principal, addr: IpAddr) -> Self {
        if !principal.names.is_empty() {
            // With a byte that no UTF-8 text contains, so that neighbours cannot run into one another.
            return Self(
                principal
                    .names
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
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let principal = Principal { names, ..Principal::open() };
        Source::of(&principal, addr.parse().expect("an address"))
    }

    #[test]
    fn a_credential_for_a_name_decides_and_else_the_address() {
        assert_eq!(of(&["n1"], "10.0.0.1"), of(&["n1"], "10.0.0.2"));
        assert_ne!(of(&["n1"], "10.0.0.1"), of(&["n2"], "10.0.0.1"));
        assert_ne!(of(&["a", "b"], "10.0.0.1"), of(&["ab"], "10.0.0.1"));
        assert_eq!(of(&[], "10.0.0.1"), of(&[], "::ffff:10.0.0.1"));
        assert_ne!(of(&[], "10.0.0.1"), of(&[], "10.0.0.2"));
        assert_eq!(of(&[], "2001:db8::1"), of(&[], "2001:db8::2"));
        assert_ne!(of(&[], "2001:db8::1"), of(&[], "2001:db8:0:1::1"));
    }
}
