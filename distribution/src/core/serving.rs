//! Which nodes can get calls of a method, by labels and without those that a call avoids.

use super::{
    avoidance::{AvoidedNodes, Except},
    group::{Group, GroupId, IndexEntry},
    host::Host,
    node::Node,
    registry::Registry,
};
use crate::service::{
    dispatcher::Capacity,
    method::{MethodId, MethodKind},
    options::Labels,
};

impl<H: Host> Registry<H> {
    /// The members of a group with these labels. Looks at each member that has the rarest of them.
    pub(super) fn labelled<'a>(&'a self, group: &'a Group, labels: &'a Labels) -> impl Iterator<Item = &'a Node<H>> {
        let labels = labels.as_deref().unwrap_or_default();
        let rarest = group.with_rarest(labels).filter_map(|id| self.node(id));
        rarest.filter(move |node| node.profile.has_labels(labels))
    }

    /// How many nodes serve the method, including busy and suspect ones.
    pub(super) fn serving(&self, method: MethodId) -> usize {
        self.providers(method).iter().filter_map(|id| self.group(*id)).map(|group| group.everyone.serving).sum()
    }

    /// How many nodes may get calls of all these methods, busy and suspect ones included, and cordoned ones not.
    pub(super) fn serving_all(&self, methods: &[MethodId]) -> usize {
        // Without a method any node will do.
        let Some(first) = methods.first() else { return self.alive };
        let groups = self.providers(*first).iter().filter_map(|id| self.group(*id));
        let of_all = groups.filter(|group| methods.iter().all(|method| group.kind_of(*method).is_some()));
        of_all.map(|group| group.everyone.open()).sum()
    }

    /// Whether calls of the method with these labels may go to the nodes that they avoid, because no other open node
    /// serves them.
    pub(super) fn lapses(&self, method: MethodId, labels: &Labels, avoid: &AvoidedNodes) -> bool {
        avoid.as_deref().is_some_and(|avoid| !self.is_open_besides(method, labels, Except::Nodes(avoid)))
    }

    /// Whether calls of the method with these labels can wait for a node: any serves them, busy, suspect and cordoned
    /// nodes included.
    pub(super) fn serves(&self, method: MethodId, labels: &Labels) -> bool {
        let does_serve = |id: &GroupId| {
            let group = self.group(*id)?;
            // A view that is being filled may have such a node already.
            if group.view_so_far(labels).is_some_and(|view| view.serving > 0) {
                return Some(());
            }
            if group.view(labels).is_some() {
                return None;
            }
            self.labelled(group, labels).find(|node| node.index_entry.serving).map(drop)
        };
        self.providers(method).iter().any(|id| does_serve(id).is_some())
    }

    /// Whether any open node but these serves calls of the method with these labels, busy and suspect nodes included.
    pub(super) fn is_open_besides(&self, method: MethodId, labels: &Labels, but: Except<'_>) -> bool {
        let does_serve = |id: &GroupId| {
            let group = self.group(*id)?;
            // A view that is being filled may have such a node already.
            if let Some(view) = group.view_so_far(labels) {
                let excepted: usize = match but {
                    Except::Nodes(nodes) => {
                        let nodes = nodes.iter().filter_map(|id| self.node(*id)).filter(|node| node.group == *id);
                        nodes.filter(|node| self.is_serving(node, method, labels) && !node.is_cordoned).count()
                    }
                    Except::Sources(sources) => sources.iter().filter_map(|source| view.sources.get(source)).sum(),
                };
                if view.open() > excepted {
                    return Some(());
                }
            }
            if group.view(labels).is_some() {
                return None;
            }
            let mut labelled = self.labelled(group, labels);
            labelled.find(|node| node.index_entry.is_open() && !but.contains(node.identity.id, node.source)).map(drop)
        };
        self.providers(method).iter().any(|id| does_serve(id).is_some())
    }

    /// Whether all open nodes that serve the method are ejected.
    pub(super) fn all_ejected(&self, method: MethodId, labels: &Labels) -> bool {
        if self.ejected.is_empty() {
            return false;
        }
        let groups = self.providers(method).iter().filter_map(|id| self.group(*id));
        // One node that is not ejected decides, and a view mostly shows that there is one.
        if groups.clone().filter_map(|group| group.view_so_far(labels)).any(|view| view.open() > view.ejected) {
            return false;
        }
        let (mut open, mut ejected) = (0, 0);
        for group in groups {
            match group.view(labels) {
                Some(view) => (open, ejected) = (open + view.open(), ejected + view.ejected),
                None => {
                    for node in self.labelled(group, labels) {
                        open += usize::from(node.index_entry.is_open());
                        ejected += usize::from(node.index_entry.ejected);
                    }
                }
            }
        }
        open > 0 && open == ejected
    }

    /// Whether a node serves calls of the method with these labels, even if it is busy, suspect or cordoned.
    pub(super) fn is_serving(&self, node: &Node<H>, method: MethodId, labels: &Labels) -> bool {
        node.index_entry.serving
            && labels.as_ref().is_none_or(|labels| node.profile.has_labels(labels))
            && self.group(node.group).is_some_and(|group| group.kind_of(method).is_some())
    }

    /// Where calls of the method can go. While the view of the labels is being filled, this is what it has so far.
    pub(super) fn capacity(&self, method: MethodId, labels: &Labels) -> Capacity {
        let mut capacity = Capacity { is_known: true, ..Capacity::default() };
        for group in self.providers(method).iter().filter_map(|id| self.group(*id)) {
            let Some(kind) = group.kind_of(method) else { continue };
            let counted = group.view(labels).or_else(|| group.view_so_far(labels).filter(|view| view.serving > 0));
            let (nodes, slots, free) = match counted {
                Some(view) => (view.serving, view.limit[kind], view.free[kind]),
                None => self.labelled(group, labels).filter(|node| node.index_entry.serving).fold(
                    (0, 0, 0),
                    |(nodes, slots, free), node| {
                        let IndexEntry { limit, free: left, .. } = &node.index_entry;
                        (nodes + 1, slots + u64::from(limit[kind]), free + u64::from(left[kind]))
                    },
                ),
            };
            if nodes == 0 {
                continue;
            }
            capacity.compute = kind == MethodKind::Compute && (capacity.compute || capacity.nodes == 0);
            capacity.nodes += nodes;
            capacity.slots = capacity.slots.saturating_add(usize::try_from(slots).unwrap_or(usize::MAX));
            capacity.free = capacity.free.saturating_add(usize::try_from(free).unwrap_or(usize::MAX));
        }
        capacity
    }
}
