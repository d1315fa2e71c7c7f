//! Which nodes are dead: those that are silent, unless the master itself was stalled.
//!
//! All nodes are looked at four times in a heartbeat, some at a time, so that many nodes do not hold the lock for long.

use super::{
    balance::expected_run_time,
    deferred::DeferredTask,
    effect::{Effect, Effects},
    host::{Host, HostLink as _, Time},
    state::Core,
};
use crate::{
    error::GoneReason,
    id::NodeId,
    view::{NodeEvent, NodeState},
};

/// A node that has missed this many heartbeats gets no new calls.
pub(crate) const SUSPECT_AFTER: u32 = 3;

/// A node that has missed this many heartbeats is gone.
pub(crate) const GONE_AFTER: u32 = 6;

/// All nodes are looked at this many times in a heartbeat.
const ROUNDS: u32 = 4;

impl<H: Host> Core<H> {
    /// Looks at how long some of the nodes have been silent, and whether they make progress with their calls.
    pub(super) fn watch(&mut self, now: Time, effects: &mut Effects<H>) {
        let heartbeat = self.settings.heartbeat;
        // If a tick is a whole heartbeat late, the master was stalled, and has not read what nodes sent meanwhile.
        if now.saturating_sub(self.liveness.last_tick) > heartbeat {
            self.liveness.stall_grace = now;
        }
        self.liveness.last_tick = now;
        if self.liveness.cursor.is_none() {
            if now < self.liveness.next_round {
                return;
            }
            self.liveness.next_round = now + heartbeat / ROUNDS;
            self.liveness.cursor = Some(None);
            self.liveness.total = 0;
            self.liveness.silent.clear();
        }
        let after = self.liveness.cursor.flatten();
        let slice: Vec<NodeId> =
            self.registry.nodes_after(after).take(self.settings.slice).map(|node| node.identity.id).collect();
        for id in &slice {
            self.look_at(now, *id, effects);
        }
        if slice.len() == self.settings.slice {
            self.liveness.cursor = Some(slice.last().copied());
        } else {
            self.liveness.cursor = None;
            self.cut_off_silent(now);
        }
    }

    /// When the next look is due.
    pub(super) fn next_watch(&self) -> Time {
        match self.liveness.cursor {
            Some(_) => Time::ZERO,
            None => self.liveness.next_round,
        }
    }

    fn look_at(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        // It has no connection, and a time of its own.
        let Some(node) = self.registry.node_mut(id).filter(|node| node.absence.is_none()) else { return };
        if let Some(violation) = node.link.violation(self.liveness.stall_grace) {
            self.deferred.push(DeferredTask::CutOff(id, GoneReason::Violation(violation.into())));
            return;
        }
        self.liveness.total += 1;
        let heard = node.link.heard().max(node.joined).max(self.liveness.stall_grace);
        let silent_for = now.saturating_sub(heard);
        node.silent_for = silent_for;
        if node.is_stuck(now) {
            node.stuck = true;
            effects.push(Effect::Retract { link: node.link.clone() });
            self.registry.reindex(id);
        }
        let Some(node) = self.registry.node_mut(id) else { return };
        let is_heard = node.state == NodeState::Alive && silent_for < self.settings.heartbeat * SUSPECT_AFTER;
        let run_time = |method| expected_run_time(&self.run_times, method);
        if is_heard && node.window.on_look(now, self.settings.heartbeat, node.counts, run_time) {
            self.registry.reindex(id);
            self.deferred.push(DeferredTask::Feed(id));
        }
        let Some(node) = self.registry.node(id) else { return };
        if silent_for >= self.settings.heartbeat * SUSPECT_AFTER {
            if node.state == NodeState::Alive {
                effects.push(Effect::Publish(NodeEvent::Suspect { node: node.identity.clone(), silent_for }));
                self.registry.set_state(id, NodeState::Suspect);
            }
            self.liveness.silent.push(id);
        } else if node.state == NodeState::Suspect {
            effects.push(Effect::Publish(NodeEvent::Recovered { node: node.identity.clone() }));
            self.registry.set_state(id, NodeState::Alive);
            self.deferred.push(DeferredTask::Feed(id));
        }
    }

    /// Disconnects the nodes that this round has found silent for too long.
    fn cut_off_silent(&mut self, now: Time) {
        // If more than half of at least three nodes are silent at the same time, the cause may be the master or its
        // network. Then they get twice the time.
        let total = self.liveness.total;
        let most = total >= 3 && self.liveness.silent.len() * 2 > total;
        let window = self.settings.heartbeat * if most { GONE_AFTER * 2 } else { GONE_AFTER };
        for id in std::mem::take(&mut self.liveness.silent) {
            let Some(node) = self.registry.node(id) else { continue };
            let silent_for = now.saturating_sub(node.link.heard().max(node.joined).max(self.liveness.stall_grace));
            if silent_for >= window {
                self.deferred.push(DeferredTask::CutOff(id, GoneReason::Silent(silent_for)));
            }
        }
    }
}
