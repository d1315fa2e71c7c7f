//! Batch sizing: how many calls make a batch, and how many batches may be in flight.
//!
//! A batch has as many calls as take a node about ten milliseconds. In shorter ones the cost of a round trip would
//! show; in longer ones a call could wait for others while another node is free. How long calls take is measured: each
//! reply says how long its calls ran.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::service::{dispatcher::Capacity, method::MethodInfo, options::Labels};

/// How long a node is to take for a batch.
const BATCH_TIME: Duration = Duration::from_millis(10);

/// The largest batch, however short its calls are.
const MAX_BATCH: usize = 8192;

/// A batch may have at most this many times the calls of the largest batch that has ended, so that the size does not
/// rest on the times of a few short calls.
const MAX_GROWTH: usize = 8;

/// The weight of a new measurement in the mean.
const WEIGHT: f64 = 0.25;

/// The largest reply to a batch, in bytes: a node ends a batch whose values take more.
const MAX_REPLY: usize = 1024 * 1024;

/// How long a look at the nodes stays valid.
const CAPACITY_AGE: Duration = Duration::from_millis(50);

/// The most calls that are pulled and not yielded yet, for any number of nodes.
const MAX_WINDOW: usize = 256 * 1024;

/// The most async calls in flight, however many the nodes would take.
const MAX_ASYNC: usize = 16 * 1024;

/// The most batches in flight while no node serves the method. When the first of them ends without a node, so do the others.
const WITHOUT_NODES: usize = 256;

/// How many methods and sets of labels are remembered of which no call is in flight. A stream whose labels never come again,
/// as of one job each, must not remember all of them.
const MOST_MEASURED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Sizing {
    /// The size that the user has set.
    batch: Option<usize>,
    /// The window that the user has set.
    in_flight: Option<usize>,
    /// One for each method and set of labels that is in flight or was of late.
    measured: Vec<Measured>,
    /// Counts the uses of `measured`.
    uses: u64,
    /// The one that the next batch belongs to.
    current: usize,
}

/// What was measured of the calls of one method to nodes with the same labels.
#[derive(Debug)]
struct Measured {
    method: Arc<MethodInfo>,
    labels: Labels,
    /// The mean time of a call, in seconds.
    mean: Option<f64>,
    /// Calls in the largest batch that has ended.
    largest: usize,
    capacity: Capacity,
    looked: Option<Instant>,
    /// Calls that were sent and have not ended.
    sent: usize,
    /// The expected size of the reply to a call, in bytes: that of a large one of late.
    reply: usize,
    /// Which use of all was its last.
    used: u64,
}

impl Measured {
    /// How many of these batches may be in flight.
    fn max_batches(&self) -> usize {
        match self.capacity {
            Capacity { nodes: 0, .. } => WITHOUT_NODES,
            Capacity { compute: true, slots, .. } => slots.saturating_mul(2).saturating_add(2),
            // Each node states its own limit, which may be any number.
            Capacity { slots, .. } => slots.min(MAX_ASYNC),
        }
    }
}

impl Sizing {
    pub(super) fn set_batch(&mut self, calls: usize) {
        self.batch = Some(calls);
    }

    pub(super) fn set_in_flight(&mut self, calls: usize) {
        self.in_flight = Some(calls);
    }

    /// Where the method with these labels is, now at the latest.
    fn index(&mut self, method: &Arc<MethodInfo>, labels: &Labels) -> usize {
        self.uses += 1;
        let known = self
            .measured
            .iter()
            .position(|measured| Arc::ptr_eq(&measured.method, method) && measured.labels == *labels);
        if let Some(known) = known {
            self.measured[known].used = self.uses;
            return known;
        }
        let new = Measured {
            method: Arc::clone(method),
            labels: labels.clone(),
            mean: None,
            largest: 0,
            capacity: Capacity::default(),
            looked: None,
            sent: 0,
            reply: 0,
            used: self.uses,
        };
        if let Some(index) = self.replaceable() {
            self.measured[index] = new;
            return index;
        }
        self.measured.push(new);
        self.measured.len() - 1
    }

    /// The one that was not in use for the longest time, if there are enough. What is in flight stays, as its calls are
    /// counted, and so does the selected one.
    fn replaceable(&self) -> Option<usize> {
        if self.measured.len() < MOST_MEASURED {
            return None;
        }
        let idle =
            self.measured.iter().enumerate().filter(|(index, measured)| measured.sent == 0 && *index != self.current);
        idle.min_by_key(|(_, measured)| measured.used).map(|(index, _)| index)
    }

