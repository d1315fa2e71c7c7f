//! Blocking the current thread until a future has ended.

use std::{
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use tokio::task::block_in_place;

/// What [`block_on`] panics with where the current thread must not block.
const MUST_NOT_BLOCK: &str = "`wait()` was called on a thread that must not block: the thread of a current-thread \
     runtime, or a task in a `LocalSet`. It would keep the runtime from ever receiving the result. Use `.await` here, or \
     call `wait()` inside `tokio::task::spawn_blocking`";

/// How soon a thread that was not allowed to lend what it holds asks again.
const LEND_AGAIN: Duration = Duration::from_millis(10);

/// Blocks the current thread until `future` has ended. On a worker thread of a multi-thread runtime, the worker's other
/// tasks move to another thread first.
///
/// # Panics
///
/// On the thread that drives a current-thread runtime, and in a `LocalSet`: the result could never arrive.
#[track_caller]
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut may_block = false;
    // Only tokio can tell the thread that drives a runtime from one of its blocking threads, and it does so by a panic.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        block_in_place(|| {
            may_block = true;
            park_until_ended(future)
        })
    }));
    match ended {
        Ok(output) => output,
        Err(panic) if may_block => resume_unwind(panic),
        Err(_) => panic!("{MUST_NOT_BLOCK}"),
    }
}

fn park_until_ended<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut lent = Lent::new();
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // Either returns at once if the future has woken this thread since the poll.
            Poll::Pending if lent.lend() => thread::park(),
            // One that keeps what others wait for looks again: they may wait for it to lend it.
            Poll::Pending => thread::park_timeout(LEND_AGAIN),
        }
    }
}

/// What the current thread holds that others can use while it waits.
pub(crate) trait Lend {
    /// The thread begins to wait. False if it keeps what it holds, because too many threads wait already.
    fn lend(&self) -> bool;

    /// The thread goes on. Blocks it until it has again what it lent.
    fn take_back(&self);
}

thread_local! {
    static HELD: RefCell<Option<Arc<dyn Lend>>> = const { RefCell::new(None) };
}

/// Runs something on a thread that lends this whenever it waits for a call.
pub(crate) fn holding<T>(held: Arc<dyn Lend>, run: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<dyn Lend>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HELD.set(self.0.take());
        }
    }
    let _restore = Restore(HELD.replace(Some(held)));
    run()
}

/// While this lives, what the thread holds is lent. Taken back also while a panic unwinds, because handlers go on then too:
/// their destructors run.
struct Lent {
    held: Option<Arc<dyn Lend>>,
    is_lent: bool,
}

impl Lent {
    /// Nothing is lent yet.
    fn new() -> Self {
        Self { held: None, is_lent: false }
    }

    /// Lends what the thread holds, unless that was done. False if it keeps it.
    fn lend(&mut self) -> bool {
        if !self.is_lent {
            self.held = HELD.with_borrow(Clone::clone);
            self.is_lent = self.held.as_ref().is_none_or(|held| held.lend());
        }
        self.is_lent
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(held) = self.held.as_ref().filter(|_| self.is_lent) {
            held.take_back();
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::oneshot;
    use tokio::runtime::Builder;

    use super::*;
    use crate::service::panics::caught;

    /// A value that another thread sends once this one waits, or before.
    fn sent_elsewhere() -> oneshot::Receiver<u8> {
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || sender.send(7));
        receiver
    }

    #[test]
    fn a_thread_outside_of_any_runtime_waits() {
        assert_eq!(block_on(sent_elsewhere()), Ok(7));
        assert_eq!(caught(|| block_on(async { panic!("of the future") })), Err::<(), _>("of the future".to_owned()));
    }

    #[test]
    fn a_worker_of_a_multi_thread_runtime_waits_for_a_task_of_the_same_runtime() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().expect("starts");
        let value = runtime.block_on(async {
            tokio::spawn(async { block_on(tokio::spawn(std::future::ready(7))).expect("ends") }).await
        });
        assert_eq!(value.expect("ends"), 7);
    }

    #[test]
    fn the_thread_of_a_current_thread_runtime_is_told_what_to_do() {
        let runtime = Builder::new_current_thread().build().expect("starts");
        let said = caught(AssertUnwindSafe(|| runtime.block_on(async { block_on(std::future::pending::<()>()) })));
        assert_eq!(said, Err(MUST_NOT_BLOCK.to_owned()));
        let blocking = runtime.block_on(async { tokio::task::spawn_blocking(|| block_on(sent_elsewhere())).await });
        assert_eq!(blocking.expect("ends"), Ok(7), "its blocking threads may block");
    }
}
