//! The runtime that the node was started from, on which async handlers run: whether it is still there, and
//! whether it gets on.

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

/// A runtime that does not come to a task for this long is blocked.
pub(super) const BLOCKED_AFTER: Duration = Duration::from_secs(1);

/// The handler runtime. It may end before the node does.
#[derive(Debug)]
pub(super) struct HandlerRuntime {
    handle: Handle,
    ended: Arc<Latch>,
    end_watch: AbortHandle,
    /// Handlers that run there.
    handlers: Arc<AtomicUsize>,
    pending_check: Mutex<Option<PendingCheck>>,
}

/// A task that is to find out how long the runtime takes to come to it.
#[derive(Debug)]
struct PendingCheck {
    since: Instant,
    has_run: Arc<AtomicBool>,
    is_noticed: bool,
}

/// Says that the runtime has ended when it is dropped.
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
        // A runtime that ends drops its tasks before it shuts its sockets and timers down. So a handler that has
        // met the errors of those, on whatever thread, can see that the runtime has ended.
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

    /// Enters it, so that what is made on this thread uses its sockets, timers and threads.
    pub(super) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.handle.enter()
    }

    /// Runs a task on it. If it has ended, the task is dropped at once.
    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(task)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_set()
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        self.ended.wait().await;
    }

    /// Counts a handler that goes there.
    pub(super) fn handling(&self) -> HandlerGuard {
        self.handlers.fetch_add(1, Ordering::SeqCst);
        HandlerGuard(Arc::clone(&self.handlers))
    }

    /// Whether handlers run there.
    pub(super) fn has_handlers(&self) -> bool {
        self.handlers.load(Ordering::SeqCst) > 0
    }

    /// Looks how it gets on, and sends a task to find out the next time. Says once how long it has not come to
    /// the last one, if that is too long.
    pub(super) fn look(&self) -> Option<Duration> {
        let mut pending_check = self.pending_check.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *pending_check {
            Some(sent) if !sent.has_run.load(Ordering::Acquire) => {
                let delay = sent.since.elapsed();
                let is_news = delay >= BLOCKED_AFTER && !sent.is_noticed && !self.has_ended();
                sent.is_noticed |= is_news;
                is_news.then_some(delay)
            }
            _ => {
                let has_run = Arc::new(AtomicBool::new(false));
                let mark = Arc::clone(&has_run);
                self.handle.spawn(async move { mark.store(true, Ordering::Release) });
                *pending_check = Some(PendingCheck { since: Instant::now(), has_run, is_noticed: false });
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
