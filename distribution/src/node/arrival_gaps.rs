//! The gaps between calls: they decide whether a thread without a call looks for the next one before it sleeps.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long a thread without a call looks for the next one before it sleeps, if calls come one by one and the last gap was
/// shorter than this. Waking a thread takes longer than a caller on the same network takes to make its next call. If calls
/// come further apart, looking would find nothing; if they come many at a time, one wake serves many. In both cases the
/// thread does not look, and leaves the core to others.
const LOOK_FOR: Duration = Duration::from_micros(200);

/// The newest gap between two calls.
pub(super) struct ArrivalGaps {
    epoch: Instant,
    /// When a thread that has left since the last call came had run out of calls, in nanoseconds since `epoch`; else 0.
    idle_since: AtomicU64,
    /// Whether the last gap was so short that a look would have found the call at its end.
    was_short: AtomicBool,
}

impl ArrivalGaps {
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), idle_since: AtomicU64::new(0), was_short: AtomicBool::new(true) }
    }

    pub(super) fn look_for(&self) -> Duration {
        if self.was_short.load(Ordering::Relaxed) { LOOK_FOR } else { Duration::ZERO }
    }

    /// A thread leaves, and has looked for a call since then. One that leaves the looking to another has not.
    pub(super) fn begin(&self, idle_since: Option<Instant>) {
        if let Some(since) = idle_since {
            let since = since.saturating_duration_since(self.epoch).as_nanos();
            self.idle_since.store(u64::try_from(since).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        }
    }

    /// A call comes.
    pub(super) fn end(&self) {
        if self.idle_since.load(Ordering::Relaxed) > 0 {
            self.end_at(Instant::now());
        }
    }

    fn end_at(&self, now: Instant) {
        let since = Duration::from_nanos(self.idle_since.swap(0, Ordering::Relaxed));
        if !since.is_zero() {
            let gap = now.saturating_duration_since(self.epoch + since);
            self.was_short.store(gap < LOOK_FOR, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_looks_for_calls_while_they_come_soon_and_not_while_they_come_late() {
        let gaps = ArrivalGaps::new();
        let start = gaps.epoch;
        let [soon, late] = [start + LOOK_FOR / 2, start + LOOK_FOR * 2];
        assert_eq!(gaps.look_for(), LOOK_FOR, "a first caller may be the only one");
        gaps.begin(Some(start));
        gaps.end_at(late);
        assert_eq!(gaps.look_for(), Duration::ZERO);
        gaps.begin(None);
        gaps.end_at(late);
        assert_eq!(gaps.look_for(), Duration::ZERO, "one that has not looked knows of no gap");
        gaps.begin(Some(start));
        assert_eq!(gaps.look_for(), Duration::ZERO, "the gap is not over");
        gaps.end_at(soon);
        assert_eq!(gaps.look_for(), LOOK_FOR);
        gaps.end_at(late);
        assert_eq!(gaps.look_for(), LOOK_FOR, "one gap ends once");
    }
}
