//! Which methods cannot be called although nodes serve their service, because caller and node were built from different code.

use std::sync::Arc;

use super::{
    group::{Group, GroupId},
    host::Host,
    node::Node,
    registration::MethodSet,
    registry::Registry,
    state::Core,
};
use crate::{
    id::NodeId,
    service::{
        compatibility::{Incompatibility, Uncallable, explain, uncallable_beside_nodes, uncallable_for_callers},
        method::MethodInfo,
    },
    text::in_one_line,
};

/// How many groups the methods of a new node are compared with.
const MOST_COMPARED: usize = 64;

/// How many methods of a node are compared.
const MOST_OFFERS: usize = 1024;

/// How many methods that cannot be called a node is told about.
const MOST_UNCALLABLE: usize = 8;

/// Bytes of text about each of them.
const LONGEST_UNCALLABLE: usize = 1024;

/// What it takes to find the methods of a node that cannot be called: its own methods, those of other nodes, and those
/// that have been called here.
#[derive(Debug)]
pub(crate) struct CompatibilityCheck {
    pub(super) own: Arc<MethodSet>,
    pub(super) others: Vec<(Arc<str>, Arc<MethodSet>)>,
    pub(super) called: Vec<Arc<MethodInfo>>,
}

impl CompatibilityCheck {
    /// Which methods of the node cannot be called on it, and why: those that callers here have in another form, and
    /// those that all other nodes have in another form.
    pub(crate) fn uncallable(&self, node: &str) -> Vec<String> {
        let offers = self.own.offers();
        let mut found = uncallable_for_callers(node, &offers[..offers.len().min(MOST_OFFERS)], &self.called);
        for offer in self.own.offers().iter().take(MOST_OFFERS) {
            if found.len() >= MOST_UNCALLABLE {
                break;
            }
            // The callers here have it in exactly this form.
            if self.called.iter().any(|method| method.id().0 == offer.id) {
                continue;
            }
            let same = self.others.iter().map(|(name, other)| (&**name, other.named(&offer.service, &offer.name)));
            let uncallable = uncallable_beside_nodes(node, std::slice::from_ref(offer), same);
            found.extend(
                uncallable
                    .into_iter()
                    .filter(|one| !found.iter().any(|known| known.method == one.method))
                    .collect::<Vec<_>>(),
            );
        }
        found
            .into_iter()
            .take(MOST_UNCALLABLE)
            .map(|Uncallable { method, why }| in_one_line(&format!("{method}: {why}"), LONGEST_UNCALLABLE))
            .collect()
    }
}

/// What the nodes of one group serve, to be compared without the lock.
#[derive(Debug)]
pub(crate) struct Served {
    /// The name of one of the nodes.
    node: Arc<str>,
    /// How many nodes they are.
    count: usize,
    methods: Arc<MethodSet>,
}

/// What differs between a caller's method and those that these nodes serve under its name; `None` if no node differs.
pub(crate) fn incompatibility(method: &MethodInfo, served: &[Served]) -> Option<Incompatibility> {
    let groups = served.iter().map(|group| (&*group.node, group.count, group.methods.similar_to(method.name())));
    explain(method, groups)
}

impl<H: Host> Core<H> {
    /// The next groups after `after`, as many as can be listed under one hold of the lock. Also returns where to go on.
    pub(crate) fn served(&self, after: Option<GroupId>) -> (Vec<Served>, Option<GroupId>) {
        let mut page = Vec::new();
        let mut last = None;
        for (id, group) in self.registry.groups_after(after).take(self.settings.slice) {
            last = Some(id);
            if let Some(node) = self.registry.example_of(group) {
                let methods = Arc::clone(&group.method_set);
                page.push(Served { node: Arc::clone(&node.profile.name), count: group.members, methods });
            }
        }
        (page, last)
    }

    /// The check of a node that has just joined, to be run without the lock.
    pub(crate) fn compatibility_check(&self, id: NodeId) -> Option<CompatibilityCheck> {
        let (own, others) = (self.registry.method_set_of(id)?, self.registry.method_sets_of_others(id));
        Some(CompatibilityCheck {
            own,
            others,
            called: self.called.iter().map(|(method, _)| Arc::clone(method)).collect(),
        })
    }

    /// The check has found which methods of a node cannot be called on it.
    pub(crate) fn on_methods_checked(&mut self, id: NodeId, uncallable: Arc<[String]>) {
        if let Some(node) = self.registry.node_mut(id) {
            node.uncallable = uncallable;
        }
    }
}

impl<H: Host> Registry<H> {
    /// Why no node, or not this node, can run calls of a method, although nodes serve its service.
    pub(super) fn incompatibility(&self, method: &MethodInfo, node: Option<NodeId>) -> Option<Incompatibility> {
        match node {
            Some(id) => {
                let (node, group) = (self.node(id)?, self.group_of(id)?);
                explain(method, [(&*node.profile.name, 1, group.method_set.similar_to(method.name()))])
            }
            None => {
                let groups = self.groups().filter_map(|group| {
                    let node = self.example_of(group)?;
                    Some((&*node.profile.name, group.members, group.method_set.similar_to(method.name())))
                });
                explain(method, groups)
            }
        }
    }

    /// One of the nodes of a group, to name it by.
    fn example_of(&self, group: &Group) -> Option<&Node<H>> {
        self.node(group.example()?)
    }

    /// The methods of a node.
    pub(super) fn method_set_of(&self, id: NodeId) -> Option<Arc<MethodSet>> {
        self.group_of(id).map(|group| Arc::clone(&group.method_set))
    }

    /// The methods of other groups, each with the name of one of its nodes.
    pub(super) fn method_sets_of_others(&self, id: NodeId) -> Vec<(Arc<str>, Arc<MethodSet>)> {
        let own = self.node(id).map(|node| node.group);
        let others = self.groups.iter().filter(|(id, _)| Some(**id) != own).map(|(_, group)| group).take(MOST_COMPARED);
        let named = |group: &Group| {
            let example = self.example_of(group)?;
            Some((Arc::clone(&example.profile.name), Arc::clone(&group.method_set)))
        };
        others.filter_map(named).collect()
    }
}
