//! What wakes itself while it is polled is polled again at once, and not by way of the runtime.
//!
//! tarpc's two halves of a connection talk through channels, and both are driven by one task: the half that sends wakes
//! the task that it is in. Tokio then puts the task at the end of the queue and wakes a sleeping thread to help, which
//! finds nothing. For one caller these wakes took longer than all else that the master does (see "Speed" in the README).

use std::{
    pin::Pin,
    task::{Context, Poll, Wake, Waker},
};

use futures::{Stream, task::AtomicWaker};

use crate::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// It is being polled.
const POLLING: u8 = 1;
/// It was woken since it was polled last, or while it is.
const WOKEN: u8 = 2;

/// Polls in a row. One of them may have been woken because it has had its share of the thread, and has to let others go.
const IN_A_ROW: usize = 3;

/// Keeps the wakes of what it polls from the task, as far as it polls that again itself.
pub(crate) struct Again {
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
        // Where it was woken before and has not been polled since, that wake is on its way.
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

impl Again {
    pub(crate) fn new() -> Self {
        let inner = Arc::new(Inner { state: AtomicU8::new(0), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }

    /// Polls once, and again where that woke itself and says that it is in haste. With much going on the way by the
    /// runtime is the better one: meanwhile more gathers, which then moves together.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> (Poll<T>, bool),
    ) -> Poll<T> {
        let Inner { state, task } = &*self.inner;
        task.register(cx.waker());
        for _ in 0..IN_A_ROW {
            // All that came with the wakes until here is seen by this poll.
            state.swap(POLLING, Ordering::AcqRel);
            let (polled, is_in_haste) = poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() {
                // Who asks for more polls again, and so sees all that came until then.
                state.store(0, Ordering::Release);
                return polled;
            }
            if state.compare_exchange(POLLING, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
            if !is_in_haste {
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
        is_in_haste: impl Fn() -> bool,
    ) -> Option<S::Item> {
        std::future::poll_fn(|cx| self.poll(cx, |cx| (stream.as_mut().poll_next(cx), is_in_haste()))).await
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

    /// What wakes itself in its first polls; how often it was polled and its task woken.
    fn poll(again: &Again, wakes_itself: u32, haste: bool) -> (u32, u32) {
        let (task, mut polls) = (Arc::new(Count::default()), 0);
        let waker = Waker::from(Arc::clone(&task));
        let polled = again.poll(&Context::from_waker(&waker), |cx| {
            polls += 1;
            if polls <= wakes_itself {
                cx.waker().wake_by_ref();
            }
            (Poll::<()>::Pending, haste)
        });
        assert!(polled.is_pending());
        (polls, task.0.load(Ordering::Relaxed))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_without_its_task() {
        let again = Again::new();
        assert_eq!(poll(&again, 0, true), (1, 0));
        assert_eq!(poll(&again, 1, true), (2, 0));
        assert_eq!(poll(&again, 2, true), (3, 0));
        assert_eq!(poll(&again, 0, true), (1, 0));
    }

    #[test]
    fn what_always_wakes_itself_lets_others_go() {
        let again = Again::new();
        assert_eq!(poll(&again, u32::MAX, true), (3, 1));
        assert_eq!(poll(&again, u32::MAX, true), (3, 1));
    }

    #[test]
    fn without_haste_its_task_is_woken() {
        let again = Again::new();
        assert_eq!(poll(&again, 1, false), (1, 1));
        assert_eq!(poll(&again, 0, false), (1, 0));
    }

    #[test]
    fn a_wake_in_between_reaches_the_task_once_until_the_next_poll() {
        let again = Again::new();
        let task = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&task));
        for polls in 1..4 {
            assert!(again.poll(&Context::from_waker(&waker), |_| (Poll::<()>::Pending, true)).is_pending());
            again.waker.wake_by_ref();
            again.waker.wake_by_ref();
            assert_eq!(task.0.load(Ordering::Relaxed), polls);
        }
    }

    #[test]
    fn what_was_ready_may_be_polled_again() {
        let again = Again::new();
        let ready = again.poll(&Context::from_waker(Waker::noop()), |_| (Poll::Ready(7), true));
        assert_eq!(ready, Poll::Ready(7));
        assert_eq!(poll(&again, 0, true), (1, 0));
    }
}
