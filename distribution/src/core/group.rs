//! Nodes that serve exactly the same methods, and views of them by label.
//!
//! A group has its members in an index by load and on a ring, so that choosing one does not look at all of them. For
//! calls that ask for labels, it has another such view of the members with these labels, from the first such call on.
//! These views are a cache. A missing view is filled, some members at a time; if there are too many views, the one that
//! was used longest ago is removed. While a view is being filled, calls use the members that it has so far. If there is
//! no view and all others are in use, a call looks at each member that has the rarest of its labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    per_kind::{KINDS, PerKind},
    queue_heads::QueueHeads,
    ready::Ready,
    registration::MethodSet,
    ring::Ring,
};
use crate::{
    id::NodeId,
    security::Principal,
    security::Source,
    service::{
        method::{MethodId, MethodKind},
        options::Labels,
    },
};

/// How many labelled views a group has at most: one bit each in [`Views`].
const MOST_VIEWS: usize = 64;

/// A view is kept if it was among this many last uses of any view, because filling another one looks at every member.
const KEPT_FOR: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId(pub(super) u64);

/// What a node adds to the views that it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IndexEntry {
    /// Whether calls may wait for it: it is registered and not draining.
    pub(super) serving: bool,
    /// Whether it serves and is cordoned.
    pub(super) cordoned: bool,
    /// Whether it is open and ejected.
    pub(super) ejected: bool,
    /// Whether it is open and suspect, and not ejected.
    pub(super) suspect: bool,
    /// How many calls it runs at once.
    pub(super) limit: PerKind<u32>,
    /// How much of that is free.
    pub(super) free: PerKind<u32>,
    /// Its load, if it can take one more call.
    pub(super) load: PerKind<Option<u64>>,
}

impl IndexEntry {
    /// Whether it may get calls, now or later, without being uncordoned first.
    pub(super) fn is_open(&self) -> bool {
        self.serving && !self.cordoned
    }
}

/// Some members of a group, by load and on a ring.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) serving: usize,
    /// Those of them that are cordoned. The others are open.
    pub(super) cordoned: usize,
    /// Those of the open ones that are ejected.
    pub(super) ejected: usize,
    /// Those of the open ones that are suspect and not ejected.
    pub(super) suspect: usize,
    pub(super) limit: PerKind<u64>,
    pub(super) free: PerKind<u64>,
    pub(super) ready: PerKind<Ready>,
    pub(super) ring: Ring,
    /// How many of the open nodes are of each source.
    pub(super) sources: FxHashMap<Source, usize>,
}

/// A node as its group knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) node: NodeId,
    /// Where it is on the ring.
    pub(super) place: u64,
    pub(super) source: Source,
}

impl View {
    /// How many members may get calls, now or later, without being uncordoned first.
    pub(super) fn open(&self) -> usize {
        self.serving - self.cordoned
    }

    /// Replaces what a node added before by what it adds now.
    fn set(&mut self, member: Member, before: &IndexEntry, after: &IndexEntry) {
        let Member { node, place, source } = member;
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
        match (before.is_open(), after.is_open()) {
            (false, true) => *self.sources.entry(source).or_default() += 1,
            (true, false) => {
                if let Some(count) = self.sources.get_mut(&source) {
                    *count -= 1;
                    if *count == 0 {
                        self.sources.remove(&source);
                    }
                }
            }
            _ => {}
        }
        self.cordoned = self.cordoned - usize::from(before.cordoned) + usize::from(after.cordoned);
        self.ejected = self.ejected - usize::from(before.ejected) + usize::from(after.ejected);
        self.suspect = self.suspect - usize::from(before.suspect) + usize::from(after.suspect);
        for kind in KINDS {
            self.limit[kind] = self.limit[kind] - u64::from(before.limit[kind]) + u64::from(after.limit[kind]);
            self.free[kind] = self.free[kind] - u64::from(before.free[kind]) + u64::from(after.free[kind]);
            if before.load[kind] != after.load[kind] {
                self.ready[kind].set(node, after.load[kind]);
            }
        }
    }
}

