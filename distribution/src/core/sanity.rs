//! What must hold of the core after every event, found out the slow way: by counting it all anew.

use std::collections::BTreeMap;

use super::{Core, Host, Stage, Time, Timer};
use crate::{service::method::MethodKind, view::NodeState};

impl<H: Host> Core<H> {
    /// Recounts what the core keeps books of.
    ///
    /// # Errors
    ///
    /// The first thing that is not as it must be.
    pub(crate) fn sanity_check(&self, now: Time) -> Result<(), String> {
        self.registry.sanity_check()?;
        let mut waiting = 0;
        let mut bytes = 0;
        let mut backing_off = 0;
        for (id, call) in &self.calls {
            match call.stage {
                Stage::Between => return Err(format!("call {id} is nowhere")),
                Stage::Queued(seq) => {
                    waiting += 1;
                    bytes += call.demand.size;
                    let queued = match call.target {
                        Some(node) => self.registry.node(node).and_then(|node| node.waiting.get(&seq)),
                        None => {
                            let key = (call.method.id(), call.demand.labels.clone());
                            self.queues.get(&key).and_then(|queue| queue.calls.get(&seq))
                        }
                    };
                    if queued != Some(id) {
                        return Err(format!("call {id} is not in the queue that it says it is in"));
                    }
                    self.waits_for_good_reason(call).map_err(|node| {
                        format!("call {id} ({}) waits while {node} has a free slot", call.method.name())
                    })?;
                }
                Stage::BackingOff(until) => {
                    backing_off += 1;
                    if !self.timers.contains(&(until, *id, Timer::Retry)) {
                        return Err(format!("call {id} backs off and no timer ends that"));
                    }
                }
                Stage::InFlight(node) => {
                    let booked =
                        self.registry.node(node).is_some_and(|node| node.in_flight.contains_key(&(*id, call.attempt)));
                    if !booked {
                        return Err(format!("call {id} is in flight and not in the books of its node"));
                    }
                }
            }
            if let Some(deadline) = call.deadline() {
                if !self.timers.contains(&(deadline, *id, Timer::Deadline)) {
                    return Err(format!("call {id} has a deadline and no timer"));
                }
            }
        }
        let queued: usize = self.queues.values().map(|queue| queue.calls.len()).sum();
        let targeted: usize = self.registry.nodes().map(|node| node.waiting.len()).sum();
        let books = [
            ("waiting", self.waiting, waiting),
            ("in queues", self.waiting, queued + targeted),
            ("bytes waiting", self.waiting_bytes, bytes),
            ("backing off", self.backing_off, backing_off),
        ];
        for (what, kept, counted) in books {
            if kept != counted {
                return Err(format!("{what}: {kept} in the books, {counted} counted"));
            }
        }
        for (at, id, timer) in &self.timers {
            if !self.calls.contains_key(id) {
                return Err(format!("a timer ({timer:?} at {at:?}) is for call {id}, which has ended"));
            }
        }
        for ((method, labels), queue) in &self.queues {
            if queue.calls.is_empty() {
                return Err("an empty queue is kept".to_owned());
            }
            if queue.unserved.is_some() != (self.registry.serving(*method, labels) == 0) {
                return Err("a queue is wrong about being served".to_owned());
            }
        }
        let _ = now;
        Ok(())
    }

    /// That no node could take the queued call; else the name of one that could.
    fn waits_for_good_reason(&self, call: &super::CallEntry<H>) -> Result<(), String> {
        let avoid = self.to_avoid(call);
        for node in self.registry.nodes() {
            let id = node.identity.id;
            if call.target.is_some_and(|target| target != id)
                || avoid.contains(&id)
                || !node.has_labels(&call.demand.labels)
            {
                continue;
            }
            let Some(kind) = self.registry.kind_on(id, call.method.id()) else { continue };
            if node.state == NodeState::Alive && node.has_free_slot(kind) {
                return Err(node.identity.to_string());
            }
        }
        Ok(())
    }

    /// Whether any call has a deadline that has passed; to be asked after a tick.
    pub(crate) fn overdue(&self, now: Time) -> Option<String> {
        let late = self.calls.iter().find(|(_, call)| call.deadline().is_some_and(|deadline| deadline <= now));
        late.map(|(id, _)| format!("call {id} has outlived its deadline"))
    }
}

impl<H: Host> super::Registry<H> {
    fn sanity_check(&self) -> Result<(), String> {
        let mut in_flight = 0;
        for node in self.nodes() {
            let name = &node.identity;
            let mut counts = [0u32; 2];
            for entry in node.in_flight.values() {
                counts[entry.kind as usize] += 1;
            }
            in_flight += node.in_flight.values().map(|booking| booking.count as usize).sum::<usize>();
            if counts != node.counts() {
                return Err(format!("{name}: slots taken {:?} in the books, {counts:?} counted", node.counts()));
            }
            if node.expected_backlog() != node.backlog() {
                return Err(format!(
                    "{name}: its backlog is {:?}, and {:?} counted",
                    node.backlog(),
                    node.expected_backlog()
                ));
            }
            if node.state == NodeState::Draining && !node.waiting.is_empty() {
                return Err(format!("{name} is leaving, and calls wait for it"));
            }
            for kind in [MethodKind::Compute, MethodKind::Async] {
                if self.is_ready(node, kind) != node.takes(kind, std::time::Duration::ZERO) {
                    return Err(format!("{name}: the index is wrong about whether it takes {kind:?} calls"));
                }
            }
        }
        if in_flight != self.in_flight {
            return Err(format!("in flight: {} in the books, {in_flight} counted", self.in_flight));
        }
        self.check_groups(&self.nodes().fold(BTreeMap::new(), |mut serving, node| {
            *serving.entry(node.group()).or_insert(0) += usize::from(node.state != NodeState::Draining);
            serving
        }))
    }
}
