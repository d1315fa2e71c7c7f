//! The core's handle of a connection: what the core sends to a node goes in here, and the connection's task takes it out.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use tokio_util::sync::CancellationToken;

use super::awaited_profile::Profiles;
use crate::{
    core::{HostLink, Time},
    error::GoneReason,
    id::CallId,
    service::{method::MethodId, state::CallState},
    wire::{
        connection_state::ConnectionState,
        transport::{AskingAgain, SendPermit},
    },
};

/// A handle of the connection to a node. Clones are cheap and mean the same connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Bounded by what the core sends to one node: its slots and a little more, and its async limit.
    pub(super) requests: UnboundedSender<NodeRequest>,
    /// What was sent on an earlier connection and is asked for again.
    pub(super) asking_again: Arc<AskingAgain>,
    /// The connection's state and its outgoing control frames.
    pub(super) state: Arc<ConnectionState>,
    /// The core's time zero.
    pub(super) origin: Instant,
    /// The profile that the node was asked for.
    pub(super) profiles: Arc<Profiles>,
    close_reason: Arc<Mutex<Option<GoneReason>>>,
    closed: CancellationToken,
}

impl Link {
    /// Requests come out at the other end of `requests`. `closed` also ends when the master does.
    pub(super) fn new(
        requests: UnboundedSender<NodeRequest>,
        state: Arc<ConnectionState>,
        origin: Instant,
        closed: CancellationToken,
    ) -> Self {
        let asking_again = AskingAgain::new(&state);
        let profiles = Arc::default();
        Self { requests, asking_again, state, origin, profiles, close_reason: Arc::default(), closed }
    }

    /// Ends the connection for this reason.
    pub(super) fn close(&self, reason: GoneReason) {
        *self.close_reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.closed.cancel();
    }

    /// Waits until the connection is to be closed, and returns why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn closed(&self) -> GoneReason {
        self.closed.cancelled().await;
        let reason = self.close_reason.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Without a reason of its own the connection ends with the master.
        reason.unwrap_or(GoneReason::Shutdown)
    }
}

impl HostLink for Link {
    fn heard(&self) -> Time {
        self.state.heard().saturating_duration_since(self.origin)
    }

    fn violation(&self, stall_grace: Time) -> Option<&'static str> {
        self.state.violation(self.origin + stall_grace)
    }
}

/// A request on its way to the node.
#[derive(Debug)]
pub(super) enum NodeRequest {
    Attempt(Attempt),
    /// Asks again for the response to an attempt that was sent on an earlier connection.
    AskAgain {
        id: CallId,
        attempt: u32,
        method: MethodId,
        permit: Arc<dyn SendPermit>,
    },
}

/// An attempt at a call on its way to the node.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) call: Arc<CallState>,
    pub(super) id: CallId,
    pub(super) attempt: u32,
    /// How many calls of a batch the node may start before it asks.
    pub(super) granted: u32,
    pub(super) deadline: Option<Instant>,
}
