//! Many calls at once, over any caller.
//!
//! [`distribute`] is the stream that users hold: it pulls calls, keeps as many under way as nodes can use,
//! and yields what becomes of them. [`parcel`] packs calls into batches, [`pace`] finds out how many make
//! one, [`flight`] is a batch under way, [`landing`] takes apart what comes back, [`hedge`] sends late calls
//! twice, [`unserved`] knows what no node serves, [`outlet`] puts results in order, [`progress`] tells how far
//! it is, and [`broadcast`] makes one call on every node.

#[cfg(feature = "progress")]
mod bar;
mod broadcast;
mod distribute;
mod flight;
mod hedge;
mod landing;
mod outlet;
mod pace;
mod parcel;
mod progress;
#[cfg(test)]
mod tests;
mod ticker;
mod unserved;

#[cfg(feature = "progress")]
pub use bar::LogWriter;
pub use distribute::{DistributeIterator, DistributeStream, Distributed};
pub use progress::Progress;
