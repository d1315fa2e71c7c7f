//! The nodes, and what each has in flight.
//!
//! Nodes that serve exactly the same methods form a [`Group`], which indexes its members by load. When the load of a node
//! changes, it moves in the indexes of its own group only. So with more nodes, nothing here costs more than the logarithm of
//! their number.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;

use super::{
    counters::Sent,
    group::{Group, GroupId, IndexEntry},
    health::Health,
    host::{Host, Time},
    node::{CallCost, InFlightAttempt, Node},
    per_kind::PerKind,
    registration::{MethodSet, NodeProfile},
    rows::Rows,
    slow_start::Window,
};
use crate::{
    hash::keyed,
    id::{CallId, NodeId, NodeIdentity},
    security::{CredentialId, Principal, PrincipalKind, Source},
    service::method::{MethodId, MethodKind},
    view::NodeState,
};

/// What the nodes of one group have in common: their methods, and the hash of the texts about types.
type Served = (Arc<BTreeMap<MethodId, MethodKind>>, u64);

fn served(method_set: &MethodSet) -> Served {
    (Arc::clone(&method_set.methods), method_set.structure_hash)
}

/// How many processes stay cordoned while they are not registered.
const MOST_CORDONED: usize = 4096;

/// What the nodes with one credential take up.
#[derive(Debug, Default)]
pub(super) struct CredentialUsage {
    nodes: usize,
    /// Bytes of those methods that no node served before.
    method_bytes: usize,
}

fn credential(principal: &Principal) -> (PrincipalKind, CredentialId) {
    (principal.kind, principal.id)
}

pub(super) struct Registry<H: Host> {
    /// A hash table, because each call looks several times. The master makes the ids, so a fast hash is safe.
    pub(super) nodes: FxHashMap<NodeId, Box<Node<H>>>,
    /// Their ids, in the order they joined.
    pub(super) order: BTreeSet<NodeId>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) by_methods: BTreeMap<Served, GroupId>,
    /// Which groups serve a method.
    pub(super) providers: FxHashMap<MethodId, Vec<GroupId>>,
    /// Which node each process registered last.
    pub(super) instances: BTreeMap<u128, NodeId>,
    /// The nodes of each name, by who they authenticated as: ten thousand nodes of one name mostly have one credential.
    pub(super) names: BTreeMap<Arc<str>, FxHashMap<Principal, BTreeSet<NodeId>>>,
    /// What the nodes with each credential take up.
    pub(super) credentials: FxHashMap<(PrincipalKind, CredentialId), CredentialUsage>,
    pub(super) next_group: u64,
    /// Secret: a node that could compute places on the ring could choose a name that gets another node's keys.
    pub(super) ring_key: [u8; 32],
    /// Bytes that the methods of all groups take.
    pub(super) method_bytes: usize,
    /// Calls in flight, over all nodes.
    pub(super) in_flight: usize,
    /// Nodes that get new calls.
    pub(super) alive: usize,
    /// Nodes that are ejected after failures.
    pub(super) ejected: BTreeSet<NodeId>,
    /// Processes whose nodes are cordoned, whether they are registered at the moment or not.
    pub(super) cordoned_processes: BTreeSet<u128>,
}

