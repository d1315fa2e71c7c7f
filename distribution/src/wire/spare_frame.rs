//! A control frame that may wait: it is written when little else is.

use std::{
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use super::frame::kind::Control;

/// The frame that waits, if one does. Several tasks may want to send one: they take turns in no order.
#[derive(Debug, Default)]
pub(crate) struct SpareFrame {
    place: Mutex<Place>,
    /// Whether a frame waits, for the task that writes: it looks before each write.
    is_there: AtomicBool,
    /// Tells all that wait for room.
    has_changed: Notify,
}

#[derive(Debug, Default)]
struct Place {
    frame: Option<Control>,
    /// Nothing takes frames any more.
    is_closed: bool,
}

impl SpareFrame {
    /// Makes a frame the one that waits, when none waits any more.
    ///
    /// # Errors
    ///
    /// The frame, if the place is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the frame is dropped.
    pub(super) async fn put(&self, frame: Control) -> Result<(), Control> {
        loop {
            {
                let mut place = self.lock();
                if place.is_closed {
                    return Err(frame);
                }
                if place.frame.is_none() {
                    place.frame = Some(frame);
                    self.is_there.store(true, Ordering::Release);
                    return Ok(());
                }
            }
            self.room().await;
        }
    }

    /// Takes the frame that waits.
    #[inline]
    pub(crate) fn take(&self) -> Option<Control> {
        match self.is_there.load(Ordering::Acquire) {
            true => self.take_waiting(false),
            false => None,
        }
    }

    /// Takes no more frames, and returns the one that waits: the connection ends.
    pub(crate) fn close(&self) -> Option<Control> {
        self.take_waiting(true)
    }

    #[cold]
    fn take_waiting(&self, closes: bool) -> Option<Control> {
        let taken = {
            let mut place = self.lock();
            place.is_closed |= closes;
            self.is_there.store(false, Ordering::Release);
            place.frame.take()
        };
        // All, because one of them may not use the place.
        self.has_changed.notify_waiters();
        taken
    }

    /// Waits until no frame waits, or the place is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn room(&self) {
        loop {
            let mut changed = pin!(self.has_changed.notified());
            // Before the look, so that no change is missed between the look and the wait.
            changed.as_mut().enable();
            if !self.is_there.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the place is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn closed(&self) {
        loop {
            let mut changed = pin!(self.has_changed.notified());
            changed.as_mut().enable();
            if self.lock().is_closed {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn there_is_room_for_one_frame() {
        let spare = SpareFrame::default();
        assert_eq!(spare.room().now_or_never(), Some(()));
        assert_eq!(spare.put(Control::Drain).await, Ok(()));
        assert_eq!(spare.put(Control::Retract).now_or_never(), None);
        assert_eq!(spare.room().now_or_never(), None);
        let ((), taken) = tokio::join!(spare.room(), async { spare.take() });
        assert_eq!((taken, spare.take()), (Some(Control::Drain), None));
    }

    #[tokio::test]
    async fn one_that_waits_for_room_and_does_not_use_it_keeps_nobody_waiting() {
        let spare = SpareFrame::default();
        assert_eq!(spare.put(Control::Drain).await, Ok(()));
        let mut only_looks = Box::pin(spare.room());
        let mut sends = Box::pin(spare.put(Control::Retract));
        assert!(futures::poll!(&mut only_looks).is_pending() && futures::poll!(&mut sends).is_pending());
        assert_eq!(spare.take(), Some(Control::Drain));
        only_looks.await;
        assert_eq!(sends.now_or_never(), Some(Ok(())));
        assert_eq!(spare.take(), Some(Control::Retract));
    }

    #[tokio::test]
    async fn a_closed_place_gives_back_what_waits_and_what_comes() {
        let spare = SpareFrame::default();
        assert_eq!(spare.put(Control::Drain).await, Ok(()));
        let mut sends = Box::pin(spare.put(Control::Retract));
        let mut closed = Box::pin(spare.closed());
        assert!(futures::poll!(&mut sends).is_pending() && futures::poll!(&mut closed).is_pending());
        assert_eq!(spare.close(), Some(Control::Drain));
        assert_eq!(sends.await, Err(Control::Retract));
        closed.await;
        assert_eq!(spare.put(Control::Drain).await, Err(Control::Drain));
    }
}
