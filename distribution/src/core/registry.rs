//! The nodes, and an index by which the least loaded one is found without looking at all of them.
//!
//! Nodes that serve exactly the same methods form a group. A group keeps, for each kind of method, an
//! ordered set of the members that can take one more call of it, least loaded first. Choosing a node
//! looks at the first entries of the few groups that serve the method; a node whose load changes moves
//! in its own group's sets only.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rustc_hash::FxHashMap;

use super::{Host, Labels, Seq, Time, ready::Ready};
use crate::{
    id::{CallId, NodeId, NodeIdentity},
    service::{
        caller::Capacity,
        compatibility::{Incompatibility, explain},
        method::{Method, MethodId, MethodKind, hash},
    },
    view::{NodeInfo, NodeState, ServiceInfo},
    wire::hello::Registration,
};

/// A node is sent more compute calls than it has slots only while all that it has then is expected to
/// take less than this, per slot. It hides the way to the master and back for tiny calls, and keeps a
/// long call from waiting behind another while a slot elsewhere gets free.
pub(super) const PREFETCH_TIME: Duration = Duration::from_millis(10);

/// However tiny the calls are, no more of them than this wait on a node. 2 slots turn over some
/// hundred calls in the time that a message takes to the master and back on one machine.
pub(super) const PREFETCH_MOST: u32 = 512;

/// A node that has calls waiting and ends none for this long was misjudged; it is asked to give them
/// back. Ten times what they were expected to take.
const RETRACT_AFTER: Duration = PREFETCH_TIME.saturating_mul(10);

/// What a call of a method that has never been timed is taken to need: too long to be prefetched.
pub(super) const UNKNOWN_RUN_TIME: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(u64);

#[derive(Debug)]
struct Group {
    methods: BTreeMap<MethodId, MethodKind>,
    /// Members that may get calls: all but the draining.
    serving: usize,
    members: usize,
    ready: [Ready; 2],
}

/// A call, or a batch of them, in flight on a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Booking {
    pub(super) call: CallId,
    pub(super) attempt: u32,
    pub(super) kind: MethodKind,
    /// How many calls it is.
    pub(super) count: u32,
    /// What it is expected to take.
    pub(super) expected: Duration,
}

pub(super) struct Node<H: Host> {
    pub(super) identity: NodeIdentity,
    pub(super) link: H::Link,
    pub(super) state: NodeState,
    pub(super) in_flight: FxHashMap<(CallId, u32), Booking>,
    /// Calls that wait for this node and no other.
    pub(super) waiting: BTreeMap<Seq, CallId>,
    pub(super) joined: Time,
    pub(super) silent_for: Duration,
    /// Slots that handlers of an earlier connection hold.
    busy: u32,
    answered: u64,
    registration: Registration,
    /// Hash of its name, for affinity.
    place: u64,
    group: GroupId,
    counts: [u32; 2],
    /// Expected time of all compute calls in flight.
    backlog: Duration,
    /// When a compute call ended here last, or the first of those in flight was sent.
    moved: Time,
    /// Takes longer over what it has than was expected, so it is sent nothing ahead until a call ends.
    stuck: bool,
}

impl<H: Host> Node<H> {
    fn limit(&self, kind: MethodKind) -> u32 {
        match kind {
            MethodKind::Compute => self.registration.slots,
            MethodKind::Async => self.registration.async_limit,
        }
    }

    fn taken(&self, kind: MethodKind) -> u32 {
        match kind {
            MethodKind::Compute => self.counts[kind as usize].saturating_add(self.busy),
            MethodKind::Async => self.counts[kind as usize],
        }
    }

    pub(super) fn has_labels(&self, labels: &Labels) -> bool {
        let has = |wanted: &(String, String)| self.registration.labels.contains(wanted);
        labels.as_ref().is_none_or(|labels| labels.iter().all(has))
    }

    pub(super) fn calls_in_flight(&self) -> usize {
        self.in_flight.values().map(|booking| booking.count as usize).sum()
    }

    pub(super) fn has_free_slot(&self, kind: MethodKind) -> bool {
        self.taken(kind) < self.limit(kind)
    }

    /// Whether one more call that is expected to take this long may be sent.
    pub(super) fn takes(&self, kind: MethodKind, expected: Duration) -> bool {
        self.state == NodeState::Alive
            && (self.has_free_slot(kind)
                || kind == MethodKind::Compute
                    && !self.stuck
                    && self.busy == 0
                    && self.counts[kind as usize] < self.registration.slots + PREFETCH_MOST
                    && self.backlog.saturating_add(expected) <= PREFETCH_TIME * self.registration.slots)
    }
}

