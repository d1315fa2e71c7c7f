//! Which call goes to which node, and which waits.
//!
//! A call goes to the least loaded node that serves its method and can take it. If none can, it waits
//! in its method's queue (or in the queue of the one node it is for), and a node that gets free takes
//! from the queues it serves: from the service that was served longest ago, the oldest call first.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use super::{
    CallEntry, CallHandle as _, Core, Demand, Effect, Effects, Host, Labels, Seq, Stage, Time, Timer,
    registry::{Booking, UNKNOWN_RUN_TIME, describe_signature},
};
use crate::{
    error::{CallError, Cause, QueueUnit, Setback},
    id::{CallId, NodeId},
    service::method::{Method, MethodId, MethodKind},
};

/// A new run time counts this much (one part in) towards the mean.
const MEAN_OVER: u32 = 8;

/// Calls that wait for the same: the method, and the labels that a node must have.
pub(super) type QueueKey = (MethodId, Labels);

/// The calls of one method that wait for any node, or any with some labels.
#[derive(Debug)]
pub(super) struct Queue {
    service: &'static str,
    pub(super) calls: BTreeMap<Seq, CallId>,
    /// Since when no node serves the method; `None` while one does.
    pub(super) unserved: Option<Time>,
    /// None of the calls was queued before this.
    oldest: Time,
}

