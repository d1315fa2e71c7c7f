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

use super::flag::Flag;

/// A runtime that does not come to a task for this long is blocked.
pub(super) const BLOCKED_AFTER: Duration = Duration::from_secs(1);

/// The user's runtime. It may end before the node does.
#[derive(Debug)]
pub(super) struct Users {
    handle: Handle,
    ended: Arc<Flag>,
    sentinel: AbortHandle,
    /// Handlers that run there.
    handlers: Arc<AtomicUsize>,
    probe: Mutex<Option<Probe>>,
}

/// A task that is to find out how long the runtime takes to come to it.
#[derive(Debug)]
struct Probe {
    since: Instant,
    has_run: Arc<AtomicBool>,
    is_noticed: bool,
}

/// Says that the runtime has ended when it is dropped.
struct Sentinel(Arc<Flag>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Counts one handler for as long as it runs.
#[derive(Debug)]
pub(super) struct Handling(Arc<AtomicUsize>);

impl Users {
    pub(super) fn new(handle: Handle) -> Self {
        let ended = Arc::new(Flag::default());
        // A runtime that ends drops its tasks before it shuts its sockets and timers down. So a handler that has
        // met the errors of those, on whatever thread, can see that the runtime has ended.
        let guard = Sentinel(Arc::clone(&ended));
        let sentinel = handle.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        Self { handle, ended, sentinel: sentinel.abort_handle(), handlers: Arc::default(), probe: Mutex::default() }
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

    pub(super) fn have_ended(&self) -> bool {
        self.ended.is_set()
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        self.ended.wait().await;
    }

    /// Counts a handler that goes there.
    pub(super) fn handling(&self) -> Handling {
        self.handlers.fetch_add(1, Ordering::SeqCst);
        Handling(Arc::clone(&self.handlers))
    }

    /// Whether handlers run there.
    pub(super) fn are_handling(&self) -> bool {
        self.handlers.load(Ordering::SeqCst) > 0
    }

    /// Looks how it gets on, and sends a task to find out the next time. Says once how long it has not come to
    /// the last one, if that is too long.
    pub(super) fn look(&self) -> Option<Duration> {
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *probe {
            Some(sent) if !sent.has_run.load(Ordering::Acquire) => {
                let delay = sent.since.elapsed();
                let is_news = delay >= BLOCKED_AFTER && !sent.is_noticed && !self.have_ended();
                sent.is_noticed |= is_news;
                is_news.then_some(delay)
            }
            _ => {
                let has_run = Arc::new(AtomicBool::new(false));
                let mark = Arc::clone(&has_run);
                self.handle.spawn(async move { mark.store(true, Ordering::Release) });
                *probe = Some(Probe { since: Instant::now(), has_run, is_noticed: false });
                None
            }
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.sentinel.abort();
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
