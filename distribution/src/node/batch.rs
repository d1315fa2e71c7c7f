//! Runs a batch: compute calls of one method that came in one request, one after the other in one slot.
//!
//! The master sizes a batch to take some milliseconds. If one of its calls takes far longer, the node gives the calls
//! behind it back, so that they do not wait.
//!
//! The node starts only calls that the master has granted, and asks for more before it needs them. So the master knows that
//! the other calls were not started, even if the node is lost.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{batch_window::BatchWindow, current::CurrentCall, current_connection::CurrentConnection};
use crate::{
    config::{ValueLimits, from_micros, to_micros},
    error::CodecError,
    service::router::{Arguments, ComputeHandler},
    wire::{
        Control, Outcome, Refusal, Reply, batch,
        codec::{Decoder, Encoder},
    },
};

/// A batch that runs for longer gives back the calls that it has not started. It is ten times what a batch is sized to
/// take. It also ends a batch whose grants do not come.
pub(super) const GIVE_BACK_AFTER: Duration = Duration::from_millis(100);

/// A node asks for a quarter of the batch at a time, when an eighth of the batch is granted and not started: that makes
/// three requests for a batch of about 10 ms, and at most three eighths are granted and not started. An eighth is 1.25 ms,
/// which is longer than the round trip to the master on most networks. If the measured round trip is longer, the node asks
/// for more and earlier. The core grants a batch of 2.5 ms whole.
const STEP_PARTS: u32 = 4;
const LEAD_PARTS: u32 = 8;

/// The assumed time of a batch until its first call has been timed: what the master sizes batches for.
const USUAL_TIME: Duration = Duration::from_millis(10);

/// The batches of a session that are running, so that the master can grant them more calls or end them.
#[derive(Debug, Default)]
pub(super) struct Batches {
    running: Mutex<HashMap<(u64, u32), Arc<RunningBatch>>>,
    /// The mean time between a request for more calls and its grant, in microseconds.
    round_trip: AtomicU64,
}

#[derive(Debug)]
struct RunningBatch {
    window: BatchWindow,
    /// When the last request for more calls was sent, until it is granted.
    asked: Mutex<Option<Instant>>,
    /// How many calls are kept, once the others were given back; 0 before.
    kept: AtomicU32,
}

impl Batches {
    /// Adds a batch, until the guard is dropped.
    pub(super) fn enter(
        self: &Arc<Self>,
        key: (u64, u32),
        count: u32,
        granted: u32,
        connection: &Arc<CurrentConnection>,
    ) -> BatchGuard {
        // The node asks for more when it starts a call, so without a first grant both ends would wait for each other.
        let window = BatchWindow::new(count, granted.max(1));
        let running = Arc::new(RunningBatch { window, asked: Mutex::default(), kept: AtomicU32::new(0) });
        self.lock().insert(key, Arc::clone(&running));
        BatchGuard {
            batches: Arc::clone(self),
            key,
            count,
            granted: granted.clamp(1, count),
            running,
            connection: Arc::clone(connection),
        }
    }

    /// The master has granted more calls of a batch. If the batch is not here, it has ended meanwhile.
    pub(super) fn grant(&self, call: u64, attempt: u32, upto: u32) {
        let Some(running) = self.find((call, attempt)) else { return };
        let asked = running.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(asked) = asked {
            self.note_round_trip(asked.elapsed());
        }
        running.window.grant(upto);
    }

    /// Ends a batch whose caller is gone.
    pub(super) fn close(&self, call: u64, attempt: u32) {
        if let Some(running) = self.find((call, attempt)) {
            running.window.close();
        }
    }

    /// Ends all batches, because the session has ended. Call it after the calls were cancelled, so that a batch that
    /// begins meanwhile sees one or the other.
    pub(super) fn close_all(&self) {
        for running in self.lock().values() {
            running.window.close();
        }
    }

