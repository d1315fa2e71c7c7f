//! Async handlers that need not wait: they are run where their call arrives.
//!
//! A handler belongs on the user's runtime, and the way there and back takes two threads that have to be
//! woken, which is more than most handlers take. So a handler is polled once on the link's own runtime,
//! inside the user's (what it spawns and what it waits for are the user's), and only one that is not done
//! by then moves there. A handler that blocks, as it should not, then blocks a thread of the link's; so no
//! more may be polled there at once than leave a thread for the connection, and the rest go the long way.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
};

use tokio::runtime::Handle;

/// Handlers that may be polled on the link's runtime at once.
pub(super) const INLINE_MOST: usize = 2;

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Inline(AtomicUsize);

/// Counts one until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Inline {
    fn enter(&self) -> Option<Place<'_>> {
        let entered = self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |inside| {
            (inside < INLINE_MOST).then_some(inside + 1)
        });
        entered.ok().map(|_| Place(&self.0))
    }

    /// Polls the future once, if there is room; gives it back if it is not done.
    pub(super) async fn try_run<F>(&self, mut future: Pin<Box<F>>, runtime: &Handle) -> Result<F::Output, Pin<Box<F>>>
    where
        F: Future,
    {
        let Some(place) = self.enter() else { return Err(future) };
        let polled = std::future::poll_fn(|cx| {
            let _inside = runtime.enter();
            Poll::Ready(future.as_mut().poll(cx))
        })
        .await;
        let Poll::Ready(value) = polled else { return Err(future) };
        // What the handler has left behind may panic as it goes; the value is there all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
        drop(place);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_are_polled_at_once_and_no_more() {
        let inline = Inline::default();
        let runtime = Handle::current();
        assert_eq!(inline.try_run(Box::pin(async { 1 }), &runtime).await.ok(), Some(1));
        assert!(inline.try_run(Box::pin(std::future::pending::<()>()), &runtime).await.is_err());
        let places: Vec<_> = (0..INLINE_MOST).filter_map(|_| inline.enter()).collect();
        assert_eq!(places.len(), INLINE_MOST);
        assert!(inline.try_run(Box::pin(async { 1 }), &runtime).await.is_err(), "there is no room");
        drop(places);
        assert_eq!(inline.try_run(Box::pin(async { 1 }), &runtime).await.ok(), Some(1));
    }
}
