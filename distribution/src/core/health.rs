//! Nodes whose calls fail while other nodes answer the same method: they are given fewer calls.
//!
//! A sick node ends its calls at once, is idle again, and so is the least loaded one: left alone it would take all the
//! work there is and fail it. So a node that fails far more often than the others at the same method is given a rest, in
//! which it gets no calls that could go elsewhere. After that it gets one at a time; each answer doubles what it may have
//! at once, and a failure makes the next rest twice as long. (Outlier ejection, as in envoy.)
//!
//! Where all nodes fail alike, the calls are at fault, and no node is given a rest.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    Core, Effect, Effects, Host, Time, Timer,
    chores::Chore,
    per_kind::KINDS,
    queues::{HeadChange, Queue, QueueId, Scope},
    registry::Node,
};
use crate::{
    error::GoneReason,
    id::NodeId,
    service::method::{Method, MethodId},
    view::NodeEvent,
};

/// The part that each new call has in the rate of failures.
const WEIGHT: f64 = 1.0 / 8.0;

/// A node that fails less often than this is left alone: three failures in a row reach it.
const SICK: f64 = 0.3;

/// A rate below this is forgotten.
const WELL: f64 = 0.05;

/// The first rest; it doubles with each one that follows without recovery.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// A process that ended this often while it had calls, and came back under the same name, begins with a rest.
const CRASHES: u32 = 3;

/// A process that has not crashed for this long starts anew.
const CRASHES_FORGOTTEN: Duration = Duration::from_secs(300);

/// Names whose crashes are remembered.
const MOST_CRASHED: usize = 1024;

/// How a node's calls have ended lately.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether it gets no calls at all that could go elsewhere.
    is_resting: bool,
    /// How many requests it may have at once after a rest; `None` for as many as it takes.
    allowance: Option<u32>,
    /// Rests since it was last well.
    rests: u32,
    /// Methods at which it has failed lately.
    failing: Vec<MethodId>,
    /// How often its process ended while it had calls, before it came back under this name.
    crashes: u32,
}

impl Health {
    /// Whether it may have one more than these in flight.
    pub(super) fn allows(&self, in_flight: u32) -> bool {
        !self.is_resting && self.allowance.is_none_or(|most| in_flight < most)
    }

    /// Whether it is given a rest.
    pub(super) fn rests(&self) -> bool {
        self.is_resting
    }

    /// What it is given of the calls that it could take: 1 if all.
    pub(super) fn share(&self, slots: u32) -> f64 {
        match self.allowance {
            _ if self.is_resting => 0.0,
            Some(most) => (f64::from(most) / f64::from(slots.max(1))).min(1.0),
            None => 1.0,
        }
    }

    fn is_untroubled(&self) -> bool {
        self.failing.is_empty() && self.allowance.is_none() && self.crashes == 0
    }
}

/// How often calls fail, by method and node; nodes that never fail take no place.
#[derive(Debug, Default)]
pub(super) struct Failures {
    methods: FxHashMap<MethodId, Rates>,
    /// By name and host, because names need not be unique.
    crashed: FxHashMap<(Arc<str>, IpAddr), Crashes>,
}

#[derive(Debug, Default)]
struct Rates {
    sum: f64,
    nodes: FxHashMap<NodeId, f64>,
}

#[derive(Debug)]
struct Crashes {
    count: u32,
    last: Time,
}

impl Failures {
    /// Counts a failure, and says how often the node fails now, and all others together.
    fn count(&mut self, method: MethodId, node: NodeId) -> (f64, f64) {
        let rates = self.methods.entry(method).or_default();
        let rate = rates.nodes.entry(node).or_default();
        let change = (1.0 - *rate) * WEIGHT;
        *rate += change;
        rates.sum += change;
        (*rate, (rates.sum - *rate).max(0.0))
    }

    /// Counts a success, and says whether the node's failures are forgotten by now.
    fn count_success(&mut self, method: MethodId, node: NodeId) -> bool {
        let Some(rates) = self.methods.get_mut(&method) else { return true };
        let Some(rate) = rates.nodes.get_mut(&node) else { return true };
        let change = *rate * WEIGHT;
        *rate -= change;
        rates.sum -= change;
        let is_well = *rate < WELL;
        if is_well {
            self.forget(method, node);
        }
        is_well
    }

    fn forget(&mut self, method: MethodId, node: NodeId) {
        if let Some(rates) = self.methods.get_mut(&method) {
            if let Some(rate) = rates.nodes.remove(&node) {
                rates.sum -= rate;
            }
            if rates.nodes.is_empty() {
                self.methods.remove(&method);
            }
        }
    }

    fn count_crash(&mut self, now: Time, whose: (Arc<str>, IpAddr), before: u32) {
        if self.crashed.len() >= MOST_CRASHED && !self.crashed.contains_key(&whose) {
            self.crashed.retain(|_, crashes| now.saturating_sub(crashes.last) < CRASHES_FORGOTTEN);
            if self.crashed.len() >= MOST_CRASHED {
                return;
            }
        }
        self.crashed.insert(whose, Crashes { count: before.saturating_add(1), last: now });
    }
}

/// By what a process that comes back is known.
fn whose<H: Host>(node: &Node<H>) -> (Arc<str>, IpAddr) {
    (Arc::clone(&node.card.name), node.identity.addr.ip())
}

