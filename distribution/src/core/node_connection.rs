//! The connections of a node by number, and the time without one.

use super::host::Time;
use crate::{error::GoneReason, id::NodeId};

/// One connection of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeConnection {
    pub(crate) node: NodeId,
    pub(super) number: u32,
}

impl NodeConnection {
    /// The connection on which a node registers.
    pub(crate) fn first(node: NodeId) -> Self {
        Self { node, number: 0 }
    }
}

/// A node that has no connection.
#[derive(Debug)]
pub(super) struct Absence {
    /// How the connection was lost.
    pub(super) reason: GoneReason,
    pub(super) until: Time,
}
