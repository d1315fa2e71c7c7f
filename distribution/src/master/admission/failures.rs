//! Counts failed handshakes by address, and delays the next ones from an address that has too many.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{bounded_map::BoundedMap, origin::MOST_ADDRESSES};

/// The first delay of an address that has failed too often; it doubles with each further failure.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// No longer than an honest node behind the same address waits.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// In this time as many failures are forgotten as are allowed.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// How many failures beyond those allowed are counted: with these the delay is the longest.
const MOST_BEYOND: f64 = 7.0;

/// The addresses that have failed recently. Beyond [`MOST_ADDRESSES`], the one whose last failure is the oldest is dropped.
#[derive(Debug)]
pub(super) struct Failures {
    /// How many failures a minute cause no delay.
    allowed: f64,
    levels: BoundedMap<IpAddr, Level>,
}

/// A leaky bucket.
#[derive(Clone, Copy, Debug)]
struct Level {
    level: f64,
    at: Instant,
}

impl Failures {
    pub(super) fn new(allowed: u32) -> Self {
        Self { allowed: f64::from(allowed), levels: BoundedMap::new(MOST_ADDRESSES) }
    }

    /// How many failures of an address count now.
    fn level(&self, address: IpAddr, now: Instant) -> f64 {
        let Some(Level { level, at }) = self.levels.get(&address) else { return 0.0 };
        let leaked = self.allowed.max(1.0) * now.duration_since(*at).as_secs_f64() / FORGET_INTERVAL.as_secs_f64();
        (level - leaked).max(0.0)
    }

    /// How long the next handshake from this address is delayed.
    pub(super) fn delay(&self, address: IpAddr, now: Instant) -> Duration {
        let level = self.level(address, now).ceil();
        let beyond = level - self.allowed;
        if level <= 0.0 || beyond < 0.0 {
            return Duration::ZERO;
        }
        FIRST_DELAY.mul_f64(beyond.exp2()).min(LONGEST_DELAY)
    }

    /// A handshake from this address failed.
    pub(super) fn add(&mut self, address: IpAddr, now: Instant) {
        let level = (self.level(address, now) + 1.0).min(self.allowed + MOST_BEYOND);
        self.levels.insert(address, Level { level, at: now });
    }

    /// A node registered from this address, which makes up for one failure: an unreliable network is not an attack.
    pub(super) fn take_back(&mut self, address: IpAddr, now: Instant) {
        if self.levels.get(&address).is_some() {
            let level = (self.level(address, now) - 1.0).max(0.0);
            self.levels.insert(address, Level { level, at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn an_address_that_fails_is_delayed_longer_each_time() {
        let (mut failures, now) = (Failures::new(3), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..12 {
            delays.push(failures.delay(address(1), now).as_millis());
            failures.add(address(1), now);
        }
        assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(failures.delay(address(2), now), Duration::ZERO, "another address");
        // 3 are forgotten each minute.
        assert_eq!(failures.delay(address(1), now + FORGET_INTERVAL), FIRST_DELAY * 16);
        assert_eq!(failures.delay(address(1), now + FORGET_INTERVAL * 3), Duration::ZERO);
    }

    #[test]
    fn a_few_failures_a_minute_cause_no_delay() {
        let (mut failures, mut now) = (Failures::new(3), Instant::now());
        for _ in 0..100 {
            failures.add(address(1), now);
            assert_eq!(failures.delay(address(1), now), Duration::ZERO);
            now += FORGET_INTERVAL / 3;
        }
    }

    #[test]
    fn a_registration_makes_up_for_a_failure() {
        let (mut failures, now) = (Failures::new(3), Instant::now());
        for _ in 0..100 {
            failures.add(address(1), now);
            failures.add(address(1), now);
            failures.take_back(address(1), now);
            failures.take_back(address(1), now);
            failures.take_back(address(2), now);
        }
        assert_eq!(failures.delay(address(1), now), Duration::ZERO);
        assert_eq!(failures.levels.len(), 1);
    }

    #[test]
    fn many_addresses_take_no_more_memory() {
        let (mut failures, now) = (Failures::new(3), Instant::now());
        (0..MOST_ADDRESSES as u32 + 500).for_each(|number| failures.add(address(number), now));
        assert_eq!(failures.levels.len(), MOST_ADDRESSES);
    }

    #[test]
    fn with_none_allowed_the_first_failure_counts() {
        let (mut failures, now) = (Failures::new(0), Instant::now());
        assert_eq!(failures.delay(address(1), now), Duration::ZERO);
        failures.add(address(1), now);
        assert_eq!(failures.delay(address(1), now), FIRST_DELAY * 2);
    }
}
