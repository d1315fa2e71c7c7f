//! Calls that end with what made them: those of a caller that is gone, and nested calls whose parent was cancelled, timed
//! out, or was lost with its node.

use std::collections::BTreeSet;

use crate::id::{CallId, CallerId};

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

    /// The first call of a caller.
    pub(super) fn first_of_caller(&self, caller: CallerId) -> Option<CallId> {
        self.of_callers.range((caller, FIRST_CALL)..=(caller, LAST_CALL)).next().map(|(_, id)| *id)
    }

    /// The first nested call of this one that was made before that one.
    pub(super) fn first_of_call(&self, parent: CallId, before: u64) -> Option<CallId> {
        self.of_calls.range((parent, 0, FIRST_CALL)..(parent, before, FIRST_CALL)).next().map(|(.., id)| *id)
    }

    /// All calls that are listed by caller, for the sanity check.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn of_callers(&self) -> &BTreeSet<(CallerId, CallId)> {
        &self.of_callers
    }

    /// All calls that are listed by the call that made them, for the sanity check.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn of_calls(&self) -> &BTreeSet<(CallId, u64, CallId)> {
        &self.of_calls
    }
}
