//! The rules that every history keeps.
//!
//! The core's own counts and indexes are checked in `core/sanity.rs`. The rules here are the promises to callers and
//! nodes: each call ends exactly once, and its result says nothing that the simulation knows to be untrue.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::model::{CallRecord, HEARTBEAT, METHODS, SimulatedNode};
use crate::{
    core::{CallAnswer, GONE_AFTER, HostLink, Settings, Time},
    error::{CallError, Execution, GoneReason, LimitOf},
    failed_attempt::{Cause, FailedAttempt},
    id::{CallerId, NodeId, NodeIdentity},
    view::{NodeEvent, NodeState, Stats},
    wire::Outcome,
};

pub(super) struct Rules {
    no_node_timeout: Duration,
    states: BTreeMap<NodeId, NodeState>,
    joined: BTreeMap<NodeId, Time>,
    gone: BTreeSet<NodeId>,
    /// Nodes that were disconnected for what they did.
    misbehaved: BTreeSet<NodeId>,
    /// Nodes that are ejected, and until when.
    ejected: BTreeMap<NodeId, Time>,
    /// Nodes that were gone when the tick began.
    gone_before: BTreeSet<NodeId>,
    /// Nodes whose connection the master knows to be broken.
    absent: BTreeSet<NodeId>,
    /// Silence before this does not count.
    stall_grace: Time,
    last_tick: Time,
    late: u64,
    answered: u64,
    failed: u64,
}

type Checked = Result<(), String>;

