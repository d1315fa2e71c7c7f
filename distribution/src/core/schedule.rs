//! Which call goes to which node, and which waits.
//!
//! A call goes to the least loaded node that serves its method and can take it. If none can, it waits in a queue (see
//! [`super::queues`]), and a node that gets free takes from the queues it serves: from the service that was served longest
//! ago, the oldest call first. Calls that are for one node only take part in that order like all others.

use super::{
    Core, Effect, Effects, Host, HostCall as _, Labels, Time, Timer,
    avoid::{Avoid, But, avoid},
    balance::{Need, Search, UNKNOWN_RUN_TIME},
    call::{CallEntry, Demand, Stage, shutdown_error},
    chores::Chore,
    per_kind::{KINDS, PerKind},
    queues::{HeadChange, Queue, QueueId, Scope, Seq},
    registry::{Booking, Node},
};
use crate::{
    error::{CallError, Cause, FailedAttempt, QueueUnit},
    id::{CallId, NodeId},
    security::Source,
    service::method::{Method, MethodId, MethodKind},
    view::NodeState,
};

/// A new run time counts this much (one part in) towards the mean.
const MEAN_OVER: u32 = 8;

impl<H: Host> Core<H> {
    /// Takes a call and says by which number it is known; a batch has as many numbers as calls, from that
    /// one. `failed_attempts` are what has befallen it as part of a batch.
    pub(crate) fn on_call_submitted(
        &mut self,
        now: Time,
        handle: H::Call,
        method: &'static Method,
        demand: Demand,
        failed_attempts: Vec<FailedAttempt>,
        effects: &mut Effects<H>,
    ) -> CallId {
        let id = CallId(self.next_call);
        self.next_call = self.next_call.wrapping_add(demand.count.into());
        let seq = self.next_seq;
        self.next_seq += 1;
        let hedged_on = demand.hedge_of.and_then(|twin| match self.calls.get(&twin)?.stage {
            Stage::InFlight(node) => Some(node),
            _ => None,
        });
        let call = CallEntry {
            handle,
            method,
            service: self.queues.service(method.name().service),
            demand,
            submitted: now,
            queued: now,
            seq,
            stage: Stage::Between,
            hedged_on,
            kept: None,
            granted: 0,
            attempt: failed_attempts.last().map_or(0, |failed_attempt| failed_attempt.attempt),
            sent: failed_attempts
                .iter()
                .map(|failed_attempt| u32::from(!matches!(failed_attempt.cause, Cause::Refused(_))))
                .sum(),
            in_batch: failed_attempts.len(),
            failed_attempts,
            returned: 0,
        };
        if let Some(deadline) = call.deadline() {
            self.timers.insert((deadline, Timer::Deadline(id)));
        }
        self.called.entry(method.id()).or_insert(method);
        let was_sent = call.may_have_run();
        self.calls.insert(id, call);
        if self.shutting_down {
            self.end_with(id, effects, shutdown_error);
        } else if was_sent {
            // It was lost, or panicked, as part of a batch. Its own first repetition need not wait: the batch is not
            // repeated, so it comes once.
            if self.may_repeat(id, effects) {
                self.enqueue_or_place(now, id, effects);
            }
        } else {
            self.enqueue_or_place(now, id, effects);
            self.refuse_if_full(id, effects);
        }
        id
    }

    /// Finds a call that is in no queue its place: a node, a queue, or its end.
    pub(super) fn enqueue_or_place(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.queued = now;
        call.stage = Stage::Between;
        let method = call.method.id();
        if let Some(labels) = call.demand.labels.clone().filter(|_| call.demand.node.is_none()) {
            self.prepare_views(method, &labels);
        }
        match self.find_target(id) {
            Some((target, exact)) => self.enqueue_for(now, id, target, exact, effects),
            None => {
                let Some(call) = self.calls.get(&id) else { return };
                let (labels, avoid) = (call.demand.labels.clone(), self.to_avoid(call));
                // With nothing waiting there is nothing to overtake, and the queue is passed by.
                if self.queues.waiting == 0 {
                    let avoided = self.still_avoided(method, &labels, &avoid);
                    if let Some((node, kind)) = self.choose(id, &labels, avoided) {
                        return self.send(now, id, node, kind, effects);
                    }
                }
                let queue = self.push(now, id, Scope::Any { labels: labels.clone(), avoid });
                // Whether a view that is being filled has nodes is known once it is whole.
                if !self.is_filling(method, &labels) && !self.registry.serves(method, &labels, But::NOTHING) {
                    self.mark_unserved(now, queue);
                    if self.settings.no_node_timeout.is_zero() {
                        return self.fail_unserved(now, id, effects);
                    }
                }
                self.place_queued(now, queue, effects);
            }
        }
    }

