//! Checks what must hold after every event, by counting everything again.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::{
    avoidance::AvoidedNodes,
    call::{CallEntry, CallLocation},
    group::{Group, GroupId, IndexEntry, LabelView, View, ViewState},
    host::Host,
    node::{CallCost, Node},
    per_kind::{KINDS, PerKind},
    queue_heads::QueueHeads,
    queue_ids::{QueueId, ServiceId},
    queues::{Amount, Queue, Scope},
    registry::Registry,
    state::{Core, Timer},
    turns::{WaitingLine, turn_of},
};
use crate::{
    id::{CallerId, NodeId},
    service::{method::MethodKind, options::Labels},
    view::NodeState,
};

type Checked = Result<(), String>;

fn check(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl<H: Host> Core<H> {
    /// Counts again what the core keeps counts and indexes of.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub(crate) fn sanity_check(&self) -> Checked {
        self.registry.sanity_check()?;
        self.check_calls()?;
        self.check_dependents()?;
        self.check_queues()?;
        self.check_listing()?;
        self.check_metrics()?;
        for (at, timer) in &self.timers {
            let (Timer::Deadline(id) | Timer::Retry(id)) = timer else { continue };
            check(self.calls.contains(id), || {
                format!("a timer ({timer:?} at {at:?}) belongs to a call that has ended")
            })?;
        }
        for (id, call) in self.stopping.iter() {
            check(!self.calls.contains(&id), || format!("call {id} is being stopped, and has not ended"))?;
            let is_there = match self.registry.node(call.node) {
                Some(node) => node.in_flight.contains_key(&(id, call.attempt)),
                None => self.departed.contains_key(&call.node),
            };
            check(is_there, || format!("call {id} is being stopped, and its node does not have it"))?;
        }
        self.calls.check_order()?;
        for id in &self.registry.ejected {
            let is_due = self.timers.iter().any(|(_, timer)| *timer == Timer::EndEjection(*id));
            check(is_due, || format!("{id} is ejected, and no timer ends that"))?;
        }
        for node in self.registry.nodes() {
            let ends = node
                .absence
                .as_ref()
                .is_none_or(|absence| self.timers.contains(&(absence.until, Timer::Absent(node.identity.id))));
            check(ends, || format!("{} is absent, and no timer ends that", node.identity))?;
        }
        Ok(())
    }

    fn check_calls(&self) -> Checked {
        let mut limited = Amount::default();
        let mut limited_of = FxHashMap::<CallerId, Amount>::default();
        let (mut waiting, mut backing_off) = (0, 0);
        let mut lines = BTreeMap::<(ServiceId, CallerId), WaitingLine>::new();
        for (id, call) in self.calls.iter() {
            match call.location {
                CallLocation::Unplaced => return Err(format!("call {id} is in no queue and on no node")),
                CallLocation::Queued(queue) => {
                    waiting += 1;
                    if !call.is_nested {
                        let line = lines.entry((call.service, call.demand.caller)).or_default();
                        line.waiting += 1;
                        line.last = line.last.max(turn_of(call.seq));
                    }
                    if call.waiting(*id).is_limited {
                        limited.add(call.demand.held());
                        if call.demand.caller != CallerId::MASTER {
                            limited_of.entry(call.demand.caller).or_default().add(call.demand.held());
                        }
                    }
                    let queue = self.queues.get(queue).filter(|queue| queue.calls.get(&call.seq) == Some(id));
                    let queue = queue.ok_or_else(|| format!("call {id} is not in its queue"))?;
                    self.waits_for_good_reason(call, queue).map_err(|node| {
                        format!("call {id} ({}) waits while {node} has a free slot", call.method.name())
                    })?;
                }
                CallLocation::BackingOff(until) => {
                    backing_off += 1;
                    check(self.timers.contains(&(until, Timer::Retry(*id))), || {
                        format!("call {id} backs off, and no timer ends that")
                    })?;
                }
                CallLocation::InFlight(node) => {
                    let is_listed = match self.registry.node(node) {
                        Some(node) => node.in_flight.contains_key(&(*id, call.attempt)),
                        None => self.departed.contains_key(&node),
                    };
                    check(is_listed, || format!("call {id} is in flight, and its node does not have it"))?;
                }
            }
            if let Some(deadline) = call.deadline() {
                check(self.timers.contains(&(deadline, Timer::Deadline(*id))), || {
                    format!("call {id} has a deadline and no timer")
                })?;
            }
        }
        check(self.queues.waiting == waiting, || format!("waiting: {} noted, {waiting} counted", self.queues.waiting))?;
        self.check_turns(&lines)?;
        check(self.queues.limited == limited, || {
            format!("towards the limits: {:?} noted, {limited:?} counted", self.queues.limited)
        })?;
        check(self.queues.limited_of == limited_of, || {
            format!("towards the limits of callers: {:?} noted, {limited_of:?} counted", self.queues.limited_of)
        })?;
        check(self.backing_off == backing_off, || {
            format!("backing off: {} noted, {backing_off} counted", self.backing_off)
        })
    }

    /// Checks that the calls are listed that end with their caller, or with the call that made them.
    fn check_dependents(&self) -> Checked {
        let (of_callers, of_calls) = (self.dependents.of_callers(), self.dependents.of_calls());
        let dependent = || self.calls.iter().filter(|(_, call)| !call.is_detached);
        let callers = dependent().map(|(id, call)| (call.demand.caller, *id));
        let callers: BTreeSet<_> = callers.filter(|(caller, _)| *caller != CallerId::MASTER).collect();
        check(*of_callers == callers, || format!("calls by caller: {of_callers:?} noted, {callers:?} counted"))?;
        let parents: BTreeSet<_> =
            dependent().filter_map(|(id, call)| Some((call.parent()?, call.number, *id))).collect();
        check(*of_calls == parents, || format!("nested calls: {of_calls:?} noted, {parents:?} counted"))
    }

    /// Checks how many calls each caller has in the queues of each service, and that no turn is given out twice.
    fn check_turns(&self, counted: &BTreeMap<(ServiceId, CallerId), WaitingLine>) -> Checked {
        let noted: BTreeMap<(ServiceId, CallerId), WaitingLine> = self.queues.callers.lines().collect();
        check(noted.keys().eq(counted.keys()), || {
            format!("callers with calls in queues: {noted:?} noted, {counted:?} counted")
        })?;
        for (key, line) in &noted {
            let virtual_time = self.queues.callers.virtual_time(key.0);
            let is_right = counted
                .get(key)
                .is_some_and(|counted| counted.waiting == line.waiting && counted.last <= line.last.max(virtual_time));
            check(is_right, || format!("the turns of {key:?}: {line:?} noted, {counted:?} counted"))?;
        }
        Ok(())
    }

    fn check_queues(&self) -> Checked {
        let mut listed = 0;
        for (id, queue) in self.queues.iter() {
            listed += queue.calls.len();
            check(!queue.calls.is_empty(), || "an empty queue is kept".to_owned())?;
            check(self.queues.unserved.contains(&id) == queue.unserved.is_some(), || {
                "the list of unserved queues is wrong".to_owned()
            })?;
            if queue.closed.is_some() {
                check(!self.deferred.is_empty(), || "nothing moves the calls out of a closed queue".to_owned())?;
                continue;
            }
            if let Scope::Any { labels, avoid } = &queue.scope {
                let is_served =
                    self.registry.nodes().any(|node| self.registry.is_serving(node, queue.method.id(), labels));
                let is_known = !self.is_filling(queue.method.id(), labels);
                check(!is_known || queue.unserved.is_none() == is_served, || {
                    "a queue is wrongly marked as served or unserved".to_owned()
                })?;
                check(self.queues.avoiding.contains(&id) == avoid.is_some(), || {
                    "the list of queues whose calls avoid nodes is wrong".to_owned()
                })?;
                check(self.queues.lapsed.contains(&id) == queue.lapsed, || {
                    "the list of lapsed queues is wrong".to_owned()
                })?;
                let lapses = self.count_lapses(queue, labels, avoid);
                check(!self.deferred.is_empty() || queue.lapsed == lapses, || {
                    format!("a queue that avoids {avoid:?} is wrongly marked as lapsed or not lapsed")
                })?;
            }
            self.registry.check_head(id, queue)?;
        }
        for views in &self.deferred.filling {
            check(self.deferred.has_task_for(views), || "nothing fills a view".to_owned())?;
        }
        check(listed == self.queues.waiting, || {
            format!("waiting: {} noted, {listed} are in queues", self.queues.waiting)
        })?;
        let heads = self.registry.listed_heads();
        let stale = heads.iter().find(|id| self.queues.get(**id).is_none_or(|queue| queue.closed.is_some()));
        check(stale.is_none(), || format!("{stale:?} is listed and does not exist"))
    }

    /// Whether only nodes serve the calls that these avoid, found by looking at all nodes.
    fn count_lapses(&self, queue: &Queue, labels: &Labels, avoid: &AvoidedNodes) -> bool {
        let Some(avoid) = avoid else { return false };
        let serving = self.registry.nodes().filter(|node| self.registry.is_serving(node, queue.method.id(), labels));
        serving.filter(|node| !node.is_cordoned).all(|node| avoid.contains(&node.identity.id))
    }

    /// Checks that no node could take the queued call. The error is a node that could.
    fn waits_for_good_reason(&self, call: &CallEntry<H>, queue: &Queue) -> Checked {
        // Deferred work may still place it.
        if !self.deferred.is_empty() || queue.closed.is_some() {
            return Ok(());
        }
        for node in self.registry.nodes() {
            let Some(kind) = self.registry.kind_on(node.identity.id, call.method.id()) else { continue };
            let is_for_it = match &queue.scope {
                Scope::Node { node: target, exact } => {
                    *target == node.identity.id && (*exact || node.takes_any(kind, CallCost::ZERO))
                }
                Scope::Any { labels, .. } => {
                    self.registry.is_serving(node, call.method.id(), labels)
                        && !queue.avoided().contains(&node.identity.id)
                        && (node.takes_any(kind, CallCost::ZERO)
                            || node.health.is_ejected() && self.registry.all_ejected(call.method.id(), labels))
                }
            };
            if is_for_it && node.state == NodeState::Alive && !node.is_cordoned && node.has_free_slot(kind) {
                return Err(node.identity.to_string());
            }
        }
        Ok(())
    }
}

