//! The balancing rule: the load of a node, what a node takes, and which node a call goes to.
//!
//! A call goes to the node with the smallest load among those that can take it. The load is the share of a node's slots (for
//! async calls: of its async limit) that is taken. A node can take a call if a slot is free. It is sent compute calls ahead
//! of a free slot only while all that it has is expected to be done soon, and is small. Calls with the same affinity key go
//! to the same node.
//!
//! The whole rule is here: indexes, queues and events only ask it. How much a new node gets is in
//! [`slow_start`](super::slow_start), and how much a failing node gets in [`health`](super::health).

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    avoidance::{AvoidedNodes, avoided_nodes},
    call::CallEntry,
    group::{Group, IndexEntry, View},
    host::{Host, Time},
    node::{CallCost, Node},
    per_kind::{KINDS, PerKind},
    queues::{Queue, Scope},
    registration::NodeProfile,
    registry::Registry,
    ring,
    state::Core,
};
use crate::{
    hash::mix,
    id::{CallId, NodeId},
    security::Source,
    service::{
        method::{MethodId, MethodKind},
        options::Labels,
    },
    view::NodeState,
};

/// A node is sent compute calls ahead of a free slot only while all that it has then is expected to take less than this per
/// slot. It hides the way to the master and back for tiny calls, and keeps a call from waiting behind a long one while a slot
/// elsewhere gets free. Calls that were sent ahead also delay the calls that another caller makes later.
const PREFETCH_TIME: Duration = Duration::from_millis(5);

/// No more calls than this wait on a node, however tiny they are. On one machine, 2 slots run some hundred calls in the time
/// that a message takes to the master and back.
const PREFETCH_MOST: u32 = 512;

/// The arguments of all compute calls of a node that was sent some ahead are no larger than this in all: they take its memory
/// while they wait.
const PREFETCH_BYTES: usize = 4 * 1024 * 1024;

/// A node that has calls waiting and ends none for this long was misjudged, and is asked to give them back. Twenty times
/// what they were expected to take.
const RETRACT_AFTER: Duration = PREFETCH_TIME.saturating_mul(20);

/// The expected run time of a method that has never been timed: too long to be sent ahead.
const UNKNOWN_RUN_TIME: Duration = Duration::from_secs(3600);

/// One new run time is this part (one in) of the new mean.
const MEAN_OVER: u32 = 8;

/// How many nodes of each group are looked at to find one of another source than those where a call was lost.
const MOST_TRIED: usize = 32;

/// How many ejected nodes are looked at where there are no others.
const MOST_EJECTED_TRIED: usize = 64;

/// How long a call of a method is expected to run, by the mean run times of methods.
pub(super) fn expected_run_time(run_times: &FxHashMap<MethodId, Duration>, method: MethodId) -> Duration {
    run_times.get(&method).copied().unwrap_or(UNKNOWN_RUN_TIME)
}

/// How many requests of each kind a node with this profile has in flight at most that could also go elsewhere.
pub(super) fn most_in_flight(profile: &NodeProfile) -> PerKind<u32> {
    PerKind {
        compute: profile.limit(MethodKind::Compute).saturating_add(PREFETCH_MOST),
        asynchronous: profile.limit(MethodKind::Async),
    }
}

impl<H: Host> Node<H> {
    /// How many calls it runs at once.
    pub(super) fn limit(&self, kind: MethodKind) -> u32 {
        self.profile.limit(kind)
    }

    /// How much of that is taken.
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

    /// Whether it can be sent one more call that is for this node.
    pub(super) fn takes(&self, kind: MethodKind, cost: CallCost) -> bool {
        self.is_open()
            && (self.has_free_slot(kind)
                || kind == MethodKind::Compute
                    && !self.stuck
                    && self.busy == 0
                    && self.counts[kind] < self.limit(kind) + PREFETCH_MOST
                    && self.backlog.bytes.saturating_add(cost.bytes) <= PREFETCH_BYTES
                    && self.backlog.time.saturating_add(cost.time) <= PREFETCH_TIME * self.limit(kind))
    }

