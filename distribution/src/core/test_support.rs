//! Queries and changes for tests and simulations only.

#[cfg(test)]
use super::queues::Scope;
#[cfg(feature = "simulation")]
use super::{call::CallEntry, node::Node};
use super::{
    call::CallLocation,
    host::{Host, Time},
    state::Core,
};
use crate::id::{CallId, NodeId};
#[cfg(test)]
use crate::service::{method::MethodId, options::Labels};

impl<H: Host> Core<H> {
    /// The node where a call is in flight.
    #[cfg(feature = "simulation")]
    pub(crate) fn node_of(&self, id: CallId) -> Option<NodeId> {
        match self.calls.get(&id)?.location {
            CallLocation::InFlight(node) => Some(node),
            _ => None,
        }
    }

    /// The node that a call in a queue waits for.
    #[cfg(test)]
    pub(super) fn waits_for(&self, id: CallId) -> Option<NodeId> {
        let CallLocation::Queued(queue) = self.calls.get(&id)?.location else { return None };
        match self.queues.get(queue)?.scope {
            Scope::Node { node, .. } => Some(node),
            Scope::Any { .. } => None,
        }
    }

    /// Makes an attempt look as if it was sent earlier.
    pub(crate) fn backdate(&mut self, node: NodeId, attempt: (CallId, u32), sent: Time) {
        let node = self.registry.node_mut(node);
        if let Some(in_flight) = node.and_then(|node| node.in_flight.get_mut(&attempt)) {
            in_flight.sent = in_flight.sent.min(sent);
        }
    }

    /// Strands a call, as a panic may.
    #[cfg(test)]
    pub(crate) fn strand(&mut self, id: CallId) {
        if let Some(mut call) = self.remove(id) {
            call.location = CallLocation::Unplaced;
            self.called.add(&call);
            self.calls.insert(id, call);
        }
    }

    /// Whether each group that serves the method has a whole view of these labels.
    #[cfg(test)]
    pub(super) fn has_view(&self, method: MethodId, labels: &Labels) -> bool {
        self.registry.has_views(method, labels)
    }

    /// Describes some calls that have not ended, and all nodes.
    #[cfg(feature = "simulation")]
    pub(crate) fn describe_unfinished(&self) -> String {
        let describe = |(id, call): (&CallId, &CallEntry<H>)| {
            let scope = match call.location {
                CallLocation::Queued(queue) => self.queues.get(queue).map(|queue| (&queue.scope, &queue.unserved)),
                _ => None,
            };
            format!(
                "{id} {} {:?} {scope:?} after {:?}; deferred {:?}",
                call.method.name().clone(),
                call.location,
                call.failed_attempts,
                self.deferred
            )
        };
        let nodes = self.registry.nodes().map(|node| {
            let Node { identity, state, health, busy, counts, .. } = node;
            format!("{identity}: {state:?} {health:?} {busy} busy, {counts:?}")
        });
        self.calls.iter().take(8).map(describe).chain(nodes).collect::<Vec<_>>().join("; ")
    }

    /// A call whose deadline has passed, if there is one. To be called after a tick.
    #[cfg(feature = "simulation")]
    pub(crate) fn overdue(&self, now: super::host::Time) -> Option<String> {
        let late = self.calls.iter().find(|(_, call)| call.deadline().is_some_and(|deadline| deadline <= now));
        late.map(|(id, _)| format!("call {id} has not ended at its deadline"))
    }
}
