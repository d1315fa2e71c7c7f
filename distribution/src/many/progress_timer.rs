//! Wakes a task at regular intervals, with or without a tokio runtime, so that progress is reported also while no call
//! ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    task::Waker,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;

/// A thread that wakes the task. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct ProgressTimer {
    shared: Arc<Shared>,
    interval: Duration,
    /// Used if no thread could be started: the task then looks at the clock whenever it is polled.
    looked: Instant,
    /// Dropped to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_due: AtomicBool,
    task: AtomicWaker,
}

impl ProgressTimer {
    pub(super) fn new(interval: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = mpsc::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            let tick = move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    shared.is_due.store(true, Ordering::Release);
                    shared.task.wake();
                }
            };
            thread::Builder::new().name("progress".to_owned()).spawn(tick).ok()
        };
        Self { shared, interval, looked: Instant::now(), stop: Some(stop), thread }
    }

    /// Whether an interval has passed; true once for each interval.
    pub(super) fn take_due(&mut self) -> bool {
        if self.thread.is_some() {
            return self.shared.is_due.load(Ordering::Relaxed) && self.shared.is_due.swap(false, Ordering::Acquire);
        }
        let is_due = self.looked.elapsed() >= self.interval;
        if is_due {
            self.looked = Instant::now();
        }
        is_due
    }

    /// Wakes this task when an interval has passed, which may be so already.
    pub(super) fn wake_later(&self, task: &Waker) {
        self.shared.task.register(task);
        if self.shared.is_due.load(Ordering::Acquire) {
            task.wake_by_ref();
        }
    }
}

impl Drop for ProgressTimer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It ends at once, and never panics.
            let _ = thread.join();
        }
    }
}
