//! Polls again at once what woke its own task while it was polled, without the runtime.
//!
//! tarpc's two halves of a connection talk through channels, and one task drives both: the half that sends wakes the task
//! that it runs in. Tokio would put that task at the end of the queue and wake a sleeping thread to help, which finds
//! nothing to do. With a single caller these wakes took longer than everything else that the master does.

use std::{
    pin::Pin,
    task::{Context, Poll, Wake, Waker},
};

use futures::{Stream, task::AtomicWaker};

use crate::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// The state: it is being polled.
const POLLING: u8 = 1;
/// The state: it was woken since it was polled last, or while it is polled.
const WOKEN: u8 = 2;

/// At most this many polls in a row. It may have woken itself because its turn on the thread is over, and then other tasks
/// must run.
const IN_A_ROW: usize = 3;

/// Keeps the wakes of what it polls from the task, if it polls that again itself.
pub(crate) struct Repoller {
    inner: Arc<Inner>,
    waker: Waker,
}

struct Inner {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // If it was woken before and has not been polled since, the task has been woken.
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

impl Repoller {
    pub(crate) fn new() -> Self {
        let inner = Arc::new(Inner { state: AtomicU8::new(0), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }

    /// Polls once, and again if that woke itself and `poll` returned true. With many calls in flight the runtime's queue is
    /// better: more messages gather in the meantime and then travel together.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> (Poll<T>, bool),
    ) -> Poll<T> {
        let Inner { state, task } = &*self.inner;
        task.register(cx.waker());
        for _ in 0..IN_A_ROW {
            // This poll sees everything that came with the wakes until here.
            state.swap(POLLING, Ordering::AcqRel);
            let (polled, poll_at_once) = poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() {
                // The caller polls again if it wants more, and then sees everything that came until then.
                state.store(0, Ordering::Release);
                return polled;
            }
            if state.compare_exchange(POLLING, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
            if !poll_at_once {
                break;
            }
        }
        state.store(WOKEN, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The next item of a stream.
    pub(crate) async fn next<S: Stream>(
        &self,
        mut stream: Pin<&mut S>,
        poll_at_once: impl Fn() -> bool,
    ) -> Option<S::Item> {
        std::future::poll_fn(|cx| self.poll(cx, |cx| (stream.as_mut().poll_next(cx), poll_at_once()))).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls something that wakes itself in its first polls. Returns how often it was polled and its task woken.
    fn poll(repoller: &Repoller, wakes_itself: u32, at_once: bool) -> (u32, u32) {
        let (task, mut polls) = (Arc::new(Count::default()), 0);
        let waker = Waker::from(Arc::clone(&task));
        let polled = repoller.poll(&Context::from_waker(&waker), |cx| {
            polls += 1;
            if polls <= wakes_itself {
                cx.waker().wake_by_ref();
            }
            (Poll::<()>::Pending, at_once)
        });
        assert!(polled.is_pending());
        (polls, task.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_again_without_its_task() {
        let repoller = Repoller::new();
        assert_eq!(poll(&repoller, 0, true), (1, 0));
        assert_eq!(poll(&repoller, 1, true), (2, 0));
        assert_eq!(poll(&repoller, 2, true), (3, 0));
        assert_eq!(poll(&repoller, 0, true), (1, 0));
    }

    #[test]
    fn a_future_that_always_wakes_itself_lets_other_tasks_run() {
        let repoller = Repoller::new();
        assert_eq!(poll(&repoller, u32::MAX, true), (3, 1));
        assert_eq!(poll(&repoller, u32::MAX, true), (3, 1));
    }

    #[test]
    fn with_many_calls_in_flight_the_task_is_woken() {
        let repoller = Repoller::new();
        assert_eq!(poll(&repoller, 1, false), (1, 1));
        assert_eq!(poll(&repoller, 0, false), (1, 0));
    }

    #[test]
    fn a_wake_between_polls_reaches_the_task_once_until_the_next_poll() {
        let repoller = Repoller::new();
        let task = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&task));
        for polls in 1..4 {
            assert!(repoller.poll(&Context::from_waker(&waker), |_| (Poll::<()>::Pending, true)).is_pending());
            repoller.waker.wake_by_ref();
            repoller.waker.wake_by_ref();
            assert_eq!(task.0.load(Ordering::Relaxed), polls);
        }
    }

    #[test]
    fn a_stream_that_was_ready_may_be_polled_again() {
        let repoller = Repoller::new();
        let ready = repoller.poll(&Context::from_waker(Waker::noop()), |_| (Poll::Ready(7), true));
        assert_eq!(ready, Poll::Ready(7));
        assert_eq!(poll(&repoller, 0, true), (1, 0));
    }
}
