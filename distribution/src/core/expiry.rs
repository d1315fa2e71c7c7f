//! Calls that no node serves: how long they wait for one, and which error they end with.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    call::{CallLocation, last_failure},
    deferred::DeferredTask,
    effect::Effects,
    host::{Host, Time},
    node::Node,
    per_kind::KINDS,
    queue_ids::QueueId,
    queues::Scope,
    state::{Core, Timer},
    unserved::{Unserved, UnservedReason},
};
use crate::{
    error::CallError,
    id::{CallId, NodeId},
    service::{compatibility::Incompatibility, method::MethodInfo, options::Labels},
};

/// How many reasons are kept until a node joins or leaves.
const MOST_REASONS: usize = 256;

impl<H: Host> Core<H> {
    /// Notes that no node serves the calls of a queue.
    pub(super) fn mark_unserved(&mut self, now: Time, id: QueueId) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        if queue.unserved.is_some() || queue.closed.is_some() {
            return;
        }
        let last = queue.calls.last_key_value().map_or(0, |(seq, _)| *seq);
        queue.unserved = Some(Unserved { since: now, first: 0, last, later: BTreeSet::new(), why: None });
        self.queues.unserved.insert(id);
        self.timers.insert((now + self.settings.no_node_timeout, Timer::Unserved(id)));
    }

    /// Notes which queues a node that has joined serves.
    pub(super) fn mark_served_by(&mut self, id: NodeId) {
        let Some(node) = self.registry.node(id) else { return };
        let served = |id: &&QueueId| {
            self.queues.get(**id).is_some_and(|queue| match &queue.scope {
                Scope::Any { labels, .. } => self.registry.is_serving(node, queue.method.id(), labels),
                Scope::Node { .. } => false,
            })
        };
        let served: Vec<QueueId> = self.queues.unserved.iter().filter(served).copied().collect();
        for id in served {
            self.queues.unserved.remove(&id);
            if let Some(queue) = self.queues.get_mut(id) {
                queue.unserved = None;
            }
        }
    }

    /// The queues that may lose their last node with this one.
    pub(super) fn served_by(&self, node: &Node<H>) -> Vec<QueueId> {
        let Some(group) = self.registry.group(node.group) else { return Vec::new() };
        if group.everyone.serving > 1 && node.profile.labels.is_empty() {
            return Vec::new();
        }
        KINDS.iter().flat_map(|kind| group.heads[*kind].queues_for_labels(&node.profile.labels)).collect()
    }

    /// Notes which of these queues no node serves any more.
    pub(super) fn mark_unserved_of(&mut self, now: Time, queues: &[QueueId]) {
        for id in queues {
            let Some(queue) = self.queues.get(*id) else { continue };
            let Scope::Any { labels, .. } = &queue.scope else { continue };
            if !self.registry.serves(queue.method.id(), labels) {
                self.mark_unserved(now, *id);
            }
        }
    }

    /// Ends the calls of a queue that have waited long enough for a node to join.
    pub(super) fn expire(&mut self, now: Time, id: QueueId, budget: &mut usize, effects: &mut Effects<H>) {
        let wait = self.settings.no_node_timeout;
        loop {
            let Some(queue) = self.queues.get_mut(id) else { return };
            let Some(unserved) = &mut queue.unserved else { return };
            if *budget == 0 {
                self.deferred.push_front(DeferredTask::ExpireQueue(id));
                return;
            }
            *budget -= 1;
            let since = unserved.since;
            if unserved.first <= unserved.last {
                if since + wait > now {
                    self.timers.insert((since + wait, Timer::Unserved(id)));
                    return;
                }
                let next = queue.calls.range(unserved.first..=unserved.last).next().map(|(seq, call)| (*seq, *call));
                unserved.first = next.map_or(unserved.last, |(seq, _)| seq) + 1;
                // A call that was queued again later has a later end of its own.
                if let Some((_, call)) =
                    next.filter(|(_, call)| self.calls.get(call).is_some_and(|call| call.queued <= since))
                {
                    self.fail_unserved(now, call, effects);
                }
                continue;
            }
            let Some((queued, seq)) = unserved.later.first().copied() else { return };
            if queued + wait > now {
                self.timers.insert((queued + wait, Timer::Unserved(id)));
                return;
            }
            unserved.later.pop_first();
            if let Some(call) = queue.calls.get(&seq).copied() {
                // A call that left the queue and came back is listed a second time, with its new time.
                if self.calls.get(&call).is_some_and(|entry| entry.queued == queued) {
                    self.fail_unserved(now, call, effects);
                }
            }
        }
    }

    /// Ends a call that no node serves, with an error that says which nodes there are.
    pub(super) fn fail_unserved(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.calls.get(&id) else { return };
        let queue = match call.location {
            CallLocation::Queued(queue) => Some(queue),
            _ => None,
        };
        let known = queue.and_then(|queue| self.queues.get(queue)?.unserved.as_ref()?.why.clone());
        let (method, node, labels) = (Arc::clone(&call.method), call.demand.node, call.demand.labels.clone());
        let why = known.unwrap_or_else(|| self.reason(&method, node, labels));
        if let Some(unserved) = queue.and_then(|queue| self.queues.get_mut(queue)?.unserved.as_mut()) {
            unserved.why = Some(Arc::clone(&why));
        }
        self.end_with(id, effects, |call| {
            let identity = call.method.name().into();
            match &*why {
                // It may have run where it was lost, so the error must not say that it did not.
                _ if call.may_have_run() => last_failure(call),
                UnservedReason::Incompatible(Incompatibility { expected, found, difference }) => {
                    let (expected, found, difference) = (expected.clone(), found.clone(), difference.clone());
                    CallError::Incompatible { call: identity, expected, found, difference }
                }
                UnservedReason::NoNode(wanted) => {
                    let waited = now.saturating_sub(call.submitted);
                    CallError::NoNode { call: identity, wanted: wanted.clone(), waited }
                }
            }
        });
    }

    /// The reason why no node serves the calls of a method, kept until a node joins or leaves.
    fn reason(&mut self, method: &Arc<MethodInfo>, node: Option<NodeId>, labels: Labels) -> Arc<UnservedReason> {
        let key = (method.id(), node, labels);
        if let Some(why) = self.unserved_reasons.get(&key) {
            return Arc::clone(why);
        }
        let why = Arc::new(self.why_unserved(method, node, &key.2));
        if self.unserved_reasons.len() < MOST_REASONS {
            self.unserved_reasons.insert(key, Arc::clone(&why));
        }
        why
    }

    /// The reason why no node serves the calls of a method.
    fn why_unserved(&self, method: &Arc<MethodInfo>, node: Option<NodeId>, labels: &Labels) -> UnservedReason {
        let others = self.registry.serving(method.id());
        if labels.is_none() || others == 0 {
            if let Some(incompatibility) = self.registry.incompatibility(method, node) {
                return UnservedReason::Incompatible(incompatibility);
            }
        }
        if let Some(node) = node {
            return UnservedReason::NoNode(format!("it has to run on node {node}, which does not serve it"));
        }
        let known: Vec<&str> = self.registry.nodes().map(|node| &*node.identity.name).take(8).collect();
        let what = match (labels, self.registry.len()) {
            (Some(labels), _) if others > 0 => {
                let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("none of the {others} nodes that serve it has the label {}", labels.join(", "))
            }
            (_, 0) => "no node is registered at this master".to_owned(),
            (_, count) if count > known.len() => {
                format!("none of the {count} registered nodes serves it ({}, ...)", known.join(", "))
            }
            (_, count) => format!("none of the {count} registered nodes serves it ({})", known.join(", ")),
        };
        let wait = self.settings.no_node_timeout;
        UnservedReason::NoNode(if wait.is_zero() {
            format!(
                "{what}. Start a node that serves it first: calls do not wait for one, because `no_node_timeout` is zero"
            )
        } else {
            format!("{what}, and no such node joined within {wait:?}. Start one, or set a longer `no_node_timeout`")
        })
    }
}
