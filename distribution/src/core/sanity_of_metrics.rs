//! Checks that what is counted adds up.

use super::{host::Host, state::Core};
use crate::administration::CallMetrics;

impl<H: Host> Core<H> {
    /// Checks that callers, together, have as many calls that ended as the totals say, and that each attempt that was sent to a
    /// node has ended or is there.
    pub(super) fn check_metrics(&self) -> Result<(), String> {
        let (gone_nodes, gone_callers) = self.gone_metrics();
        let sum = |all: &mut dyn Iterator<Item = CallMetrics>| {
            let mut sum = CallMetrics::default();
            all.for_each(|one| sum.add(&one));
            sum
        };
        let callers = self.callers_with_calls().into_iter().filter_map(|caller| self.caller_metrics(caller));
        let by_caller = sum(&mut callers.chain([gone_callers]));
        let ended = self.stats.answered + self.stats.failed + self.stats.cancelled;
        if by_caller.outcomes.all() != ended {
            return Err(format!("{ended} calls have ended, and callers count {:?}", by_caller.outcomes));
        }
        let nodes = self.registry.nodes().filter_map(|node| node.counters.as_deref()).map(|counters| counters.view());
        let by_node = sum(&mut nodes.chain([gone_nodes]));
        if by_node.in_queue.count != by_node.sent || by_caller.sent != by_node.sent {
            return Err(format!("{} were sent by callers and {} to nodes", by_caller.sent, by_node.sent));
        }
        match by_node.outcomes.all() <= by_node.sent {
            true => Ok(()),
            false => Err(format!("{} were sent, and {:?} have ended", by_node.sent, by_node.outcomes)),
        }
    }
}
