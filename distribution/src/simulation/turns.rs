//! Callers of a simulated cluster take turns: what must hold of the order in which calls are taken.
//!
//! The rules look at calls that wait for any node, without labels or anything else that decides where they can go. All of
//! these of one method wait for the same, so each that is taken could have been any other.

use super::{
    cluster::SimulatedCluster,
    model::{CallRecord, METHODS},
};
use crate::id::CallerId;

impl CallRecord {
    /// Whether it has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.ends == 0 && !self.cancelled
    }

    /// Whether it has never been sent and can go wherever others of its method can.
    fn is_plain(&self) -> bool {
        let demand = &self.demand;
        self.current.is_none()
            && self.failed_attempts.is_empty()
            && demand.node.is_none()
            && demand.labels.is_none()
            && demand.affinity.is_none()
            && demand.hedge_of.is_none()
    }

    pub(super) fn service(&self) -> &'static str {
        METHODS[self.method].info().name().service()
    }
}

impl SimulatedCluster {
    /// How many turns the caller of a new call has to take before it: those for the calls that it has made in this service
    /// since none of its calls there waited.
    pub(super) fn turns_ahead(&mut self, caller: CallerId, service: &'static str) -> usize {
        let waits = |call: &CallRecord| {
            call.demand.caller == caller
                && call.service() == service
                && call.is_open()
                && call.nested_in.is_none()
                && self.core.node_of(call.id).is_none()
        };
        let is_first = !self.calls.iter().any(waits);
        let made = self.made_since_idle.entry((caller, service)).or_default();
        if is_first {
            *made = 0;
        }
        *made += 1;
        *made - 1
    }

    /// A call is sent. Calls of its caller that were made before are not left behind; those of each other caller are
    /// overtaken at most once for each turn that this other caller has to take before; and a nested call is not left behind
    /// by a call that came after it was begun.
    pub(super) fn check_order(&mut self, at: usize) -> Result<(), String> {
        let CallRecord { id, method, nested_in, .. } = self.calls[at];
        if !self.calls[at].is_plain() || nested_in.is_some() {
            return Ok(());
        }
        let caller = self.calls[at].demand.caller;
        for other in 0..self.calls.len() {
            let waiting = &self.calls[other];
            if other == at || waiting.method != method || !waiting.is_plain() || !waiting.is_open() {
                continue;
            }
            if let Some(parent) = waiting.nested_in {
                let parent = &self.calls[parent];
                // The places of calls of different services cannot be compared.
                let same_service = parent.service() == waiting.service();
                let begun = if same_service { parent.first_sent.unwrap_or(usize::MAX) } else { other };
                if at >= begun {
                    return Err(format!("call {id} was sent before {}, a part of one begun earlier", waiting.id));
                }
            } else if other < at && waiting.demand.caller == caller {
                return Err(format!("call {id} was sent before {}, which its caller made earlier", waiting.id));
            } else if other < at {
                let waiting = &mut self.calls[other];
                let times = waiting.overtaken.entry(caller).or_default();
                *times += 1;
                if *times > waiting.turns_ahead {
                    let (id, ahead) = (waiting.id, waiting.turns_ahead);
                    return Err(format!(
                        "call {id} was overtaken {times} times by calls of {caller:?}, with {ahead} turns before it"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What was to be cancelled with its caller, or with the call that made it, has ended unless work is left over.
    pub(super) fn check_doomed(&self) -> Result<(), String> {
        let left = self.calls.iter().find(|call| call.is_doomed && call.is_open());
        match left {
            Some(call) if !self.core.next_tick().is_zero() => {
                Err(format!("call {} goes on, although what made it is gone", call.id))
            }
            _ => Ok(()),
        }
    }

    /// The handler of a call has ended early: the calls that it has made are to be cancelled.
    pub(super) fn doom_nested(&mut self, parent: usize) {
        for call in &mut self.calls {
            if call.nested_in == Some(parent) && call.is_open() && !call.is_detached {
                call.is_doomed = true;
            }
        }
    }
}