impl<H: Host> Registry<H> {
    fn sanity_check(&self) -> Checked {
        let mut in_flight = 0;
        let mut groups: BTreeMap<GroupId, Vec<&Node<H>>> = BTreeMap::new();
        for node in self.nodes() {
            in_flight += check_node(node)?;
            groups.entry(node.group).or_default().push(node);
        }
        check(in_flight == self.in_flight, || format!("in flight: {} noted, {in_flight} counted", self.in_flight))?;
        for node in self.nodes() {
            check(node.is_cordoned == self.cordoned_processes.contains(&node.profile.instance), || {
                format!("{} is cordoned, and its process is not, or the other way round", node.identity)
            })?;
        }
        let alive = self.nodes().filter(|node| node.state == NodeState::Alive && !node.is_cordoned).count();
        check(alive == self.alive, || format!("alive: {} noted, {alive} counted", self.alive))?;
        check(groups.len() == self.groups().count(), || "a group without members is kept".to_owned())?;
        for (id, members) in groups {
            let group = self.group(id).ok_or_else(|| "a node is in a group that does not exist".to_owned())?;
            check_group(group, &members)?;
            for method in group.method_set.methods.keys() {
                let listed = self.providers(*method).iter().filter(|provider| **provider == id).count();
                check(listed == 1, || format!("a group is listed {listed} times for a method that it serves"))?;
            }
        }
        Ok(())
    }

