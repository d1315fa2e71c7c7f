//! How many calls make a batch: as many as take a node about ten milliseconds.
//!
//! Less, and the way there and back would show; more, and a call could wait long behind others while
//! another node is free. How long calls take is measured: each reply says how long it ran.

use std::time::{Duration, Instant};

use crate::service::{
    caller::{Capacity, Labels},
    method::Method,
};

/// What a batch is to take of a node's time.
const BATCH_TIME: Duration = Duration::from_millis(10);

/// However short the calls are, a batch has no more.
const BATCH_MOST: usize = 8192;

/// A batch has at most so many times as many calls as the largest that has come back, so that a few
/// quick calls do not stand for all.
const GROWTH: usize = 8;

/// A new measurement counts this much towards the mean.
const WEIGHT: f64 = 0.25;

/// Bytes of values that a batch is to come back with: what a node's replies to batches are bounded by.
const REPLY_MOST: usize = 1024 * 1024;

/// How long what is known of the nodes is good for.
const CAPACITY_AGE: Duration = Duration::from_millis(50);

/// Calls pulled and not yielded yet, however many nodes there are.
const WINDOW_MOST: usize = 256 * 1024;

/// Async calls under way, however many the nodes would take.
const ASYNC_MOST: usize = 16 * 1024;

/// Calls under way while no node is known: enough to say soon of all that none serves them.
const WITHOUT_NODES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// What was asked for, if anything was.
    batch: Option<usize>,
    in_flight: Option<usize>,
    /// What is known of each method and its labels; few, and the one that is sent next.
    lanes: Vec<Lane>,
    current: usize,
}

/// Calls of one method to nodes with the same labels.
#[derive(Debug)]
struct Lane {
    method: &'static Method,
    labels: Labels,
    /// Seconds that a call takes.
    mean: Option<f64>,
    /// Calls in the largest batch that has come back.
    largest: usize,
    capacity: Capacity,
    looked: Option<Instant>,
    /// Calls that were sent and have not come back.
    out: usize,
    /// Bytes that a reply is expected to take: as many as a large one of late.
    reply: usize,
}

impl Lane {
    fn flights(&self) -> usize {
        match self.capacity {
            Capacity { nodes: 0, .. } => WITHOUT_NODES,
            Capacity { compute: true, slots, .. } => slots.saturating_mul(2).saturating_add(2),
            // A node's own figure, which may be anything.
            Capacity { slots, .. } => slots.min(ASYNC_MOST),
        }
    }
}

impl Pace {
    pub(super) fn set_batch(&mut self, calls: usize) {
        self.batch = Some(calls.max(1));
    }

    pub(super) fn set_in_flight(&mut self, calls: usize) {
        self.in_flight = Some(calls.max(1));
    }

    fn lane(&mut self, method: &'static Method, labels: &Labels) -> usize {
        let known = self.lanes.iter().position(|lane| std::ptr::eq(lane.method, method) && lane.labels == *labels);
        known.unwrap_or_else(|| {
            let (labels, capacity) = (labels.clone(), Capacity::default());
            self.lanes.push(Lane { method, labels, mean: None, largest: 0, capacity, looked: None, out: 0, reply: 0 });
            self.lanes.len() - 1
        })
    }

    /// A batch of so many calls has come back, which took the node so long.
    pub(super) fn note(&mut self, method: &'static Method, labels: &Labels, calls: usize, run: Duration) {
        let seconds = run.as_secs_f64() / calls.max(1) as f64;
        let lane = self.lane(method, labels);
        let lane = &mut self.lanes[lane];
        lane.mean = Some(lane.mean.map_or(seconds, |mean| mean + WEIGHT * (seconds - mean)));
        lane.largest = lane.largest.max(calls);
    }

    /// This many calls are sent.
    pub(super) fn note_sent(&mut self, method: &'static Method, labels: &Labels, calls: usize) {
        let lane = self.lane(method, labels);
        self.lanes[lane].out += calls;
    }

    /// This many calls that were sent are not awaited any more.
    pub(super) fn note_back(&mut self, method: &'static Method, labels: &Labels, calls: usize) {
        let lane = self.lane(method, labels);
        self.lanes[lane].out -= calls;
    }

    /// The reply to this number of calls took this many bytes.
    pub(super) fn note_reply(&mut self, method: &'static Method, labels: &Labels, calls: usize, bytes: usize) {
        let lane = self.lane(method, labels);
        let reply = &mut self.lanes[lane].reply;
        let each = bytes / calls.max(1);
        // Up at once and down slowly: too much waits a little, too little fills the memory.
        *reply = if each > *reply { each } else { *reply - (*reply - each) / 8 };
    }

