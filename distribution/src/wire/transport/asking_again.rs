//! Requests that ask again for what was sent on an earlier connection, and the frame behind the last of them.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use crate::wire::{connection_state::ConnectionState, frame::kind::Control, send_permit::SendPermit};

/// Counts the requests that are still to be written. tarpc takes them one by one, so the frame behind them cannot be sent before
/// each is in the write buffer.
#[derive(Debug)]
pub(crate) struct AskingAgain {
    /// Below zero after some were written whose number was not known yet: effects of two events may be carried out in
    /// either order, so that the number may come before some requests.
    left: AtomicI64,
    connection: Arc<ConnectionState>,
}

impl AskingAgain {
    pub(crate) fn new(connection: &Arc<ConnectionState>) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(0), connection: Arc::clone(connection) })
    }

    /// The permission to write one such request.
    pub(crate) fn permit(self: &Arc<Self>) -> Arc<dyn SendPermit> {
        Arc::new(AskPermit(Arc::clone(self)))
    }

    /// There are this many requests in all. Permissions for some of them may be given later.
    pub(crate) fn expect(&self, requests: u32) {
        let requests = i64::from(requests);
        if self.left.fetch_add(requests, Ordering::AcqRel) + requests == 0 {
            self.connection.send(Control::AskedAgain);
        }
    }

    fn on_written(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.connection.send(Control::AskedAgain);
        }
    }
}

/// A request that asks again. It has no effect of its own, so nobody gives it up.
#[derive(Debug)]
struct AskPermit(Arc<AskingAgain>);

impl SendPermit for AskPermit {
    fn may_begin(&self, _: u32) -> bool {
        true
    }

    fn begin(&self, _: u32) -> bool {
        self.0.on_written();
        true
    }

    fn complete(&self, _: u32) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PeerTimeouts;

    #[tokio::test]
    async fn the_frame_follows_all_requests_in_whichever_order_their_number_is_known() {
        for known_after in 0..=3 {
            let connection = ConnectionState::new(PeerTimeouts::default(), None);
            let asking = AskingAgain::new(&connection);
            for written in 0..3 {
                if written == known_after {
                    asking.expect(3);
                }
                assert_eq!(connection.take_outbox(), []);
                assert!(asking.permit().begin(1));
            }
            if known_after == 3 {
                assert_eq!(connection.take_outbox(), []);
                asking.expect(3);
            }
            assert_eq!(connection.take_outbox(), [Control::AskedAgain], "{known_after}");
        }
        let connection = ConnectionState::new(PeerTimeouts::default(), None);
        AskingAgain::new(&connection).expect(0);
        assert_eq!(connection.take_outbox(), [Control::AskedAgain], "there are none");
    }
}
