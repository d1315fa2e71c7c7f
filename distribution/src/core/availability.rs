//! How many nodes may run the calls of a method, and why each of them takes none now.

use super::{
    group::{IndexEntry, View},
    host::Host,
    node::Node,
    registry::Registry,
};
#[cfg(any(test, feature = "simulation"))]
use crate::view::NodeState;
use crate::{
    administration::WaitReason,
    id::NodeId,
    service::{
        method::{MethodId, MethodKind},
        options::Labels,
    },
};

/// A load below this leaves a slot free.
const FULL: u64 = 1 << 32;

/// The nodes that may run the calls of a method, by what keeps each from taking one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Availability {
    busy: usize,
    suspect: usize,
    cordoned: usize,
    ejected: usize,
    avoided: usize,
    /// Whether one of the busy ones is not: it has a free slot, and a call is about to be sent there.
    has_free_slot: bool,
}

impl Availability {
    /// All nodes that may run the calls.
    pub(super) fn all(&self) -> usize {
        self.busy + self.suspect + self.cordoned + self.ejected + self.avoided
    }

    /// Why no node takes a call.
    pub(super) fn why(&self) -> WaitReason {
        let Self { busy, suspect, cordoned, ejected, avoided, has_free_slot } = *self;
        let all = self.all();
        match all {
            _ if has_free_slot => WaitReason::Placing,
            _ if busy == all => WaitReason::AllBusy { nodes: all },
            _ if cordoned == all => WaitReason::AllCordoned { nodes: all },
            // If there are no others, ejected nodes take calls as others do.
            _ if ejected > 0 && busy + suspect + avoided == 0 => Self { busy: ejected, ejected: 0, ..*self }.why(),
            _ => WaitReason::NoneTakesIt { busy, suspect, cordoned, ejected, avoided },
        }
    }

    fn add_view(&mut self, view: &View, kind: MethodKind, avoided: &[NodeId]) {
        self.suspect += view.suspect;
        self.cordoned += view.cordoned;
        self.ejected += view.ejected;
        self.busy += view.serving - view.suspect - view.cordoned - view.ejected;
        let free = view.ready[kind].iter(0).take_while(|(load, _)| *load < FULL);
        self.has_free_slot |= free.into_iter().any(|(_, node)| !avoided.contains(&node));
    }

    /// Counts a node by what is known of it, and not by its index entry.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn count<H: Host>(&mut self, node: &Node<H>, avoided: &[NodeId]) {
        let count = match node.state {
            _ if avoided.contains(&node.identity.id) => &mut self.avoided,
            _ if node.is_cordoned => &mut self.cordoned,
            _ if node.health.is_ejected() => &mut self.ejected,
            NodeState::Suspect | NodeState::Disconnected => &mut self.suspect,
            _ => &mut self.busy,
        };
        *count += 1;
    }

    /// Whether both have the same nodes, in the same counts.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn counts_as(&self, other: &Self) -> bool {
        Self { has_free_slot: false, ..*self } == Self { has_free_slot: false, ..*other }
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn has_free_slot(&self) -> bool {
        self.has_free_slot
    }

    /// The count that a node is in.
    fn count_of(&mut self, entry: &IndexEntry) -> &mut usize {
        match entry {
            IndexEntry { cordoned: true, .. } => &mut self.cordoned,
            IndexEntry { ejected: true, .. } => &mut self.ejected,
            IndexEntry { suspect: true, .. } => &mut self.suspect,
            _ => &mut self.busy,
        }
    }
}

impl<H: Host> Registry<H> {
    /// Which nodes may run calls of the method with these labels, and what keeps them from it. `avoided` are nodes that
    /// the calls do not go to.
    pub(super) fn availability(&self, method: MethodId, labels: &Labels, avoided: &[NodeId]) -> Availability {
        let mut found = Availability::default();
        for group in self.providers(method).iter().filter_map(|id| self.group(*id)) {
            let Some(kind) = group.kind_of(method) else { continue };
            match group.view(labels) {
                Some(view) => found.add_view(view, kind, avoided),
                None => {
                    for node in self.labelled(group, labels).filter(|node| node.index_entry.serving) {
                        *found.count_of(&node.index_entry) += 1;
                        let is_free = node.index_entry.load[kind].is_some_and(|load| load < FULL);
                        found.has_free_slot |= is_free && !avoided.contains(&node.identity.id);
                    }
                }
            }
        }
        let serves = |node: &&Node<H>| self.is_serving(node, method, labels);
        for node in avoided.iter().filter_map(|id| self.node(*id)).filter(serves) {
            *found.count_of(&node.index_entry) -= 1;
            found.avoided += 1;
        }
        found
    }
}
