//! Wakes a task every so often, with or without a tokio runtime, so that it can look at the clock also while
//! nothing else happens.

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

/// A thread that sleeps most of the time, and ends with this.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    every: Duration,
    /// Where no thread could be started, the task looks at the clock as it comes by.
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

impl Ticker {
    pub(super) fn new(every: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = mpsc::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            let tick = move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    shared.is_due.store(true, Ordering::Release);
                    shared.task.wake();
                }
            };
            thread::Builder::new().name("progress".to_owned()).spawn(tick).ok()
        };
        Self { shared, every, looked: Instant::now(), stop: Some(stop), thread }
    }

    /// Whether it is time again; once for each time.
    pub(super) fn take_due(&mut self) -> bool {
        if self.thread.is_some() {
            return self.shared.is_due.load(Ordering::Relaxed) && self.shared.is_due.swap(false, Ordering::Acquire);
        }
        let is_due = self.looked.elapsed() >= self.every;
        if is_due {
            self.looked = Instant::now();
        }
        is_due
    }

    /// This task is to be woken when it is time. It has looked before, so it may be time already.
    pub(super) fn wake_later(&self, task: &Waker) {
        self.shared.task.register(task);
        if self.shared.is_due.load(Ordering::Acquire) {
            task.wake_by_ref();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It is on its way out, and never panics.
            let _ = thread.join();
        }
    }
}
