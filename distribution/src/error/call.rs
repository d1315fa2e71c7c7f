//! How a call can end without a value.

use std::{borrow::Cow, convert::Infallible, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    gone::GoneReason,
    identity::CallIdentity,
    parts::{CallStage, CodecError, Execution, LimitOf, Part, QueueUnit},
};
use crate::id::{CallId, MethodName, NO_ADDRESS, NodeIdentity};

/// How a call can end without a value.
///
/// `E` is the error type that the method declares; for a method that returns no `Result` it is `Infallible`.
/// [`CallError::execution`] says whether the handler may have run, and with that whether it is safe to make the call again.
/// [`CallError::id`] and [`CallError::method`] say which call it was.
///
/// It can be serialised and deserialised if `E` can, with times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallError<E = Infallible> {
    /// The method ran and returned this error. Never retried.
    #[error("{0}")]
    Handler(E),

    /// The method panicked on the node; the node goes on serving. Not retried, unless the call has
    /// [`retry_panics`](crate::Call::retry_panics).
    #[error("{call} panicked on {node}: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The call.
        call: CallIdentity,
        /// Where it ran.
        node: NodeIdentity,
        /// The panic's message.
        message: String,
    },

    /// No registered node serves the method (or the node that was asked for is not there).
    #[error("{call} was not run: {wanted}")]
    #[non_exhaustive]
    NoNode {
        /// The call.
        call: CallIdentity,
        /// What was looked for, and what is there instead.
        wanted: String,
        /// How long the call waited for a node to come.
        #[serde(with = "crate::seconds")]
        waited: Duration,
    },

    /// The queue at the master is full, or the caller's share of it; or the caller's session or its credential allows no more at
    /// a time.
    #[error(
        "{call} was not run: {limit_of} ({queued} {unit} {}, and the limit is {limit}); call again later, or make fewer calls at a time",
        .limit_of.what_counts()
    )]
    #[non_exhaustive]
    Overloaded {
        /// The call.
        call: CallIdentity,
        /// Whose limit was met.
        limit_of: LimitOf,
        /// What counted at that moment: what waited of this caller or of all, or what was under way of the session or
        /// the credential.
        queued: usize,
        /// The limit that was met.
        limit: usize,
        /// What the two numbers count.
        unit: QueueUnit,
    },

    /// The call's own `.timeout()` passed, or the master's [`default_timeout`](crate::MasterBuilder::default_timeout).
    #[error("{call} had no answer within {timeout:?}: {stage}")]
    #[non_exhaustive]
    TimedOut {
        /// The call.
        call: CallIdentity,
        /// The timeout that was set, for the call or for all.
        #[serde(with = "crate::seconds")]
        timeout: Duration,
        /// How far the call had come.
        stage: CallStage,
    },

    /// The node was lost while it had the call, and the method is not idempotent (or no attempt is left).
    #[error("{call} was lost with {node}, which {reason}; the call may have run ({})", tries(*.attempts))]
    #[non_exhaustive]
    NodeLost {
        /// The call.
        call: CallIdentity,
        /// The node that the call was sent to last.
        node: NodeIdentity,
        /// How often the call was sent to a node.
        attempts: u32,
        /// Why the node is gone.
        reason: GoneReason,
    },

    /// Three nodes died or were [kicked](crate::Master::kick), one after the other, while they ran this call.
    #[error("{call} was given up as poisoned: each of these nodes died, or was kicked, while it ran the call: {}", list(.nodes))]
    #[non_exhaustive]
    Poisoned {
        /// The call.
        call: CallIdentity,
        /// These nodes, in order.
        nodes: Vec<NodeIdentity>,
    },

    /// The arguments or the reply are larger than one value may be. See
    /// [`max_message_size`](crate::MasterBuilder::max_message_size).
    #[error(
        "the {part} of {call} is too large: it has {size} bytes, and the limit is {limit}; send less, or raise `max_message_size` where it is smallest: at the caller, the master or the node"
    )]
    #[non_exhaustive]
    TooLarge {
        /// The call.
        call: CallIdentity,
        /// Whether it was the arguments or the reply.
        part: Part,
        /// Its encoded size in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },

    /// Nodes serve the method's service, but not the method that the caller was built for: its version, its signature or
    /// the structure of a type in it differs, or the service has no such method.
    #[error("{call} was not run, because caller and nodes were built from different code: {difference}")]
    #[non_exhaustive]
    Incompatible {
        /// The call.
        call: CallIdentity,
        /// The caller's signature, with the service's version.
        expected: String,
        /// The nodes' signatures.
        found: String,
        /// What differs, and on which nodes:
        /// `` `Params`: { rate: f64, l2: f64 } here, { l2: f64, rate: f64 } on node-3 ``.
        difference: String,
    },

    /// A value could not be turned into bytes: its `Serialize` failed, or it is nested too deeply (see
    /// [`max_depth`](crate::MasterBuilder::max_depth)).
    #[error("the {part} of {call} could not be encoded")]
    #[non_exhaustive]
    Encode {
        /// The call.
        call: CallIdentity,
        /// Which value it was.
        part: Part,
        /// The error that serde reported.
        source: CodecError,
    },

    /// Bytes could not be turned into the expected value: they do not encode a value of its type, its `Deserialize` failed
    /// or panicked, the value is nested too deeply (see [`max_depth`](crate::MasterBuilder::max_depth)), or it would take
    /// far more memory than the bytes do.
    ///
    /// The values of a message may take 4 MiB of memory, plus the larger of two amounts: 64 times the bytes of the message,
    /// but at most 256 MiB; or 16 times the bytes of the message. The memory is estimated: a text or collection that is not
    /// empty counts 32 bytes more than its content, the first entry of a map counts eleven times, and a box around a number
    /// counts nothing. Only the receiver can count it, because `Serialize` does not tell of which types a value consists.
    #[error("the {part} of {call} could not be decoded")]
    #[non_exhaustive]
    Decode {
        /// The call.
        call: CallIdentity,
        /// Which value it was.
        part: Part,
        /// The error that serde reported.
        source: CodecError,
    },

    /// The call was made with an option that may run it more than once, and its method is not declared
    /// `#[rpc(idempotent)]`.
    #[error(
        "{call} was not run: `.{option}()` may run a call more than once, and the method is not idempotent; declare it \
         #[rpc(idempotent)] if it may be run again, or leave the option out"
    )]
    #[non_exhaustive]
    NotIdempotent {
        /// The call.
        call: CallIdentity,
        /// The option that was set.
        option: Cow<'static, str>,
    },

    /// An option of the call has a value that cannot work.
    #[error("{call} was not run: `.{option}({value})` cannot be: {reason}")]
    #[non_exhaustive]
    InvalidOption {
        /// The call.
        call: CallIdentity,
        /// The option's name.
        option: Cow<'static, str>,
        /// The value that was given.
        value: String,
        /// Why it cannot work, and which values can.
        reason: Cow<'static, str>,
    },

    /// Somebody other than its caller cancelled the call: an administrator (see [`Master::cancel`](crate::Master::cancel)).
    /// Or what made it is gone: its caller ended without detaching it, or the call whose handler made it was cancelled, timed
    /// out, or was lost with its node. It is not repeated.
    #[error("{call} was cancelled by {by} ({execution})")]
    #[non_exhaustive]
    Cancelled {
        /// The call.
        call: CallIdentity,
        /// Who cancelled it: `an administrator at the master`.
        by: Box<str>,
        /// Whether the call had been sent to a node.
        execution: Execution,
    },

    /// The master is shutting down, or was dropped.
    #[error("{call} was not answered: the master has shut down ({execution})")]
    #[non_exhaustive]
    Shutdown {
        /// The call.
        call: CallIdentity,
        /// Whether the call had been sent to a node.
        execution: Execution,
    },

    /// The master that had the call was lost: its process ended, or it could not be reached for longer than
    /// [`reconnect_timeout`](crate::ClusterBuilder::reconnect_timeout). Only callers outside the master's process see this.
    #[error("{call} was not answered: the master at {master} was lost ({execution}): {reason}")]
    #[non_exhaustive]
    MasterLost {
        /// The call.
        call: CallIdentity,
        /// The master's address as it was given.
        master: String,
        /// How the master was lost.
        reason: String,
        /// Whether the call had been sent to the master.
        execution: Execution,
    },

    /// Calls are nested too deep: each was made by the handler of the one before. Mostly a circle of calls.
    #[error(
        "{call} was not run: calls are nested {limit} deep already, each made by the handler of the one before, and that is the limit; look for a circle of calls"
    )]
    #[non_exhaustive]
    TooDeep {
        /// The call.
        call: CallIdentity,
        /// How deep calls may be nested.
        limit: u32,
    },

    /// Too many compute handlers of the node wait for nested calls. Each of them holds a thread.
    #[error(
        "{call} was not run: {limit} compute handlers of this node wait for nested calls, and that is the limit; make the method that calls it an `async fn`, which waits without a thread"
    )]
    #[non_exhaustive]
    TooManyWaiting {
        /// The call.
        call: CallIdentity,
        /// How many compute handlers of a node may wait.
        limit: u32,
    },

    /// The master does not allow the call.
    #[error("{call} was not run: the master does not allow it: {reason}")]
    #[non_exhaustive]
    Denied {
        /// The call.
        call: CallIdentity,
        /// What is not allowed, and to whom.
        reason: String,
    },
}

