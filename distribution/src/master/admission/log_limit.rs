//! Limits the log lines that peers cause which are not authenticated: a peer that connects a thousand times a second must
//! neither fill a disk nor hide other lines.

use std::{hash::Hash, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::bounded_map::BoundedMap;

/// This many lines of a kind are logged for an address before any is suppressed.
const BURST: u32 = 5;

/// Then one line in each interval.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many kinds and addresses are counted separately. All others are counted together, so that many addresses do not
/// cause many lines.
const MOST_KEYS: usize = 64;

/// Counts the lines of each kind `K` that were logged recently.
#[derive(Debug)]
pub(super) struct LogLimit<K> {
    allowances: BoundedMap<(K, IpAddr), Allowance>,
    others: Allowance,
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// How many lines may still be logged.
    left: u32,
    /// When `left` was raised last.
    since: Instant,
    suppressed: u64,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, suppressed: 0 }
    }

    /// What [`LogLimit::next`] returns.
    fn next(&mut self, now: Instant) -> Option<u64> {
        let passed = now.duration_since(self.since);
        let more = u32::try_from(passed.as_nanos() / INTERVAL.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            (self.left, self.since) = (self.left.saturating_add(more).min(BURST), now);
        }
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Whether it is the same as a new one.
    fn is_full(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= INTERVAL * BURST
    }
}

impl<K: Clone + Eq + Hash> LogLimit<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self { allowances: BoundedMap::new(MOST_KEYS), others: Allowance::new(now) }
    }

    /// Whether one more line of this kind is logged, and how many like it were suppressed since the last one.
    pub(super) fn next(&mut self, kind: K, address: IpAddr, now: Instant) -> Option<u64> {
        let key = (kind, address);
        let allowance = self.allowances.get(&key).copied();
        let has_room = !self.allowances.is_full() || self.allowances.oldest().is_some_and(|oldest| oldest.is_full(now));
        if allowance.is_none() && !has_room {
            return self.others.next(now);
        }
        let mut allowance = allowance.unwrap_or_else(|| Allowance::new(now));
        let next = allowance.next(now);
        if let Some((_, dropped)) = self.allowances.insert(key, allowance) {
            self.others.suppressed += dropped.suppressed;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn the_first_lines_are_logged_and_then_one_in_each_interval_with_the_number_of_suppressed_ones() {
        let begin = Instant::now();
        let mut limit = LogLimit::new(begin);
        let mut logged = Vec::new();
        for millisecond in 0..25_000 {
            if let Some(suppressed) = limit.next("kind", address(1), begin + Duration::from_millis(millisecond)) {
                logged.push((millisecond, suppressed));
            }
        }
        assert_eq!(logged, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (10_000, 9_995), (20_000, 9_999)]);
        // Another kind, another address, and the same after a while.
        assert_eq!(limit.next("other", address(1), begin), Some(0));
        assert_eq!(limit.next("kind", address(2), begin), Some(0));
        assert_eq!(limit.next("kind", address(1), begin + Duration::from_secs(3600)), Some(4_999));
    }

    #[test]
    fn many_addresses_do_not_cause_more_lines_and_every_line_is_counted() {
        let begin = Instant::now();
        let mut limit = LogLimit::new(begin);
        let (mut lines, mut suppressed) = (0, 0);
        for number in 0..100_000 {
            if let Some(more) = limit.next("kind", address(number), begin + Duration::from_millis(number.into())) {
                lines += 1;
                suppressed += more;
            }
        }
        // In 100 s.
        assert!((MOST_KEYS as u64..300).contains(&lines), "{lines}");
        assert!(lines + suppressed + limit.others.suppressed == 100_000, "{lines} and {suppressed}");
        assert_eq!(limit.allowances.len(), MOST_KEYS);
    }
}
