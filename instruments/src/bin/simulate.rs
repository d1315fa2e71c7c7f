//! Runs the master's decisions against worlds made of chance: `simulate --seeds 100000`.
//!
//! Ends with code 1 and the seed where a rule is broken; `simulate --seed N` shows that one alone, with
//! what led there.
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use clap::Parser;
use distribution::simulation::{Summary, Violation, run};
use rayon::prelude::*;

/// Runs the pure core of the master against simulated nodes and checks its rules after every event.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,

    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,

    /// Run this seed alone, twice, and print its history if it fails.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.seed {
        Some(seed) => alone(seed),
        None => many(options.from, options.seeds),
    }
}

fn alone(seed: u64) -> ExitCode {
    match (run(seed), run(seed)) {
        (Ok(first), Ok(second)) if first == second => {
            println!("seed {seed} holds, twice alike: {first:?}");
            ExitCode::SUCCESS
        }
        (Ok(first), Ok(second)) => {
            println!("seed {seed} has two histories: {first:?} and {second:?}");
            ExitCode::FAILURE
        }
        (Err(violation), _) | (_, Err(violation)) => {
            for line in &violation.history {
                println!("{line}");
            }
            tell(&violation);
            ExitCode::FAILURE
        }
    }
}

fn tell(violation: &Violation) {
    println!("seed {} fails at event {}: {}", violation.seed, violation.step, violation.what);
}

fn many(from: u64, seeds: u64) -> ExitCode {
    let started = Instant::now();
    let [events, calls, answered, nodes] = [const { AtomicU64::new(0) }; 4];
    // The lowest failing seed, whichever thread meets one first, so that a run says the same each time.
    let failed = (from..from.saturating_add(seeds)).into_par_iter().find_map_first(|seed| match run(seed) {
        Ok(Summary { events: e, calls: c, answered: a, nodes: n, .. }) => {
            for (total, one) in [(&events, e), (&calls, c), (&answered, a), (&nodes, n)] {
                total.fetch_add(one, Ordering::Relaxed);
            }
            None
        }
        Err(violation) => Some(violation),
    });
    if let Some(violation) = failed {
        tell(&violation);
        println!("see what led there: simulate --seed {}", violation.seed);
        return ExitCode::FAILURE;
    }
    let [events, calls, answered, nodes] = [events, calls, answered, nodes].map(AtomicU64::into_inner);
    let seconds = started.elapsed().as_secs_f64();
    println!("{seeds} seeds hold: {events} events, {calls} calls ({answered} answered), {nodes} nodes");
    println!("{:.0} seeds a second", seeds as f64 / seconds);
    ExitCode::SUCCESS
}
