//! A call as the core keeps it, and the errors that it can end with.

use std::{sync::Arc, time::Duration};

use super::{
    effect::{Effect, Effects},
    host::{Host, HostCall as _, Time},
    queue_ids::{QueueId, Seq, ServiceId},
    queues::Waiting,
};
use crate::{
    error::{CallError, Execution, GoneReason},
    failed_attempt::{Cause, FailedAttempt},
    id::{CallId, CallerId, NodeId, NodeIdentity},
    service::{
        method::MethodInfo,
        options::{Hedged, Labels},
    },
};

/// What the caller asks for.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// Who makes the call.
    pub(crate) caller: CallerId,
    /// The id that a caller elsewhere gave the call, among those that are its own.
    pub(crate) id: Option<CallId>,
    /// The call whose handler makes this one; for a call of a batch, the first one of the batch.
    pub(crate) parent: Option<CallId>,
    /// The number of calls: more than one for a batch, which is sent once and never repeated as a whole.
    pub(crate) count: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) node: Option<NodeId>,
    pub(crate) labels: Labels,
    /// Hash of the affinity key. Calls with the same key go to the same node.
    pub(crate) affinity: Option<u64>,
    /// The call that this one hedges. This one avoids its node, as long as there is another.
    pub(crate) hedge_of: Option<Hedged>,
    /// Whether it may wait even if the limits of the queue are reached, and does not count towards them: its caller
    /// makes no more calls until it has ended.
    pub(crate) exempt_from_limits: bool,
    /// How often it may be sent, if its method is idempotent.
    pub(crate) attempts: Option<u32>,
    /// Whether it is tried on another node after a panic, if its method is idempotent.
    pub(crate) retry_panics: bool,
    /// Bytes of its arguments.
    pub(crate) size: usize,
    /// Whether these are at its caller, and take no memory here.
    pub(crate) elsewhere: bool,
}

impl Demand {
    /// Bytes that it takes while it waits.
    pub(crate) fn held(&self) -> usize {
        if self.elsewhere { 0 } else { self.size }
    }
}

impl Default for Demand {
    /// One call without options and arguments.
    fn default() -> Self {
        Self {
            caller: CallerId::MASTER,
            id: None,
            parent: None,
            count: 1,
            timeout: None,
            node: None,
            labels: None,
            affinity: None,
            hedge_of: None,
            exempt_from_limits: false,
            attempts: None,
            retry_panics: false,
            size: 0,
            elsewhere: false,
        }
    }
}

/// Where a call is.
#[derive(Debug)]
pub(super) enum CallLocation {
    /// Not in a queue, and not on a node: it is being moved.
    Unplaced,
    /// In this queue.
    Queued(QueueId),
    /// It failed, and is queued again at this time.
    BackingOff(Time),
    /// This node has it.
    InFlight(NodeId),
}

pub(super) struct CallEntry<H: Host> {
    pub(super) handle: H::Call,
    pub(super) method: Arc<MethodInfo>,
    pub(super) service: ServiceId,
    pub(super) demand: Demand,
    /// When its caller submitted it: where it hedges another call, when that was submitted.
    pub(super) submitted: Time,
    /// When it was last queued. Its time to wait for a node begins there.
    pub(super) queued: Time,
    /// How many calls were submitted before it.
    pub(super) number: u64,
    /// The same for all attempts, so that a call that was lost goes before calls that were made later.
    pub(super) seq: Seq,
    /// Whether that is its place for good: it is nested, was sent, or was queued.
    pub(super) has_turn: bool,
    /// Whether a call made it that had not ended.
    pub(super) is_nested: bool,
    /// Whether it goes on without its caller, and without the call that made it.
    pub(super) is_detached: bool,
    /// How many calls it is nested in.
    pub(super) depth: u32,
    pub(super) location: CallLocation,
    /// The node where the call is that this one hedges.
    pub(super) hedged_on: Option<NodeId>,
    /// How often the call that this one hedges had been sent. For the caller both are one call.
    pub(super) hedged_sent: u32,
    /// How many calls of a batch the node has kept, if it has given back the others.
    pub(super) kept: Option<u32>,
    /// How many calls of a batch the node may have started. It was not allowed to start more.
    pub(super) granted: u32,
    /// How often it was given to a link.
    pub(super) attempt: u32,
    /// How often it was sent, without attempts that certainly did not start.
    pub(super) sent: u32,
    /// Its failed attempts, in order.
    pub(super) failed_attempts: Vec<FailedAttempt>,
    /// How many of these were attempts of a batch that it was part of.
    pub(super) in_batch: usize,
    /// How often a node gave it back.
    pub(super) returned: u32,
}

