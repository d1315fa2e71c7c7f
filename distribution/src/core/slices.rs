//! Does deferred work, a slice at a time.
//!
//! A node that leaves may have had a million calls waiting for it. To deal with all of them at once would hold the core's
//! lock for seconds. So an event deals with the first of them and defers the rest. While there is deferred work, the core
//! asks to be ticked at once; callers and connections get the lock in between.

use std::sync::Arc;

use super::{
    deferred::{DeferredTask, DepartedNode},
    effect::Effects,
    host::{Host, Time},
    queue_ids::QueueId,
    state::Core,
};
use crate::id::{CallId, NodeId};

impl<H: Host> Core<H> {
    /// Does a slice of the deferred work. A task that causes an event which would do a slice itself leaves that to this one.
    pub(super) fn run_deferred(&mut self, now: Time, effects: &mut Effects<H>) {
        if std::mem::replace(&mut self.deferred.is_running, true) {
            return;
        }
        self.do_slice(now, effects);
        self.deferred.is_running = false;
    }

    fn do_slice(&mut self, now: Time, effects: &mut Effects<H>) {
        // A task costs one, and so does each call that it deals with: with a budget of one, no call would ever be dealt
        // with.
        let mut budget = self.settings.slice.max(2);
        while budget > 0 {
            let Some(task) = self.deferred.pop() else { return };
            budget -= 1;
            match task {
                DeferredTask::Feed(node) => {
                    self.feed(now, node, effects);
                    // It has a limit of its own, and takes longer than all other tasks.
                    return;
                }
                DeferredTask::FeedEjected => {
                    let next = self
                        .deferred
                        .feed_ejected_from
                        .and_then(|from| self.registry.ejected.range(from..).next().copied());
                    self.deferred.feed_ejected_from =
                        next.map(|node| NodeId::from_bits(node.to_bits().saturating_add(1)));
                    if let Some(node) = next {
                        self.deferred.push(DeferredTask::FeedEjected);
                        self.feed(now, node, effects);
                    }
                }
                DeferredTask::PlaceAvoiding => {
                    let mut next =
                        self.deferred.place_from.and_then(|from| self.queues.avoiding.range(from..).next().copied());
                    if next.is_none() && std::mem::take(&mut self.deferred.place_again) {
                        next = self.queues.avoiding.first().copied();
                    }
                    self.deferred.place_from = next.map(QueueId::next);
                    if let Some(queue) = next {
                        self.deferred.push(DeferredTask::PlaceAvoiding);
                        self.review(queue);
                        self.place_queued(now, queue, effects);
                    }
                }
                DeferredTask::ReviewLapsed => {
                    let next =
                        self.deferred.review_from.and_then(|from| self.queues.lapsed.range(from..).next().copied());
                    self.deferred.review_from = next.map(QueueId::next);
                    if let Some(queue) = next {
                        self.deferred.push(DeferredTask::ReviewLapsed);
                        self.review(queue);
                    }
                }
                DeferredTask::EmptyQueue(queue) => self.empty(now, queue, &mut budget, effects),
                // Each of these calls gets an error with texts of its own, which takes longer.
                DeferredTask::ExpireQueue(queue) => {
                    let mut fewer = budget.div_ceil(2);
                    self.expire(now, queue, &mut fewer, effects);
                    budget = fewer;
                }
                DeferredTask::CancelCallsOf(caller) => {
                    let mut fewer = budget.div_ceil(2);
                    self.cancel_calls_of(now, caller, &mut fewer, effects);
                    budget = fewer;
                }
                DeferredTask::CancelNested { parent, before } => {
                    let mut fewer = budget.div_ceil(2);
                    self.cancel_nested(now, parent, before, &mut fewer, effects);
                    budget = fewer;
                }
                DeferredTask::HandleLost { calls, from } => self.lose(now, calls, from, &mut budget, effects),
                DeferredTask::KeepSent { connection, attempts } => {
                    self.keep_sent(now, connection, attempts, &mut budget, effects);
                }
                DeferredTask::AskAgain { connection, attempts, requests } => {
                    self.ask_again(now, connection, (attempts, requests), &mut budget, effects);
                }
                DeferredTask::FillViews(views) => {
                    self.fill_views(now, views);
                    // It has a limit of its own.
                    return;
                }
                DeferredTask::PlaceQueue(queue) => {
                    let before = self.queues.waiting;
                    if let Some(node) = self.choose_for_queue(queue) {
                        self.feed(now, node, effects);
                    }
                    if self.queues.waiting < before {
                        self.deferred.push_view(DeferredTask::PlaceQueue(queue));
                    }
                    return;
                }
                DeferredTask::CutOff(node, reason) => {
                    self.cut_off(now, node, reason, effects);
                    budget = budget.saturating_sub(self.settings.slice / 8);
                }
            }
        }
    }

    /// Decides about calls whose node was lost, as many as the budget allows.
    fn lose(
        &mut self,
        now: Time,
        mut calls: Vec<(CallId, u32)>,
        from: Arc<DepartedNode>,
        budget: &mut usize,
        effects: &mut Effects<H>,
    ) {
        while let Some((call, attempt)) = calls.pop() {
            if *budget == 0 {
                calls.push((call, attempt));
                self.deferred.push_front(DeferredTask::HandleLost { calls, from });
                return;
            }
            *budget -= 1;
            if self.is_current(call, from.identity.id, attempt) {
                self.lost(now, call, (&from.identity, from.source), &from.reason, effects);
            } else {
                self.note_stopped(call, from.identity.id, attempt);
            }
        }
        self.departed.remove(&from.identity.id);
    }

    /// Moves or ends the calls of a closed queue.
    fn empty(&mut self, now: Time, queue: QueueId, budget: &mut usize, effects: &mut Effects<H>) {
        while let Some((id, why)) = self.queues.get(queue).and_then(|queue| {
            let (_, id) = queue.calls.first_key_value()?;
            Some((*id, queue.closed.clone()?))
        }) {
            if *budget == 0 {
                self.deferred.push_front(DeferredTask::EmptyQueue(queue));
                return;
            }
            *budget -= 1;
            match self.calls.get(&id) {
                Some(call) if !call.is_targeted() => {
                    self.unqueue(id);
                    self.enqueue_or_place(now, id, effects);
                }
                Some(_) => self.fail_target(now, id, why.to_string(), effects),
                None => return,
            }
        }
    }
}
