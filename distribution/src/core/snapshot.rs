//! A node as it was when nodes were listed. It is taken under the core's lock without copying text; the text is copied later,
//! without the lock.

use std::sync::Arc;

use super::{
    host::{Host, Time},
    node::Node,
    registration::NodeProfile,
    registry::Registry,
    state::Core,
};
use crate::{
    id::{NodeId, NodeIdentity},
    service::{method::MethodId, options::Labels},
    view::{NodeEvent, NodeInfo, NodeState, ServiceInfo},
};

/// What is listed of a node.
#[derive(Debug)]
pub(crate) struct NodeSnapshot {
    pub(super) identity: NodeIdentity,
    pub(super) profile: Arc<NodeProfile>,
    pub(super) services: Arc<[ServiceInfo]>,
    pub(super) state: NodeState,
    pub(super) is_cordoned: bool,
    pub(super) held_slots: u32,
    pub(super) share: f64,
    pub(super) in_flight: usize,
    pub(super) answered: u64,
    pub(super) uncallable: Arc<[String]>,
    pub(super) blocked_async: u32,
    pub(super) joined: Time,
    pub(super) silent_for: Time,
}

impl NodeSnapshot {
    /// The event that a new subscriber gets for it.
    pub(crate) fn present(&self) -> NodeEvent {
        let principal = self.profile.principal.clone();
        let (state, is_cordoned) = (self.state, self.is_cordoned);
        NodeEvent::Present { node: self.identity.clone(), principal, state, is_ejected: self.share < 1.0, is_cordoned }
    }

    /// The node as users see it.
    pub(crate) fn info(&self, now: Time) -> NodeInfo {
        NodeInfo {
            id: self.identity.id,
            name: Arc::clone(&self.identity.name),
            addr: self.identity.addr,
            labels: self.profile.labels.clone(),
            services: Arc::clone(&self.services),
            principal: self.profile.principal.clone(),
            version: self.profile.release.is_known().then(|| self.profile.release.to_string()),
            slots: self.profile.slots,
            state: self.state,
            is_cordoned: self.is_cordoned,
            held_slots: self.held_slots,
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

impl<H: Host> Core<H> {
    /// The next nodes after `after`, in the order they joined, as many as can be listed under one hold of the lock.
    /// With a method and labels, only those that may get such calls. Also returns where to go on.
    pub(crate) fn node_snapshots(
        &self,
        after: Option<NodeId>,
        which: Option<(MethodId, &Labels)>,
    ) -> (Vec<NodeSnapshot>, Option<NodeId>) {
        let mut rows = Vec::new();
        let mut last = None;
        for node in self.registry.nodes_after(after).take(self.settings.slice) {
            last = Some(node.identity.id);
            let may_get = |(method, labels)| self.registry.is_serving(node, method, labels) && !node.is_cordoned;
            if which.is_none_or(may_get) {
                rows.push(self.registry.row(node));
            }
        }
        (rows, last)
    }
}

impl<H: Host> Registry<H> {
    /// A snapshot of a node.
    pub(super) fn row(&self, node: &Node<H>) -> NodeSnapshot {
        NodeSnapshot {
            identity: node.identity.clone(),
            profile: Arc::clone(&node.profile),
            services: self.group(node.group).map(|group| Arc::clone(&group.method_set.services)).unwrap_or_default(),
            state: node.state,
            is_cordoned: node.is_cordoned,
            held_slots: node.busy,
            share: node.health.share(node.profile.slots),
            in_flight: node.calls,
            answered: node.answered,
            uncallable: Arc::clone(&node.uncallable),
            blocked_async: node.blocked_async,
            joined: node.joined,
            silent_for: node.silent_for,
        }
    }
}
