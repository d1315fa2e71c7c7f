//! The balancing rule: what a node's load is, what it takes, and which node a call goes to.
//!
//! A call goes to the node with the smallest load among those that take it. The load is the share of a node's slots (for
//! async calls: of its async limit) that is taken. A node takes a call if a slot is free. It is sent compute calls ahead
//! of that only while all that it has is expected to be done soon, and is small.

use std::time::Duration;

use super::{
    Host, Labels,
    group::{Group, Standing, View},
    mix,
    registry::{Node, Registry},
    ring,
};
use crate::{
    id::NodeId,
    security::Source,
    service::{
        caller::Capacity,
        method::{MethodId, MethodKind},
    },
    view::NodeState,
};

/// A node is sent more compute calls than it has slots only while all that it has then is expected to
/// take less than this, per slot. It hides the way to the master and back for tiny calls, and keeps a
/// long call from waiting behind another while a slot elsewhere gets free.
pub(super) const PREFETCH_TIME: Duration = Duration::from_millis(10);

/// However tiny the calls are, no more of them than this wait on a node. 2 slots turn over some
/// hundred calls in the time that a message takes to the master and back on one machine.
pub(super) const PREFETCH_MOST: u32 = 512;

/// However tiny and few the calls are, the arguments of all that a node has been sent ahead are no larger than this: they
/// fill its memory while they wait.
pub(super) const PREFETCH_BYTES: usize = 4 * 1024 * 1024;

/// A node that has calls waiting and ends none for this long was misjudged; it is asked to give them
/// back. Ten times what they were expected to take.
pub(super) const RETRACT_AFTER: Duration = PREFETCH_TIME.saturating_mul(10);

/// What a call of a method that has never been timed is taken to need: too long to be prefetched.
pub(super) const UNKNOWN_RUN_TIME: Duration = Duration::from_secs(3600);

/// How many nodes of each group are looked at for one of another source than those with which a call was lost.
const MOST_TRIED: usize = 32;

/// Of the nodes that rest, how many are looked at where there are no others.
const MOST_LOOKED_AT: usize = 64;

/// What a call, or a batch, asks of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// How long it is expected to run.
    pub(super) time: Duration,
    /// Bytes of its arguments.
    pub(super) bytes: usize,
}

impl Need {
    /// The least that any call can need.
    pub(super) const NOTHING: Self = Self { time: Duration::ZERO, bytes: 0 };
}

/// Which nodes a call can go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    pub(super) labels: &'a Labels,
    /// None of these.
    pub(super) avoid: &'a [NodeId],
    /// And none of these sources, if another takes the call.
    pub(super) sources: &'a [Source],
    /// Whether views of the labels are being filled: what they have so far is enough.
    pub(super) is_filling: bool,
}

impl<H: Host> Node<H> {
    pub(super) fn limit(&self, kind: MethodKind) -> u32 {
        self.card.limit(kind)
    }

    pub(super) fn taken(&self, kind: MethodKind) -> u32 {
        match kind {
            MethodKind::Compute => self.counts[kind].saturating_add(self.busy),
            MethodKind::Async => self.counts[kind],
        }
    }

    /// The share of what it runs at once that is taken, in parts of 2^32.
    pub(super) fn load(&self, kind: MethodKind) -> u64 {
        (u64::from(self.taken(kind)) << 32) / u64::from(self.limit(kind))
    }

    pub(super) fn has_free_slot(&self, kind: MethodKind) -> bool {
        self.taken(kind) < self.limit(kind)
    }

    /// Whether one more call may be sent that was made for this node.
    pub(super) fn takes(&self, kind: MethodKind, need: Need) -> bool {
        self.state == NodeState::Alive
            && (self.has_free_slot(kind)
                || kind == MethodKind::Compute
                    && !self.stuck
                    && self.busy == 0
                    && self.counts[kind] < self.limit(kind) + PREFETCH_MOST
                    && self.backlog.bytes.saturating_add(need.bytes) <= PREFETCH_BYTES
                    && self.backlog.time.saturating_add(need.time) <= PREFETCH_TIME * self.limit(kind))
    }

    /// Whether one more call may be sent that could also go elsewhere. A node whose calls failed gets fewer of these, and
    /// so does a newcomer.
    pub(super) fn takes_any(&self, kind: MethodKind, need: Need) -> bool {
        self.health.allows(self.counts.compute + self.counts.asynchronous)
            && self.window.left(kind, self.counts[kind]) > 0
            && self.takes(kind, need)
    }
}

impl Search<'_> {
    /// The members of a group that the call can go to, as far as they are known.
    fn view<'g>(&self, group: &'g Group) -> Option<&'g View> {
        if self.is_filling { group.view_so_far(self.labels) } else { group.view(self.labels) }
    }
}

