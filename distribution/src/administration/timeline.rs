//! What ran on each slot, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{MethodName, NodeId},
    seconds,
};

/// Which part of the timeline is wanted. The default is all that the master keeps, 10,000 spans at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TimelineFilter {
    /// Only spans that come after those of an earlier page: its [`next`](TimelinePage::next).
    pub after: Option<TimelineCursor>,
    /// Only spans of this node.
    pub node: Option<NodeId>,
    /// Only spans that ended no longer ago than this.
    #[serde(with = "seconds")]
    pub within: Duration,
    /// The most spans on a page. A page has no more than 100,000, whatever this says.
    pub limit: usize,
}

impl Default for TimelineFilter {
    fn default() -> Self {
        Self { after: None, node: None, within: Duration::from_secs(24 * 3600), limit: 10_000 }
    }
}

impl TimelineFilter {
    /// Only spans that come after those of an earlier page.
    pub fn after(self, cursor: TimelineCursor) -> Self {
        Self { after: Some(cursor), ..self }
    }

    /// Only spans of this node.
    pub fn node(self, node: impl Into<NodeId>) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// Only spans that ended no longer ago than this.
    pub fn within(self, time: Duration) -> Self {
        Self { within: time, ..self }
    }

    /// The most spans on a page.
    pub fn limit(self, spans: usize) -> Self {
        Self { limit: spans, ..self }
    }
}

/// A place in the timeline of one run of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimelineCursor(pub(crate) u64);

/// Some spans, in the order in which they were finished, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimelinePage {
    /// When the master started, by its clock: time since the beginning of 1970 (UTC). Each answer of a master has the same.
    #[serde(with = "seconds")]
    pub started: Duration,
    /// The methods that the spans name by their places in this list.
    pub methods: Vec<MethodName>,
    /// The spans.
    pub spans: Vec<TimelineSpan>,
    /// Where the next page begins.
    pub next: TimelineCursor,
    /// Whether there are more spans already.
    pub has_more: bool,
}

/// A time in which a slot of a node was taken: by one compute call, or by several short ones.
///
/// Calls that take less than 100 ms and follow each other on a slot are put together, up to a second. The master does not know
/// on which slot of a node a call runs; it puts those that overlap into different rows, of which a node has as many as slots,
/// but 64 at most. What runs still is not part of the timeline: [`Master::calls`](crate::Master::calls) lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimelineSpan {
    /// The node.
    pub node: NodeId,
    /// The row, from 0.
    pub row: u16,
    /// The method, as a place in [`TimelinePage::methods`]; `None` if calls of several methods were put together.
    pub method: Option<u16>,
    /// When the first call began, as time since the master started.
    #[serde(with = "seconds")]
    pub start: Duration,
    /// From then until the last call ended.
    #[serde(with = "seconds")]
    pub length: Duration,
    /// For how much of that handlers ran.
    #[serde(with = "seconds")]
    pub busy: Duration,
    /// How many calls.
    pub calls: u32,
    /// How many of them panicked or ended with an error.
    pub failed: u32,
}
