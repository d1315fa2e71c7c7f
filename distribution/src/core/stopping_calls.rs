//! Calls that have ended while their handlers run.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::host::Time;
use crate::{
    id::{CallId, NodeId},
    service::{metadata::Metadata, method::MethodInfo, state::Held},
    wire::frame::call::Trace,
};

/// A call that has ended, and whose handler runs.
#[derive(Debug)]
pub(super) struct StoppingCall {
    pub(super) method: Arc<MethodInfo>,
    pub(super) node: NodeId,
    pub(super) attempt: u32,
    /// How many calls were submitted before it.
    pub(super) number: u64,
    /// When its caller made it.
    pub(super) made: Time,
    /// When the handler was told to stop.
    pub(super) since: Time,
    pub(super) size: usize,
    pub(super) metadata: Metadata,
    pub(super) trace: Option<Trace>,
    /// Dropped when the handler has returned.
    pub(super) _held: Option<Held>,
    pub(super) count: u32,
    pub(super) failed_attempts: u32,
}

/// All such calls. Ids are never used again, so none of them is the id of a call that has not ended.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    calls: BTreeMap<CallId, StoppingCall>,
    /// Their ids by their numbers.
    order: BTreeMap<u64, CallId>,
}

impl Stopping {
    pub(super) fn insert(&mut self, id: CallId, call: StoppingCall) {
        self.order.insert(call.number, id);
        self.calls.insert(id, call);
    }

    /// Removes a call, if this attempt on this node is the one that was told to stop.
    pub(super) fn remove(&mut self, id: CallId, node: NodeId, attempt: u32) -> Option<StoppingCall> {
        let call = if self.is_stopping(id, node, attempt) { self.calls.remove(&id) } else { None }?;
        self.order.remove(&call.number);
        Some(call)
    }

    /// Whether this attempt was told to stop.
    pub(super) fn is_stopping(&self, id: CallId, node: NodeId, attempt: u32) -> bool {
        self.get(id).is_some_and(|call| (call.node, call.attempt) == (node, attempt))
    }

    pub(super) fn get(&self, id: CallId) -> Option<&StoppingCall> {
        self.calls.get(&id)
    }

    /// Those that were submitted after the call with this number, the oldest first.
    pub(super) fn after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, CallId)> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).map(|(number, id)| (*number, *id))
    }

    /// All of them, for the sanity check.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (CallId, &StoppingCall)> {
        self.calls.iter().map(|(id, call)| (*id, call))
    }
}