    /// Puts a call into the queue of the one node that it is for, or ends it.
    fn enqueue_for(&mut self, now: Time, id: CallId, target: NodeId, exact: bool, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node(target) else {
            let wanted = format!(
                "it was to run on node {target}, and there is no such node (a node that comes back has a new id)"
            );
            return self.fail_target(now, id, wanted, effects);
        };
        if node.state == NodeState::Draining {
            let wanted = format!("it was to run on {}, which is leaving", node.identity);
            return self.fail_target(now, id, wanted, effects);
        }
        let Some(method) = self.calls.get(&id).map(|call| call.method.id()) else { return };
        if self.registry.kind_on(target, method).is_none() {
            return self.fail_unserved(now, id, effects);
        }
        self.push(now, id, Scope::Node { node: target, exact });
        self.feed(now, target, effects);
    }

    /// Puts a call into a queue.
    fn push(&mut self, now: Time, id: CallId, scope: Scope) -> QueueId {
        let Some(call) = self.calls.get_mut(&id) else { return QueueId::NONE };
        let (method, service, waiting) = (call.method, call.service, call.waiting(id));
        let registry = &self.registry;
        let lapses = |scope: &Scope| match scope {
            Scope::Any { labels, avoid } => registry.lapses(method.id(), labels, avoid),
            Scope::Node { .. } => false,
        };
        let (queue, place, change) = self.queues.push(method, service, scope, waiting, lapses);
        call.stage = Stage::Queued(queue);
        if let Some(unserved) = self.queues.get_mut(queue).and_then(|queue| queue.unserved.as_mut()) {
            unserved.later.insert((now, waiting.seq));
        }
        if let Some(place) = place {
            self.registry.change_head(queue, &place, change);
        }
        queue
    }

    /// Takes a call out of the queue it is in.
    pub(super) fn unqueue(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Stage::Queued(queue) = std::mem::replace(&mut call.stage, Stage::Between) else { return };
        let waiting = call.waiting(id);
        if let Some((place, change)) = self.queues.remove(queue, waiting) {
            self.registry.change_head(queue, &place, change);
        }
    }

    /// What a call asks of a node. One that was lost before is not sent ahead of a free slot: it may be what ends its
    /// nodes, and calls that wait beside it would be lost as well.
    fn need(&self, call: &CallEntry<H>) -> Need {
        let time = match call.may_have_run() {
            true => UNKNOWN_RUN_TIME,
            false => self.run_times.get(&call.method.id()).copied().unwrap_or(UNKNOWN_RUN_TIME),
        };
        Need { time: time.saturating_mul(call.demand.count), bytes: call.demand.size }
    }

    /// The least loaded node that can take the call now, none of those to avoid; of a source with which the call was not
    /// lost, if there is one.
    fn choose(&self, id: CallId, labels: &Labels, avoid: &[NodeId]) -> Option<(NodeId, MethodKind)> {
        let call = self.calls.get(&id)?;
        let method = call.method.id();
        // Drawn from the seed by the call's own number: random to an observer, and the same in each run.
        let salt = self.settings.seed ^ id.0;
        let sources: Vec<Source> =
            call.failed_attempts.iter().filter_map(|failed_attempt| failed_attempt.source).collect();
        let search = Search { labels, avoid, sources: &sources, is_filling: self.is_filling(method, labels) };
        self.registry.least_loaded(method, search, self.need(call), salt)
    }

    /// Where the call should not go: to nodes that it has tried, and to the one that has the same call.
    fn to_avoid(&self, call: &CallEntry<H>) -> Avoid {
        if call.failed_attempts.is_empty() && call.hedged_on.is_none() {
            return None;
        }
        let tried = call.failed_attempts.iter().map(|failed_attempt| failed_attempt.node.id).chain(call.hedged_on);
        let labels = &call.demand.labels;
        let serving = tried.filter_map(|id| {
            let node = self.registry.node(id)?;
            self.registry.is_serving(node, call.method.id(), labels).then_some(id)
        });
        avoid(serving.collect())
    }

