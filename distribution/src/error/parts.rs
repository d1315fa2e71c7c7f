//! What several errors of calls have in common: whether the handler ran, how far a call had come, and which value it was.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::NodeIdentity,
    text::{LONGEST, in_one_line},
};

/// Whether a call's handler ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// It did not run. It is safe to make the call again.
    NotRun,
    /// The call was sent, and nothing is known of it. It is safe to make the call again if its method is idempotent.
    MayHaveRun,
    /// It ran.
    Ran,
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRun => "it did not run",
            Self::MayHaveRun => "it may have run",
            Self::Ran => "it ran",
        })
    }
}

/// How far a call had come when its timeout passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallStage {
    /// It was queued at the master, and was never sent to a node.
    Queued,
    /// Its last attempt was lost or panicked on this node, and it waited to be sent to another.
    Retrying(NodeIdentity),
    /// It had been sent to this node.
    Sent(NodeIdentity),
    /// A caller in another process had sent it to the master, which did not say how far it came: the connection was lost.
    AtMaster,
}

impl fmt::Display for CallStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued => f.write_str("it was waiting for a node, or on its way to one, so it did not run"),
            Self::Retrying(node) => {
                write!(f, "its attempt on {node} failed and it was waiting for another node, so it may have run")
            }
            Self::AtMaster => f.write_str("it had been sent to the master, which did not answer, so it may have run"),
            Self::Sent(node) => write!(f, "it had been sent to {node}, so it may have run"),
        }
    }
}

/// Which limit of the master's queue was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueUnit {
    /// The number of calls: [`max_queued_calls`](crate::MasterBuilder::max_queued_calls).
    Calls,
    /// The bytes of their arguments: [`max_queued_bytes`](crate::MasterBuilder::max_queued_bytes).
    Bytes,
}

impl fmt::Display for QueueUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls",
            Self::Bytes => "bytes of arguments",
        })
    }
}

/// Whose limit of calls was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitOf {
    /// That of the caller: [`max_queued_calls_per_caller`](crate::MasterBuilder::max_queued_calls_per_caller) or
    /// [`max_queued_bytes_per_caller`](crate::MasterBuilder::max_queued_bytes_per_caller). Other callers may still make
    /// calls.
    Caller,
    /// That of all callers together: [`max_queued_calls`](crate::MasterBuilder::max_queued_calls) or
    /// [`max_queued_bytes`](crate::MasterBuilder::max_queued_bytes).
    Master,
    /// That of the caller's credential, which all its connections share: [`CallerRights::max_calls`](crate::CallerRights::max_calls) or
    /// [`max_bytes`](crate::CallerRights::max_bytes). It counts calls that run too.
    Credential,
    /// That of the caller's session: a master keeps at most 327,680 calls of each caller in another process, or twice
    /// [`max_queued_calls_per_caller`](crate::MasterBuilder::max_queued_calls_per_caller) if that is more. Calls that run
    /// count too, and so does each result until the caller's process has confirmed that it has it.
    Session,
    /// That of a caller in another process that has no connection to its master: 65,536 calls and 256 MiB of arguments may wait for one.
    Disconnected,
}

impl LimitOf {
    /// What calls do that count.
    pub(super) fn what_counts(self) -> &'static str {
        match self {
            Self::Caller | Self::Master | Self::Disconnected => "wait",
            Self::Credential => "are under way",
            Self::Session => "are under way, or have results that were not confirmed",
        }
    }
}

impl fmt::Display for LimitOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "its caller's share of the queue at the master is full",
            Self::Master => "the queue at the master is full",
            Self::Session => "its caller's session has no room for another call",
            Self::Disconnected => "its caller has no connection to the master, and no more calls may wait for one",
            Self::Credential => "its caller's credential allows no more at a time",
        })
    }
}

/// Which of a call's two values an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What the caller sends. The handler did not run.
    Arguments,
    /// What the handler returned. The handler ran.
    Reply,
    /// One item of a stream. The handler had begun.
    Item,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arguments => "argument list",
            Self::Reply => "reply",
            Self::Item => "next item",
        })
    }
}

/// Why serialisation failed, here or on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CodecError {
    message: String,
}

impl CodecError {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { message: in_one_line(&message.to_string(), LONGEST) }
    }
}

/// Who has cancelled a call that ends because what made it is gone.
pub(crate) const ITS_MAKER: &str = "the end of what made it: its caller, or the call that it is a part of";
