//! Calls that have ended while their handlers run.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::host::Time;
use crate::{
    id::{CallId, NodeId},
    service::{metadata::Metadata, method::MethodInfo, state::Held},
};

/// A call that has ended, and whose handler runs.
#[derive(Debug)]
pub(super) struct StoppingCall {
    pub(super) method: Arc<MethodInfo>,
    pub(super) node: NodeId,
    pub(super) attempt: u32,
    pub(super) submitted: Time,
    /// When the handler was told to stop.
    pub(super) since: Time,
    pub(super) size: usize,
    pub(super) metadata: Metadata,
    /// Dropped when the handler has returned.
    pub(super) _held: Option<Held>,
    pub(super) count: u32,
    pub(super) failed_attempts: u32,
}

/// All such calls. Ids are never used again, so none of them is the id of a call that has not ended.
#[derive(Debug, Default)]
pub(super) struct Stopping(BTreeMap<CallId, StoppingCall>);

impl Stopping {
    pub(super) fn insert(&mut self, id: CallId, call: StoppingCall) {
        self.0.insert(id, call);
    }

    /// Removes a call, if this attempt on this node is the one that was told to stop.
    pub(super) fn remove(&mut self, id: CallId, node: NodeId, attempt: u32) -> Option<StoppingCall> {
        if self.is_stopping(id, node, attempt) { self.0.remove(&id) } else { None }
    }

    /// Whether this attempt was told to stop.
    pub(super) fn is_stopping(&self, id: CallId, node: NodeId, attempt: u32) -> bool {
        self.get(id).is_some_and(|call| (call.node, call.attempt) == (node, attempt))
    }

    pub(super) fn get(&self, id: CallId) -> Option<&StoppingCall> {
        self.0.get(&id)
    }

    /// The ids of those after this one, in order.
    pub(super) fn after(&self, after: Option<CallId>) -> impl Iterator<Item = CallId> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range((from, Bound::Unbounded)).map(|(id, _)| *id)
    }

    /// All of them, for the sanity check.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (CallId, &StoppingCall)> {
        self.0.iter().map(|(id, call)| (*id, call))
    }
}
