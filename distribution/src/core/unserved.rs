//! What is known about a queue while no node serves its calls.

use std::{collections::BTreeSet, sync::Arc};

use super::{host::Time, queue_ids::Seq};
use crate::service::compatibility::Incompatibility;

/// Since when no node serves a queue, and which calls have been added since.
#[derive(Debug)]
pub(super) struct Unserved {
    pub(super) since: Time,
    /// The last place in the queue at that time. Calls that were queued later may have places before it.
    pub(super) last: Seq,
    /// Calls before this place have been looked at. Of those queued until `since`, only the later ones are left.
    pub(super) first: Seq,
    /// Calls that were queued later, in the order of time; some may have left. Not an array, which would be copied as
    /// it grows.
    pub(super) later: BTreeSet<(Time, Seq)>,
    /// Why no node serves the calls, once the first of them has ended for it.
    pub(super) why: Option<Arc<UnservedReason>>,
}

/// Why no node serves calls, found out once for all calls of a queue.
#[derive(Debug)]
pub(super) enum UnservedReason {
    /// Nodes serve the service, but not this method in the same form.
    Incompatible(Incompatibility),
    /// No node serves the service; the text says which nodes there are.
    NoNode(String),
}
