//! A call as the core keeps it, and the errors that are made of one.

use std::{sync::Arc, time::Duration};

use super::{
    host::{Host, HostCall as _, Time},
    queue_ids::{QueueId, Seq, ServiceId},
    queues::Waiting,
};
use crate::{
    error::{CallError, Cause, Execution, FailedAttempt, GoneReason},
    id::{CallId, NodeId, NodeIdentity},
    service::{caller::Labels, method::MethodInfo},
};

/// What is asked of a call.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// How many calls it is: more than one for a batch, which is sent once and never repeated as a whole.
    pub(crate) count: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) node: Option<NodeId>,
    pub(crate) labels: Labels,
    /// Hash of the key whose calls are to go to the same node.
    pub(crate) affinity: Option<u64>,
    /// A call whose node this one must not run on: it is made a second time for that call.
    pub(crate) hedge_of: Option<CallId>,
    /// Whether it may wait although the queue is full, because its maker makes no more meanwhile. It does not count
    /// against the queue's limits either.
    pub(crate) exempt_from_limits: bool,
    /// How often it may be sent, if it may be repeated at all.
    pub(crate) attempts: Option<u32>,
    /// Whether a panic may be tried elsewhere, if the method is idempotent.
    pub(crate) retry_panics: bool,
    /// Bytes of its arguments.
    pub(crate) size: usize,
}

/// Where a call is.
#[derive(Debug)]
pub(super) enum CallLocation {
    /// In no queue yet, or no more.
    Unplaced,
    /// In this queue.
    Queued(QueueId),
    /// It was lost, and is queued again at this time.
    BackingOff(Time),
    /// This node has it.
    InFlight(NodeId),
}

pub(super) struct CallEntry<H: Host> {
    pub(super) handle: H::Call,
    pub(super) method: Arc<MethodInfo>,
    pub(super) service: ServiceId,
    pub(super) demand: Demand,
    pub(super) submitted: Time,
    /// When it was queued last, from which it waits for a node to come.
    pub(super) queued: Time,
    /// Kept over all attempts, so that a call that was lost goes before those made after it.
    pub(super) seq: Seq,
    pub(super) location: CallLocation,
    /// The node that the same call is on already.
    pub(super) hedged_on: Option<NodeId>,
    /// How many calls of a batch its node has kept, if it has given the others back.
    pub(super) kept: Option<u32>,
    /// How many calls of a batch its node may have started: it was told to start no more.
    pub(super) granted: u32,
    /// How often it was given to a link.
    pub(super) attempt: u32,
    /// How often it was sent, as far as anybody knows.
    pub(super) sent: u32,
    /// The attempts that came to nothing, in order.
    pub(super) failed_attempts: Vec<FailedAttempt>,
    /// How many of these it suffered as part of a batch, before it was a call by itself.
    pub(super) in_batch: usize,
    /// How often a node gave it back.
    pub(super) returned: u32,
}

impl<H: Host> CallEntry<H> {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.demand.timeout.map(|timeout| self.submitted.saturating_add(timeout))
    }

    /// How many calls it is still about.
    pub(super) fn count(&self) -> u32 {
        self.kept.unwrap_or(self.demand.count)
    }

    /// The nodes it was lost with, in order.
    pub(super) fn lost(&self) -> impl DoubleEndedIterator<Item = (&NodeIdentity, &GoneReason)> {
        self.failed_attempts.iter().filter_map(|failed_attempt| match &failed_attempt.cause {
            Cause::Lost(reason) => Some((&failed_attempt.node, reason)),
            Cause::Refused(_) | Cause::Panicked(_) => None,
        })
    }

    /// How often a node would not run it.
    pub(super) fn refusals(&self) -> usize {
        self.failed_attempts.iter().filter(|failed_attempt| matches!(failed_attempt.cause, Cause::Refused(_))).count()
    }

    /// The attempts that came to nothing and ran, or may have, in order.
    pub(super) fn failed(&self) -> impl DoubleEndedIterator<Item = &FailedAttempt> {
        self.failed_attempts.iter().filter(|failed_attempt| !matches!(failed_attempt.cause, Cause::Refused(_)))
    }

    /// Whether it has run, or may have.
    pub(super) fn may_have_run(&self) -> bool {
        self.failed().next().is_some()
    }

    pub(super) fn waiting(&self, id: CallId) -> Waiting {
        Waiting { seq: self.seq, id, size: self.demand.size, is_limited: !self.demand.exempt_from_limits }
    }

    /// Whether it goes to one node only, which the caller named.
    pub(super) fn is_targeted(&self) -> bool {
        self.demand.node.is_some()
    }
}

/// Whether the calls of a batch that ends with this error are made again, each by itself.
pub(super) fn goes_on_one_by_one<H: Host>(call: &CallEntry<H>, error: &CallError) -> bool {
    call.demand.count > 1
        && match error {
            CallError::NodeLost { .. } => call.method.is_idempotent() && call.demand.node.is_none(),
            CallError::TooLarge { part, .. } | CallError::Decode { part, .. } => *part == crate::error::Part::Arguments,
            _ => false,
        }
}

/// The end of a call that ran before, or may have, and cannot be tried again: that of its last such attempt.
pub(super) fn last_failure<H: Host>(call: &CallEntry<H>) -> CallError {
    let method = call.method.name().clone();
    for FailedAttempt { node, cause, .. } in call.failed_attempts.iter().rev() {
        match cause {
            Cause::Lost(reason) => {
                return CallError::NodeLost { method, node: node.clone(), attempts: call.sent, reason: reason.clone() };
            }
            Cause::Panicked(message) => {
                return CallError::Panicked { method, node: node.clone(), message: message.to_string() };
            }
            Cause::Refused(_) => {}
        }
    }
    shutdown_error(call)
}

pub(super) fn shutdown_error<H: Host>(call: &CallEntry<H>) -> CallError {
    let is_sent = matches!(call.location, CallLocation::InFlight(_)) && !call.handle.withdraw(call.attempt);
    let execution = if is_sent || call.may_have_run() { Execution::MayHaveRun } else { Execution::NotRun };
    CallError::Shutdown { method: call.method.name().clone(), execution }
}
