//! Queries: they do not change anything, apart from filling views.

use super::{host::Host, state::Core};
use crate::{
    id::CallerId,
    service::{dispatcher::Capacity, method::MethodId, options::Labels},
};

impl<H: Host> Core<H> {
    /// Calls that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.calls.len()
    }

    /// The caller that has the most calls which wait and count towards the limits of the queue, how many these are, and how many
    /// there are of all callers.
    pub(crate) fn fullest_caller(&self) -> (CallerId, usize, usize) {
        let others: usize = self.queues.limited_of.values().map(|share| share.calls).sum();
        let own = (CallerId::MASTER, self.queues.limited.calls.saturating_sub(others));
        let shares = self.queues.limited_of.iter().map(|(caller, share)| (*caller, share.calls));
        let (caller, calls) = shares.chain([own]).max_by_key(|(caller, calls)| (*calls, *caller)).unwrap_or(own);
        (caller, calls, self.queues.limited.calls)
    }

    /// Nodes that are registered.
    pub(crate) fn node_count(&self) -> usize {
        self.registry.len()
    }

    /// Nodes that get new calls.
    pub(crate) fn alive(&self) -> usize {
        self.registry.alive
    }

    /// How many nodes serve all of these methods and are not draining.
    pub(crate) fn serving_all(&self, methods: &[MethodId]) -> usize {
        self.registry.serving_all(methods)
    }

    /// Where calls of this method can go.
    pub(crate) fn capacity(&mut self, method: MethodId, labels: &Labels) -> Capacity {
        if let Some(labels) = labels {
            self.prepare_views(method, labels);
        }
        self.registry.capacity(method, labels)
    }
}