impl<E> CallError<E> {
    /// The number of the call at its master, by which logs name it too.
    ///
    /// `None` if the call was refused before it was submitted, and for [`CallError::Handler`], which holds the method's
    /// own error and nothing else; [`CallHandle::id`](crate::CallHandle::id) has the number in every case.
    pub fn id(&self) -> Option<CallId> {
        self.call()?.id()
    }

    /// The method that was called. `None` for [`CallError::Handler`], which holds the method's own error and nothing else.
    pub fn method(&self) -> Option<&MethodName> {
        Some(self.call()?.method())
    }

    pub(crate) fn call(&self) -> Option<&CallIdentity> {
        match self {
            Self::Handler(_) => None,
            Self::Panicked { call, .. }
            | Self::NoNode { call, .. }
            | Self::Overloaded { call, .. }
            | Self::TimedOut { call, .. }
            | Self::NodeLost { call, .. }
            | Self::Poisoned { call, .. }
            | Self::TooLarge { call, .. }
            | Self::Incompatible { call, .. }
            | Self::Encode { call, .. }
            | Self::Decode { call, .. }
            | Self::NotIdempotent { call, .. }
            | Self::InvalidOption { call, .. }
            | Self::Cancelled { call, .. }
            | Self::Shutdown { call, .. }
            | Self::MasterLost { call, .. }
            | Self::TooDeep { call, .. }
            | Self::TooManyWaiting { call, .. }
            | Self::Denied { call, .. } => Some(call),
        }
    }

