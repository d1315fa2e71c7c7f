//! The methods that were called, and how many of their calls wait and run.

use std::{mem, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    call::{CallEntry, CallLocation},
    counters::{Counters, Sent},
    host::Host,
    queue_ids::ServiceId,
};
use crate::{
    administration::CallMetrics,
    id::NodeId,
    service::method::{MethodId, MethodInfo},
};

/// How many methods that were called are remembered, beside those that have calls. Callers elsewhere may call ever new ones.
pub(super) const MOST_CALLED: usize = 4096;

/// How many of them are looked at to find one to forget.
const LOOKED_AT: usize = 64;

/// Methods that were called, each with its service and the number of its calls.
#[derive(Debug, Default)]
pub(super) struct CalledMethods {
    methods: FxHashMap<MethodId, CalledMethod>,
    /// How many were remembered so far.
    remembered: u64,
    /// What was counted of those that were forgotten.
    forgotten: CallMetrics,
}

#[derive(Debug)]
struct CalledMethod {
    info: Arc<MethodInfo>,
    service: ServiceId,
    tally: Tally,
    counters: Box<Counters>,
    /// How many were remembered before it.
    number: u64,
}

/// How many calls of a method there are. Each call of a batch counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) waiting: usize,
    pub(crate) running: usize,
}

impl Tally {
    /// The number that a call at this place counts in.
    fn at(&mut self, location: &CallLocation) -> &mut usize {
        if is_running(location) { &mut self.running } else { &mut self.waiting }
    }
}

fn is_running(location: &CallLocation) -> bool {
    matches!(location, CallLocation::InFlight(_))
}

impl CalledMethods {
    pub(super) fn insert(&mut self, info: &Arc<MethodInfo>, service: ServiceId) {
        if self.methods.len() >= MOST_CALLED {
            // Any of them that has no call: one that is called again is remembered again.
            let idle = self.methods.iter().take(LOOKED_AT).find(|(_, called)| called.tally == Tally::default());
            if let Some(idle) = idle.map(|(id, _)| *id) {
                let idle = self.methods.remove(&idle);
                idle.inspect(|idle| self.forgotten.add(&idle.counters.view()));
            }
        }
        let (info, tally, counters) = (Arc::clone(info), Tally::default(), Box::default());
        let number = self.remembered;
        self.remembered += 1;
        self.methods.insert(info.id(), CalledMethod { info, service, tally, counters, number });
    }

    /// The service of a method, if it was called before.
    pub(super) fn service(&self, method: MethodId) -> Option<ServiceId> {
        Some(self.methods.get(&method)?.service)
    }

    /// A method, if it was called.
    pub(super) fn info(&self, method: MethodId) -> Option<&Arc<MethodInfo>> {
        Some(&self.methods.get(&method)?.info)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.methods.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<MethodInfo>, Tally)> {
        self.methods.values().map(|called| (&called.info, called.tally))
    }

    /// Counts a call that is new.
    pub(super) fn add<H: Host>(&mut self, call: &CallEntry<H>) {
        if let Some(called) = self.methods.get_mut(&call.method.id()) {
            *called.tally.at(&call.location) += call.count() as usize;
        }
    }

    /// Counts a call no more.
    pub(super) fn remove<H: Host>(&mut self, call: &CallEntry<H>) {
        if let Some(called) = self.methods.get_mut(&call.method.id()) {
            *called.tally.at(&call.location) -= call.count() as usize;
        }
    }

    /// Moves a call from one place to another.
    pub(super) fn relocate<H: Host>(&mut self, call: &mut CallEntry<H>, to: CallLocation) {
        let from = mem::replace(&mut call.location, to);
        if is_running(&from) == is_running(&call.location) {
            return;
        }
        if let Some(called) = self.methods.get_mut(&call.method.id()) {
            *called.tally.at(&from) -= call.count() as usize;
            *called.tally.at(&call.location) += call.count() as usize;
        }
    }

    /// A call was sent to a node.
    pub(super) fn on_sent<H: Host>(&mut self, call: &mut CallEntry<H>, to: NodeId, sent: &Sent) {
        let from = mem::replace(&mut call.location, CallLocation::InFlight(to));
        if let Some(called) = self.methods.get_mut(&call.method.id()) {
            *called.tally.at(&from) -= call.count() as usize;
            *called.tally.at(&call.location) += call.count() as usize;
            called.counters.on_sent(sent);
        }
    }

    /// What is counted of a method's calls.
    pub(super) fn counters(&mut self, method: MethodId) -> Option<&mut Counters> {
        Some(&mut self.methods.get_mut(&method)?.counters)
    }

    /// The methods, in the order in which they were called first.
    pub(super) fn ids(&self) -> Vec<MethodId> {
        let mut ids: Vec<_> = self.methods.iter().map(|(id, called)| (called.number, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// What was counted of methods that were forgotten.
    pub(super) fn forgotten(&self) -> &CallMetrics {
        &self.forgotten
    }

    /// A method with the number of its calls, and all that was counted of them.
    pub(super) fn row(&self, method: MethodId) -> Option<(&Arc<MethodInfo>, Tally, &Counters)> {
        self.methods.get(&method).map(|called| (&called.info, called.tally, &*called.counters))
    }

    /// Shortens a batch to the calls that its node has kept.
    pub(super) fn keep<H: Host>(&mut self, call: &mut CallEntry<H>, kept: u32) {
        self.remove(call);
        call.kept = Some(kept);
        self.add(call);
    }
}
