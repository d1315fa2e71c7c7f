//! What an administrator does with nodes: cordon, uncordon, drain and kick.
//!
//! A cordoned node gets no new calls, and keeps those that it has. Calls that only cordoned nodes could take wait: an
//! administrator who cordons a node is expected to uncordon it, or to start another. So a cordoned node still *serves*;
//! where a call could go to an *open* node, cordoned nodes do not count.

use super::{
    effect::{Effect, Effects},
    host::{Host, Time},
    state::Core,
};
use crate::{
    error::{AdminError, GoneReason},
    id::{NodeId, NodeIdentity},
    view::{NodeEvent, NodeState},
};

impl<H: Host> Core<H> {
    /// A node is to get no new calls, or to get them again.
    ///
    /// # Errors
    ///
    /// If it is not registered.
    pub(crate) fn on_cordon_requested(
        &mut self,
        now: Time,
        id: NodeId,
        is_cordoned: bool,
        effects: &mut Effects<H>,
    ) -> Result<(), AdminError> {
        let node = self.registered(id)?;
        if self.registry.node(id).is_some_and(|node| node.is_cordoned == is_cordoned) {
            return Ok(());
        }
        self.registry.set_cordoned(id, is_cordoned);
        if is_cordoned {
            effects.push(Effect::Publish(NodeEvent::Cordoned { node }));
            self.move_affine(id, "its node is cordoned");
            self.place_avoiding();
            self.feed_ejected();
        } else {
            effects.push(Effect::Publish(NodeEvent::Uncordoned { node }));
            self.review_lapsed();
            self.feed(now, id, effects);
        }
        self.run_deferred(now, effects);
        Ok(())
    }

    /// A node is to finish its calls and end.
    ///
    /// # Errors
    ///
    /// If it is not registered.
    pub(crate) fn on_drain_requested(
        &mut self,
        now: Time,
        id: NodeId,
        effects: &mut Effects<H>,
    ) -> Result<(), AdminError> {
        self.registered(id)?;
        // The node is told before it can be told that it has no calls left.
        if let Some(node) = self.registry.node(id).filter(|node| node.state != NodeState::Draining) {
            effects.push(Effect::RequestDrain { link: node.link.clone() });
        }
        self.on_node_draining(now, id, effects);
        Ok(())
    }

    /// A node is to be disconnected, and its calls are to count it as one that may have died of them.
    ///
    /// # Errors
    ///
    /// If it is not registered.
    pub(crate) fn on_kick_requested(
        &mut self,
        now: Time,
        id: NodeId,
        effects: &mut Effects<H>,
    ) -> Result<(), AdminError> {
        self.registered(id)?;
        self.cut_off(now, id, GoneReason::Kicked, effects);
        Ok(())
    }

    fn registered(&self, id: NodeId) -> Result<NodeIdentity, AdminError> {
        let node = self.registry.node(id).map(|node| node.identity.clone());
        node.ok_or(AdminError::UnknownNode { node: id })
    }
}