    /// The same error, of the call with this number.
    pub(crate) fn with_id(mut self, number: Option<CallId>) -> Self {
        match &mut self {
            Self::Handler(_) => {}
            Self::Panicked { call, .. }
            | Self::NoNode { call, .. }
            | Self::Overloaded { call, .. }
            | Self::TimedOut { call, .. }
            | Self::NodeLost { call, .. }
            | Self::Poisoned { call, .. }
            | Self::TooLarge { call, .. }
            | Self::Incompatible { call, .. }
            | Self::Encode { call, .. }
            | Self::Decode { call, .. }
            | Self::NotIdempotent { call, .. }
            | Self::InvalidOption { call, .. }
            | Self::Cancelled { call, .. }
            | Self::Shutdown { call, .. }
            | Self::MasterLost { call, .. }
            | Self::TooDeep { call, .. }
            | Self::TooManyWaiting { call, .. }
            | Self::Denied { call, .. } => call.id = number,
        }
        self
    }

    /// Whether the handler ran, which decides whether it is safe to make the call again.
    ///
    /// ```
    /// # use distribution::{CallError, error::Execution};
    /// let error: CallError<String> = CallError::Handler("no such key".to_owned());
    /// assert_eq!(error.execution(), Execution::Ran);
    /// ```
    pub fn execution(&self) -> Execution {
        match self {
            Self::Handler(_) | Self::Panicked { .. } => Execution::Ran,
            Self::NoNode { .. }
            | Self::Overloaded { .. }
            | Self::Incompatible { .. }
            | Self::NotIdempotent { .. }
            | Self::InvalidOption { .. }
            | Self::TooDeep { .. }
            | Self::TooManyWaiting { .. }
            | Self::Denied { .. } => Execution::NotRun,
            Self::NodeLost { .. } | Self::Poisoned { .. } => Execution::MayHaveRun,
            Self::TimedOut { stage: CallStage::Queued, .. } => Execution::NotRun,
            Self::TimedOut { .. } => Execution::MayHaveRun,
            Self::TooLarge { part, .. } | Self::Encode { part, .. } | Self::Decode { part, .. } => match part {
                Part::Arguments => Execution::NotRun,
                Part::Reply => Execution::Ran,
                Part::Item => Execution::MayHaveRun,
            },
            Self::Cancelled { execution, .. }
            | Self::Shutdown { execution, .. }
            | Self::MasterLost { execution, .. } => *execution,
        }
    }
}

