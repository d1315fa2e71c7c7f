//! The master's decisions, as a pure state machine.
//!
//! It takes events with the time they happened (`joined`, `submit`, `finished`, `gone`, `tick` and so
//! on) and leaves effects to be carried out (send this call there, end that one). There is no clock, no
//! input or output, and no randomness in it but what is passed in: the same events in the same order
//! give the same effects. So a simulator can run its every rule.
//!
//! [`registry`] knows the nodes and their load, [`schedule`] chooses and queues, [`retry`] decides
//! about calls whose node was lost, [`liveness`] about nodes that fall silent.

mod liveness;
mod ready;
mod registry;
mod retry;
#[cfg(feature = "simulation")]
mod sanity;
mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    time::Duration,
};

pub(crate) use liveness::{GONE_AFTER, SUSPECT_AFTER};
use rand::{SeedableRng, rngs::SmallRng};
use registry::Registry;
use rustc_hash::FxHashMap;
use schedule::{Queue, QueueKey};

use crate::{
    error::{CallError, Cause, Execution, GoneReason, Part, Progress, Setback},
    id::{CallId, NodeId, NodeIdentity},
    service::{
        caller::{Capacity, Labels},
        method::{Method, MethodId},
        outcome,
    },
    view::{NodeEvent, NodeInfo, NodeState, Stats},
    wire::{Load, Outcome, Refusal, Reply, hello::Registration},
};

/// Time since the master started.
pub(crate) type Time = Duration;

/// A place in the queues: calls are taken in this order.
type Seq = u64;

/// What the core is told about calls and links, which it passes on without looking inside.
pub(crate) trait Host {
    /// A call: its payload, and where its end goes.
    type Call: CallHandle;
    /// The way to a node.
    type Link: LinkHandle;
}

/// A call as the core sees it.
pub(crate) trait CallHandle: Clone {
    /// Lets this attempt be written, and none before it.
    fn open(&self, attempt: u32);
    /// Keeps this attempt from being written from now on; false if it was written already.
    fn revoke(&self, attempt: u32) -> bool;
}

/// The way to a node as the core sees it.
pub(crate) trait LinkHandle: Clone {
    /// When the last byte came from the node.
    fn heard(&self) -> Time;
    /// What the node does that ends its connection, if anything. Before `amnesty` the master itself was
    /// stalled, and what the node had no time for then it is given time for again.
    fn complaint(&self, amnesty: Time) -> Option<&'static str>;
}

/// What is to be done, in this order, by whoever brought the event.
pub(crate) enum Effect<H: Host> {
    /// Send the call over the link.
    Send { link: H::Link, call: H::Call, id: CallId, attempt: u32, granted: u32, deadline: Option<Time> },
    /// Let the node start this many calls of a batch.
    Grant { link: H::Link, id: CallId, attempt: u32, upto: u32 },
    /// Tell the node that nobody waits for this attempt any more.
    Cancel { link: H::Link, id: CallId, attempt: u32 },
    /// The call has ended, after these attempts that came to nothing.
    End { call: H::Call, end: Result<Ended, CallError>, setbacks: Vec<Setback> },
    /// A batch has only so many calls left, the first: the node will not start the others.
    Shorten { call: H::Call, kept: u32 },
    /// Ask the node for the calls that it has not started.
    Retract { link: H::Link },
    /// Tell the draining node that it has nothing left.
    Drained { link: H::Link },
    /// Close the link.
    Disconnect { link: H::Link, reason: GoneReason },
    /// Tell people.
    Event(NodeEvent),
}

/// A call that a handler has answered, with a value or with its own error.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reply: Reply,
    pub(crate) node: NodeIdentity,
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
}

/// How an attempt ended, as its link saw it.
#[derive(Debug)]
pub(crate) enum Attempted {
    /// The node answered.
    Replied(Reply),
    /// It was not written to the connection.
    NotSent,
    /// It was not written, because the node takes at most this many bytes.
    TooLarge { size: u64, limit: u64 },
}

