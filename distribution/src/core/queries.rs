//! Queries: they do not change anything, apart from filling views.

use super::{host::Host, state::Core};
use crate::service::{dispatcher::Capacity, method::MethodId, options::Labels};

impl<H: Host> Core<H> {
    /// Calls that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.calls.len()
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
