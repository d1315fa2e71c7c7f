//! Why something that an administrator asked for was not done.

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

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

    /// The master failed at it, which is a bug in this crate.
    #[error("the master failed at this, which is a bug in `distribution`; its log says where")]
    Failed,
}
