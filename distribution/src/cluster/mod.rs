//! A caller in another process than the master's: connects to the master, and makes calls there.
//!
//! A program sets a caller up with a [`builder`] and holds [`handle`]s of it. A task keeps it connected ([`session`]) and
//! drives each connection ([`connection`]). Clients submit their calls to what all of these share ([`shared`]). It keeps
//! the calls that have not ended ([`calls`]), and what the master tells of its nodes ([`capacities`]).

mod accepted;
mod builder;
mod calls;
mod capacities;
mod connection;
mod handle;
mod nested;
mod run_reports;
mod session;
mod shared;
mod status;

pub use builder::ClusterBuilder;
pub use handle::Cluster;
pub(crate) use nested::{NestedCaller, NestedCallerSetup};
