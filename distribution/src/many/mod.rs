//! Many calls at once, over any caller.
//!
//! [`distribute`] is the stream that users hold: it pulls calls, keeps as many under way as nodes can use,
//! and yields what becomes of them. [`parcel`] packs calls into batches, [`pace`] finds out how many make
//! one, [`flight`] is a batch under way, [`outlet`] puts results in order, and [`broadcast`] makes one call
//! on every node.

mod broadcast;
mod distribute;
mod flight;
mod outlet;
mod pace;
mod parcel;
#[cfg(feature = "progress")]
mod progress;

pub use distribute::{DistributeIterator, DistributeStream, Distributed};