    /// Whether it can be sent one more call that could also go elsewhere. A node whose calls failed gets fewer of these, and
    /// so does a new node.
    pub(super) fn takes_any(&self, kind: MethodKind, cost: CallCost) -> bool {
        self.health.allows(self.counts.compute + self.counts.asynchronous)
            && self.window.left(kind, self.counts[kind]) > 0
            && self.takes(kind, cost)
    }

    /// Whether it may find a call in the queues of its group. An ejected node gets the calls that no other node can take.
    pub(super) fn may_take_from_group(&self, kind: MethodKind) -> bool {
        self.takes_any(kind, CallCost::ZERO) || self.health.is_ejected()
    }

    /// What the indexes of its group should have of it now.
    pub(super) fn current_index_entry(&self) -> IndexEntry {
        let serving = self.state != NodeState::Draining;
        let mut entry = IndexEntry { serving, cordoned: serving && self.is_cordoned, ..IndexEntry::default() };
        entry.ejected = entry.is_open() && self.health.is_ejected();
        entry.suspect =
            entry.is_open() && !entry.ejected && matches!(self.state, NodeState::Suspect | NodeState::Disconnected);
        for kind in KINDS {
            if entry.is_open() {
                entry.limit[kind] = self.limit(kind);
            }
            if self.is_open() {
                let left = self.limit(kind).saturating_sub(self.taken(kind));
                entry.free[kind] = left.min(self.window.left(kind, self.counts[kind]));
            }
            entry.load[kind] = self.takes_any(kind, CallCost::ZERO).then(|| self.load(kind));
        }
        entry
    }

    /// Whether it has calls beyond its slots and has ended none for so long that these should be given back.
    pub(super) fn is_stuck(&self, now: Time) -> bool {
        !self.stuck
            && self.counts.compute > self.limit(MethodKind::Compute)
            && now.saturating_sub(self.last_progress) > RETRACT_AFTER
    }

    /// Checks the entry that the indexes have against the definition of load and free slots, and not with the functions that
    /// made the entry.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn check_index_entry(&self) -> Result<(), String> {
        let (name, entry) = (&self.identity, &self.index_entry);
        for kind in KINDS {
            let taken = self.counts[kind] + if kind == MethodKind::Compute { self.busy } else { 0 };
            let load = u64::from(taken) * (1 << 32) / u64::from(self.limit(kind));
            if entry.load[kind].is_some_and(|listed| listed != load) {
                return Err(format!(
                    "{name} is listed with load {:?}, and its load is {load} ({kind:?})",
                    entry.load[kind]
                ));
            }
            if entry.load[kind].is_some() != self.takes_any(kind, CallCost::ZERO) {
                return Err(format!("{name} is listed wrongly as to whether it takes {kind:?} calls"));
            }
            let left = self.limit(kind).saturating_sub(taken).min(self.window.left(kind, self.counts[kind]));
            let free = if self.state == NodeState::Alive && !self.is_cordoned { left } else { 0 };
            if entry.free[kind] != free {
                return Err(format!("{name} is listed with {} free slots and has {free} ({kind:?})", entry.free[kind]));
            }
        }
        if entry.serving != (self.state != NodeState::Draining) {
            return Err(format!("{name} is listed wrongly as to whether it serves"));
        }
        if entry.cordoned != (entry.serving && self.is_cordoned) {
            return Err(format!("{name} is listed wrongly as to whether it is cordoned"));
        }
        Ok(())
    }
}

/// Which nodes a call can go to.
#[derive(Clone, Copy, Debug)]
struct Search<'a> {
    labels: &'a Labels,
    /// Nodes that it must not go to.
    avoid: &'a [NodeId],
    /// Sources that it should not go to if a node of another source takes it.
    sources: &'a [Source],
    /// Whether the views of the labels are still being filled. The nodes that they have so far are enough then.
    is_filling: bool,
}

impl Search<'_> {
    /// The members of a group with the labels, as far as they are known.
    fn view<'g>(&self, group: &'g Group) -> Option<&'g View> {
        if self.is_filling { group.view_so_far(self.labels) } else { group.view(self.labels) }
    }
}

