//! Runs one seed of the simulation.

use super::{
    cluster::SimulatedCluster,
    summary::{Summary, Violation},
};

/// Runs one seed.
///
/// # Errors
///
/// The first rule that is broken, with the events before it.
pub fn run(seed: u64) -> Result<Summary, Box<Violation>> {
    let mut world = SimulatedCluster::new(seed);
    match world.run() {
        Ok(()) => Ok(world.summary()),
        Err(what) => {
            let history = world.history();
            Err(Box::new(Violation { seed, step: world.summary().events, what, history }))
        }
    }
}
