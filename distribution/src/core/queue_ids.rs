//! The names of queues, services and places in a queue.

/// A place in the queues: calls are taken in this order.
pub(super) type Seq = u64;

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

/// A service, as services take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServiceId(pub(super) u32);
