//! The network and the address that a connection counts for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many addresses each rule of admission control remembers. Beyond that, the oldest is dropped for a new one.
pub(super) const MOST_ADDRESSES: usize = 4096;

/// What places and failures are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Origin {
    /// A /24 of IPv4 or a /48 of IPv6: mostly those of one site.
    pub(super) network: IpAddr,
    /// An address of IPv4 or a /64 of IPv6: one subscriber has all addresses of a /64.
    pub(super) address: IpAddr,
}

impl From<IpAddr> for Origin {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => {
                let [a, b, c, _] = addr.octets();
                Self { network: Ipv4Addr::new(a, b, c, 0).into(), address: addr.into() }
            }
            IpAddr::V6(addr) => {
                let [a, b, c, d, ..] = addr.segments();
                let subscriber = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
                let address = if addr.is_loopback() { addr } else { subscriber };
                Self { network: Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into(), address: address.into() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn addresses_of_a_64_count_as_one_and_those_of_a_48_as_one_network() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
        let (one, other) = (origin("2001:db8:0:1::1"), origin("2001:db8:0:2::1"));
        assert!(one.address != other.address && one.network == other.network);
        assert_ne!(origin("2001:db8:1::1").network, one.network);
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
        let (one, other) = (origin("10.0.0.1"), origin("10.0.0.2"));
        assert!(one.address != other.address && one.network == other.network);
        assert_ne!(origin("10.0.1.1").network, one.network);
        assert_ne!(origin("::1").address, origin("::2").address);
    }
}
