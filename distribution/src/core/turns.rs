//! Callers take turns: how a call gets its place in the order in which the calls of a service are taken.
//!
//! This is start-time fair queueing. A call gets a turn when it is first queued: the one after its caller's last turn, or
//! after the service's *virtual time* if that is later. The virtual time is the latest turn of a call that was taken from a
//! queue. So the calls of a caller that makes many of them get one turn after the other, and the call of a caller that has
//! nothing waiting gets the next turn. Calls of one caller keep the order in which they were made.
//!
//! A call that finds a free slot at once gets no turn of its own: it counts as taken at the virtual time. A nested call
//! takes the turn of the call that made it, before all others with that turn: what was begun is finished first.
//!
//! Turns are counted by service and not by method, because a node compares the calls of all methods of a service. With turns
//! by method, a caller would get more of them with each method that it uses.

use rustc_hash::FxHashMap;

use super::queue_ids::{Seq, ServiceId};
use crate::id::CallerId;

/// The number of a turn.
pub(super) type Turn = u64;

/// Where a place has its turn, doubled. The bits below are the order in which calls were submitted, so that no two calls
/// have the same place.
const TURN_SHIFT: u32 = 64;

/// The virtual time at first. Not zero, so that there is a place before it, for what calls make that were taken then.
const FIRST: Turn = 1;

/// The turns of all callers.
#[derive(Debug, Default)]
pub(super) struct CallerTurns {
    services: Vec<ServiceTurns>,
}

#[derive(Debug)]
struct ServiceTurns {
    virtual_time: Turn,
    /// The calls of the master's own process, which most masters have no others beside.
    own: WaitingLine,
    /// Callers that have calls in queues. A caller without any is forgotten: its next call gets the turn after the virtual
    /// time, as that of a new caller. The master makes the ids of callers, so a fast hash is safe.
    others: FxHashMap<CallerId, WaitingLine>,
}

impl Default for ServiceTurns {
    fn default() -> Self {
        Self { virtual_time: FIRST, own: WaitingLine::default(), others: FxHashMap::default() }
    }
}

/// The calls of one caller in the queues of one service, except nested calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitingLine {
    /// The last turn of a call that was queued since none waited.
    pub(super) last: Turn,
    pub(super) waiting: usize,
}

impl CallerTurns {
    fn service(&mut self, service: ServiceId) -> &mut ServiceTurns {
        let at = service.0 as usize;
        if at >= self.services.len() {
            self.services.resize_with(at + 1, ServiceTurns::default);
        }
        &mut self.services[at]
    }

    pub(super) fn virtual_time(&self, service: ServiceId) -> Turn {
        self.services.get(service.0 as usize).map_or(FIRST, |turns| turns.virtual_time)
    }

    /// The place of a call that is not queued, so that it goes before all calls that are queued from now on if it is queued
    /// after all.
    pub(super) fn place_of_taken(&self, service: ServiceId, number: u64) -> Seq {
        place(self.virtual_time(service) * 2, number)
    }

    /// The place of a call that was made by another one. Places of different services cannot be compared, so the child of a
    /// call of another service counts as taken now.
    pub(super) fn place_of_nested(&self, service: ServiceId, number: u64, parent: (ServiceId, Seq)) -> Seq {
        let doubled = match parent {
            (of, seq) if of == service => (seq >> TURN_SHIFT) as u64,
            _ => self.virtual_time(service) * 2,
        };
        // Roots have even numbers.
        place(if doubled % 2 == 0 { doubled.saturating_sub(1) } else { doubled }, number)
    }

    /// The place of a call that is queued for the first time.
    pub(super) fn next_place(&self, service: ServiceId, caller: CallerId, number: u64) -> Seq {
        let turns = self.services.get(service.0 as usize);
        let last = turns.and_then(|turns| turns.line(caller)).map_or(0, |line| line.last);
        place((last.max(self.virtual_time(service)) + 1) * 2, number)
    }

    /// A call that is not nested is in a queue now. It may have been in another one before, with the same place.
    pub(super) fn on_queued(&mut self, service: ServiceId, caller: CallerId, seq: Seq) {
        let line = self.service(service).line_mut(caller);
        line.waiting += 1;
        line.last = line.last.max(turn_of(seq));
    }

    /// It is not any more. The turns of calls that left without being taken are not counted once none is left.
    pub(super) fn on_unqueued(&mut self, service: ServiceId, caller: CallerId) {
        let turns = self.service(service);
        let line = turns.line_mut(caller);
        line.waiting -= 1;
        if line.waiting == 0 {
            *line = WaitingLine::default();
            turns.others.remove(&caller);
        }
    }

    /// A call with this place was taken from a queue.
    pub(super) fn on_taken(&mut self, service: ServiceId, seq: Seq) {
        let turns = self.service(service);
        turns.virtual_time = turns.virtual_time.max(turn_of(seq));
    }

    /// All callers that have calls in queues.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn lines(&self) -> impl Iterator<Item = ((ServiceId, CallerId), WaitingLine)> {
        let services = self.services.iter().enumerate();
        services.flat_map(|(at, turns)| {
            let own = (turns.own != WaitingLine::default()).then_some((CallerId::MASTER, turns.own));
            let others = turns.others.iter().map(|(caller, line)| (*caller, *line));
            own.into_iter().chain(others).map(move |(caller, line)| ((ServiceId(at as u32), caller), line))
        })
    }
}

impl ServiceTurns {
    fn line(&self, caller: CallerId) -> Option<&WaitingLine> {
        if caller == CallerId::MASTER { Some(&self.own) } else { self.others.get(&caller) }
    }

    fn line_mut(&mut self, caller: CallerId) -> &mut WaitingLine {
        if caller == CallerId::MASTER { &mut self.own } else { self.others.entry(caller).or_default() }
    }
}

fn place(doubled: u64, number: u64) -> Seq {
    Seq::from(doubled) << TURN_SHIFT | Seq::from(number)
}

/// The turn of a place, also of a nested call.
pub(super) fn turn_of(seq: Seq) -> Turn {
    ((seq >> TURN_SHIFT) as u64).div_ceil(2)
}