    /// Checks that the head of a queue is listed where nodes look for it.
    fn check_head(&self, id: QueueId, queue: &Queue) -> Checked {
        let head = (queue.head(), id);
        let labels = match &queue.scope {
            Scope::Any { labels: Some(labels), .. } => labels.iter().cloned().collect(),
            _ => BTreeMap::new(),
        };
        let is_in = |listed: &QueueHeads| {
            listed.for_labels(&labels).any(|(service, heads)| {
                service == queue.service && heads.iter().any(|(seq, queue)| (Some(seq), queue) == head)
            })
        };
        let method = queue.method.id();
        match &queue.scope {
            Scope::Any { .. } => {
                for group in self.providers(method).iter().filter_map(|id| self.group(*id)) {
                    let kind = group
                        .kind_of(method)
                        .ok_or_else(|| "a group is listed for a method that it does not serve".to_owned())?;
                    check(is_in(&group.heads[kind]), || "the head of a queue is not listed at a group".to_owned())?;
                }
            }
            Scope::Node { node, .. } => {
                let kind = self
                    .kind_on(*node, method)
                    .ok_or_else(|| "calls wait for a node that does not serve them".to_owned())?;
                let is_known = self.node(*node).is_some_and(|node| is_in(&node.heads[kind]));
                check(is_known, || "the head of a queue is not listed at its node".to_owned())?;
            }
        }
        Ok(())
    }

    fn listed_heads(&self) -> BTreeSet<QueueId> {
        let groups = self.groups().map(|group| &group.heads);
        let all = groups.chain(self.nodes().map(|node| &node.heads));
        all.flat_map(|heads| KINDS.into_iter().flat_map(move |kind| heads[kind].queues())).collect()
    }
}

