//! The calls that have not ended, by id.
//!
//! There are many small tables, and these do not hold the calls themselves. A table that grows moves all its entries.
//! With a single table of a million calls, that would hold the core's lock for hundreds of milliseconds.

use rustc_hash::FxHashMap;

use super::{call::CallEntry, host::Host};
use crate::{hash::mix, id::CallId};

/// The number of tables. With a million calls, each has some thousand, and grows in tens of microseconds.
const SHARDS: usize = 512;

pub(super) struct Calls<H: Host> {
    /// The master makes the ids, so a fast hash is safe.
    shards: Vec<FxHashMap<CallId, Box<CallEntry<H>>>>,
    count: usize,
}

impl<H: Host> Calls<H> {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| FxHashMap::default()).collect(), count: 0 }
    }

    /// A batch uses many ids and is stored under the first, so that ids may have regular gaps. Mixed, they still spread
    /// evenly.
    fn shard(id: CallId) -> usize {
        (mix(id.0) % SHARDS as u64) as usize
    }

    pub(super) fn get(&self, id: &CallId) -> Option<&CallEntry<H>> {
        self.shards[Self::shard(*id)].get(id).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: &CallId) -> Option<&mut CallEntry<H>> {
        self.shards[Self::shard(*id)].get_mut(id).map(Box::as_mut)
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn contains(&self, id: &CallId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn insert(&mut self, id: CallId, call: CallEntry<H>) {
        let before = self.shards[Self::shard(id)].insert(id, Box::new(call));
        self.count += usize::from(before.is_none());
    }

    pub(super) fn remove(&mut self, id: &CallId) -> Option<Box<CallEntry<H>>> {
        let call = self.shards[Self::shard(*id)].remove(id)?;
        self.count -= 1;
        Some(call)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CallId, &CallEntry<H>)> {
        self.shards.iter().flatten().map(|(id, call)| (id, &**call))
    }
}

/// A cursor over all calls that can stop anywhere and go on later. Calls that are added meanwhile may be missed.
#[derive(Debug, Default)]
pub(super) struct CallCursor {
    /// The table that comes next.
    shard: usize,
    /// What is left of the current table.
    ids: Vec<CallId>,
}

impl CallCursor {
    /// The next call, which may have ended meanwhile. `None` once all were visited.
    pub(super) fn next<H: Host>(&mut self, calls: &Calls<H>) -> Option<CallId> {
        while self.ids.is_empty() {
            self.ids.extend(calls.shards.get(self.shard)?.keys());
            self.shard += 1;
        }
        self.ids.pop()
    }
}
