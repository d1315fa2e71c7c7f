//! Work that one event brings for many calls or nodes, done in slices.
//!
//! The node that leaves may have had a million calls waiting for it. To deal with all of them at once would hold the
//! core's lock for seconds, so an event does the first of them and leaves the others here. While there are any, the core
//! asks to be ticked at once, and callers and connections come in between.

use std::sync::Arc;

use super::{
    Core, Effects, Host, Labels, Time,
    avoid::But,
    queues::{QueueId, Scope},
};
use crate::{
    error::GoneReason,
    id::{CallId, NodeId, NodeIdentity},
    security::Source,
    service::method::MethodId,
};

/// What is left to do.
#[derive(Debug)]
pub(super) enum Chore {
    /// Go on giving a node what waits.
    Feed(NodeId),
    /// Find a place for calls that avoid nodes and may not need to any more.
    PlaceAvoiding,
    /// See whether calls may avoid nodes again, because there are others now.
    ReviewLapsed,
    /// Give nodes that rest what no other node can take.
    FeedResting,
    /// Move the calls of a closed queue to other nodes, or end them.
    Empty(QueueId),
    /// End the calls of a queue that have waited long enough for a node.
    Expire(QueueId),
    /// Decide about the calls that a node had as it was lost, the last first.
    Lose { calls: Vec<(CallId, u32)>, from: Arc<Departed> },
    /// Cut a node off.
    CutOff(NodeId, GoneReason),
    /// Go on filling views.
    FillViews(Filled),
    /// Feed the nodes that can take the calls of a queue, one after the other.
    Place(QueueId),
}

/// The views of these labels in the groups that serve the method.
pub(super) type Filled = (MethodId, Arc<[(String, String)]>);

/// A node that is not registered any more.
#[derive(Debug)]
pub(super) struct Departed {
    pub(super) identity: NodeIdentity,
    pub(super) source: Source,
    pub(super) reason: GoneReason,
}

impl<H: Host> Core<H> {
    /// Whether the core wants to be ticked at once.
    pub(super) fn has_chores(&self) -> bool {
        !self.chores.is_empty() || !self.view_chores.is_empty()
    }

    /// Does a slice of what is left. A chore that ends in an event which would do chores itself leaves them to this.
    pub(super) fn do_chores(&mut self, now: Time, effects: &mut Effects<H>) {
        if std::mem::replace(&mut self.does_chores, true) {
            return;
        }
        self.do_slice(now, effects);
        self.does_chores = false;
    }

    fn do_slice(&mut self, now: Time, effects: &mut Effects<H>) {
        // A chore costs one, and so does each of its calls: with less than two, none would ever be dealt with.
        let mut budget = self.settings.slice.max(2);
        while budget > 0 {
            let Some(chore) = self.next_chore() else { return };
            budget -= 1;
            match chore {
                Chore::Feed(node) => {
                    self.feed(now, node, effects);
                    // It has a limit of its own, and is the longest of all.
                    return;
                }
                Chore::FeedResting => {
                    let next =
                        self.feed_resting_from.and_then(|from| self.registry.resting.range(from..).next().copied());
                    self.feed_resting_from = next.map(|node| NodeId::from_bits(node.to_bits().saturating_add(1)));
                    if let Some(node) = next {
                        self.chores.push_back(Chore::FeedResting);
                        self.feed(now, node, effects);
                    }
                }
                Chore::PlaceAvoiding => {
                    let mut next = self.place_from.and_then(|from| self.queues.avoiding.range(from..).next().copied());
                    if next.is_none() && std::mem::take(&mut self.place_again) {
                        next = self.queues.avoiding.first().copied();
                    }
                    self.place_from = next.map(QueueId::next);
                    if let Some(queue) = next {
                        self.chores.push_back(Chore::PlaceAvoiding);
                        self.review(queue);
                        self.place_queued(now, queue, effects);
                    }
                }
                Chore::ReviewLapsed => {
                    let next = self.review_from.and_then(|from| self.queues.lapsed.range(from..).next().copied());
                    self.review_from = next.map(QueueId::next);
                    if let Some(queue) = next {
                        self.chores.push_back(Chore::ReviewLapsed);
                        self.review(queue);
                    }
                }
                Chore::Empty(queue) => self.empty(now, queue, &mut budget, effects),
                // Each of these makes an error with texts of its own.
                Chore::Expire(queue) => {
                    let mut fewer = budget.div_ceil(2);
                    self.expire(now, queue, &mut fewer, effects);
                    budget = fewer;
                }
                Chore::Lose { calls, from } => self.lose(now, calls, from, &mut budget, effects),
                Chore::FillViews(views) => {
                    self.fill_views(now, views);
                    // It has a limit of its own.
                    return;
                }
                Chore::Place(queue) => {
                    let before = self.queues.waiting;
                    if let Some(node) = self.choose_for_queue(queue) {
                        self.feed(now, node, effects);
                    }
                    if self.queues.waiting < before {
                        self.view_chores.push_back(Chore::Place(queue));
                    }
                    return;
                }
                Chore::CutOff(node, reason) => {
                    self.cut_off(now, node, reason, effects);
                    budget = budget.saturating_sub(self.settings.slice / 8);
                }
            }
        }
    }

