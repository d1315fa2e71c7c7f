//! Soak: mixed load for a while, and whether anything grows that should not.
//!
//! The master is in this process, nodes are processes of the same program. Callers make small and large
//! calls, compute and async, that are answered, refused, panic, time out, are dropped and left to
//! themselves ([`load`]); nodes are restarted in order now and then, all but the first ([`fleet`]).
//!
//! By quarter of the run it prints the memory of the master's process and of the first node, of which
//! neither is ever restarted, and of all nodes together; file descriptors and tokio tasks of the master's
//! process; and how fast small calls were. Then all callers stop.
//!
//! It fails, with a sentence, if
//!
//! - the memory of the master's process or of the first node was more than 5 % higher in the last quarter
//!   than in the second (medians of samples). Only in runs of [`FAIR`] and more: in shorter ones the
//!   allocator is still finding its size, and 5 % is noise;
//! - descriptors or tasks are not back to what they were before the load, within [`SETTLING`] of its end;
//! - any call ended otherwise than it was to. Restarts in order are no excuse.

mod fleet;
mod gauge;
mod load;
mod report;
mod service;

use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

use distribution::Master;
use fleet::Fleet;
use gauge::Reading;
use load::Load;
use report::{Quarter, Report};

/// From this on memory is judged.
const FAIR: Duration = Duration::from_secs(60);

/// How much memory may grow from the second quarter to the last.
const GROWTH: f64 = 0.05;

/// How long it may take until all is quiet.
const SETTLING: Duration = Duration::from_secs(10);

/// Time between two samples.
const SAMPLE: Duration = Duration::from_millis(100);

/// Nodes are restarted so often in a run, one after the other.
const RESTARTS: u32 = 12;

/// What a run is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long the load runs; memory is judged from 60 s on
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(4..))]
    pub seconds: u64,
    /// Node processes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub nodes: u32,
    /// Slots of each node
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Callers that each make one call after the other
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub callers: u32,
    /// Seed of what is called; what meets what depends on timing all the same
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What a process that a run started is to be.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// Serves calls
    #[command(hide = true)]
    Node(fleet::Arguments),
}

/// Runs a role to its end, or without one the whole.
#[allow(clippy::print_stderr, reason = "it is a program's only way to say what is wrong")]
pub async fn main(options: Options, role: Option<Role>) -> ExitCode {
    let ended = match role {
        Some(Role::Node(arguments)) => fleet::serve(arguments).await.map(|()| ExitCode::SUCCESS),
        None => run(options).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("soak: {error}");
        ExitCode::from(2)
    })
}

async fn run(options: Options) -> io::Result<ExitCode> {
    let master = Master::bind("127.0.0.1:0").await.map_err(io::Error::other)?;
    let mut fleet = Fleet::start(&master, options.nodes, options.slots).await?;
    let start = Reading::take()?;
    let time = Duration::from_secs(options.seconds);
    let load = Load::start(&master, options.callers, options.seed);
    let (began, mut restarts) = (Instant::now(), 0);
    let mut quarters = Vec::new();
    for number in 1..=4 {
        let mut quarter = Quarter::begin(number, &load);
        while began.elapsed() < time * number / 4 {
            tokio::time::sleep(SAMPLE).await;
            quarter.sample(&fleet)?;
            if restarts < RESTARTS && began.elapsed() > time * (restarts + 1) / (RESTARTS + 1) {
                restarts += 1;
                fleet.restart_next(&master).await?;
            }
        }
        let quarter = quarter.end(&load);
        report::show(&quarter);
        quarters.push(quarter);
    }
    let wrong = load.stop().await;
    let quiet = settle(&start).await?;
    let report = Report::new(&options, restarts, quarters, start, quiet, wrong);
    report.show();
    fleet.clear().await;
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until descriptors and tasks are what they were, for as long as that may take.
async fn settle(start: &Reading) -> io::Result<Reading> {
    let since = Instant::now();
    loop {
        let reading = Reading::take()?;
        if reading == *start || since.elapsed() > SETTLING {
            return Ok(reading);
        }
        tokio::time::sleep(SAMPLE).await;
    }
}
