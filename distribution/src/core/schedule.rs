//! Which call goes to which node, and which waits.
//!
//! A call goes to the node that [`balance`](super::balance) chooses. If no node can take it, it waits in a queue (see
//! [`queues`](super::queues)). A node with a free slot takes from the queues that it serves: from the service that was
//! served longest ago, the first call in the order of [`turns`](super::turns). Calls for one node only take part in that
//! order like all others.

use super::{
    call::{CallEntry, CallLocation, shutdown_error},
    counters::Sent,
    deferred::DeferredTask,
    effect::{Effect, Effects},
    host::{Host, HostCall as _, Time},
    node::{CallCost, InFlightAttempt, Node},
    per_kind::{KINDS, PerKind},
    queue_heads::QueueHeads,
    queue_ids::{QueueId, Seq},
    queues::Scope,
    settings::Settings,
    state::Core,
};
use crate::{
    error::{CallError, LimitOf, QueueUnit},
    id::{CallId, CallerId, NodeId},
    service::method::MethodKind,
    view::NodeState,
};

impl<H: Host> Core<H> {
    /// Sends a call to a node, puts it into a queue, or ends it.
    pub(super) fn enqueue_or_place(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.queued = now;
        self.called.relocate(call, CallLocation::Unplaced);
        let method = call.method.id();
        if let Some(labels) = call.demand.labels.clone().filter(|_| call.demand.node.is_none()) {
            self.prepare_views(method, &labels);
        }
        match self.find_target(id) {
            Some((target, exact)) => self.enqueue_for(now, id, target, exact, effects),
            None => {
                let Some(call) = self.calls.get(&id) else { return };
                let (labels, avoid) = (call.demand.labels.clone(), self.to_avoid(call));
                // If nothing waits, there is nothing to overtake, and the call need not be queued.
                if self.queues.waiting == 0 {
                    let avoided = self.still_avoided(method, &labels, &avoid);
                    if let Some((node, kind)) = self.choose(id, &labels, avoided) {
                        return self.send(now, id, node, kind, effects);
                    }
                }
                let queue = self.push(now, id, Scope::Any { labels: labels.clone(), avoid });
                // It is not known whether a view has nodes until it is whole.
                if !self.is_filling(method, &labels) && !self.registry.serves(method, &labels) {
                    self.mark_unserved(now, queue);
                    if self.settings.no_node_timeout.is_zero() {
                        return self.fail_unserved(now, id, effects);
                    }
                }
                self.place_queued(now, queue, effects);
            }
        }
    }

