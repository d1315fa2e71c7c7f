//! What administrators see of calls and methods, and how they ask for it.
//!
//! [`CallFilter`] says which calls are listed, [`CallPage`] has some of them, and a [`CallInfo`] says of each what it
//! does: it waits, for a [`WaitReason`], or runs on a node. [`MethodSummary`] says who serves a method, and how many calls of
//! it there are, and [`ServiceSummary`] says it of a whole service. [`CallerInfo`] says who makes calls, [`EventPage`] what
//! has happened to nodes, and [`MasterStatus`] what the master is.

mod callers;
mod calls;
mod events;
mod filter;
mod methods;
mod status;
mod wait_reason;

pub use callers::CallerInfo;
pub use calls::{CallInfo, CallPage, CallStatus};
pub use events::{EventCursor, EventPage, TimedEvent};
pub use filter::{CallCursor, CallFilter, StatusFilter};
pub use methods::{MethodKind, MethodSummary, ServiceSummary};
pub use status::{MasterSecurity, MasterStatus};
pub use wait_reason::WaitReason;
