//! Resets the connections of nodes again and again, some amid a message, while all their slots are busy with calls that
//! take seconds: no call may fail, none may run twice, and no node may lose its registration. The connection of a caller
//! elsewhere is reset too.
//!
//! `cargo run --release -p distribution-instruments --bin resets`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use distribution::{Cluster, Master, Node, NodeEvent};
use distribution_instruments::figures::{Figures, ms};
use distribution_tests::proxy::{Proxy, WAYS};
use futures::StreamExt;
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::task::JoinSet;

/// Up to this many bytes after it is planned, a reset comes, if it does not come at once.
const RESET_WITHIN: u32 = 200;

/// How much longer than the calls themselves all may take to end. More is a hang.
const HANGS: Duration = Duration::from_secs(60);

/// Resets connections under calls that take long.
#[derive(Parser)]
struct Options {
    /// Seconds in which calls are made.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,

    /// Resets of connections of nodes, in this time.
    #[arg(long, default_value_t = 200)]
    resets: u32,

    /// Resets of the connection of the caller that is not in the master's process, in this time.
    #[arg(long, default_value_t = 50)]
    caller_resets: u32,

    /// Milliseconds that each call takes.
    #[arg(long, default_value_t = 3_000)]
    call_ms: u64,

    /// Nodes, each with a connection of its own.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,

    /// Slots of each node. As many compute calls as there are slots run all the time, and as many async ones.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,

    /// Four seconds with 24 resets, and calls that take half a second.
    #[arg(long)]
    quick: bool,

    /// Seed of the resets; drawn and printed unless given.
    #[arg(long)]
    seed: Option<u64>,
}

/// Methods that may run once.
#[distribution::service]
trait Work {
    /// Takes this many milliseconds in a slot, and returns the number.
    fn compute(&self, number: u64, ms: u64) -> u64;
    /// The same without a slot.
    async fn wait(&self, number: u64, ms: u64) -> u64;
}

/// Writes down how often each call has run.
#[derive(Clone, Default)]
struct Worker(Arc<Mutex<HashMap<u64, u32>>>);

impl Worker {
    fn note(&self, number: u64) {
        *self.0.lock().expect("nothing panics with it").entry(number).or_default() += 1;
    }
}

impl Work for Worker {
    fn compute(&self, number: u64, ms: u64) -> u64 {
        self.note(number);
        // It stands for work: a compute handler holds its slot for as long as it runs.
        std::thread::sleep(Duration::from_millis(ms));
        number
    }

    async fn wait(&self, number: u64, ms: u64) -> u64 {
        self.note(number);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        number
    }
}

