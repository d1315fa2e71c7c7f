//! How long the handlers of an async method run before they first wait. The node decides by it which calls to run apart.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// How long the handlers of an async method run before they first wait.
#[derive(Debug, Default)]
pub(crate) struct FirstPollTime {
    /// How many of the next calls are expected to be long.
    long: AtomicU32,
    /// The moving mean, in nanoseconds.
    mean: AtomicU32,
}

/// How many calls are expected to be long after one that was.
const LONG_FOR: u32 = 256;

/// The newest call counts one part in this many towards the mean.
const MEMORY: u32 = 8;

// Threads that race may lose one of each other's notes, which does no harm.
impl FirstPollTime {
    /// Notes that a call took this long. A call that took longer than `short` counts as long.
    pub(crate) fn note(&self, time: Duration, short: Duration) {
        if time > short {
            self.long.store(LONG_FOR, Ordering::Relaxed);
        }
        let time = u32::try_from(time.as_nanos()).unwrap_or(u32::MAX).max(MEMORY);
        let mean = match self.mean.load(Ordering::Relaxed) {
            0 => time,
            // A call whose thread was not scheduled meanwhile says little about the others.
            mean => mean - mean / MEMORY + time.min(mean.saturating_mul(4)) / MEMORY,
        };
        self.mean.store(mean, Ordering::Relaxed);
    }

    /// Whether the next call is expected to be long.
    pub(crate) fn is_long(&self) -> bool {
        let left = self.long.load(Ordering::Relaxed);
        if left > 0 {
            self.long.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    /// The mean time; zero before the first call.
    pub(crate) fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean.load(Ordering::Relaxed).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_the_many_and_not_the_one() {
        let (times, short) = (FirstPollTime::default(), Duration::from_micros(100));
        let usual = Duration::from_micros(10);
        for _ in 0..50 {
            times.note(usual, short);
        }
        times.note(Duration::from_secs(1), short);
        assert!(times.mean() < usual * 2, "{:?}", times.mean());
        for _ in 0..50 {
            times.note(usual * 8, short);
        }
        assert!(times.mean() > usual * 7, "{:?}", times.mean());
    }
}
