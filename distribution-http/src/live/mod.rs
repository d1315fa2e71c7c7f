//! What the page shows while it is open: one reader of the master, for all viewers.

mod hub;
mod measured;
mod poll;
mod rows;
mod stream;
mod warnings;

pub(crate) use hub::Hub;
pub(crate) use rows::{CallRow, MOST_ROWS, NodeRow};
pub(crate) use stream::{Watching, stream};
