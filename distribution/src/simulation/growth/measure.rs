//! All measurements for one size of a cluster.

use std::time::Duration;

use super::{cost::Cost, driver::Growth};

/// Measures everything with this many nodes and waiting calls. `clock` says how long the calling thread has run.
pub fn measure(nodes: usize, waiting: usize, rounds: u32, operations: u32, clock: fn() -> Duration) -> Vec<Cost> {
    let mut growth = Growth::new(nodes, rounds, operations, clock);
    growth.fill(waiting);
    growth.calls();
    growth.nodes();
    growth.time();
    growth.listing();
    let mut costs = growth.costs();
    if waiting == 0 {
        let mut growth = Growth::new(0, rounds, operations, clock);
        growth.verbose_nodes();
        costs.extend(growth.costs());
    } else {
        growth.shut_down();
        costs.extend(growth.costs());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_wait_for_one_node(waiting);
        costs.extend(growth.costs());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_expire(waiting);
        costs.extend(growth.costs());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_avoid_one_node(waiting);
        costs.extend(growth.costs());
    }
    costs
}