impl<H: Host> Registry<H> {
    /// The least loaded node that can take a call of the method now, preferably of another source. `salt` decides between
    /// nodes of the same load.
    fn least_loaded(
        &self,
        method: MethodId,
        search: Search<'_>,
        cost: CallCost,
        salt: u64,
    ) -> Option<(NodeId, MethodKind)> {
        let Search { labels, avoid, sources, is_filling } = search;
        let best_of = |id| {
            let group = self.group(id)?;
            let kind = group.kind_of(method)?;
            let fits = |(_, id): &(u64, NodeId)| !avoid.contains(id);
            // A full node of another source is no better than a node of the same source.
            let is_elsewhere = |id| {
                let takes = |node: &Node<H>| !sources.contains(&node.source) && node.takes_any(kind, cost);
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
                    let ready = self.labelled(group, labels).filter_map(|node| ready_load(node, kind));
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
            return self.ejected_that_takes(method, labels, cost, avoid);
        };
        // If the least loaded node is full, all are. Nodes of the same load differ in their backlog only, and by less than
        // is prefetched.
        self.node(node)?.takes_any(kind, cost).then_some((node, kind))
    }

    /// An ejected node, if all open nodes that serve the method are ejected.
    fn ejected_that_takes(
        &self,
        method: MethodId,
        labels: &Labels,
        cost: CallCost,
        avoid: &[NodeId],
    ) -> Option<(NodeId, MethodKind)> {
        if !self.all_ejected(method, labels) {
            return None;
        }
        let serves = |id: &NodeId| {
            let node = self.node(*id).filter(|node| !avoid.contains(id) && self.is_serving(node, method, labels))?;
            let kind = self.kind_on(*id, method)?;
            node.takes(kind, cost).then_some((*id, kind))
        };
        self.ejected.iter().take(MOST_EJECTED_TRIED).find_map(serves)
    }

    /// The node to which calls with this affinity key go. Ejected and cordoned nodes are left out.
    fn closest(&self, key: u64, method: MethodId, search: Search<'_>) -> Option<NodeId> {
        let is_ejected = |id| !self.ejected.is_empty() && self.ejected.contains(&id);
        let is_cordoned =
            |id| !self.cordoned_processes.is_empty() && self.node(id).is_some_and(|node| node.is_cordoned);
        let skip = |id| search.avoid.contains(&id) || is_ejected(id) || is_cordoned(id);
        let groups = self.providers(method).iter().filter_map(|id| self.group(*id));
        if search.is_filling || groups.clone().all(|group| search.view(group).is_some()) {
            let views = groups.filter_map(|group| search.view(group));
            return ring::closest(views.map(|view| &view.ring), key, skip);
        }
        // There are too many combinations of labels to keep a view of each.
        let labelled = groups.flat_map(|group| self.labelled(group, search.labels));
        let serving = labelled.filter(|node| node.index_entry.serving && !skip(node.identity.id));
        ring::closest_of(serving.map(|node| (node.place, node.identity.id)), key)
    }
}

fn ready_load<H: Host>(node: &Node<H>, kind: MethodKind) -> Option<(u64, NodeId)> {
    node.index_entry.load[kind].map(|load| (load, node.identity.id))
}

impl<H: Host> Core<H> {
    /// The least loaded node that can take the call now and is not to be avoided, preferably of a source where the call was
    /// not lost.
    pub(super) fn choose(&self, id: CallId, labels: &Labels, avoid: &[NodeId]) -> Option<(NodeId, MethodKind)> {
        let call = self.calls.get(&id)?;
        let method = call.method.id();
        // Made from the seed and the call's number: random to an observer, and the same in each run.
        let salt = self.settings.seed ^ id.0;
        let sources: Vec<Source> =
            call.failed_attempts.iter().filter_map(|failed_attempt| failed_attempt.source).collect();
        let search = Search { labels, avoid, sources: &sources, is_filling: self.is_filling(method, labels) };
        self.registry.least_loaded(method, search, self.cost(call), salt)
    }