pub(super) struct Registry<H: Host> {
    /// Found by a hash, since each call looks several times. Numbered by ourselves, so no stronger hash is
    /// needed.
    nodes: FxHashMap<NodeId, Box<Node<H>>>,
    /// Their ids, in the order they came.
    order: BTreeSet<NodeId>,
    groups: BTreeMap<GroupId, Group>,
    /// Which groups serve a method.
    providers: BTreeMap<MethodId, Vec<GroupId>>,
    next_group: u64,
    /// Calls in flight, over all nodes.
    pub(super) in_flight: usize,
}

impl<H: Host> Registry<H> {
    pub(super) fn new() -> Self {
        Self {
            nodes: FxHashMap::default(),
            order: BTreeSet::new(),
            groups: BTreeMap::new(),
            providers: BTreeMap::new(),
            next_group: 0,
            in_flight: 0,
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node<H>> {
        self.nodes.get(&id).map(Box::as_ref)
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node<H>> {
        self.nodes.get_mut(&id).map(Box::as_mut)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node<H>> {
        self.order.iter().filter_map(|id| self.node(*id))
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.order.iter().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes that get new calls.
    pub(super) fn alive(&self) -> usize {
        self.nodes().filter(|node| node.state == NodeState::Alive).count()
    }

    pub(super) fn join(&mut self, identity: NodeIdentity, registration: Registration, link: H::Link, now: Time) {
        let methods: BTreeMap<MethodId, MethodKind> = registration
            .methods
            .iter()
            .map(|offer| (MethodId(offer.id), if offer.compute { MethodKind::Compute } else { MethodKind::Async }))
            .collect();
        let known = self.groups.iter().find(|(_, group)| group.methods == methods).map(|(id, _)| *id);
        let group = known.unwrap_or_else(|| {
            let id = GroupId(self.next_group);
            self.next_group += 1;
            for method in methods.keys() {
                self.providers.entry(*method).or_default().push(id);
            }
            self.groups.insert(id, Group { methods, serving: 0, members: 0, ready: Default::default() });
            id
        });
        let id = identity.id;
        self.order.insert(id);
        self.nodes.insert(
            id,
            Box::new(Node {
                identity,
                link,
                state: NodeState::Alive,
                in_flight: FxHashMap::default(),
                waiting: BTreeMap::new(),
                joined: now,
                silent_for: Duration::ZERO,
                busy: registration.busy.min(registration.slots),
                answered: 0,
                place: hash(registration.name.as_bytes()),
                registration,
                group,
                counts: [0; 2],
                backlog: Duration::ZERO,
                moved: now,
                stuck: false,
            }),
        );
        if let Some(group) = self.groups.get_mut(&group) {
            group.members += 1;
            group.serving += 1;
        }
        self.reindex(id);
    }

    /// Takes a node out, with all that was in flight on it or waited for it.
    pub(super) fn leave(&mut self, id: NodeId) -> Option<Node<H>> {
        // Draining first: it takes the node out of the index and the count of those that serve.
        self.set_state(id, NodeState::Draining);
        let node = *self.nodes.remove(&id)?;
        self.order.remove(&id);
        self.in_flight -= node.calls_in_flight();
        if let Some(group) = self.groups.get_mut(&node.group) {
            group.members -= 1;
            if group.members == 0 {
                if let Some(group) = self.groups.remove(&node.group) {
                    for method in group.methods.keys() {
                        if let Some(providers) = self.providers.get_mut(method) {
                            providers.retain(|provider| *provider != node.group);
                            if providers.is_empty() {
                                self.providers.remove(method);
                            }
                        }
                    }
                }
            }
        }
        Some(node)
    }

    pub(super) fn set_state(&mut self, id: NodeId, state: NodeState) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.state != NodeState::Draining && state == NodeState::Draining {
            if let Some(group) = self.groups.get_mut(&node.group) {
                group.serving -= 1;
            }
        }
        node.state = state;
        self.reindex(id);
    }

    /// Books the slots that a node says are taken by what is not in the books; whether it has changed.
    pub(super) fn set_busy(&mut self, id: NodeId, busy: u32) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let busy = busy.min(node.registration.slots);
        let changed = node.busy != busy;
        node.busy = busy;
        if changed {
            self.reindex(id);
        }
        changed
    }

    /// Books a call onto a node.
    pub(super) fn start(&mut self, now: Time, id: NodeId, booking: Booking) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Booking { call, attempt, kind, count, expected } = booking;
        node.in_flight.insert((call, attempt), booking);
        node.counts[kind as usize] += 1;
        if kind == MethodKind::Compute {
            node.backlog += expected;
            if node.counts[kind as usize] == 1 {
                node.moved = now;
            }
        }
        self.in_flight += count as usize;
        self.reindex_for(id, &[kind]);
    }

    /// How many calls this is in flight there.
    pub(super) fn booked(&self, id: NodeId, call: CallId, attempt: u32) -> u32 {
        self.nodes.get(&id).and_then(|node| node.in_flight.get(&(call, attempt))).map_or(0, |booking| booking.count)
    }

    /// Books it off again, and how many handlers ran; `false` if it was not there.
    #[allow(clippy::too_many_arguments, reason = "they are the booking")]
    pub(super) fn end(&mut self, now: Time, id: NodeId, call: CallId, attempt: u32, ran: u32) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Some(entry) = node.in_flight.remove(&(call, attempt)) else { return false };
        node.counts[entry.kind as usize] -= 1;
        if entry.kind == MethodKind::Compute {
            node.backlog -= entry.expected;
            if ran > 0 {
                node.moved = now;
                node.stuck = false;
            }
        }
        node.answered += u64::from(ran);
        self.in_flight -= entry.count as usize;
        self.reindex_for(id, &[entry.kind]);
        true
    }

    /// Marks the nodes that hold calls beyond their slots and have ended none for so long that these
    /// were better off elsewhere.
    pub(super) fn mark_stuck(&mut self, now: Time) -> Vec<NodeId> {
        let is_stuck = |node: &&mut Node<H>| {
            !node.stuck
                && node.counts[MethodKind::Compute as usize] > node.registration.slots
                && now.saturating_sub(node.moved) > RETRACT_AFTER
        };
        let mut stuck = Vec::new();
        for id in &self.order {
            if let Some(node) = self.nodes.get_mut(id).map(Box::as_mut).filter(is_stuck) {
                node.stuck = true;
                stuck.push(*id);
            }
        }
        for id in &stuck {
            self.reindex(*id);
        }
        stuck
    }

    fn reindex(&mut self, id: NodeId) {
        self.reindex_for(id, &[MethodKind::Compute, MethodKind::Async]);
    }

    fn reindex_for(&mut self, id: NodeId, kinds: &[MethodKind]) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(group) = self.groups.get_mut(&node.group) else { return };
        for kind in kinds.iter().copied() {
            let ready = &mut group.ready[kind as usize];
            ready.remove(id);
            if node.takes(kind, Duration::ZERO) {
                ready.insert(id, (u64::from(node.taken(kind)) << 32) / u64::from(node.registration.slots));
            }
        }
    }