impl<H: Host> CallEntry<H> {
    /// Whether it waits for this attempt on this node.
    pub(super) fn is_on(&self, node: NodeId, attempt: u32) -> bool {
        self.attempt == attempt && matches!(self.location, CallLocation::InFlight(on) if on == node)
    }

    /// Notes that an attempt has failed.
    pub(super) fn note_failed(&mut self, failed_attempt: FailedAttempt, effects: &mut Effects<H>) {
        if self.handle.tells_attempts() {
            effects.push(Effect::TellFailed { call: self.handle.clone(), failed_attempt: failed_attempt.clone() });
        }
        self.failed_attempts.push(failed_attempt);
    }

    /// When its caller made it.
    pub(super) fn made(&self) -> Time {
        self.submitted.saturating_add(self.demand.hedge_of.map_or(Duration::ZERO, |hedged| hedged.elapsed))
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.demand.timeout.map(|timeout| self.submitted.saturating_add(timeout))
    }

    /// How often it was sent, as its caller sees it.
    pub(super) fn attempts(&self) -> u32 {
        self.hedged_sent.saturating_add(self.sent)
    }

    /// The number of calls that have not been given back.
    pub(super) fn count(&self) -> u32 {
        self.kept.unwrap_or(self.demand.count)
    }

    /// The nodes where it was lost, in order.
    pub(super) fn lost(&self) -> impl DoubleEndedIterator<Item = (&NodeIdentity, &GoneReason)> {
        self.failed_attempts.iter().filter_map(|failed_attempt| match &failed_attempt.cause {
            Cause::Lost(reason) => Some((&failed_attempt.node, reason)),
            Cause::Refused(_) | Cause::Panicked(_) => None,
        })
    }

    /// How often a node refused it.
    pub(super) fn refusals(&self) -> usize {
        self.failed_attempts.iter().filter(|failed_attempt| matches!(failed_attempt.cause, Cause::Refused(_))).count()
    }

    /// The failed attempts that ran or may have run, in order.
    pub(super) fn failed(&self) -> impl DoubleEndedIterator<Item = &FailedAttempt> {
        self.failed_attempts.iter().filter(|failed_attempt| !matches!(failed_attempt.cause, Cause::Refused(_)))
    }

    /// Whether it has run, or may have run.
    pub(super) fn may_have_run(&self) -> bool {
        self.failed().next().is_some()
    }

    pub(super) fn waiting(&self, id: CallId) -> Waiting {
        let caller = self.demand.caller;
        let is_limited = !self.demand.exempt_from_limits && !self.is_nested;
        Waiting { seq: self.seq, id, size: self.demand.held(), caller, is_nested: self.is_nested, is_limited }
    }

    /// The call that made it, if that had not ended.
    pub(super) fn parent(&self) -> Option<CallId> {
        self.demand.parent.filter(|_| self.is_nested)
    }

    /// Whether the caller named the one node where it has to run.
    pub(super) fn is_targeted(&self) -> bool {
        self.demand.node.is_some()
    }
}

/// Whether the calls of a batch that ends with this error are made again, each on its own.
pub(super) fn goes_on_one_by_one<H: Host>(call: &CallEntry<H>, error: &CallError) -> bool {
    call.demand.count > 1
        && match error {
            CallError::NodeLost { .. } => call.method.is_idempotent() && call.demand.node.is_none(),
            CallError::TooLarge { part, .. } | CallError::Decode { part, .. } => *part == crate::error::Part::Arguments,
            _ => false,
        }
}

/// The error of a call that ran or may have run, and cannot be tried again: that of its last such attempt.
pub(super) fn last_failure<H: Host>(call: &CallEntry<H>) -> CallError {
    let identity = || call.method.name().into();
    for FailedAttempt { node, cause, .. } in call.failed_attempts.iter().rev() {
        match cause {
            Cause::Lost(reason) => {
                return CallError::NodeLost {
                    call: identity(),
                    node: node.clone(),
                    attempts: call.attempts(),
                    reason: reason.clone(),
                };
            }
            Cause::Panicked(message) => {
                return CallError::Panicked { call: identity(), node: node.clone(), message: message.to_string() };
            }
            Cause::Refused(_) => {}
        }
    }
    shutdown_error(call)
}

pub(super) fn shutdown_error<H: Host>(call: &CallEntry<H>) -> CallError {
    CallError::Shutdown { call: call.method.name().into(), execution: execution_so_far(call) }
}

/// Whether a call that ends now has run. Withdraws its attempt if that is not written yet.
pub(super) fn execution_so_far<H: Host>(call: &CallEntry<H>) -> Execution {
    let is_sent = matches!(call.location, CallLocation::InFlight(_)) && !call.handle.withdraw(call.attempt);
    if is_sent || call.may_have_run() { Execution::MayHaveRun } else { Execution::NotRun }
}
