//! The nodes, and the books of what each has.
//!
//! Nodes that serve exactly the same methods form a [`Group`], which keeps its members by load. A node whose load changes
//! moves in its own group's indexes only, so that nothing here costs more with more nodes than the logarithm.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;

use super::{
    Host, Labels, Time,
    avoid::{Avoid, But},
    balance::{Need, RETRACT_AFTER},
    card::{MethodSet, NodeProfile},
    group::{Group, GroupId, Member, Standing, ViewStep, Views},
    health::Health,
    per_kind::{KINDS, PerKind},
    queues::{HeadChange, Place, QueueId, Queues, Scope, TakenBy, Work},
    row::NodeSnapshot,
    slow_start::Window,
};
use crate::{
    hash::keyed,
    id::{CallId, NodeId, NodeIdentity},
    security::{CredentialId, Principal, PrincipalKind, Source},
    service::{
        compatibility::{Incompatibility, explain},
        method::{Method, MethodId, MethodKind},
    },
    view::NodeState,
};

/// Groups that the methods of a newcomer are compared with.
const MOST_COMPARED: usize = 64;

/// A call, or a batch of them, in flight on a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Booking {
    pub(super) call: CallId,
    pub(super) attempt: u32,
    pub(super) method: MethodId,
    pub(super) kind: MethodKind,
    /// How many calls it is.
    pub(super) count: u32,
    /// What it is expected to take.
    pub(super) need: Need,
    pub(super) sent: Time,
}

/// What a node has been sent and is expected to take over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    pub(super) time: Duration,
    pub(super) bytes: usize,
}

pub(super) struct Node<H: Host> {
    pub(super) identity: NodeIdentity,
    pub(super) card: Arc<NodeProfile>,
    /// Hash of its name, which places it on the ring of affinity keys.
    pub(super) place: u64,
    pub(super) source: Source,
    pub(super) link: H::Link,
    pub(super) state: NodeState,
    pub(super) in_flight: FxHashMap<(CallId, u32), Booking>,
    /// Calls in flight, those of batches counted.
    pub(super) calls: usize,
    /// Queues of calls that are for this node and no other.
    pub(super) work: PerKind<Work>,
    pub(super) joined: Time,
    pub(super) silent_for: Duration,
    /// Slots that handlers of an earlier connection hold.
    pub(super) busy: u32,
    pub(super) answered: u64,
    /// Which of its methods cannot be called on it, and why; known soon after it has joined.
    pub(super) uncallable: Arc<[String]>,
    /// How often an async handler of it has blocked its thread.
    pub(super) blocked_async: u32,
    pub(super) health: Health,
    /// How much it may have in flight of calls that could go elsewhere.
    pub(super) window: Window,
    pub(super) group: GroupId,
    pub(super) views: Views,
    /// Requests in flight.
    pub(super) counts: PerKind<u32>,
    /// Of all compute calls in flight.
    pub(super) backlog: Backlog,
    /// When a compute call ended here last, or the first of those in flight was sent.
    pub(super) moved: Time,
    /// Takes longer over what it has than was expected, so it is sent nothing ahead until a call ends.
    pub(super) stuck: bool,
    /// What it counts for in its group.
    pub(super) standing: Standing,
}

impl<H: Host> Node<H> {
    fn member(&self) -> Member {
        Member { node: self.identity.id, place: self.place, source: self.source }
    }

    fn standing(&self) -> Standing {
        let serving = self.state != NodeState::Draining;
        let mut standing = Standing { serving, rests: serving && self.health.rests(), ..Standing::default() };
        for kind in KINDS {
            if serving {
                standing.limit[kind] = self.limit(kind);
            }
            if self.state == NodeState::Alive {
                let left = self.limit(kind).saturating_sub(self.taken(kind));
                standing.free[kind] = left.min(self.window.left(kind, self.counts[kind]));
            }
            standing.load[kind] = self.takes_any(kind, Need::NOTHING).then(|| self.load(kind));
        }
        standing
    }

