//! Wakes the watchdog.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{Receiver, Sender, channel},
};

/// Wakes the watchdog when there is something to look after.
#[derive(Debug)]
pub(super) struct WatchdogWaker {
    is_awake: AtomicBool,
    messages: Sender<WatchdogMessage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchdogMessage {
    /// There is something to look after.
    Work,
    /// The node has ended.
    NodeEnded,
}

impl WatchdogWaker {
    pub(super) fn new() -> (Arc<Self>, Receiver<WatchdogMessage>) {
        let (messages, received) = channel();
        (Arc::new(Self { is_awake: AtomicBool::new(false), messages }), received)
    }

    /// There is something to look after. Call this after the work has been stored where the watchdog looks.
    pub(super) fn wake(&self) {
        // `set_asleep` comes before the watchdog's last look: either that look finds the work, or this finds the
        // watchdog asleep.
        if !self.is_awake.load(Ordering::SeqCst) && !self.is_awake.swap(true, Ordering::SeqCst) {
            let _ = self.messages.send(WatchdogMessage::Work);
        }
    }

    /// The watchdog is about to sleep: from now on each `wake` sends a message.
    pub(super) fn set_asleep(&self) {
        self.is_awake.store(false, Ordering::SeqCst);
    }

    /// The watchdog will look again soon without a message.
    pub(super) fn set_awake(&self) {
        self.is_awake.store(true, Ordering::SeqCst);
    }

    pub(super) fn node_ended(&self) {
        let _ = self.messages.send(WatchdogMessage::NodeEnded);
    }
}
