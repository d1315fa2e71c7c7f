//! The ends of a connection.

use crate::wire::frame::kind::Direction;

/// Which end of a connection reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Reads responses, writes requests.
    Master,
    /// Reads requests, writes responses.
    Node,
    /// A caller in another process: reads responses, writes requests.
    Caller,
    /// The master of such a caller: reads requests, writes responses.
    MasterOfCaller,
}

/// All ends.
pub const ENDS: [End; 4] = [End::Master, End::Node, End::Caller, End::MasterOfCaller];

impl End {
    /// The end that this one talks to.
    pub fn other(self) -> Self {
        match self {
            Self::Master => Self::Node,
            Self::Node => Self::Master,
            Self::Caller => Self::MasterOfCaller,
            Self::MasterOfCaller => Self::Caller,
        }
    }

    /// The way that the frames travel which it writes.
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Master => Direction::MasterToNode,
            Self::Node => Direction::NodeToMaster,
            Self::Caller => Direction::CallerToMaster,
            Self::MasterOfCaller => Direction::MasterToCaller,
        }
    }
}