fn check(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            no_node_timeout: settings.no_node_timeout,
            states: BTreeMap::new(),
            joined: BTreeMap::new(),
            gone: BTreeSet::new(),
            misbehaved: BTreeSet::new(),
            ejected: BTreeMap::new(),
            gone_before: BTreeSet::new(),
            absent: BTreeSet::new(),
            stall_grace: Time::ZERO,
            last_tick: Time::ZERO,
            late: 0,
            answered: 0,
            failed: 0,
        }
    }

    pub(super) fn joined(&mut self, id: NodeId, now: Time) {
        self.joined.insert(id, now);
        self.states.insert(id, NodeState::Alive);
    }

    pub(super) fn draining(&mut self, id: NodeId) {
        self.states.insert(id, NodeState::Draining);
    }

    /// A call goes to a node that is alive, serves the method, and is the one that was asked for.
    pub(super) fn sent(
        &self,
        now: Time,
        (nodes, at): (&[SimulatedNode], usize),
        call: &mut CallRecord,
        (attempt, granted): (u32, u32),
        deadline: Option<Time>,
    ) -> Checked {
        let node = &nodes[at];
        check(!node.cordoned, || format!("a call was sent to {}, which is cordoned", node.id))?;
        let state = self.states.get(&node.id).copied();
        check(state == Some(NodeState::Alive), || format!("a call was sent to {}, which is {state:?}", node.id))?;
        check(node.serves.contains(&call.method), || {
            format!("a call was sent to {}, which does not serve it", node.id)
        })?;
        check(call.demand.node.is_none_or(|target| target == node.id), || {
            "a call was sent to another node than it is for".to_owned()
        })?;
        let zone = call.demand.labels.as_ref().map(|labels| &*labels[0].1);
        check(call.demand.node.is_some() || zone.is_none_or(|zone| zone == node.zone), || {
            "a call was sent to a node without its label".to_owned()
        })?;
        let is_ejected = |node: &SimulatedNode| self.ejected.get(&node.id).is_some_and(|until| *until > now);
        let zone_of_call = call.demand.labels.as_ref().map(|labels| &*labels[0].1);
        let could = |other: &&SimulatedNode| {
            !other.gone
                && !other.drain_sent
                && !other.cordoned
                && other.serves.contains(&call.method)
                && zone_of_call.is_none_or(|zone| zone == other.zone)
        };
        let all_ejected = nodes.iter().filter(could).all(is_ejected);
        check(call.demand.node.is_some() || !is_ejected(node) || all_ejected, || {
            format!("a call that could go elsewhere was sent to {}, which is ejected", node.id)
        })?;
        check(call.kept.is_none(), || "a batch was sent again although calls of it had been given back".to_owned())?;
        check(call.ends == 0 && !call.cancelled, || "a call was sent after its end".to_owned())?;
        check(!call.handle.has_yielded.get(), || {
            "a call was sent again after an item of its stream had come".to_owned()
        })?;
        let expected = call.demand.timeout.map(|timeout| call.submitted + timeout);
        check(deadline == expected, || format!("a call was sent with deadline {deadline:?} and not {expected:?}"))?;
        check(call.current.is_none_or(|(_, last)| attempt > last), || {
            "the number of an attempt was used before".to_owned()
        })?;
        check((1..=call.demand.count).contains(&granted), || format!("{granted} calls of {} are granted", call.id))?;
        call.current = Some((node.id, attempt));
        (call.granted, call.begun) = (granted, 0);
        Ok(())
    }

    /// More calls of a batch are granted only where it runs, and only those that were not granted before.
    pub(super) fn granted(&self, node: NodeId, call: Option<&mut CallRecord>, attempt: u32, upto: u32) -> Checked {
        let Some(call) = call else { return Err("calls were granted of a batch that does not exist".to_owned()) };
        check(call.current == Some((node, attempt)), || {
            format!("call {} was granted on a node that does not have it", call.id)
        })?;
        check(call.ends == 0 && !call.cancelled, || format!("call {} was granted after its end", call.id))?;
        check(call.kept.is_none(), || format!("call {} was granted calls that had been given back", call.id))?;
        check(call.granted < upto && upto <= call.demand.count, || {
            format!("call {} was granted {upto} after {} of {}", call.id, call.granted, call.demand.count)
        })?;
        call.granted = upto;
        Ok(())
    }

    pub(super) fn started(&self, call: &CallRecord) -> Checked {
        let idempotent = METHODS[call.method].info().is_idempotent();
        let repeated = idempotent && call.demand.count == 1;
        check(repeated || call.starts <= 1, || format!("call {} was started twice, and is not idempotent", call.id))
    }

    /// Counts the replies that the core has to drop.
    pub(super) fn delivered(&mut self, call: &CallRecord, from: NodeId, attempt: u32, count: u32) {
        let open = call.ends == 0 && !call.cancelled;
        if !open || call.current != Some((from, attempt)) {
            // Of a batch that it has shortened, a node has no more calls than it has kept.
            self.late += u64::from(count.clamp(1, call.kept.unwrap_or(call.demand.count)));
        }
    }

    /// A batch is shortened once only, and never to nothing.
    pub(super) fn shortened(&mut self, call: &mut CallRecord, kept: u32) -> Checked {
        check(call.ends == 0 && !call.cancelled, || format!("call {} was shortened after its end", call.id))?;
        check(call.kept.is_none(), || format!("call {} was shortened twice", call.id))?;
        check((1..call.demand.count).contains(&kept), || format!("call {} was shortened to {kept}", call.id))?;
        check(kept <= call.granted, || format!("call {} kept {kept} of {} that were granted", call.id, call.granted))?;
        call.kept = Some(kept);
        Ok(())
    }

    pub(super) fn late(&self, counted: u64) -> Checked {
        check(counted == self.late, || format!("{} late replies, and {counted} were counted", self.late))
    }

    /// A call ends once only, and its result is true.
    pub(super) fn ended(
        &mut self,
        now: Time,
        call: &mut CallRecord,
        end: &Result<CallAnswer, CallError>,
        failed_attempts: &[FailedAttempt],
        hosts: &BTreeSet<IpAddr>,
    ) -> Checked {
        call.ends += 1;
        check(call.ends == 1, || format!("call {} ended twice", call.id))?;
        check(!call.cancelled, || format!("call {} ended after it was cancelled", call.id))?;
        call.lost.clear();
        call.lost_on.clear();
        call.failed_runs = 0;
        let mut last = 0;
        for FailedAttempt { attempt, node, cause, .. } in failed_attempts {
            check(*attempt > last, || format!("call {} lists its attempts out of order", call.id))?;
            last = *attempt;
            call.failed_runs += u32::from(!matches!(cause, Cause::Refused(_)));
            if let Cause::Lost(reason) = cause {
                call.lost.push(node.id);
                call.lost_on.push(node.addr.ip());
                let lives = !self.gone.contains(&node.id) && !matches!(reason, GoneReason::Violation(_));
                check(!lives, || format!("call {} is reported as lost on {node}, which lives", call.id))?;
                // Attempts of a batch may be listed too.
                let whole = call.handle.whole.borrow().contains(attempt);
                check(whole || call.failed_attempts.iter().any(|own| own.attempt == *attempt), || {
                    format!("call {} is reported as lost on {node}, which never got all of it", call.id)
                })?;
            }
        }
        match end {
            Ok(ended) => self.answered(call, ended),
            Err(error) => {
                // The calls of a lost batch are made again one by one, if they may be repeated.
                let method = METHODS[call.method].info();
                let lost = matches!(error, CallError::NodeLost { .. });
                let again = lost && call.demand.count > 1 && method.is_idempotent() && call.demand.node.is_none();
                let cancelled = matches!(error, CallError::Cancelled { .. });
                self.failed += if again || cancelled { 0 } else { u64::from(call.kept.unwrap_or(call.demand.count)) };
                self.failed(now, call, error, hosts)
            }
        }
    }

    fn answered(&mut self, call: &CallRecord, ended: &CallAnswer) -> Checked {
        // The calls of a batch that panicked are made again one by one, if that is wanted and they may be repeated.
        let reply = &ended.reply;
        let again = call.demand.retry_panics
            && METHODS[call.method].info().is_idempotent()
            && call.demand.node.is_none()
            && call.demand.count > 1
            && matches!(reply.outcome, Outcome::Value);
        self.answered += u64::from(if again { reply.count - reply.panicked.min(reply.count) } else { reply.count });
        check((1..=call.demand.count).contains(&ended.reply.count), || {
            "more calls were answered than made".to_owned()
        })?;
        let Some((node, attempt)) = call.current else {
            return Err("a call that was never sent was answered".to_owned());
        };
        let mut expected = call.id.0.to_le_bytes().to_vec();
        expected.extend_from_slice(&attempt.to_le_bytes());
        check(ended.reply.payload.clone().into_bytes() == expected, || {
            format!("call {} got the answer of another attempt", call.id)
        })?;
        check(ended.node.id == node, || "an answer names the wrong node".to_owned())?;
        check(matches!(ended.reply.outcome, Outcome::Value | Outcome::Error), || {
            "something that is not an answer ended a call as answered".to_owned()
        })?;
        check(call.starts > 0, || "a call that was never started was answered".to_owned())
    }

    fn failed(&self, now: Time, call: &CallRecord, error: &CallError, hosts: &BTreeSet<IpAddr>) -> Checked {
        let served = !hosts.is_empty();
        let idempotent = METHODS[call.method].info().is_idempotent();
        match error.execution() {
            Execution::NotRun => {
                check(call.starts == 0, || format!("call {} ended as not run, but was started: {error}", call.id))?;
            }
            Execution::Ran => {
                check(call.completed > 0, || format!("call {} ended as run, but was not: {error}", call.id))?
            }
            Execution::MayHaveRun => {
                // An attempt of which a part was written is written completely while the connection lives, so it may
                // still run.
                let sent = match error {
                    CallError::TimedOut { .. } | CallError::Cancelled { .. } | CallError::Shutdown { .. } => {
                        call.handle.begun.get() > 0
                    }
                    _ => call.handle.sent.get() > 0,
                };
                check(sent || !call.failed_attempts.is_empty(), || {
                    format!("call {} ended as maybe run, but was never sent: {error}", call.id)
                })?;
            }
        }
        let most = call.demand.attempts.unwrap_or(3);
        // Losses of its batch count only if the caller has set how often it may be sent.
        let before =
            call.failed_attempts.iter().filter(|failed_attempt| matches!(failed_attempt.cause, Cause::Lost(_))).count();
        let spared = if call.demand.attempts.is_some() { 0 } else { before as u32 };
        match error {
            CallError::TimedOut { timeout, .. } => {
                check(now >= call.submitted + *timeout, || format!("call {} timed out too soon", call.id))
            }
            CallError::NodeLost { .. } => {
                check(!call.lost.is_empty(), || format!("call {} ended as lost, but no node was lost", call.id))?;
                // The calls of a batch after these are reported as not run.
                let lost = call.kept.unwrap_or(call.demand.count);
                let batch = call.demand.count > 1;
                check(!batch || lost <= call.granted, || {
                    format!("{lost} calls of {} are lost, of which {} were granted", call.id, call.granted)
                })?;
                check(!batch || call.misreported || call.begun <= lost, || {
                    format!("{} calls of {} were started, and {lost} are reported as lost", call.begun, call.id)
                })?;
                let has_yielded = call.handle.has_yielded.get();
                let final_loss = !idempotent
                    || batch
                    || has_yielded
                    || call.demand.node.is_some()
                    || call.failed_runs >= most + spared
                    || !served;
                check(final_loss, || format!("call {} could have been sent again: {error}", call.id))
            }
            CallError::Panicked { .. } => {
                let is_final = !call.demand.retry_panics
                    || !idempotent
                    || call.handle.has_yielded.get()
                    || call.demand.count > 1
                    || call.demand.node.is_some()
                    || call.failed_runs >= most + spared
                    || !served;
                check(is_final, || format!("the panic of call {} could have been tried on another node", call.id))
            }
            CallError::Poisoned { nodes, .. } => {
                check(nodes.len() >= 3 + before, || format!("call {} is poisoned by {} nodes", call.id, nodes.len()))?;
                let own = &call.lost_on[before..];
                let poisonous: BTreeSet<IpAddr> = own.iter().copied().collect();
                let others = hosts.difference(&poisonous).count();
                check(poisonous.len() >= 3 || others == 0 || own.len() >= 10, || {
                    format!("call {} is poisoned by {poisonous:?}, although other hosts serve it", call.id)
                })
            }
            CallError::NoNode { .. } if call.demand.node.is_none() => {
                let waited = now.saturating_sub(call.submitted) >= self.no_node_timeout;
                check(waited, || format!("call {} did not wait long enough for a node", call.id))
            }
            CallError::Overloaded { limit_of, .. } => {
                let is_limited = call.nested_in.is_none() && !call.demand.exempt_from_limits;
                check(is_limited, || format!("call {} was refused, and does not count: {error}", call.id))?;
                check(*limit_of == LimitOf::Master || call.demand.caller != CallerId::MASTER, || {
                    format!("call {} of the master itself met the limit of a caller", call.id)
                })
            }
            CallError::Cancelled { .. } => {
                // It may also have been cancelled with an attempt of the call that made it, which was lost.
                let with_maker = !call.is_detached && (call.is_doomed || call.nested_in.is_some());
                let is_wanted = call.ended_by_admin || with_maker;
                check(is_wanted, || format!("call {} was cancelled, and what made it is not gone", call.id))
            }
            CallError::Incompatible { .. } => {
                let same =
                    |at: &usize| METHODS[*at].info().name().service() == METHODS[call.method].info().name().service();
                check((0..METHODS.len()).filter(same).count() > 1, || {
                    "the only method of a service is incompatible".to_owned()
                })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn before_tick(&mut self, now: Time) {
        if now - self.last_tick > HEARTBEAT {
            self.stall_grace = now;
        }
        self.last_tick = now;
        self.gone_before.clone_from(&self.gone);
    }

    /// Only nodes that are silent or violate the protocol are disconnected, and not if the master itself was stalled.
    pub(super) fn cut_off(
        &mut self,
        now: Time,
        last_tick: Time,
        nodes: &[SimulatedNode],
        at: usize,
        reason: &GoneReason,
    ) -> Checked {
        if matches!(reason, GoneReason::Violation(_)) {
            self.misbehaved.insert(nodes[at].id);
            return Ok(());
        }
        if matches!(reason, GoneReason::Kicked) {
            self.misbehaved.insert(nodes[at].id);
            return check(nodes[at].kicked, || format!("{} was kicked, and nobody wanted that", nodes[at].id));
        }
        if matches!(reason, GoneReason::Replaced) {
            self.misbehaved.insert(nodes[at].id);
            let again = nodes[at + 1..].iter().any(|node| node.instance == nodes[at].instance);
            return check(again, || format!("{} was replaced, but its process has not registered again", nodes[at].id));
        }
        let silence = |node: &SimulatedNode| {
            let joined = self.joined.get(&node.id).copied().unwrap_or_default();
            now.saturating_sub(node.link.heard().max(joined).max(self.stall_grace))
        };
        let window = HEARTBEAT * GONE_AFTER;
        let silent = silence(&nodes[at]);
        check(silent >= window, || format!("{} was disconnected after {silent:?} of silence", nodes[at].id))?;
        check(last_tick.is_zero() || now - last_tick <= HEARTBEAT, || {
            "a node was disconnected right after the master was stalled".to_owned()
        })?;
        // Nodes that this tick disconnects have left the registry one by one, but still count.
        let here = |node: &&SimulatedNode| {
            !self.misbehaved.contains(&node.id)
                && !self.absent.contains(&node.id)
                && (!node.gone || !self.gone_before.contains(&node.id))
        };
        let total = nodes.iter().filter(here).count();
        let quiet = nodes.iter().filter(here).filter(|node| silence(node) >= HEARTBEAT * 3).count();
        let most = total >= 3 && quiet * 2 > total;
        check(!most || silent >= window * 2, || {
            format!("{quiet} of {total} fell silent together, and one was disconnected after {silent:?}")
        })
    }

    pub(super) fn event(&mut self, now: Time, event: &NodeEvent) -> Checked {
        self.ejected.retain(|_, until| *until > now);
        let state = |node: &NodeIdentity| self.states.get(&node.id).copied();
        match event {
            NodeEvent::Suspect { node, silent_for } => {
                check(state(node) == Some(NodeState::Alive), || format!("{node} is suspect, but was not alive"))?;
                check(*silent_for >= HEARTBEAT * 3, || format!("{node} is suspect after {silent_for:?}"))?;
                self.states.insert(node.id, NodeState::Suspect);
            }
            NodeEvent::Recovered { node } => {
                check(state(node) == Some(NodeState::Suspect), || format!("{node} recovered, but was not suspect"))?;
                self.states.insert(node.id, NodeState::Alive);
            }
            NodeEvent::Disconnected { node, .. } => {
                check(state(node).is_some(), || format!("{node} was disconnected, but was not registered"))?;
                self.absent.insert(node.id);
                if state(node) != Some(NodeState::Draining) {
                    self.states.insert(node.id, NodeState::Disconnected);
                }
            }
            NodeEvent::Resumed { node, .. } => {
                check(state(node).is_some(), || format!("{node} resumed, but was not registered"))?;
                self.absent.remove(&node.id);
                if state(node) != Some(NodeState::Draining) {
                    self.states.insert(node.id, NodeState::Alive);
                }
            }
            NodeEvent::Gone { node, .. } => {
                check(self.gone.insert(node.id), || format!("{node} is gone twice"))?;
                self.states.remove(&node.id);
            }
            NodeEvent::Ejected { node, rest, .. } => {
                check(!self.ejected.contains_key(&node.id), || format!("{node} was ejected while it was ejected"))?;
                self.ejected.insert(node.id, now + *rest);
            }
            NodeEvent::Restored { node } => {
                check(!self.ejected.contains_key(&node.id), || format!("{node} was restored while it was ejected"))?;
            }
            NodeEvent::Cordoned { .. } | NodeEvent::Uncordoned { .. } => {}
            NodeEvent::Present { .. }
            | NodeEvent::Joined { .. }
            | NodeEvent::Draining { .. }
            | NodeEvent::Missed(_) => {}
        }
        Ok(())
    }

    /// At the end, after all faults are over.
    pub(super) fn all_ended(&self, calls: &[CallRecord], stats: Stats) -> Checked {
        for call in calls {
            check(call.ends == u32::from(!call.cancelled), || format!("call {} ended {} times", call.id, call.ends))?;
        }
        check(stats.queued == 0 && stats.in_flight == 0, || format!("something is left: {stats:?}"))?;
        let counted = (stats.answered, stats.failed, stats.late);
        let known = (self.answered, self.failed, self.late);
        check(counted == known, || format!("answered, failed and late: {known:?}, and counted {counted:?}"))
    }
}
