//! Checks what is told about calls: each call is listed once, in order, and what it waits for is true.

use std::collections::BTreeMap;

use super::{
    availability::Availability,
    call::CallLocation,
    called_methods::Tally,
    host::{Host, Time},
    queues::Scope,
    state::Core,
};
use crate::{administration::CallFilter, id::CallId, service::method::MethodId};

type Checked = Result<(), String>;

impl<H: Host> Core<H> {
    /// Lists all calls as an administrator does, and looks at all nodes to find out why they wait.
    pub(super) fn check_listing(&self) -> Checked {
        self.check_places()?;
        self.check_tallies()?;
        for (_, queue) in self.queues.iter().filter(|(_, queue)| queue.closed.is_none()) {
            let Scope::Any { labels, .. } = &queue.scope else { continue };
            let method = queue.method.id();
            if self.is_filling(method, labels) {
                continue;
            }
            let mut counted = Availability::default();
            let may_run = |node: &&_| self.registry.is_serving(node, method, labels);
            for node in self.registry.nodes().filter(may_run) {
                counted.count(node, queue.avoided());
            }
            let found = self.registry.availability(method, labels, queue.avoided());
            if !found.counts_as(&counted) {
                return Err(format!("calls are said to wait for {found:?}, and there are {counted:?}"));
            }
            if found.has_free_slot() && self.deferred.is_empty() {
                return Err(format!("calls are said to be placed, and nothing places them ({found:?})"));
            }
        }
        Ok(())
    }

    /// Counts the calls of each method again.
    fn check_tallies(&self) -> Checked {
        let mut counted: BTreeMap<MethodId, Tally> = BTreeMap::new();
        for (_, call) in self.calls.iter() {
            let tally = counted.entry(call.method.id()).or_default();
            match call.location {
                CallLocation::InFlight(_) => tally.running += call.count() as usize,
                _ => tally.waiting += call.count() as usize,
            }
        }
        for (method, tally) in self.called.iter() {
            let counted = counted.remove(&method.id()).unwrap_or_default();
            if tally != counted {
                return Err(format!("calls of {}: {tally:?} noted, {counted:?} counted", method.name()));
            }
        }
        if counted.is_empty() { Ok(()) } else { Err("a method was called and is not known".to_owned()) }
    }

    /// The place of a call in the order of submission.
    fn number(&self, id: CallId) -> Option<u64> {
        let number = self.calls.get(&id).map(|call| call.number);
        number.or_else(|| self.stopping.get(id).map(|call| call.number))
    }

    fn check_places(&self) -> Checked {
        let mut filter = CallFilter::default();
        let mut listed: Vec<u64> = Vec::new();
        loop {
            let slice = self.call_infos(Time::MAX, &filter, 5);
            if slice.calls.len() > 5 {
                return Err(format!("{} calls were listed at a time", slice.calls.len()));
            }
            listed.extend(slice.calls.iter().filter_map(|call| self.number(call.id)));
            if slice.last.is_none() {
                break;
            }
            filter.after = slice.last;
        }
        let all = self.calls.len() + self.stopping.iter().count();
        match listed.len() == all && listed.is_sorted_by(|one, next| one < next) {
            true => Ok(()),
            false => Err(format!(
                "{all} calls have not ended or are being stopped, and those with the numbers {listed:?} are listed"
            )),
        }
    }
}
