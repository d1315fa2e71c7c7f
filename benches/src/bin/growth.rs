//! How the cost of the master's decisions grows with nodes and waiting calls.
//!
//! `cargo run --release -p distribution-benches --bin growth` drives the core alone and prints for each kind of event the
//! time per operation, how often that is of what it is with the fewest nodes, and with the fewest calls that wait at all,
//! and the longest that the lock was held. `--quick` is for CI: it takes some seconds, and ends with code 1 if something
//! grows or holds the lock long.

#![allow(clippy::print_stdout, reason = "it reports to the person who runs it")]

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use clap::Parser;
use distribution::simulation::growth::{Cost, measure};

/// What DESIGN.md promises.
const LONGEST_HOLD: Duration = Duration::from_millis(1);
/// What even a busy machine keeps.
const LONGEST_HOLD_QUICK: Duration = Duration::from_millis(20);
/// What takes less than this is not compared: its time is that of a cache miss or two.
const SMALL: Duration = Duration::from_nanos(500);
/// By how much an operation may take longer with 1,000 nodes than with 10. The logarithm grows three-fold, and caches
/// hold less of what is looked at.
const MOST_GROWTH: f64 = 8.0;

/// Measures how the cost of the master's decisions grows.
#[derive(Parser)]
struct Options {
    /// With 10 and 1,000 nodes and 0 and 10,000 calls only; ends with code 1 if something grows too much.
    #[arg(long)]
    quick: bool,
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000])]
    nodes: Vec<usize>,
    /// Calls that wait.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 10_000, 1_000_000])]
    waiting: Vec<usize>,
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Operations of each kind in a round.
    #[arg(long, default_value_t = 200)]
    operations: u32,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick {
        options.nodes = vec![10, 1_000];
        options.waiting = vec![0, 10_000];
    }
    let bound = if options.quick { LONGEST_HOLD_QUICK } else { LONGEST_HOLD };
    // The first run warms the allocator and the caches.
    measure(10, 0, options.rounds, options.operations, thread_time);
    let mut violations = Vec::new();
    // Growth is told by nodes and by waiting calls apart: what a waiting call costs by itself is not growth.
    let mut fewest_calls: BTreeMap<(usize, &'static str), Duration> = BTreeMap::new();
    for waiting in &options.waiting {
        let mut fewest_nodes: BTreeMap<&'static str, Duration> = BTreeMap::new();
        for nodes in &options.nodes {
            let costs = measure(*nodes, *waiting, options.rounds, options.operations, thread_time);
            println!("{nodes} nodes, {waiting} calls wait");
            println!("  {:<28}{:>12}{:>10}{:>10}{:>14}", "", "each", "by nodes", "by calls", "longest hold");
            for Cost { what, each, longest } in costs {
                let few_nodes = *fewest_nodes.entry(what).or_insert(each);
                let by_nodes = times(each, few_nodes);
                let by_calls = (*waiting > 0).then(|| times(each, *fewest_calls.entry((*nodes, what)).or_insert(each)));
                let shown = by_calls.map_or_else(String::new, |growth| format!("{growth:.1}x"));
                println!("  {what:<28}{:>12}{by_nodes:>9.1}x{shown:>10}{:>14}", show(each), show(longest));
                let with = format!("with {nodes} nodes and {waiting} calls waiting");
                if longest > bound {
                    violations.push(format!("{what} held the lock for {} {with}", show(longest)));
                }
                if options.quick && times(each, few_nodes.max(SMALL)) > MOST_GROWTH {
                    violations.push(format!(
                        "{what} takes {} {with}, and {} with 10 nodes",
                        show(each),
                        show(few_nodes)
                    ));
                }
            }
        }
    }
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!("nothing held the lock for more than {bound:?}");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn times(time: Duration, base: Duration) -> f64 {
    time.as_secs_f64() / base.as_secs_f64().max(1e-9)
}

/// In microseconds, so that columns compare.
fn show(time: Duration) -> String {
    format!("{:.2} µs", time.as_nanos() as f64 / 1000.0)
}

#[cfg(unix)]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Without a clock of the thread, other programs count as well.
#[cfg(not(unix))]
fn thread_time() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
