//! What callers do, and how a call ends.

use std::{sync::Arc, time::Duration};

use super::{
    call::{CallEntry, CallLocation, Demand, last_failure, shutdown_error},
    counters::Ended,
    effect::{Effect, Effects},
    host::{Host, HostCall as _, Time},
    queue_ids::ServiceId,
    state::{Core, Timer},
};
use crate::{
    error::{CallError, CallStage, Execution},
    failed_attempt::{Cause, FailedAttempt},
    id::{CallId, NodeId, NodeIdentity},
    service::method::MethodInfo,
};

/// How deep calls may be nested, each made by the handler of the one before.
const MAX_NESTING: u32 = 256;

impl<H: Host> Core<H> {
    /// A caller has submitted a call. Returns its id; a batch uses as many ids as it has calls, starting with this one.
    /// `failed_attempts` are those of a batch that the call was part of.
    pub(crate) fn on_call_submitted(
        &mut self,
        now: Time,
        handle: H::Call,
        method: &Arc<MethodInfo>,
        mut demand: Demand,
        failed_attempts: Vec<FailedAttempt>,
        effects: &mut Effects<H>,
    ) -> CallId {
        let id = demand.id.unwrap_or_else(|| self.new_call_ids(demand.count));
        let number = self.submitted;
        self.submitted += 1;
        // It may have ended meanwhile, before its caller has seen that.
        let hedged = demand.hedge_of.and_then(|hedged| self.calls.get(&hedged.id));
        let hedged_on = hedged.and_then(|hedged| match hedged.location {
            CallLocation::InFlight(node) => Some(node),
            _ => None,
        });
        let hedged_sent = hedged.map_or(0, CallEntry::attempts);
        let elapsed = demand.hedge_of.map_or(Duration::ZERO, |hedged| hedged.elapsed);
        let submitted = now.saturating_sub(elapsed);
        let service = self.service_of(method);
        let caller_of = demand.parent.and_then(|parent| self.calls.get(&parent));
        let depth = caller_of.map_or(0, |caller| caller.depth.saturating_add(1));
        if let Some(deadline) = caller_of.and_then(CallEntry::deadline) {
            let left = deadline.saturating_sub(submitted);
            demand.timeout = Some(demand.timeout.map_or(left, |timeout| timeout.min(left)));
        }
        let parent = caller_of.map(|call| (call.service, call.seq));
        let seq = match parent {
            Some(parent) => self.queues.callers.place_of_nested(service, number, parent),
            None => self.queues.callers.place_of_taken(service, number),
        };
        let call = CallEntry {
            handle,
            method: Arc::clone(method),
            service,
            demand,
            submitted,
            queued: now,
            number,
            seq,
            has_turn: parent.is_some(),
            is_nested: parent.is_some(),
            is_detached: false,
            depth,
            location: CallLocation::Unplaced,
            hedged_on,
            hedged_sent,
            kept: None,
            granted: 0,
            attempt: failed_attempts.last().map_or(0, |failed_attempt| failed_attempt.attempt),
            sent: failed_attempts
                .iter()
                .map(|failed_attempt| u32::from(!matches!(failed_attempt.cause, Cause::Refused(_))))
                .sum(),
            in_batch: failed_attempts.len(),
            failed_attempts,
            returned: 0,
        };
        if let Some(deadline) = call.deadline() {
            self.timers.insert((deadline, Timer::Deadline(id)));
        }
        let was_sent = call.may_have_run();
        self.dependents.insert(id, call.number, call.demand.caller, call.parent());
        self.called.add(&call);
        self.books.on_call(call.demand.caller);
        self.calls.insert(id, call);
        if self.shutting_down {
            self.end_with(id, effects, shutdown_error);
        } else if depth > MAX_NESTING {
            self.end_with(id, effects, |call| CallError::TooDeep {
                call: call.method.name().into(),
                limit: MAX_NESTING,
            });
        } else if was_sent {
            // It was lost or panicked as part of a batch. Its first attempt on its own need not back off: the batch
            // itself is not repeated.
            if self.may_repeat(id, effects) {
                self.enqueue_or_place(now, id, effects);
            }
        } else {
            self.enqueue_or_place(now, id, effects);
            self.refuse_if_full(id, effects);
        }
        id
    }

    /// Ids for this many calls, one after the other, of which this is the first.
    pub(crate) fn new_call_ids(&mut self, count: u32) -> CallId {
        let first = CallId(self.next_call);
        self.next_call = self.next_call.wrapping_add(count.into());
        first
    }

