//! An attempt at a call that failed, as logs and the core keep it.

use std::fmt;

use crate::{error::GoneReason, id::NodeIdentity, source::Source};

/// An attempt at a call that failed, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailedAttempt {
    pub(crate) attempt: u32,
    pub(crate) node: NodeIdentity,
    /// Where the node's connection came from, if the node was lost.
    pub(crate) source: Option<Source>,
    pub(crate) cause: Cause,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// The node was lost while it had the call, which may have run.
    Lost(GoneReason),
    /// The node did not start the call. The text says what the node did or is: `was full`.
    Refused(&'static str),
    /// The handler panicked, with this message.
    Panicked(Box<str>),
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, node, cause, .. } = self;
        match cause {
            Cause::Lost(reason) => write!(f, "attempt {attempt} was lost with {node}, which {reason}"),
            Cause::Refused(why) => write!(f, "attempt {attempt} was not started by {node}, which {why}"),
            Cause::Panicked(message) => write!(f, "attempt {attempt} panicked on {node}: {message}"),
        }
    }
}
