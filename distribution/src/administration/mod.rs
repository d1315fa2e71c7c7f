//! What administrators see of calls and methods, and how they ask for it.
//!
//! [`CallFilter`] says which calls are listed, [`CallPage`] has some of them, and a [`CallInfo`] says of each what it
//! does: it waits, for a [`WaitReason`], or runs on a node. [`MethodSummary`] says who serves a method, and how many calls of
//! it there are, and [`ServiceSummary`] says it of a whole service. [`CallerInfo`] says who makes calls, [`EventPage`] what
//! has happened to nodes, [`LogRecord`] what they have logged, and [`MasterStatus`] what the master is.
//!
//! [`Metrics`] has all counts since the master started, and [`History`] how they grew in the last hour and day.
//! [`TimelinePage`] says what ran on which slot, [`FailureGroup`] what failed, and [`Warning`] what looks wrong. [`Profile`]
//! says which code a node's process runs.

mod behalf;
mod callers;
mod calls;
mod events;
mod failures;
mod families;
mod filter;
mod histogram;
mod history;
mod logs;
mod methods;
mod metrics;
mod profile;
mod runs;
mod status;
mod timeline;
mod vitals;
mod wait_reason;
mod warnings;

pub use behalf::ON_BEHALF_OF;
pub use callers::CallerInfo;
pub use calls::{CallInfo, CallPage, CallStatus};
pub use events::{EventCursor, EventPage, TimedEvent};
pub use failures::FailureGroup;
pub use families::{MetricFamily, MetricKind, MetricSample, MetricValue, bucket_ends};
pub use filter::{CallCursor, CallFilter, StatusFilter};
pub use histogram::Histogram;
pub(crate) use histogram::{BUCKETS, bucket_of};
pub use history::{
    ClusterPoint, History, HistoryFilter, MethodHistory, MethodPoint, NodeHistory, NodePoint, Resolution,
};
pub(crate) use logs::TARGET_OF_NOTES;
pub use logs::{LogCursor, LogFilter, LogLevel, LogPage, LogRecord};
pub use methods::{MethodKind, MethodSummary, ServiceSummary};
pub use metrics::{CallMetrics, CallerMetrics, MethodMetrics, Metrics, NodeMetrics, Outcomes, RefusedCalls};
pub use profile::{HandlerStack, Profile, ProfileStack, ThreadState};
pub use runs::{RunInfo, RunStatus};
pub use status::{MasterSecurity, MasterStatus};
pub use timeline::{TimelineCursor, TimelineFilter, TimelinePage, TimelineSpan};
pub use vitals::Vitals;
pub use wait_reason::WaitReason;
pub use warnings::{Warning, WarningKind, WarningLevel};
