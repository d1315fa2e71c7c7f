//! What an administrator does: cordons, uncordons, drains and kicks nodes, and cancels calls.
//!
//! A cordoned node gets no new calls, and keeps those that it has. Calls that only cordoned nodes could take wait: an
//! administrator who cordons a node is expected to uncordon it, or to start another. So a cordoned node still *serves*;
//! where a call could go to an *open* node, cordoned nodes do not count.

use super::{
    call::CallLocation,
    counters::Ended,
    effect::{Effect, Effects},
    host::{Host, HostCall as _, Time},
    state::Core,
};
use crate::{
    error::{AdminError, CallError, Execution, GoneReason},
    id::{CallId, NodeId, NodeIdentity},
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

    /// A node, and the connection to it.
    pub(crate) fn link_of(&self, id: NodeId) -> Option<(NodeIdentity, H::Link)> {
        self.registry.node(id).map(|node| (node.identity.clone(), node.link.clone()))
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

    /// A call is to end, by the will of this administrator.
    ///
    /// # Errors
    ///
    /// If it has ended, or is a part of a batch. The calls of a batch share one handler's thread and one reply, so one of
    /// them cannot be stopped without the others.
    pub(crate) fn on_cancel_requested(
        &mut self,
        now: Time,
        id: CallId,
        by: &str,
        effects: &mut Effects<H>,
    ) -> Result<(), AdminError> {
        let Some(call) = self.remove(id) else { return Err(self.why_not_cancelled(id)) };
        let is_sent = matches!(call.location, CallLocation::InFlight(_)) && !call.handle.withdraw(call.attempt);
        let execution = if is_sent || call.may_have_run() { Execution::MayHaveRun } else { Execution::NotRun };
        let error = CallError::Cancelled { call: call.method.name().into(), by: by.into(), execution };
        self.count_end(&call, Ended::Cancelled, call.count());
        effects.push(Effect::End {
            call: call.handle.clone(),
            end: Err(error.with_id(Some(id))),
            failed_attempts: call.failed_attempts.clone(),
        });
        self.stop(now, id, &call, effects);
        self.defer_nested(id);
        self.run_deferred(now, effects);
        Ok(())
    }

    fn why_not_cancelled(&self, call: CallId) -> AdminError {
        let stopping = self.stopping.get(call).and_then(|stopping| self.identity_of(stopping.node));
        match (stopping, self.calls.batch_with(call)) {
            (Some(node), _) => AdminError::AlreadyEnded { call, node },
            (None, Some((batch, entry))) => AdminError::InBatch { call, batch, count: entry.count() },
            (None, None) => AdminError::UnknownCall { call },
        }
    }

    fn registered(&self, id: NodeId) -> Result<NodeIdentity, AdminError> {
        let node = self.registry.node(id).map(|node| node.identity.clone());
        node.ok_or(AdminError::UnknownNode { node: id })
    }
}
