//! What the driver of a test and the master in its namespace say to each other: a line of JSON each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A line to the master.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Add two numbers, on the node of this name or on any.
    Call {
        /// The node's name.
        node: Option<String>,
        /// One number.
        a: i64,
        /// The other.
        b: i64,
    },
    /// Call all the time, and check every answer.
    Load {
        /// For how long.
        seconds: u64,
        /// Calls that are out at any moment.
        callers: usize,
    },
}

/// A line of the master, with the time at which it was true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds since 1970.
    pub at: u64,
    /// What happened.
    pub told: Told,
}

/// What a master tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It takes nodes on this port.
    Listening {
        /// The port.
        port: u16,
    },
    /// A node registered.
    Joined {
        /// Its name.
        node: String,
    },
    /// A node is silent.
    Suspect {
        /// Its name.
        node: String,
    },
    /// A node is not registered any more.
    Gone {
        /// Its name.
        node: String,
        /// Whether for its silence.
        silent: bool,
        /// Why, in words.
        reason: String,
    },
    /// Another event, in words.
    Other(String),
    /// A call was answered.
    Answer {
        /// With this.
        sum: i64,
    },
    /// A call was not.
    Failed {
        /// Why.
        error: String,
    },
    /// The load is over.
    Loaded {
        /// Calls with the right answer.
        answered: u64,
        /// Calls with a wrong one.
        wrong: u64,
        /// Calls with none.
        failed: u64,
        /// The longest a call took, in milliseconds.
        slowest: u64,
        /// What went wrong, some of it.
        violations: Vec<String>,
    },
}

/// Now, as [`Line::at`] has it.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// From one such time to another.
pub(super) fn between(from: u64, to: u64) -> Duration {
    Duration::from_micros(to.saturating_sub(from))
}
