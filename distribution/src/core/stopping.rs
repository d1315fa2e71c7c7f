//! Calls that have ended while their handler runs: the node was told to stop it, and has not answered yet.
//!
//! A handler may notice that it was cancelled, or not. Until it returns, it holds its slot; so such a call stays listed,
//! and a handler that goes on for long is reported.

use std::{sync::Arc, time::Duration};

use super::{
    call::{CallEntry, CallLocation},
    effect::{Effect, Effects},
    host::{Host, HostCall as _, Time},
    state::{Core, Timer},
    stopping_calls::StoppingCall,
};
use crate::{
    id::{CallId, NodeId},
    wire::frame::layout::LARGEST_WHOLE_PAYLOAD,
};

/// A handler that goes on for this long after it was told to stop is reported.
const OVERDUE_AFTER: Duration = Duration::from_secs(10);

impl<H: Host> Core<H> {
    /// Tells the node that has the call, if one has, that it has ended.
    pub(super) fn stop(&mut self, now: Time, id: CallId, call: &CallEntry<H>, effects: &mut Effects<H>) {
        let CallLocation::InFlight(node) = call.location else { return };
        // If the attempt is not written yet, it will not be, and the link reports that. It may wait long for its next chunk, so
        // that it has to be told.
        let is_withdrawn = call.handle.withdraw(call.attempt);
        if is_withdrawn && call.demand.size <= LARGEST_WHOLE_PAYLOAD {
            return;
        }
        let Some(link) = self.registry.node(node).map(|node| node.link.clone()) else { return };
        effects.push(Effect::Cancel { link, id, attempt: call.attempt });
        if is_withdrawn {
            return;
        }
        self.stopping.insert(
            id,
            StoppingCall {
                method: Arc::clone(&call.method),
                node,
                attempt: call.attempt,
                number: call.number,
                made: call.made(),
                since: now,
                size: call.demand.size,
                metadata: call.handle.metadata(),
                trace: call.handle.trace(),
                _held: call.handle.held(),
                count: call.count(),
                failed_attempts: call.failed_attempts.len() as u32,
            },
        );
        self.timers.insert((now + OVERDUE_AFTER, Timer::Overdue(id)));
    }

    /// An attempt has ended, or its node is gone.
    pub(super) fn note_stopped(&mut self, id: CallId, node: NodeId, attempt: u32) {
        if let Some(call) = self.stopping.remove(id, node, attempt) {
            self.timers.remove(&(call.since + OVERDUE_AFTER, Timer::Overdue(id)));
        }
    }

    /// A handler goes on although it was told to stop long ago.
    pub(super) fn report_overdue(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        let Some(call) = self.stopping.get(id) else { return };
        self.stats.overdue += 1;
        if let Some(node) = self.identity_of(call.node) {
            let stopping_for = now.saturating_sub(call.since);
            effects.push(Effect::ReportOverdue { node, method: Arc::clone(&call.method), id, stopping_for });
        }
    }
}
