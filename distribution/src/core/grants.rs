//! How many calls of a batch its node may start.
//!
//! The calls of a batch travel together, and if its node is lost, nobody knows how many it had started. So a node starts
//! only as many as the master has granted, and asks for more before it needs them. What was not granted was not started,
//! and goes elsewhere as if it had never been sent.

use std::time::Duration;

use super::{
    effect::{Effect, Effects},
    host::Host,
    state::Core,
};
use crate::{
    id::{CallId, NodeId},
    service::method::MethodId,
};

/// What a node is granted of a batch at a time is expected to take this long, a quarter of what a batch is made
/// for. In this time the node asks for more and is answered, and this much a node that dies can cost.
const GRANT_TIME: Duration = Duration::from_micros(2500);

impl<H: Host> Core<H> {
    /// How many calls of a batch a node is granted at first, and by how many more each time at least. A quarter at
    /// least, so that a node asks a few times at most, whatever the calls take.
    pub(super) fn grant(&self, method: MethodId, count: u32) -> u32 {
        let each = self.expected_run_time(method);
        let calls = GRANT_TIME.as_nanos() / each.as_nanos().max(1);
        u32::try_from(calls).unwrap_or(u32::MAX).clamp(count.div_ceil(4), count)
    }

    /// A node is about to start more calls of a batch than it may.
    pub(crate) fn on_grant_requested(
        &mut self,
        node: NodeId,
        id: CallId,
        attempt: u32,
        upto: u32,
        effects: &mut Effects<H>,
    ) {
        if !self.is_current(id, node, attempt) {
            return;
        }
        let Some(call) = self.calls.get(&id) else { return };
        let count = call.count();
        let step = self.grant(call.method.id(), count);
        let Some(call) = self.calls.get_mut(&id) else { return };
        // What was given back is on its way to other nodes. And in steps of a size, so that a node which asks
        // without end is answered a few times.
        let upto = upto.max(call.granted.saturating_add(step)).min(count);
        if upto > call.granted && call.kept.is_none() {
            // In the books before it is said: the node dies after it has started them, or before.
            call.granted = upto;
            if let Some(node) = self.registry.node(node) {
                effects.push(Effect::Grant { link: node.link.clone(), id, attempt, upto });
            }
        }
    }
}
