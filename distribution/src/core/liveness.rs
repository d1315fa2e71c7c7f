//! Which nodes are dead: those that are silent, unless it is the master that was deaf.

use super::{Core, Effect, Effects, Host, LinkHandle, Time};
use crate::{
    error::GoneReason,
    id::NodeId,
    view::{NodeEvent, NodeState},
};

/// A node that has missed this many heartbeats gets no new calls.
pub(crate) const SUSPECT_AFTER: u32 = 3;

/// A node that has missed this many is gone.
pub(crate) const GONE_AFTER: u32 = 6;

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last_look: Time,
    /// Silence before this does not count: the master itself was stalled then.
    amnesty: Time,
}

impl<H: Host> Core<H> {
    /// Looks at how long each node has been silent, and whether it gets on with what it has. Meant to be called every quarter of a heartbeat.
    pub(super) fn watch(&mut self, now: Time, effects: &mut Effects<H>) {
        let heartbeat = self.settings.heartbeat;
        // A look that comes a whole heartbeat late was held up, and so was the reading of what the nodes
        // sent meanwhile.
        if now.saturating_sub(self.liveness.last_look) > heartbeat {
            self.liveness.amnesty = now;
        }
        self.liveness.last_look = now;

        let mut silent = Vec::new();
        for id in self.registry.ids() {
            let Some(node) = self.registry.node_mut(id) else { continue };
            if let Some(complaint) = node.link.complaint(self.liveness.amnesty) {
                self.cut_off(now, id, GoneReason::Violation(complaint.into()), effects);
                continue;
            }
            let heard = node.link.heard().max(node.joined).max(self.liveness.amnesty);
            node.silent_for = now.saturating_sub(heard);
            let (silent_for, state, identity) = (node.silent_for, node.state, node.identity.clone());
            if silent_for >= heartbeat * SUSPECT_AFTER {
                if state == NodeState::Alive {
                    self.registry.set_state(id, NodeState::Suspect);
                    effects.push(Effect::Event(NodeEvent::Suspect { node: identity, silent_for }));
                }
                silent.push((id, silent_for));
            } else if state == NodeState::Suspect {
                self.registry.set_state(id, NodeState::Alive);
                effects.push(Effect::Event(NodeEvent::Recovered { node: identity }));
                self.feed(now, id, effects);
            }
        }
        for id in self.registry.mark_stuck(now) {
            if let Some(node) = self.registry.node(id) {
                effects.push(Effect::Retract { link: node.link.clone() });
            }
        }
        // More than half of at least three silent together speaks against the master or its network, so
        // that they are given one window more.
        let total = self.registry.len();
        let most = total >= 3 && silent.len() * 2 > total;
        let window = heartbeat * if most { GONE_AFTER * 2 } else { GONE_AFTER };
        for (id, silent_for) in silent {
            if silent_for >= window {
                self.cut_off(now, id, GoneReason::Silent(silent_for), effects);
            }
        }
    }

    fn cut_off(&mut self, now: Time, id: NodeId, reason: GoneReason, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node(id) else { return };
        effects.push(Effect::Disconnect { link: node.link.clone(), reason: reason.clone() });
        self.gone(now, id, reason, effects);
    }
}