/// Counts again what a node has in flight, and returns how many calls that is.
fn check_node<H: Host>(node: &Node<H>) -> Result<usize, String> {
    let name = &node.identity;
    let mut counts = PerKind::<u32>::default();
    let mut backlog = CallCost::default();
    let mut lent = 0;
    for attempt in node.in_flight.values() {
        if attempt.is_lent {
            lent += 1;
            continue;
        }
        counts[attempt.kind] += 1;
        if attempt.kind == MethodKind::Compute {
            backlog += attempt.cost;
        }
    }
    let calls = node.in_flight.values().map(|attempt| attempt.count as usize).sum();
    check(counts == node.counts, || format!("{name}: {:?} noted, {counts:?} counted", node.counts))?;
    check(lent == node.lent, || format!("{name}: {} lent noted, {lent} counted", node.lent))?;
    check(backlog == node.backlog, || format!("{name}: {:?} noted, {backlog:?} counted", node.backlog))?;
    check(calls == node.calls, || format!("{name}: {} calls noted, {calls} counted", node.calls))?;
    node.check_index_entry()?;
    let is_absent = node.absence.is_some();
    check(
        is_absent == (node.state == NodeState::Disconnected) || is_absent && node.state == NodeState::Draining,
        || format!("{name} is {}, and absent: {is_absent}", node.state),
    )?;
    let is_serving = node.state != NodeState::Draining;
    let waits = KINDS.into_iter().any(|kind| node.heads[kind].queues().next().is_some());
    check(is_serving || !waits, || format!("{name} is leaving, and calls wait for it"))?;
    Ok(calls)
}

fn check_group<H: Host>(group: &Group, members: &[&Node<H>]) -> Checked {
    check(group.members == members.len(), || "a group has a wrong number of members".to_owned())?;
    check_view(&group.everyone, members)?;
    for (bit, LabelView { labels, state, view, .. }) in group.views() {
        let labelled = members.iter().filter(|node| node.profile.has_labels(labels)).count();
        let listed: Vec<&Node<H>> = members.iter().filter(|node| node.views & (1 << bit) != 0).copied().collect();
        check(listed.iter().all(|node| node.profile.has_labels(labels)), || {
            format!("a node is in the view of {labels:?} and lacks a label")
        })?;
        let is_right = match state {
            ViewState::Whole => listed.len() == labelled,
            ViewState::Filling | ViewState::Clearing => true,
            ViewState::Vacant => listed.is_empty(),
        };
        check(is_right, || {
            format!(
                "{} nodes are in the view of {labels:?}, which is {state:?}; {labelled} have the labels",
                listed.len()
            )
        })?;
        if *state != ViewState::Clearing {
            check_view(view, &listed)?;
        }
    }
    Ok(())
}

fn check_view<H: Host>(view: &View, members: &[&Node<H>]) -> Checked {
    let entries = members.iter().map(|node| &node.index_entry);
    let serving = entries.clone().filter(|entry| entry.serving).count();
    let ejected = entries.clone().filter(|entry| entry.ejected).count();
    let cordoned = entries.clone().filter(|entry| entry.cordoned).count();
    check(view.cordoned == cordoned, || format!("cordoned in a view: {} noted, {cordoned} counted", view.cordoned))?;
    let is_suspect = |node: &&&Node<H>| {
        matches!(node.state, NodeState::Suspect | NodeState::Disconnected)
            && !node.is_cordoned
            && !node.health.is_ejected()
    };
    let suspect = members.iter().filter(is_suspect).count();
    check(view.suspect == suspect, || format!("suspect in a view: {} noted, {suspect} counted", view.suspect))?;
    check(view.ejected == ejected, || format!("ejected in a view: {} noted, {ejected} counted", view.ejected))?;
    let mut sources = BTreeMap::<_, usize>::new();
    members
        .iter()
        .filter(|node| node.index_entry.serving && !node.is_cordoned)
        .for_each(|node| *sources.entry(node.source).or_default() += 1);
    check(view.sources.clone().into_iter().collect::<BTreeMap<_, _>>() == sources, || {
        "a view has wrong sources".to_owned()
    })?;
    check(view.serving == serving, || format!("serving in a view: {} noted, {serving} counted", view.serving))?;
    for kind in KINDS {
        let sum = |part: fn(&IndexEntry) -> PerKind<u32>| -> u64 {
            entries.clone().map(|entry| u64::from(part(entry)[kind])).sum()
        };
        check(view.limit[kind] == sum(|entry| entry.limit), || "a view has a wrong number of slots".to_owned())?;
        check(view.free[kind] == sum(|entry| entry.free), || "a view has a wrong number of free slots".to_owned())?;
        view.ready[kind].check()?;
        let listed: BTreeSet<(u64, NodeId)> = view.ready[kind].iter(0).collect();
        let expected: BTreeSet<(u64, NodeId)> =
            members.iter().filter_map(|node| Some((node.index_entry.load[kind]?, node.identity.id))).collect();
        check(listed == expected, || format!("the index of {kind:?} nodes is {listed:?} and not {expected:?}"))?;
    }
    Ok(())
}