    /// Bytes of replies that are still to come, as far as the size of any is known.
    pub(super) fn expected_bytes(&self) -> usize {
        self.lanes.iter().fold(0, |sum: usize, lane| sum.saturating_add(lane.out.saturating_mul(lane.reply)))
    }

    /// Goes on about calls of this method, and looks at the nodes if it has not done so for a while.
    pub(super) fn turn_to(
        &mut self,
        method: &'static Method,
        labels: &Labels,
        now: Instant,
        capacity: impl FnOnce() -> Capacity,
    ) {
        self.current = self.lane(method, labels);
        let lane = &mut self.lanes[self.current];
        if lane.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= CAPACITY_AGE) {
            lane.looked = Some(now);
            lane.capacity = capacity();
        }
    }

    /// The nodes have changed.
    pub(super) fn forget_nodes(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.looked = None);
    }

    /// What so many calls are expected to take; `None` before the first has come back.
    pub(super) fn expected(&self, calls: usize) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.lanes.get(self.current)?.mean? * calls as f64))
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.lanes.get(self.current).map(|lane| lane.capacity).unwrap_or_default()
    }

    /// How many calls the next batch is to have. `left` is how many there are still to be sent, if that
    /// is known: the last of them are dealt out in ever smaller batches, so that all nodes end together.
    /// (Guided self-scheduling: Polychronopoulos and Kuck, 1987.)
    pub(super) fn batch(&self, left: Option<usize>, timeout: Option<Duration>) -> usize {
        let Some(lane) = self.lanes.get(self.current) else { return 1 };
        // The time of a call is its own, and a batch ends as a whole.
        if !lane.capacity.compute || timeout.is_some() {
            return 1;
        }
        if let Some(calls) = self.batch {
            return calls.min(self.in_flight.unwrap_or(usize::MAX));
        }
        let Some(mean) = lane.mean else { return 1 };
        let calls = (BATCH_TIME.as_secs_f64() / mean.max(1e-9)).round() as usize;
        let slots = lane.capacity.slots.max(1);
        let share = left.map_or(usize::MAX, |left| left.div_ceil(2 * slots));
        let most = self.in_flight.unwrap_or(WINDOW_MOST) / (2 * slots);
        // A node ends a batch with this many bytes of values, and the rest would be sent again.
        let fitting = REPLY_MOST / lane.reply.max(1);
        calls.min(fitting).min(BATCH_MOST).min(GROWTH * lane.largest).min(share).min(most).max(1)
    }

    /// How many batches may be under way: for each method and set of labels of which there are any, one for each slot and
    /// as many that are on their way. So calls for few nodes, or none, leave room for others.
    pub(super) fn flights(&self) -> usize {
        let lanes = self.lanes.iter().enumerate().filter(|(at, lane)| *at == self.current || lane.out > 0);
        lanes.map(|(_, lane)| lane.flights()).fold(0, usize::saturating_add)
    }

    /// How many calls may be pulled and not yielded yet.
    pub(super) fn window(&self) -> usize {
        let batch = self.batch(None, None);
        self.in_flight.unwrap_or_else(|| {
            self.flights().saturating_mul(batch).saturating_mul(4).clamp(1024, WINDOW_MOST.max(self.flights()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static METHOD: Method = Method::new("A", 1, "a", "fn() -> ()", false);

    fn pace(slots: usize) -> Pace {
        let mut pace = Pace::default();
        pace.turn_to(&METHOD, &None, Instant::now(), || Capacity { nodes: 1, slots, free: slots, compute: true });
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
            pace.note(&METHOD, &None, calls, Duration::from_micros(10) * calls as u32);
        }
        assert_eq!(sizes, [1, 8, 64, 512, 1000, 1000]);
        assert_eq!(pace.batch(None, Some(Duration::from_secs(20))), 1, "a call with a timeout travels alone");
    }

    #[test]
    fn long_calls_travel_alone_and_the_last_are_spread() {
        let mut pace = pace(2);
        pace.note(&METHOD, &None, 1, Duration::from_millis(20));
        assert_eq!(pace.batch(None, None), 1);
        let mut pace = self::pace(2);
        pace.note(&METHOD, &None, 8192, Duration::from_micros(8192));
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
        assert_eq!((pace.window(), pace.batch(None, None)), (10, 10));
        let mut other = self::pace(1);
        other.note(&METHOD, &None, 8192, Duration::from_millis(1));
        static OTHER: Method = Method::new("A", 1, "b", "fn() -> ()", false);
        other.turn_to(&OTHER, &None, Instant::now(), || Capacity { nodes: 1, slots: 1, free: 1, compute: true });
        assert_eq!(other.batch(None, None), 1, "of this method nothing is known yet");
    }
}
