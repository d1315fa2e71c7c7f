//! Nodes whose calls fail while other nodes answer the same method get fewer calls. (Outlier ejection, as in envoy.)
//!
//! A node that ends its calls at once because they all fail is idle again at once, and so it is the least loaded node. Left
//! alone, it would take all calls and fail them. So a node that fails far more often than the others at the same method is
//! ejected for a while: it gets no calls that could go elsewhere. After that it gets one at a time. Each answer doubles the
//! number that it may have at once, and another failure makes the next ejection twice as long. If no answer comes, the number
//! doubles with time: a call that takes long, or for ever, must not keep the node's other slots empty.
//!
//! Where all nodes fail alike, the calls are at fault, and no node is ejected.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    deferred::DeferredTask,
    effect::{Effect, Effects},
    health::CRASHES_FORGOTTEN,
    host::{Host, Time},
    node::Node,
    per_kind::KINDS,
    queue_heads::HeadChange,
    queue_ids::QueueId,
    queues::{Queue, Scope},
    state::{Core, Timer},
};
use crate::{
    error::GoneReason,
    id::NodeId,
    service::method::{MethodId, MethodKind},
    view::NodeEvent,
};

/// A node with a lower failure rate is left alone. Three failures in a row reach it.
const EJECTION_RATE: f64 = 0.3;

/// How long the first ejection lasts. Each further one without recovery takes twice as long.
const FIRST_EJECTION: Duration = Duration::from_millis(100);

const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// A node that has been ejected, and has as many calls as it may have, may have twice as many after this time without an answer.
const GROWS_AFTER: Duration = Duration::from_secs(5);

/// A process that has ended this often while it had calls, and registers again with the same name, begins ejected.
const CRASHES: u32 = 3;

/// How a process is recognised when it registers again.
fn whose<H: Host>(node: &Node<H>) -> (Arc<str>, IpAddr) {
    (Arc::clone(&node.profile.name), node.identity.addr.ip())
}

impl<H: Host> Core<H> {
    /// A handler has answered.
    pub(super) fn note_success(&mut self, id: NodeId, method: MethodId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if node.health.is_healthy() {
            return;
        }
        if node.health.crashes > 0 {
            node.health.crashes = 0;
            self.failures.crashed.remove(&whose(node));
        }
        if self.failures.count_success(method, id) {
            node.health.failing.retain(|failing| *failing != method);
        }
        if node.health.allowance.is_some() && !node.health.is_ejected {
            self.grow_allowance(id, effects);
        }
    }

    /// A node that was ejected may have twice as many calls at once.
    fn grow_allowance(&mut self, id: NodeId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        let most = node.limit(MethodKind::Compute);
        let Some(allowance) = node.health.allowance.map(|allowance| allowance.saturating_mul(2)) else { return };
        node.health.allowance = (allowance < most).then_some(allowance);
        if node.health.allowance.is_none() {
            node.health.ejections = 0;
            effects.push(Effect::Publish(NodeEvent::Restored { node: node.identity.clone() }));
        }
        self.registry.reindex(id);
    }

    /// A node that was ejected has had time to answer.
    pub(super) fn wait_no_longer(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        // Ejected again meanwhile, it waits anew.
        if node.health.allowance.is_none() || node.health.is_ejected || node.health.grows_at.is_none_or(|at| now < at) {
            return;
        }
        // An answer would have made it more already.
        if !node.health.allows(node.counts.compute + node.counts.asynchronous) {
            self.grow_allowance(id, effects);
            self.feed(now, id, effects);
        }
        self.await_answers(now, id);
    }

