//! Blocking the current thread until a future has ended.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use tokio::task::block_in_place;

/// What [`block_on`] panics with where the current thread must not block.
const MUST_NOT_BLOCK: &str = "`wait()` was called on a thread that must not block: the thread of a current-thread \
     runtime, or a task in a `LocalSet`. It would keep the runtime from ever receiving the result. Use `.await` here, or \
     call `wait()` inside `tokio::task::spawn_blocking`";

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
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // It returns at once if the future has woken this thread since the poll.
            Poll::Pending => thread::park(),
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
