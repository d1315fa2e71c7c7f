//! The calls of a session: those that run, and the replies that the master may not have.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    answer::{Completed, NodeRequest},
    current::CurrentCall,
};
use crate::wire::{Load, Outcome, Refusal, Reply, transport::AttemptKey};

/// What a reply that is kept takes beside its payload.
const REPLY_OVERHEAD: usize = 256;

/// The most bytes of replies that are kept for the master. A reply beyond that is sent, and lost if the connection breaks before
/// it has arrived.
const MOST_KEPT: usize = 256 * 1024 * 1024;

/// The calls by id and attempt, so that the master can cancel them and ask for their replies again, and how many are in
/// which phase.
#[derive(Debug, Default)]
pub(super) struct ActiveCalls {
    calls: Mutex<Calls>,
    waiting: AtomicU32,
    computing: AtomicU32,
    asynchronous: AtomicU32,
    /// Compute handlers, of all sessions of this node, that have outlived their session.
    stale: Arc<AtomicU32>,
}

#[derive(Debug, Default)]
struct Calls {
    by_key: HashMap<AttemptKey, SessionCall>,
    /// Whether the session has ended. Its compute handlers that still run are stale from then on.
    is_over: bool,
    /// Whether replies are kept until the master has confirmed them.
    keeps: bool,
    /// The number of the current connection.
    connection: u32,
    /// The bytes of the replies that are kept.
    kept: usize,
}

#[derive(Debug)]
struct SessionCall {
    /// The connection on which the master awaits, or awaited, the reply.
    connection: u32,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Active(ActiveCall),
    /// It was answered with this, which the master may not have.
    Answered(Reply),
}

#[derive(Debug)]
struct ActiveCall {
    call: CurrentCall,
    phase: Phase,
    /// Whether its handler waits for nested calls, and is not counted meanwhile.
    is_lent: bool,
    /// The request by which the master has asked for the reply on a later connection.
    asked_again: Option<Box<NodeRequest>>,
}

/// What a call is doing, as heartbeats count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Computing,
    Asynchronous,
}

/// What becomes of a request that asks again for a reply.
pub(super) enum AskOutcome {
    /// It is to be answered with this.
    Answer(Box<Completed>),
    /// It is answered when the handler has returned.
    Runs,
}

impl ActiveCall {
    /// The phase that it is counted in.
    fn counted(&self) -> Option<Phase> {
        (!self.is_lent).then_some(self.phase)
    }
}

impl ActiveCalls {
    /// For a new session. Counts handlers that outlive it in `stale`.
    pub(super) fn new(stale: Arc<AtomicU32>) -> Arc<Self> {
        Arc::new(Self { stale, ..Self::default() })
    }

