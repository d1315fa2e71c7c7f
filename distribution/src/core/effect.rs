//! What the core wants done, and how it learns of the end of an attempt.

use std::{sync::Arc, time::Duration};

use super::host::{Host, Time};
use crate::{
    error::{CallError, GoneReason},
    failed_attempt::FailedAttempt,
    id::{CallId, NodeIdentity},
    service::method::{MethodId, MethodInfo},
    view::NodeEvent,
    wire::Reply,
};

/// Something to do after an event. The task that brought the event carries its effects out, in their order.
pub(crate) enum Effect<H: Host> {
    /// Send the call over the link.
    Send { link: H::Link, call: H::Call, id: CallId, attempt: u32, granted: u32, deadline: Option<Time> },
    /// Ask for the result of an attempt that was sent on an earlier connection of the node.
    AskAgain { link: H::Link, id: CallId, attempt: u32, method: MethodId },
    /// Tell the node that it was asked for all that is still wanted.
    AskedAgain { link: H::Link, requests: u32 },
    /// Allow the node to start the first `upto` calls of a batch.
    Grant { link: H::Link, id: CallId, attempt: u32, upto: u32 },
    /// Tell the node that nobody waits for this attempt any more.
    Cancel { link: H::Link, id: CallId, attempt: u32 },
    /// End the call with this result, after these failed attempts.
    End { call: H::Call, end: Result<CallAnswer, CallError>, failed_attempts: Vec<FailedAttempt> },
    /// Tell in the trace of the call that an attempt at it has failed.
    TellFailed { call: H::Call, failed_attempt: FailedAttempt },
    /// Cut a batch down to its first `kept` calls: the node will not start the others.
    Shorten { call: H::Call, kept: u32 },
    /// Ask the node to give back the calls that it has not started.
    Retract { link: H::Link },
    /// Tell the node to drain and end.
    RequestDrain { link: H::Link },
    /// Tell the draining node that it has no calls left.
    ConfirmDrained { link: H::Link },
    /// Close the link.
    Disconnect { link: H::Link, reason: GoneReason },
    /// Report a handler that goes on although it was told to stop this long ago.
    ReportOverdue { node: NodeIdentity, method: Arc<MethodInfo>, id: CallId, stopping_for: Duration },
    /// Tell those who follow the master's events.
    Publish(NodeEvent),
}

/// The effects of one event.
pub(crate) type Effects<H> = Vec<Effect<H>>;

/// The answer of a handler: a value, or the handler's own error.
#[derive(Debug)]
pub(crate) struct CallAnswer {
    pub(crate) reply: Reply,
    pub(crate) node: NodeIdentity,
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
}

/// How an attempt ended, as its link saw it.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// The node answered.
    Replied(Reply),
    /// It was not written to the connection.
    NotSent,
    /// It was not written, because its arguments were at its caller, which has gone.
    ArgumentsGone,
    /// It was not written, because it is larger than the node accepts, in bytes.
    TooLarge { size: u64, limit: u64 },
}
