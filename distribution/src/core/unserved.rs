//! What a queue keeps while no node serves its calls.

use std::{collections::BTreeSet, sync::Arc};

use super::{host::Time, queue_ids::Seq};
use crate::service::compatibility::Incompatibility;

/// Since when a queue has no node, and which calls have come since.
#[derive(Debug)]
pub(super) struct Unserved {
    pub(super) since: Time,
    /// Calls made since have this place or one behind it.
    pub(super) made_since: Seq,
    /// Of those made before, these and the ones behind are still to be looked at.
    pub(super) first: Seq,
    /// Calls that were queued later than that, in the order of time. Some may have gone. No array, which would be copied
    /// as it grows.
    pub(super) later: BTreeSet<(Time, Seq)>,
    /// What the calls are told, once the first of them was.
    pub(super) why: Option<Arc<UnservedReason>>,
}

/// Why calls of a queue cannot run, found out once for all of them.
#[derive(Debug)]
pub(super) enum UnservedReason {
    /// Nodes serve the service, and no method that is the same.
    Incompatible(Incompatibility),
    /// No node does, and what there is instead.
    NoNode(String),
}