    /// Ends a batch after the calls that it has started, and returns how many these are; `None` if nothing is left to cut.
    pub(super) fn cut(&self, key: (u64, u32)) -> Option<u32> {
        let running = self.find(key)?;
        let kept = running.window.cut()?;
        running.kept.store(kept, Ordering::Release);
        Some(kept)
    }

    /// How many calls of a batch that was cut are kept.
    pub(super) fn kept(&self, key: (u64, u32)) -> Option<u32> {
        Some(self.find(key)?.kept.load(Ordering::Acquire)).filter(|kept| *kept > 0)
    }

    fn note_round_trip(&self, measured: Duration) {
        // Of two concurrent grants one may overwrite the other's measurement, which is harmless.
        let before = self.round_trip.load(Ordering::Relaxed);
        let measured = to_micros(measured);
        let mean = if before == 0 { measured } else { before - before / 4 + measured / 4 };
        self.round_trip.store(mean, Ordering::Relaxed);
    }

    fn find(&self, key: (u64, u32)) -> Option<Arc<RunningBatch>> {
        self.lock().get(&key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, u32), Arc<RunningBatch>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running batch; removed when dropped.
pub(super) struct BatchGuard {
    batches: Arc<Batches>,
    key: (u64, u32),
    count: u32,
    granted: u32,
    running: Arc<RunningBatch>,
    connection: Arc<CurrentConnection>,
}

impl BatchGuard {
    fn ask(&self, upto: u32) {
        // Stored first, because the grant may come before this thread goes on.
        *self.running.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let (call, attempt) = self.key;
        self.connection.send(Control::RequestGrant { call, attempt, upto });
    }
}

impl Drop for BatchGuard {
    fn drop(&mut self) {
        self.batches.lock().remove(&self.key);
    }
}

impl fmt::Debug for BatchGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BatchGuard").field(&self.key).finish()
    }
}

/// Decides when a batch asks the master for more calls.
struct Credit {
    count: u32,
    /// How many calls are granted or asked for.
    upto: u32,
    /// When this many calls are started, it asks again.
    ask_at: u32,
}

impl Credit {
    fn new(count: u32, granted: u32, round_trip: Duration) -> Self {
        let mut credit = Self { count, upto: granted, ask_at: 0 };
        credit.ask_at = granted.saturating_sub(credit.lead(round_trip, USUAL_TIME / count.max(1)));
        credit
    }

    /// How many calls run during a round trip, with a margin.
    fn lead(&self, round_trip: Duration, each: Duration) -> u32 {
        let lead = round_trip.as_secs_f64() * 1.5 / each.as_secs_f64().max(1e-9);
        // A float that is too large becomes the largest `u32`.
        (lead as u32).max(self.count / LEAD_PARTS).max(1)
    }

    /// How many calls to ask for in all, if it is time to ask: the batch has `started` this many in `elapsed`.
    fn next(&mut self, started: u32, round_trip: Duration, elapsed: impl FnOnce() -> Duration) -> Option<u32> {
        if started < self.ask_at || self.upto >= self.count {
            return None;
        }
        // The last one has only just been started.
        let done = started.saturating_sub(1);
        let each = if done > 0 { elapsed() / done } else { USUAL_TIME / self.count };
        let lead = self.lead(round_trip, each);
        let step = (self.count / STEP_PARTS).max(lead.saturating_mul(2));
        self.upto = self.upto.saturating_add(step).min(self.count);
        self.ask_at = self.upto.saturating_sub(lead).max(started + 1);
        Some(self.upto)
    }
}

