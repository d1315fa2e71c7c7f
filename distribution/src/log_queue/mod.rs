//! The records of a node's log on their way to the master: [`queue`] keeps those of a node until its connection takes
//! them, within an [`allowance`], and [`nodes`] knows the nodes of this process.

mod allowance;
#[cfg(feature = "logs")]
mod nodes;
mod queue;

pub(crate) use allowance::Allowance;
#[cfg(feature = "logs")]
pub(crate) use nodes::{is_empty, named, oldest, register};
pub(crate) use queue::{NewRecord, NodeLogs, QueuedRecord, records};
