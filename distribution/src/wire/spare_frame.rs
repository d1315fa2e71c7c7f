//! A control frame that may wait: it is written when little else is.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

use super::frame::kind::Control;

/// The frame that waits, if one does.
#[derive(Debug, Default)]
pub(crate) struct SpareFrame {
    frame: Mutex<Option<Control>>,
    /// The same, for the task that writes: it looks before each write.
    is_there: AtomicBool,
    taken: Notify,
}

impl SpareFrame {
    /// Makes a frame the one that waits, when none waits any more.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the frame is dropped.
    pub(super) async fn put(&self, mut frame: Control) {
        while let Err(refused) = self.try_put(frame) {
            frame = refused;
            self.room().await;
        }
    }

    /// Returns the frame if one waits already.
    fn try_put(&self, frame: Control) -> Result<(), Control> {
        let mut waiting = self.lock();
        if waiting.is_some() {
            return Err(frame);
        }
        *waiting = Some(frame);
        self.is_there.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes the frame that waits.
    #[inline]
    pub(crate) fn take(&self) -> Option<Control> {
        match self.is_there.load(Ordering::Acquire) {
            true => self.take_waiting(),
            false => None,
        }
    }

    #[cold]
    fn take_waiting(&self) -> Option<Control> {
        let taken = {
            let mut waiting = self.lock();
            self.is_there.store(false, Ordering::Release);
            waiting.take()
        };
        self.taken.notify_one();
        taken
    }

    /// Waits until no frame waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn room(&self) {
        while self.is_there.load(Ordering::Acquire) {
            self.taken.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Control>> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
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
        spare.put(Control::Drain).await;
        assert_eq!(spare.try_put(Control::Retract), Err(Control::Retract));
        assert_eq!(spare.room().now_or_never(), None);
        let ((), taken) = tokio::join!(spare.room(), async { spare.take() });
        assert_eq!((taken, spare.take()), (Some(Control::Drain), None));
    }
}
