//! What surrounds the core: time, and calls and connections that it passes on without looking inside.

use std::time::Duration;

use crate::{
    service::{metadata::Metadata, state::Held},
    wire::frame::call::Trace,
};

/// Time since the master started.
pub(crate) type Time = Duration;

/// The types of calls and links that a core works with: the master's, or those of a simulation.
pub(crate) trait Host {
    /// A call: its payload, and where its result goes.
    type Call: HostCall;
    /// The driver of a node's connection.
    type Link: HostLink;
}

/// A call as the core sees it.
pub(crate) trait HostCall: Clone {
    /// Allows this attempt to be written to its connection, and no earlier one.
    fn open(&self, attempt: u32);
    /// Prevents this attempt from being written, while its connection stays up. `false` if writing has begun.
    fn withdraw(&self, attempt: u32) -> bool;
    /// Prevents this attempt from being written completely, as its connection is given up. `false` if all of it was
    /// written.
    fn abandon(&self, attempt: u32) -> bool;
    /// Whether it can be made again. Not after its consumer has got an item of a stream, or its handler one of an argument. If it
    /// can, what earlier attempts send does not count any more.
    fn can_be_repeated(&self) -> bool {
        true
    }
    /// What travels to its handler, for lists.
    fn metadata(&self) -> Metadata {
        None
    }
    /// The trace that it belongs to, for lists.
    fn trace(&self) -> Option<Trace> {
        None
    }
    /// Whether [`Effect::TellFailed`](super::effect::Effect::TellFailed) tells somebody.
    fn tells_attempts(&self) -> bool {
        false
    }
    /// What is kept until its handler has returned, although the call has ended.
    fn held(&self) -> Option<Held> {
        None
    }
}

/// A link as the core sees it.
pub(crate) trait HostLink: Clone {
    /// When the last byte came from the node.
    fn heard(&self) -> Time;
    /// The protocol violation for which the connection has to be closed, if there is one. Before `stall_grace` the master
    /// itself was stalled, so the node gets the time again that it had no chance to use.
    fn violation(&self, stall_grace: Time) -> Option<&'static str>;
}
