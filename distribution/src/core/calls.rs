//! The calls that have not ended, by id.
//!
//! There are many small tables, and these do not hold the calls themselves. A table that grows moves all its entries.
//! With a single table of a million calls, that would hold the core's lock for hundreds of milliseconds.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
};

use super::{call::CallEntry, host::Host};
use crate::{hash::mix, id::CallId};

/// The number of tables. With a million calls, each has some thousand, and grows in tens of microseconds.
const SHARDS: usize = 512;

pub(super) struct Calls<H: Host> {
    /// Callers elsewhere choose a part of their ids, so the hash depends on a number that they do not know.
    shards: Vec<HashMap<CallId, Box<CallEntry<H>>, SeededHash>>,
    seed: SeededHash,
    count: usize,
}

impl<H: Host> Calls<H> {
    pub(super) fn new(seed: u64) -> Self {
        let seed = SeededHash(seed);
        Self { shards: (0..SHARDS).map(|_| HashMap::with_hasher(seed)).collect(), seed, count: 0 }
    }

    /// A batch uses many ids and is stored under the first, so that ids may have regular gaps. Mixed, they still spread
    /// evenly.
    fn shard(&self, id: CallId) -> usize {
        // By the upper bits: a table takes its places from the lower ones.
        (mix(id.0 ^ self.seed.0) >> 32) as usize % SHARDS
    }

    pub(super) fn get(&self, id: &CallId) -> Option<&CallEntry<H>> {
        self.shards[self.shard(*id)].get(id).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: &CallId) -> Option<&mut CallEntry<H>> {
        let shard = self.shard(*id);
        self.shards[shard].get_mut(id).map(Box::as_mut)
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn contains(&self, id: &CallId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn insert(&mut self, id: CallId, call: CallEntry<H>) {
        let shard = self.shard(id);
        let before = self.shards[shard].insert(id, Box::new(call));
        self.count += usize::from(before.is_none());
    }

    pub(super) fn remove(&mut self, id: &CallId) -> Option<Box<CallEntry<H>>> {
        let shard = self.shard(*id);
        let call = self.shards[shard].remove(id)?;
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

/// A fast hash of ids that depends on a seed.
#[derive(Clone, Copy, Debug)]
struct SeededHash(u64);

impl BuildHasher for SeededHash {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

struct SeededHasher(u64);

impl Hasher for SeededHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
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
