//! How a master ends its calls: first those that wait, later all others. And how it ends calls that a panic has
//! stranded.

use super::{
    call::{CallEntry, CallLocation, shutdown_error},
    calls::CallCursor,
    effect::Effects,
    host::Host,
    state::Core,
};
use crate::{
    error::{CallError, Execution},
    id::CallId,
};

impl<H: Host> Core<H> {
    /// The master shuts down: takes no more calls, and ends some of those that wait. To be repeated until it returns
    /// `false`.
    pub(crate) fn on_shutdown(&mut self, effects: &mut Effects<H>) -> bool {
        self.shutting_down = true;
        let mut cursor = std::mem::take(&mut self.end_waiting);
        let is_left = self.end_some(&mut cursor, effects, |location| !matches!(location, CallLocation::InFlight(_)));
        self.end_waiting = cursor;
        is_left
    }

    /// The time for calls in flight is over: ends some of all calls that are left. To be repeated until it returns
    /// `false`.
    pub(crate) fn on_shutdown_timeout(&mut self, effects: &mut Effects<H>) -> bool {
        self.shutting_down = true;
        let mut cursor = std::mem::take(&mut self.end_all);
        let is_left = self.end_some(&mut cursor, effects, |_| true);
        self.end_all = cursor;
        is_left
    }

    /// Goes on from where the cursor is. Calls that are submitted meanwhile are ended at once, so no call is missed.
    fn end_some(
        &mut self,
        cursor: &mut CallCursor,
        effects: &mut Effects<H>,
        which: impl Fn(&CallLocation) -> bool,
    ) -> bool {
        // Fewer than a slice: each call gets an error with texts of its own and frees its memory, which takes longer
        // than other work.
        for _ in 0..self.settings.slice.div_ceil(4) {
            let Some(id) = cursor.next(&self.calls) else { return false };
            if self.calls.get(&id).is_some_and(|call| which(&call.location)) {
                self.end_with(id, effects, shutdown_error);
            }
        }
        true
    }

    /// Calls that a panic in an event has left in no queue and on no node.
    pub(crate) fn stranded_calls(&self) -> Vec<CallId> {
        let is_stranded = |id: CallId, call: &CallEntry<H>| match call.location {
            CallLocation::Unplaced => true,
            CallLocation::InFlight(node) => {
                self.registry.calls_in_flight(node, id, call.attempt) == 0 && !self.departed.contains_key(&node)
            }
            CallLocation::Queued(_) | CallLocation::BackingOff(_) => false,
        };
        self.calls.iter().filter(|(id, call)| is_stranded(**id, call)).map(|(id, _)| *id).collect()
    }

    /// A call is stranded. Ends it; nobody knows whether it ran.
    pub(crate) fn on_call_stranded(&mut self, id: CallId, effects: &mut Effects<H>) {
        let execution = Execution::MayHaveRun;
        self.end_with(id, effects, |call| CallError::Shutdown { call: call.method.name().into(), execution });
    }
}
