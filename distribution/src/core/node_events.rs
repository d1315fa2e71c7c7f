//! Events of nodes: they join, send heartbeats, drain and go.

use std::{net::SocketAddr, sync::Arc};

use super::{
    balance::most_in_flight,
    deferred::{DeferredTask, DepartedNode},
    effect::{Effect, Effects},
    host::{Host, Time},
    queue_ids::QueueId,
    registration::{MethodSet, NodeProfile},
    slow_start::Window,
    state::Core,
};
use crate::{
    error::GoneReason,
    id::{NodeId, NodeIdentity},
    view::{NodeEvent, NodeState},
    wire::Load,
};

impl<H: Host> Core<H> {
    /// A node id that was never used before.
    pub(crate) fn new_node_id(&mut self) -> NodeId {
        self.next_node += 1;
        NodeId::new(self.settings.epoch, self.next_node)
    }

    /// A node has registered, with this id. If its process is registered already, the old registration ends.
    pub(crate) fn on_node_joined(
        &mut self,
        now: Time,
        id: NodeId,
        (profile, method_set): (Arc<NodeProfile>, Arc<MethodSet>),
        addr: SocketAddr,
        link: H::Link,
        effects: &mut Effects<H>,
    ) {
        let old = self.registry.node_of_process(profile.instance);
        self.unserved_reasons.clear();
        let identity = NodeIdentity { id, name: Arc::clone(&profile.name), addr };
        let principal = profile.principal.clone();
        let window = Window::new(self.settings.slow_start, most_in_flight(&profile));
        let is_new_group = self.registry.join(now, identity.clone(), (profile, method_set), link, window);
        if is_new_group {
            self.registry.list_queues_for(id, &self.queues);
        }
        let is_cordoned = self.registry.node(id).is_some_and(|node| node.is_cordoned);
        effects.push(Effect::Publish(NodeEvent::Joined { node: identity.clone(), principal }));
        if is_cordoned {
            effects.push(Effect::Publish(NodeEvent::Cordoned { node: identity }));
        }
        self.mark_served_by(id);
        self.remember_crashes(now, id, effects);
        self.review_lapsed();
        // Only now, so that the calls of the old registration find the new one.
        if let Some(old) = old {
            self.cut_off(now, old, GoneReason::Replaced, effects);
        }
        self.end_absences_of_predecessors(now, id, effects);
        self.feed(now, id, effects);
        if !self.queues.lapsed.is_empty() {
            self.run_deferred(now, effects);
        }
    }

    /// A node has sent a heartbeat, with its load.
    pub(crate) fn on_heartbeat(&mut self, now: Time, id: NodeId, load: Load, effects: &mut Effects<H>) {
        self.on_session_used(id);
        if let Some(node) = self.registry.node_mut(id) {
            node.blocked_async = load.blocked;
        }
        let had_more = self.registry.node(id).is_some_and(|node| node.busy > load.stale);
        if self.registry.set_busy(id, load.stale) && had_more {
            self.feed(now, id, effects);
        }
    }

    /// A node wants no new calls.
    pub(crate) fn on_node_draining(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if node.state == NodeState::Draining {
            return;
        }
        let identity = node.identity.clone();
        let heads = std::mem::take(&mut node.heads);
        effects.push(Effect::Publish(NodeEvent::Draining { node: identity.clone() }));
        let served = self.registry.node(id).map(|node| self.served_by(node)).unwrap_or_default();
        self.registry.set_state(id, NodeState::Draining);
        self.close_queues(&heads, &format!("it has to run on {identity}, which is leaving"));
        self.after_departure(now, &served, effects);
        self.tell_drained(id, effects);
    }

    /// A node is to be disconnected, for this reason. `false` if it is not registered.
    pub(crate) fn on_disconnect_requested(
        &mut self,
        now: Time,
        id: NodeId,
        reason: GoneReason,
        effects: &mut Effects<H>,
    ) -> bool {
        let is_here = self.registry.node(id).is_some();
        self.cut_off(now, id, reason, effects);
        is_here
    }

    pub(super) fn cut_off(&mut self, now: Time, id: NodeId, reason: GoneReason, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node(id) else { return };
        effects.push(Effect::Disconnect { link: node.link.clone(), reason: reason.clone() });
        self.on_node_gone(now, id, reason, effects);
    }

    /// A node is gone for good: takes it out of the registry, and decides about its calls.
    pub(crate) fn on_node_gone(&mut self, now: Time, id: NodeId, reason: GoneReason, effects: &mut Effects<H>) {
        let served = self.registry.node(id).map(|node| self.served_by(node)).unwrap_or_default();
        let Some(mut node) = self.registry.leave(id) else { return };
        self.forget_absence(id, node.absence.take());
        self.note_crash(now, &node, &reason);
        let in_flight = node.calls;
        self.timeline.finish(now, id, &mut node.rows, true);
        self.count_gone_node(node.counters.take(), in_flight);
        effects.push(Effect::Publish(NodeEvent::Gone {
            node: node.identity.clone(),
            reason: reason.clone(),
            in_flight,
        }));
        self.close_queues(&node.heads, &format!("it has to run on {}, which {reason}", node.identity));
        let calls = node.attempts_in_flight();
        if !calls.is_empty() {
            let from = Arc::new(DepartedNode { identity: node.identity.clone(), source: node.source, reason });
            self.departed.insert(id, Arc::clone(&from));
            self.deferred.push(DeferredTask::HandleLost { calls, from });
        }
        self.after_departure(now, &served, effects);
    }

    /// After a node stopped taking calls: calls that wait may have lost their last node, or may now go to nodes that
    /// they avoid.
    fn after_departure(&mut self, now: Time, served: &[QueueId], effects: &mut Effects<H>) {
        self.unserved_reasons.clear();
        self.mark_unserved_of(now, served);
        self.place_avoiding();
        self.feed_ejected();
        self.run_deferred(now, effects);
    }

    pub(super) fn tell_drained(&mut self, id: NodeId, effects: &mut Effects<H>) {
        if let Some(node) = self.registry.node(id) {
            if node.state == NodeState::Draining && node.in_flight.is_empty() {
                effects.push(Effect::ConfirmDrained { link: node.link.clone() });
            }
        }
    }
}
