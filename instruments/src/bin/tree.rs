//! A call with a deadline makes nested calls, which make nested calls, and so on; none of them would ever return. How long
//! after the deadline has each handler noticed that nobody waits for it, and is nothing left?
//!
//! `cargo run --release -p distribution-instruments --bin tree`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::Parser;
use distribution::{CallError, Master, Node, current};
use distribution_instruments::figures::{Figures, ms};
use futures::future::join_all;

/// How long a step of a calculation takes.
const STEP: Duration = Duration::from_millis(10);

/// How long a tree may take to end before it counts as hanging.
const HANGS: Duration = Duration::from_secs(30);

/// Ends trees of nested calls by a deadline at their root.
#[derive(Parser)]
struct Options {
    /// Nested calls in each tree.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,

    /// How many calls each handler makes, until there are enough.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    children: u32,

    /// The deadline of the root, in milliseconds from its start.
    #[arg(long, default_value_t = 300)]
    deadline_ms: u64,

    /// Within how many milliseconds after the deadline all handlers must have noticed.
    #[arg(long, default_value_t = 200)]
    within_ms: u64,

    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    nodes: u32,

    /// One tree after the other.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Three rounds. Nested calls must start; how many, and times, are printed and not judged: for a machine that is busy.
    #[arg(long)]
    quick: bool,
}

/// Calls that never return by themselves.
#[distribution::service]
trait Tree {
    /// Makes up to `children` nested calls, which share `below` calls below this one, and waits for all of them; without
    /// any it waits for ever. Every eighth of the calls at the end is a compute call.
    async fn grow(&self, below: u32, children: u32);
    /// Calculates until it is told that nobody waits for it.
    fn calculate(&self);
    /// Returns at once.
    async fn answer(&self);
    /// Returns at once.
    fn answer_compute(&self);
}

/// What the handlers of one round note.
#[derive(Debug, Default)]
struct Notes {
    started: u32,
    /// When each noticed.
    noticed: Vec<Instant>,
}

#[derive(Clone, Default)]
struct Gardener(Arc<Mutex<Notes>>);

impl Gardener {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.lock().expect("nothing panics with it")
    }

    fn start(&self) -> Noticing<'_> {
        self.notes().started += 1;
        Noticing(self)
    }
}

/// A handler that runs. An async one notices by being dropped.
struct Noticing<'a>(&'a Gardener);

impl Drop for Noticing<'_> {
    fn drop(&mut self) {
        self.0.notes().noticed.push(Instant::now());
    }
}

impl Tree for Gardener {
    async fn grow(&self, below: u32, children: u32) {
        let _noticing = self.start();
        let tree = TreeClient::new(&current());
        let parts = children.min(below);
        let calls = (0..parts).map(|part| {
            // Each part has itself, and an equal share of what is left.
            let left = below - parts;
            let share = left / parts + u32::from(part < left % parts);
            if share == 0 && part % 8 == 7 { tree.calculate().send() } else { tree.grow(share, children).send() }
        });
        join_all(calls.collect::<Vec<_>>()).await;
        std::future::pending().await
    }

    fn calculate(&self) {
        let _noticing = self.start();
        let call = current();
        // The deadline of the root ends this.
        while !call.is_cancelled() {
            // In place of a step of work, between which a calculation looks: a hundred handlers that really work would take
            // the processor from the master, and the times of the master would be those of the machine.
            std::thread::sleep(STEP);
        }
    }

    async fn answer(&self) {}

    fn answer_compute(&self) {}
}

/// One tree.
struct Round {
    started: u32,
    /// After the deadline: when the caller had its end, when the last handler had noticed, when nothing was left at the master.
    ended: Duration,
    noticed: Duration,
    empty: Duration,
}

#[tokio::main]
async fn main() -> Result<ExitCode, distribution::Error> {
    let options = Options::parse();
    let rounds = if options.quick { 3 } else { options.rounds };
    let master = Master::bind("127.0.0.1:0").await?;
    let gardener = Gardener::default();
    let mut nodes = Vec::new();
    for _ in 0..options.nodes {
        // A slot for each compute call of a tree, so that all of them run.
        let node = Node::builder().serve(TreeServer::new(gardener.clone())).slots(64);
        nodes.push(node.spawn(master.local_addr()).await?);
    }
    // A new node gets few calls until it has answered some, and no handler of a tree ever answers.
    let tree = TreeClient::new(&master);
    for kind in [|tree: &TreeClient| tree.answer().send(), |tree: &TreeClient| tree.answer_compute().send()] {
        for answer in join_all((0..options.calls * options.nodes).map(|_| kind(&tree))).await {
            answer.expect("its handler returns");
        }
    }
    let mut all = Vec::new();
    // The first tree opens connections and starts threads, and does not count.
    for number in 0..=rounds {
        match round(&master, &gardener, &options).await {
            Ok(_) if number == 0 => {}
            Ok(round) => all.push(round),
            Err(wrong) => {
                println!("round {number}: {wrong}\nBROKEN");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    master.shutdown().await;

    let fewest = all.iter().map(|round| round.started).min().unwrap_or(0);
    println!(
        "{rounds} trees of {} nested calls on {} nodes, with a deadline of {} ms; handlers that had started: {fewest} or more of {}",
        options.calls,
        options.nodes,
        options.deadline_ms,
        options.calls + 1
    );
    let print = |what: &str, time: fn(&Round) -> Duration| {
        let times = Figures::new(all.iter().map(time).collect());
        println!("{what} after the deadline: {} (median), {} (worst)", ms(times.quantile(0.5)), ms(times.worst()));
        times.worst()
    };
    print("the caller had its error", |round| round.ended);
    let worst = print("all handlers had noticed", |round| round.noticed);
    print("nothing was left at the master", |round| round.empty);
    let have_all_started = fewest > options.calls;
    let is_kept =
        if options.quick { fewest > 1 } else { have_all_started && worst <= Duration::from_millis(options.within_ms) };
    println!("{}", if is_kept { "kept" } else { "BROKEN" });
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn round(master: &Master, gardener: &Gardener, options: &Options) -> Result<Round, String> {
    *gardener.notes() = Notes::default();
    let timeout = Duration::from_millis(options.deadline_ms);
    let began = Instant::now();
    let root = TreeClient::new(master).grow(options.calls, options.children).timeout(timeout).await;
    let deadline = began + timeout;
    let ended = deadline.elapsed();
    match root {
        Err(CallError::TimedOut { .. }) if began.elapsed() >= timeout => {}
        other => return Err(format!("the root ended as {other:?} after {:?}", began.elapsed())),
    }
    let is_empty = || (master.stats().queued, master.stats().in_flight) == (0, 0);
    let have_noticed = || {
        let notes = gardener.notes();
        notes.noticed.len() == notes.started as usize
    };
    while !(is_empty() && have_noticed()) {
        if deadline.elapsed() > HANGS {
            let notes = gardener.notes();
            let (started, noticed) = (notes.started, notes.noticed.len());
            return Err(format!(
                "{HANGS:?} after the deadline, {noticed} of {started} handlers have noticed, and the master has {:?}",
                master.stats()
            ));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let empty = deadline.elapsed();
    let notes = gardener.notes();
    let last = notes.noticed.iter().max().copied().unwrap_or(deadline);
    Ok(Round { started: notes.started, ended, noticed: last.saturating_duration_since(deadline), empty })
}
