//! Events as programs in other processes read them: some at a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{id::NodeId, seconds, view::NodeEvent};

/// What has happened to a master's nodes since an earlier page, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventPage {
    /// The events, in the order in which they happened. Empty if nothing has happened for some seconds.
    pub events: Vec<TimedEvent>,
    /// Where the next page begins.
    pub next: EventCursor,
}

/// An event with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimedEvent {
    /// When it happened, by the master's clock: time since the beginning of 1970 (UTC).
    #[serde(with = "seconds")]
    pub at: Duration,
    /// What happened.
    pub event: NodeEvent,
}

impl TimedEvent {
    pub(crate) fn new(at: Duration, event: NodeEvent) -> Self {
        Self { at, event }
    }
}

/// A place in the events of one run of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventCursor {
    /// Stands for the run: it begins with a number that the master drew when it started.
    pub(crate) master: NodeId,
    /// The number of the last event that was read.
    pub(crate) number: u64,
}
