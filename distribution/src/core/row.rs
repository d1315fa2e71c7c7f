//! A node as it was when it was listed. Taken under the core's lock without copying a text; the texts are copied behind it.

use std::sync::Arc;

use super::{Time, card::NodeProfile};
use crate::{
    id::NodeIdentity,
    view::{NodeEvent, NodeInfo, NodeState, ServiceInfo},
};

#[derive(Debug)]
pub(crate) struct NodeSnapshot {
    pub(super) identity: NodeIdentity,
    pub(super) card: Arc<NodeProfile>,
    pub(super) services: Arc<[ServiceInfo]>,
    pub(super) state: NodeState,
    pub(super) share: f64,
    pub(super) in_flight: usize,
    pub(super) answered: u64,
    pub(super) uncallable: Arc<[String]>,
    pub(super) blocked_async: u32,
    pub(super) joined: Time,
    pub(super) silent_for: Time,
}

impl NodeSnapshot {
    /// What a new subscriber to events is told of it.
    pub(crate) fn present(&self) -> NodeEvent {
        let principal = self.card.principal.clone();
        NodeEvent::Present { node: self.identity.clone(), principal, state: self.state }
    }

    /// What people see of it.
    pub(crate) fn info(&self, now: Time) -> NodeInfo {
        NodeInfo {
            id: self.identity.id,
            name: Arc::clone(&self.identity.name),
            addr: self.identity.addr,
            labels: self.card.labels.clone(),
            services: Arc::clone(&self.services),
            principal: self.card.principal.clone(),
            slots: self.card.slots,
            state: self.state,
            share: self.share,
            in_flight: self.in_flight,
            answered: self.answered,
            uncallable: self.uncallable.to_vec(),
            blocked_async: self.blocked_async,
            registered_for: now.saturating_sub(self.joined),
            silent_for: self.silent_for,
        }
    }
}