    /// Those of the nodes to avoid that still count: none, if there are no others.
    fn still_avoided<'a>(&self, method: MethodId, labels: &Labels, avoid: &'a Avoid) -> &'a [NodeId] {
        avoid.as_deref().filter(|_| !self.registry.lapses(method, labels, avoid)).unwrap_or_default()
    }

    /// Whether a call that a node would not take has another to go to.
    pub(super) fn has_elsewhere(&self, call: &CallEntry<H>) -> bool {
        let avoid = self.to_avoid(call);
        !self.registry.lapses(call.method.id(), &call.demand.labels, &avoid)
    }

    /// Ends a call that has just been queued where nothing took it and the queue is full.
    fn refuse_if_full(&mut self, id: CallId, effects: &mut Effects<H>) {
        let waiting = self.queues.limited;
        let (queued, limit, unit) = if waiting.calls > self.settings.max_queued_calls {
            (waiting.calls - 1, self.settings.max_queued_calls, QueueUnit::Calls)
        } else if waiting.bytes > self.settings.max_queued_bytes {
            let others = self.calls.get(&id).map_or(0, |call| call.demand.size);
            (waiting.bytes.saturating_sub(others), self.settings.max_queued_bytes, QueueUnit::Bytes)
        } else {
            return;
        };
        let Some(CallEntry { stage: Stage::Queued(queue), demand, .. }) = self.calls.get(&id) else { return };
        // While a view is being filled, it is not known yet whether the call has to wait.
        if !demand.exempt_from_limits && !self.may_soon_find_one(*queue) {
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
        let mut share = self.queues.waiting.div_ceil(self.registry.len().max(1));
        // Kinds of which the node takes no more.
        let mut full = PerKind::<bool>::default();
        let mut left = self.settings.slice;
        while left > 0 {
            if self.queues.waiting == 0 {
                return;
            }
            let Some((id, kind)) = self.next_for(node, full) else { return };
            let Some(call) = self.calls.get(&id) else { return };
            let Some(room) = self.registry.node(node) else { return };
            if !room.has_free_slot(kind) {
                // The call whose turn it is may be too long to be prefetched. Then the node gets none of
                // its kind until a slot is free: others that are short must not overtake it for ever.
                if share == 0 || !room.takes(kind, self.need(call)) {
                    full[kind] = true;
                    continue;
                }
                share -= 1;
            }
            left -= 1;
            self.unqueue(id);
            self.send(now, id, node, kind, effects);
        }
        self.chores.push_back(Chore::Feed(node));
    }

    /// The call whose turn it is on this node, among those of a kind that is not full.
    fn next_for(&self, id: NodeId, full: PerKind<bool>) -> Option<(CallId, MethodKind)> {
        let node = self.registry.node(id)?;
        let group = self.registry.group(node.group)?;
        let mut best: Option<((u64, Seq), CallId, MethodKind)> = None;
        for kind in KINDS {
            if full[kind] || !node.takes(kind, Need::NOTHING) {
                continue;
            }
            let takes_any = node.takes_any(kind, Need::NOTHING);
            for (work, is_own) in [(&node.work[kind], true), (&group.work[kind], false)] {
                // One that rests takes what no other node can take, and one that is full of such nothing at all.
                if !is_own && !takes_any && !node.health.rests() {
                    continue;
                }
                for (service, lines) in work.for_labels(&node.card.labels) {
                    let turn = self.queues.turn(service);
                    let is_barred = |queue| self.queues.get(queue).is_some_and(|queue| queue.avoided().contains(&id));
                    // Of each method that has such, the first that does not avoid this node.
                    let firsts = lines.avoiding.values().filter_map(|avoiding| avoiding.first_for(id, is_barred));
                    for (seq, queue) in firsts {
                        let is_before = best.is_none_or(|(order, ..)| (turn, seq) < order);
                        if let Some(call) = self.first_call(node, kind, queue).filter(|_| is_before) {
                            best = Some(((turn, seq), call, kind));
                        }
                    }
                    for (seq, queue) in &lines.open {
                        if best.is_some_and(|(order, ..)| order < (turn, *seq)) {
                            break;
                        }
                        if let Some(call) = self.first_call(node, kind, *queue) {
                            best = Some(((turn, *seq), call, kind));
                            break;
                        }
                    }
                }
            }
        }
        best.map(|(_, call, kind)| (call, kind))
    }

    /// The first call of a queue, if a node may take it.
    fn first_call(&self, node: &Node<H>, kind: MethodKind, queue: QueueId) -> Option<CallId> {
        let queue = self.queues.get(queue).filter(|queue| self.may_take(node, kind, queue))?;
        queue.calls.first_key_value().map(|(_, call)| *call)
    }

    /// Whether a node that serves the method may take the calls of a queue, as far as a slot is free.
    fn may_take(&self, node: &Node<H>, kind: MethodKind, queue: &Queue) -> bool {
        match &queue.scope {
            Scope::Node { exact: true, .. } => true,
            Scope::Node { exact: false, .. } => node.takes_any(kind, Need::NOTHING),
            // It is listed where only nodes look that have its labels and are not avoided.
            Scope::Any { labels, .. } => {
                node.takes_any(kind, Need::NOTHING)
                    || node.health.rests() && self.registry.all_rest(queue.method.id(), labels)
            }
        }
    }

    /// Books a call that is in no queue onto a node.
    fn send(&mut self, now: Time, id: CallId, node: NodeId, kind: MethodKind, effects: &mut Effects<H>) {
        let Some(call) = self.calls.get(&id) else { return };
        let (need, granted) = (self.need(call), self.grant(call.method.id(), call.demand.count));
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.granted = granted;
        call.stage = Stage::InFlight(node);
        call.attempt += 1;
        call.sent += 1;
        let (handle, attempt, deadline) = (call.handle.clone(), call.attempt, call.deadline());
        handle.open(attempt);
        self.queues.end_turn(call.service);
        let method = call.method.id();
        let booking = Booking { call: id, attempt, method, kind, count: call.demand.count, need, sent: now };
        self.registry.start(node, booking);
        if let Some(node) = self.registry.node(node) {
            effects.push(Effect::Send { link: node.link.clone(), call: handle, id, attempt, granted, deadline });
        }
    }

    /// Puts back a call that certainly did not run.
    pub(super) fn requeue(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.sent -= 1;
            if self.shutting_down {
                self.end_with(id, effects, shutdown_error);
            } else {
                self.enqueue_or_place(now, id, effects);
            }
        }
    }

    /// The node that the call is for, if it is for one, and whether the caller named it.
    fn find_target(&self, id: CallId) -> Option<(NodeId, bool)> {
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

    /// Closes the queues of a node that takes no more calls, and sees to those that are in them.
    pub(super) fn close_queues(&mut self, work: &PerKind<super::queues::Work>, why: &str) {
        for kind in KINDS {
            for queue in work[kind].queues() {
                self.queues.close(queue, why.into());
                self.chores.push_back(Chore::Empty(queue));
            }
        }
    }

    /// Looks again for nodes for calls that avoid some, and may not need to any more.
    pub(super) fn place_avoiding(&mut self) {
        // One that is under way goes on and round once more: departures in a row do not pile up, and if it began anew
        // with each, the last queues would never have their turn.
        if self.place_from.is_some() {
            self.place_again = true;
        } else {
            self.place_from = Some(QueueId::FIRST);
            self.chores.push_back(Chore::PlaceAvoiding);
        }
    }

    /// Looks again at calls for which it does not count what they avoid: others may have come.
    pub(super) fn review_lapsed(&mut self) {
        if self.queues.lapsed.is_empty() {
            return;
        }
        let is_under_way = self.review_from.replace(QueueId::FIRST).is_some();
        if !is_under_way {
            self.chores.push_back(Chore::ReviewLapsed);
        }
    }

    /// Lists the head of a queue by whether it counts now what its calls avoid.
    pub(super) fn review(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(id) else { return };
        let Scope::Any { labels, avoid } = &queue.scope else { return };
        let lapses = self.registry.lapses(queue.method.id(), labels, avoid);
        if let Some((before, after, head)) = self.queues.set_lapsed(id, lapses) {
            self.registry.change_head(id, &before, HeadChange { before: head, after: None });
            self.registry.change_head(id, &after, HeadChange { before: None, after: head });
        }
    }

    /// Feeds nodes that could take the first call of a queue until none gets further.
    pub(super) fn place_queued(&mut self, now: Time, queue: QueueId, effects: &mut Effects<H>) {
        while let Some(node) = self.choose_for_queue(queue) {
            let before = self.queues.waiting;
            self.feed(now, node, effects);
            if self.queues.waiting == before {
                break;
            }
        }
    }

    pub(super) fn choose_for_queue(&self, queue: QueueId) -> Option<NodeId> {
        let queue = self.queues.get(queue)?;
        let Scope::Any { labels, .. } = &queue.scope else { return None };
        let (_, id) = queue.calls.first_key_value()?;
        self.choose(*id, labels, queue.avoided()).map(|(node, _)| node)
    }

    pub(super) fn note_run_time(&mut self, method: MethodId, run: std::time::Duration) {
        // Bounded, so that no sum of them can overflow.
        let run = run.min(UNKNOWN_RUN_TIME);
        let mean = self.run_times.entry(method).or_insert(run);
        *mean = *mean - *mean / MEAN_OVER + run / MEAN_OVER;
    }
}
