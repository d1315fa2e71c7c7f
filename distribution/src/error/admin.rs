//! Why something that an administrator asked for was not done.

use serde::{Deserialize, Serialize};

use crate::id::{CallId, NodeId, NodeIdentity};

/// Why a master did not do what an administrator asked for. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdminError {
    /// No node with this id is registered.
    #[error(
        "no node {node} is registered: it has left, or it has registered again with another id; list the nodes to see those that are registered"
    )]
    #[non_exhaustive]
    UnknownNode {
        /// The id that was given.
        node: NodeId,
    },

    /// No call with this id waits or runs.
    #[error(
        "no call {call} waits or runs: it has ended, or another master gave out that id; list the calls to see those that have not ended"
    )]
    #[non_exhaustive]
    UnknownCall {
        /// The id that was given.
        call: CallId,
    },

    /// The call has ended already, and a node has not stopped its handler yet.
    #[error(
        "call {call} has ended already, and its handler still runs on {node}; if it does not end, drain the node and restart its process"
    )]
    #[non_exhaustive]
    AlreadyEnded {
        /// The id that was given.
        call: CallId,
        /// Where its handler runs.
        node: NodeIdentity,
    },

    /// The call travels in a batch with others, which can only be cancelled together.
    #[error("call {call} is one of {count} that travel as batch {batch}; cancel {batch} to end all of them")]
    #[non_exhaustive]
    InBatch {
        /// The id that was given.
        call: CallId,
        /// The id of the batch, which is that of its first call.
        batch: CallId,
        /// How many calls the batch is.
        count: u32,
    },

    /// The node has not taken a profile.
    #[error("no profile of {node} was taken: {reason}")]
    #[non_exhaustive]
    NotProfiled {
        /// The node that was asked.
        node: NodeIdentity,
        /// Why there is none.
        reason: String,
    },

    /// The master failed at it, which is a bug in this crate.
    #[error("the master failed at this, which is a bug in `distribution`; its log says where")]
    Failed,
}