/// What is set once.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) heartbeat: Duration,
    pub(crate) node_wait: Duration,
    /// Calls that may wait, and bytes of their arguments.
    pub(crate) queue: usize,
    pub(crate) queue_bytes: usize,
    /// Upper half of the node ids.
    pub(crate) epoch: u32,
    pub(crate) seed: u64,
}

/// What is asked of a call.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// How many calls it is: more than one for a batch, which is sent once and never repeated as a whole.
    pub(crate) count: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) node: Option<NodeId>,
    pub(crate) labels: Labels,
    /// Hash of the key whose calls shall go to the same node.
    pub(crate) affinity: Option<u64>,
    /// A call whose node this one shall not run on: it is the same once more.
    pub(crate) beside: Option<CallId>,
    /// Whether it may wait although the queue is full, because whoever made it makes no more meanwhile.
    pub(crate) patient: bool,
    /// How often it may be sent, if it may be repeated at all.
    pub(crate) attempts: Option<u32>,
    /// Bytes of its arguments.
    pub(crate) size: usize,
}

/// Where a call is.
#[derive(Debug)]
enum Stage {
    /// In no queue yet, or no more.
    Between,
    /// In the queue of its method, or of the node it is for.
    Queued(Seq),
    /// It was lost, and is queued again at this time.
    BackingOff(Time),
    /// This node has it.
    InFlight(NodeId),
}

struct CallEntry<H: Host> {
    handle: H::Call,
    method: &'static Method,
    demand: Demand,
    submitted: Time,
    /// When it was queued last, from which it waits for a node to come.
    queued: Time,
    /// Kept over all attempts, so that a call that was lost goes before those made after it.
    seq: Seq,
    stage: Stage,
    /// The node it waits for, if not for any: the one that was asked for, or the one its affinity chose.
    target: Option<NodeId>,
    /// The node that the same call is on already.
    beside: Option<NodeId>,
    /// How many calls of a batch its node has kept, if it has given the others back.
    kept: Option<u32>,
    /// How many calls of a batch its node may have started: it was told to start no more.
    granted: u32,
    /// How often it was given to a link.
    attempt: u32,
    /// How often it was sent, as far as anybody knows.
    sent: u32,
    /// The attempts that came to nothing, in order.
    setbacks: Vec<Setback>,
    /// How many of these it suffered as part of a batch, before it was a call by itself.
    in_batch: usize,
    /// How often a node gave it back.
    returned: u32,
}

impl<H: Host> CallEntry<H> {
    fn deadline(&self) -> Option<Time> {
        self.demand.timeout.map(|timeout| self.submitted.saturating_add(timeout))
    }

    /// How many calls it is still about.
    fn count(&self) -> u32 {
        self.kept.unwrap_or(self.demand.count)
    }

    /// The nodes it was lost with, in order.
    fn lost(&self) -> impl DoubleEndedIterator<Item = (&NodeIdentity, &GoneReason)> {
        self.setbacks.iter().filter_map(|setback| match &setback.cause {
            Cause::Lost(reason) => Some((&setback.node, reason)),
            Cause::Refused(_) => None,
        })
    }

    /// How often a node would not run it.
    fn refusals(&self) -> usize {
        self.setbacks.iter().filter(|setback| matches!(setback.cause, Cause::Refused(_))).count()
    }
}

/// What a node is granted of a batch at a time is expected to take this long, a quarter of what a batch is made
/// for. In this time the node asks for more and is answered, and this much a node that dies can cost.
const GRANT_TIME: Duration = Duration::from_micros(2500);

/// How many calls of a batch a node is granted at first, and by how many more each time at least, where each
/// is expected to take this long. A quarter at least, so that a node asks a few times at most, whatever the
/// calls take.
fn grant(count: u32, each: Duration) -> u32 {
    let calls = GRANT_TIME.as_nanos() / each.as_nanos().max(1);
    u32::try_from(calls).unwrap_or(u32::MAX).clamp(count.div_ceil(4), count)
}