    /// Views have every other turn: calls wait for them, and one of the others may see to a million calls.
    fn next_chore(&mut self) -> Option<Chore> {
        self.is_turn_of_views = !self.is_turn_of_views;
        let (first, second) = match self.is_turn_of_views {
            true => (&mut self.view_chores, &mut self.chores),
            false => (&mut self.chores, &mut self.view_chores),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// Sees to it that nodes with these labels are found without looking at all, soon if not yet.
    pub(super) fn prepare_views(&mut self, method: MethodId, labels: &Arc<[(String, String)]>) {
        let is_left = self.registry.prepare_views(method, labels, self.settings.slice);
        let views = (method, Arc::clone(labels));
        if is_left && self.filling.insert(views.clone()) {
            self.view_chores.push_back(Chore::FillViews(views));
        }
    }

    /// Whether views of these labels are being filled. Until they are whole, calls go to the nodes that the views have so
    /// far, or wait: to look at all nodes for each of them would hold everybody up.
    pub(super) fn is_filling(&self, method: MethodId, labels: &Labels) -> bool {
        let Some(labels) = labels.as_ref().filter(|_| !self.filling.is_empty()) else { return false };
        self.filling.contains(&(method, Arc::clone(labels)))
    }

    /// Whether the queue that a call is in may have a node for it that is not known yet.
    pub(super) fn may_soon_find_one(&self, queue: QueueId) -> bool {
        let Some(queue) = self.queues.get(queue) else { return false };
        let Scope::Any { labels, .. } = &queue.scope else { return false };
        let method = queue.method.id();
        self.is_filling(method, labels) && !self.registry.has_views(method, labels)
    }

    /// Fills views a little more. Once they are whole, sees to the calls that wait for nodes in them.
    fn fill_views(&mut self, now: Time, (method, labels): Filled) {
        self.filling.remove(&(method, Arc::clone(&labels)));
        self.prepare_views(method, &labels);
        let labels = Some(labels);
        if self.is_filling(method, &labels) {
            return;
        }
        let is_served = self.registry.serves(method, &labels, But::NOTHING);
        if let Some(queue) = self.queues.find(method, Scope::Any { labels, avoid: None }) {
            if is_served {
                self.view_chores.push_back(Chore::Place(queue));
            } else {
                self.mark_unserved(now, queue);
            }
        }
        self.place_avoiding();
    }

    /// Decides about calls whose node was lost; those for which there is no time now are left for later.
    fn lose(
        &mut self,
        now: Time,
        mut calls: Vec<(CallId, u32)>,
        from: Arc<Departed>,
        budget: &mut usize,
        effects: &mut Effects<H>,
    ) {
        while let Some((call, attempt)) = calls.pop() {
            if *budget == 0 {
                calls.push((call, attempt));
                self.chores.push_front(Chore::Lose { calls, from });
                return;
            }
            *budget -= 1;
            if self.is_current(call, from.identity.id, attempt) {
                self.lost(now, call, (&from.identity, from.source), &from.reason, effects);
            }
        }
        self.departed.remove(&from.identity.id);
    }

    /// Takes calls out of a closed queue.
    fn empty(&mut self, now: Time, queue: QueueId, budget: &mut usize, effects: &mut Effects<H>) {
        while let Some((id, why)) = self.queues.get(queue).and_then(|queue| {
            let (_, id) = queue.calls.first_key_value()?;
            Some((*id, queue.closed.clone()?))
        }) {
            if *budget == 0 {
                self.chores.push_front(Chore::Empty(queue));
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
