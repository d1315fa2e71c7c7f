//! The window of a batch: how many of its calls are started, and how many may be. One thread runs the batch, another
//! extends the window when the master grants more, and a third cuts it.
//!
//! Three numbers bound a batch. `started` calls are started. `granted` calls may be started: if the node is lost, the master
//! knows that the others were not. `end` is the number of calls in the batch, until a cut makes it the number of those that
//! are started.

use crate::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

#[derive(Debug)]
pub(crate) struct BatchWindow {
    /// How many calls are started, and how many may be: `granted`, and `end` at most. Both are in one word, because a call
    /// is started without the lock, in one atomic step that a cut must not divide. The second number changes only under
    /// the lock, so that a thread that waits for a change misses none.
    word: AtomicU64,
    bounds: Mutex<Bounds>,
    changed: Condvar,
}

#[derive(Debug)]
struct Bounds {
    granted: u32,
    end: u32,
    /// The caller of the batch is gone.
    closed: bool,
}

impl BatchWindow {
    /// A batch of `count` calls, of which the first `granted` may be started.
    pub(crate) fn new(count: u32, granted: u32) -> Self {
        let granted = granted.min(count);
        Self {
            word: AtomicU64::new(pack(0, granted)),
            bounds: Mutex::new(Bounds { granted, end: count, closed: false }),
            changed: Condvar::new(),
        }
    }

    /// Starts the next call, and returns how many are started then. Waits while the next call is not granted yet; `None` if
    /// no call is left, or the batch was cut or closed.
    ///
    /// The thread that runs the batch has asked for more before it has to wait here.
    pub(crate) fn start_next(&self) -> Option<u32> {
        loop {
            let next = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                let (started, limit) = unpack(word);
                (started < limit).then(|| pack(started + 1, limit))
            });
            if let Ok(before) = next {
                return Some(unpack(before).0 + 1);
            }
            let mut bounds = self.lock();
            loop {
                let (started, limit) = unpack(self.word.load(Ordering::Acquire));
                if started < limit {
                    break;
                }
                if bounds.closed || started >= bounds.end {
                    return None;
                }
                bounds = self.changed.wait(bounds).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Grants the first `upto` calls. Has no effect if that is not more than before.
    pub(crate) fn grant(&self, upto: u32) {
        let mut bounds = self.lock();
        if bounds.closed || upto <= bounds.granted {
            return;
        }
        bounds.granted = upto;
        let limit = upto.min(bounds.end);
        self.set_limit(|_| Some(limit));
        self.changed.notify_one();
    }

    /// Ends the batch after the calls that are started, and returns how many these are. `None` if no call is started,
    /// because a reply needs at least one, or if all are.
    pub(crate) fn cut(&self) -> Option<u32> {
        let mut bounds = self.lock();
        let end = bounds.end;
        let kept = self.set_limit(|started| (0 < started && started < end).then_some(started))?;
        bounds.end = kept;
        self.changed.notify_one();
        Some(kept)
    }

    /// Ends the batch, because its caller is gone: no further call is started.
    pub(crate) fn close(&self) {
        let mut bounds = self.lock();
        bounds.closed = true;
        self.set_limit(Some);
        self.changed.notify_one();
    }

    /// Sets how many calls may be started, computed from how many are, and returns how many are. Call it only under the
    /// lock.
    fn set_limit(&self, limit: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let before = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (started, _) = unpack(word);
            limit(started).map(|limit| pack(started, limit))
        });
        before.ok().map(|word| unpack(word).0)
    }

    fn lock(&self) -> MutexGuard<'_, Bounds> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pack(started: u32, limit: u32) -> u64 {
    u64::from(started) << 32 | u64::from(limit)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
