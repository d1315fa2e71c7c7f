//! The calls that have not ended, by id.
//!
//! There are many small tables, and these do not hold the calls themselves. A table that grows moves all its entries.
//! With a single table of a million calls, that would hold the core's lock for hundreds of milliseconds.
//!
//! Beside the tables, the ids are kept in the order of submission, so that the calls of all callers can be listed from the
//! oldest on. Those of batches are kept in their own order too, so that the batch that a call is part of can be found.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, Hasher},
    ops::Bound,
};

use super::{call::CallEntry, host::Host};
use crate::{hash::mix, id::CallId};

/// The number of tables. With a million calls, each has some thousand, and grows in tens of microseconds.
const SHARDS: usize = 512;

/// A number that no call gets. It is always in the order, because a map that gets empty with each single call gives its
/// memory back, and takes it again with the next one.
const NO_CALL: u64 = u64::MAX;

pub(super) struct Calls<H: Host> {
    /// Callers elsewhere choose a part of their ids, so the hash depends on a number that they do not know.
    shards: Vec<HashMap<CallId, Box<CallEntry<H>>, SeededHash>>,
    seed: SeededHash,
    /// All their ids by their numbers, which count the calls in the order of submission. Behind them is [`NO_CALL`].
    order: BTreeMap<u64, CallId>,
    /// The ids of batches.
    batches: BTreeSet<CallId>,
}

impl<H: Host> Calls<H> {
    pub(super) fn new(seed: u64) -> Self {
        let seed = SeededHash(seed);
        let shards = (0..SHARDS).map(|_| HashMap::with_hasher(seed)).collect();
        Self { shards, seed, order: BTreeMap::from([(NO_CALL, CallId(u64::MAX))]), batches: BTreeSet::new() }
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
        self.order.insert(call.number, id);
        if call.demand.count > 1 {
            self.batches.insert(id);
        }
        self.shards[shard].insert(id, Box::new(call));
    }

    pub(super) fn remove(&mut self, id: &CallId) -> Option<Box<CallEntry<H>>> {
        let shard = self.shard(*id);
        let call = self.shards[shard].remove(id)?;
        self.order.remove(&call.number);
        if call.demand.count > 1 {
            self.batches.remove(id);
        }
        Some(call)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len() - 1
    }

    /// The calls that were submitted after the one with this number, the oldest first.
    pub(super) fn after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, CallId)> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        // Not as the end of the range: a range that begins behind its end panics, and anybody may ask for what comes after
        // the last number.
        self.order
            .range((from, Bound::Unbounded))
            .map(|(number, id)| (*number, *id))
            .take_while(|(at, _)| *at != NO_CALL)
    }

    /// The batch that this id is in: the last one with the same id or an earlier one, if it is long enough.
    pub(super) fn batch_with(&self, id: CallId) -> Option<(CallId, &CallEntry<H>)> {
        let first = *self.batches.range(..=id).next_back()?;
        let call = self.get(&first)?;
        (id.0 - first.0 < u64::from(call.demand.count)).then_some((first, call))
    }

    /// Checks that the ids in order, and those of batches, are those in the tables.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn check_order(&self) -> Result<(), String> {
        let listed = self.shards.iter().map(HashMap::len).sum::<usize>();
        let is_at = |(number, id)| self.get(&id).is_some_and(|call| call.number == number);
        let batches = self.iter().filter(|(_, call)| call.demand.count > 1);
        let are_batches_right =
            batches.clone().count() == self.batches.len() && batches.clone().all(|(id, _)| self.batches.contains(id));
        let is_right = listed == self.len() && self.after(None).all(is_at) && are_batches_right;
        if is_right { Ok(()) } else { Err("the order of the calls is wrong".to_owned()) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CallId, &CallEntry<H>)> + Clone {
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
