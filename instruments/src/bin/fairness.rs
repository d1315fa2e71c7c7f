//! A caller that makes one call at a time, beside another one of which very many calls wait all the time: how long do the
//! calls of the quiet one take? They should wait for what runs, and for nothing that waits.
//!
//! `cargo run --release -p distribution-instruments --bin fairness`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use distribution::{Cluster, Master, Node};
use distribution_instruments::figures::{Figures, ms};
use distribution_tests::{process::Process, until};
use futures::{StreamExt, stream::FuturesUnordered};

/// What a call of the quiet caller may take beyond what runs.
const BEYOND: Duration = Duration::from_millis(10);

/// How long the other caller may take until its calls wait at the master.
const FLOODS_WITHIN: Duration = Duration::from_secs(30);

/// Measures a quiet caller beside a flood of calls of another.
#[derive(Parser)]
struct Options {
    /// Calls of the other caller that wait at the master all the time.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    flood: u32,

    /// Calls of the quiet caller, in each part.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,

    /// What each call of the flood takes, in microseconds; a part for each.
    #[arg(long, value_delimiter = ',', default_values_t = [50_000, 5_000, 1_000, 100])]
    takes_us: Vec<u64>,

    /// Slots of the one node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,

    /// A flood of 20,000 and 50 calls in each part; times are printed and not judged: for a machine that is busy.
    #[arg(long)]
    quick: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Keeps this many calls waiting, until it is killed.
    #[command(hide = true)]
    Flood { master: String, calls: u32, takes_us: u64 },
}

#[distribution::service]
trait Work {
    /// Holds a slot for this many microseconds.
    fn hold(&self, takes_us: u64);
    /// Returns at once, and says how many calls of the flood had started until then.
    fn look(&self) -> u64;
}

#[derive(Clone, Default)]
struct Worker(Arc<AtomicU64>);

impl Work for Worker {
    fn hold(&self, takes_us: u64) {
        self.0.fetch_add(1, Ordering::Relaxed);
        if takes_us > 0 {
            // It stands for work: a compute handler holds its slot for as long as it runs.
            std::thread::sleep(Duration::from_micros(takes_us));
        }
    }

    fn look(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, distribution::Error> {
    let mut options = Options::parse();
    if let Some(Role::Flood { master, calls, takes_us }) = options.role {
        return flood(&master, calls, takes_us).await.map(|()| ExitCode::FAILURE);
    }
    if options.quick {
        options = Options { flood: 20_000, calls: 50, ..options };
    }
    let mut is_kept = true;
    for takes_us in &options.takes_us {
        is_kept &= part(&options, *takes_us).await?;
    }
    println!("{}", if is_kept { "kept" } else { "BROKEN" });
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Keeps this many calls at the master, and makes a new one for each that ends.
async fn flood(master: &str, calls: u32, takes_us: u64) -> Result<(), distribution::Error> {
    let cluster = Cluster::connect(master).await?;
    let work = WorkClient::new(&cluster);
    let mut waiting: FuturesUnordered<_> = (0..calls).map(|_| work.hold(takes_us).send()).collect();
    while let Some(ended) = waiting.next().await {
        if let Err(error) = ended {
            println!("a call of the flood failed: {error}");
            break;
        }
        waiting.push(work.hold(takes_us).send());
    }
    Ok(())
}

async fn part(options: &Options, takes_us: u64) -> Result<bool, distribution::Error> {
    let flood = options.flood as usize;
    let master = Master::builder().max_queued_calls(flood * 2).max_queued_calls_per_caller(flood * 2);
    let master = master.bind("127.0.0.1:0").await?;
    let worker = Worker::default();
    let node = Node::builder().serve(WorkServer::new(worker.clone())).slots(options.slots as usize);
    let _node = node.spawn(master.local_addr()).await?;
    let cluster = Cluster::connect(master.local_addr()).await?;
    let quiet = WorkClient::new(&cluster);
    let alone = measure(&quiet, &worker, options.calls, || usize::MAX).await;

    let program = std::env::current_exe().expect("a program has a path");
    let arguments = [&master.local_addr().to_string(), &flood.to_string(), &takes_us.to_string()];
    let mut other = Process::start(&program, &["flood", arguments[0], arguments[1], arguments[2]]);
    // What is on its way or sent ahead does not wait at the master.
    let enough = flood * 9 / 10;
    let mut most = 0;
    let flooded = until("the flood to wait", || {
        most = most.max(master.stats().queued);
        most >= enough
    });
    if tokio::time::timeout(FLOODS_WITHIN, flooded).await.is_err() {
        other.kill().await;
        println!(
            "beside calls that take {}: not measured, because at most {most} of {flood} calls waited at the master: they run as fast as \
             the other caller makes them",
            ms(Duration::from_micros(takes_us))
        );
        return Ok(false);
    }
    let beside = measure(&quiet, &worker, options.calls, || master.stats().queued).await;
    other.kill().await;
    for line in other.rest().await {
        println!("{line}");
    }
    cluster.close().await;
    master.shutdown().await;

    let runs = Duration::from_micros(takes_us);
    println!(
        "beside {} or more waiting calls that take {}: {} (median), {} (p99), {} (worst); alone: {} (median), {} (p99)",
        beside.fewest,
        ms(runs),
        ms(beside.times.quantile(0.5)),
        ms(beside.times.quantile(0.99)),
        ms(beside.times.worst()),
        ms(alone.times.quantile(0.5)),
        ms(alone.times.quantile(0.99)),
    );
    println!(
        "  calls of the flood that started between a call and its turn: {} (median), {} (most); failed: {}",
        beside.overtaken[beside.overtaken.len() / 2],
        beside.overtaken.last().copied().unwrap_or(0),
        beside.failed
    );
    // Whatever the machine does meanwhile: were it first come, first served, nearly all that wait would be before it.
    let most = beside.overtaken.last().copied().unwrap_or(0);
    let is_in_turn = beside.failed == 0 && beside.fewest > flood / 2 && most < flood as u64 / 2;
    Ok(is_in_turn && (options.quick || beside.times.quantile(0.99) <= runs + BEYOND))
}

/// What the quiet caller has seen.
struct Measured {
    times: Figures,
    /// For each call, how many of the flood started before it and after it was made; in order.
    overtaken: Vec<u64>,
    /// The fewest calls that waited meanwhile.
    fewest: usize,
    failed: u32,
}

async fn measure(quiet: &WorkClient, worker: &Worker, calls: u32, queued: impl Fn() -> usize) -> Measured {
    let (mut times, mut overtaken, mut fewest, mut failed) = (Vec::new(), Vec::new(), usize::MAX, 0);
    for _ in 0..calls {
        let (began, before) = (Instant::now(), worker.look());
        match quiet.look().await {
            Ok(started) => overtaken.push(started - before),
            Err(error) => {
                println!("a call of the quiet caller failed: {error}");
                failed += 1;
                overtaken.push(u64::MAX);
            }
        }
        times.push(began.elapsed());
        fewest = fewest.min(queued());
        // Not in step with what runs.
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..5_000))).await;
    }
    overtaken.sort_unstable();
    Measured { times: Figures::new(times), overtaken, fewest, failed }
}