/// What became of the calls of one task.
#[derive(Default)]
struct Made {
    took: Vec<Duration>,
    failed: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, distribution::Error> {
    let mut options = Options::parse();
    if options.quick {
        options = Options { seconds: 4.0, resets: 24, caller_resets: 6, call_ms: 500, ..options };
    }
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let is_kept = run(&options, seed).await?;
    println!("{}", if is_kept { "kept" } else { "BROKEN" });
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(options: &Options, seed: u64) -> Result<bool, distribution::Error> {
    let master = Master::bind("127.0.0.1:0").await?;
    let worker = Worker::default();
    let (mut proxies, mut nodes) = (Vec::new(), Vec::new());
    for number in 0..options.nodes {
        let proxy = Proxy::to(master.local_addr()).await;
        let node = Node::builder().serve(WorkServer::new(worker.clone())).slots(options.slots as usize);
        nodes.push(node.name(format!("node-{number}")).spawn(proxy.addr()).await?);
        proxies.push(proxy);
    }
    let of_caller = Proxy::to(master.local_addr()).await;
    let cluster = Cluster::connect(of_caller.addr()).await?;
    let events = tokio::spawn(watch(master.clone()));

    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let numbers = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..options.nodes * options.slots * 2 {
        // Half of them compute and half async, and of each half of them from elsewhere.
        let client = if task % 4 < 2 { WorkClient::new(&master) } else { WorkClient::new(&cluster) };
        let (numbers, ms) = (Arc::clone(&numbers), options.call_ms);
        tasks.spawn(async move {
            let mut made = Made::default();
            while Instant::now() < until {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                let call = if task % 2 == 0 { client.compute(number, ms) } else { client.wait(number, ms) };
                match call.await {
                    Ok(answered) if answered == number => made.took.push(began.elapsed()),
                    other => made.failed.push(format!("call {number} ended as {other:?}")),
                }
            }
            made
        });
    }
    reset(options, seed, until, &proxies, &of_caller).await;
    let ended = tokio::time::timeout(Duration::from_millis(options.call_ms) + HANGS, tasks.join_all()).await;
    let Ok(made) = ended else {
        println!("calls hang: {:?}", master.stats());
        return Ok(false);
    };

    let connections: usize = proxies.iter().map(Proxy::connections).sum();
    let connections_of_caller = of_caller.connections();
    cluster.close().await;
    master.shutdown().await;
    let (resumed, gone) = events.await.unwrap_or_default();
    let (mut took, mut failed) = (Vec::new(), Vec::new());
    for made in made {
        took.extend(made.took);
        failed.extend(made.failed);
    }
    let runs = worker.0.lock().expect("nothing panics with it");
    let calls = numbers.load(Ordering::Relaxed);
    let twice = runs.values().filter(|times| **times > 1).count();
    let Options { seconds, resets, caller_resets, call_ms, .. } = options;
    println!(
        "{resets} planned resets of node connections and {caller_resets} of a caller's in {seconds} s, under calls of {call_ms} ms (seed {seed})"
    );
    println!(
        "connections: {connections} of {} nodes, {connections_of_caller} of the caller; nodes came back with their calls {resumed} times",
        options.nodes
    );
    let times = Figures::new(took);
    println!(
        "calls: {calls}, failed: {}, run twice: {twice}, handlers run: {}; took {} (median), {} (longest)",
        failed.len(),
        runs.len(),
        ms(times.quantile(0.5)),
        ms(times.worst())
    );
    println!("nodes that the master gave up: {}", gone.len());
    failed.iter().chain(&gone).take(20).for_each(|what| println!("  {what}"));
    // A reset that is planned amid a message may meet none, or be replaced by the next one.
    let was_reset = resumed > 0
        && connections - options.nodes as usize >= *resets as usize / 8
        && (*caller_resets == 0 || connections_of_caller > 1);
    Ok(was_reset && calls > 0 && failed.is_empty() && gone.is_empty() && twice == 0 && runs.len() as u64 == calls)
}

/// Resets connections in random order, spread evenly over the time: half of them at once, half amid a message.
async fn reset(options: &Options, seed: u64, until: Instant, proxies: &[Proxy], of_caller: &Proxy) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let count = options.resets + options.caller_resets;
    let mut left = [options.resets, options.caller_resets];
    let Some(pause) = until.saturating_duration_since(Instant::now()).checked_div(count + 1) else { return };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
    for _ in 0..count {
        ticks.tick().await;
        let of_node = rng.random_range(0..left[0] + left[1]) < left[0];
        left[usize::from(!of_node)] -= 1;
        let proxy = if of_node { proxies.choose(&mut rng).unwrap_or(of_caller) } else { of_caller };
        match WAYS.choose(&mut rng) {
            Some(way) if rng.random() => proxy.cut_after(*way, rng.random_range(0..RESET_WITHIN)),
            _ => proxy.cut(),
        }
    }
}

/// How often nodes came back with their calls until the master shut down, and which were given up meanwhile.
async fn watch(master: Master) -> (u64, Vec<String>) {
    let mut events = master.events();
    drop(master);
    let (mut resumed, mut gone) = (0, Vec::new());
    while let Some(event) = events.next().await {
        match event {
            NodeEvent::Resumed { .. } => resumed += 1,
            // Without calls there is nothing to keep; after the shutdown all are gone.
            NodeEvent::Gone { node, reason, in_flight, .. } if in_flight > 0 => {
                gone.push(format!("{node} was given up with {in_flight} calls: it {reason}"));
            }
            _ => {}
        }
    }
    (resumed, gone)
}
