//! The master's decisions, as a pure state machine.
//!
//! It takes events with the time they happened (`on_node_joined`, `submit`, `on_attempt_finished`, `on_tick` and so on) and
//! leaves effects to be carried out (send this call there, end that one). There is no clock, no input or output, and no
//! randomness in it but what is passed in: the same events in the same order give the same effects. So a simulator can
//! run its every rule.
//!
//! [`registry`] keeps the nodes and their books, [`group`] finds them by load and label, [`balance`] is the rule by which
//! one is chosen, [`queues`] keeps what waits, [`schedule`] brings the two together. [`expiry`] decides about calls that no
//! node serves, [`retry`] about calls whose node was lost, [`health`] about nodes whose calls fail, [`liveness`] about nodes
//! that fall silent, [`slow_start`] about how much a newcomer is given. [`chores`] spreads long work over many short holds of the lock.

mod avoid;
mod avoiding;
mod balance;
mod call;
mod calls;
mod card;
mod chores;
mod effect;
mod expiry;
mod grants;
mod group;
mod health;
mod joining;
mod liveness;
mod per_kind;
mod queues;
mod ready;
mod registry;
mod retry;
mod ring;
mod row;
#[cfg(any(test, feature = "simulation"))]
mod sanity;
mod schedule;
mod slow_start;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng};
use rustc_hash::{FxHashMap, FxHashSet};

use avoid::But;
use call::{CallEntry, Stage, goes_on_one_by_one, last_failure, shutdown_error};
use calls::{Calls, Walk};
use chores::{Chore, Departed, Filled};
use queues::{QueueId, Queues, Seq};
use registry::Registry;
use slow_start::Window;

pub(crate) use call::Demand;
pub(crate) use card::{CompatibilityCheck, MethodSet, NodeProfile, split_registration};
pub(crate) use effect::{AttemptEnd, CallAnswer, Effect, Effects, Host, HostCall, HostLink};
pub(crate) use joining::JoinRefused;
pub(crate) use liveness::{GONE_AFTER, SUSPECT_AFTER};
pub(crate) use row::NodeSnapshot;
pub(crate) use slow_start::SLOW_START;

use crate::{
    error::{CallError, CallStage, Cause, Execution, FailedAttempt, GoneReason, Part},
    id::{CallId, NodeId, NodeIdentity},
    service::{
        caller::{Capacity, Labels},
        method::{Method, MethodId},
        outcome,
    },
    text::{LONGEST, in_lines, in_one_line},
    view::{NodeEvent, NodeState, Stats},
    wire::{Load, Outcome, Refusal, Reply},
};

/// Time since the master started.
pub(crate) type Time = Duration;

/// What is set once.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) heartbeat: Duration,
    pub(crate) no_node_timeout: Duration,
    /// Calls that may wait, and bytes of their arguments.
    pub(crate) max_queued_calls: usize,
    pub(crate) max_queued_bytes: usize,
    /// Nodes that may be registered, in all and by one credential.
    pub(crate) max_nodes: usize,
    pub(crate) max_nodes_per_credential: usize,
    /// Requests of each kind that a newcomer may have in flight; see [`SLOW_START`].
    pub(crate) slow_start: u32,
    /// Calls or nodes that are dealt with before the lock is given to others; see [`SLICE`].
    pub(crate) slice: usize,
    /// What node and call ids begin with.
    pub(crate) epoch: u32,
    pub(crate) seed: u64,
    /// The key of the hash that places nodes on the ring of affinity keys.
    pub(crate) ring_key: [u8; 32],
}

/// What a master's [`Settings::slice`] is: about a quarter of a millisecond's work.
pub(crate) const SLICE: usize = 128;

/// Calls of one batch that count as failures of their node, however many failed.
const MOST_NOTED: u32 = 8;

/// A call that nodes gave back more often than this is taken for refused.
const MOST_RETURNS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A call's time is up.
    Deadline(CallId),
    /// A call that was lost is queued again.
    Retry(CallId),
    /// Calls of a queue have waited long enough for a node.
    Unserved(QueueId),
    /// A node's rest is over.
    Rest(NodeId),
}

