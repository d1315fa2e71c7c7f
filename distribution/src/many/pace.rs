//! How many calls make a batch: as many as take a node about ten milliseconds.
//!
//! Less, and the way there and back would show; more, and a call could wait long behind others while
//! another node is free. How long calls take is measured: each reply says how long it ran.

use std::time::{Duration, Instant};

use crate::service::caller::Capacity;

/// What a batch is to take of a node's time.
const BATCH_TIME: Duration = Duration::from_millis(10);

/// However short the calls are, a batch has no more.
const BATCH_MOST: usize = 8192;

/// A batch has at most so many times as many calls as the largest that has come back, so that a few
/// quick calls do not stand for all.
const GROWTH: usize = 8;

/// A new measurement counts this much towards the mean.
const WEIGHT: f64 = 0.25;

/// How long what is known of the nodes is good for.
const CAPACITY_AGE: Duration = Duration::from_millis(50);

/// Calls pulled and not yielded yet, however many nodes there are.
const WINDOW_MOST: usize = 256 * 1024;

/// Calls under way while no node is known: enough to say soon of all that none serves them.
const WITHOUT_NODES: usize = 256;

#[derive(Debug)]
pub(super) struct Pace {
    /// What was asked for, if anything was.
    batch: Option<usize>,
    in_flight: Option<usize>,
    /// Seconds that a call takes.
    mean: Option<f64>,
    /// Calls in the largest batch that has come back.
    largest: usize,
    capacity: Capacity,
    looked: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { batch: None, in_flight: None, mean: None, largest: 0, capacity: Capacity::default(), looked: None }
    }

    pub(super) fn set_batch(&mut self, calls: usize) {
        self.batch = Some(calls.max(1));
    }

    pub(super) fn set_in_flight(&mut self, calls: usize) {
        self.in_flight = Some(calls.max(1));
    }

    /// A batch of so many calls has come back, which took the node so long.
    pub(super) fn note(&mut self, calls: usize, run: Duration) {
        let seconds = run.as_secs_f64() / calls.max(1) as f64;
        self.mean = Some(self.mean.map_or(seconds, |mean| mean + WEIGHT * (seconds - mean)));
        self.largest = self.largest.max(calls);
    }

    /// What so many calls are expected to take; `None` before the first has come back.
    pub(super) fn expected(&self, calls: usize) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.mean? * calls as f64))
    }

    /// Looks at the nodes, if it has not done so for a while.
    pub(super) fn look(&mut self, now: Instant, capacity: impl FnOnce() -> Capacity) {
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= CAPACITY_AGE) {
            self.looked = Some(now);
            self.capacity = capacity();
        }
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// How many calls the next batch is to have. `left` is how many there are still to be sent, if that
    /// is known: the last of them are dealt out in ever smaller batches, so that all nodes end together.
    /// (Guided self-scheduling: Polychronopoulos and Kuck, 1987.)
    pub(super) fn batch(&self, left: Option<usize>, timeout: Option<Duration>) -> usize {
        if !self.capacity.compute {
            return 1;
        }
        let most = self.window() / (2 * self.capacity.slots.max(1));
        if let Some(calls) = self.batch {
            return calls.min(most.max(1));
        }
        let Some(mean) = self.mean else { return 1 };
        // A batch is answered as a whole, so it must not take much of a call's own time.
        let time = timeout.map_or(BATCH_TIME, |timeout| BATCH_TIME.min(timeout / 10));
        let calls = (time.as_secs_f64() / mean.max(1e-9)).round() as usize;
        let share = left.map_or(usize::MAX, |left| left.div_ceil(2 * self.capacity.slots.max(1)));
        calls.min(BATCH_MOST).min(GROWTH * self.largest).min(share).min(most).max(1)
    }

    /// How many batches may be under way: one for each slot, and as many that are on their way.
    pub(super) fn flights(&self) -> usize {
        match self.capacity {
            Capacity { nodes: 0, .. } => WITHOUT_NODES,
            Capacity { compute: true, slots, .. } => 2 * slots + 2,
            Capacity { slots, .. } => slots,
        }
    }

    /// How many calls may be pulled and not yielded yet.
    pub(super) fn window(&self) -> usize {
        let fit = || (self.flights() * BATCH_MOST * 4).clamp(1024, WINDOW_MOST.max(4 * self.capacity.slots));
        self.in_flight.unwrap_or_else(fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(slots: usize) -> Pace {
        let mut pace = Pace::new();
        pace.look(Instant::now(), || Capacity { nodes: 1, slots, free: slots, compute: true });
        pace
    }

    #[test]
    fn batches_grow_to_ten_milliseconds() {
        let mut pace = pace(2);
        assert_eq!(pace.batch(None, None), 1, "nothing is known yet");
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let calls = pace.batch(None, None);
            sizes.push(calls);
            pace.note(calls, Duration::from_micros(10) * calls as u32);
        }
        assert_eq!(sizes, [1, 8, 64, 512, 1000, 1000]);
        assert_eq!(pace.batch(None, Some(Duration::from_millis(20))), 200);
    }

    #[test]
    fn long_calls_travel_alone_and_the_last_are_spread() {
        let mut pace = pace(2);
        pace.note(1, Duration::from_millis(20));
        assert_eq!(pace.batch(None, None), 1);
        let mut pace = self::pace(2);
        pace.note(8192, Duration::from_micros(8192));
        assert_eq!(pace.batch(None, None), 8192);
        assert_eq!(pace.batch(Some(1000), None), 250);
        assert_eq!(pace.batch(Some(3), None), 1);
    }

    #[test]
    fn what_was_asked_for_is_kept_to() {
        let mut pace = pace(1);
        pace.set_batch(100);
        assert_eq!(pace.batch(Some(5), None), 100);
        pace.set_in_flight(10);
        assert_eq!((pace.window(), pace.batch(None, None)), (10, 5));
    }
}