/// How many handlers of a node may have lent their slots. As many as a node lets wait, and some that have just begun.
const MOST_LENT: u32 = 32_768;

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
            method_bytes: 0,
            in_flight: 0,
            alive: 0,
            ejected: BTreeSet::new(),
            cordoned_processes: BTreeSet::new(),
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node<H>> {
        self.nodes.get(&id).map(Box::as_ref)
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node<H>> {
        self.nodes.get_mut(&id).map(Box::as_mut)
    }

    /// All nodes, in the order they joined.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node<H>> {
        self.order.iter().filter_map(|id| self.node(*id))
    }

    /// The nodes that joined after this one, in the order they joined.
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

    /// The groups that were formed after this one, in that order.
    pub(super) fn groups_after(&self, after: Option<GroupId>) -> impl Iterator<Item = (GroupId, &Group)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.groups.range((from, Bound::Unbounded)).map(|(id, group)| (*id, group))
    }

    pub(super) fn group_of(&self, id: NodeId) -> Option<&Group> {
        self.group(self.node(id)?.group)
    }

    /// The groups that serve a method.
    pub(super) fn providers(&self, method: MethodId) -> &[GroupId] {
        self.providers.get(&method).map(Vec::as_slice).unwrap_or_default()
    }

    /// How a node runs a method; `None` if it does not serve it.
    pub(super) fn kind_on(&self, id: NodeId, method: MethodId) -> Option<MethodKind> {
        self.group_of(id)?.kind_of(method)
    }

    /// The node that this process has registered, if it is still registered.
    pub(super) fn node_of_process(&self, instance: u128) -> Option<NodeId> {
        self.instances.get(&instance).copied()
    }

    /// The nodes of this name, by who they authenticated as.
    pub(super) fn nodes_named(&self, name: &str) -> impl Iterator<Item = (&Principal, &BTreeSet<NodeId>)> {
        self.names.get(name).into_iter().flatten()
    }

    /// How many nodes are registered with the credential of this principal.
    pub(super) fn nodes_with(&self, principal: &Principal) -> usize {
        self.credentials.get(&credential(principal)).map_or(0, |usage| usage.nodes)
    }

    /// Whether registered nodes serve the same methods.
    pub(super) fn knows(&self, method_set: &MethodSet) -> bool {
        self.by_methods.contains_key(&served(method_set))
    }

    /// Bytes that the methods of all nodes take.
    pub(super) fn method_bytes(&self) -> usize {
        self.method_bytes
    }

    /// Bytes that the methods take which nodes with this principal's credential brought.
    pub(super) fn method_bytes_with(&self, principal: &Principal) -> usize {
        self.credentials.get(&credential(principal)).map_or(0, |usage| usage.method_bytes)
    }

    /// Adds a node, and says whether its group is new.
    pub(super) fn join(
        &mut self,
        now: Time,
        identity: NodeIdentity,
        (profile, method_set): (Arc<NodeProfile>, Arc<MethodSet>),
        link: H::Link,
        window: Window,
    ) -> bool {
        let known = self.by_methods.get(&served(&method_set)).copied();
        let group = known.unwrap_or_else(|| {
            let id = GroupId(self.next_group);
            self.next_group += 1;
            for method in method_set.methods.keys() {
                self.providers.entry(*method).or_default().push(id);
            }
            self.by_methods.insert(served(&method_set), id);
            self.method_bytes += method_set.size;
            self.credentials.entry(credential(&profile.principal)).or_default().method_bytes += method_set.size;
            self.groups.insert(id, Group::new(method_set, profile.principal.clone()));
            id
        });
        let id = identity.id;
        self.order.insert(id);
        self.instances.insert(profile.instance, id);
        let named = self.names.entry(Arc::clone(&profile.name)).or_default();
        named.entry(profile.principal.clone()).or_default().insert(id);
        self.credentials.entry(credential(&profile.principal)).or_default().nodes += 1;
        let is_cordoned = self.cordoned_processes.contains(&profile.instance);
        self.alive += usize::from(!is_cordoned);
        let views = self.groups.get_mut(&group).map_or(0, |group| group.join(id, &profile.labels));
        let busy = profile.busy;
        let source = Source::of(&profile.principal.names, identity.addr.ip());
        let node = Node {
            identity,
            place: keyed(&self.ring_key, &profile.name),
            profile,
            source,
            link,
            connection: 0,
            session: None,
            absence: None,
            state: NodeState::Alive,
            is_cordoned,
            in_flight: FxHashMap::default(),
            lent: 0,
            calls: 0,
            heads: PerKind::default(),
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
            backlog: CallCost::default(),
            last_progress: now,
            stuck: false,
            counters: None,
            ejections: 0,
            slot_time: Duration::ZERO,
            slot_time_until: now,
            rows: Rows::default(),
            vitals: None,
            skews: [f64::NEG_INFINITY; 8],
            index_entry: IndexEntry::default(),
        };
        self.nodes.insert(id, Box::new(node));
        self.reindex(id);
        known.is_none()
    }

    /// Removes a node, with all that was in flight on it or waited for it.
    pub(super) fn leave(&mut self, id: NodeId) -> Option<Node<H>> {
        // Draining first: then no index has an entry of it.
        self.set_state(id, NodeState::Draining);
        let node = *self.nodes.remove(&id)?;
        self.order.remove(&id);
        self.ejected.remove(&id);
        if self.instances.get(&node.profile.instance) == Some(&id) {
            self.instances.remove(&node.profile.instance);
        }
        if let Some(named) = self.names.get_mut(&node.profile.name) {
            if let Some(alike) = named.get_mut(&node.profile.principal) {
                alike.remove(&id);
                if alike.is_empty() {
                    named.remove(&node.profile.principal);
                }
            }
            if named.is_empty() {
                self.names.remove(&node.profile.name);
            }
        }
        self.reduce_usage(&node.profile.principal, |usage| usage.nodes -= 1);
        self.in_flight -= node.calls;
        if let Some(group) = self.groups.get_mut(&node.group) {
            group.leave(id, &node.profile.labels);
            if group.members == 0 {
                self.remove_group(node.group);
            }
        }
        Some(node)
    }

    fn reduce_usage(&mut self, principal: &Principal, change: impl FnOnce(&mut CredentialUsage)) {
        let credential = credential(principal);
        let Some(usage) = self.credentials.get_mut(&credential) else { return };
        change(usage);
        if usage.nodes == 0 && usage.method_bytes == 0 {
            self.credentials.remove(&credential);
        }
    }

    fn remove_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.by_methods.remove(&served(&group.method_set));
        self.method_bytes -= group.method_set.size;
        self.reduce_usage(&group.first_principal, |usage| usage.method_bytes -= group.method_set.size);
        for method in group.method_set.methods.keys() {
            if let Some(providers) = self.providers.get_mut(method) {
                providers.retain(|provider| *provider != id);
                if providers.is_empty() {
                    self.providers.remove(method);
                }
            }
        }
    }

    pub(super) fn set_state(&mut self, id: NodeId, state: NodeState) {
        self.change_openness(id, |node| node.state = state);
    }

    /// Cordons a node, or takes that back, for all later registrations of its process too.
    pub(super) fn set_cordoned(&mut self, id: NodeId, is_cordoned: bool) {
        let Some(instance) = self.node(id).map(|node| node.profile.instance) else { return };
        if is_cordoned {
            self.forget_cordoned();
            self.cordoned_processes.insert(instance);
        } else {
            self.cordoned_processes.remove(&instance);
        }
        self.change_openness(id, |node| node.is_cordoned = is_cordoned);
    }

    /// Makes room for one more cordoned process: forgets one that is not registered if there are too many.
    fn forget_cordoned(&mut self) {
        if self.cordoned_processes.len() < MOST_CORDONED {
            return;
        }
        let gone = self.cordoned_processes.iter().find(|process| !self.instances.contains_key(process)).copied();
        if let Some(gone) = gone {
            self.cordoned_processes.remove(&gone);
        }
    }

    /// Makes a change after which a node may get calls or not.
    fn change_openness(&mut self, id: NodeId, change: impl FnOnce(&mut Node<H>)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        self.alive -= usize::from(node.is_open());
        change(node);
        self.alive += usize::from(node.is_open());
        self.reindex(id);
    }

    /// Sets how many slots handlers of an earlier connection hold, as the node says. Returns whether it has changed.
    pub(super) fn set_busy(&mut self, id: NodeId, busy: u32) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let busy = busy.min(node.profile.slots);
        let changed = node.busy != busy;
        node.busy = busy;
        if changed {
            self.reindex(id);
        }
        changed
    }

    /// Notes that a node is sent an attempt.
    pub(super) fn start(&mut self, id: NodeId, in_flight: InFlightAttempt, sent: &Sent) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let InFlightAttempt { call, attempt, method, kind, count, sent: now, .. } = in_flight;
        node.in_flight.insert((call, attempt), in_flight);
        node.put_on(now, &in_flight);
        node.counters().on_sent(sent);
        node.calls += count as usize;
        node.window.on_sent(now, kind, method, count);
        if kind == MethodKind::Compute && node.counts[kind] == 1 {
            node.last_progress = now;
        }
        self.in_flight += count as usize;
        self.reindex(id);
    }

    /// How many calls this attempt is, if it is in flight there; otherwise 0.
    pub(super) fn calls_in_flight(&self, id: NodeId, call: CallId, attempt: u32) -> u32 {
        self.nodes.get(&id).and_then(|node| node.in_flight.get(&(call, attempt))).map_or(0, |attempt| attempt.count)
    }

    /// Notes that an attempt has ended, after `ran` handlers were run. Returns the attempt; `None` if it was
    /// not in flight.
    pub(super) fn end(
        &mut self,
        now: Time,
        id: NodeId,
        (call, attempt): (CallId, u32),
        ran: u32,
    ) -> Option<InFlightAttempt> {
        let node = self.nodes.get_mut(&id)?;
        let ended = node.in_flight.remove(&(call, attempt))?;
        node.calls -= ended.count as usize;
        match ended.is_lent {
            true => node.lent -= 1,
            false => node.take_off(now, &ended),
        }
        if ended.kind == MethodKind::Compute && ran > 0 {
            node.last_progress = now;
            node.stuck = false;
        }
        if ran > 0 {
            node.window.on_answered(ended.kind);
        }
        node.answered += u64::from(ran);
        self.in_flight -= ended.count as usize;
        self.reindex(id);
        Some(ended)
    }

    /// An attempt at a batch is one at its first `kept` calls only. Returns how many it is less.
    pub(super) fn shorten(&mut self, id: NodeId, key: (CallId, u32), kept: u32) -> u32 {
        let Some(node) = self.nodes.get_mut(&id) else { return 0 };
        let Some(attempt) = node.in_flight.get_mut(&key) else { return 0 };
        let given_back = attempt.count.saturating_sub(kept);
        attempt.count -= given_back;
        node.calls -= given_back as usize;
        self.in_flight -= given_back as usize;
        given_back
    }

    /// The handler of an attempt waits, and takes no slot any more. Returns whether that is so.
    pub(super) fn lend(&mut self, now: Time, id: NodeId, key: (CallId, u32)) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        // A node that claims that ever more of its handlers wait would get ever more calls.
        if node.lent >= MOST_LENT {
            return false;
        }
        let Some(attempt) = node.in_flight.get_mut(&key).filter(|attempt| !attempt.is_lent) else { return false };
        attempt.is_lent = true;
        let attempt = *attempt;
        node.take_off(now, &attempt);
        node.lent += 1;
        // What it runs next has its time from here on.
        node.last_progress = now;
        self.reindex(id);
        true
    }

    /// The handler of an attempt takes a slot again.
    pub(super) fn resume(&mut self, now: Time, id: NodeId, key: (CallId, u32)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(attempt) = node.in_flight.get_mut(&key).filter(|attempt| attempt.is_lent) else { return };
        attempt.is_lent = false;
        let attempt = *attempt;
        node.put_on(now, &attempt);
        node.lent -= 1;
        self.reindex(id);
    }

    /// Brings the indexes of a node's group up to date.
    pub(super) fn reindex(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let after = node.current_index_entry();
        if after == node.index_entry {
            return;
        }
        let before = std::mem::replace(&mut node.index_entry, after);
        if let Some(group) = self.groups.get_mut(&node.group) {
            group.set(node.member(), node.views, &before, &after);
        }
    }
}
