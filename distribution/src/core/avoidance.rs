//! Where a call should not go, and where it had better not go.
//!
//! A call avoids the nodes that it was lost with or refused by as long as there is another. And nodes of one source may be
//! one program that takes calls and hangs up, so a lost call goes to another source if a node there can take it now; else
//! to any other node. It does not wait for another source: what is there may be busy for an hour, or never answer.

use std::sync::Arc;

use crate::{id::NodeId, security::Source};

/// The nodes that a call avoids, in order; `None` for none.
pub(super) type AvoidedNodes = Option<Arc<[NodeId]>>;

/// The nodes that a call avoids, each once.
pub(super) fn avoided_nodes(mut nodes: Vec<NodeId>) -> AvoidedNodes {
    nodes.sort();
    nodes.dedup();
    (!nodes.is_empty()).then(|| nodes.into())
}

/// What a call is not to go to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Except<'a> {
    Nodes(&'a [NodeId]),
    Sources(&'a [Source]),
}

impl Except<'_> {
    pub(super) const NONE: Self = Self::Nodes(&[]);

    pub(super) fn contains(&self, node: NodeId, source: Source) -> bool {
        match self {
            Self::Nodes(nodes) => nodes.contains(&node),
            Self::Sources(sources) => sources.contains(&source),
        }
    }
}