impl<H: Host> Core<H> {
    /// Takes a call and says by which number it is known; a batch has as many numbers as calls, from that
    /// one. `setbacks` are what has befallen it as part of a batch.
    pub(crate) fn submit(
        &mut self,
        now: Time,
        handle: H::Call,
        method: &'static Method,
        demand: Demand,
        setbacks: Vec<Setback>,
        effects: &mut Effects<H>,
    ) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += u64::from(demand.count);
        let seq = self.next_seq;
        self.next_seq += 1;
        let beside = demand.beside.and_then(|twin| match self.calls.get(&twin)?.stage {
            Stage::InFlight(node) => Some(node),
            _ => None,
        });
        let call = CallEntry {
            handle,
            method,
            demand,
            submitted: now,
            queued: now,
            seq,
            stage: Stage::Between,
            target: None,
            beside,
            kept: None,
            granted: 0,
            attempt: setbacks.last().map_or(0, |setback| setback.attempt),
            sent: setbacks.iter().map(|setback| u32::from(matches!(setback.cause, Cause::Lost(_)))).sum(),
            in_batch: setbacks.len(),
            setbacks,
            returned: 0,
        };
        if let Some(deadline) = call.deadline() {
            self.timers.insert((deadline, id, Timer::Deadline));
        }
        let was_lost = call.lost().next().is_some();
        self.calls.insert(id, call);
        if self.shutting_down {
            self.end_with(id, effects, super::shutdown_error);
        } else if was_lost {
            // It was lost as part of a batch. Its own first repetition need not wait: the batch is not
            // repeated, so it comes once.
            if self.may_repeat(id, effects) {
                self.enqueue_or_place(now, id, effects);
            }
        } else {
            self.enqueue_or_place(now, id, effects);
        }
        id
    }

    /// Finds a call that is in no queue its place: a node, a queue, or its end.
    pub(super) fn enqueue_or_place(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.queued = now;
        call.stage = Stage::Between;
        let (method, seq) = (call.method, call.seq);
        let target = self.find_target(id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.target = target;
        let labels = call.demand.labels.clone();
        match target {
            Some(target) => {
                let Some(node) = self.registry.node_mut(target) else {
                    let wanted = format!(
                        "it was to run on node {target}, and there is no such node (a node that comes back has a new id)"
                    );
                    return self.fail_target(now, id, wanted, effects);
                };
                if node.state == crate::view::NodeState::Draining {
                    let wanted = format!("it was to run on {}, which is leaving", node.identity);
                    return self.fail_target(now, id, wanted, effects);
                }
                node.waiting.insert(seq, id);
                self.queued(id);
                if self.registry.kind_on(target, method.id()).is_none() {
                    return self.fail_unserved(now, id, effects);
                }
                self.feed(now, target, effects);
            }
            None => {
                // With nothing waiting there is nothing to overtake, and the queue is passed by.
                if self.waiting == 0 {
                    if let Some((node, kind)) = self.choose(id) {
                        return self.send(now, id, node, kind, effects);
                    }
                }
                let served = self.registry.serving(method.id(), &labels) > 0;
                let queue = self.queues.entry((method.id(), labels)).or_insert_with(|| Queue {
                    service: method.name().service,
                    calls: BTreeMap::new(),
                    unserved: None,
                    oldest: now,
                });
                queue.calls.insert(seq, id);
                if !served {
                    queue.unserved.get_or_insert(now);
                }
                self.queued(id);
                if !served && self.settings.node_wait.is_zero() {
                    return self.fail_unserved(now, id, effects);
                }
            }
        }
        // The node takes what is its turn, which may be another call than this one. Then this one may
        // still fit elsewhere.
        self.place_queued(now, id, effects);
        self.refuse_if_full(id, effects);
    }

    /// The least loaded node that can take the call now; one that it was lost with or refused by only if
    /// there is no other.
    fn choose(&self, id: CallId) -> Option<(NodeId, MethodKind)> {
        let call = self.calls.get(&id)?;
        let method = call.method.id();
        let labels = &call.demand.labels;
        let expected = self.expected_of(call);
        // Drawn from the seed by the call's own number: random to whoever looks, and the same in each run.
        let salt = self.settings.seed ^ id.0;
        self.registry.least_loaded(method, labels, expected, &self.to_avoid(call), salt)
    }

    fn choose_for_queued(&self, id: CallId) -> Option<(NodeId, MethodKind)> {
        let call = self.calls.get(&id)?;
        let waits = matches!(call.stage, Stage::Queued(_)) && call.target.is_none();
        if waits { self.choose(id) } else { None }
    }

    /// The nodes that the call should not go to: those it has tried, unless it has tried all.
    pub(super) fn to_avoid(&self, call: &CallEntry<H>) -> Vec<NodeId> {
        if call.setbacks.is_empty() && call.beside.is_none() {
            return Vec::new();
        }
        let tried = call.setbacks.iter().map(|setback| setback.node.id).chain(call.beside);
        let mut serving: Vec<NodeId> = tried
            .filter(|node| self.registry.node(*node).is_some_and(|node| node.state != crate::view::NodeState::Draining))
            .collect();
        serving.sort();
        serving.dedup();
        let all = self.registry.serving(call.method.id(), &call.demand.labels);
        if serving.len() >= all { Vec::new() } else { serving }
    }

    /// Ends a call that has just been queued where nothing took it and the queue is full.
    fn refuse_if_full(&mut self, id: CallId, effects: &mut Effects<H>) {
        let (calls, bytes) = (self.waiting, self.waiting_bytes);
        let (queued, limit, unit) = if calls > self.settings.queue {
            (calls - 1, self.settings.queue, QueueUnit::Calls)
        } else if bytes > self.settings.queue_bytes {
            let others = self.calls.get(&id).map_or(bytes, |call| bytes.saturating_sub(call.demand.size));
            (others, self.settings.queue_bytes, QueueUnit::Bytes)
        } else {
            return;
        };
        // One that was sent before is let in: to turn it away would be to say that it did not run.
        if let Some(CallEntry { stage: Stage::Queued(_), attempt: 0, demand: Demand { patient: false, .. }, .. }) =
            self.calls.get(&id)
        {
            self.end_with(id, effects, |call| CallError::Overloaded {
                method: call.method.name(),
                queued,
                limit,
                unit,
            });
        }
    }

    /// Gives a node as much of what waits as it can take: its free slots' worth, and of what may be
    /// prefetched its share, so that the nodes which get free next find something too.
    pub(super) fn feed(&mut self, now: Time, node: NodeId, effects: &mut Effects<H>) {
        let mut share = self.waiting.div_ceil(self.registry.len().max(1));
        // Kinds of which the node takes no more.
        let mut full = [false; 2];
        while self.waiting > 0 {
            let Some((id, kind)) = self.next_for(node, full) else { return };
            let Some(call) = self.calls.get(&id) else { return };
            let Some(room) = self.registry.node(node) else { return };
            if !room.has_free_slot(kind) {
                // The call whose turn it is may be too long to be prefetched. Then the node gets none of
                // its kind until a slot is free: others that are short must not overtake it for ever.
                if share == 0 || !room.takes(kind, self.expected_of(call)) {
                    full[kind as usize] = true;
                    continue;
                }
                share -= 1;
            }
            self.unqueue_to_send(id);
            self.send(now, id, node, kind, effects);
        }
    }

    /// The call whose turn it is on this node, among those of a kind that is not full.
    fn next_for(&self, id: NodeId, full: [bool; 2]) -> Option<(CallId, MethodKind)> {
        let node = self.registry.node(id)?;
        let has_room = |method: MethodId| {
            let kind = self.registry.kind_on(id, method)?;
            (!full[kind as usize] && node.takes(kind, Duration::ZERO)).then_some(kind)
        };
        for call in node.waiting.values() {
            if let Some(kind) = self.calls.get(call).and_then(|entry| has_room(entry.method.id())) {
                return Some((*call, kind));
            }
        }
        let mut best: Option<(u64, Seq, CallId, MethodKind)> = None;
        for ((method, labels), queue) in &self.queues {
            let Some(kind) = has_room(*method).filter(|_| node.has_labels(labels)) else { continue };
            let fits = |call: &&CallId| self.calls.get(call).is_some_and(|entry| !self.to_avoid(entry).contains(&id));
            let Some((seq, call)) = queue.calls.iter().find(|(_, call)| fits(call)) else { continue };
            let turn = self.turns.get(queue.service).copied().unwrap_or(0);
            if best.is_none_or(|(best_turn, best_seq, ..)| (turn, *seq) < (best_turn, best_seq)) {
                best = Some((turn, *seq, *call, kind));
            }
        }
        best.map(|(_, _, call, kind)| (call, kind))
    }

    /// Books a call that is in no queue onto a node.
    fn send(&mut self, now: Time, id: CallId, node: NodeId, kind: MethodKind, effects: &mut Effects<H>) {
        let Some(each) = self.calls.get(&id).map(|call| self.expected(call.method.id())) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let method = call.method;
        call.stage = Stage::InFlight(node);
        call.attempt += 1;
        call.sent += 1;
        call.granted = super::grant(call.demand.count, each);
        let (handle, attempt, deadline) = (call.handle.clone(), call.attempt, call.deadline());
        let granted = call.granted;
        handle.open(attempt);
        self.turn += 1;
        self.turns.insert(method.name().service, self.turn);
        let count = call.demand.count;
        let expected = self.calls.get(&id).map_or(UNKNOWN_RUN_TIME, |call| self.expected_of(call));
        let booking = Booking { call: id, attempt, kind, count, expected };
        self.registry.start(now, node, booking);
        if let Some(node) = self.registry.node(node) {
            effects.push(Effect::Send { link: node.link.clone(), call: handle, id, attempt, granted, deadline });
        }
    }

    /// Puts back a call that certainly did not run.
    pub(super) fn requeue(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.sent -= 1;
            if self.shutting_down {
                self.end_with(id, effects, super::shutdown_error);
            } else {
                self.enqueue_or_place(now, id, effects);
            }
        }
    }

    /// Notes that a call has been put into a queue.
    fn queued(&mut self, id: CallId) {
        self.waiting += 1;
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Queued(call.seq);
            self.waiting_bytes += call.demand.size;
        }
    }

    /// Takes a call out of the queue it is in.
    pub(super) fn unqueue(&mut self, call: &CallEntry<H>, seq: Seq) {
        self.take_out(call.method.id(), call.demand.size, call.demand.labels.clone(), call.target, seq);
    }

    fn unqueue_to_send(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (method, size, target, seq) = (call.method.id(), call.demand.size, call.target, call.seq);
        let labels = call.demand.labels.clone();
        call.stage = Stage::Between;
        self.take_out(method, size, labels, target, seq);
    }

    fn take_out(&mut self, method: MethodId, size: usize, labels: Labels, target: Option<NodeId>, seq: Seq) {
        self.waiting -= 1;
        self.waiting_bytes -= size;
        match target {
            Some(node) => {
                if let Some(node) = self.registry.node_mut(node) {
                    node.waiting.remove(&seq);
                }
            }
            None => {
                if let Entry::Occupied(mut queue) = self.queues.entry((method, labels)) {
                    queue.get_mut().calls.remove(&seq);
                    if queue.get().calls.is_empty() {
                        queue.remove();
                    }
                }
            }
        }
    }

    /// The node that the call is for, if it is for one.
    fn find_target(&self, id: CallId) -> Option<NodeId> {
        let call = self.calls.get(&id)?;
        call.demand.node.or_else(|| {
            let key = call.demand.affinity?;
            self.registry.closest(key, call.method.id(), &call.demand.labels, &self.to_avoid(call))
        })
    }

    /// Ends a call whose node does not come any more, unless another will do.
    pub(super) fn untarget(
        &mut self,
        now: Time,
        id: CallId,
        wanted: impl FnOnce() -> String,
        effects: &mut Effects<H>,
    ) {
        match self.calls.get(&id) {
            Some(call) if call.demand.node.is_none() => {
                self.unqueue_to_send(id);
                self.enqueue_or_place(now, id, effects);
            }
            Some(_) => self.fail_target(now, id, wanted(), effects),
            None => {}
        }
    }

    /// Notes for each queue whether any node serves it, after nodes came or went.
    pub(super) fn note_served(&mut self, now: Time) {
        for ((method, labels), queue) in &mut self.queues {
            if self.registry.serving(*method, labels) > 0 {
                queue.unserved = None;
            } else {
                queue.unserved.get_or_insert(now);
            }
        }
    }

    /// Ends the calls that have waited long enough for a node to come.
    pub(super) fn expire_unserved(&mut self, now: Time, effects: &mut Effects<H>) {
        let wait = self.settings.node_wait;
        let mut expired = Vec::new();
        for queue in self.queues.values_mut() {
            let Some(since) = queue.unserved else { continue };
            if queue.oldest.max(since) + wait > now {
                continue;
            }
            queue.oldest = now;
            for id in queue.calls.values() {
                let Some(call) = self.calls.get(id) else { continue };
                if call.queued.max(since) + wait <= now {
                    expired.push(*id);
                } else {
                    queue.oldest = queue.oldest.min(call.queued);
                }
            }
        }
        for id in expired {
            self.fail_unserved(now, id, effects);
        }
    }

    /// When the next call may have waited long enough for a node to come.
    pub(super) fn next_unserved(&self) -> Option<Time> {
        let wait = self.settings.node_wait;
        self.queues.values().filter_map(|queue| Some(queue.oldest.max(queue.unserved?) + wait)).min()
    }

    /// Ends a call that no node serves, and says what there is instead.
    fn fail_unserved(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.calls.get(&id) else { return };
        let (method, name) = (call.method, call.method.name());
        let found = self.registry.other_signatures(name.service, name.method, method.version(), method.signature());
        let known: Vec<&str> = self.registry.nodes().map(|node| &*node.identity.name).take(8).collect();
        let wanted = match (call.demand.node, self.registry.len()) {
            (Some(node), _) => format!("it was to run on node {node}, which does not serve it"),
            (None, 0) => "no node is registered at this master".to_owned(),
            (None, count) => format!("none of the {count} registered nodes serves it ({})", known.join(", ")),
        };
        let others = self.registry.serving(method.id(), &None);
        let labels = call.demand.labels.clone().filter(|_| others > 0);
        let wanted = match &labels {
            Some(labels) => {
                let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("none of the {others} nodes that serve it is labelled {}", labels.join(", "))
            }
            None => wanted,
        };
        let wait = self.settings.node_wait;
        let wanted = match call.demand.node {
            Some(_) => wanted,
            None if wait.is_zero() => {
                format!("{wanted}; start one that does (calls do not wait for it: `node_wait` is zero)")
            }
            None => format!("{wanted}, and none that does came within {wait:?}; start one, or raise `node_wait`"),
        };
        self.end_with(id, effects, |call| match call.lost().next_back() {
            // It may have run on the node it was lost with, so it must not be said that it did not.
            Some((node, reason)) => {
                CallError::NodeLost { method: name, node: node.clone(), attempts: call.sent, reason: reason.clone() }
            }
            None if !found.is_empty() && labels.is_none() => CallError::Incompatible {
                method: name,
                expected: describe_signature(method.signature(), method.version()),
                found: found.join("`, `"),
            },
            None => CallError::NoNode { method: name, wanted, waited: now.saturating_sub(call.submitted) },
        });
    }

    /// What the call is expected to take of a slot. One that was lost with a node may be what its node died of.
    /// It is taken for a long one: then it waits behind no other on a node, and no other behind it, so that
    /// it takes few with it.
    fn expected_of(&self, call: &CallEntry<H>) -> Duration {
        match call.lost().next() {
            Some(_) => UNKNOWN_RUN_TIME,
            None => self.expected(call.method.id()).saturating_mul(call.demand.count),
        }
    }

    pub(super) fn expected(&self, method: MethodId) -> Duration {
        self.run_times.get(&method).copied().unwrap_or(UNKNOWN_RUN_TIME)
    }

    pub(super) fn note_run_time(&mut self, method: MethodId, run: Duration) {
        // A peer's figure: bounded, so that no sum of them can overflow.
        let run = run.min(UNKNOWN_RUN_TIME);
        let mean = self.run_times.entry(method).or_insert(run);
        *mean = *mean - *mean / MEAN_OVER + run / MEAN_OVER;
    }

    /// Finds nodes for calls that have avoided those they tried, and may not need to any more.
    pub(super) fn place_tried(&mut self, now: Time, effects: &mut Effects<H>) {
        let queued = self.queues.values().flat_map(|queue| queue.calls.values());
        let tried =
            |id: &&CallId| self.calls.get(id).is_some_and(|call| !call.setbacks.is_empty() || call.beside.is_some());
        let tried: Vec<CallId> = queued.filter(tried).copied().collect();
        for id in tried {
            self.place_queued(now, id, effects);
        }
    }

    /// Feeds nodes that could take the queued call until one has, or none gets further.
    fn place_queued(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        while let Some((node, _)) = self.choose_for_queued(id) {
            let before = self.waiting;
            self.feed(now, node, effects);
            if self.waiting == before {
                break;
            }
        }
    }
}