/// The state machine.
pub(crate) struct Core<H: Host> {
    settings: Settings,
    registry: Registry<H>,
    calls: Calls<H>,
    queues: Queues,
    /// Calls that are queued again after a while.
    backing_off: usize,
    /// Methods that have been called.
    called: FxHashMap<MethodId, &'static Method>,
    /// Mean run time of each method, as its replies tell.
    run_times: FxHashMap<MethodId, Duration>,
    timers: BTreeSet<(Time, Timer)>,
    /// Work that is left of earlier events.
    chores: VecDeque<Chore>,
    /// Those that fill views and place what waits for them.
    view_chores: VecDeque<Chore>,
    is_turn_of_views: bool,
    /// Which views the chores fill.
    filling: FxHashSet<Filled>,
    /// Whether chores are being done at this moment.
    does_chores: bool,
    /// From which queue on calls that avoid nodes are looked at again; `None` if none are.
    place_from: Option<QueueId>,
    /// Whether nodes left while that was under way, so that it goes round once more.
    place_again: bool,
    /// From which queue on those are looked at again of which not all counts that they avoid; `None` if none are.
    review_from: Option<QueueId>,
    /// From which node on those that rest are fed again; `None` if none are.
    feed_resting_from: Option<NodeId>,
    /// What calls were told that no node serves and that are in no queue which keeps it. Holds while no node comes or
    /// goes.
    reasons: FxHashMap<(MethodId, Option<NodeId>, Labels), Arc<expiry::Why>>,
    /// Nodes that are gone, and about whose calls not all is decided.
    departed: FxHashMap<NodeId, Arc<Departed>>,
    liveness: liveness::Watch,
    failures: health::Failures,
    rng: SmallRng,
    next_call: u64,
    next_node: u32,
    next_seq: Seq,
    stats: Stats,
    shutting_down: bool,
    /// How far a shutdown has come in ending the calls that wait, and then all others.
    end_waiting: Walk,
    end_all: Walk,
}

