//! Kills nodes, callers and masters amid streams: what a consumer gets are the right items, in order and without a gap, up to
//! the end or an error, and no stream that broke off is taken for one that has ended.
//!
//! `cargo run --release -p distribution-instruments --bin streams`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    collections::BTreeMap,
    io,
    process::{ExitCode, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use distribution::{AdminClient, CallError, Cluster, Master, Node, Streaming};
use distribution_instruments::{
    chaos::child::{Child, end_with_parent},
    memory::resident,
};
use futures::{Stream, StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Streams that a caller reads at a time, of each kind.
const AT_A_TIME: u64 = 8;

/// How long it may take until nothing is left of the streams, once their callers have gone.
const REST: Duration = Duration::from_secs(20);

/// Kills processes amid streams.
#[derive(Parser)]
struct Options {
    /// Nodes to kill.
    #[arg(long, default_value_t = 100)]
    node_kills: u32,

    /// Callers to kill.
    #[arg(long, default_value_t = 100)]
    caller_kills: u32,

    /// Masters to kill.
    #[arg(long, default_value_t = 100)]
    master_kills: u32,

    /// Five of each.
    #[arg(long)]
    quick: bool,

    /// Kills nothing: opens this many streams that nobody reads, and prints what memory they take.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    stalled: Option<u32>,

    /// Seed of the order; drawn and printed unless given.
    #[arg(long)]
    seed: Option<u64>,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What the processes do that this program starts.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Master { addr: String },
    #[command(hide = true)]
    Node { master: String },
    #[command(hide = true)]
    Caller { master: String },
}

/// Streams whose items follow from a key.
#[distribution::service]
trait Numbers {
    /// This many items of the key, on a slot.
    fn compute(&self, key: u64, count: u64) -> impl Iterator<Item = u64> + Send;

    /// The same without a slot.
    fn wait(&self, key: u64, count: u64) -> impl Stream<Item = Result<u64, String>> + Send;

    /// Each number and the key, mixed.
    fn mixed(&self, key: u64, numbers: Streaming<u64>) -> impl Stream<Item = u64> + Send;

    /// How many numbers there were, and their sum.
    fn sum(&self, numbers: Streaming<u64>) -> (u64, u64);
}

struct Mixer;

/// The item at this place.
fn item(key: u64, at: u64) -> u64 {
    (key ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(17).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Numbers for Mixer {
    fn compute(&self, key: u64, count: u64) -> impl Iterator<Item = u64> + Send {
        (0..count).map(move |at| item(key, at))
    }

    fn wait(&self, key: u64, count: u64) -> impl Stream<Item = Result<u64, String>> + Send {
        stream::iter(0..count).map(move |at| Ok(item(key, at)))
    }

    fn mixed(&self, key: u64, numbers: Streaming<u64>) -> impl Stream<Item = u64> + Send {
        numbers.map(move |number| item(key, number))
    }

    fn sum(&self, numbers: Streaming<u64>) -> (u64, u64) {
        numbers.into_iter().fold((0, 0), |(count, sum), number| (count + 1, sum + number))
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut options = Options::parse();
    match options.role.take() {
        Some(Role::Master { addr }) => {
            end_with_parent(|_| {});
            let _master = Master::builder().reconnect_grace(Duration::from_millis(200)).bind(addr).await?;
            std::future::pending().await
        }
        Some(Role::Node { master }) => {
            end_with_parent(|_| {});
            Node::builder().slots(4).serve(NumbersServer::new(Mixer)).run(master).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Role::Caller { master }) => {
            end_with_parent(|_| {});
            call(&master).await?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            if options.quick {
                (options.node_kills, options.caller_kills, options.master_kills) = (5, 5, 5);
            }
            let is_kept = match options.stalled {
                Some(streams) => stall(streams).await?,
                None => drive(&options).await?,
            };
            println!("{}", if is_kept { "kept" } else { "BROKEN" });
            Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// What a caller has read.
#[derive(Default)]
struct Counts {
    whole: AtomicU64,
    /// Streams that ended with an error behind at least one item.
    cut: AtomicU64,
    /// Those that ended with an error before.
    failed: AtomicU64,
    items: AtomicU64,
}

/// Reads streams without end, and prints what came of them.
async fn call(master: &str) -> Result<(), distribution::Error> {
    let cluster = Cluster::builder().reconnect_timeout(Duration::from_secs(60)).connect(master).await?;
    let counts = Arc::new(Counts::default());
    for task in 0..AT_A_TIME * 4 {
        let (numbers, counts) = (NumbersClient::new(&cluster), Arc::clone(&counts));
        tokio::spawn(async move {
            let mut rng = SmallRng::seed_from_u64(rand::rng().random());
            loop {
                let (key, count) = (rng.random(), rng.random_range(0..400_000));
                let values = || match rng.random() {
                    true => Streaming::from_iter(0..count),
                    false => Streaming::new(stream::iter(0..count)),
                };
                match task % 4 {
                    0 => read(numbers.compute(key, count), key, count, &counts).await,
                    1 => read(numbers.wait(key, count), key, count, &counts).await,
                    2 => {
                        let mut values = values;
                        read(numbers.mixed(key, values()), key, count, &counts).await;
                    }
                    _ => {
                        let mut values = values;
                        let expected = (count, (0..count).sum::<u64>());
                        match numbers.sum(values()).await {
                            Ok(sum) if sum == expected => _ = counts.whole.fetch_add(1, Ordering::Relaxed),
                            Ok(sum) => println!("WRONG the sum of {count} numbers is {sum:?}"),
                            Err(error) => {
                                note_error(&error);
                                counts.failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                }
            }
        });
    }
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let [whole, cut, failed, items] =
            [&counts.whole, &counts.cut, &counts.failed, &counts.items].map(|count| count.load(Ordering::Relaxed));
        println!("counts {whole} {cut} {failed} {items}");
    }
}

/// Only a process that was killed can be the cause of an error here.
fn note_error<E: std::fmt::Debug>(error: &CallError<E>) {
    if !matches!(error, CallError::NodeLost { .. } | CallError::MasterLost { .. } | CallError::Poisoned { .. }) {
        println!("WRONG a stream ended as {error:?}");
    }
}

async fn read<E: std::fmt::Debug>(
    mut items: impl Stream<Item = Result<u64, CallError<E>>> + Unpin,
    key: u64,
    count: u64,
    counts: &Counts,
) {
    let mut at = 0;
    while let Some(next) = items.next().await {
        match next {
            Ok(number) if number == item(key, at) && at < count => at += 1,
            Ok(number) => {
                println!("WRONG item {at} of {count} is {number}");
                return;
            }
            Err(error) => {
                note_error(&error);
                let count = if at > 0 { &counts.cut } else { &counts.failed };
                count.fetch_add(1, Ordering::Relaxed);
                counts.items.fetch_add(at, Ordering::Relaxed);
                if items.next().await.is_some() {
                    println!("WRONG something came behind the error");
                }
                return;
            }
        }
    }
    if at != count {
        println!("WRONG a stream of {count} items ended after {at}");
    }
    counts.whole.fetch_add(1, Ordering::Relaxed);
    counts.items.fetch_add(at, Ordering::Relaxed);
}

/// The newest counts of each caller, and what was wrong.
#[derive(Default)]
struct Seen {
    counts: BTreeMap<u32, [u64; 4]>,
    wrong: Vec<String>,
}

impl Seen {
    fn total(&self) -> [u64; 4] {
        self.counts.values().fold([0; 4], |sum, counts| std::array::from_fn(|at| sum[at] + counts[at]))
    }
}

fn start(arguments: &[&str]) -> io::Result<Child> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Child::start(&arguments, Stdio::null())
}

fn start_caller(master: &str, number: u32, seen: &Arc<Mutex<Seen>>) -> io::Result<Child> {
    let mut child = start(&["caller", master])?;
    let stdout = child.take_stdout().ok_or_else(|| io::Error::other("a child has an output"))?;
    let seen = Arc::clone(seen);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut seen = seen.lock().expect("nothing panics with it");
            match line.strip_prefix("counts ") {
                Some(counts) => {
                    let mut counts = counts.split(' ').filter_map(|count| count.parse().ok());
                    seen.counts.insert(number, std::array::from_fn(|_| counts.next().unwrap_or(0)));
                }
                None => seen.wrong.push(line),
            }
        }
    });
    Ok(child)
}

async fn drive(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let mut rng = SmallRng::seed_from_u64(seed);
    // The masters follow each other at this address.
    let addr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut master = start(&["master", &addr])?;
    let mut nodes = [start(&["node", &addr])?, start(&["node", &addr])?];
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut callers = [start_caller(&addr, 0, &seen)?, start_caller(&addr, 1, &seen)?];
    let mut next_caller = 2;
    let began = Instant::now();
    let mut left = [options.node_kills, options.caller_kills, options.master_kills];
    while left.iter().sum::<u32>() > 0 {
        progress(&seen, 2).await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..150))).await;
        let mut draw = rng.random_range(0..left.iter().sum::<u32>());
        let kind = left.iter().position(|left| match draw.checked_sub(*left) {
            Some(rest) => {
                draw = rest;
                false
            }
            None => true,
        });
        let Some(kind) = kind else { break };
        left[kind] -= 1;
        let at = rng.random_range(0..2);
        match kind {
            0 => {
                nodes[at].kill().await?;
                nodes[at] = start(&["node", &addr])?;
            }
            1 => {
                callers[at].kill().await?;
                callers[at] = start_caller(&addr, next_caller, &seen)?;
                next_caller += 1;
            }
            _ => {
                master.kill().await?;
                master = start(&["master", &addr])?;
            }
        }
    }
    progress(&seen, 2).await?;
    for caller in &mut callers {
        caller.kill().await?;
    }
    let cluster = Cluster::connect(&addr).await?;
    let rest = at_rest(&AdminClient::new(&cluster)).await;
    let mut seen = seen.lock().expect("nothing panics with it");
    if let Some(left) = rest {
        seen.wrong.push(format!("{left} streams are left {REST:?} after their callers were killed"));
    }
    let [whole, cut, failed, items] = seen.total();
    let Options { node_kills, caller_kills, master_kills, .. } = options;
    println!(
        "{node_kills} nodes, {caller_kills} callers and {master_kills} masters were killed in {:.0} s (seed {seed})",
        began.elapsed().as_secs_f64()
    );
    println!("streams: {whole} whole, {cut} cut amid their items, {failed} failed before the first; {items} items");
    println!("wrong: {}", seen.wrong.len());
    seen.wrong.iter().take(20).for_each(|wrong| println!("  {wrong}"));
    Ok(seen.wrong.is_empty() && whole > 0 && cut > 0)
}

/// Opens streams that nobody reads, and prints the memory of each process before, with them and after.
async fn stall(streams: u32) -> Result<bool, Box<dyn std::error::Error>> {
    let addr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let master = start(&["master", &addr])?;
    let node = start(&["node", &addr])?;
    let cluster = Cluster::connect(&addr).await?;
    let numbers = NumbersClient::new(&cluster);
    let all = |what: &str| {
        let [master, node, caller] =
            [master.id(), node.id(), std::process::id()].map(resident).map(Result::unwrap_or_default);
        println!("{what}: master {master} KiB, node {node} KiB, caller {caller} KiB");
    };
    // What a first stream needs once. Of another method: a node gets more calls at once whose length is not known.
    for _ in 0..100 {
        read(numbers.compute(1, 10_000), 1, 10_000, &Counts::default()).await;
    }
    all("before");
    let mut stalled: Vec<_> = (0..streams).map(|key| numbers.wait(key.into(), u64::MAX).send()).collect();
    let admin = AdminClient::new(&cluster);
    let (mut before, mut now) = (0, resident(std::process::id())?);
    // Until all have run, as far as they may at a time, and nothing more comes.
    while before != now || admin.stats().await?.in_flight == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (before, now) = (now, resident(std::process::id())?);
    }
    all(&format!("with {streams} stalled streams, {} of them under way", admin.stats().await?.in_flight));
    // Each has what is right.
    let mut is_right = true;
    for (key, stream) in stalled.iter_mut().enumerate().take(1000) {
        is_right &= stream.next().await == Some(Ok(item(key as u64, 0)));
    }
    drop(stalled);
    let left = at_rest(&admin).await;
    all("after");
    Ok(is_right && left.is_none())
}

/// Waits until the callers have read some more streams to their end.
async fn progress(seen: &Mutex<Seen>, streams: u64) -> io::Result<()> {
    let whole = || seen.lock().expect("nothing panics with it").total()[0];
    let (before, began) = (whole(), Instant::now());
    while whole() < before + streams {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(io::Error::other("no stream has ended for a minute: the run stands still"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Waits until no node has a call any more. Returns how many there are if that takes too long.
async fn at_rest(admin: &AdminClient) -> Option<usize> {
    let began = Instant::now();
    loop {
        let nodes = admin.nodes().await.unwrap_or_default();
        let in_flight: usize = nodes.iter().map(|node| node.in_flight).sum();
        if in_flight == 0 {
            return None;
        }
        if began.elapsed() > REST {
            return Some(in_flight);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
