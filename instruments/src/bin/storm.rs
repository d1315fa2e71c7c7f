//! Many nodes behind one address that register at once, over TLS and with a token, each message delayed: how long until
//! all are registered, and how often did they have to try?
//!
//! `cargo run --release -p distribution-instruments --bin storm`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use distribution::{Master, Node};
use distribution_instruments::storm::storm;
use distribution_tests::{ProbeServer, Prober, line::Line};

/// Registers many nodes at once.
#[derive(Parser)]
struct Options {
    /// How many.
    #[arg(long, default_value_t = 1_000)]
    nodes: usize,

    /// How many of them are whole nodes, with threads of their own; the others only register.
    #[arg(long, default_value_t = 20)]
    whole: usize,

    /// Milliseconds that each round trip takes.
    #[arg(long, default_value_t = 100)]
    delay_ms: u64,

    /// Seconds within which all must be registered.
    #[arg(long, default_value_t = 30)]
    within: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Options { nodes, whole, delay_ms, within } = Options::parse();
    let (round_trip, within) = (Duration::from_millis(delay_ms), Duration::from_secs(within));
    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::builder().token_file(folder.path().join("token")).bind("127.0.0.1:0").await.expect("binds");
    let token = master.token().expect("there is one").expose().to_owned();
    let begin = tokio::time::Instant::now();
    let line = Line::to(master.local_addr(), round_trip).await;
    let mut starting = tokio::task::JoinSet::new();
    for number in 0..whole.min(nodes) {
        let node =
            Node::builder().serve(ProbeServer::new(Prober)).name(format!("whole-{number}")).token(token.as_str());
        let spawned = node.spawn(line.addr());
        starting.spawn(async move { (spawned.await.expect("registers"), begin.elapsed()) });
    }
    let storm = storm(&master, Some(&token), nodes.saturating_sub(whole), round_trip, within).await;
    let mut registered = storm.registered.clone();
    let mut kept = Vec::new();
    while let Ok(Some(started)) =
        tokio::time::timeout(within.saturating_sub(begin.elapsed()), starting.join_next()).await
    {
        let (node, at) = started.expect("runs");
        registered.push(at);
        kept.push(node);
    }
    registered.sort();
    println!("{} of {nodes} nodes registered within {within:?}, {whole} of them whole ones", registered.len());
    for part in [10, 50, 90, 100] {
        if let Some(at) = registered.get((nodes * part / 100).saturating_sub(1)) {
            println!("{part:>3} % after {:>6.2} s", at.as_secs_f64());
        }
    }
    let light = storm.nodes.len().max(1);
    println!("tries of those that only register: {} ({:.2} each)", storm.tries, f64::from(storm.tries) / light as f64);
    println!("the master lists {} and turned {} connections away", master.nodes().len(), master.stats().turned_away);
    if registered.len() == nodes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
