//! The session of a peer: what lets it go on with its calls on another connection after the first one has broken.
//!
//! An id authenticates nobody. A peer proves itself on each connection, and the master resumes a session only for the
//! credential that it was begun with. Each id is used once: with each connection the session gets another one.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    config::{from_micros, to_micros},
    hash::hash_of_secret,
};

/// The random number by which a peer names its session.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionId(u128);

impl SessionId {
    /// An id that nobody can guess.
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    /// What the master keeps of it, so that the memory of a master shows no ids.
    pub(crate) fn digest(self) -> SessionDigest {
        SessionDigest(hash_of_secret(&self.0.to_le_bytes()))
    }

    #[cfg(any(test, feature = "fuzzing", feature = "simulation"))]
    pub(crate) fn new(id: u128) -> Self {
        Self(id)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// The SHA-256 hash of a session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionDigest([u8; 32]);

/// The ids of a session at the master: that of its connection, and the one that was named to begin it. The peer may not have
/// read the new id before the connection broke; so the old one is valid until something comes from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownSession {
    current: SessionDigest,
    named: Option<SessionDigest>,
}

impl KnownSession {
    pub(crate) fn new(id: SessionDigest) -> Self {
        Self { current: id, named: None }
    }

    /// Whether a peer may name it so.
    pub(crate) fn is_named(&self, id: SessionDigest) -> bool {
        self.ids().any(|known| known == id)
    }

    /// The id that the peer was given last.
    pub(crate) fn newest(&self) -> SessionDigest {
        self.current
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionDigest> + use<> {
        [Some(self.current), self.named].into_iter().flatten()
    }

    /// The session goes on by another id, after it was named so.
    pub(crate) fn renewed(self, named: SessionDigest, next: SessionDigest) -> Self {
        Self { current: next, named: Some(named) }
    }

    /// Something has come from the peer, which has read its id then.
    pub(crate) fn on_heard(&mut self) {
        self.named = None;
    }
}

/// What the master tells a peer of the session that begins or goes on with this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionOffer {
    /// The id to name when the connection has broken.
    pub(crate) id: SessionId,
    /// How long the master waits then, in microseconds.
    keep: u64,
    /// Whether it is the session that the peer has named, with its calls.
    pub(crate) is_resumed: bool,
}

impl SessionOffer {
    pub(crate) fn new(id: SessionId, keep: Duration, is_resumed: bool) -> Self {
        Self { id, keep: to_micros(keep), is_resumed }
    }

    /// How long the master waits for the peer once the connection has broken.
    pub(crate) fn keep(&self) -> Duration {
        from_micros(self.keep)
    }
}

/// The session that a node wants to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionOfNode {
    pub(crate) id: SessionId,
    /// Slots that its handlers hold: they count as [`busy`](super::Registration::busy) if the session is not resumed.
    pub(crate) computing: u32,
}
