//! Where a call should not go: nodes that it has tried, and the sources of those it was lost with.
//!
//! Nodes of one source may be one program that takes calls and hangs up. So a call that was lost with one of them goes to
//! another source as long as there is one, then to another node, and where there is none, to any.

use std::sync::Arc;

use crate::{id::NodeId, security::Source};

/// What a call should not go to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Avoided {
    nodes: Box<[NodeId]>,
    /// Those of the nodes that are of none of the sources.
    apart: Box<[NodeId]>,
    sources: Box<[Source]>,
}

/// `None` for nothing.
pub(super) type Avoid = Option<Arc<Avoided>>;

/// How much of what a call avoids counts, by what there is besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Sources and nodes.
    All,
    /// Nodes, because all that serve it are of these sources.
    Nodes,
    /// Nothing, because there are no others.
    Nothing,
}

/// What counts of it. No node is in it by itself and by its source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excluded<'a> {
    pub(super) nodes: &'a [NodeId],
    pub(super) sources: &'a [Source],
}

impl Excluded<'_> {
    pub(super) const NOTHING: Self = Self { nodes: &[], sources: &[] };

    pub(super) fn contains(&self, node: NodeId, source: Source) -> bool {
        self.sources.contains(&source) || self.nodes.contains(&node)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.sources.is_empty()
    }
}

impl Avoided {
    /// Each node with its source.
    pub(super) fn new(mut nodes: Vec<(NodeId, Source)>, mut sources: Vec<Source>) -> Avoid {
        nodes.sort();
        nodes.dedup();
        sources.sort();
        sources.dedup();
        let apart = nodes.iter().filter(|(_, source)| !sources.contains(source)).map(|(node, _)| *node).collect();
        let nodes: Box<[NodeId]> = nodes.iter().map(|(node, _)| *node).collect();
        let is_empty = nodes.is_empty() && sources.is_empty();
        (!is_empty).then(|| Arc::new(Self { nodes, apart, sources: sources.into() }))
    }

    pub(super) fn to(&self, extent: Extent) -> Excluded<'_> {
        match extent {
            Extent::All => Excluded { nodes: &self.apart, sources: &self.sources },
            Extent::Nodes => Excluded { nodes: &self.nodes, sources: &[] },
            Extent::Nothing => Excluded::NOTHING,
        }
    }
}