/// The view of the members with some labels.
#[derive(Debug)]
pub(super) struct LabelView {
    pub(super) labels: Arc<[(String, String)]>,
    pub(super) view: View,
    used: u64,
    pub(super) state: ViewState,
    /// The last member that was dealt with, while the view is filled or cleared.
    after: Option<NodeId>,
}

/// How far a view has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewState {
    /// All members with the labels are in it.
    Whole,
    /// Members are being added.
    Filling,
    /// It is not used any more, and is being removed from its members.
    Clearing,
    /// No member is in it: another view may take its bit.
    Vacant,
}

/// A step of filling or clearing a view: the members to deal with.
#[derive(Debug)]
pub(super) struct ViewStep {
    pub(super) bit: u32,
    /// Whether they are added or removed.
    pub(super) fills: bool,
    pub(super) labels: Arc<[(String, String)]>,
    /// The members, and perhaps some that lack a label.
    pub(super) members: Vec<NodeId>,
    /// Whether the view is whole after it.
    pub(super) is_last: bool,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) method_set: Arc<MethodSet>,
    /// Who the first node of the group authenticated as.
    pub(super) first_principal: Principal,
    pub(super) members: usize,
    pub(super) everyone: View,
    labelled: Vec<LabelView>,
    /// Counts the uses of views.
    uses: u64,
    /// The members with each label.
    by_label: FxHashMap<(String, String), BTreeSet<NodeId>>,
    /// Heads of the queues that any member may take calls from.
    pub(super) heads: PerKind<QueueHeads>,
}

/// The labelled views of its group that a node is in, a bit each.
pub(super) type Views = u64;

impl Group {
    pub(super) fn new(method_set: Arc<MethodSet>, first_principal: Principal) -> Self {
        Self {
            method_set,
            first_principal,
            members: 0,
            everyone: View::default(),
            labelled: Vec::new(),
            uses: 0,
            by_label: FxHashMap::default(),
            heads: PerKind::default(),
        }
    }

    /// How its members run a method; `None` if they do not serve it.
    pub(super) fn kind_of(&self, method: MethodId) -> Option<MethodKind> {
        self.method_set.methods.get(&method).copied()
    }

    /// One of the members that serve, to name the group by.
    pub(super) fn example(&self) -> Option<NodeId> {
        self.everyone.ring.first()
    }

    /// Adds a node that has no index entry yet, and returns the views that it is in.
    pub(super) fn join(&mut self, node: NodeId, labels: &BTreeMap<String, String>) -> Views {
        self.members += 1;
        for (key, value) in labels {
            self.by_label.entry((key.clone(), value.clone())).or_default().insert(node);
        }
        let mut views = 0;
        for (bit, labelled) in self.labelled.iter().enumerate() {
            let has = |(key, value): &(String, String)| labels.get(key) == Some(value);
            if labelled.is_kept() && labelled.labels.iter().all(has) {
                views |= 1 << bit;
            }
        }
        views
    }

    /// Removes a node that has no index entry any more.
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