    /// Whether there are neither calls nor replies that the master may lack.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().by_key.is_empty()
    }

    /// The session goes on with a new connection. With `keeps`, the master confirms the replies that it has, and asks again for
    /// the others.
    pub(super) fn on_connected(&self, keeps: bool) {
        let mut calls = self.lock();
        calls.connection += 1;
        calls.keeps = keeps;
    }

    /// Adds a call until the guard is dropped; `None` if this attempt is here already.
    pub(super) fn enter(self: &Arc<Self>, call: CurrentCall, phase: Phase) -> Option<ActiveCallGuard> {
        let key = call.key();
        let mut calls = self.lock();
        let connection = calls.connection;
        let progress = Progress::Active(ActiveCall { call, phase, is_lent: false, asked_again: None });
        match calls.by_key.entry(key) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => place.insert(SessionCall { connection, progress }),
        };
        self.count_over(&calls, None, Some(phase));
        drop(calls);
        Some(ActiveCallGuard { running: Arc::clone(self), key: Some(key) })
    }

    /// Cancels this attempt. If it is not here, it has been answered already.
    pub(super) fn cancel(&self, call: u64, attempt: u32) {
        if let Some(SessionCall { progress: Progress::Active(active), .. }) = self.lock().by_key.get(&(call, attempt)) {
            active.call.cancel();
        }
    }

    /// The master asks for the reply of an attempt that was sent on an earlier connection.
    /// `tell` says whether its handler waits for a nested call: under the lock, so that what is said later comes later.
    pub(super) fn ask_again(&self, request: NodeRequest, tell: impl FnOnce(bool)) -> AskOutcome {
        let key = request.get().message.key();
        let mut calls = self.lock();
        let connection = calls.connection;
        let Some(call) = calls.by_key.get_mut(&key) else {
            return AskOutcome::Answer(Box::new((request, Reply::refused(Refusal::NotReceived))));
        };
        call.connection = connection;
        match &mut call.progress {
            Progress::Active(active) => {
                active.asked_again = Some(Box::new(request));
                tell(active.is_lent);
                AskOutcome::Runs
            }
            Progress::Answered(reply) => AskOutcome::Answer(Box::new((request, reply.clone()))),
        }
    }

    /// The master has asked again for all replies of earlier connections that it wants: forgets the others, and cancels the
    /// calls that it does not know.
    pub(super) fn forget_others(&self) {
        let mut calls = self.lock();
        let current = calls.connection;
        let mut forgotten = 0;
        calls.by_key.retain(|_, call| match &call.progress {
            _ if call.connection == current => true,
            Progress::Active(active) => {
                active.call.cancel();
                true
            }
            Progress::Answered(reply) => {
                forgotten += size(reply);
                false
            }
        });
        calls.kept -= forgotten;
    }

    /// The master has these replies.
    pub(super) fn on_confirmed(&self, keys: Vec<AttemptKey>) {
        let mut calls = self.lock();
        for key in keys {
            if let Entry::Occupied(call) = calls.by_key.entry(key) {
                if let Progress::Answered(reply) = &call.get().progress {
                    let size = size(reply);
                    call.remove();
                    calls.kept -= size;
                }
            }
        }
    }

    /// Cancels all calls, because the session has ended.
    pub(super) fn end(&self) {
        let mut calls = self.lock();
        if std::mem::replace(&mut calls.is_over, true) {
            return;
        }
        calls.keeps = false;
        calls.kept = 0;
        self.stale.fetch_add(self.computing.load(Ordering::Relaxed), Ordering::Relaxed);
        calls.by_key.retain(|_, call| match &call.progress {
            Progress::Active(active) => {
                active.call.cancel();
                true
            }
            Progress::Answered(_) => false,
        });
    }

    /// The handler of this attempt waits for nested calls, or (if not `lent`) goes on. Returns whether that has changed.
    pub(super) fn set_lent(&self, key: AttemptKey, lent: bool) -> bool {
        let mut has_changed = false;
        self.change(key, |active| {
            has_changed = active.is_lent != lent;
            active.is_lent = lent;
        });
        has_changed
    }

    fn change(&self, key: AttemptKey, change: impl FnOnce(&mut ActiveCall)) {
        let mut calls = self.lock();
        let Some(SessionCall { progress: Progress::Active(active), .. }) = calls.by_key.get_mut(&key) else { return };
        let before = active.counted();
        change(active);
        let after = active.counted();
        self.count_over(&calls, before, after);
    }

    /// The counts for a heartbeat; `blocked` is how often a handler was seen to block.
    pub(super) fn load(&self, blocked: u32) -> Load {
        Load {
            computing: self.computing(),
            waiting: self.waiting(),
            asynchronous: self.asynchronous(),
            stale: self.stale.load(Ordering::Relaxed),
            blocked,
        }
    }

    /// Whether there is at most one call.
    pub(super) fn is_alone(&self) -> bool {
        self.computing().saturating_add(self.waiting()).saturating_add(self.asynchronous()) <= 1
    }

    pub(super) fn computing(&self) -> u32 {
        self.computing.load(Ordering::Relaxed)
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

    /// Moves a call from one phase to another. Takes the locked calls, because the end of the session counts too.
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

    /// Takes a call out. With its reply, keeps that if the master is to confirm it. Returns the request by which the master has
    /// asked for it again.
    fn leave(&self, key: AttemptKey, reply: Option<&Reply>) -> Option<Box<NodeRequest>> {
        let mut calls = self.lock();
        let Entry::Occupied(mut call) = calls.by_key.entry(key) else { return None };
        let Progress::Active(active) = &mut call.get_mut().progress else { return None };
        let (counted, asked_again) = (active.counted(), active.asked_again.take());
        match reply {
            Some(reply) if calls.keeps => {
                let is_full = calls.kept + size(reply) > MOST_KEPT;
                let kept = if is_full { too_much(reply) } else { reply.clone() };
                calls.kept += size(&kept);
                if let Some(call) = calls.by_key.get_mut(&key) {
                    call.progress = Progress::Answered(kept);
                }
            }
            _ => _ = calls.by_key.remove(&key),
        }
        self.count_over(&calls, counted, None);
        asked_again
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reply takes that is kept.
fn size(reply: &Reply) -> usize {
    reply.payload.len() + REPLY_OVERHEAD
}

/// What the master is told of a reply for which there is no room, if it asks again.
fn too_much(reply: &Reply) -> Reply {
    let why =
        format!("its reply was lost with the connection, because more than {} MiB of replies waited", MOST_KEPT >> 20);
    Reply { count: reply.count, ..Reply::without_payload(Outcome::Lost(why), reply.run) }
}

/// Removes its call when dropped.
pub(super) struct ActiveCallGuard {
    running: Arc<ActiveCalls>,
    /// `None` once the call has left.
    key: Option<AttemptKey>,
}

impl ActiveCallGuard {
    /// Moves the call to another phase.
    pub(super) fn set_phase(&mut self, phase: Phase) {
        if let Some(key) = self.key {
            self.running.change(key, |active| active.phase = phase);
        }
    }

    /// The handler has returned, or was not started. Returns the request that is to be answered: `request`, or a later one for
    /// the same reply.
    pub(super) fn end(mut self, request: NodeRequest, reply: &Reply) -> NodeRequest {
        let later = self.key.take().and_then(|key| self.running.leave(key, Some(reply)));
        later.map_or(request, |later| *later)
    }
}

impl Drop for ActiveCallGuard {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.running.leave(key, None);
        }
    }
}

impl fmt::Debug for ActiveCallGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActiveCallGuard").field(&self.key).finish()
    }
}
