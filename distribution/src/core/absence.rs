//! Nodes whose connection has broken. While such a node has calls, the master waits for it: its process may live, and come
//! back with the results.
//!
//! Each connection of a node has a number. Once it has broken, or the node goes on with another one, nothing counts any more
//! that still comes from it.

use std::cell::Cell;

use super::{
    deferred::DeferredTask,
    effect::{Effect, Effects},
    host::{Host, HostCall as _, Time},
    node_connection::{Absence, NodeConnection},
    registration::{MethodSet, NodeProfile},
    state::{Core, Timer},
};
use crate::{
    error::GoneReason,
    id::{CallId, NodeId},
    security::Source,
    view::{NodeEvent, NodeState},
    wire::handshake::{KnownSession, SessionDigest},
};

/// The session that a node names when it registers, and what it has said at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resumption<'a> {
    pub(crate) session: SessionDigest,
    pub(crate) profile: &'a NodeProfile,
    pub(crate) method_set: &'a MethodSet,
    pub(crate) source: Source,
}

impl<H: Host> Core<H> {
    /// Whether what comes from this connection counts.
    pub(crate) fn is_connected(&self, connection: NodeConnection) -> bool {
        self.registry.node(connection.node).is_some_and(|node| node.connection == connection.number)
    }

    /// Whether a node has no connection and is waited for.
    pub(crate) fn is_absent(&self, node: NodeId) -> bool {
        self.registry.node(node).is_some_and(|node| node.absence.is_some())
    }

    /// Notes the session of a node that has just joined.
    pub(crate) fn on_session_begun(&mut self, node: NodeId, session: SessionDigest) {
        if let Some(node) = self.registry.node_mut(node) {
            node.session = Some(KnownSession::new(session));
        }
    }

    /// Something that can have been sent after the session was begun has come from a node.
    pub(super) fn on_session_used(&mut self, node: NodeId) {
        if let Some(session) = self.registry.node_mut(node).and_then(|node| node.session.as_mut()) {
            session.on_heard();
        }
    }

    /// A connection has ended. If its process may live and has calls, the node stays registered for a while.
    pub(crate) fn on_connection_lost(
        &mut self,
        now: Time,
        connection: NodeConnection,
        reason: GoneReason,
        effects: &mut Effects<H>,
    ) {
        if !self.is_connected(connection) {
            return;
        }
        let (id, until) = (connection.node, now.saturating_add(self.settings.reconnect_grace));
        let Some(node) = self.registry.node_mut(id) else { return };
        let may_live = matches!(reason, GoneReason::Disconnected | GoneReason::Broken(_));
        if !may_live || node.session.is_none() || node.in_flight.is_empty() || until == now || self.shutting_down {
            return self.on_node_gone(now, id, reason, effects);
        }
        node.connection += 1;
        node.absence = Some(Absence { reason: reason.clone(), until });
        let (number, in_flight) = (node.connection, node.calls);
        let attempts = node.attempts_in_flight();
        let identity = node.identity.clone();
        if node.state != NodeState::Draining {
            self.registry.set_state(id, NodeState::Disconnected);
        }
        effects.push(Effect::Publish(NodeEvent::Disconnected { node: identity, reason, in_flight }));
        self.timers.insert((until, Timer::Absent(id)));
        self.deferred.push(DeferredTask::KeepSent { connection: NodeConnection { node: id, number }, attempts });
        self.run_deferred(now, effects);
    }

    /// The node whose process wants to go on with this session, if it may.
    pub(crate) fn session_to_resume(&self, asked: &Resumption<'_>) -> Option<NodeId> {
        let Resumption { session, profile, method_set, source } = *asked;
        let id = self.registry.node_of_process(profile.instance)?;
        let node = self.registry.node(id)?;
        let group = self.registry.group(node.group)?;
        let is_same = node.session.is_some_and(|known| known.is_named(session))
            && node.profile.is_same_process(profile)
            && group.method_set.methods == method_set.methods
            && node.source == source;
        is_same.then_some(id)
    }

    /// A node goes on with its session on another connection: asks it for the results of its calls. The old connection may
    /// still seem to work.
    pub(crate) fn on_node_resumed(
        &mut self,
        now: Time,
        id: NodeId,
        ((named, next), busy): ((SessionDigest, SessionDigest), u32),
        link: H::Link,
        effects: &mut Effects<H>,
    ) -> Option<NodeConnection> {
        let node = self.registry.node_mut(id)?;
        node.connection += 1;
        node.session = node.session.map(|known| known.renewed(named, next));
        let connection = NodeConnection { node: id, number: node.connection };
        let old = std::mem::replace(&mut node.link, link);
        match node.absence.take() {
            Some(absence) => _ = self.timers.remove(&(absence.until, Timer::Absent(id))),
            None => effects.push(Effect::Disconnect { link: old, reason: GoneReason::Replaced }),
        }
        if let Some(node) = self.registry.node_mut(id) {
            // The frame that asked for calls back may have been lost.
            node.stuck = false;
        }
        let node = self.registry.node(id)?;
        let (attempts, in_flight, state) = (node.attempts_in_flight(), node.calls, node.state);
        effects.push(Effect::Publish(NodeEvent::Resumed { node: node.identity.clone(), in_flight }));
        if state == NodeState::Draining {
            // And so may the one that asked the node to drain.
            effects.push(Effect::RequestDrain { link: node.link.clone() });
            self.registry.reindex(id);
        } else {
            self.registry.set_state(id, NodeState::Alive);
        }
        self.registry.set_busy(id, busy);
        self.deferred.push(DeferredTask::AskAgain { connection, attempts, requests: 0 });
        self.feed(now, id, effects);
        self.run_deferred(now, effects);
        Some(connection)
    }