impl<H: Host> fmt::Debug for Core<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("nodes", &self.registry.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<H: Host> Core<H> {
    pub(crate) fn new(settings: Settings) -> Self {
        let first = CallId::first(settings.epoch);
        Self {
            rng: SmallRng::seed_from_u64(settings.seed),
            registry: Registry::new(settings.ring_key),
            settings,
            calls: Calls::new(),
            queues: Queues::default(),
            backing_off: 0,
            called: FxHashMap::default(),
            run_times: FxHashMap::default(),
            timers: BTreeSet::new(),
            chores: VecDeque::new(),
            view_chores: VecDeque::new(),
            is_turn_of_views: false,
            filling: FxHashSet::default(),
            does_chores: false,
            place_from: None,
            place_again: false,
            review_from: None,
            feed_resting_from: None,
            reasons: FxHashMap::default(),
            departed: FxHashMap::default(),
            liveness: liveness::Watch::default(),
            failures: health::Failures::default(),
            next_call: first.0,
            next_node: 0,
            next_seq: 0,
            stats: Stats::default(),
            shutting_down: false,
            end_waiting: Walk::default(),
            end_all: Walk::default(),
        }
    }

    /// A node id that was never given out before.
    pub(crate) fn new_node_id(&mut self) -> NodeId {
        self.next_node += 1;
        NodeId::new(self.settings.epoch, self.next_node)
    }

    /// A node has registered under the id it was given. If its process has another registration here, that one ends.
    pub(crate) fn on_node_joined(
        &mut self,
        now: Time,
        id: NodeId,
        (card, catalogue): (Arc<NodeProfile>, Arc<MethodSet>),
        addr: SocketAddr,
        link: H::Link,
        effects: &mut Effects<H>,
    ) {
        let old = self.registry.registered_by(card.instance);
        self.reasons.clear();
        let identity = NodeIdentity { id, name: Arc::clone(&card.name), addr };
        let principal = card.principal.clone();
        let window = Window::new(self.settings.slow_start, &card);
        let is_new_group = self.registry.join(now, identity.clone(), (card, catalogue), link, window);
        if is_new_group {
            self.registry.add_work_of(id, &self.queues);
        }
        effects.push(Effect::Publish(NodeEvent::Joined { node: identity, principal }));
        self.mark_served_by(id);
        self.remember_crashes(now, id, effects);
        self.review_lapsed();
        // After it has joined, so that the calls of the old registration find the new one.
        if let Some(old) = old {
            self.cut_off(now, old, GoneReason::Replaced, effects);
        }
        self.feed(now, id, effects);
        if !self.queues.lapsed.is_empty() {
            self.do_chores(now, effects);
        }
    }

    /// What a node that has just joined serves, what the other nodes serve, and which methods have been called here:
    /// what it takes to find out, without the lock, which of its methods cannot be called.
    pub(crate) fn compatibility_check(&self, id: NodeId) -> Option<CompatibilityCheck> {
        let (own, others) = (self.registry.catalogue_of(id)?, self.registry.catalogues_beside(id));
        Some(CompatibilityCheck { own, others, called: self.called.values().copied().collect() })
    }

    /// Notes which methods of a node cannot be called on it.
    pub(crate) fn on_methods_checked(&mut self, id: NodeId, uncallable: Arc<[String]>) {
        if let Some(node) = self.registry.node_mut(id) {
            node.uncallable = uncallable;
        }
    }

    /// A node told how busy it is.
    pub(crate) fn on_heartbeat(&mut self, now: Time, id: NodeId, load: Load, effects: &mut Effects<H>) {
        if let Some(node) = self.registry.node_mut(id) {
            node.blocked_async = load.blocked;
        }
        let had_more = self.registry.node(id).is_some_and(|node| node.busy > load.stale);
        if self.registry.set_busy(id, load.stale) && had_more {
            self.feed(now, id, effects);
        }
    }

    /// A node wants no new calls.
    pub(crate) fn on_node_draining(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if node.state == NodeState::Draining {
            return;
        }
        let identity = node.identity.clone();
        let work = std::mem::take(&mut node.work);
        effects.push(Effect::Publish(NodeEvent::Draining { node: identity.clone() }));
        let served = self.registry.node(id).map(|node| self.served_by(node)).unwrap_or_default();
        self.registry.set_state(id, NodeState::Draining);
        self.close_queues(&work, &format!("it was to run on {identity}, which is leaving"));
        self.after_departure(now, &served, effects);
        self.tell_drained(id, effects);
    }

    /// A node is to go, for this reason; `false` if it is not here.
    pub(crate) fn on_disconnect_requested(
        &mut self,
        now: Time,
        id: NodeId,
        reason: GoneReason,
        effects: &mut Effects<H>,
    ) -> bool {
        let is_here = self.registry.node(id).is_some();
        self.cut_off(now, id, reason, effects);
        is_here
    }

    /// A node's connection has ended.
    pub(crate) fn on_node_gone(&mut self, now: Time, id: NodeId, reason: GoneReason, effects: &mut Effects<H>) {
        let served = self.registry.node(id).map(|node| self.served_by(node)).unwrap_or_default();
        let Some(node) = self.registry.leave(id) else { return };
        self.note_crash(now, &node, &reason);
        let in_flight = node.calls;
        effects.push(Effect::Publish(NodeEvent::Gone {
            node: node.identity.clone(),
            reason: reason.clone(),
            in_flight,
        }));
        self.close_queues(&node.work, &format!("it was to run on {}, which {reason}", node.identity));
        let mut calls: Vec<_> = node.in_flight.keys().copied().collect();
        if !calls.is_empty() {
            // From the last to the first, because they are taken off the end.
            calls.sort_unstable_by(|a, b| b.cmp(a));
            let from = Arc::new(Departed { identity: node.identity.clone(), source: node.source, reason });
            self.departed.insert(id, Arc::clone(&from));
            self.chores.push_back(Chore::Lose { calls, from });
        }
        self.after_departure(now, &served, effects);
    }

    /// A node takes no more calls: what waits may have lost its last node, or may use those it has avoided.
    fn after_departure(&mut self, now: Time, served: &[QueueId], effects: &mut Effects<H>) {
        self.reasons.clear();
        self.mark_unserved_of(now, served);
        self.place_avoiding();
        self.feed_resting();
        self.do_chores(now, effects);
    }

    /// A node will not start more than the first calls of a batch.
    pub(crate) fn on_calls_given_back(
        &mut self,
        node: NodeId,
        id: CallId,
        attempt: u32,
        kept: u32,
        effects: &mut Effects<H>,
    ) {
        if !self.is_current(id, node, attempt) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        // Once, and not all of it: it answers for what it has started, which is no more than it was granted.
        if call.kept.is_none() && (1..call.demand.count).contains(&kept) && kept <= call.granted {
            call.kept = Some(kept);
            effects.push(Effect::Shorten { call: call.handle.clone(), kept });
        }
    }

    /// Whether the call waits for this very attempt on this node.
    fn is_current(&self, call: CallId, node: NodeId, attempt: u32) -> bool {
        self.calls
            .get(&call)
            .is_some_and(|entry| entry.attempt == attempt && matches!(entry.stage, Stage::InFlight(on) if on == node))
    }

    /// An attempt has ended. How many calls of a batch were started is the reply's to say.
    pub(crate) fn on_attempt_finished(
        &mut self,
        now: Time,
        node: NodeId,
        id: CallId,
        attempt: u32,
        attempted: AttemptEnd,
        effects: &mut Effects<H>,
    ) {
        let ran = matches!(&attempted, AttemptEnd::Replied(reply) if !matches!(reply.outcome, Outcome::Refused(_)));
        let mut attempted = attempted;
        let mut count = 0;
        if let AttemptEnd::Replied(reply) = &mut attempted {
            // A peer's figure.
            reply.count = reply.count.clamp(1, self.registry.booked(node, id, attempt).max(1));
            count = if ran { reply.count } else { 0 };
        }
        let Some(took) = self.registry.end(now, node, (id, attempt), count) else { return };
        if let AttemptEnd::Replied(reply) = &mut attempted {
            // A peer's figure, by which others are judged. The calls of a batch run one after the other.
            reply.run = reply.run.min(took);
        }
        if self.is_current(id, node, attempt) {
            match attempted {
                AttemptEnd::Replied(reply) => self.replied(now, node, id, reply, effects),
                AttemptEnd::NotSent => self.requeue(now, id, effects),
                AttemptEnd::TooLarge { .. } if self.may_try_elsewhere(node, id) => self.requeue(now, id, effects),
                AttemptEnd::TooLarge { size, limit } => {
                    self.end_with(id, effects, |call| CallError::TooLarge {
                        method: call.method.name(),
                        part: Part::Arguments,
                        size,
                        limit,
                    });
                }
            }
        } else if ran && !matches!(&attempted, AttemptEnd::Replied(Reply { outcome: Outcome::Stopped, .. })) {
            self.stats.late += u64::from(count);
        }
        self.feed(now, node, effects);
        self.tell_drained(node, effects);
    }

    /// Notes that this node cannot take the call, and says whether another may.
    fn may_try_elsewhere(&mut self, node: NodeId, id: CallId) -> bool {
        let Some(identity) = self.registry.node(node).map(|node| node.identity.clone()) else { return false };
        let Some(call) = self.calls.get_mut(&id) else { return false };
        let cause = Cause::Refused("takes no arguments of that size");
        call.failed_attempts.push(FailedAttempt { attempt: call.attempt, node: identity, source: None, cause });
        self.calls.get(&id).is_some_and(|call| !call.is_targeted() && self.has_elsewhere(call))
    }

    fn replied(&mut self, now: Time, node: NodeId, id: CallId, reply: Reply, effects: &mut Effects<H>) {
        let Some((identity, source)) = self.registry.node(node).map(|node| (node.identity.clone(), node.source)) else {
            return;
        };
        let Some(call) = self.calls.get(&id) else { return };
        let method = call.method;
        let may_panic_elsewhere = call.demand.retry_panics && method.is_idempotent() && call.demand.count == 1;
        match &reply.outcome {
            Outcome::Value | Outcome::Error => {
                // Of a batch, as many failures as make a difference, and a success if any call was one.
                for _ in 0..reply.panicked.min(reply.count).min(MOST_NOTED) {
                    self.note_failure(now, node, method, effects);
                }
                if reply.panicked < reply.count {
                    self.note_success(node, method.id(), effects);
                }
            }
            Outcome::Panicked(_)
            | Outcome::Lost(_)
            | Outcome::Refused(Refusal::Busy | Refusal::UnknownMethod | Refusal::Ended) => {
                self.note_failure(now, node, method, effects);
            }
            _ => {}
        }
        if let Outcome::Panicked(message) = &reply.outcome {
            if may_panic_elsewhere {
                return self.panicked(now, id, identity, &in_lines(message, LONGEST), effects);
            }
        }
        if let Some(error) = outcome::failure(method.name(), &identity, &reply.outcome) {
            return self.end_with(id, effects, |_| error);
        }
        match reply.outcome {
            Outcome::Refused(_) if self.calls.get(&id).is_some_and(|call| call.kept.is_some()) => {
                let reason = GoneReason::Violation("refused a batch of which it had kept some".into());
                self.lost(now, id, (&identity, source), &reason, effects);
            }
            Outcome::Value | Outcome::Error => {
                self.note_run_time(method.id(), reply.run / reply.count.max(1));
                if let Some(call) = self.remove(id) {
                    self.stats.answered += u64::from(reply.count);
                    let ended = CallAnswer {
                        reply,
                        node: identity,
                        attempts: call.sent,
                        elapsed: now.saturating_sub(call.submitted),
                    };
                    effects.push(Effect::End {
                        call: call.handle,
                        end: Ok(ended),
                        failed_attempts: call.failed_attempts,
                    });
                }
            }
            Outcome::Refused(Refusal::UnknownMethod) => {
                self.refused(now, id, identity, "does not know the method although it registered it", effects);
            }
            Outcome::Refused(Refusal::Busy) => {
                self.refused(now, id, identity, "has more calls than it takes", effects);
            }
            Outcome::Refused(Refusal::Draining) => self.refused(now, id, identity, "is leaving", effects),
            Outcome::Refused(Refusal::Ended) => {
                self.refused(now, id, identity, "has lost the runtime of its async handlers", effects);
            }
            Outcome::Lost(why) => {
                let reason = GoneReason::Dropped(in_one_line(&why, LONGEST).into());
                self.lost(now, id, (&identity, source), &reason, effects);
            }
            Outcome::Refused(Refusal::Returned) => {
                let times = self.calls.get_mut(&id).map_or(0, |call| {
                    call.returned += 1;
                    call.returned
                });
                // Some nodes would play this for ever.
                if times > MOST_RETURNS {
                    self.refused(now, id, identity, "gave it back too often", effects);
                } else {
                    self.requeue(now, id, effects);
                }
            }
            // The others have just been dealt with.
            _ => {
                // The node's clock may be a little ahead of ours at a deadline.
                let has_deadline = self.calls.get(&id).is_some_and(|call| call.demand.timeout.is_some());
                if has_deadline {
                    self.time_out(id, effects);
                } else {
                    let reason = GoneReason::Violation("stopped a call that nobody had cancelled".into());
                    self.lost(now, id, (&identity, source), &reason, effects);
                }
            }
        }
    }

    /// The caller wants the call no more.
    pub(crate) fn on_call_cancelled(&mut self, id: CallId, effects: &mut Effects<H>) {
        if let Some(call) = self.remove(id) {
            self.stats.cancelled += u64::from(call.count());
            self.stop(id, call, effects);
        }
    }

    /// Takes back a call that was never sent and that no node serves; false if it is not so. Its maker has been
    /// told of another like it that no node came.
    pub(crate) fn take_back_unserved(&mut self, id: CallId) -> bool {
        let is_unserved = |call: &CallEntry<H>| {
            matches!(call.stage, Stage::Queued(_))
                && call.attempt == 0
                && !self.registry.serves(call.method.id(), &call.demand.labels, But::NOTHING)
        };
        if !self.calls.get(&id).is_some_and(is_unserved) {
            return false;
        }
        if let Some(call) = self.remove(id) {
            self.stats.failed += u64::from(call.count());
        }
        true
    }

    /// Tells the node that has the call, if one has.
    fn stop(&self, id: CallId, call: CallEntry<H>, effects: &mut Effects<H>) {
        if let Stage::InFlight(node) = call.stage {
            // One that is not written yet will not be, and its link says so.
            if !call.handle.withdraw(call.attempt) {
                if let Some(node) = self.registry.node(node) {
                    effects.push(Effect::Cancel { link: node.link.clone(), id, attempt: call.attempt });
                }
            }
        }
    }

    fn time_out(&mut self, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.remove(id) else { return };
        let stage = match &call.stage {
            Stage::InFlight(node) if !call.handle.withdraw(call.attempt) => {
                self.identity_of(*node).map(CallStage::Sent)
            }
            _ => call.failed().next_back().map(|failed_attempt| CallStage::Retrying(failed_attempt.node.clone())),
        };
        let error = CallError::TimedOut {
            method: call.method.name(),
            timeout: call.demand.timeout.unwrap_or_default(),
            stage: stage.unwrap_or(CallStage::Queued),
        };
        self.stats.failed += u64::from(call.count());
        effects.push(Effect::End {
            call: call.handle.clone(),
            end: Err(error),
            failed_attempts: call.failed_attempts.clone(),
        });
        self.stop(id, call, effects);
    }

    /// A node that has calls, be it still here or not.
    fn identity_of(&self, id: NodeId) -> Option<NodeIdentity> {
        let here = self.registry.node(id).map(|node| node.identity.clone());
        here.or_else(|| self.departed.get(&id).map(|departed| departed.identity.clone()))
    }

    fn fail_target(&mut self, now: Time, id: CallId, wanted: String, effects: &mut Effects<H>) {
        self.end_with(id, effects, |call| CallError::NoNode {
            method: call.method.name(),
            wanted,
            waited: now.saturating_sub(call.submitted),
        });
    }

    /// Ends a call with an error, unless it ended before.
    fn end_with(&mut self, id: CallId, effects: &mut Effects<H>, error: impl FnOnce(&CallEntry<H>) -> CallError) {
        if let Some(call) = self.remove(id) {
            let mut error = error(&call);
            // Whatever came of the last attempt: an earlier one may have run.
            if error.execution() == Execution::NotRun && call.may_have_run() {
                error = last_failure(&call);
            }
            if !goes_on_one_by_one(&call, &error) {
                self.stats.failed += u64::from(call.count());
            }
            effects.push(Effect::End { call: call.handle, end: Err(error), failed_attempts: call.failed_attempts });
        }
    }

    /// Takes a call out of wherever it is; a node that has it keeps it booked until it answers.
    fn remove(&mut self, id: CallId) -> Option<CallEntry<H>> {
        if matches!(self.calls.get(&id)?.stage, Stage::Queued(_)) {
            self.unqueue(id);
        }
        let call = self.calls.remove(&id)?;
        if let Stage::BackingOff(until) = call.stage {
            self.timers.remove(&(until, Timer::Retry(id)));
            self.backing_off -= 1;
        }
        if let Some(deadline) = call.deadline() {
            self.timers.remove(&(deadline, Timer::Deadline(id)));
        }
        Some(*call)
    }

    fn tell_drained(&mut self, id: NodeId, effects: &mut Effects<H>) {
        if let Some(node) = self.registry.node(id) {
            if node.state == NodeState::Draining && node.in_flight.is_empty() {
                effects.push(Effect::ConfirmDrained { link: node.link.clone() });
            }
        }
    }

    /// Time has passed.
    pub(crate) fn on_tick(&mut self, now: Time, effects: &mut Effects<H>) {
        // Whatever became of the last time.
        self.does_chores = false;
        let mut left = self.settings.slice;
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > now || left == 0 {
                break;
            }
            left -= 1;
            self.timers.pop_first();
            match timer {
                Timer::Deadline(id) => self.time_out(id, effects),
                Timer::Retry(id) => {
                    self.backing_off -= 1;
                    self.enqueue_or_place(now, id, effects);
                }
                Timer::Unserved(queue) => self.chores.push_back(Chore::Expire(queue)),
                Timer::Rest(node) => self.end_rest(now, node, effects),
            }
        }
        self.watch(now, effects);
        self.do_chores(now, effects);
    }

    /// When the next [`on_tick`](Self::on_tick) has something to do; the past if it should come at once.
    pub(crate) fn next_tick(&self) -> Time {
        if self.has_chores() {
            return Time::ZERO;
        }
        self.timers.first().map_or(Time::MAX, |(at, _)| *at).min(self.next_watch())
    }

    /// Takes no more calls, and ends some of those that wait; `false` once none is left.
    pub(crate) fn on_shutdown(&mut self, effects: &mut Effects<H>) -> bool {
        self.shutting_down = true;
        let mut walk = std::mem::take(&mut self.end_waiting);
        let is_left = self.end_some(&mut walk, effects, |stage| !matches!(stage, Stage::InFlight(_)));
        self.end_waiting = walk;
        is_left
    }

    /// Ends some of the calls that are left, those in flight as well; `false` once none is.
    pub(crate) fn on_shutdown_timeout(&mut self, effects: &mut Effects<H>) -> bool {
        self.shutting_down = true;
        let mut walk = std::mem::take(&mut self.end_all);
        let is_left = self.end_some(&mut walk, effects, |_| true);
        self.end_all = walk;
        is_left
    }

    /// Goes on with a walk. Calls that come meanwhile are ended as they come, so it meets all that have to be.
    fn end_some(&mut self, walk: &mut Walk, effects: &mut Effects<H>, which: impl Fn(&Stage) -> bool) -> bool {
        // Each makes an error with texts of its own, and frees what it had in an order that suits no allocator.
        for _ in 0..self.settings.slice.div_ceil(4) {
            let Some(id) = walk.next(&self.calls) else { return false };
            if self.calls.get(&id).is_some_and(|call| which(&call.stage)) {
                self.end_with(id, effects, shutdown_error);
            }
        }
        true
    }

    /// Calls that an event which did not come to its end has left nowhere: in no queue and on no node.
    pub(crate) fn stranded_calls(&self) -> Vec<CallId> {
        let is_astray = |id: CallId, call: &CallEntry<H>| match call.stage {
            Stage::Between => true,
            Stage::InFlight(node) => {
                self.registry.booked(node, id, call.attempt) == 0 && !self.departed.contains_key(&node)
            }
            Stage::Queued(_) | Stage::BackingOff(_) => false,
        };
        self.calls.iter().filter(|(id, call)| is_astray(**id, call)).map(|(id, _)| *id).collect()
    }

    /// Has an attempt be sent earlier than it was.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn backdate(&mut self, node: NodeId, attempt: (CallId, u32), sent: Time) {
        let node = self.registry.node_mut(node);
        if let Some(booking) = node.and_then(|node| node.in_flight.get_mut(&attempt)) {
            booking.sent = booking.sent.min(sent);
        }
    }

    /// Makes a call astray, as a panic may.
    #[cfg(test)]
    pub(crate) fn strand(&mut self, id: CallId) {
        if let Some(mut call) = self.remove(id) {
            call.stage = Stage::Between;
            self.calls.insert(id, call);
        }
    }

    /// Ends such a call, of which nobody knows how far it came.
    pub(crate) fn on_call_stranded(&mut self, id: CallId, effects: &mut Effects<H>) {
        let execution = Execution::MayHaveRun;
        self.end_with(id, effects, |call| CallError::Shutdown { method: call.method.name(), execution });
    }

    /// Calls that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.calls.len()
    }

    /// Some nodes, in the order they came: those behind `after`, as many as can be listed in one go. With a method and
    /// labels, only those that its calls can go to.
    pub(crate) fn node_snapshots(
        &self,
        after: Option<NodeId>,
        which: Option<(MethodId, &Labels)>,
    ) -> (Vec<NodeSnapshot>, Option<NodeId>) {
        let mut rows = Vec::new();
        let mut last = None;
        for node in self.registry.nodes_after(after).take(self.settings.slice) {
            last = Some(node.identity.id);
            if which.is_none_or(|(method, labels)| self.registry.is_serving(node, method, labels)) {
                rows.push(self.registry.row(node));
            }
        }
        (rows, last)
    }

    /// Where calls of this method can go.
    pub(crate) fn capacity(&mut self, method: MethodId, labels: &Labels) -> Capacity {
        if let Some(labels) = labels {
            self.prepare_views(method, labels);
        }
        self.registry.capacity(method, labels)
    }

    /// Where a call is in flight.
    #[cfg(feature = "simulation")]
    pub(crate) fn node_of(&self, id: CallId) -> Option<NodeId> {
        match self.calls.get(&id)?.stage {
            Stage::InFlight(node) => Some(node),
            _ => None,
        }
    }

    /// Nodes that get new calls.
    pub(crate) fn alive(&self) -> usize {
        self.registry.alive
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { queued: self.queues.waiting + self.backing_off, in_flight: self.registry.in_flight, ..self.stats }
    }
}

/// Spreads the bits of a number (the finalizer of splitmix64: Steele, Lea and Flood, 2014).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
