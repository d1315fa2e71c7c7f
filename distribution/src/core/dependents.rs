//! Calls that end with what made them: those of a caller that is gone, and nested calls whose parent was cancelled, timed
//! out, or was lost with its node.
//!
//! A caller may have made a million calls, so they end in slices. Nobody may be left to hear of it, but a handler that
//! made a nested call may still wait for it. So each of these calls ends with an error, and its node is told.

use std::collections::BTreeSet;

use super::{
    call::execution_so_far,
    deferred::DeferredTask,
    effect::{Effect, Effects},
    host::{Host, Time},
    state::Core,
};
use crate::{
    error::CallError,
    id::{CallId, CallerId},
};

const FIRST_CALL: CallId = CallId(u64::MIN);
const LAST_CALL: CallId = CallId(u64::MAX);

/// Which calls end with what. Calls that were detached are not listed.
#[derive(Debug, Default)]
pub(super) struct Dependents {
    /// The calls of callers in other processes.
    of_callers: BTreeSet<(CallerId, CallId)>,
    /// Nested calls, by the call that made them and in the order of submission: ids of different callers have no order.
    of_calls: BTreeSet<(CallId, u64, CallId)>,
}

impl Dependents {
    /// Adds a call of this caller, made by the handler of that call. `number` is its place in the order of submission.
    pub(super) fn insert(&mut self, id: CallId, number: u64, caller: CallerId, parent: Option<CallId>) {
        if caller != CallerId::MASTER {
            self.of_callers.insert((caller, id));
        }
        if let Some(parent) = parent {
            self.of_calls.insert((parent, number, id));
        }
    }

    pub(super) fn remove(&mut self, id: CallId, number: u64, caller: CallerId, parent: Option<CallId>) {
        if caller != CallerId::MASTER {
            self.of_callers.remove(&(caller, id));
        }
        if let Some(parent) = parent {
            self.of_calls.remove(&(parent, number, id));
        }
    }

    fn first_of_caller(&self, caller: CallerId) -> Option<CallId> {
        self.of_callers.range((caller, FIRST_CALL)..=(caller, LAST_CALL)).next().map(|(_, id)| *id)
    }

    /// The first nested call of this one that was made before that one.
    fn first_of_call(&self, parent: CallId, before: u64) -> Option<CallId> {
        self.of_calls.range((parent, 0, FIRST_CALL)..(parent, before, FIRST_CALL)).next().map(|(.., id)| *id)
    }

    /// All calls that are listed, for the sanity check.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn listed(&self) -> (&BTreeSet<(CallerId, CallId)>, &BTreeSet<(CallId, u64, CallId)>) {
        (&self.of_callers, &self.of_calls)
    }
}

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
    pub(super) fn cancel_calls_of(&mut self, caller: CallerId, budget: &mut usize, effects: &mut Effects<H>) {
        while let Some(id) = self.dependents.first_of_caller(caller) {
            if *budget == 0 {
                self.deferred.push_front(DeferredTask::CancelCallsOf(caller));
                return;
            }
            *budget -= 1;
            self.cancel_dependent(id, effects);
        }
    }

    /// Cancels nested calls, as many as the budget allows.
    pub(super) fn cancel_nested(&mut self, parent: CallId, before: u64, budget: &mut usize, effects: &mut Effects<H>) {
        while let Some(id) = self.dependents.first_of_call(parent, before) {
            if *budget == 0 {
                self.deferred.push_front(DeferredTask::CancelNested { parent, before });
                return;
            }
            *budget -= 1;
            self.cancel_dependent(id, effects);
        }
    }

    fn cancel_dependent(&mut self, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.remove(id) else { return };
        self.stats.cancelled += u64::from(call.count());
        let error = CallError::Cancelled { call: call.method.name().into(), execution: execution_so_far(&call) };
        effects.push(Effect::End {
            call: call.handle.clone(),
            end: Err(error.with_id(Some(id))),
            failed_attempts: call.failed_attempts.clone(),
        });
        self.stop(id, call, effects);
        self.defer_nested(id);
    }
}
