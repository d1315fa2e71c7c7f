//! What nodes report about the attempts that they were sent.

use super::{
    effect::{AttemptEnd, CallAnswer, Effect, Effects},
    host::{Host, HostCall as _, Time},
    state::Core,
};
use crate::{
    error::{CallError, Execution, GoneReason, Part},
    failed_attempt::{Cause, FailedAttempt},
    id::{CallId, NodeId},
    service::outcome,
    text::{LONGEST, in_lines, in_one_line},
    wire::{Outcome, Refusal, Reply},
};

/// Of one batch, at most this many failed calls count as failures of the node.
const MOST_NOTED: u32 = 8;

/// A call that nodes have given back more often than this counts as refused.
const MOST_RETURNS: u32 = 10;

impl<H: Host> Core<H> {
    /// A node will not start more than the first `kept` calls of a batch.
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
        // Only once, and not the whole batch: the node still answers the calls that it has started, and these are no
        // more than it was granted.
        if call.kept.is_none() && (1..call.demand.count).contains(&kept) && kept <= call.granted {
            self.called.keep(call, kept);
            effects.push(Effect::Shorten { call: call.handle.clone(), kept });
            self.count_given_back(node, (id, attempt), kept);
        }
    }

    /// An attempt has ended. The reply says how many calls of a batch were started.
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
            // The peer says this number.
            reply.count = reply.count.clamp(1, self.registry.calls_in_flight(node, id, attempt).max(1));
            count = if ran { reply.count } else { 0 };
        }
        let Some(ended) = self.registry.end(now, node, (id, attempt), count) else { return };
        let took = now.saturating_sub(ended.sent);
        self.note_stopped(id, node, attempt);
        let call = self.calls.get(&id).filter(|call| call.is_on(node, attempt));
        let is_current = call.is_some();
        if let AttemptEnd::Replied(reply) = &mut attempted {
            // The peer says this time, and it affects where other calls go. The calls of a batch run one after the
            // other.
            reply.run = reply.run.min(took);
            // Of a batch that was shortened, the other calls are made again.
            reply.count = reply.count.min(call.map_or(u32::MAX, |call| call.count().max(1)));
            let caller = call.map(|call| call.demand.caller);
            self.count_answer(now, node, &ended, (&*reply, ran), caller);
        } else {
            self.count_unsent(node, &ended);
        }
        if is_current {
            match attempted {
                AttemptEnd::Replied(reply) => self.replied(now, node, id, reply, effects),
                AttemptEnd::NotSent => self.requeue(now, id, effects),
                // Nobody waits for it.
                AttemptEnd::ArgumentsGone => self.end_with(id, effects, |call| CallError::Shutdown {
                    call: call.method.name().into(),
                    execution: Execution::MayHaveRun,
                }),
                AttemptEnd::TooLarge { .. } if self.may_try_elsewhere(node, id, effects) => {
                    self.requeue(now, id, effects)
                }
                AttemptEnd::TooLarge { size, limit } => {
                    self.end_with(id, effects, |call| CallError::TooLarge {
                        call: call.method.name().into(),
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

    /// Whether this attempt on this node is the one that the call waits for.
    pub(super) fn is_current(&self, call: CallId, node: NodeId, attempt: u32) -> bool {
        self.calls.get(&call).is_some_and(|entry| entry.is_on(node, attempt))
    }

    /// Notes that this node cannot take the call, and says whether another node may.
    fn may_try_elsewhere(&mut self, node: NodeId, id: CallId, effects: &mut Effects<H>) -> bool {
        let Some(identity) = self.registry.node(node).map(|node| node.identity.clone()) else { return false };
        let Some(call) = self.calls.get_mut(&id) else { return false };
        let cause = Cause::Refused("does not accept arguments of that size");
        call.note_failed(FailedAttempt { attempt: call.attempt, node: identity, source: None, cause }, effects);
        self.calls.get(&id).is_some_and(|call| !call.is_targeted() && self.has_alternative(call))
    }

    fn replied(&mut self, now: Time, node: NodeId, id: CallId, reply: Reply, effects: &mut Effects<H>) {
        let Some((identity, source)) = self.registry.node(node).map(|node| (node.identity.clone(), node.source)) else {
            return;
        };
        let Some(call) = self.calls.get(&id) else { return };
        let method = call.method.id();
        let failure = outcome::failure(call.method.name(), &identity, &reply.outcome);
        let may_panic_elsewhere = call.demand.retry_panics && call.method.is_idempotent() && call.demand.count == 1;
        match &reply.outcome {
            Outcome::Value | Outcome::Error => {
                // Of a batch, as many failures as make a difference, and one success if any call succeeded.
                for _ in 0..reply.panicked.min(reply.count).min(MOST_NOTED) {
                    self.note_failure(now, node, method, effects);
                }
                if reply.panicked < reply.count {
                    self.note_success(node, method, effects);
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
        if let Some(error) = failure {
            return self.end_with(id, effects, |_| error);
        }
        match reply.outcome {
            Outcome::Refused(_) if self.calls.get(&id).is_some_and(|call| !call.handle.can_be_repeated()) => {
                let reason = GoneReason::Violation("refused a call whose stream it had begun".into());
                self.lost(now, id, (&identity, source), &reason, effects);
            }
            Outcome::Refused(_) if self.calls.get(&id).is_some_and(|call| call.kept.is_some()) => {
                let reason = GoneReason::Violation("refused a batch after it had kept some of its calls".into());
                self.lost(now, id, (&identity, source), &reason, effects);
            }
            Outcome::Value | Outcome::Error => {
                self.note_run_time(method, reply.run_of_each());
                if let Some(call) = self.remove(id) {
                    self.count_reply(id, &call, &reply);
                    let ended = CallAnswer {
                        reply,
                        node: identity,
                        attempts: call.attempts(),
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
                self.refused(now, id, identity, "is full", effects);
            }
            Outcome::Refused(Refusal::Draining) => self.refused(now, id, identity, "is leaving", effects),
            Outcome::Refused(Refusal::Ended) => {
                self.refused(now, id, identity, "has lost the runtime of its async handlers", effects);
            }
            Outcome::Lost(why) => {
                let reason = GoneReason::Dropped(in_one_line(&why, LONGEST).into());
                self.lost(now, id, (&identity, source), &reason, effects);
            }
            Outcome::Refused(Refusal::Returned | Refusal::NotReceived) => {
                let times = self.calls.get_mut(&id).map_or(0, |call| {
                    call.returned += 1;
                    call.returned
                });
                // A node could say this without end.
                if times > MOST_RETURNS {
                    self.refused(now, id, identity, "gave it back too often", effects);
                } else {
                    self.requeue(now, id, effects);
                }
            }
            // `outcome::failure` has made an error of all others.
            _ => {
                // With a deadline, the node has stopped the call by its own clock, which may be slightly ahead of ours.
                let has_deadline = self.calls.get(&id).is_some_and(|call| call.demand.timeout.is_some());
                if has_deadline {
                    self.time_out(now, id, effects);
                } else {
                    let reason = GoneReason::Violation("stopped a call that nobody had cancelled".into());
                    self.lost(now, id, (&identity, source), &reason, effects);
                }
            }
        }
    }
}
