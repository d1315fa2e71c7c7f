//! How many calls of a batch a node may start.
//!
//! The calls of a batch travel together. If the node is lost, nobody knows how many of them it had started. So a node
//! starts only as many as the master has granted, and asks for more before it needs them. Calls that were not granted
//! were not started, and go to other nodes as if they had never been sent.

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

/// The calls granted at a time are expected to run for this long: a quarter of the time that a batch is made for.
/// Meanwhile the node asks for more and gets an answer. This much work is lost at most if a node dies.
const GRANT_TIME: Duration = Duration::from_micros(2500);

impl<H: Host> Core<H> {
    /// How many calls of a batch a node is granted at first, and the least that it is granted each further time. At
    /// least a quarter, so that a node asks a few times only, however long the calls take.
    pub(super) fn grant(&self, method: MethodId, count: u32) -> u32 {
        let each = self.expected_run_time(method);
        let calls = GRANT_TIME.as_nanos() / each.as_nanos().max(1);
        u32::try_from(calls).unwrap_or(u32::MAX).clamp(count.div_ceil(4), count)
    }

    /// A node asks to start more calls of a batch: the first `upto` of them.
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
        // Calls that were given back are on their way to other nodes. The steps have a least size, so that a node which
        // asks without end gets a few answers only.
        let upto = upto.max(call.granted.saturating_add(step)).min(count);
        if upto > call.granted && call.kept.is_none() {
            // Noted before the node is told, because the node may start them and die at any time after that.
            call.granted = upto;
            if let Some(node) = self.registry.node(node) {
                effects.push(Effect::Grant { link: node.link.clone(), id, attempt, upto });
            }
        }
    }
}
