//! A connection of a caller on its way to the task that serves the caller.

use std::net::SocketAddr;

use crate::{
    security::Access,
    wire::{
        channel::Channel,
        credential::Credential,
        handshake::{CallerHello, SessionId},
    },
};

/// A connection of a caller that has authenticated itself, and that is to be told so.
pub(super) struct NewConnection {
    pub(super) channel: Channel,
    pub(super) credential: Credential,
    pub(super) hello: CallerHello,
    pub(super) peer: SocketAddr,
    /// The id by which it may go on after this connection.
    pub(super) session: Option<SessionId>,
    /// Whether it goes on with its calls on this one.
    pub(super) is_resumed: bool,
}

impl NewConnection {
    pub(super) fn access(&self) -> Access {
        self.credential.access
    }
}

impl std::fmt::Debug for NewConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewConnection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
