//! What a caller watches: how many calls of a method can run. `.distribute()` sizes its batches by it.

use std::{collections::HashMap, sync::Arc};

use crate::{
    master::shared::Shared,
    service::{dispatcher::Capacity, method::MethodId, options::Labels},
    wire::{Control, WatchedCapacity, connection_state::ConnectionState},
};

/// The most methods, each with labels, that a caller may watch at a time.
const MOST_WATCHES: usize = 256;

/// What one caller watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_id: HashMap<u32, Watch>,
}

#[derive(Debug)]
struct Watch {
    method: MethodId,
    labels: Labels,
    /// What the caller was told last.
    told: Option<WatchedCapacity>,
}

impl Watches {
    /// The caller watches a method.
    ///
    /// # Errors
    ///
    /// If it watches too many: the reason why the connection is closed.
    pub(super) fn watch(&mut self, id: u32, method: MethodId, labels: Labels) -> Result<(), String> {
        self.by_id.insert(id, Watch { method, labels, told: None });
        match self.by_id.len() > MOST_WATCHES {
            true => Err(format!("it watches more than {MOST_WATCHES} methods at a time")),
            false => Ok(()),
        }
    }

    pub(super) fn unwatch(&mut self, id: u32) {
        self.by_id.remove(&id);
    }

    /// Tells the caller what has changed since it was told last.
    pub(super) fn tell(&mut self, shared: &Arc<Shared>, state: &ConnectionState) {
        for (id, watch) in &mut self.by_id {
            watch.tell(*id, shared, state);
        }
    }

    /// The same of one watch, which is new.
    pub(super) fn tell_one(&mut self, id: u32, shared: &Arc<Shared>, state: &ConnectionState) {
        if let Some(watch) = self.by_id.get_mut(&id) {
            watch.tell(id, shared, state);
        }
    }
}

impl Watch {
    fn tell(&mut self, id: u32, shared: &Arc<Shared>, state: &ConnectionState) {
        let capacity = told(shared.capacity_of(self.method, &self.labels));
        if self.told != Some(capacity) {
            self.told = Some(capacity);
            state.send(Control::Capacity { watch: id, capacity });
        }
    }
}

fn told(capacity: Capacity) -> WatchedCapacity {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let Capacity { nodes, slots, free, compute, is_known: _ } = capacity;
    WatchedCapacity { nodes: number(nodes), slots: number(slots), free: number(free), compute }
}
