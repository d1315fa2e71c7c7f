//! The master's decisions against a world made of chance: thousands of small clusters in which nodes
//! die, fall silent, come back, drain and answer late, while calls come, expire and are given up.
//!
//! A seed makes one history: the world plays nodes and links, the rules are looked at after
//! every step. No clock, socket or thread takes part, so a seed gives the same history each time.
//! Not part of the public API; `cargo run --release -p distribution-instruments --bin simulate` is.

pub mod growth;
mod rules;
mod world;

use world::World;

pub use crate::node::light::{LightNode, LightNodes};

/// Registers so many nodes at a master that are not there: their calls go over no wire, and are answered at
/// once with their own arguments. To be called on the master's runtime.
///
/// # Errors
///
/// [`Error::ServedTwice`](crate::Error::ServedTwice), as for a node.
pub fn register(master: &crate::Master, service: impl crate::Service, count: usize) -> Result<(), crate::Error> {
    let router = crate::service::router::Router::new([service.routes()])?;
    master.simulate_nodes(router.offers(), count);
    Ok(())
}

/// What a seed led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events that were brought to the core.
    pub events: u64,
    /// Calls that were made.
    pub calls: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Nodes that registered.
    pub nodes: u64,
    /// Hash of all events and effects in their order.
    pub history: u64,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// At which step.
    pub step: u64,
    /// Which rule.
    pub what: String,
    /// The last events and effects before it, oldest first.
    pub history: Vec<String>,
}

/// Runs one seed.
///
/// # Errors
///
/// The first rule that is broken, with what led there.
pub fn run(seed: u64) -> Result<Summary, Box<Violation>> {
    let mut world = World::new(seed);
    match world.run() {
        Ok(()) => Ok(world.summary()),
        Err(what) => {
            let history = world.history();
            Err(Box::new(Violation { seed, step: world.summary().events, what, history }))
        }
    }
}
