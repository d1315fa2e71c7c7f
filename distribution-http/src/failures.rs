//! How many wrong tokens an address may send in a time.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong tokens that an address may send at once.
const AT_ONCE: f64 = 10.0;

/// Time after which it may send another one.
const EACH: Duration = Duration::from_secs(6);

/// The most addresses that are remembered. When there are more, those that are forgiven soonest are forgotten first.
const ADDRESSES: usize = 4096;

/// Counts wrong tokens by address.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<IpAddr, Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: f64,
    at: Instant,
}

impl Count {
    fn now(self, now: Instant) -> f64 {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() / EACH.as_secs_f64();
        (self.failures - forgiven).max(0.0)
    }
}

impl Failures {
    /// Counts one, and says in how many seconds the address may try again if that were too many.
    pub(crate) fn count(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES {
            counts.retain(|_, count| count.now(now) > 0.0);
        }
        if counts.len() >= ADDRESSES {
            let least = counts.iter().min_by(|one, other| one.1.now(now).total_cmp(&other.1.now(now)));
            if let Some(address) = least.map(|(address, _)| *address) {
                counts.remove(&address);
            }
        }
        let count = counts.entry(network(address)).or_insert(Count { failures: 0.0, at: now });
        // Not more than one above the limit, or an address that goes on would be refused for hours afterwards.
        *count = Count { failures: (count.now(now) + 1.0).min(AT_ONCE + 1.0), at: now };
        let above = count.failures - AT_ONCE;
        (above > 0.0).then(|| (above * EACH.as_secs_f64()).ceil().max(1.0) as u64)
    }
}

/// Whose the address is: a network of IPv6 gives each machine many.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_sends_many_wrong_tokens_has_to_wait_and_others_have_not() {
        let (failures, now) = (Failures::default(), Instant::now());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        for _ in 0..10 {
            assert_eq!(failures.count(address(1), now), None);
        }
        assert_eq!(failures.count(address(1), now), Some(6));
        assert_eq!(failures.count(address(2), now), None);
        assert_eq!(failures.count(address(1), now + EACH * 3), None, "some are forgiven");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let (failures, now) = (Failures::default(), Instant::now());
        let address = |last: u16| IpAddr::from([0xfd00, 0, 0, 7, 0, 0, 0, last]);
        let waits: Vec<_> = (0..11).map(|last| failures.count(address(last), now)).collect();
        assert_eq!(waits.last(), Some(&Some(6)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..2 * ADDRESSES as u32 {
            failures.count(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(failures.0.lock().expect("works").len() <= ADDRESSES);
    }
}
