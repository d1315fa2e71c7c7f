//! All measurements for one size of a cluster.

use std::time::Duration;

use super::{
    cost::{Cost, Events},
    driver::Growth,
};

/// How often everything is measured. The core gets the same events each time and does the same with them, so an event
/// that takes longer once was held up by the machine: the shortest of its times counts.
const PASSES: usize = 3;

/// Measures everything with this many nodes and waiting calls. `clock` says how long the calling thread has run.
pub fn measure(nodes: usize, waiting: usize, rounds: u32, operations: u32, clock: fn() -> Duration) -> Vec<Cost> {
    let mut shortest = pass(nodes, waiting, rounds, operations, clock);
    for _ in 1..PASSES {
        let again = pass(nodes, waiting, rounds, operations, clock);
        shortest.iter_mut().zip(&again).for_each(|(events, again)| events.keep_shortest(again));
    }
    shortest.iter().map(Events::cost).collect()
}

fn pass(nodes: usize, waiting: usize, rounds: u32, operations: u32, clock: fn() -> Duration) -> Vec<Events> {
    let mut growth = Growth::new(nodes, rounds, operations, clock);
    growth.fill(waiting);
    growth.calls();
    growth.nodes();
    growth.time();
    growth.listing();
    let mut events = growth.measured();
    if waiting == 0 {
        let mut growth = Growth::new(0, rounds, operations, clock);
        growth.verbose_nodes();
        events.extend(growth.measured());
    } else {
        growth.shut_down();
        events.extend(growth.measured());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_wait_for_one_node(waiting);
        events.extend(growth.measured());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_expire(waiting);
        events.extend(growth.measured());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_avoid_one_node(waiting);
        events.extend(growth.measured());
    }
    events
}