    /// Puts a call into the queue of the one node that it has to go to, or ends it.
    fn enqueue_for(&mut self, now: Time, id: CallId, target: NodeId, exact: bool, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node(target) else {
            let wanted = format!(
                "it has to run on node {target}, and there is no such node (a node that registers again has a new id)"
            );
            return self.fail_target(now, id, wanted, effects);
        };
        if node.state == NodeState::Draining {
            let wanted = format!("it has to run on {}, which is leaving", node.identity);
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
        if !std::mem::replace(&mut call.has_turn, true) {
            call.seq = self.queues.callers.next_place(call.service, call.demand.caller, call.number);
        }
        let (method, service, waiting) = (&call.method, call.service, call.waiting(id));
        let registry = &self.registry;
        let lapses = |scope: &Scope| match scope {
            Scope::Any { labels, avoid } => registry.lapses(method.id(), labels, avoid),
            Scope::Node { .. } => false,
        };
        let (queue, place, change) = self.queues.push(method, service, scope, waiting, lapses);
        call.location = CallLocation::Queued(queue);
        if let Some(unserved) = self.queues.get_mut(queue).and_then(|queue| queue.unserved.as_mut()) {
            unserved.later.insert((now, waiting.seq));
        }
        if let Some(place) = place {
            self.registry.change_head(queue, &place, change);
        }
        queue
    }

    /// Removes a call from its queue.
    pub(super) fn unqueue(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let CallLocation::Queued(queue) = std::mem::replace(&mut call.location, CallLocation::Unplaced) else { return };
        let waiting = call.waiting(id);
        if let Some((place, change)) = self.queues.remove(queue, waiting) {
            self.registry.change_head(queue, &place, change);
        }
    }

    /// Ends a call that has just been queued, if no node has taken it and the queue is full, or its caller's share of it.
    pub(super) fn refuse_if_full(&mut self, id: CallId, effects: &mut Effects<H>) {
        let (waiting, settings) = (self.queues.limited, &self.settings);
        let is_within = waiting.calls <= settings.max_queued_calls && waiting.bytes <= settings.max_queued_bytes;
        // Most calls are sent at once and need not be looked up.
        if is_within && self.queues.limited_of.is_empty() {
            return;
        }
        let Some(CallEntry { location: CallLocation::Queued(queue), demand, is_nested, .. }) = self.calls.get(&id)
        else {
            return;
        };
        let exceeded = self.exceeded_limit(demand.caller, demand.held());
        let Some((limit_of, queued, limit, unit)) = exceeded.filter(|_| !demand.exempt_from_limits && !is_nested)
        else {
            return;
        };
        // While a view is being filled, it is not known yet whether the call has to wait.
        if !self.may_soon_find_one(*queue) {
            self.end_with(id, effects, |call| CallError::Overloaded {
                call: call.method.name().into(),
                limit_of,
                queued,
                limit,
                unit,
            });
        }
    }

    /// The limit that is exceeded with a call of this caller and this size, and what waits besides that call.
    fn exceeded_limit(&self, caller: CallerId, size: usize) -> Option<(LimitOf, usize, usize, QueueUnit)> {
        let Settings { max_queued_calls, max_queued_bytes, .. } = self.settings;
        let Settings { max_queued_calls_per_caller, max_queued_bytes_per_caller, .. } = self.settings;
        let of_caller = self
            .queues
            .limited_of
            .get(&caller)
            .map(|share| (LimitOf::Caller, *share, max_queued_calls_per_caller, max_queued_bytes_per_caller));
        let of_all = (LimitOf::Master, self.queues.limited, max_queued_calls, max_queued_bytes);
        of_caller.into_iter().chain([of_all]).find_map(|(limit_of, waiting, calls, bytes)| {
            if waiting.calls > calls {
                Some((limit_of, waiting.calls - 1, calls, QueueUnit::Calls))
            } else if waiting.bytes > bytes {
                Some((limit_of, waiting.bytes.saturating_sub(size), bytes, QueueUnit::Bytes))
            } else {
                None
            }
        })
    }

    /// Sends a node calls that wait: as many as it has free slots, and ahead of these no more than its share.
    pub(super) fn feed(&mut self, now: Time, node: NodeId, effects: &mut Effects<H>) {
        let mut share = self.prefetch_share();
        // The kinds of calls that the node takes no more of.
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
                // The next call may be too long to be sent ahead. Then the node gets no calls of this kind until a slot
                // is free: short calls must not overtake a long one for ever.
                if share == 0 || !room.takes(kind, self.cost(call)) {
                    full[kind] = true;
                    continue;
                }
                share -= 1;
            }
            left -= 1;
            self.queues.callers.on_taken(call.service, call.seq);
            self.unqueue(id);
            self.send(now, id, node, kind, effects);
        }
        self.deferred.push(DeferredTask::Feed(node));
    }

    /// The next call for this node, of a kind that the node can take more of.
    fn next_for(&self, id: NodeId, full: PerKind<bool>) -> Option<(CallId, MethodKind)> {
        let node = self.registry.node(id)?;
        let group = self.registry.group(node.group)?;
        let mut best: Option<((u64, Seq), CallId, MethodKind)> = None;
        for kind in KINDS {
            if full[kind] || !node.takes(kind, CallCost::ZERO) {
                continue;
            }
            for (heads, is_own) in [(&node.heads[kind], true), (&group.heads[kind], false)] {
                if !is_own && !node.may_take_from_group(kind) {
                    continue;
                }
                for (service, heads) in heads.for_labels(&node.profile.labels) {
                    let turn = self.queues.turn(service);
                    let is_excluded = |queue| self.queues.get(queue).is_some_and(|queue| queue.avoided().contains(&id));
                    // For each method, the first call that avoids nodes but not this one.
                    let firsts = heads.avoiding.values().filter_map(|avoiding| avoiding.first_for(id, is_excluded));
                    for (seq, queue) in firsts {
                        let is_before = best.is_none_or(|(order, ..)| (turn, seq) < order);
                        if let Some(call) = self.first_call(node, kind, queue).filter(|_| is_before) {
                            best = Some(((turn, seq), call, kind));
                        }
                    }
                    for (seq, queue) in &heads.open {
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

    /// Sends a call that is in no queue to a node.
    fn send(&mut self, now: Time, id: CallId, node: NodeId, kind: MethodKind, effects: &mut Effects<H>) {
        let Some(call) = self.calls.get(&id) else { return };
        let (cost, granted) = (self.cost(call), self.grant(call.method.id(), call.demand.count));
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.granted = granted;
        let sent = Sent::new(now, call);
        self.called.on_sent(call, node, &sent);
        self.books.of(call.demand.caller).on_sent(&sent);
        call.attempt += 1;
        call.sent += 1;
        call.has_turn = true;
        let (handle, attempt, deadline) = (call.handle.clone(), call.attempt, call.deadline());
        handle.open(attempt);
        self.queues.end_turn(call.service);
        let method = call.method.id();
        let count = call.demand.count;
        let in_flight = InFlightAttempt { call: id, attempt, method, kind, count, cost, sent: now, is_lent: false };
        self.registry.start(node, in_flight, &sent);
        if let Some(node) = self.registry.node(node) {
            effects.push(Effect::Send { link: node.link.clone(), call: handle, id, attempt, granted, deadline });
        }
    }

    /// Queues a call again that certainly did not run.
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

    /// Closes the queues of a node that takes no more calls. Deferred work moves or ends the calls in them.
    pub(super) fn close_queues(&mut self, heads: &PerKind<QueueHeads>, why: &str) {
        for kind in KINDS {
            for queue in heads[kind].queues() {
                self.queues.close(queue, why.into());
                self.deferred.push(DeferredTask::EmptyQueue(queue));
            }
        }
    }

    /// Feeds the nodes that can take the first call of a queue, as long as that takes any call.
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
}
