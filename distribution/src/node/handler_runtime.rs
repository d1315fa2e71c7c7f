//! The runtime that the node was started from, on which async handlers run: whether it has ended, and whether its threads
//! are blocked.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
};

use super::latch::Latch;

/// A runtime that does not run a new task for this long is blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);

/// The handler runtime. It may end before the node does.
#[derive(Debug)]
pub(super) struct HandlerRuntime {
    handle: Handle,
    ended: Arc<Latch>,
    end_watch: AbortHandle,
    /// How many handlers run on it.
    handlers: Arc<AtomicUsize>,
    pending_check: Mutex<Option<PendingCheck>>,
}

/// A task that was spawned to measure how long the runtime takes to run it.
#[derive(Debug)]
struct PendingCheck {
    since: Instant,
    has_run: Arc<AtomicBool>,
    /// Whether the delay was reported.
    is_reported: bool,
}

/// Sets the latch when the runtime drops the task that owns this.
struct SetOnDrop(Arc<Latch>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Counts one handler for as long as it runs.
#[derive(Debug)]
pub(super) struct HandlerGuard(Arc<AtomicUsize>);

impl HandlerRuntime {
    pub(super) fn new(handle: Handle) -> Self {
        let ended = Arc::new(Latch::default());
        // A runtime that ends drops its tasks before it shuts down its sockets and timers. So when a handler gets errors
        // from these, on any thread, the latch is set already.
        let guard = SetOnDrop(Arc::clone(&ended));
        let end_watch = handle.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        Self {
            handle,
            ended,
            end_watch: end_watch.abort_handle(),
            handlers: Arc::default(),
            pending_check: Mutex::default(),
        }
    }

    /// Enters the runtime, so that tasks, sockets and timers made on this thread belong to it.
    pub(super) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.handle.enter()
    }

    /// Spawns a task on the runtime. If it has ended, the task is dropped at once.
    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(task)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_set()
    }

    /// Waits until the runtime has ended.
    pub(super) async fn ended(&self) {
        self.ended.wait().await;
    }

    /// Counts a handler that runs on it, until the guard is dropped.
    pub(super) fn handling(&self) -> HandlerGuard {
        self.handlers.fetch_add(1, Ordering::SeqCst);
        HandlerGuard(Arc::clone(&self.handlers))
    }

    /// Whether handlers run on it.
    pub(super) fn has_handlers(&self) -> bool {
        self.handlers.load(Ordering::SeqCst) > 0
    }

    /// Checks whether the last check task was run, and spawns the next one. If the runtime has not run it for too long,
    /// returns for how long, once for each blockage.
    pub(super) fn look(&self) -> Option<Duration> {
        let mut pending_check = self.pending_check.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *pending_check {
            Some(sent) if !sent.has_run.load(Ordering::Acquire) => {
                let delay = sent.since.elapsed();
                let is_new = delay >= BLOCKED_AFTER && !sent.is_reported && !self.has_ended();
                sent.is_reported |= is_new;
                is_new.then_some(delay)
            }
            _ => {
                let has_run = Arc::new(AtomicBool::new(false));
                let mark = Arc::clone(&has_run);
                self.handle.spawn(async move { mark.store(true, Ordering::Release) });
                *pending_check = Some(PendingCheck { since: Instant::now(), has_run, is_reported: false });
                None
            }
        }
    }
}

impl Drop for HandlerRuntime {
    fn drop(&mut self) {
        self.end_watch.abort();
    }
}

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
