//! Whether a node may join: its claims are checked against the nodes that are registered.

use super::{
    deferred::DeferredTask,
    effect::Effects,
    host::{Host, Time},
    registration::{MethodSet, NodeProfile},
    state::Core,
};
use crate::{error::GoneReason, id::NodeId};

/// Bytes of memory that the methods of all nodes may take. Nodes that serve the same methods share them.
const METHOD_BYTES: usize = 64 * 1024 * 1024;

/// The same for nodes with one credential: room for a thousand sets of twenty methods.
const METHOD_BYTES_PER_CREDENTIAL: usize = METHOD_BYTES / 4;

/// Why a node may not join now.
#[derive(Debug)]
pub(crate) struct JoinRefused {
    /// For the node to read.
    pub(crate) reason: String,
    /// The node that has its name and who it authenticated as, only for the log.
    pub(crate) taken_by: Option<String>,
}

impl From<String> for JoinRefused {
    fn from(reason: String) -> Self {
        Self { reason, taken_by: None }
    }
}

impl<H: Host> Core<H> {
    /// Whether a node may join. Returns the nodes that it displaces: those that have its name although their credential
    /// is not for that name, if the credential of the new node is.
    ///
    /// # Errors
    ///
    /// The reason why it may not join now.
    pub(crate) fn may_join(
        &self,
        (profile, method_set): (&NodeProfile, &MethodSet),
    ) -> Result<Vec<NodeId>, JoinRefused> {
        let displaced = self.displaced_by(profile)?;
        // A process that registers again takes its own place.
        let registered_before = usize::from(self.is_here(profile));
        let most = self.settings.max_nodes;
        if self.registry.len() - registered_before - displaced.len() >= most {
            return Err(
                format!("{most} nodes are registered, which is as many as the master's `max_nodes` allows. Set it higher, or wait until one leaves").into()
            );
        }
        let most = self.settings.max_nodes_per_credential;
        // The displaced nodes have other credentials.
        if self.registry.nodes_with(&profile.principal) - registered_before >= most {
            return Err(format!(
                "{most} nodes are registered with {}, which is as many as the master's `max_nodes_per_credential` allows",
                profile.principal
            )
            .into());
        }
        if !self.registry.knows(method_set) {
            let own = self.registry.method_bytes_with(&profile.principal) + method_set.size;
            let all = self.registry.method_bytes() + method_set.size;
            let full = [
                ("of nodes with the same credential", own, METHOD_BYTES_PER_CREDENTIAL),
                ("of all nodes", all, METHOD_BYTES),
            ];
            if let Some((whose, _, limit)) = full.into_iter().find(|(_, size, limit)| size > limit) {
                return Err(format!(
                    "the methods {whose} would take more than the {} MiB of memory that the master has for them, and no other node serves \
                     the same methods as this one. Nodes that serve the same methods share that memory",
                    limit >> 20
                )
                .into());
            }
        }
        Ok(displaced)
    }

    fn displaced_by(&self, profile: &NodeProfile) -> Result<Vec<NodeId>, JoinRefused> {
        let (name, principal) = (&profile.name, &profile.principal);
        // A process that registers again may have a new credential.
        let itself = self.registry.node_of_process(profile.instance);
        let mut displaced = Vec::new();
        for (other, nodes) in self.registry.nodes_named(name) {
            if other.may_share(principal, name) {
                continue;
            }
            let mut nodes = nodes.iter().copied().filter(|id| Some(*id) != itself);
            if principal.is_for(name) && !other.is_for(name) {
                displaced.extend(nodes);
            } else if let Some(node) = nodes.next().and_then(|id| self.registry.node(id)) {
                return Err(JoinRefused {
                    reason: format!(
                        "a node called `{name}` is registered by another credential than this one ({principal}). \
                         Give it another name; if it has taken the other's place, it is let in once the other is gone"
                    ),
                    taken_by: Some(format!("{}, by {other}", node.identity)),
                });
            }
        }
        Ok(displaced)
    }

    /// Another node has a right to the name of these nodes. Disconnects some of them now, and the others soon.
    pub(crate) fn on_nodes_displaced(&mut self, now: Time, nodes: Vec<NodeId>, effects: &mut Effects<H>) {
        if !nodes.is_empty() {
            for node in nodes {
                self.deferred.push(DeferredTask::CutOff(node, GoneReason::Displaced));
            }
            self.run_deferred(now, effects);
        }
    }

    fn is_here(&self, profile: &NodeProfile) -> bool {
        let registered = self.registry.node_of_process(profile.instance);
        registered.and_then(|id| self.registry.node(id)).is_some_and(|node| node.profile.principal == profile.principal)
    }
}
