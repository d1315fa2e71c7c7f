//! The callers: each makes one call after the other, of all kinds, and knows how each has to end.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use distribution::{CallError, Master};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::task::JoinSet;

use super::{gauge::Histogram, service::MixedClient};

/// Calls that ended as they should not, of which the first are kept in words.
const KEPT: usize = 20;

/// Bytes of a small call.
const SMALL: usize = 64;

/// Bytes of a large one.
const LARGE: std::ops::Range<usize> = 64 * 1024..1024 * 1024;

/// Callers at work.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    mixed: MixedClient,
    stop: AtomicBool,
    calls: AtomicU64,
    small: Histogram,
    wrong: Mutex<Wrong>,
}

/// Calls that ended otherwise than they were to.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrong {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

impl Load {
    pub(super) fn start(master: &Master, callers: u32, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            mixed: MixedClient::new(master),
            stop: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            small: Histogram::new(),
            wrong: Mutex::default(),
        });
        let mut set = JoinSet::new();
        for caller in 0..u64::from(callers) {
            let shared = Arc::clone(&shared);
            let mut rng = SmallRng::seed_from_u64(seed << 32 | caller);
            set.spawn(async move {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.call(&mut rng).await;
                    shared.calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { shared, callers: set }
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// How long small calls took since this was asked last.
    pub(super) fn small(&self) -> &Histogram {
        &self.shared.small
    }

    /// Lets each caller end its call.
    pub(super) async fn stop(self) -> Wrong {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        self.shared.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    async fn call(&self, rng: &mut SmallRng) {
        let mixed = &self.mixed;
        let millis = rng.random_range(1..20);
        match rng.random_range(0..1000) {
            0..500 => {
                let started = Instant::now();
                self.expect("sum", mixed.sum(vec![1; SMALL]).await, |sum| *sum == Ok(SMALL as u64));
                self.small.add(started.elapsed());
            }
            500..700 => {
                let started = Instant::now();
                self.expect("sum_async", mixed.sum_async(vec![1; SMALL]).await, |sum| *sum == Ok(SMALL as u64));
                self.small.add(started.elapsed());
            }
            700..740 => {
                let size = rng.random_range(LARGE);
                self.expect("large sum", mixed.sum(vec![1; size]).await, |sum| *sum == Ok(size as u64));
            }
            740..780 => {
                let size = rng.random_range(LARGE);
                let right = |bytes: &Result<Vec<u8>, _>| bytes.as_ref().is_ok_and(|bytes| bytes.len() == size);
                let answer = mixed.bytes(size as u64).await;
                // Not with its million bytes, if it is wrong.
                if !right(&answer) {
                    self.expect("bytes", answer.map(|bytes| bytes.len()), |_| false);
                }
            }
            780..810 => {
                // Far longer than a stall of this process: an answer that is here when the time is up is
                // an answer.
                let call = mixed.doze(10_000).timeout(Duration::from_millis(millis.min(5)));
                self.expect("late doze", call.await, |end| matches!(end, Err(CallError::TimedOut { .. })));
            }
            810..830 => {
                // This cannot be stopped, and keeps its slot; so it may not be long, and may be in time.
                let end = mixed.nap(millis).timeout(Duration::from_millis(millis / 2)).await;
                self.expect("late nap", end, |end| matches!(end, Ok(()) | Err(CallError::TimedOut { .. })));
            }
            830..880 => {
                // Dropped: while it is queued, on its way or running.
                let call = async { if rng.random() { mixed.nap(millis).await } else { mixed.doze(millis).await } };
                let _ = tokio::time::timeout(Duration::from_millis(millis / 4), call).await;
            }
            880..900 => mixed.doze(millis).send().detach(),
            900..930 => {
                let end = mixed.panic("as it was to".to_owned()).await;
                self.expect("panic", end, |end| matches!(end, Err(CallError::Panicked { .. })));
            }
            930..970 => {
                let end = mixed.decline("no".to_owned()).await;
                self.expect("decline", end, |end| matches!(end, Err(CallError::Handler(reason)) if reason == "no"));
            }
            _ => self.expect("doze", mixed.doze(millis).await, Result::is_ok),
        }
    }

    fn expect<T: Debug>(&self, what: &str, end: T, is_right: impl FnOnce(&T) -> bool) {
        if is_right(&end) {
            return;
        }
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.count += 1;
        if wrong.first.len() < KEPT {
            wrong.first.push(format!("{what} ended with {end:?}"));
        }
    }
}
