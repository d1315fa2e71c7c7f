//! Counts the numbers whose binary form reads the same in both directions, distributed over nodes.
//!
//! `cargo run --release --example palindromes` runs it in one process. Over several:
//!
//! ```text
//! palindromes master --listen 127.0.0.1:3000 --wait 2
//! palindromes node --master 127.0.0.1:3000        # twice
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use clap::{Args, Parser, Subcommand};
use distribution::{Answer, CallError, LocalCluster, Master};
use distribution_examples::{MasterOptions, NodeOptions, counted};
use futures::{StreamExt, TryStreamExt, stream};

/// What the nodes calculate.
#[distribution::service(idempotent)]
pub trait Palindromes {
    /// Counts binary palindromes from `from` to `to`, both included.
    fn count(&self, from: u64, to: u64) -> u64;
}

struct Counter;

impl Palindromes for Counter {
    fn count(&self, from: u64, to: u64) -> u64 {
        (from..=to).filter(|number| is_palindrome(*number)).count() as u64
    }
}

/// Whether the number's binary form, without leading zeros, reads the same in both directions. Zero does.
fn is_palindrome(number: u64) -> bool {
    number == 0 || number == number.reverse_bits() >> number.leading_zeros()
}

/// Counts binary palindromes from 0 up to a number, distributed over nodes.
///
/// Without a command it starts a local cluster, counts, and ends.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    job: Job,

    /// Nodes of the local cluster.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Args)]
struct Job {
    /// The largest number to look at.
    #[arg(long, default_value_t = 1_000_000, global = true)]
    up_to: u64,
}

#[derive(Subcommand)]
enum Role {
    /// Waits for nodes, counts on them, prints the result and ends.
    Master(MasterOptions),
    /// Registers at a master and counts for it until SIGTERM or ctrl-c.
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

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let up_to = options.job.up_to;
    match options.role {
        None => {
            let nodes = usize::from(options.nodes);
            let cluster =
                LocalCluster::builder().nodes(nodes).serve(|| PalindromesServer::new(Counter)).start().await?;
            count(cluster.master(), up_to).await?;
            cluster.shutdown().await;
        }
        Some(Role::Master(MasterOptions { listen, wait, security })) => {
            let master = security.master().bind(&listen).await?;
            println!("Waiting for {} at {}", counted(wait as u64, "node"), master.local_addr());
            master.wait_for_nodes(wait).await;
            count(&master, up_to).await?;
            master.shutdown().await;
        }
        Some(Role::Node(options)) => {
            options.node().serve(PalindromesServer::new(Counter)).run(options.master).await?;
        }
    }
    Ok(())
}

/// Splits the numbers into ranges, counts them on the nodes, and prints how many each node counted.
async fn count(master: &Master, up_to: u64) -> Result<(), CallError> {
    let palindromes = PalindromesClient::new(master);
    let slots: u64 = master.nodes().iter().map(|node| u64::from(node.slots)).sum();
    // Several ranges for each slot, so that all nodes end at about the same time; few enough that a range takes longer
    // than the message about it.
    let parts = (slots * 8).max(1);
    let started = Instant::now();
    let answers: Vec<Answer<u64>> = stream::iter(split(up_to, parts))
        .map(|(from, to)| palindromes.count(from, to).answer())
        .buffer_unordered(parts as usize)
        .try_collect()
        .await?;
    let elapsed = started.elapsed();

    let mut ranges: BTreeMap<String, u64> = BTreeMap::new();
    for answer in &answers {
        *ranges.entry(answer.node.name.to_string()).or_default() += 1;
    }
    for (node, ranges) in ranges {
        println!("{node} counted {}", counted(ranges, "range"));
    }
    println!("{} ranges in {:.1} ms", answers.len(), elapsed.as_secs_f64() * 1000.0);
    let count: u64 = answers.iter().map(|answer| answer.value).sum();
    println!("Binary palindromes up to {up_to}: {count}");
    Ok(())
}

/// At most `parts` ranges that together are 0 to `up_to`, each number in exactly one.
fn split(up_to: u64, parts: u64) -> impl Iterator<Item = (u64, u64)> {
    let numbers = u128::from(up_to) + 1;
    let parts = u128::from(parts).min(numbers);
    let bound = move |part: u128| (numbers * part / parts) as u64;
    // The last part may end at 2^64 - 1, and one more would not fit: each part ends before the next one begins.
    (0..parts).map(move |part| (bound(part), if part + 1 == parts { up_to } else { bound(part + 1) - 1 }))
}