impl<H: Host> Core<H> {
    /// A handler has answered.
    pub(super) fn note_success(&mut self, id: NodeId, method: MethodId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if node.health.is_untroubled() {
            return;
        }
        let most = node.limit(crate::service::method::MethodKind::Compute);
        if node.health.crashes > 0 {
            node.health.crashes = 0;
            self.failures.crashed.remove(&whose(node));
        }
        if self.failures.count_success(method, id) {
            node.health.failing.retain(|failing| *failing != method);
        }
        if let Some(allowance) = node.health.allowance.filter(|_| !node.health.is_resting) {
            let allowance = allowance.saturating_mul(2);
            node.health.allowance = (allowance < most).then_some(allowance);
            if node.health.allowance.is_none() {
                node.health.rests = 0;
                effects.push(Effect::Publish(NodeEvent::Restored { node: node.identity.clone() }));
            }
            self.registry.reindex(id);
        }
    }

    /// A call has failed in a way that may be the node's fault.
    pub(super) fn note_failure(&mut self, now: Time, id: NodeId, method: &'static Method, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if !node.health.failing.contains(&method.id()) {
            node.health.failing.push(method.id());
        }
        let (rate, others_rates) = self.failures.count(method.id(), id);
        let serving = self.registry.serving(method.id());
        if rate < SICK || serving < 2 || others_rates / (serving - 1) as f64 * 2.0 > rate {
            return;
        }
        let why = format!("its calls to {} fail, and those on other nodes do not", method.name());
        self.rest(now, id, why, effects);
    }

    /// The process of a node that had calls has ended, or was cut off.
    pub(super) fn note_crash(&mut self, now: Time, node: &Node<H>, reason: &GoneReason) {
        for method in &node.health.failing {
            self.failures.forget(*method, node.identity.id);
        }
        if node.calls > 0 && reason.is_death() {
            self.failures.count_crash(now, whose(node), node.health.crashes);
        }
    }

    /// Has a node begin with a rest if processes of its name ended with calls again and again.
    pub(super) fn remember_crashes(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        let Some(crashes) = self.failures.crashed.get(&whose(node)) else { return };
        if now.saturating_sub(crashes.last) >= CRASHES_FORGOTTEN {
            self.failures.crashed.remove(&whose(node));
            return;
        }
        let count = crashes.count;
        node.health.crashes = count;
        if count >= CRASHES {
            node.health.rests = count - CRASHES;
            self.rest(now, id, format!("its process has ended {count} times while it had calls"), effects);
        }
    }

    /// Gives a node a rest, unless it has one or most of its group have.
    fn rest(&mut self, now: Time, id: NodeId, why: String, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node(id) else { return };
        let Some(group) = self.registry.group(node.group) else { return };
        // Its methods may be served by another group too, as those of another release of the same program are.
        let others = group.catalogue.methods.keys().next().map_or(0, |method| self.registry.serving(*method));
        if node.health.is_resting || (group.everyone.resting + 1) * 2 > others.max(group.everyone.serving) {
            return;
        }
        let Some(node) = self.registry.node_mut(id) else { return };
        let rest = FIRST_REST.saturating_mul(1 << node.health.rests.min(16)).min(LONGEST_REST);
        node.health.is_resting = true;
        node.health.rests = node.health.rests.saturating_add(1);
        let identity = node.identity.clone();
        self.registry.resting.insert(id);
        self.registry.reindex(id);
        self.timers.insert((now + rest, Timer::Rest(id)));
        effects.push(Effect::Publish(NodeEvent::Ejected { node: identity, rest, why: why.into() }));
        self.move_affine(id);
        self.feed_resting();
    }

    /// Lets the calls that an affinity key has brought to a node that rests find another.
    fn move_affine(&mut self, id: NodeId) {
        let Some(node) = self.registry.node(id) else { return };
        let queues = KINDS.into_iter().flat_map(|kind| node.work[kind].queues());
        let is_affine = |queue: &Queue| matches!(queue.scope, Scope::Node { exact: false, .. });
        let affine: Vec<QueueId> = queues.filter(|queue| self.queues.get(*queue).is_some_and(is_affine)).collect();
        for queue in affine {
            let Some((place, head)) = self.queues.get(queue).map(|queue| (queue.place(), queue.head())) else {
                continue;
            };
            self.registry.change_head(queue, &place, HeadChange { before: head, after: None });
            self.queues.close(queue, "its node is given a rest".into());
            self.chores.push_back(Chore::Empty(queue));
        }
    }

    /// A node's rest is over.
    pub(super) fn end_rest(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        if !self.registry.resting.remove(&id) {
            return;
        }
        if let Some(node) = self.registry.node_mut(id) {
            node.health.is_resting = false;
            node.health.allowance = Some(1);
            self.registry.reindex(id);
            self.feed(now, id, effects);
        }
    }

    /// Looks again for calls that only nodes can take which rest: the last one that did not may just have gone.
    pub(super) fn feed_resting(&mut self) {
        if self.registry.resting.is_empty() {
            return;
        }
        // One that is under way begins anew, so that departures in a row do not pile up.
        let is_under_way = self.feed_resting_from.replace(NodeId::from_bits(0)).is_some();
        if !is_under_way {
            self.chores.push_back(Chore::FeedResting);
        }
    }
}
