//! Which nodes a call avoids.
//!
//! A call avoids the nodes where it was lost and those that refused it, as long as another node serves its method.
//! Nodes of one source may be one program that takes calls and disconnects. So a lost call goes to a node of another
//! source if one can take it now, and otherwise to any other node. It does not wait for another source: the nodes there
//! may be busy for an hour, or never answer.

use std::sync::Arc;

use crate::{id::NodeId, security::Source};

/// The nodes that a call avoids, sorted; `None` if it avoids none.
pub(super) type AvoidedNodes = Option<Arc<[NodeId]>>;

/// Sorts the nodes that a call avoids and removes duplicates.
pub(super) fn avoided_nodes(mut nodes: Vec<NodeId>) -> AvoidedNodes {
    nodes.sort();
    nodes.dedup();
    (!nodes.is_empty()).then(|| nodes.into())
}

/// Nodes that are left out where nodes are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Except<'a> {
    Nodes(&'a [NodeId]),
    Sources(&'a [Source]),
}

impl Except<'_> {
    pub(super) fn contains(&self, node: NodeId, source: Source) -> bool {
        match self {
            Self::Nodes(nodes) => nodes.contains(&node),
            Self::Sources(sources) => sources.contains(&source),
        }
    }
}