/// Runs a batch until its end, or until it is cancelled. The reply contains the outcome of each call that was started.
pub(super) fn run(
    call: &CurrentCall,
    guard: &BatchGuard,
    handler: &ComputeHandler,
    payload: &Bytes,
    limits: ValueLimits,
) -> Reply {
    let started = Instant::now();
    let mut calls = Decoder::new(payload, limits.depth);
    let mut values = Encoder::new(limits);
    let most = batch::gathered(limits.bytes) as u64;
    let (mut count, mut panicked) = (0, 0);
    let round_trip = || from_micros(guard.batches.round_trip.load(Ordering::Relaxed));
    let mut credit = Credit::new(guard.count, guard.granted, round_trip());
    while values.size() <= most && !call.is_cancelled() {
        let Some(begun) = guard.running.window.start_next() else { break };
        if begun >= credit.ask_at {
            if let Some(upto) = credit.next(begun, round_trip(), || started.elapsed()) {
                guard.ask(upto);
            }
        }
        let placed = batch::begin(&mut values, limits.bytes);
        let outcome = match next(&mut calls) {
            Ok(arguments) => {
                let nth = call.nth(count.into());
                let outcome = nth.compute(|| handler(Arguments::Part(arguments), &mut values));
                nth.log_panic(&outcome);
                outcome
            }
            Err(error) => Outcome::Refused(Refusal::Decode(error.to_string())),
        };
        panicked += u32::from(matches!(outcome, Outcome::Panicked(_)));
        batch::end(placed, &mut values, &outcome);
        count = begun;
    }
    match count {
        0 if call.is_cancelled() => Reply::refused(Refusal::Stopped),
        0 => Reply::refused(Refusal::Returned),
        _ if call.is_cancelled() => Reply::without_payload(Outcome::Stopped, started.elapsed()),
        count => Reply { count, panicked, ..Reply::new(Outcome::Value, started.elapsed(), values) },
    }
}

fn next<'a>(calls: &mut Decoder<'a>) -> Result<Decoder<'a>, CodecError> {
    let length = calls.take_u32()?;
    calls.split_off(length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Duration = Duration::from_micros(100);

    /// The requests of a batch: how many calls are started, and how many it asks for in all.
    fn questions(count: u32, granted: u32, round_trip: Duration, each: Duration) -> Vec<(u32, u32)> {
        let mut credit = Credit::new(count, granted, round_trip);
        let ask = |started| Some((started, credit.next(started, round_trip, || each * (started - 1))?));
        (1..=count).filter_map(ask).collect()
    }

    #[test]
    fn a_batch_asks_a_few_times_and_before_it_has_to_wait() {
        let each = Duration::from_micros(10);
        assert_eq!(questions(1000, 250, NEAR, each), [(125, 500), (375, 750), (625, 1000)]);
        assert_eq!(questions(20, 5, NEAR, Duration::from_micros(500)), [(3, 10), (8, 15), (13, 20)]);
        for count in 2..200u32 {
            let mut granted = count.div_ceil(4);
            for (started, upto) in questions(count, granted, NEAR, each) {
                assert!(started <= granted && upto > granted, "{count}: {started} started, {granted} granted, {upto}");
                granted = upto;
            }
            assert_eq!(granted, count, "the batch comes to its end");
        }
    }

    #[test]
    fn a_batch_sends_far_fewer_frames_than_the_master_allows() {
        for count in 2..2000u32 {
            for granted in [1, 2, count.div_ceil(4)] {
                for (round_trip, each) in [(0, 1), (100, 10), (100, 1), (4000, 10), (4000, 0), (0, 10_000)] {
                    let [round_trip, each] = [round_trip, each].map(Duration::from_micros);
                    let asked = questions(count, granted.min(count), round_trip, each).len();
                    assert!(asked <= 5, "{asked} times for {count} calls, {granted} granted");
                }
            }
        }
    }

    #[test]
    fn a_cut_keeps_the_calls_that_are_started() {
        let window = BatchWindow::new(4, 3);
        assert_eq!(window.cut(), None, "nothing is started");
        assert_eq!((window.start_next(), window.start_next()), (Some(1), Some(2)));
        assert_eq!(window.cut(), Some(2));
        window.grant(4);
        assert_eq!(window.start_next(), None);
        assert_eq!(window.cut(), None);
    }

    #[test]
    fn a_batch_far_from_its_master_asks_for_more_and_earlier() {
        let questions = questions(1000, 250, Duration::from_millis(4), Duration::from_micros(10));
        assert_eq!(questions, [(1, 1000)], "1.5 round trips are 600 calls");
    }
}
