//! How the process of a node does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::seconds;

/// How the process of a node does, as it measures itself once a second. What a system does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Vitals {
    /// Processor time that it used in the last second: 1 is one core.
    pub cpu: Option<f64>,
    /// Bytes of memory that it holds (resident set).
    pub memory: Option<u64>,
    /// How many threads it has.
    pub threads: Option<u32>,
    /// The longest time in the last second that a task of the user's runtime had to wait before it was polled. Long means that
    /// async handlers hold the runtime up.
    #[serde(with = "seconds")]
    pub lag: Duration,
    /// Slots on which a handler runs.
    pub busy_slots: u32,
    /// Compute calls that wait on the node for a slot.
    pub waiting: u32,
    /// Async handlers that run.
    pub asynchronous: u32,
    /// How far the node's clock is from the master's: how much later it is by the node's clock when the master receives
    /// this. Negative if the node's clock is behind. In seconds.
    pub clock_skew: f64,
}
