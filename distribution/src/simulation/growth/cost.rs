//! What one kind of event has cost.

use std::time::Duration;

/// What one kind of event has cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The kind of event.
    pub what: &'static str,
    /// Time per operation: the median over all rounds of each round's mean.
    pub each: Duration,
    /// The longest that the lock was held.
    pub longest: Duration,
}

/// The sum and the longest time of one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) count: u32,
    pub(super) total: Duration,
    pub(super) longest: Duration,
}
