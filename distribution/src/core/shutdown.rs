//! How a master ends its calls: those that wait first, all others once their time is up. And calls that a panic has left
//! behind.

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
    /// Takes no more calls, and ends some of those that wait; `false` once none is left.
    pub(crate) fn on_shutdown(&mut self, effects: &mut Effects<H>) -> bool {
        self.shutting_down = true;
        let mut walk = std::mem::take(&mut self.end_waiting);
        let is_left = self.end_some(&mut walk, effects, |location| !matches!(location, CallLocation::InFlight(_)));
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
    fn end_some(
        &mut self,
        walk: &mut CallCursor,
        effects: &mut Effects<H>,
        which: impl Fn(&CallLocation) -> bool,
    ) -> bool {
        // Each makes an error with texts of its own, and frees what it had in an order that suits no allocator.
        for _ in 0..self.settings.slice.div_ceil(4) {
            let Some(id) = walk.next(&self.calls) else { return false };
            if self.calls.get(&id).is_some_and(|call| which(&call.location)) {
                self.end_with(id, effects, shutdown_error);
            }
        }
        true
    }

    /// Calls that an event which did not come to its end has left nowhere: in no queue and on no node.
    pub(crate) fn stranded_calls(&self) -> Vec<CallId> {
        let is_stranded = |id: CallId, call: &CallEntry<H>| match call.location {
            CallLocation::Unplaced => true,
            CallLocation::InFlight(node) => {
                self.registry.booked(node, id, call.attempt) == 0 && !self.departed.contains_key(&node)
            }
            CallLocation::Queued(_) | CallLocation::BackingOff(_) => false,
        };
        self.calls.iter().filter(|(id, call)| is_stranded(**id, call)).map(|(id, _)| *id).collect()
    }

    /// Ends such a call, of which nobody knows how far it came.
    pub(crate) fn on_call_stranded(&mut self, id: CallId, effects: &mut Effects<H>) {
        let execution = Execution::MayHaveRun;
        self.end_with(id, effects, |call| CallError::Shutdown { method: call.method.name().clone(), execution });
    }
}
