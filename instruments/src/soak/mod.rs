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
//! Memory is what the system counts as resident. That is made to mean what a process holds: glibc's
//! allocator keeps what was freed, of large blocks the more the longer it runs and in each thread's arena
//! apart, so that resident memory creeps up by a tenth in minutes while what is allocated stays the same
//! to the byte. So the program starts itself anew with that turned off ([`tidy_allocator`]), and its
//! nodes with it. `--allocator-as-is` leaves it as it is; then memory is shown and not judged.
//!
//! It fails, with a sentence, if
//!
//! - the memory of the master's process or of the first node was more than 5 % higher in the last quarter
//!   than in the second (medians of samples). Only in runs of [`FAIR`] and more: in shorter ones the
//!   allocator is still finding its size, and 5 % is noise;
//! - descriptors or tasks are not back to what they were before the load, within [`SETTLING`] of its end;
//! - any call ended otherwise than it was to. Restarts in order do not explain it.

mod fleet;
mod gauge;
mod load;
mod report;
mod service;

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
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
/// As many samples without a change are a rest.
const AT_REST: u32 = 10;

/// Nodes are restarted so often in a run, one after the other.
const RESTARTS: u32 = 12;

/// What tells glibc's allocator to give freed memory back to the system: large blocks at once, and the
/// end of its heap. Other allocators take no notice.
const TIDY: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536")];

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
    /// Show memory with all that the allocator keeps of what was freed, and do not judge it
    #[arg(long)]
    pub allocator_as_is: bool,
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
        None if !options.allocator_as_is && std::env::var_os(TIDY[0].0).is_none() => Err(tidy_allocator()),
        None => run(options).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("soak: {error}");
        ExitCode::from(2)
    })
}

/// Becomes the same program with the allocator told to give back what is freed. Returns only if that
/// cannot be done, with the reason.
fn tidy_allocator() -> io::Error {
    match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).envs(TIDY).exec(),
        Err(error) => error,
    }
}

async fn run(options: Options) -> io::Result<ExitCode> {
    let master = Master::bind("127.0.0.1:0").await.map_err(io::Error::other)?;
    let mut fleet = Fleet::start(&master, options.nodes, options.slots).await?;
    let start = at_rest().await?;
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

/// What there is once nothing has begun or ended for a while: a node that has just joined is still compared with others.
async fn at_rest() -> io::Result<Reading> {
    let (mut last, mut unchanged) = (Reading::take()?, 0);
    while unchanged < AT_REST {
        tokio::time::sleep(SAMPLE).await;
        let reading = Reading::take()?;
        unchanged = if reading == last { unchanged + 1 } else { 0 };
        last = reading;
    }
    Ok(last)
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