    /// The time for a node to come back is over.
    pub(super) fn end_absence(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        let absence = self.registry.node_mut(id).and_then(|node| node.absence.take());
        if let Some(Absence { reason, .. }) = absence {
            self.on_node_gone(now, id, reason, effects);
        }
    }

    /// A node has joined. If it is an absent node whose process was started anew, the old one is gone for good.
    pub(super) fn end_absences_of_predecessors(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node(id) else { return };
        // Without a credential for its name, it may be another node that has the same name.
        let principal = &node.profile.principal;
        if !principal.is_for(&node.profile.name) {
            return;
        }
        let named = self.registry.nodes_named(&node.profile.name).filter(|(of, _)| *of == principal);
        let predecessors: Vec<NodeId> =
            named.flat_map(|(_, nodes)| nodes.iter().copied()).filter(|other| self.is_absent(*other)).collect();
        for predecessor in predecessors {
            self.end_absence(now, predecessor, effects);
        }
    }

    /// Removes the timer of a node that is gone while it was absent.
    pub(super) fn forget_absence(&mut self, id: NodeId, absence: Option<Absence>) {
        if let Some(Absence { until, .. }) = absence {
            self.timers.remove(&(until, Timer::Absent(id)));
        }
    }

    /// Of these attempts, keeps those that the node may have received. The others go elsewhere.
    pub(super) fn keep_sent(
        &mut self,
        now: Time,
        connection: NodeConnection,
        attempts: Vec<(CallId, u32)>,
        budget: &mut usize,
        effects: &mut Effects<H>,
    ) {
        let task = |attempts| DeferredTask::KeepSent { connection, attempts };
        let is_done = self.for_each_attempt(connection, attempts, budget, task, |core, key| {
            core.give_up_unsent(now, connection.node, key, effects);
        });
        if !is_done {
            return;
        }
        // It had nothing but calls that it has not received.
        if self.registry.node(connection.node).is_some_and(|node| node.in_flight.is_empty() && node.absence.is_some()) {
            self.end_absence(now, connection.node, effects);
        }
    }

    /// Asks for the results of these attempts on a new connection.
    pub(super) fn ask_again(
        &mut self,
        now: Time,
        connection: NodeConnection,
        (attempts, requests): (Vec<(CallId, u32)>, u32),
        budget: &mut usize,
        effects: &mut Effects<H>,
    ) {
        let id = connection.node;
        let requests = Cell::new(requests);
        let task = |attempts| DeferredTask::AskAgain { connection, attempts, requests: requests.get() };
        let is_done = self.for_each_attempt(connection, attempts, budget, task, |core, key| {
            if core.give_up_unsent(now, id, key, effects) {
                // It has room for another call.
                core.feed(now, id, effects);
                return;
            }
            let (call, attempt) = key;
            let Some(node) = core.registry.node(id) else { return };
            let Some(method) = node.in_flight.get(&key).map(|attempt| attempt.method) else { return };
            let link = node.link.clone();
            effects.push(Effect::AskAgain { link: link.clone(), id: call, attempt, method });
            requests.set(requests.get() + 1);
            if !core.is_current(call, id, attempt) {
                effects.push(Effect::Cancel { link, id: call, attempt });
            }
        });
        if !is_done {
            return;
        }
        if let Some(node) = self.registry.node(id).filter(|_| self.is_connected(connection)) {
            effects.push(Effect::AskedAgain { link: node.link.clone(), requests: requests.get() });
        }
        self.tell_drained(id, effects);
    }

    /// Takes `step` for each of these attempts while the node has this connection. Once the budget is spent, the task goes on
    /// later with those that are left. Returns whether the step was taken for all.
    fn for_each_attempt(
        &mut self,
        connection: NodeConnection,
        mut attempts: Vec<(CallId, u32)>,
        budget: &mut usize,
        task: impl FnOnce(Vec<(CallId, u32)>) -> DeferredTask,
        mut step: impl FnMut(&mut Self, (CallId, u32)),
    ) -> bool {
        while let Some(key) = attempts.pop() {
            if !self.is_connected(connection) {
                return false;
            }
            if *budget == 0 {
                attempts.push(key);
                self.deferred.push_front(task(attempts));
                return false;
            }
            *budget -= 1;
            step(self, key);
        }
        true
    }

    /// Takes an attempt off a node that has not received it, and sends its call elsewhere. Returns whether it was one.
    fn give_up_unsent(&mut self, now: Time, node: NodeId, key: (CallId, u32), effects: &mut Effects<H>) -> bool {
        let (id, attempt) = key;
        let is_current = self.is_current(id, node, attempt);
        let was_sent = match is_current {
            true => self.calls.get(&id).is_some_and(|call| !call.handle.abandon(attempt)),
            // A call that has ended is told to stop only if it was sent.
            false => self.stopping.is_stopping(id, node, attempt),
        };
        if was_sent || self.registry.end(now, node, key, 0).is_none() {
            return false;
        }
        if is_current {
            self.requeue(now, id, effects);
        }
        true
    }
}
