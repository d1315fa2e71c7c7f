//! Requests that ask again for what was sent on an earlier connection, and the frame behind the last of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::pending_sends::SendPermit;
use crate::wire::{connection_state::ConnectionState, frame::kind::Control};

/// Counts the requests that are still to be written. tarpc takes them one by one, so the frame behind them cannot be sent before
/// each is in the write buffer.
#[derive(Debug)]
pub(crate) struct AskingAgain {
    /// One more until the last request is known.
    left: AtomicUsize,
    connection: Arc<ConnectionState>,
}

impl AskingAgain {
    pub(crate) fn new(connection: &Arc<ConnectionState>) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(1), connection: Arc::clone(connection) })
    }

    /// The permission to write one more such request.
    pub(crate) fn permit(self: &Arc<Self>) -> Arc<dyn SendPermit> {
        self.left.fetch_add(1, Ordering::Relaxed);
        Arc::new(AskPermit(Arc::clone(self)))
    }

    /// All permissions were given.
    pub(crate) fn on_last(&self) {
        self.on_one_less();
    }

    fn on_one_less(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.connection.send(Control::AskedAgain);
        }
    }
}

/// A request that asks again. It has no effect of its own, so nobody gives it up.
#[derive(Debug)]
struct AskPermit(Arc<AskingAgain>);

impl SendPermit for AskPermit {
    fn begin(&self, _: u32) -> bool {
        self.0.on_one_less();
        true
    }

    fn complete(&self, _: u32) -> bool {
        true
    }

    fn cut_short(&self, _: u32) {}

    fn is_detached(&self) -> bool {
        false
    }

    fn metadata(&self) -> &[(String, String)] {
        &[]
    }
}
