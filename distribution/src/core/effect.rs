//! What the core is told about calls and connections, and what it wants done.

use std::time::Duration;

use super::Time;
use crate::{
    error::{CallError, FailedAttempt, GoneReason},
    id::{CallId, NodeIdentity},
    view::NodeEvent,
    wire::Reply,
};

/// What the core is told about calls and links, which it passes on without looking inside.
pub(crate) trait Host {
    /// A call: its payload, and where its end goes.
    type Call: HostCall;
    /// The way to a node.
    type Link: HostLink;
}

/// A call as the core sees it.
pub(crate) trait HostCall: Clone {
    /// Lets this attempt be written, and none before it.
    fn open(&self, attempt: u32);
    /// Keeps this attempt from being written, while its connection goes on; false if it has begun to be.
    fn withdraw(&self, attempt: u32) -> bool;
    /// Keeps this attempt from being written to its end, as its connection is given up; false if it was sent.
    fn abandon(&self, attempt: u32) -> bool;
}

/// The way to a node as the core sees it.
pub(crate) trait HostLink: Clone {
    /// When the last byte came from the node.
    fn heard(&self) -> Time;
    /// What the node does that ends its connection, if anything. Before `stall_grace` the master itself was
    /// stalled, and what the node had no time for then it is given time for again.
    fn violation(&self, stall_grace: Time) -> Option<&'static str>;
}

/// What is to be done, in this order, by the task that brought the event.
pub(crate) enum Effect<H: Host> {
    /// Send the call over the link.
    Send { link: H::Link, call: H::Call, id: CallId, attempt: u32, granted: u32, deadline: Option<Time> },
    /// Let the node start this many calls of a batch.
    Grant { link: H::Link, id: CallId, attempt: u32, upto: u32 },
    /// Tell the node that nobody waits for this attempt any more.
    Cancel { link: H::Link, id: CallId, attempt: u32 },
    /// The call has ended, after these attempts that came to nothing.
    End { call: H::Call, end: Result<CallAnswer, CallError>, failed_attempts: Vec<FailedAttempt> },
    /// Only the first calls of a batch are left: the node will not start the others.
    Shorten { call: H::Call, kept: u32 },
    /// Ask the node for the calls that it has not started.
    Retract { link: H::Link },
    /// Tell the draining node that it has nothing left.
    ConfirmDrained { link: H::Link },
    /// Close the link.
    Disconnect { link: H::Link, reason: GoneReason },
    /// Tell people.
    Publish(NodeEvent),
}

/// The effects of one event.
pub(crate) type Effects<H> = Vec<Effect<H>>;

/// A call that a handler has answered, with a value or with its own error.
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
    /// It was not written, because the node takes at most this many bytes.
    TooLarge { size: u64, limit: u64 },
}
