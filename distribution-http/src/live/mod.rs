//! What the page shows while it is open: one reader of the master, for all viewers.

mod answers;
mod change;
mod hub;
mod measured;
mod part;
mod poll;
mod rows;
mod stream;
mod warnings;

pub(crate) use answers::Answers;
pub(crate) use hub::Hub;
pub(crate) use measured::{Measured, MethodRow};
pub(crate) use rows::{CallRow, EventRow, MOST_ROWS, NodeRow, RunRow, Versions, by_id};
pub(crate) use stream::{Watching, stream};
pub(crate) use warnings::WarningRow;