    /// How a node runs a method; `None` if it does not serve it.
    pub(super) fn kind_on(&self, id: NodeId, method: MethodId) -> Option<MethodKind> {
        let node = self.nodes.get(&id)?;
        self.groups.get(&node.group)?.methods.get(&method).copied()
    }

    /// How many nodes may get calls of the method, busy and suspect ones included.
    pub(super) fn serving(&self, method: MethodId, labels: &Labels) -> usize {
        if labels.is_some() {
            return self.candidates(method, labels).count();
        }
        let providers = self.providers.get(&method).map(Vec::as_slice).unwrap_or_default();
        providers.iter().filter_map(|id| self.groups.get(id)).map(|group| group.serving).sum()
    }

    /// The nodes that may get calls of the method, busy and suspect ones included. Looks at all nodes.
    pub(super) fn candidates(&self, method: MethodId, labels: &Labels) -> impl Iterator<Item = &Node<H>> {
        self.nodes().filter(move |node| {
            node.state != NodeState::Draining
                && node.has_labels(labels)
                && self.groups.get(&node.group).is_some_and(|group| group.methods.contains_key(&method))
        })
    }

    /// The node to which calls with this affinity go: each key orders the nodes in its own way, by a hash
    /// of both, and takes the first. So a node that comes or goes moves only the keys that it is first for.
    /// (Rendezvous hashing: Thaler and Ravishankar, 1998.)
    pub(super) fn closest(&self, key: u64, method: MethodId, labels: &Labels, avoid: &[NodeId]) -> Option<NodeId> {
        self.candidates(method, labels)
            .map(|node| (mix(key ^ mix(node.place)), node.identity.id))
            .filter(|(_, id)| !avoid.contains(id))
            .max()
            .map(|(_, id)| id)
    }

