//! Slots of handlers that wait for nested calls. Such a handler lends its slot, so that no depth of nesting can leave all
//! slots with handlers that wait for each other.

use super::{
    effect::Effects,
    host::{Host, Time},
    state::Core,
};
use crate::{
    id::{CallId, NodeId},
    security::Principal,
};

impl<H: Host> Core<H> {
    /// The node of the process with this number, if it is registered.
    pub(crate) fn node_of_process(&self, instance: u128) -> Option<NodeId> {
        self.registry.node_of_process(instance)
    }

    /// The credential with which a node registered.
    pub(crate) fn principal_of(&self, node: NodeId) -> Option<&Principal> {
        self.registry.node(node).map(|node| &node.profile.principal)
    }

    /// Whether this node has this call, and nobody has given it up.
    pub(crate) fn runs_on(&self, call: CallId, node: NodeId) -> bool {
        use super::call::CallLocation::InFlight;
        self.calls.get(&call).is_some_and(|call| matches!(call.location, InFlight(its_node) if its_node == node))
    }

    /// The handler of this attempt waits for a nested call: its node can run another call meanwhile.
    pub(crate) fn on_slot_lent(
        &mut self,
        now: Time,
        node: NodeId,
        call: CallId,
        attempt: u32,
        effects: &mut Effects<H>,
    ) {
        if self.registry.lend(now, node, (call, attempt)) {
            self.feed(now, node, effects);
        }
    }

    /// The handler of this attempt goes on, and takes its slot again before the node starts another call.
    pub(crate) fn on_slot_resumed(&mut self, now: Time, node: NodeId, call: CallId, attempt: u32) {
        self.registry.resume(now, node, (call, attempt));
    }
}
