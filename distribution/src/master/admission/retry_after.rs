//! Tells peers that found no room when to try again: one after the other, as fast as handshakes end.
//!
//! A thousand nodes that were told the same time would all come at once again. So each is told a later time than the one
//! before it, as if they waited in a queue that moves as fast as handshakes have ended recently.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{bounded_map::BoundedMap, origin::MOST_ADDRESSES};

/// How long a handshake is taken to last before the first one has ended. Rather too long: if it were too short, handshakes
/// would be evicted before any could end.
const FIRST_GUESS: Duration = Duration::from_millis(500);

/// A handshake that lasts this many times as long as the average is overdue.
const GRACE_FACTOR: u32 = 2;

/// The weight of a new handshake in the average.
const WEIGHT: f64 = 0.1;

/// The part of the places that is given to peers that were told a time. The rest is left for peers that come for the first
/// time.
const PLANNED: f64 = 0.7;

/// No peer is told to wait for longer.
const LONGEST: Duration = Duration::from_secs(30);

/// For which places peers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RetryQueue {
    /// All places were taken.
    All,
    /// Those of this address were taken.
    Address(IpAddr),
}

/// All queues.
#[derive(Debug)]
pub(super) struct RetryAfter {
    /// When the last peer of each queue is to try again.
    last: BoundedMap<RetryQueue, Instant>,
    /// How long a handshake lasts on average.
    mean: Duration,
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self { last: BoundedMap::new(MOST_ADDRESSES), mean: FIRST_GUESS }
    }
}

impl RetryAfter {
    /// A handshake lasted this long.
    pub(super) fn on_handshake(&mut self, took: Duration) {
        self.mean = self.mean.mul_f64(1.0 - WEIGHT) + took.min(LONGEST).mul_f64(WEIGHT);
    }

    /// How long a handshake may last before a new connection may take its place.
    pub(super) fn grace(&self) -> Duration {
        self.mean * GRACE_FACTOR
    }

    /// How long the next peer of this queue waits, if this many handshakes can be done at a time.
    pub(super) fn next(&mut self, queue: RetryQueue, places: usize, now: Instant) -> Duration {
        // The handshakes that are pending have to end first.
        let first = now + self.mean;
        let last = match self.last.get(&queue) {
            Some(last) => (*last).max(first),
            // A queue in which peers still wait is not dropped for a new one.
            None if self.last.is_full() && self.last.oldest().is_some_and(|last| *last > now) => return LONGEST / 2,
            None => first,
        };
        let next = last + self.mean.div_f64(places.max(1) as f64 * PLANNED);
        // A peer that is told the longest time does not make the queue longer.
        if next.saturating_duration_since(now) > LONGEST {
            return LONGEST;
        }
        self.last.insert(queue, next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(last: u8) -> RetryQueue {
        RetryQueue::Address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn peers_are_told_times_that_are_as_far_apart_as_handshakes_end() {
        let (mut retry_after, now) = (RetryAfter::default(), Instant::now());
        (0..200).for_each(|_| retry_after.on_handshake(Duration::from_millis(280)));
        let times: Vec<_> = (0..100).map(|_| retry_after.next(queue(1), 40, now).as_secs_f64()).collect();
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0] - 0.01).abs() < 1e-4), "{times:?}");
        assert!((times[0] - 0.29).abs() < 1e-3, "{times:?}");
        assert!((retry_after.next(queue(2), 40, now).as_secs_f64() - times[0]).abs() < 1e-6, "another queue");
        // The queue has moved on.
        let now = now + Duration::from_secs(2);
        assert!((retry_after.next(queue(1), 40, now).as_secs_f64() - times[0]).abs() < 1e-6);
    }

    #[test]
    fn no_peer_waits_for_ever_because_of_a_flood() {
        let (mut retry_after, now) = (RetryAfter::default(), Instant::now());
        assert!((0..1_000_000).all(|_| retry_after.next(queue(1), 1, now) <= LONGEST));
        for number in 0..MOST_ADDRESSES as u32 * 2 {
            assert!(retry_after.next(RetryQueue::Address(IpAddr::from(number.to_be_bytes())), 1, now) <= LONGEST);
        }
        assert!(retry_after.last.len() <= MOST_ADDRESSES);
        let now = now + LONGEST;
        assert!(retry_after.next(queue(1), 1, now) < FIRST_GUESS * 3);
    }
}
