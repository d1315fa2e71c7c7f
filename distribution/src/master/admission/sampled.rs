//! Which of the lines that peers without credentials cause are logged: who dials a thousand times a second must not
//! fill a disk, nor hide other lines.

use std::{hash::Hash, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::lately::Lately;

/// This many lines of a kind are logged for an address before any is left out.
const FIRST: u32 = 5;

/// Then one each time that this has passed.
const EVERY: Duration = Duration::from_secs(10);

/// Kinds and addresses that are counted by themselves. The others are counted together, so that no number of addresses
/// makes more lines.
const MOST: usize = 64;

/// Lines of kind `K` that were logged lately.
#[derive(Debug)]
pub(super) struct Sampled<K> {
    lines: Lately<(K, IpAddr), Line>,
    others: Line,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    /// How many may still be logged.
    left: u32,
    /// Since when none more has been allowed.
    since: Instant,
    left_out: u64,
}

impl Line {
    fn new(now: Instant) -> Self {
        Self { left: FIRST, since: now, left_out: 0 }
    }

    /// What [`Sampled::next`] says.
    fn next(&mut self, now: Instant) -> Option<u64> {
        let passed = now.duration_since(self.since);
        let more = u32::try_from(passed.as_nanos() / EVERY.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            (self.left, self.since) = (self.left.saturating_add(more).min(FIRST), now);
        }
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }

    /// Whether it is as a new one would be.
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= EVERY * FIRST
    }
}

impl<K: Clone + Eq + Hash> Sampled<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self { lines: Lately::new(MOST), others: Line::new(now) }
    }

    /// Whether one more line of this kind is logged, and how many like it were left out since the last one.
    pub(super) fn next(&mut self, kind: K, address: IpAddr, now: Instant) -> Option<u64> {
        let key = (kind, address);
        let line = self.lines.get(&key).copied();
        let has_room = !self.lines.is_full() || self.lines.oldest().is_some_and(|oldest| oldest.is_over(now));
        if line.is_none() && !has_room {
            return self.others.next(now);
        }
        let mut line = line.unwrap_or_else(|| Line::new(now));
        let next = line.next(now);
        if let Some((_, forgotten)) = self.lines.put(key, line) {
            self.others.left_out += forgotten.left_out;
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
    fn the_first_lines_are_logged_and_then_one_now_and_then_with_what_was_left_out() {
        let begin = Instant::now();
        let mut sampled = Sampled::new(begin);
        let mut logged = Vec::new();
        for millisecond in 0..25_000 {
            if let Some(left_out) = sampled.next("kind", address(1), begin + Duration::from_millis(millisecond)) {
                logged.push((millisecond, left_out));
            }
        }
        assert_eq!(logged, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (10_000, 9_995), (20_000, 9_999)]);
        // Another kind, another address, and the same after a while.
        assert_eq!(sampled.next("other", address(1), begin), Some(0));
        assert_eq!(sampled.next("kind", address(2), begin), Some(0));
        assert_eq!(sampled.next("kind", address(1), begin + Duration::from_secs(3600)), Some(4_999));
    }

    #[test]
    fn many_addresses_make_no_more_lines_and_none_is_lost_count_of() {
        let begin = Instant::now();
        let mut sampled = Sampled::new(begin);
        let (mut lines, mut left_out) = (0, 0);
        for number in 0..100_000 {
            if let Some(more) = sampled.next("kind", address(number), begin + Duration::from_millis(number.into())) {
                lines += 1;
                left_out += more;
            }
        }
        // In 100 s.
        assert!((MOST as u64..300).contains(&lines), "{lines}");
        assert!(lines + left_out + sampled.others.left_out == 100_000, "{lines} and {left_out}");
        assert_eq!(sampled.lines.len(), MOST);
    }
}