    /// Whether it has calls beyond its slots and has ended none for so long that these were better off elsewhere.
    pub(super) fn is_stuck(&self, now: Time) -> bool {
        !self.stuck
            && self.counts.compute > self.limit(MethodKind::Compute)
            && now.saturating_sub(self.moved) > RETRACT_AFTER
    }
}

/// What nodes of one group have in common: their methods, and what they show of them.
type Served = (Arc<BTreeMap<MethodId, MethodKind>>, u64);

fn served(catalogue: &MethodSet) -> Served {
    (Arc::clone(&catalogue.methods), catalogue.shown)
}

/// What nodes that came by one credential take of the registry.
#[derive(Debug, Default)]
struct Holding {
    nodes: usize,
    /// Of the methods that nobody served before: bytes.
    catalogues: usize,
}

fn credential(principal: &Principal) -> (PrincipalKind, CredentialId) {
    (principal.kind, principal.id)
}

pub(super) struct Registry<H: Host> {
    /// Found by a hash, since each call looks several times. Numbered by ourselves, so no stronger hash is
    /// needed.
    nodes: FxHashMap<NodeId, Box<Node<H>>>,
    /// Their ids, in the order they came.
    order: BTreeSet<NodeId>,
    groups: BTreeMap<GroupId, Group>,
    by_methods: BTreeMap<Served, GroupId>,
    /// Which groups serve a method.
    providers: FxHashMap<MethodId, Vec<GroupId>>,
    /// Which node each process registered last.
    instances: BTreeMap<u128, NodeId>,
    /// The nodes of each name, by what they came by: ten thousand of one name mostly came by one credential.
    names: BTreeMap<Arc<str>, FxHashMap<Principal, BTreeSet<NodeId>>>,
    /// What nodes hold by each credential.
    credentials: FxHashMap<(PrincipalKind, CredentialId), Holding>,
    next_group: u64,
    /// Known to nobody else: a node that could foresee places would choose its name to be given another node's keys.
    ring_key: [u8; 32],
    /// What the groups' catalogues take, in bytes.
    catalogues: usize,
    /// Calls in flight, over all nodes.
    pub(super) in_flight: usize,
    /// Nodes that get new calls.
    pub(super) alive: usize,
    /// Nodes that are given a rest after failures.
    pub(super) resting: BTreeSet<NodeId>,
}

impl<H: Host> Registry<H> {
    pub(super) fn new(ring_key: [u8; 32]) -> Self {
        Self {
            nodes: FxHashMap::default(),
            order: BTreeSet::new(),
            groups: BTreeMap::new(),
            by_methods: BTreeMap::new(),
            providers: FxHashMap::default(),
            instances: BTreeMap::new(),
            names: BTreeMap::new(),
            credentials: FxHashMap::default(),
            next_group: 0,
            ring_key,
            catalogues: 0,
            in_flight: 0,
            alive: 0,
            resting: BTreeSet::new(),
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node<H>> {
        self.nodes.get(&id).map(Box::as_ref)
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node<H>> {
        self.nodes.get_mut(&id).map(Box::as_mut)
    }

    /// All nodes, in the order they came.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node<H>> {
        self.order.iter().filter_map(|id| self.node(*id))
    }

    /// The nodes that came after this one, in the order they came.
    pub(super) fn nodes_after(&self, after: Option<NodeId>) -> impl Iterator<Item = &Node<H>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).filter_map(|id| self.node(*id))
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(super) fn group_of(&self, id: NodeId) -> Option<&Group> {
        self.group(self.node(id)?.group)
    }

    /// The groups that serve a method.
    pub(super) fn providers(&self, method: MethodId) -> &[GroupId] {
        self.providers.get(&method).map(Vec::as_slice).unwrap_or_default()
    }

    /// The node that this process has registered, if it is here still.
    pub(super) fn registered_by(&self, instance: u128) -> Option<NodeId> {
        self.instances.get(&instance).copied()
    }

    /// The nodes of this name, by what they came by.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = (&Principal, &BTreeSet<NodeId>)> {
        self.names.get(name).into_iter().flatten()
    }