    /// The node took this long for this many calls.
    pub(super) fn note_run(&mut self, method: &Arc<MethodInfo>, labels: &Labels, calls: usize, run: Duration) {
        let seconds = run.as_secs_f64() / calls.max(1) as f64;
        let index = self.index(method, labels);
        let measured = &mut self.measured[index];
        measured.mean = Some(measured.mean.map_or(seconds, |mean| mean + WEIGHT * (seconds - mean)));
        measured.largest = measured.largest.max(calls);
    }

    /// This many calls were sent.
    pub(super) fn note_sent(&mut self, method: &Arc<MethodInfo>, labels: &Labels, calls: usize) {
        let index = self.index(method, labels);
        self.measured[index].sent += calls;
    }

    /// This many calls that were sent have ended, or their end is not awaited any more.
    pub(super) fn note_ended(&mut self, method: &Arc<MethodInfo>, labels: &Labels, calls: usize) {
        let index = self.index(method, labels);
        self.measured[index].sent -= calls;
    }

    /// The reply to this number of calls took this many bytes.
    pub(super) fn note_reply(&mut self, method: &Arc<MethodInfo>, labels: &Labels, calls: usize, bytes: usize) {
        let index = self.index(method, labels);
        let reply = &mut self.measured[index].reply;
        let each = bytes / calls.max(1);
        // Up at once and down slowly: a value that is too high costs some waiting, one that is too low fills the memory.
        *reply = if each > *reply { each } else { *reply - (*reply - each) / 8 };
    }

    /// The expected size of all replies that are still to come, in bytes.
    pub(super) fn expected_bytes(&self) -> usize {
        self.measured
            .iter()
            .fold(0, |sum: usize, measured| sum.saturating_add(measured.sent.saturating_mul(measured.reply)))
    }

