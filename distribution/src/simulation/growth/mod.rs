//! What the core's events cost with many nodes and many waiting calls.
//!
//! This drives the core alone: without threads and sockets, and without real nodes and callers. Each call into the core is
//! timed, because the master's lock is held for that long.

mod cost;
mod driver;
mod load;
mod measure;

pub use cost::Cost;
pub use measure::measure;
