//! Nodes that serve exactly the same methods, and views of them by label.
//!
//! A group keeps its members by load and on a ring, so that choosing one does not look at all of them. For calls that ask
//! for labels it keeps the same once more for the members that have these labels, from the first such call on. These
//! views are a cache: one that is not there is made, and where there are too many the one used longest ago goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    card::Catalogue,
    per_kind::{KINDS, PerKind},
    queues::Work,
    ready::Ready,
    ring::Ring,
};
use crate::{
    id::NodeId,
    service::method::{MethodId, MethodKind},
};

/// Views that a group keeps; one bit each in [`Views`].
const MOST_VIEWS: usize = 64;

/// A view that was used among the last uses of any, as many as this, is not replaced: to make one looks at every member.
const KEPT_FOR: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(pub(super) u64);

/// What a node counts for in the views it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether it may get calls now or later: it is registered and not draining.
    pub(super) serving: bool,
    /// Whether it serves and is given a rest.
    pub(super) rests: bool,
    /// What it runs at once.
    pub(super) limit: PerKind<u32>,
    /// How much of that is free.
    pub(super) free: PerKind<u32>,
    /// Its load, where it takes one more call.
    pub(super) load: PerKind<Option<u64>>,
}

/// Some nodes of a group, by load and on a ring.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) serving: usize,
    /// Those of them that are given a rest.
    pub(super) resting: usize,
    pub(super) limit: PerKind<u64>,
    pub(super) free: PerKind<u64>,
    pub(super) ready: PerKind<Ready>,
    pub(super) ring: Ring,
}

impl View {
    /// Replaces what a node counted for by what it counts for now.
    fn set(&mut self, node: NodeId, place: u64, before: &Standing, after: &Standing) {
        match (before.serving, after.serving) {
            (false, true) => {
                self.serving += 1;
                self.ring.insert(place, node);
            }
            (true, false) => {
                self.serving -= 1;
                self.ring.remove(place, node);
            }
            _ => {}
        }
        self.resting = self.resting - usize::from(before.rests) + usize::from(after.rests);
        for kind in KINDS {
            self.limit[kind] = self.limit[kind] - u64::from(before.limit[kind]) + u64::from(after.limit[kind]);
            self.free[kind] = self.free[kind] - u64::from(before.free[kind]) + u64::from(after.free[kind]);
            if before.load[kind] != after.load[kind] {
                self.ready[kind].set(node, after.load[kind]);
            }
        }
    }
}

#[derive(Debug)]
struct Labelled {
    labels: Arc<[(String, String)]>,
    view: View,
    used: u64,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) members: usize,
    pub(super) everyone: View,
    labelled: Vec<Labelled>,
    /// Counts the uses of views.
    uses: u64,
    /// The members with each label.
    by_label: FxHashMap<(String, String), BTreeSet<NodeId>>,
    /// Queues that any member may take from.
    pub(super) work: PerKind<Work>,
}

/// Which of a group's labelled views a node is in, a bit each.
pub(super) type Views = u64;

impl Group {
    pub(super) fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            catalogue,
            members: 0,
            everyone: View::default(),
            labelled: Vec::new(),
            uses: 0,
            by_label: FxHashMap::default(),
            work: PerKind::default(),
        }
    }

    /// How its members run a method; `None` if they do not serve it.
    pub(super) fn kind_of(&self, method: MethodId) -> Option<MethodKind> {
        self.catalogue.methods.get(&method).copied()
    }

    /// One of the members that serve, to name the group by.
    pub(super) fn example(&self) -> Option<NodeId> {
        self.everyone.ring.first()
    }

    /// Takes a node in, with nothing to count for yet, and says which views it is in.
    pub(super) fn join(&mut self, node: NodeId, labels: &BTreeMap<String, String>) -> Views {
        self.members += 1;
        for (key, value) in labels {
            self.by_label.entry((key.clone(), value.clone())).or_default().insert(node);
        }
        let mut views = 0;
        for (bit, labelled) in self.labelled.iter().enumerate() {
            let has = |(key, value): &(String, String)| labels.get(key) == Some(value);
            if labelled.labels.iter().all(has) {
                views |= 1 << bit;
            }
        }
        views
    }

    /// Takes a node out that counts for nothing any more.
    pub(super) fn leave(&mut self, node: NodeId, labels: &BTreeMap<String, String>) {
        self.members -= 1;
        for (key, value) in labels {
            let label = (key.clone(), value.clone());
            if let Some(nodes) = self.by_label.get_mut(&label) {
                nodes.remove(&node);
                if nodes.is_empty() {
                    self.by_label.remove(&label);
                }
            }
        }
    }

    /// Replaces what a node counted for in all its views.
    pub(super) fn set(&mut self, node: NodeId, place: u64, views: Views, before: &Standing, after: &Standing) {
        self.everyone.set(node, place, before, after);
        let mut left = views;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(labelled) = self.labelled.get_mut(bit) {
                labelled.view.set(node, place, before, after);
            }
        }
    }

    fn position(&self, labels: &[(String, String)]) -> Option<usize> {
        self.labelled.iter().position(|view| *view.labels == *labels)
    }

    /// The members with these labels, if their view is there.
    pub(super) fn view(&self, labels: &[(String, String)]) -> Option<&View> {
        self.position(labels).map(|at| &self.labelled[at].view)
    }

    /// The members with the rarest of these labels: those with all of them are among these.
    pub(super) fn with_rarest(&self, labels: &[(String, String)]) -> impl Iterator<Item = NodeId> + '_ {
        let sets = labels.iter().map(|label| self.by_label.get(label));
        // A label that no member has decides, and leaves nothing.
        let rarest = sets.min_by_key(|set| set.map_or(0, BTreeSet::len)).flatten();
        rarest.into_iter().flatten().copied()
    }

    /// Notes that the view of these labels is used; `false` if it has to be [begun](Self::begin_view).
    pub(super) fn use_view(&mut self, labels: &[(String, String)]) -> bool {
        self.uses += 1;
        let Some(at) = self.position(labels) else { return false };
        self.labelled[at].used = self.uses;
        true
    }

    /// Begins an empty view, and says which bit it has and whether another was there under that bit. `None` while all
    /// that are there are in use.
    pub(super) fn begin_view(&mut self, labels: Arc<[(String, String)]>) -> Option<(u32, bool)> {
        let begun = Labelled { labels, view: View::default(), used: self.uses };
        if self.labelled.len() < MOST_VIEWS {
            self.labelled.push(begun);
            return Some((self.labelled.len() as u32 - 1, false));
        }
        let oldest = (0..MOST_VIEWS).min_by_key(|at| self.labelled[*at].used)?;
        if self.uses - self.labelled[oldest].used < KEPT_FOR {
            return None;
        }
        self.labelled[oldest] = begun;
        Some((oldest as u32, true))
    }

    /// Takes a node into the view with this bit.
    pub(super) fn add_to_view(&mut self, bit: u32, node: NodeId, place: u64, standing: &Standing) {
        if let Some(labelled) = self.labelled.get_mut(bit as usize) {
            labelled.view.set(node, place, &Standing::default(), standing);
        }
    }

    /// All views with the labels of each, for the sanity check.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn views(&self) -> impl Iterator<Item = (u32, &Arc<[(String, String)]>, &View)> {
        self.labelled.iter().enumerate().map(|(bit, labelled)| (bit as u32, &labelled.labels, &labelled.view))
    }
}
