//! Calls that failed, grouped by method, kind of error and message.

use std::{
    hash::{Hash, Hasher},
    mem::discriminant,
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHasher};

use super::{
    call::CallEntry,
    host::{Host, Time},
};
use crate::{
    error::CallError,
    id::{CallId, CallerId},
    service::method::{MethodId, MethodInfo},
};

/// How many groups are remembered.
const MOST_GROUPS: usize = 256;

/// The groups. The time in them is that of the last tick, which is exact enough for people.
#[derive(Debug, Default)]
pub(super) struct FailureGroups {
    groups: FxHashMap<Key, Group>,
    pub(super) now: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    method: MethodId,
    kind: &'static str,
    /// A hash of what tells errors of one kind apart.
    detail: u64,
}

/// A group of failed calls.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) method: Arc<MethodInfo>,
    pub(crate) kind: &'static str,
    /// The last error whose text was made; that is done once in each tick.
    pub(crate) message: Arc<str>,
    pub(crate) call: CallId,
    pub(crate) caller: CallerId,
    pub(crate) count: u64,
    pub(crate) first: Time,
    pub(crate) last: Time,
}

impl FailureGroups {
    pub(super) fn on_failure<H: Host>(&mut self, id: CallId, call: &CallEntry<H>, error: &CallError) {
        self.add(id, call, kind_of(error), call.count(), || error.to_string());
    }

    /// This many calls of a batch have panicked.
    pub(super) fn on_panics_in_batch<H: Host>(&mut self, id: CallId, call: &CallEntry<H>, panicked: u32) {
        self.add(id, call, ("panicked in a batch", 0), panicked, || {
            let all = call.count();
            format!("{panicked} of {all} calls of a batch panicked; their callers have the messages")
        });
    }

    fn add<H: Host>(
        &mut self,
        id: CallId,
        call: &CallEntry<H>,
        (kind, detail): (&'static str, u64),
        count: u32,
        message: impl FnOnce() -> String,
    ) {
        let key = Key { method: call.method.id(), kind, detail };
        let (count, now) = (u64::from(count), self.now);
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += count;
            if group.last < now {
                (group.last, group.call, group.caller) = (now, id, call.demand.caller);
                group.message = message().into();
            }
            return;
        }
        if self.groups.len() == MOST_GROUPS {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.last).map(|(key, _)| *key);
            self.groups.remove(&oldest.unwrap_or(key));
        }
        let message = message().into();
        let (method, caller) = (Arc::clone(&call.method), call.demand.caller);
        self.groups.insert(key, Group { method, kind, message, call: id, caller, count, first: now, last: now });
    }
}

impl FailureGroups {
    /// All groups, in any order.
    pub(super) fn all(&self) -> Vec<Group> {
        self.groups.values().cloned().collect()
    }

    /// Who made the calls that the groups show.
    pub(super) fn callers(&self) -> impl Iterator<Item = CallerId> {
        self.groups.values().map(|group| group.caller)
    }
}

/// The kind of an error in words, and a hash of what tells errors of that kind apart.
fn kind_of(error: &CallError) -> (&'static str, u64) {
    let hashed = |text: &str| {
        let mut hasher = FxHasher::default();
        text.hash(&mut hasher);
        hasher.finish()
    };
    match error {
        CallError::Panicked { message, .. } => ("panicked", hashed(message)),
        CallError::NodeLost { reason, .. } => ("node lost", {
            let mut hasher = FxHasher::default();
            discriminant(reason).hash(&mut hasher);
            hasher.finish()
        }),
        CallError::Poisoned { .. } => ("poisoned", 0),
        CallError::NoNode { .. } => ("no node", 0),
        CallError::Overloaded { limit_of, unit, .. } => ("overloaded", hashed(&format!("{limit_of} {unit}"))),
        CallError::TimedOut { .. } => ("timed out", 0),
        CallError::TooLarge { .. } => ("too large", 0),
        CallError::Incompatible { .. } => ("incompatible", 0),
        CallError::Encode { .. } => ("cannot be encoded", 0),
        CallError::Decode { .. } => ("cannot be decoded", 0),
        CallError::Shutdown { .. } => ("shut down", 0),
        CallError::TooDeep { .. } => ("nested too deep", 0),
        _ => ("failed otherwise", 0),
    }
}
