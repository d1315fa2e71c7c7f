//! What viewers of the page cost a master of many nodes and methods, and its callers.
//!
//! `cargo build --release -p distribution-cli && cargo run --release -p distribution-instruments --bin viewers`
//!
//! The master is a process of its own, and the nodes of which there are many are idle ones. Rules: with 50 viewers, the 99th
//! percentile of a small call is at most twice as long, and no node is lost. With `--browser`, a real browser shows 1,000 nodes
//! and 100,000 calls a second, and no frame may take longer than a quarter of a second.
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

#[path = "viewers/frames.rs"]
mod frames;
#[path = "viewers/streams.rs"]
mod streams;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use distribution::{
    AdminClient, Cluster, Node,
    prelude::DistributeIterator,
    simulation::{IdleNode, IdleNodes},
};
use distribution_instruments::{memory, processor, program::Program};
use distribution_tests::{ProbeClient, ProbeServer, Prober, browser::Browser, process::Process, soon};
use futures::{StreamExt, TryStreamExt, future::join_all, stream};

use self::streams::Viewers;

type Failure = Box<dyn std::error::Error>;

/// Calls that callers have at a time.
const AT_A_TIME: usize = 4;

/// Nodes that register at the same time. A master allows 32 connections from one address.
const REGISTERING: usize = 16;

/// Services that nodes offer, each node one of them.
const SERVICES: usize = 10;

/// A time below this is that of the machine.
const LEAST: Duration = Duration::from_millis(1);

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    program: Program,
    /// Shorter readings, and times that are told and not compared: for a machine that is busy.
    #[arg(long)]
    quick: bool,
    /// Looks with chromium too, driven by chromedriver. They have to be installed.
    #[arg(long)]
    browser: bool,
}

/// A master with its page, in a process of its own, and idle nodes.
struct Scene {
    master: Process,
    addr: String,
    /// Where its page is: an address and a port.
    page: String,
    nodes: Vec<IdleNode>,
}

impl Scene {
    async fn start(program: &Path, nodes: usize, methods: usize) -> Result<Self, Failure> {
        let arguments = ["master", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn"];
        let mut master = Process::start(program, &arguments);
        let line = master.line_with("listening on ").await;
        let addr = line["listening on ".len()..].to_owned();
        let line = master.line_with("the page: http://").await;
        let page = line["the page: http://".len()..].trim_end_matches('/').to_owned();
        let idle = IdleNodes::new(&addr, None)?;
        let services: Vec<_> =
            (0..SERVICES).map(|number| idle.clone().offering(&format!("Service{number}"), methods)).collect();
        let registering = (0..nodes).map(|number| services[number % SERVICES].register(format!("idle-{number}")));
        let nodes = stream::iter(registering).buffer_unordered(REGISTERING).try_collect().await?;
        Ok(Self { master, addr, page, nodes })
    }

    /// Processor time that the master has used.
    fn used(&self) -> Result<Duration, Failure> {
        Ok(processor::used(self.master.id())?)
    }

    /// How many cores the master uses in this time.
    async fn cores(&self, time: Duration) -> Result<f64, Failure> {
        let before = self.used()?;
        tokio::time::sleep(time).await;
        Ok((self.used()? - before).as_secs_f64() / time.as_secs_f64())
    }

    /// How many idle nodes the master does not have any more.
    async fn lost(&self) -> Result<usize, Failure> {
        let cluster = Cluster::connect(&self.addr).await?;
        let nodes = AdminClient::new(&cluster).nodes().await?;
        Ok(self.nodes.len() - nodes.iter().filter(|node| node.name.starts_with("idle-")).count())
    }
}

/// Makes calls for some time, prints how long they took and what the master used, and returns the 99th percentile.
async fn reading(what: &str, scene: &Scene, probe: &ProbeClient, time: Duration) -> Result<Duration, Failure> {
    let (before, end) = (scene.used()?, Instant::now() + time);
    let calls = async || {
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let began = Instant::now();
            probe.add_async(1, 2).await?;
            latencies.push(began.elapsed());
        }
        Ok::<_, Failure>(latencies)
    };
    let all: Result<Vec<_>, _> = join_all((0..AT_A_TIME).map(|_| calls())).await.into_iter().collect();
    let mut latencies = all?.concat();
    latencies.sort_unstable();
    let quantile = |part: f64| latencies.get((latencies.len().saturating_sub(1) as f64 * part) as usize).copied();
    let millis = |part| quantile(part).unwrap_or_default().as_secs_f64() * 1e3;
    println!(
        "{what:<12} {:>8.0} calls/s   p50 {:>7.3} ms   p99 {:>7.3} ms   master: {:.2} cores, {} MiB",
        latencies.len() as f64 / time.as_secs_f64(),
        millis(0.5),
        millis(0.99),
        (scene.used()? - before).as_secs_f64() / time.as_secs_f64(),
        memory::resident(scene.master.id())? >> 10
    );
    quantile(0.99).ok_or_else(|| "no call was answered".into())
}

