//! What a node keeps while its connection to the master is broken: the calls that run, and replies that the master may not
//! have. On the next connection the master asks for them again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    active_calls::ActiveCalls, batch::Batches, current_connection::CurrentConnection, nested::NestingOfSession,
    register::Registered, state::NodeShared,
};
use crate::wire::{
    connection_state::ConnectionState,
    dial::Backoff,
    handshake::{SessionOfNode, SessionOffer},
};

/// The calls of a node, over all connections on which they go on. Dropping it cancels them.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) active: Arc<ActiveCalls>,
    pub(super) batches: Arc<Batches>,
    pub(super) connection: Arc<CurrentConnection>,
    pub(super) nesting: Arc<NestingOfSession>,
    /// What the master has said on the last connection, if it waits for nodes.
    offer: Option<SessionOffer>,
    /// How long the master may be silent before it notices that the connection is broken.
    silence: Duration,
    /// When the node gives up a session whose connection is broken.
    ends: Option<Instant>,
    /// How long it waits between its attempts to go on, from the break on.
    backoff: Backoff,
}

impl Session {
    fn new(node: &NodeShared) -> Self {
        let active = ActiveCalls::new(Arc::clone(&node.stale));
        let connection = Arc::new(CurrentConnection::default());
        let nesting = NestingOfSession::new(&node.nested, &active, &connection);
        let batches = Arc::default();
        Self {
            active,
            batches,
            connection,
            nesting,
            offer: None,
            silence: Duration::ZERO,
            ends: None,
            backoff: Backoff::default(),
        }
    }

    /// The session of a new connection: this one, if the master has resumed it. Ends the other one.
    pub(super) fn of_connection(
        before: Option<Self>,
        node: &NodeShared,
        registered: &Registered,
        connection: &Arc<ConnectionState>,
    ) -> Self {
        let is_resumed = registered.session.is_some_and(|offer| offer.is_resumed);
        let mut session = before.filter(|_| is_resumed).unwrap_or_else(|| Self::new(node));
        session.active.on_connected(registered.session.is_some());
        session.connection.set(Some(Arc::clone(connection)));
        (session.offer, session.silence, session.ends) = (registered.session, registered.silence, None);
        session
    }

    /// The connection has broken. `None` if the master does not wait for the node.
    pub(super) fn on_broken(mut self) -> Option<Self> {
        let offer = self.offer?;
        self.connection.set(None);
        // The master may notice later than the node, and waits from then on.
        self.ends = Some(Instant::now() + offer.keep() + self.silence);
        self.backoff = Backoff::default();
        Some(self)
    }

    /// What the master is to be told when the node registers again.
    pub(super) fn to_resume(&self) -> Option<SessionOfNode> {
        self.offer.map(|offer| SessionOfNode { id: offer.id, computing: self.active.computing() })
    }

    /// How long to wait before the next attempt to connect, if without the session it were `wait`: waits that have grown over
    /// earlier losses would take longer than the master waits.
    pub(super) fn next_wait(&mut self, wait: Duration) -> Duration {
        self.backoff.next(None).min(wait)
    }

    /// Waits until a session whose connection is broken is to be given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn expired(&self) {
        match self.ends {
            Some(ends) => sleep_until(ends).await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.set(None);
        self.active.end();
        // After the calls were cancelled: a batch that begins meanwhile sees one or the other.
        self.batches.close_all();
    }
}