    /// Looks again after some time at a node that was ejected.
    fn await_answers(&mut self, now: Time, id: NodeId) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if node.health.allowance.is_some() {
            node.health.grows_at = Some(now + GROWS_AFTER);
            self.timers.insert((now + GROWS_AFTER, Timer::GrowAllowance(id)));
        }
    }

    /// A call has failed, and the node may be the cause.
    pub(super) fn note_failure(&mut self, now: Time, id: NodeId, method: MethodId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if !node.health.failing.contains(&method) {
            node.health.failing.push(method);
        }
        let (rate, others_rates) = self.failures.count(method, id);
        let serving = self.registry.serving(method);
        if rate < EJECTION_RATE || serving < 2 || others_rates / (serving - 1) as f64 * 2.0 > rate {
            return;
        }
        let name = self.called.info(method).map(|method| method.name().as_str()).unwrap_or_default();
        let why = format!("calls of {name} fail on it, and not on other nodes");
        self.eject(now, id, why, effects);
    }

    /// A node is gone. Counts a crash if its process ended, or was disconnected, while it had calls.
    pub(super) fn note_crash(&mut self, now: Time, node: &Node<H>, reason: &GoneReason) {
        for method in &node.health.failing {
            self.failures.forget(*method, node.identity.id);
        }
        if node.calls > 0 && reason.is_death() {
            self.failures.count_crash(now, whose(node), node.health.crashes);
        }
    }

    /// Ejects a node that has just joined if processes of its name have ended again and again while they had calls.
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
            node.health.ejections = count - CRASHES;
            self.eject(now, id, format!("its process has ended {count} times while it had calls"), effects);
        }
    }

    /// Ejects a node, unless it is ejected already or half of the nodes like it would be.
    fn eject(&mut self, now: Time, id: NodeId, why: String, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node(id) else { return };
        let Some(group) = self.registry.group(node.group) else { return };
        // Another group may serve its methods too, for example another release of the same program.
        let others = group.method_set.methods.keys().next().map_or(0, |method| self.registry.serving(*method));
        if node.health.is_ejected || (group.everyone.ejected + 1) * 2 > others.max(group.everyone.serving) {
            return;
        }
        let Some(node) = self.registry.node_mut(id) else { return };
        let time = FIRST_EJECTION.saturating_mul(1 << node.health.ejections.min(16)).min(LONGEST_EJECTION);
        node.health.is_ejected = true;
        node.health.ejections = node.health.ejections.saturating_add(1);
        node.ejections += 1;
        let identity = node.identity.clone();
        self.registry.ejected.insert(id);
        self.registry.reindex(id);
        self.timers.insert((now + time, Timer::EndEjection(id)));
        effects.push(Effect::Publish(NodeEvent::Ejected { node: identity, rest: time, why: why.into() }));
        self.move_affine(id, "its node is ejected");
        self.feed_ejected();
    }

    /// Moves the calls that wait for a node because of their affinity key, as it gets no calls that could go elsewhere.
    pub(super) fn move_affine(&mut self, id: NodeId, why: &str) {
        let Some(node) = self.registry.node(id) else { return };
        let queues = KINDS.into_iter().flat_map(|kind| node.heads[kind].queues());
        let is_affine = |queue: &Queue| matches!(queue.scope, Scope::Node { exact: false, .. });
        let affine: Vec<QueueId> = queues.filter(|queue| self.queues.get(*queue).is_some_and(is_affine)).collect();
        for queue in affine {
            let Some((place, head)) = self.queues.get(queue).map(|queue| (queue.place(), queue.head())) else {
                continue;
            };
            self.registry.change_head(queue, &place, HeadChange { before: head, after: None });
            self.queues.close(queue, why.into());
            self.deferred.push(DeferredTask::EmptyQueue(queue));
        }
    }

    /// The time of an ejection is over.
    pub(super) fn end_ejection(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        if !self.registry.ejected.remove(&id) {
            return;
        }
        if let Some(node) = self.registry.node_mut(id) {
            node.health.is_ejected = false;
            node.health.allowance = Some(1);
            self.registry.reindex(id);
            self.feed(now, id, effects);
            self.await_answers(now, id);
        }
    }
}
