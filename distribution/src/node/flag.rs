//! A flag that is set once, for those who ask and those who wait.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Flag {
    is_set: AtomicBool,
    news: Notify,
}

impl Flag {
    pub(super) fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.news.notify_waiters();
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Waits until it is set.
    pub(super) async fn wait(&self) {
        let mut news = pin!(self.news.notified());
        // Listening before looking, so that what happens in between is heard.
        news.as_mut().enable();
        if !self.is_set() {
            news.await;
        }
    }
}