impl<H: Host> Registry<H> {
    /// The least loaded node that can take a call of the method now; of another source, if one of the first has it. `salt`
    /// decides between equals.
    pub(super) fn least_loaded(
        &self,
        method: MethodId,
        search: Search<'_>,
        need: Need,
        salt: u64,
    ) -> Option<(NodeId, MethodKind)> {
        let Search { labels, avoid, sources, is_filling } = search;
        let best_of = |id| {
            let group = self.group(id)?;
            let kind = group.kind_of(method)?;
            let fits = |(_, id): &(u64, NodeId)| !avoid.contains(id);
            // Of another source and full is no better than of the same.
            let is_elsewhere = |id| {
                let takes = |node: &Node<H>| !sources.contains(&node.source) && node.takes_any(kind, need);
                sources.is_empty() || self.node(id).is_some_and(takes)
            };
            let ranked = |(load, id)| (!is_elsewhere(id), load, id);
            let (rank, load, node) = match search.view(group) {
                Some(view) => {
                    let mut fitting = view.ready[kind].iter(salt).filter(fits).map(ranked).take(MOST_TRIED);
                    let first = fitting.next()?;
                    if first.0 { fitting.find(|(rank, ..)| !rank).unwrap_or(first) } else { first }
                }
                None if is_filling => return None,
                None => {
                    let ready = self.labelled(group, labels).filter_map(|node| self.ready_load(node, kind));
                    ready.filter(fits).map(ranked).min()?
                }
            };
            Some(((rank, load, mix(salt ^ id.0)), node, kind))
        };
        let providers = self.providers(method).iter().copied();
        let Some((_, node, kind)) = providers.filter_map(best_of).min_by_key(|(rank, ..)| *rank) else {
            if is_filling {
                return None;
            }
            return self.resting_that_takes(method, labels, need, avoid);
        };
        // With the least loaded one full, all are: only its backlog can tell it from the others, and
        // that by less than the prefetch.
        self.node(node)?.takes_any(kind, need).then_some((node, kind))
    }

    /// A node that is given a rest, where all that serve the method are.
    fn resting_that_takes(
        &self,
        method: MethodId,
        labels: &Labels,
        need: Need,
        avoid: &[NodeId],
    ) -> Option<(NodeId, MethodKind)> {
        if !self.all_rest(method, labels) {
            return None;
        }
        let serves = |id: &NodeId| {
            let node = self.node(*id).filter(|node| !avoid.contains(id) && self.is_serving(node, method, labels))?;
            let kind = self.kind_on(*id, method)?;
            node.takes(kind, need).then_some((*id, kind))
        };
        self.resting.iter().take(MOST_LOOKED_AT).find_map(serves)
    }

    fn ready_load(&self, node: &Node<H>, kind: MethodKind) -> Option<(u64, NodeId)> {
        node.standing.load[kind].map(|load| (load, node.identity.id))
    }

    /// The node to which calls with this affinity go, of those that are not given a rest.
    pub(super) fn closest(&self, key: u64, method: MethodId, search: Search<'_>) -> Option<NodeId> {
        let rests = |id| !self.resting.is_empty() && self.resting.contains(&id);
        self.closest_without(key, method, search, |id| search.avoid.contains(&id) || rests(id))
    }

    fn closest_without(
        &self,
        key: u64,
        method: MethodId,
        search: Search<'_>,
        skip: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let groups = self.providers(method).iter().filter_map(|id| self.group(*id));
        if search.is_filling || groups.clone().all(|group| search.view(group).is_some()) {
            let views = groups.filter_map(|group| search.view(group));
            return ring::closest(views.map(|view| &view.ring), key, skip);
        }
        // There are too many combinations of labels for a view of each.
        let labelled = groups.flat_map(|group| self.labelled(group, search.labels));
        let serving = labelled.filter(|node| node.standing.serving && !skip(node.identity.id));
        ring::closest_of(serving.map(|node| (node.place, node.identity.id)), key)
    }

    /// Where calls of the method can go. While the view of the labels is being filled, at least that.
    pub(super) fn capacity(&self, method: MethodId, labels: &Labels) -> Capacity {
        let mut capacity = Capacity::default();
        for group in self.providers(method).iter().filter_map(|id| self.group(*id)) {
            let Some(kind) = group.kind_of(method) else { continue };
            let counted = group.view(labels).or_else(|| group.view_so_far(labels).filter(|view| view.serving > 0));
            let (nodes, slots, free) = match counted {
                Some(view) => (view.serving, view.limit[kind], view.free[kind]),
                None => self.labelled(group, labels).filter(|node| node.standing.serving).fold(
                    (0, 0, 0),
                    |(nodes, slots, free), node| {
                        let Standing { limit, free: left, .. } = &node.standing;
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
