//! Ids of queues and services, and places in the order of calls.

/// The place of a call in the order in which the calls of a service are taken: its turn, and then the order of
/// submission. See [`turns`](super::turns).
pub(super) type Seq = u128;

/// A queue. Queues that were created later have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct QueueId(pub(super) u64);

impl QueueId {
    /// The id of no queue.
    pub(super) const NONE: Self = Self(u64::MAX);
    pub(super) const FIRST: Self = Self(0);

    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A service. Services take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServiceId(pub(super) u32);
