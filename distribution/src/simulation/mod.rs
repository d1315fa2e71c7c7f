//! The randomised simulation of the master's decisions, and measurements of what they cost.
//!
//! `run` takes thousands of small clusters through events drawn from a seed: calls come, make others, expire and are
//! cancelled, callers leave, while nodes die, fall silent, come back, drain and answer late. After every event, the rules that must always hold are checked.
//! There is no clock, socket or thread in it, so a seed always gives the same history.
//!
//! Not part of the public API; use it with `cargo run --release -p distribution-instruments --bin simulate`.

mod administration;
mod callers;
mod cluster;
mod effects;
mod fault_plan;
pub mod growth;
mod model;
mod nodes;
mod register;
mod rules;
mod run;
mod sessions;
mod summary;
mod time;
mod turns;

pub use register::register;
pub use run::run;
pub use summary::{Summary, Violation};

pub use crate::node::idle::{IdleNode, IdleNodes};
