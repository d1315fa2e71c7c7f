//! The calls that a connection has brought and that are not answered yet.

use std::{
    collections::HashMap,
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
    /// Books a call in until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>, call: CurrentCall, phase: Phase) -> RunningGuard {
        let key = call.key();
        self.lock().insert(key, call);
        self.count(phase).fetch_add(1, Ordering::Relaxed);
        RunningGuard { running: Arc::clone(self), key, phase }
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

    pub(super) fn load(&self) -> Load {
        Load {
            computing: self.computing.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            asynchronous: self.asynchronous.load(Ordering::Relaxed),
        }
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
