//! A latch: it is set once, and can be tested and awaited.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Latch {
    is_set: AtomicBool,
    changed: Notify,
}

impl Latch {
    pub(super) fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Waits until the latch is set.
    pub(super) async fn wait(&self) {
        let mut changed = pin!(self.changed.notified());
        // Registered before the test, so that a `set` between the two is not missed.
        changed.as_mut().enable();
        if !self.is_set() {
            changed.await;
        }
    }
}
