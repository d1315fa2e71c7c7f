//! Calculates a Fibonacci number by calls that make calls, on nodes with one slot each.
//!
//! A handler that waits for its nested calls lends its slot, so one slot is enough for any depth. The algorithm is slow on
//! purpose: it makes hundreds of calls.
//!
//! `cargo run --release --example fibonacci` runs it in one process. Over several:
//!
//! ```text
//! fibonacci master --listen 127.0.0.1:3000 --wait 2
//! fibonacci node --master 127.0.0.1:3000        # twice
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{process::ExitCode, time::Instant};

use clap::{Args, Parser, Subcommand};
use distribution::{LocalCluster, Master, current};
use distribution_examples::{MasterOptions, NodeOptions, counted, milliseconds};

/// What the nodes calculate.
#[distribution::service(idempotent)]
pub trait Fibonacci {
    /// The Fibonacci number at this index. Below `alone` it is calculated in this call, from there on by two nested calls.
    fn number(&self, index: u32, alone: u32) -> Result<u64, String>;
}

struct Rabbits;

impl Fibonacci for Rabbits {
    fn number(&self, index: u32, alone: u32) -> Result<u64, String> {
        if index < alone.max(2) {
            return Ok(recursive(index));
        }
        let fibonacci = FibonacciClient::new(&current());
        // Both are sent before the first is waited for, so that they can run at the same time.
        let both = [index - 1, index - 2].map(|index| fibonacci.number(index, alone).send());
        both.into_iter().map(|call| call.wait().map_err(|error| error.to_string())).sum()
    }
}

fn recursive(index: u32) -> u64 {
    if index < 2 { index.into() } else { recursive(index - 1) + recursive(index - 2) }
}

/// Calculates a Fibonacci number by nested calls.
///
/// Without a command it starts a local cluster, calculates, and ends.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    job: Job,

    /// Nodes of the local cluster. Each has one slot.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Args)]
struct Job {
    /// Which Fibonacci number.
    #[arg(long, default_value_t = 30, global = true, value_parser = clap::value_parser!(u32).range(..=40))]
    index: u32,

    /// Numbers below this index are calculated without nested calls.
    #[arg(long, default_value_t = 20, global = true)]
    alone: u32,
}

#[derive(Subcommand)]
enum Role {
    /// Waits for nodes, calculates on them, prints the result and ends.
    Master(MasterOptions),
    /// Registers at a master and calculates for it, in one slot, until SIGTERM or ctrl-c.
    Node(NodeOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // In one process, messages that nodes join and leave would be noise.
    distribution_examples::start_logs(if options.role.is_none() { "warn" } else { "warn,distribution=info" });
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            distribution_examples::report(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(Options { job, nodes, role }: Options) -> Result<(), Box<dyn std::error::Error>> {
    match role {
        None => {
            let cluster = LocalCluster::builder().nodes(nodes.into()).slots(1).serve(|| FibonacciServer::new(Rabbits));
            let cluster = cluster.start().await?;
            calculate(cluster.master(), &job).await?;
            cluster.shutdown().await;
        }
        Some(Role::Master(MasterOptions { listen, wait, security })) => {
            let master = security.master().bind(&listen).await?;
            println!("Waiting for {} at {}", counted(wait as u64, "node"), master.local_addr());
            master.wait_for_nodes(wait).await;
            calculate(&master, &job).await?;
            master.shutdown().await;
        }
        Some(Role::Node(options)) => {
            options.node().serve(FibonacciServer::new(Rabbits)).slots(1).run(options.master).await?;
        }
    }
    Ok(())
}

async fn calculate(master: &Master, job: &Job) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let number = FibonacciClient::new(master).number(job.index, job.alone).await?;
    let calls = counted(master.stats().answered, "call");
    println!("{calls} on {} in {}", distribution_examples::nodes_of(master), milliseconds(started.elapsed()));
    println!("Fibonacci number {}: {number}", job.index);
    Ok(())
}