    /// The one node that the call has to go to, if there is one, and whether the caller named it.
    pub(super) fn find_target(&self, id: CallId) -> Option<(NodeId, bool)> {
        let call = self.calls.get(&id)?;
        if let Some(node) = call.demand.node {
            return Some((node, true));
        }
        let (method, labels, avoid) = (call.method.id(), &call.demand.labels, self.to_avoid(call));
        let key = call.demand.affinity?;
        let avoid = self.still_avoided(method, labels, &avoid);
        let search = Search { labels, avoid, sources: &[], is_filling: self.is_filling(method, labels) };
        self.registry.closest(key, method, search).map(|node| (node, false))
    }

    /// Whether a node that serves the method may take the calls of a queue, apart from their cost.
    pub(super) fn may_take(&self, node: &Node<H>, kind: MethodKind, queue: &Queue) -> bool {
        match &queue.scope {
            Scope::Node { exact: true, .. } => true,
            Scope::Node { exact: false, .. } => node.takes_any(kind, CallCost::ZERO),
            // A queue is listed only where nodes look that have its labels and are not avoided.
            Scope::Any { labels, .. } => {
                node.takes_any(kind, CallCost::ZERO)
                    || node.health.is_ejected() && self.registry.all_ejected(queue.method.id(), labels)
            }
        }
    }

    /// How many calls a node may be sent ahead at a time: its share of all that wait, so that the nodes which get a free slot
    /// next find calls too.
    pub(super) fn prefetch_share(&self) -> usize {
        self.queues.waiting.div_ceil(self.registry.len().max(1))
    }

    /// The expected cost of a call. A call that was lost before is not sent ahead of a free slot: it may be the cause, and
    /// calls that wait behind it would be lost as well.
    pub(super) fn cost(&self, call: &CallEntry<H>) -> CallCost {
        let time = if call.may_have_run() { UNKNOWN_RUN_TIME } else { self.expected_run_time(call.method.id()) };
        CallCost { time: time.saturating_mul(call.demand.count), bytes: call.demand.size }
    }

    /// How long a call of a method is expected to run.
    pub(super) fn expected_run_time(&self, method: MethodId) -> Duration {
        expected_run_time(&self.run_times, method)
    }

    /// Adds a run time to the mean of its method.
    pub(super) fn note_run_time(&mut self, method: MethodId, run: Duration) {
        // Bounded, so that no sum of them can overflow.
        let run = run.min(UNKNOWN_RUN_TIME);
        let mean = self.run_times.entry(method).or_insert(run);
        *mean = *mean - *mean / MEAN_OVER + run / MEAN_OVER;
    }

    /// The nodes that the call should not go to: those that it has tried, and the one where the call that it hedges is.
    pub(super) fn to_avoid(&self, call: &CallEntry<H>) -> AvoidedNodes {
        if call.failed_attempts.is_empty() && call.hedged_on.is_none() {
            return None;
        }
        let tried = call.failed_attempts.iter().map(|failed_attempt| failed_attempt.node.id).chain(call.hedged_on);
        let labels = &call.demand.labels;
        let serving = tried.filter_map(|id| {
            let node = self.registry.node(id)?;
            self.registry.is_serving(node, call.method.id(), labels).then_some(id)
        });
        avoided_nodes(serving.collect())
    }

    /// Those of the nodes to avoid that are still avoided: none, if no other node serves the method.
    pub(super) fn still_avoided<'a>(&self, method: MethodId, labels: &Labels, avoid: &'a AvoidedNodes) -> &'a [NodeId] {
        avoid.as_deref().filter(|_| !self.registry.lapses(method, labels, avoid)).unwrap_or_default()
    }

    /// Whether there is another node for a call that a node would not take.
    pub(super) fn has_alternative(&self, call: &CallEntry<H>) -> bool {
        let avoid = self.to_avoid(call);
        !self.registry.lapses(call.method.id(), &call.demand.labels, &avoid)
    }
}
