//! The calls of a connection that are not answered yet.

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

/// The calls by id and attempt, so that the master can cancel them, and how many are in which phase.
#[derive(Debug, Default)]
pub(super) struct ActiveCalls {
    calls: Mutex<Calls>,
    waiting: AtomicU32,
    computing: AtomicU32,
    asynchronous: AtomicU32,
    /// Compute handlers, of all connections of this node, that have outlived their connection.
    stale: Arc<AtomicU32>,
}

#[derive(Debug, Default)]
struct Calls {
    by_key: HashMap<(u64, u32), ActiveCall>,
    /// Whether the connection has ended. Its compute handlers that still run are stale from then on.
    is_over: bool,
}

#[derive(Debug)]
struct ActiveCall {
    call: CurrentCall,
    phase: Phase,
    /// Whether its handler waits for nested calls, and is not counted meanwhile.
    is_lent: bool,
}

/// What a call is doing, as heartbeats count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Computing,
    Asynchronous,
}

impl ActiveCall {
    /// The phase that it is counted in.
    fn counted(&self) -> Option<Phase> {
        (!self.is_lent).then_some(self.phase)
    }
}

impl ActiveCalls {
    /// For a new connection. Counts handlers that outlive it in `stale`.
    pub(super) fn new(stale: Arc<AtomicU32>) -> Arc<Self> {
        Arc::new(Self { stale, ..Self::default() })
    }

    /// Adds a call until the guard is dropped; `None` if this attempt is here already.
    pub(super) fn enter(self: &Arc<Self>, call: CurrentCall, phase: Phase) -> Option<ActiveCallGuard> {
        let key = call.key();
        let mut calls = self.lock();
        match calls.by_key.entry(key) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => place.insert(ActiveCall { call, phase, is_lent: false }),
        };
        self.count_over(&calls, None, Some(phase));
        drop(calls);
        Some(ActiveCallGuard { running: Arc::clone(self), key })
    }

    /// Cancels this attempt. If it is not here, it has been answered already.
    pub(super) fn cancel(&self, call: u64, attempt: u32) {
        if let Some(active) = self.lock().by_key.get(&(call, attempt)) {
            active.call.cancel();
        }
    }

    /// Cancels all calls, because the connection has ended.
    pub(super) fn end(&self) {
        let mut calls = self.lock();
        calls.is_over = true;
        self.stale.fetch_add(self.computing.load(Ordering::Relaxed), Ordering::Relaxed);
        for active in calls.by_key.values() {
            active.call.cancel();
        }
    }

    /// The handler of this attempt waits for nested calls, or (if not `lent`) goes on. Returns whether that has changed.
    pub(super) fn set_lent(&self, key: (u64, u32), lent: bool) -> bool {
        let mut has_changed = false;
        self.change(key, |active| {
            has_changed = active.is_lent != lent;
            active.is_lent = lent;
        });
        has_changed
    }

    fn change(&self, key: (u64, u32), change: impl FnOnce(&mut ActiveCall)) {
        let mut calls = self.lock();
        let Some(active) = calls.by_key.get_mut(&key) else { return };
        let before = active.counted();
        change(active);
        let after = active.counted();
        self.count_over(&calls, before, after);
    }

    /// The counts for a heartbeat; `blocked` is how often a handler was seen to block.
    pub(super) fn load(&self, blocked: u32) -> Load {
        Load {
            computing: self.computing.load(Ordering::Relaxed),
            waiting: self.waiting(),
            asynchronous: self.asynchronous(),
            stale: self.stale.load(Ordering::Relaxed),
            blocked,
        }
    }

    /// Whether there is at most one call.
    pub(super) fn is_alone(&self) -> bool {
        let computing = self.computing.load(Ordering::Relaxed);
        computing.saturating_add(self.waiting()).saturating_add(self.asynchronous()) <= 1
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

    /// Moves a call from one phase to another. Takes the locked calls, because the end of the connection counts too.
    fn count_over(&self, calls: &Calls, from: Option<Phase>, to: Option<Phase>) {
        if let Some(from) = from {
            self.count(from).fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(to) = to {
            self.count(to).fetch_add(1, Ordering::Relaxed);
        }
        if calls.is_over && from == Some(Phase::Computing) {
            self.stale.fetch_sub(1, Ordering::Relaxed);
        }
        if calls.is_over && to == Some(Phase::Computing) {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes its call when dropped.
pub(super) struct ActiveCallGuard {
    running: Arc<ActiveCalls>,
    key: (u64, u32),
}

impl ActiveCallGuard {
    /// Moves the call to another phase.
    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.running.change(self.key, |active| active.phase = phase);
    }
}

impl Drop for ActiveCallGuard {
    fn drop(&mut self) {
        let mut calls = self.running.lock();
        if let Some(active) = calls.by_key.remove(&self.key) {
            self.running.count_over(&calls, active.counted(), None);
        }
    }
}

impl fmt::Debug for ActiveCallGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActiveCallGuard").field(&self.key).finish()
    }
}
