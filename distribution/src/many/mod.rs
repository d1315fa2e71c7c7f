//! Many calls at once, over any caller.
//!
//! [`distributed`] is the stream that users hold. [`sending`] pulls calls from its input and packs them into batches
//! ([`batch`]), whose size [`sizing`] chooses. [`in_flight`] awaits a batch that was sent, and [`finished`] handles its
//! end. [`hedge`] sends late calls to a second node, and [`unserved`] remembers which methods no node serves, until
//! [`node_watch`] sees nodes join or leave. Results wait
//! in the buffer of [`reorder`]. All of these work on the [`run_state`]. [`distributable`] says what can be distributed and
//! what is yielded for it, [`consume`] has `next`, `collect` and the like, [`tracker`] measures the [`progress`] of a run
//! and reports it, and [`broadcast`] makes one call on every node.

mod batch;
mod broadcast;
mod consume;
mod distributable;
mod distributed;
mod finished;
mod hedge;
mod in_flight;
mod node_watch;
mod progress;
#[cfg(feature = "progress")]
mod progress_bar;
mod progress_timer;
mod refusals;
mod reorder;
mod run_state;
mod sending;
mod sizing;
#[cfg(test)]
mod tests;
mod tracker;
mod unserved;

pub use distributable::{Answers, Distributable, Values, Yields};
pub use distributed::{DistributeIterator, DistributeStream, Distributed};
pub use progress::Progress;
#[cfg(feature = "progress")]
pub use progress_bar::LogWriter;