    /// Replaces what a node added to all its views.
    pub(super) fn set(&mut self, member: Member, views: Views, before: &IndexEntry, after: &IndexEntry) {
        self.everyone.set(member, before, after);
        let mut left = views;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(labelled) = self.labelled.get_mut(bit).filter(|labelled| labelled.is_kept()) {
                labelled.view.set(member, before, after);
            }
        }
    }

    fn position(&self, labels: &[(String, String)]) -> Option<usize> {
        self.labelled.iter().position(|view| view.is_kept() && *view.labels == *labels)
    }

    /// The members with these labels, if their view is whole.
    pub(super) fn view(&self, labels: &Labels) -> Option<&View> {
        let Some(labels) = labels else { return Some(&self.everyone) };
        let labelled = &self.labelled[self.position(labels)?];
        (labelled.state == ViewState::Whole).then_some(&labelled.view)
    }

    /// Those of the members with these labels that their view has so far, even if it is not whole.
    pub(super) fn view_so_far(&self, labels: &Labels) -> Option<&View> {
        let Some(labels) = labels else { return Some(&self.everyone) };
        Some(&self.labelled[self.position(labels)?].view)
    }

    /// The members with the rarest of these labels. Those that have all of them are among these.
    pub(super) fn with_rarest(&self, labels: &[(String, String)]) -> impl Iterator<Item = NodeId> + '_ {
        self.with_rarest_after(labels, None)
    }

    /// Those of them that came after this one.
    fn with_rarest_after(
        &self,
        labels: &[(String, String)],
        after: Option<NodeId>,
    ) -> impl Iterator<Item = NodeId> + '_ {
        let sets = labels.iter().map(|label| self.by_label.get(label));
        // If no member has one of the labels, the set is empty.
        let rarest = sets.min_by_key(|set| set.map_or(0, BTreeSet::len)).flatten();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        rarest.into_iter().flat_map(move |set| set.range((from, Bound::Unbounded))).copied()
    }

    /// Notes that the view of these labels is used, and returns the next step to fill it: what to do with up to `most`
    /// members. `None` if it is whole, or if there is no room for it while all other views are in use.
    pub(super) fn use_view(&mut self, labels: &Arc<[(String, String)]>, most: usize) -> Option<ViewStep> {
        self.uses += 1;
        let at = match self.position(labels) {
            Some(at) => at,
            None => self.begin_view(labels)?,
        };
        let LabelView { labels, state, after, .. } = &self.labelled[at];
        let fills = match state {
            ViewState::Filling => true,
            ViewState::Clearing => false,
            ViewState::Whole | ViewState::Vacant => {
                self.labelled[at].used = self.uses;
                return None;
            }
        };
        let labels = Arc::clone(labels);
        let members: Vec<NodeId> = self.with_rarest_after(&labels, *after).take(most).collect();
        let labelled = &mut self.labelled[at];
        labelled.used = self.uses;
        let is_over = members.len() < most;
        if is_over {
            labelled.state = if fills { ViewState::Whole } else { ViewState::Vacant };
        }
        labelled.after = members.last().copied().or(labelled.after);
        Some(ViewStep { bit: at as u32, fills, labels, members, is_last: fills && is_over })
    }

    /// Begins an empty view, or makes room for it, and returns its index. `None` while all views are in use.
    fn begin_view(&mut self, labels: &Arc<[(String, String)]>) -> Option<usize> {
        let begun = |state| LabelView {
            labels: Arc::clone(labels),
            view: View::default(),
            used: self.uses,
            state,
            after: None,
        };
        if let Some(at) = self.labelled.iter().position(|view| view.state == ViewState::Vacant) {
            self.labelled[at] = begun(ViewState::Filling);
            return Some(at);
        }
        if self.labelled.len() < MOST_VIEWS {
            self.labelled.push(begun(ViewState::Filling));
            return Some(self.labelled.len() - 1);
        }
        if let Some(at) = self.labelled.iter().position(|view| view.state == ViewState::Clearing) {
            return Some(at);
        }
        let oldest = (0..MOST_VIEWS).min_by_key(|at| self.labelled[*at].used)?;
        if self.uses - self.labelled[oldest].used < KEPT_FOR {
            return None;
        }
        let cleared = Arc::clone(&self.labelled[oldest].labels);
        self.labelled[oldest] = LabelView { labels: cleared, ..begun(ViewState::Clearing) };
        Some(oldest)
    }

    /// Adds a node to the view with this bit.
    pub(super) fn add_to_view(&mut self, bit: u32, member: Member, entry: &IndexEntry) {
        if let Some(labelled) = self.labelled.get_mut(bit as usize) {
            labelled.view.set(member, &IndexEntry::default(), entry);
        }
    }

    /// All views, by their bits, for the sanity check.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn views(&self) -> impl Iterator<Item = (usize, &LabelView)> {
        self.labelled.iter().enumerate()
    }
}

impl LabelView {
    /// Whether it is kept up to date.
    fn is_kept(&self) -> bool {
        matches!(self.state, ViewState::Whole | ViewState::Filling)
    }
}