    /// The least loaded node that can take a call of the method now, among those not in `avoid`.
    /// `salt` decides between equals.
    pub(super) fn least_loaded(
        &self,
        method: MethodId,
        labels: &Labels,
        expected: Duration,
        avoid: &[NodeId],
        salt: u64,
    ) -> Option<(NodeId, MethodKind)> {
        let providers = self.providers.get(&method)?;
        let best_of = |id: &GroupId| {
            let group = self.groups.get(id)?;
            let kind = *group.methods.get(&method)?;
            let fits = |(_, id): &(u64, NodeId)| {
                !avoid.contains(id) && (labels.is_none() || self.node(*id).is_some_and(|node| node.has_labels(labels)))
            };
            let (load, node) = group.ready[kind as usize].iter(salt).find(fits)?;
            Some((load, mix(salt ^ id.0), node, kind))
        };
        let (_, _, node, kind) = providers.iter().filter_map(best_of).min_by_key(|(load, tie, ..)| (*load, *tie))?;
        // With the least loaded one full, all are: only its backlog can tell it from the others, and
        // that by less than the prefetch.
        self.node(node)?.takes(kind, expected).then_some((node, kind))
    }

    /// Why no node can run calls of the method, although nodes serve its service. Looks at all nodes.
    pub(super) fn incompatibility(&self, method: &Method) -> Option<Incompatibility> {
        let nodes = self.nodes().map(|node| (&*node.registration.name, &node.registration.methods[..]));
        explain(method, nodes)
    }

    /// The registry as people see it.
    pub(super) fn infos(&self, now: Time) -> Vec<NodeInfo> {
        self.nodes().map(|node| node.info(now)).collect()
    }

    /// Where calls of the method can go. Looks at all nodes.
    pub(super) fn capacity(&self, method: MethodId, labels: &Labels) -> Capacity {
        let mut capacity = Capacity::default();
        for node in self.candidates(method, labels) {
            let Some(kind) = self.kind_on(node.identity.id, method) else { continue };
            let limit = node.limit(kind) as usize;
            capacity.nodes += 1;
            capacity.slots += limit;
            if node.state == NodeState::Alive {
                capacity.free += limit.saturating_sub(node.taken(kind) as usize);
            }
            capacity.compute = kind == MethodKind::Compute && (capacity.compute || capacity.nodes == 1);
        }
        capacity
    }
}

impl<H: Host> Node<H> {
    pub(super) fn info(&self, now: Time) -> NodeInfo {
        NodeInfo {
            id: self.identity.id,
            name: self.identity.name.clone(),
            addr: self.identity.addr,
            labels: self.registration.labels.iter().cloned().collect(),
            services: services(&self.registration),
            slots: self.registration.slots,
            state: self.state,
            in_flight: self.calls_in_flight(),
            answered: self.answered,
            registered_for: now.saturating_sub(self.joined),
            silent_for: self.silent_for,
        }
    }
}

/// Spreads the bits of a number (the finalizer of splitmix64: Steele, Lea and Flood, 2014).
pub(super) fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn services(registration: &Registration) -> Vec<ServiceInfo> {
    let mut services: BTreeMap<(&str, u32), Vec<String>> = BTreeMap::new();
    for offer in &registration.methods {
        let methods = services.entry((&offer.service, offer.version)).or_default();
        methods.push(format!("{}: {}", offer.name, offer.signature));
    }
    services
        .into_iter()
        .map(|((name, version), methods)| ServiceInfo { name: name.to_owned(), version, methods })
        .collect()
}

#[cfg(feature = "simulation")]
impl<H: Host> Node<H> {
    pub(super) fn counts(&self) -> [u32; 2] {
        self.counts
    }

    pub(super) fn backlog(&self) -> Duration {
        self.backlog
    }

    /// The backlog, counted anew.
    pub(super) fn expected_backlog(&self) -> Duration {
        self.in_flight.values().filter(|call| call.kind == MethodKind::Compute).map(|call| call.expected).sum()
    }

    pub(super) fn group(&self) -> GroupId {
        self.group
    }
}

#[cfg(feature = "simulation")]
impl<H: Host> Registry<H> {
    pub(super) fn is_ready(&self, node: &Node<H>, kind: MethodKind) -> bool {
        self.groups.get(&node.group).is_some_and(|group| group.ready[kind as usize].contains(node.identity.id))
    }

    /// Compares the groups with how many members each should have that serve.
    pub(super) fn check_groups(&self, serving: &BTreeMap<GroupId, usize>) -> Result<(), String> {
        let kept: BTreeMap<GroupId, usize> = self.groups.iter().map(|(id, group)| (*id, group.serving)).collect();
        if kept != *serving {
            return Err(format!("groups: {kept:?} in the books, {serving:?} counted"));
        }
        for (method, providers) in &self.providers {
            for id in providers {
                if !self.groups.get(id).is_some_and(|group| group.methods.contains_key(method)) {
                    return Err("a group is listed for a method that it does not serve".to_owned());
                }
            }
        }
        let listed: usize = self.providers.values().map(Vec::len).sum();
        let served: usize = self.groups.values().map(|group| group.methods.len()).sum();
        if listed == served { Ok(()) } else { Err("a group is not listed for a method that it serves".to_owned()) }
    }
}
