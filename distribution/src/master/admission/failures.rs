//! Addresses whose handshakes failed, and how long the next ones from there wait before they are heard.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{MOST_ADDRESSES, lately::Lately};

/// The first wait of an address that has failed too often; it doubles with each further failure.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// No longer than an honest node behind the same address is ready to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// In this time as many failures are forgotten as are allowed.
const FORGETTING: Duration = Duration::from_secs(60);

/// How many failures beyond those allowed are counted: with these the wait is the longest.
const MOST_BEYOND: f64 = 7.0;

/// What addresses have failed lately. Beyond [`MOST_ADDRESSES`] the one that failed first is forgotten.
#[derive(Debug)]
pub(super) struct Failures {
    /// How many a minute are free.
    allowed: f64,
    levels: Lately<IpAddr, Level>,
}

/// A bucket that leaks.
#[derive(Clone, Copy, Debug)]
struct Level {
    level: f64,
    at: Instant,
}

impl Failures {
    pub(super) fn new(allowed: u32) -> Self {
        Self { allowed: f64::from(allowed), levels: Lately::new(MOST_ADDRESSES) }
    }

    /// What is left of an address's by now.
    fn level(&self, address: IpAddr, now: Instant) -> f64 {
        let Some(Level { level, at }) = self.levels.get(&address) else { return 0.0 };
        let leaked = self.allowed.max(1.0) * now.duration_since(*at).as_secs_f64() / FORGETTING.as_secs_f64();
        (level - leaked).max(0.0)
    }

    /// How long the next one from there has to wait.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        let level = self.level(address, now).ceil();
        let beyond = level - self.allowed;
        if level <= 0.0 || beyond < 0.0 {
            return Duration::ZERO;
        }
        FIRST_WAIT.mul_f64(beyond.exp2()).min(LONGEST_WAIT)
    }

    /// One from there failed.
    pub(super) fn add(&mut self, address: IpAddr, now: Instant) {
        let level = (self.level(address, now) + 1.0).min(self.allowed + MOST_BEYOND);
        self.levels.put(address, Level { level, at: now });
    }

    /// One from there registered, which makes up for one that failed: a flaky line is no attack.
    pub(super) fn take_back(&mut self, address: IpAddr, now: Instant) {
        if self.levels.get(&address).is_some() {
            let level = (self.level(address, now) - 1.0).max(0.0);
            self.levels.put(address, Level { level, at: now });
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
    fn an_address_that_fails_waits_longer_each_time() {
        let (mut failures, now) = (Failures::new(3), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(failures.wait(address(1), now).as_millis());
            failures.add(address(1), now);
        }
        assert_eq!(waits, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(failures.wait(address(2), now), Duration::ZERO, "another address");
        // 3 are forgotten each minute.
        assert_eq!(failures.wait(address(1), now + FORGETTING), FIRST_WAIT * 16);
        assert_eq!(failures.wait(address(1), now + FORGETTING * 3), Duration::ZERO);
    }

    #[test]
    fn failures_that_are_few_for_long_cost_nothing() {
        let (mut failures, mut now) = (Failures::new(3), Instant::now());
        for _ in 0..100 {
            failures.add(address(1), now);
            assert_eq!(failures.wait(address(1), now), Duration::ZERO);
            now += FORGETTING / 3;
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
        assert_eq!(failures.wait(address(1), now), Duration::ZERO);
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
        assert_eq!(failures.wait(address(1), now), Duration::ZERO);
        failures.add(address(1), now);
        assert_eq!(failures.wait(address(1), now), FIRST_WAIT * 2);
    }
}