impl<E> CallError<E> {
    /// The same error, with the method's own error changed.
    pub(crate) fn try_map<F, X>(self, change: impl FnOnce(E) -> Result<F, X>) -> Result<CallError<F>, X> {
        Ok(match self {
            Self::Handler(error) => CallError::Handler(change(error)?),
            Self::Panicked { call, node, message } => CallError::Panicked { call, node, message },
            Self::NoNode { call, wanted, waited } => CallError::NoNode { call, wanted, waited },
            Self::Overloaded { call, limit_of, queued, limit, unit } => {
                CallError::Overloaded { call, limit_of, queued, limit, unit }
            }
            Self::TimedOut { call, timeout, stage } => CallError::TimedOut { call, timeout, stage },
            Self::NodeLost { call, node, attempts, reason } => CallError::NodeLost { call, node, attempts, reason },
            Self::Poisoned { call, nodes } => CallError::Poisoned { call, nodes },
            Self::TooLarge { call, part, size, limit } => CallError::TooLarge { call, part, size, limit },
            Self::Incompatible { call, expected, found, difference } => {
                CallError::Incompatible { call, expected, found, difference }
            }
            Self::Encode { call, part, source } => CallError::Encode { call, part, source },
            Self::Decode { call, part, source } => CallError::Decode { call, part, source },
            Self::NotIdempotent { call, option } => CallError::NotIdempotent { call, option },
            Self::InvalidOption { call, option, value, reason } => {
                CallError::InvalidOption { call, option, value, reason }
            }
            Self::Cancelled { call, by, execution } => CallError::Cancelled { call, by, execution },
            Self::Shutdown { call, execution } => CallError::Shutdown { call, execution },
            Self::MasterLost { call, master, reason, execution } => {
                CallError::MasterLost { call, master, reason, execution }
            }
            Self::TooDeep { call, limit } => CallError::TooDeep { call, limit },
            Self::TooManyWaiting { call, limit } => CallError::TooManyWaiting { call, limit },
            Self::Denied { call, reason } => CallError::Denied { call, reason },
        })
    }
}

impl<E> CallError<E> {
    /// The same error, for a caller that is not told the addresses of nodes.
    pub(crate) fn without_addresses(mut self) -> Self {
        let hide = |node: &mut NodeIdentity| node.addr = NO_ADDRESS;
        match &mut self {
            Self::Panicked { node, .. } | Self::NodeLost { node, .. } => hide(node),
            Self::TimedOut { stage: CallStage::Retrying(node) | CallStage::Sent(node), .. } => hide(node),
            Self::Poisoned { nodes, .. } => nodes.iter_mut().for_each(hide),
            _ => {}
        }
        self
    }
}

impl CallError<Infallible> {
    /// The same error for a method that has an error type of its own.
    pub(crate) fn widen<E>(self) -> CallError<E> {
        let Ok(error) = self.try_map(|never| -> Result<E, Infallible> { match never {} });
        error
    }
}

fn tries(attempts: u32) -> String {
    match attempts {
        1 => "sent once".to_owned(),
        n => format!("sent {n} times"),
    }
}

fn list(nodes: &[NodeIdentity]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_error_is_small_enough_to_be_returned() {
        // From 128 bytes on clippy warns the users, in each function of theirs that passes one on.
        assert!(size_of::<CallError>() < 128, "{}", size_of::<CallError>());
        assert!(size_of::<CallError<String>>() < 128, "{}", size_of::<CallError<String>>());
    }
}
