//! Restarts every node in order, one after the other, under load: no call may fail. Then one node is told
//! to end while a handler has yet long to run on it: it ends when the handler has, and the call is answered.
//!
//! `cargo run --release -p distribution-instruments --bin rolling -- --rate 2000 --rounds 3`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use distribution::{Master, Node, NodeEvent};
use distribution_tests::{Held, ProbeClient, ProbeServer, Prober, meeting::Meeting, process::Process, soon};
use futures::StreamExt;
use tokio::{task::JoinSet, time::MissedTickBehavior};

/// Restarts nodes under load and counts the calls that fail.
#[derive(Parser)]
struct Options {
    /// Calls a second.
    #[arg(long, default_value_t = 2_000)]
    rate: u64,

    /// Node processes.
    #[arg(long, default_value_t = 4)]
    nodes: usize,

    /// Milliseconds between one restart and the next.
    #[arg(long, default_value_t = 500)]
    pause_ms: u64,

    /// How often each is restarted.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// How long the handler runs that a node has when it is told to end; less than the 30 s that it may take.
    #[arg(long, default_value_t = 20)]
    handler_seconds: u64,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Node { master: String, name: String },
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Role::Node { master, name }) = options.role {
        return match Node::builder().serve(ProbeServer::new(Prober)).name(name).run(master).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if restart_under_load(&options).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn restart_under_load(options: &Options) -> bool {
    let master = Master::bind("127.0.0.1:0").await.expect("a free port");
    let program = std::env::current_exe().expect("a program has a path");
    let addr = master.local_addr().to_string();
    let start = |name: &str| Process::start(&program, &["node", &addr, name]);
    let names: Vec<String> = (1..=options.nodes).map(|number| format!("n{number}")).collect();
    let mut nodes: Vec<Process> = names.iter().map(|name| start(name)).collect();
    soon("the nodes", master.wait_for_nodes(options.nodes)).await;

    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(ProbeClient::new(&master), options.rate, Arc::clone(&stop)));
    let began = Instant::now();
    let mut events = master.events();
    for _ in 0..options.rounds {
        for (node, name) in nodes.iter_mut().zip(&names) {
            node.signal("TERM").await;
            assert!(node.ended().await.success(), "{name} ended in order");
            *node = start(name);
            soon("the node to come back", async {
                while let Some(event) = events.next().await {
                    if matches!(&event, NodeEvent::Joined { node, .. } if *node.name == **name) {
                        break;
                    }
                }
            })
            .await;
            tokio::time::sleep(Duration::from_millis(options.pause_ms)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (calls, failed) = load.await.expect("the load ends");
    let seconds = began.elapsed().as_secs_f64();
    let drained = drain_a_long_handler(&master, &mut nodes[0], &names[0], options.handler_seconds).await;
    println!(
        "{{\"restarts\": {}, \"calls\": {calls}, \"failed\": {failed}, \"seconds\": {seconds:.1}, \"calls_per_second\": {:.0}, \"drained_after_seconds\": {drained:.1}}}",
        options.rounds * options.nodes,
        calls as f64 / seconds
    );
    failed == 0 && calls > 0
}

/// Ends a node whose handler has so long to run, and says after how long it was gone.
async fn drain_a_long_handler(master: &Master, node: &mut Process, name: &str, seconds: u64) -> f64 {
    let id = master.nodes().iter().find(|info| &*info.name == name).expect("is registered").id;
    let mut meeting = Meeting::new().await;
    let call = ProbeClient::new(master).hold(meeting.addr(), "long".to_owned()).on(id).send();
    let guest = meeting.guest("long").await;
    let began = Instant::now();
    node.signal("TERM").await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    guest.release().await;
    assert_eq!(soon("the long call", call).await, Ok(Held::Released));
    assert!(node.ended().await.success(), "{name} ended in order");
    began.elapsed().as_secs_f64()
}

/// Makes calls at a steady rate, each in a task of its own, and says how many failed.
async fn load(probe: ProbeClient, rate: u64, stop: Arc<AtomicBool>) -> (u64, u64) {
    let failed = Arc::new(AtomicU64::new(0));
    let mut calls = 0;
    let mut running = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..(rate / 100).max(1) {
            let number = i64::try_from(calls).unwrap_or_default();
            calls += 1;
            // At most once and async as well as compute, so that a call which was lost shows.
            let call = if calls % 2 == 0 { probe.add(number, 1) } else { probe.add_async(number, 1) };
            let failed = Arc::clone(&failed);
            running.spawn(async move {
                if call.await != Ok(number + 1) {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while running.try_join_next().is_some() {}
    }
    running.join_all().await;
    (calls, failed.load(Ordering::Relaxed))
}
