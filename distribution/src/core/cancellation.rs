//! Cancels calls together with what made them; see [`dependents`](super::dependents).
//!
//! A caller may have made a million calls, so they end in slices. Nobody may be left to hear of it, but a handler that
//! made a nested call may still wait for it. So each of these calls ends with an error, and its node is told.

use super::{
    call::execution_so_far,
    counters::Ended,
    deferred::DeferredTask,
    effect::{Effect, Effects},
    host::{Host, Time},
    state::Core,
};
use crate::{
    error::{CallError, ITS_MAKER},
    id::{CallId, CallerId},
};

impl<H: Host> Core<H> {
    /// A caller in another process is gone for good: cancels its calls, except those that were detached.
    pub(crate) fn on_caller_gone(&mut self, now: Time, caller: CallerId, effects: &mut Effects<H>) {
        self.deferred.push(DeferredTask::CancelCallsOf(caller));
        self.run_deferred(now, effects);
    }

    /// A call goes on without its caller, and without the call whose handler made it.
    pub(crate) fn on_call_detached(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.is_detached = true;
        let (number, caller, parent) = (call.number, call.demand.caller, call.parent());
        self.dependents.remove(id, number, caller, parent);
    }

    /// A call was cancelled, timed out, or was lost with its node: has the calls cancelled that its handler has made. A
    /// later attempt may make others.
    pub(super) fn defer_nested(&mut self, parent: CallId) {
        let before = self.submitted;
        if self.dependents.first_of_call(parent, before).is_some() {
            self.deferred.push(DeferredTask::CancelNested { parent, before });
        }
    }

    /// Cancels the calls of a caller, as many as the budget allows.
    pub(super) fn cancel_calls_of(
        &mut self,
        now: Time,
        caller: CallerId,
        budget: &mut usize,
        effects: &mut Effects<H>,
    ) {
        while let Some(id) = self.dependents.first_of_caller(caller) {
            if *budget == 0 {
                self.deferred.push_front(DeferredTask::CancelCallsOf(caller));
                return;
            }
            *budget -= 1;
            self.cancel_dependent(now, id, effects);
        }
        self.count_gone_caller(caller);
    }

    /// Cancels nested calls, as many as the budget allows.
    pub(super) fn cancel_nested(
        &mut self,
        now: Time,
        parent: CallId,
        before: u64,
        budget: &mut usize,
        effects: &mut Effects<H>,
    ) {
        while let Some(id) = self.dependents.first_of_call(parent, before) {
            if *budget == 0 {
                self.deferred.push_front(DeferredTask::CancelNested { parent, before });
                return;
            }
            *budget -= 1;
            self.cancel_dependent(now, id, effects);
        }
    }

    fn cancel_dependent(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.remove(id) else { return };
        self.count_end(&call, Ended::Cancelled, call.count());
        let error = CallError::Cancelled {
            call: call.method.name().into(),
            by: ITS_MAKER.into(),
            execution: execution_so_far(&call),
        };
        effects.push(Effect::End {
            call: call.handle.clone(),
            end: Err(error.with_id(Some(id))),
            failed_attempts: call.failed_attempts.clone(),
        });
        self.stop(now, id, &call, effects);
        self.defer_nested(id);
    }
}