    /// The service whose turns a call takes, found by the method's id and not by its name.
    fn service_of(&mut self, method: &Arc<MethodInfo>) -> ServiceId {
        if let Some(service) = self.called.service(method.id()) {
            return service;
        }
        let service = self.queues.service(method.name().service());
        self.called.insert(method, service);
        service
    }

    /// The caller does not want the call any more, and so nobody wants the calls that its handler has made.
    pub(crate) fn on_call_cancelled(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        if let Some(call) = self.remove(id) {
            self.count_end(&call, Ended::Cancelled, call.count());
            self.stop(now, id, &call, effects);
            self.defer_nested(id);
        }
    }

    /// Withdraws a call if it was never sent and no node serves it; otherwise returns `false`. The caller knows from
    /// another call like it that no node joined in time.
    pub(crate) fn take_back_unserved(&mut self, id: CallId) -> bool {
        let is_unserved = |call: &CallEntry<H>| {
            matches!(call.location, CallLocation::Queued(_))
                && call.attempt == 0
                && !self.registry.serves(call.method.id(), &call.demand.labels)
        };
        if !self.calls.get(&id).is_some_and(is_unserved) {
            return false;
        }
        if let Some(call) = self.remove(id) {
            self.count_end(&call, Ended::NotRun, call.count());
        }
        true
    }

    pub(super) fn time_out(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.remove(id) else { return };
        let stage = match &call.location {
            CallLocation::InFlight(node) if !call.handle.withdraw(call.attempt) => {
                self.identity_of(*node).map(CallStage::Sent)
            }
            _ => call.failed().next_back().map(|failed_attempt| CallStage::Retrying(failed_attempt.node.clone())),
        };
        let error = CallError::TimedOut {
            call: call.method.name().into(),
            timeout: call.demand.timeout.unwrap_or_default(),
            stage: stage.unwrap_or(CallStage::Queued),
        };
        self.count_failure(id, &call, &error);
        effects.push(Effect::End {
            call: call.handle.clone(),
            end: Err(error.with_id(Some(id))),
            failed_attempts: call.failed_attempts.clone(),
        });
        self.stop(now, id, &call, effects);
        self.defer_nested(id);
    }

    /// A node that has calls, whether it is still registered or not.
    pub(super) fn identity_of(&self, id: NodeId) -> Option<NodeIdentity> {
        let here = self.registry.node(id).map(|node| node.identity.clone());
        here.or_else(|| self.departed.get(&id).map(|departed| departed.identity.clone()))
    }

    pub(super) fn fail_target(&mut self, now: Time, id: CallId, wanted: String, effects: &mut Effects<H>) {
        self.end_with(id, effects, |call| CallError::NoNode {
            call: call.method.name().into(),
            wanted,
            waited: now.saturating_sub(call.submitted),
        });
    }

    /// Ends a call with an error, unless it has ended already.
    pub(super) fn end_with(
        &mut self,
        id: CallId,
        effects: &mut Effects<H>,
        error: impl FnOnce(&CallEntry<H>) -> CallError,
    ) {
        if let Some(call) = self.remove(id) {
            let mut error = error(&call);
            // Even if the last attempt did not run, an earlier one may have.
            if error.execution() == Execution::NotRun && call.may_have_run() {
                error = last_failure(&call);
            }
            self.count_failure(id, &call, &error);
            let end = Err(error.with_id(Some(id)));
            effects.push(Effect::End { call: call.handle, end, failed_attempts: call.failed_attempts });
        }
    }

    /// Removes a call. If a node has it, the attempt stays in flight there until the node answers.
    pub(super) fn remove(&mut self, id: CallId) -> Option<CallEntry<H>> {
        if matches!(self.calls.get(&id)?.location, CallLocation::Queued(_)) {
            self.unqueue(id);
        }
        let call = self.calls.remove(&id)?;
        self.dependents.remove(id, call.number, call.demand.caller, call.parent());
        self.called.remove(&call);
        if let CallLocation::BackingOff(until) = call.location {
            self.timers.remove(&(until, Timer::Retry(id)));
            self.backing_off -= 1;
        }
        if let Some(deadline) = call.deadline() {
            self.timers.remove(&(deadline, Timer::Deadline(id)));
        }
        Some(*call)
    }
}
