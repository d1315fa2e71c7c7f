//! The calls that a connection has brought and that are not answered yet.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::current::CurrentCall;
use crate::wire::Load;

/// By call and attempt, so that the master can cancel them.
#[derive(Debug, Default)]
pub(super) struct Running {
    calls: Mutex<HashMap<(u64, u32), CurrentCall>>,
    waiting: AtomicU32,
    computing: AtomicU32,
    asynchronous: AtomicU32,
}

/// What a call is doing, as heartbeats count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Computing,
    Asynchronous,
}

impl Running {
    /// Books a call in until the guard is dropped; `None` if this very attempt is here already.
    pub(super) fn enter(self: &Arc<Self>, call: CurrentCall, phase: Phase) -> Option<RunningGuard> {
        let key = call.key();
        match self.lock().entry(key) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => place.insert(call),
        };
        self.count(phase).fetch_add(1, Ordering::Relaxed);
        Some(RunningGuard { running: Arc::clone(self), key, phase })
    }

    /// Tells the handler of this attempt, if it is here, that nobody waits for it. One that is not here
    /// has been answered already.
    pub(super) fn cancel(&self, call: u64, attempt: u32) {
        if let Some(call) = self.lock().get(&(call, attempt)) {
            call.cancel();
        }
    }

    /// Tells all: the connection is gone, and so is everybody who waited.
    pub(super) fn cancel_all(&self) {
        for call in self.lock().values() {
            call.cancel();
        }
    }

    /// What is here, with what else the pool is busy with.
    pub(super) fn load(&self, pool_busy: u32) -> Load {
        let computing = self.computing.load(Ordering::Relaxed);
        Load {
            computing,
            waiting: self.waiting.load(Ordering::Relaxed),
            asynchronous: self.asynchronous(),
            stale: pool_busy.saturating_sub(computing),
        }
    }

    pub(super) fn asynchronous(&self) -> u32 {
        self.asynchronous.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn count(&self, phase: Phase) -> &AtomicU32 {
        match phase {
            Phase::Waiting => &self.waiting,
            Phase::Computing => &self.computing,
            Phase::Asynchronous => &self.asynchronous,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u32), CurrentCall>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Books its call out when dropped.
pub(super) struct RunningGuard {
    running: Arc<Running>,
    key: (u64, u32),
    phase: Phase,
}

impl RunningGuard {
    /// The call goes on to do something else.
    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.running.count(self.phase).fetch_sub(1, Ordering::Relaxed);
        self.running.count(phase).fetch_add(1, Ordering::Relaxed);
        self.phase = phase;
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.running.count(self.phase).fetch_sub(1, Ordering::Relaxed);
        self.running.lock().remove(&self.key);
    }
}

impl fmt::Debug for RunningGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunningGuard").field(&self.key).finish()
    }
}