    /// Selects the method and labels that the next batch belongs to. Looks at the nodes if the last look is too old.
    pub(super) fn select(
        &mut self,
        method: &Arc<MethodInfo>,
        labels: &Labels,
        now: Instant,
        capacity: impl FnOnce() -> Capacity,
    ) {
        self.current = self.index(method, labels);
        let measured = &mut self.measured[self.current];
        if measured.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= CAPACITY_AGE) {
            measured.looked = Some(now);
            measured.capacity = capacity();
        }
    }

    /// Nodes have joined or left, so that all looks at them are too old.
    pub(super) fn forget_nodes(&mut self) {
        self.measured.iter_mut().for_each(|measured| measured.looked = None);
    }

    /// How long this many calls are expected to take; `None` before the first has ended.
    pub(super) fn expected_run(&self, calls: usize) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.measured.get(self.current)?.mean? * calls as f64))
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.measured.get(self.current).map(|measured| measured.capacity).unwrap_or_default()
    }

    /// How many calls the next batch is to have. `left` is how many calls are still to be sent, if that is known: the
    /// last of them go in ever smaller batches, so that all nodes end at the same time (guided self-scheduling:
    /// Polychronopoulos and Kuck, 1987).
    pub(super) fn batch_size(&self, left: Option<usize>, timeout: Option<Duration>) -> usize {
        let Some(measured) = self.measured.get(self.current) else { return 1 };
        // Each call has its own deadline, but a batch ends as a whole: with a call that takes too long it would take the
        // results of those that have ended.
        if !measured.capacity.compute || timeout.is_some() {
            return 1;
        }
        if let Some(calls) = self.batch {
            return calls.min(self.in_flight.unwrap_or(usize::MAX));
        }
        let Some(mean) = measured.mean else { return 1 };
        let calls = (BATCH_TIME.as_secs_f64() / mean.max(1e-9)).round() as usize;
        let slots = measured.capacity.slots.max(1);
        let share = left.map_or(usize::MAX, |left| left.div_ceil(2 * slots));
        let most = self.in_flight.unwrap_or(MAX_WINDOW) / (2 * slots);
        // A node ends a batch whose values take more than this, and the other calls would have to be sent again.
        let fitting = MAX_REPLY / measured.reply.max(1);
        calls.min(fitting).min(MAX_BATCH).min(MAX_GROWTH * measured.largest).min(share).min(most).max(1)
    }

    /// How many batches may be in flight: for each method and set of labels that is in use, one that runs and one that
    /// travels for each slot. So calls that only few nodes serve, or none, leave room for others.
    pub(super) fn max_batches(&self) -> usize {
        let in_use =
            self.measured.iter().enumerate().filter(|(index, measured)| *index == self.current || measured.sent > 0);
        in_use.map(|(_, measured)| measured.max_batches()).fold(0, usize::saturating_add)
    }

    /// How many calls may be pulled and not yielded yet.
    pub(super) fn window(&self) -> usize {
        let batch = self.batch_size(None, None);
        self.in_flight.unwrap_or_else(|| {
            self.max_batches().saturating_mul(batch).saturating_mul(4).clamp(1024, MAX_WINDOW.max(self.max_batches()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Method;

    static METHOD: Method = Method::new("A", 1, "a", "fn() -> ()", false);

    fn sizing(slots: usize) -> Sizing {
        let mut sizing = Sizing::default();
        sizing.select(METHOD.info(), &None, Instant::now(), || Capacity {
            is_known: true,
            nodes: 1,
            slots,
            free: slots,
            compute: true,
        });
        sizing
    }

    #[test]
    fn batches_grow_until_they_take_ten_milliseconds() {
        let mut sizing = sizing(2);
        assert_eq!(sizing.batch_size(None, None), 1, "nothing was measured yet");
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let calls = sizing.batch_size(None, None);
            sizes.push(calls);
            sizing.note_run(METHOD.info(), &None, calls, Duration::from_micros(10) * calls as u32);
        }
        assert_eq!(sizes, [1, 8, 64, 512, 1000, 1000]);
        assert_eq!(sizing.batch_size(None, Some(Duration::from_secs(20))), 1, "a call with a timeout is sent alone");
    }

    #[test]
    fn long_calls_are_sent_alone_and_the_last_calls_in_small_batches() {
        let mut sizing = sizing(2);
        sizing.note_run(METHOD.info(), &None, 1, Duration::from_millis(20));
        assert_eq!(sizing.batch_size(None, None), 1);
        let mut sizing = self::sizing(2);
        sizing.note_run(METHOD.info(), &None, 8192, Duration::from_micros(8192));
        assert_eq!(sizing.batch_size(None, None), 8192);
        assert_eq!(sizing.batch_size(Some(1000), None), 250);
        assert_eq!(sizing.batch_size(Some(3), None), 1);
    }

    #[test]
    fn labels_that_never_come_again_are_forgotten() {
        let job = |number: usize| -> Labels { Some([("job".to_owned(), number.to_string())].into()) };
        let capacity = || Capacity { is_known: true, nodes: 1, slots: 1, free: 1, compute: true };
        let mut sizing = sizing(1);
        let (busy, usual) = (job(1_000_000), None);
        sizing.note_run(METHOD.info(), &usual, 8192, Duration::from_millis(1));
        sizing.note_run(METHOD.info(), &busy, 1, Duration::from_secs(1));
        sizing.note_sent(METHOD.info(), &busy, 3);
        for number in 0..1000 {
            sizing.select(METHOD.info(), &job(number), Instant::now(), capacity);
            sizing.note_sent(METHOD.info(), &job(number), 1);
            sizing.note_ended(METHOD.info(), &job(number), 1);
            sizing.note_run(METHOD.info(), &job(number), 1, Duration::from_millis(1));
            sizing.select(METHOD.info(), &usual, Instant::now(), capacity);
            assert_eq!(sizing.batch_size(None, None), 8192, "it is used all the time");
        }
        assert_eq!(sizing.measured.len(), MOST_MEASURED);
        sizing.note_ended(METHOD.info(), &busy, 3);
        sizing.select(METHOD.info(), &busy, Instant::now(), capacity);
        assert_eq!(sizing.expected_run(1), Some(Duration::from_secs(1)), "it was in flight");
        assert_eq!(sizing.expected_bytes(), 0);
    }

    #[test]
    fn sizes_that_the_user_sets_are_used_as_they_are() {
        let mut sizing = sizing(1);
        sizing.set_batch(100);
        assert_eq!(sizing.batch_size(Some(5), None), 100);
        sizing.set_in_flight(10);
        assert_eq!((sizing.window(), sizing.batch_size(None, None)), (10, 10));
        let mut other = self::sizing(1);
        other.note_run(METHOD.info(), &None, 8192, Duration::from_millis(1));
        static OTHER: Method = Method::new("A", 1, "b", "fn() -> ()", false);
        other.select(OTHER.info(), &None, Instant::now(), || Capacity {
            is_known: true,
            nodes: 1,
            slots: 1,
            free: 1,
            compute: true,
        });
        assert_eq!(other.batch_size(None, None), 1, "nothing was measured of this method yet");
    }
}