/// 50 viewers beside 200 nodes with 10,000 methods. Returns the 99th percentile of calls without viewers, and with them.
async fn many_viewers(program: &Path, time: Duration) -> Result<[Duration; 2], Failure> {
    let scene = Scene::start(program, 200, 1000).await?;
    let node = Node::builder().serve(ProbeServer::new(Prober)).slots(2).name("answers");
    let _node = soon("the node", node.spawn(&scene.addr)).await?;
    let cluster = Cluster::connect(&scene.addr).await?;
    let probe = ProbeClient::new(&cluster);
    println!("200 nodes, 10,000 methods");
    // The first calls find the way.
    probe.add_async(1, 2).await?;
    let without = reading("no viewer", &scene, &probe, time).await?;
    let viewers = Viewers::open(&scene.page, 50).await;
    viewers.wait_for_updates(2).await;
    let (before, began) = (viewers.bytes(), Instant::now());
    let with = reading("50 viewers", &scene, &probe, time).await?;
    let rate = (viewers.bytes() - before) as f64 / began.elapsed().as_secs_f64() / 50.0;
    println!("each viewer gets {:.0} KiB/s", rate / 1024.0);
    viewers.print_sizes();
    match scene.lost().await? {
        0 => Ok([without, with]),
        lost => Err(format!("{lost} of {} nodes were lost", scene.nodes.len()).into()),
    }
}

/// One viewer of 1,000 nodes.
async fn many_nodes(program: &Path, time: Duration) -> Result<(), Failure> {
    let scene = Scene::start(program, 1000, 10).await?;
    let idle = scene.cores(time).await?;
    let viewers = Viewers::open(&scene.page, 1).await;
    viewers.wait_for_updates(2).await;
    let before = viewers.updates();
    let watched = scene.cores(time).await?;
    let updates = viewers.updates() - before;
    println!("1,000 nodes  no viewer: {idle:.3} cores   one viewer: {watched:.3} cores, {updates} updates");
    viewers.print_sizes();
    match (scene.lost().await?, updates) {
        (0, 1..) => Ok(()),
        (lost, _) => Err(format!("{lost} nodes were lost, and the viewer got {updates} updates").into()),
    }
}

/// Calls that are made in a second beside the browser, in batches.
const CALLS_A_SECOND: i64 = 100_000;

/// A browser that looks at 1,000 nodes, first without calls and then with 100,000 a second. Returns whether it was fluent.
async fn in_a_browser(program: &Path, time: Duration) -> Result<bool, Failure> {
    let scene = Scene::start(program, 1000, 10).await?;
    let node = Node::builder().serve(ProbeServer::new(Prober)).slots(2).name("answers");
    let _node = soon("the node", node.spawn(&scene.addr)).await?;
    let browser = Browser::start().await.ok_or("chromium and chromedriver are needed")?;
    println!("a browser, 1,000 nodes, no calls");
    let mut is_fluent = frames::look(&browser, &scene.page, time).await;
    let cluster = Cluster::connect(&scene.addr).await?;
    let calling = tokio::spawn(calls(ProbeClient::new(&cluster)));
    let before = (scene.used()?, AdminClient::new(&cluster).stats().await?.answered, Instant::now());
    println!("a browser, 1,000 nodes, and calls");
    is_fluent &= frames::look(&browser, &scene.page, time).await;
    let seconds = before.2.elapsed().as_secs_f64();
    let answered = AdminClient::new(&cluster).stats().await?.answered - before.1;
    println!(
        "  {:.0} calls/s, master: {:.2} cores",
        answered as f64 / seconds,
        (scene.used()? - before.0).as_secs_f64() / seconds
    );
    calling.abort();
    browser.close().await;
    match scene.lost().await? {
        0 => Ok(is_fluent),
        lost => Err(format!("{lost} nodes were lost").into()),
    }
}

/// Makes a tenth of `CALLS_A_SECOND` calls in each tenth of a second.
async fn calls(probe: ProbeClient) -> Result<(), distribution::CallError> {
    let mut tenths = tokio::time::interval(Duration::from_millis(100));
    loop {
        tenths.tick().await;
        let calls = (0..CALLS_A_SECOND / 10).map(|number| probe.add(number, 1));
        let _: Vec<i64> = calls.distribute().name("a hundred thousand a second").try_collect().await?;
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let options = Options::parse();
    let program = options.program.find()?;
    let time = Duration::from_secs(if options.quick { 2 } else { 8 });
    let [without, with] = many_viewers(&program, time).await?;
    many_nodes(&program, time).await?;
    let is_fluent = !options.browser || in_a_browser(&program, time).await?;
    if !is_fluent {
        println!("NOT KEPT: a frame took too long");
    }
    let is_steady = options.quick || with <= without.max(LEAST) * 2;
    if !is_steady {
        println!("NOT KEPT: the 99th percentile has more than doubled");
    }
    let is_kept = is_fluent && is_steady;
    if is_kept {
        println!("kept");
    }
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
