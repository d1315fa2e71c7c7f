//! How far the look at the nodes has come that finds silent ones.

use super::host::Time;
use crate::id::NodeId;

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub(super) struct LivenessScan {
    pub(super) last_tick: Time,
    /// When the next round begins.
    pub(super) next_round: Time,
    /// Whether a round is under way, and the last node it has looked at.
    pub(super) cursor: Option<Option<NodeId>>,
    /// Nodes of this round that keep to the protocol.
    pub(super) total: usize,
    /// Those of them that were found silent.
    pub(super) silent: Vec<NodeId>,
    /// Silence before this does not count: the master itself was stalled then.
    pub(super) stall_grace: Time,
}