    /// How many nodes are registered by the credential of this principal.
    pub(super) fn registered_with(&self, principal: &Principal) -> usize {
        self.credentials.get(&credential(principal)).map_or(0, |holding| holding.nodes)
    }

    /// Whether nodes are here that serve the same.
    pub(super) fn knows(&self, catalogue: &MethodSet) -> bool {
        self.by_methods.contains_key(&served(catalogue))
    }

    /// What the methods of all nodes take, in bytes.
    pub(super) fn catalogues(&self) -> usize {
        self.catalogues
    }

    /// And those that nodes brought by the credential of this principal.
    pub(super) fn catalogues_with(&self, principal: &Principal) -> usize {
        self.credentials.get(&credential(principal)).map_or(0, |holding| holding.catalogues)
    }

    /// Takes a node in, and says whether its group is new.
    pub(super) fn join(
        &mut self,
        now: Time,
        identity: NodeIdentity,
        (card, catalogue): (Arc<NodeProfile>, Arc<MethodSet>),
        link: H::Link,
        window: Window,
    ) -> bool {
        let known = self.by_methods.get(&served(&catalogue)).copied();
        let group = known.unwrap_or_else(|| {
            let id = GroupId(self.next_group);
            self.next_group += 1;
            for method in catalogue.methods.keys() {
                self.providers.entry(*method).or_default().push(id);
            }
            self.by_methods.insert(served(&catalogue), id);
            self.catalogues += catalogue.size;
            self.credentials.entry(credential(&card.principal)).or_default().catalogues += catalogue.size;
            self.groups.insert(id, Group::new(catalogue, card.principal.clone()));
            id
        });
        let id = identity.id;
        self.order.insert(id);
        self.instances.insert(card.instance, id);
        let named = self.names.entry(Arc::clone(&card.name)).or_default();
        named.entry(card.principal.clone()).or_default().insert(id);
        self.credentials.entry(credential(&card.principal)).or_default().nodes += 1;
        self.alive += 1;
        let views = self.groups.get_mut(&group).map_or(0, |group| group.join(id, &card.labels));
        let busy = card.busy;
        let source = Source::of(&card.principal, identity.addr.ip());
        let node = Node {
            identity,
            place: keyed(&self.ring_key, &card.name),
            card,
            source,
            link,
            state: NodeState::Alive,
            in_flight: FxHashMap::default(),
            calls: 0,
            work: PerKind::default(),
            joined: now,
            silent_for: Duration::ZERO,
            busy,
            answered: 0,
            uncallable: Arc::default(),
            blocked_async: 0,
            health: Health::default(),
            window,
            group,
            views,
            counts: PerKind::default(),
            backlog: Backlog::default(),
            moved: now,
            stuck: false,
            standing: Standing::default(),
        };
        self.nodes.insert(id, Box::new(node));
        self.reindex(id);
        known.is_none()
    }

    /// Takes a node out, with all that was in flight on it or waited for it.
    pub(super) fn leave(&mut self, id: NodeId) -> Option<Node<H>> {
        // Draining first: then it counts for nothing any more.
        self.set_state(id, NodeState::Draining);
        let node = *self.nodes.remove(&id)?;
        self.order.remove(&id);
        self.resting.remove(&id);
        if self.instances.get(&node.card.instance) == Some(&id) {
            self.instances.remove(&node.card.instance);
        }
        if let Some(named) = self.names.get_mut(&node.card.name) {
            if let Some(alike) = named.get_mut(&node.card.principal) {
                alike.remove(&id);
                if alike.is_empty() {
                    named.remove(&node.card.principal);
                }
            }
            if named.is_empty() {
                self.names.remove(&node.card.name);
            }
        }
        self.take_back(&node.card.principal, |holding| holding.nodes -= 1);
        self.in_flight -= node.calls;
        if let Some(group) = self.groups.get_mut(&node.group) {
            group.leave(id, &node.card.labels);
            if group.members == 0 {
                self.remove_group(node.group);
            }
        }
        Some(node)
    }

