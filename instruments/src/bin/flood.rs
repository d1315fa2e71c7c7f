//! Connections that never register, thousands of them, against a master at work: how much slower are its
//! callers, and how much memory does it take?
//!
//! `cargo run --release -p distribution-instruments --bin flood`
//!
//! And how long does a node at a distance take to register while 1,000 connections a second come from 8 addresses?
//!
//! `cargo run --release -p distribution-instruments --bin flood -- distant`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

#[path = "flood/distant.rs"]
mod distant;

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use distribution::{Master, Node};
use distribution_instruments::memory;
use distribution_tests::{ProbeClient, ProbeServer, Prober, process::Process};
use futures::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Measures callers before and under a flood of unauthenticated connections.
#[derive(Parser)]
struct Options {
    /// Connections that say nothing.
    #[arg(long, default_value_t = 2_000)]
    silent: usize,

    /// Connections that send a byte a second.
    #[arg(long, default_value_t = 200)]
    trickling: usize,

    /// Connect again whenever the master closes a connection, about once a second each.
    #[arg(long)]
    again: bool,

    /// Seconds to measure, before and under the flood.
    #[arg(long, default_value_t = 5)]
    seconds: u64,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Measures how long a distant node takes to register under floods of connections from a few addresses.
    Distant(distant::Options),
    #[command(hide = true)]
    Attackers { master: SocketAddr, kind: distant::Kind, rate: u32, sources: Vec<IpAddr> },
    #[command(hide = true)]
    Unauthenticated {
        addr: String,
        silent: usize,
        trickling: usize,
        #[arg(action = clap::ArgAction::Set)]
        again: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match options.role {
        Some(Role::Distant(options)) => {
            distant::count_warnings();
            return distant::run(options).await;
        }
        Some(Role::Attackers { master, kind, rate, sources }) => {
            distant::attack(master, kind, rate, sources).await;
            return ExitCode::SUCCESS;
        }
        Some(Role::Unauthenticated { addr, silent, trickling, again }) => {
            unauthenticated(&addr, silent, trickling, again).await;
            return ExitCode::SUCCESS;
        }
        None => {}
    }
    let master = Master::bind("127.0.0.1:0").await.expect("a free port");
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let probe = ProbeClient::new(&master);
    let time = Duration::from_secs(options.seconds);
    measure(&probe, Duration::from_secs(1)).await;
    let memory = || memory::resident(std::process::id()).expect("Linux counts memory");
    let (calm, before) = (measure(&probe, time).await, memory());
    let program = std::env::current_exe().expect("a program has a path");
    let (silent, trickling) = (options.silent.to_string(), options.trickling.to_string());
    let addr = master.local_addr().to_string();
    let again = if options.again { "true" } else { "false" };
    let mut flood = Process::start(&program, &["unauthenticated", &addr, &silent, &trickling, again]);
    flood.line_with("connected").await;
    let (flooded, grown) = (measure(&probe, time).await, memory().saturating_sub(before));
    // In the thick of it a node registers all the same.
    let late = Instant::now();
    let _late = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let registered = late.elapsed();
    flood.kill().await;
    let ratio = flooded.as_secs_f64() / calm.as_secs_f64();
    println!(
        "{{\"p99_calm_us\": {}, \"p99_flooded_us\": {}, \"ratio\": {ratio:.2}, \"memory_grown_kib\": {grown}, \"late_node_registered_ms\": {}}}",
        calm.as_micros(),
        flooded.as_micros(),
        registered.as_millis()
    );
    let holds = ratio <= 2.0 && grown <= 64 * 1024;
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The 99th percentile of small calls by 16 callers.
async fn measure(probe: &ProbeClient, time: Duration) -> Duration {
    let callers = (0..16).map(|_| async {
        let began = Instant::now();
        let mut times = Vec::new();
        while began.elapsed() < time {
            let call = Instant::now();
            probe.add_async(1, 2).await.expect("answers");
            times.push(call.elapsed());
        }
        times
    });
    let mut times: Vec<Duration> = join_all(callers).await.concat();
    times.sort();
    times[times.len() * 99 / 100]
}

/// Connects, and says nothing or too little, until killed.
async fn unauthenticated(addr: &str, silent: usize, trickling: usize, again: bool) {
    let mut tasks = Vec::new();
    for number in 0..silent + trickling {
        let addr = addr.to_owned();
        let first = TcpStream::connect(&addr).await;
        tasks.push(tokio::spawn(async move {
            let mut stream = first;
            loop {
                if let Ok(stream) = &mut stream {
                    let mut beats = tokio::time::interval(Duration::from_secs(1));
                    loop {
                        beats.tick().await;
                        let closed = stream.try_read(&mut [0]).is_ok_and(|read| read == 0);
                        if closed || number >= silent && stream.write_all(b"\x89").await.is_err() {
                            break;
                        }
                    }
                }
                if !again {
                    return;
                }
                stream = TcpStream::connect(&addr).await;
            }
        }));
    }
    println!("connected");
    join_all(tasks).await;
}
