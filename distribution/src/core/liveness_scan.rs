//! The state of the scan that finds silent nodes.

use super::host::Time;
use crate::id::NodeId;

/// What is kept between two ticks.
#[derive(Debug, Default)]
pub(super) struct LivenessScan {
    pub(super) last_tick: Time,
    /// When the next round begins.
    pub(super) next_round: Time,
    /// Whether a round is under way, and the last node it has looked at.
    pub(super) cursor: Option<Option<NodeId>>,
    /// Nodes of this round without a protocol violation.
    pub(super) total: usize,
    /// The silent ones among them.
    pub(super) silent: Vec<NodeId>,
    /// Silence before this does not count: the master itself was stalled then.
    pub(super) stall_grace: Time,
}