    fn take_back(&mut self, principal: &Principal, change: impl FnOnce(&mut Holding)) {
        let credential = credential(principal);
        let Some(holding) = self.credentials.get_mut(&credential) else { return };
        change(holding);
        if holding.nodes == 0 && holding.catalogues == 0 {
            self.credentials.remove(&credential);
        }
    }

    fn remove_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.by_methods.remove(&served(&group.catalogue));
        self.catalogues -= group.catalogue.size;
        self.take_back(&group.brought_by, |holding| holding.catalogues -= group.catalogue.size);
        for method in group.catalogue.methods.keys() {
            if let Some(providers) = self.providers.get_mut(method) {
                providers.retain(|provider| *provider != id);
                if providers.is_empty() {
                    self.providers.remove(method);
                }
            }
        }
    }

    pub(super) fn set_state(&mut self, id: NodeId, state: NodeState) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        self.alive -= usize::from(node.state == NodeState::Alive);
        self.alive += usize::from(state == NodeState::Alive);
        node.state = state;
        self.reindex(id);
    }

    /// Books the slots that a node says are taken by what is not in the books; whether it has changed.
    pub(super) fn set_busy(&mut self, id: NodeId, busy: u32) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let busy = busy.min(node.card.slots);
        let changed = node.busy != busy;
        node.busy = busy;
        if changed {
            self.reindex(id);
        }
        changed
    }

    /// Books a call onto a node.
    pub(super) fn start(&mut self, id: NodeId, booking: Booking) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Booking { call, attempt, method, kind, count, need, sent: now } = booking;
        node.in_flight.insert((call, attempt), booking);
        node.counts[kind] += 1;
        node.calls += count as usize;
        node.window.sent(now, kind, method, count);
        if kind == MethodKind::Compute {
            node.backlog.time += need.time;
            node.backlog.bytes += need.bytes;
            if node.counts[kind] == 1 {
                node.moved = now;
            }
        }
        self.in_flight += count as usize;
        self.reindex(id);
    }

    /// How many calls this is in flight there.
    pub(super) fn booked(&self, id: NodeId, call: CallId, attempt: u32) -> u32 {
        self.nodes.get(&id).and_then(|node| node.in_flight.get(&(call, attempt))).map_or(0, |booking| booking.count)
    }

    /// Books it off again, and how many handlers ran. Says how long ago it was sent; `None` if it was not there.
    pub(super) fn end(&mut self, now: Time, id: NodeId, (call, attempt): (CallId, u32), ran: u32) -> Option<Duration> {
        let node = self.nodes.get_mut(&id)?;
        let booking = node.in_flight.remove(&(call, attempt))?;
        node.counts[booking.kind] -= 1;
        node.calls -= booking.count as usize;
        if booking.kind == MethodKind::Compute {
            node.backlog.time -= booking.need.time;
            node.backlog.bytes -= booking.need.bytes;
            if ran > 0 {
                node.moved = now;
                node.stuck = false;
            }
        }
        if ran > 0 {
            node.window.answered(booking.kind, &node.card);
        }
        node.answered += u64::from(ran);
        self.in_flight -= booking.count as usize;
        self.reindex(id);
        Some(now.saturating_sub(booking.sent))
    }

    /// Brings the indexes of a node's group up to what the node is now.
    pub(super) fn reindex(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let after = node.standing();
        if after == node.standing {
            return;
        }
        let before = std::mem::replace(&mut node.standing, after);
        if let Some(group) = self.groups.get_mut(&node.group) {
            group.set(node.member(), node.views, &before, &after);
        }
    }

    /// Notes a change of the head of a queue of calls that any node may take.
    pub(super) fn change_head(&mut self, queue: QueueId, place: &Place, change: HeadChange) {
        if change.before == change.after {
            return;
        }
        let method = place.method;
        match place.taken_by {
            TakenBy::Groups => {
                for id in self.providers.get(&method).into_iter().flatten() {
                    if let Some(group) = self.groups.get_mut(id) {
                        if let Some(kind) = group.kind_of(method) {
                            group.work[kind].change(place, queue, change);
                        }
                    }
                }
            }
            TakenBy::Node(id) => {
                let Some(kind) = self.kind_on(id, method) else { return };
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.work[kind].change(place, queue, change);
                }
            }
            TakenBy::Nobody => {}
        }
    }

    /// Gives the new group of a node the queues that it may take from.
    pub(super) fn add_work_of(&mut self, id: NodeId, queues: &Queues) {
        let Some(group) = self.nodes.get(&id).map(|node| node.group) else { return };
        let Some(group) = self.groups.get_mut(&group) else { return };
        for (id, queue) in queues.iter().filter(|(_, queue)| matches!(queue.scope, Scope::Any { .. })) {
            if let Some(kind) = group.kind_of(queue.method.id()) {
                group.work[kind].change(&queue.place(), id, HeadChange { before: None, after: queue.head() });
            }
        }
    }

    /// How a node runs a method; `None` if it does not serve it.
    pub(super) fn kind_on(&self, id: NodeId, method: MethodId) -> Option<MethodKind> {
        self.group_of(id)?.kind_of(method)
    }

    /// Sees to it that nodes with these labels are found without looking at all. Deals with up to `most` nodes of each
    /// group, and says whether more are left.
    pub(super) fn prepare_views(&mut self, method: MethodId, labels: &Arc<[(String, String)]>, most: usize) -> bool {
        let mut is_left = false;
        for at in 0..self.providers(method).len() {
            let group = self.providers(method)[at];
            is_left |= self.prepare_view(group, labels, most);
        }
        is_left
    }

    fn prepare_view(&mut self, id: GroupId, labels: &Arc<[(String, String)]>, most: usize) -> bool {
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let Some(ViewStep { bit, fills, labels, members, is_last }) = group.use_view(labels, most) else {
            return false;
        };
        for member in members {
            let Some(node) = self.nodes.get_mut(&member) else { continue };
            if !fills {
                node.views &= !(1 << bit);
            } else if node.views & (1 << bit) == 0 && node.card.has_labels(&labels) {
                // It has come since the view was begun otherwise, and is in it.
                node.views |= 1 << bit;
                group.add_to_view(bit, node.member(), &node.standing);
            }
        }
        !is_last
    }

    /// The members of a group with these labels. Looks at each that has the rarest of them.
    pub(super) fn labelled<'a>(&'a self, group: &'a Group, labels: &'a Labels) -> impl Iterator<Item = &'a Node<H>> {
        let labels = labels.as_deref().unwrap_or_default();
        let rarest = group.with_rarest(labels).filter_map(|id| self.node(id));
        rarest.filter(move |node| node.card.has_labels(labels))
    }

    /// How many nodes may get calls of the method, busy and suspect ones included.
    pub(super) fn serving(&self, method: MethodId) -> usize {
        self.providers(method).iter().filter_map(|id| self.group(*id)).map(|group| group.everyone.serving).sum()
    }

    /// Whether it does not count what calls of the method with these labels avoid, because there are no other nodes.
    pub(super) fn lapses(&self, method: MethodId, labels: &Labels, avoid: &Avoid) -> bool {
        avoid.as_deref().is_some_and(|avoid| !self.serves(method, labels, But::Nodes(avoid)))
    }

    /// Whether any node may get calls of the method with these labels, be it busy or suspect, but for some.
    pub(super) fn serves(&self, method: MethodId, labels: &Labels, but: But<'_>) -> bool {
        let does_serve = |id: &GroupId| {
            let group = self.group(*id)?;
            // A view that is being filled may have one already.
            if let Some(view) = group.view_so_far(labels) {
                let excepted: usize = match but {
                    But::Nodes(nodes) => {
                        let nodes = nodes.iter().filter_map(|id| self.node(*id)).filter(|node| node.group == *id);
                        nodes.filter(|node| self.is_serving(node, method, labels)).count()
                    }
                    But::Sources(sources) => sources.iter().filter_map(|source| view.sources.get(source)).sum(),
                };
                if view.serving > excepted {
                    return Some(());
                }
            }
            if group.view(labels).is_some() {
                return None;
            }
            let mut labelled = self.labelled(group, labels);
            labelled.find(|node| node.standing.serving && !but.contains(node.identity.id, node.source)).map(drop)
        };
        self.providers(method).iter().any(|id| does_serve(id).is_some())
    }

    /// Whether the views of these labels are whole.
    pub(super) fn has_views(&self, method: MethodId, labels: &Labels) -> bool {
        let mut groups = self.providers(method).iter().filter_map(|id| self.group(*id));
        groups.all(|group| group.view(labels).is_some())
    }

    /// Whether all nodes that serve the method are given a rest.
    pub(super) fn all_rest(&self, method: MethodId, labels: &Labels) -> bool {
        if self.resting.is_empty() {
            return false;
        }
        let groups = self.providers(method).iter().filter_map(|id| self.group(*id));
        // One that does not rest decides, and is mostly found without looking at all.
        if groups.clone().filter_map(|group| group.view_so_far(labels)).any(|view| view.serving > view.resting) {
            return false;
        }
        let (mut serving, mut resting) = (0, 0);
        for group in groups {
            match group.view(labels) {
                Some(view) => (serving, resting) = (serving + view.serving, resting + view.resting),
                None => {
                    for node in self.labelled(group, labels) {
                        serving += usize::from(node.standing.serving);
                        resting += usize::from(node.standing.rests);
                    }
                }
            }
        }
        serving > 0 && serving == resting
    }

    /// Whether a node may get calls of the method with these labels, be it busy or suspect.
    pub(super) fn is_serving(&self, node: &Node<H>, method: MethodId, labels: &Labels) -> bool {
        node.standing.serving
            && labels.as_ref().is_none_or(|labels| node.card.has_labels(labels))
            && self.group(node.group).is_some_and(|group| group.kind_of(method).is_some())
    }

    /// A node as people see it, but for the copying.
    pub(super) fn row(&self, node: &Node<H>) -> NodeSnapshot {
        NodeSnapshot {
            identity: node.identity.clone(),
            card: Arc::clone(&node.card),
            services: self.group(node.group).map(|group| Arc::clone(&group.catalogue.services)).unwrap_or_default(),
            state: node.state,
            share: node.health.share(node.card.slots),
            in_flight: node.calls,
            answered: node.answered,
            uncallable: Arc::clone(&node.uncallable),
            blocked_async: node.blocked_async,
            joined: node.joined,
            silent_for: node.silent_for,
        }
    }

    /// Why no node can run calls of a method, or why this one cannot, although nodes serve its service.
    pub(super) fn incompatibility(&self, method: &Method, node: Option<NodeId>) -> Option<Incompatibility> {
        let of_group = |group: &'_ Group| group.example().and_then(|id| self.node(id)).map(|node| &*node.card.name);
        match node {
            Some(id) => {
                let (node, group) = (self.node(id)?, self.group_of(id)?);
                explain(method, [(&*node.card.name, 1, group.catalogue.beside(method.name()))])
            }
            None => {
                let groups = self
                    .groups()
                    .filter_map(|group| Some((of_group(group)?, group.members, group.catalogue.beside(method.name()))));
                explain(method, groups)
            }
        }
    }

    /// What a node serves.
    pub(super) fn catalogue_of(&self, id: NodeId) -> Option<Arc<MethodSet>> {
        self.group_of(id).map(|group| Arc::clone(&group.catalogue))
    }

    /// What the nodes of other groups serve, each group with the name of one of them.
    pub(super) fn catalogues_beside(&self, id: NodeId) -> Vec<(Arc<str>, Arc<MethodSet>)> {
        let own = self.node(id).map(|node| node.group);
        let others = self.groups.iter().filter(|(id, _)| Some(**id) != own).map(|(_, group)| group).take(MOST_COMPARED);
        let named = |group: &Group| {
            let example = self.node(group.example()?)?;
            Some((Arc::clone(&example.card.name), Arc::clone(&group.catalogue)))
        };
        others.filter_map(named).collect()
    }
}