/// A call that nodes gave back more often than this is taken for refused.
const MOST_RETURNS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Deadline,
    Retry,
}

/// The state machine.
pub(crate) struct Core<H: Host> {
    settings: Settings,
    registry: Registry<H>,
    /// Numbered by ourselves, so that no stronger hash is needed.
    calls: FxHashMap<CallId, CallEntry<H>>,
    queues: BTreeMap<QueueKey, Queue>,
    /// When each service was served last, for fairness between them.
    turns: BTreeMap<&'static str, u64>,
    turn: u64,
    /// Calls in the queues, and bytes of their arguments.
    waiting: usize,
    waiting_bytes: usize,
    /// Calls that are queued again after a while.
    backing_off: usize,
    /// Mean run time of each method, as its replies tell.
    run_times: BTreeMap<MethodId, Duration>,
    timers: BTreeSet<(Time, CallId, Timer)>,
    liveness: liveness::Watch,
    rng: SmallRng,
    next_call: u64,
    next_node: u32,
    next_seq: Seq,
    stats: Stats,
    shutting_down: bool,
}

impl<H: Host> fmt::Debug for Core<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("nodes", &self.registry.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The effects of one event.
pub(crate) type Effects<H> = Vec<Effect<H>>;

impl<H: Host> Core<H> {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(settings.seed),
            settings,
            registry: Registry::new(),
            calls: FxHashMap::default(),
            queues: BTreeMap::new(),
            turns: BTreeMap::new(),
            turn: 0,
            waiting: 0,
            waiting_bytes: 0,
            backing_off: 0,
            run_times: BTreeMap::new(),
            timers: BTreeSet::new(),
            liveness: liveness::Watch::default(),
            next_call: 0,
            next_node: 0,
            next_seq: 0,
            stats: Stats::default(),
            shutting_down: false,
        }
    }

    /// A node id that was never given out before.
    pub(crate) fn new_node_id(&mut self) -> NodeId {
        self.next_node += 1;
        NodeId::new(self.settings.epoch, self.next_node)
    }

    /// A node has registered under the id it was given.
    pub(crate) fn joined(
        &mut self,
        now: Time,
        id: NodeId,
        registration: Registration,
        addr: SocketAddr,
        link: H::Link,
        effects: &mut Effects<H>,
    ) {
        let identity = NodeIdentity::new(id, &registration.name, addr);
        self.registry.join(identity.clone(), registration, link, now);
        effects.push(Effect::Event(NodeEvent::Joined { node: identity }));
        self.note_served(now);
        self.feed(now, id, effects);
    }

    /// A node told how busy it is.
    pub(crate) fn load(&mut self, now: Time, id: NodeId, load: Load, effects: &mut Effects<H>) {
        if self.registry.set_busy(id, load.stale) {
            self.feed(now, id, effects);
        }
    }

    /// A node wants no new calls.
    pub(crate) fn draining(&mut self, now: Time, id: NodeId, effects: &mut Effects<H>) {
        let Some(node) = self.registry.node_mut(id) else { return };
        if node.state == NodeState::Draining {
            return;
        }
        effects.push(Effect::Event(NodeEvent::Draining { node: node.identity.clone() }));
        let waiting = std::mem::take(&mut node.waiting);
        let identity = node.identity.clone();
        self.registry.set_state(id, NodeState::Draining);
        for call in waiting.into_values() {
            self.untarget(now, call, || format!("it was to run on {identity}, which is leaving"), effects);
        }
        self.note_served(now);
        self.place_tried(now, effects);
        self.tell_drained(id, effects);
    }

    /// A node's connection has ended.
    pub(crate) fn gone(&mut self, now: Time, id: NodeId, reason: GoneReason, effects: &mut Effects<H>) {
        let Some(node) = self.registry.leave(id) else { return };
        let in_flight = node.calls_in_flight();
        effects.push(Effect::Event(NodeEvent::Gone { node: node.identity.clone(), reason: reason.clone(), in_flight }));
        self.note_served(now);
        for call in node.waiting.into_values() {
            self.untarget(now, call, || format!("it was to run on {}, which {reason}", node.identity), effects);
        }
        let mut in_flight: Vec<_> = node.in_flight.into_keys().collect();
        in_flight.sort_unstable();
        for (call, attempt) in in_flight {
            if self.is_current(call, id, attempt) {
                self.lost(now, call, &node.identity, &reason, effects);
            }
        }
        self.place_tried(now, effects);
    }

    /// A node will not start more than the first calls of a batch.
    pub(crate) fn gave_back(&mut self, node: NodeId, id: CallId, attempt: u32, kept: u32, effects: &mut Effects<H>) {
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

    /// A node is about to start more calls of a batch than it may.
    pub(crate) fn wants(&mut self, node: NodeId, id: CallId, attempt: u32, upto: u32, effects: &mut Effects<H>) {
        if !self.is_current(id, node, attempt) {
            return;
        }
        let Some(each) = self.calls.get(&id).map(|call| self.expected(call.method.id())) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let count = call.count();
        // What was given back is on its way to other nodes. And in steps of a size, so that a node which asks
        // without end is answered a few times.
        let upto = upto.max(call.granted.saturating_add(grant(count, each))).min(count);
        if upto > call.granted && call.kept.is_none() {
            // In the books before it is said: the node dies after it has started them, or before.
            call.granted = upto;
            if let Some(node) = self.registry.node(node) {
                effects.push(Effect::Grant { link: node.link.clone(), id, attempt, upto });
            }
        }
    }

    /// Whether the call waits for this very attempt on this node.
    fn is_current(&self, call: CallId, node: NodeId, attempt: u32) -> bool {
        self.calls
            .get(&call)
            .is_some_and(|entry| entry.attempt == attempt && matches!(entry.stage, Stage::InFlight(on) if on == node))
    }

    /// An attempt has ended. How many calls of a batch were started is the reply's to say.
    pub(crate) fn finished(
        &mut self,
        now: Time,
        node: NodeId,
        id: CallId,
        attempt: u32,
        attempted: Attempted,
        effects: &mut Effects<H>,
    ) {
        let ran = matches!(&attempted, Attempted::Replied(reply) if !matches!(reply.outcome, Outcome::Refused(_)));
        let mut attempted = attempted;
        let mut count = 0;
        if let Attempted::Replied(reply) = &mut attempted {
            // A peer's figure.
            reply.count = reply.count.clamp(1, self.registry.booked(node, id, attempt).max(1));
            count = if ran { reply.count } else { 0 };
        }
        if !self.registry.end(now, node, id, attempt, count) {
            return;
        }
        if self.is_current(id, node, attempt) {
            match attempted {
                Attempted::Replied(reply) => self.replied(now, node, id, reply, effects),
                Attempted::NotSent => self.requeue(now, id, effects),
                Attempted::TooLarge { .. } if self.may_try_elsewhere(node, id) => self.requeue(now, id, effects),
                Attempted::TooLarge { size, limit } => {
                    self.end_with(id, effects, |call| CallError::TooLarge {
                        method: call.method.name(),
                        part: Part::Arguments,
                        size,
                        limit,
                    });
                }
            }
        } else if ran && !matches!(&attempted, Attempted::Replied(Reply { outcome: Outcome::Stopped, .. })) {
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
        call.setbacks.push(Setback { attempt: call.attempt, node: identity, cause });
        let targeted = call.demand.node.is_some();
        !targeted && self.calls.get(&id).is_some_and(|call| !self.to_avoid(call).is_empty())
    }

    fn replied(&mut self, now: Time, node: NodeId, id: CallId, reply: Reply, effects: &mut Effects<H>) {
        let Some(identity) = self.registry.node(node).map(|node| node.identity.clone()) else { return };
        let Some(method) = self.calls.get(&id).map(|call| call.method) else { return };
        if let Some(error) = outcome::failure(method.name(), &identity, &reply.outcome) {
            return self.end_with(id, effects, |_| error);
        }
        match reply.outcome {
            Outcome::Refused(_) if self.calls.get(&id).is_some_and(|call| call.kept.is_some()) => {
                let reason = GoneReason::Violation("refused a batch of which it had kept some".into());
                self.lost(now, id, &identity, &reason, effects);
            }
            Outcome::Value | Outcome::Error => {
                self.note_run_time(method.id(), reply.run / reply.count.max(1));
                if let Some(call) = self.remove(id) {
                    self.stats.answered += u64::from(reply.count);
                    let ended = Ended {
                        reply,
                        node: identity,
                        attempts: call.sent,
                        elapsed: now.saturating_sub(call.submitted),
                    };
                    effects.push(Effect::End { call: call.handle, end: Ok(ended), setbacks: call.setbacks });
                }
            }
            Outcome::Refused(Refusal::UnknownMethod) => {
                self.refused(now, id, identity, "does not know the method although it registered it", effects);
            }
            Outcome::Refused(Refusal::Busy) => {
                self.refused(now, id, identity, "has more calls than it takes", effects);
            }
            Outcome::Refused(Refusal::Draining) => self.refused(now, id, identity, "is leaving", effects),
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
                    self.lost(now, id, &identity, &reason, effects);
                }
            }
        }
    }

    /// The caller wants the call no more.
    pub(crate) fn cancel(&mut self, id: CallId, effects: &mut Effects<H>) {
        if let Some(call) = self.remove(id) {
            self.stats.cancelled += u64::from(call.count());
            self.stop(id, call, effects);
        }
    }

    /// Takes back a call that was never sent and that no node serves; false if it is not so. Its maker has been
    /// told of another like it that no node came.
    pub(crate) fn withdraw(&mut self, id: CallId) -> bool {
        let is_unserved = |call: &CallEntry<H>| {
            matches!(call.stage, Stage::Queued(_))
                && call.attempt == 0
                && self.registry.serving(call.method.id(), &call.demand.labels) == 0
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
            if !call.handle.revoke(call.attempt) {
                if let Some(node) = self.registry.node(node) {
                    effects.push(Effect::Cancel { link: node.link.clone(), id, attempt: call.attempt });
                }
            }
        }
    }

    fn time_out(&mut self, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.remove(id) else { return };
        let progress = match &call.stage {
            Stage::InFlight(node) if !call.handle.revoke(call.attempt) => {
                self.registry.node(*node).map(|node| Progress::Sent(node.identity.clone()))
            }
            _ => call.lost().next_back().map(|(node, _)| Progress::Retrying(node.clone())),
        };
        let error = CallError::TimedOut {
            method: call.method.name(),
            timeout: call.demand.timeout.unwrap_or_default(),
            progress: progress.unwrap_or(Progress::Queued),
        };
        self.stats.failed += u64::from(call.count());
        effects.push(Effect::End { call: call.handle.clone(), end: Err(error), setbacks: call.setbacks.clone() });
        self.stop(id, call, effects);
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
            if error.execution() == Execution::NotRun && call.lost().next().is_some() {
                error = node_lost(&call);
            }
            if !goes_on_one_by_one(&call, &error) {
                self.stats.failed += u64::from(call.count());
            }
            effects.push(Effect::End { call: call.handle, end: Err(error), setbacks: call.setbacks });
        }
    }

    /// Takes a call out of wherever it is; a node that has it keeps it booked until it answers.
    fn remove(&mut self, id: CallId) -> Option<CallEntry<H>> {
        let call = self.calls.remove(&id)?;
        match call.stage {
            Stage::Queued(seq) => self.unqueue(&call, seq),
            Stage::BackingOff(until) => {
                self.timers.remove(&(until, id, Timer::Retry));
                self.backing_off -= 1;
            }
            Stage::Between | Stage::InFlight(_) => {}
        }
        if let Some(deadline) = call.deadline() {
            self.timers.remove(&(deadline, id, Timer::Deadline));
        }
        Some(call)
    }

    fn tell_drained(&mut self, id: NodeId, effects: &mut Effects<H>) {
        if let Some(node) = self.registry.node(id) {
            if node.state == NodeState::Draining && node.in_flight.is_empty() {
                effects.push(Effect::Drained { link: node.link.clone() });
            }
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Time, effects: &mut Effects<H>) {
        while let Some((at, id, timer)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Deadline => self.time_out(id, effects),
                Timer::Retry => {
                    self.backing_off -= 1;
                    self.enqueue_or_place(now, id, effects);
                }
            }
        }
        self.expire_unserved(now, effects);
        self.watch(now, effects);
    }

    /// When the next [`tick`](Self::tick) has something to do; liveness aside, which wants one every
    /// quarter of a heartbeat.
    pub(crate) fn next_timer(&self) -> Option<Time> {
        let timer = self.timers.first().map(|(at, ..)| *at);
        timer.into_iter().chain(self.next_unserved()).min()
    }

    /// Ends all calls that wait, and takes no more.
    pub(crate) fn shut_down(&mut self, effects: &mut Effects<H>) {
        self.shutting_down = true;
        let waiting: BTreeSet<(Seq, CallId)> = self
            .calls
            .iter()
            .filter(|(_, call)| !matches!(call.stage, Stage::InFlight(_)))
            .map(|(id, call)| (call.seq, *id))
            .collect();
        for (_, id) in waiting {
            self.end_with(id, effects, |call| shutdown_error(call));
        }
    }

    /// Ends the calls in flight as well.
    pub(crate) fn abandon(&mut self, effects: &mut Effects<H>) {
        self.shut_down(effects);
        let in_flight: BTreeSet<CallId> = self.calls.keys().copied().collect();
        for id in in_flight {
            self.end_with(id, effects, |call| shutdown_error(call));
        }
    }

    /// Calls that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn nodes(&self, now: Time) -> Vec<NodeInfo> {
        self.registry.infos(now)
    }

    /// Where calls of this method can go.
    pub(crate) fn capacity(&self, method: MethodId, labels: &Labels) -> Capacity {
        self.registry.capacity(method, labels)
    }

    /// The nodes that calls of this method can go to.
    pub(crate) fn serving(&self, now: Time, method: MethodId, labels: &Labels) -> Vec<NodeInfo> {
        self.registry.candidates(method, labels).map(|node| node.info(now)).collect()
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
        self.registry.alive()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { queued: self.waiting + self.backing_off, in_flight: self.registry.in_flight, ..self.stats }
    }
}

/// Whether the calls of a batch that ends with this error are made again, each by itself.
fn goes_on_one_by_one<H: Host>(call: &CallEntry<H>, error: &CallError) -> bool {
    call.demand.count > 1
        && match error {
            CallError::NodeLost { .. } => call.method.is_idempotent() && call.demand.node.is_none(),
            CallError::TooLarge { part, .. } | CallError::Decode { part, .. } => *part == Part::Arguments,
            _ => false,
        }
}

/// The end of a call that was lost, with its last loss.
fn node_lost<H: Host>(call: &CallEntry<H>) -> CallError {
    let method = call.method.name();
    match call.lost().next_back() {
        Some((node, reason)) => {
            CallError::NodeLost { method, node: node.clone(), attempts: call.sent, reason: reason.clone() }
        }
        None => shutdown_error(call),
    }
}

fn shutdown_error<H: Host>(call: &CallEntry<H>) -> CallError {
    let may_have_run =
        call.lost().next().is_some() || matches!(call.stage, Stage::InFlight(_)) && !call.handle.revoke(call.attempt);
    CallError::Shutdown {
        method: call.method.name(),
        execution: if may_have_run { Execution::MayHaveRun } else { Execution::NotRun },
    }
}
