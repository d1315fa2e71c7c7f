//! Calls that make calls: a Fibonacci number by compute calls on one slot and on three nodes, async calls nested deep, and
//! circles of calls, which end at the limit of depth.
//!
//! `cargo run --release -p distribution-instruments --bin nested`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{fmt::Debug, process::ExitCode, time::Instant};

use clap::Parser;
use distribution::{CallError, Master, Node, current};
use distribution_instruments::figures::ms;
use tokio::time::timeout;

/// How deep calls can be nested.
const LIMIT: u32 = 256;

/// How long each part may take. More is a hang.
const HANGS: std::time::Duration = std::time::Duration::from_secs(120);

/// Nested calls at length.
#[derive(Parser)]
struct Options {
    /// Which Fibonacci number, by two nested calls for each number from 2 on.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=24))]
    fibonacci: u32,

    /// How deep async calls are nested.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(..256))]
    depth: u32,
}

#[distribution::service]
trait Nested {
    /// The Fibonacci number, by two nested calls that are sent at once.
    fn fibonacci(&self, index: u32) -> Result<u64, String>;
    /// The same, the second call after the first has ended.
    fn fibonacci_in_turn(&self, index: u32) -> Result<u64, String>;
    /// The depth that is reached by nested calls.
    async fn depth(&self, left: u32) -> Result<u32, String>;
    /// Calls itself without end; counts the calls until one was refused as too deep.
    async fn circle(&self) -> Result<u32, String>;
    /// The same as compute calls.
    fn compute_circle(&self) -> Result<u32, String>;
}

struct Worker;

fn client() -> NestedClient {
    NestedClient::new(&current())
}

impl Nested for Worker {
    fn fibonacci(&self, index: u32) -> Result<u64, String> {
        if index < 2 {
            return Ok(index.into());
        }
        let both = [index - 1, index - 2].map(|index| client().fibonacci(index).send());
        both.into_iter().map(|call| call.wait().map_err(|error| error.to_string())).sum()
    }

    fn fibonacci_in_turn(&self, index: u32) -> Result<u64, String> {
        if index < 2 {
            return Ok(index.into());
        }
        [index - 1, index - 2]
            .into_iter()
            .map(|index| client().fibonacci_in_turn(index).wait().map_err(|error| error.to_string()))
            .sum()
    }

    async fn depth(&self, left: u32) -> Result<u32, String> {
        match left {
            0 => Ok(0),
            left => client().depth(left - 1).await.map(|below| below + 1).map_err(|error| error.to_string()),
        }
    }

    async fn circle(&self) -> Result<u32, String> {
        after_circle(client().circle().await)
    }

    fn compute_circle(&self) -> Result<u32, String> {
        after_circle(client().compute_circle().wait())
    }
}

fn after_circle(below: Result<u32, CallError<String>>) -> Result<u32, String> {
    match below {
        Ok(below) => Ok(below + 1),
        // This handler is the last that runs.
        Err(CallError::TooDeep { .. }) => Ok(1),
        Err(other) => Err(other.to_string()),
    }
}

fn fibonacci(index: u32) -> u64 {
    (0..index).fold((0, 1), |(one, next), _| (next, one + next)).0
}

#[tokio::main]
async fn main() -> Result<ExitCode, distribution::Error> {
    let Options { fibonacci: index, depth } = Options::parse();
    let mut is_kept = true;
    for count in [1, 3] {
        // As many threads may wait as the number needs if both calls are sent at once.
        let waiting = fibonacci(index + 1) as usize;
        let master = Master::bind("127.0.0.1:0").await?;
        let mut nodes = Vec::new();
        for _ in 0..count {
            let node =
                Node::builder().serve(NestedServer::new(Worker)).slots(1).max_waiting_handlers(waiting.max(1_024));
            nodes.push(node.spawn(master.local_addr()).await?);
        }
        let nested = NestedClient::new(&master);
        let number = fibonacci(index);
        let part = Part { master: &master, nodes: count };
        is_kept &= part.run(&format!("fibonacci {index}, both calls at once"), number, nested.fibonacci(index)).await;
        is_kept &= part
            .run(&format!("fibonacci {index}, one call after the other"), number, nested.fibonacci_in_turn(index))
            .await;
        is_kept &= part.run(&format!("async calls {depth} deep"), depth, nested.depth(depth)).await;
        // The call that all begins with, and the nested ones.
        is_kept &= part.run("a circle of async calls", LIMIT + 1, nested.circle()).await;
        is_kept &= part.run("a circle of compute calls", LIMIT + 1, nested.compute_circle()).await;
        master.shutdown().await;
    }
    println!("{}", if is_kept { "kept" } else { "BROKEN" });
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Part<'a> {
    master: &'a Master,
    nodes: u32,
}

impl Part<'_> {
    /// Makes a call, prints its figures, and says whether its value is the expected one.
    async fn run<T: Debug + PartialEq>(
        &self,
        what: &str,
        expected: T,
        call: impl IntoFuture<Output = Result<T, CallError<String>>>,
    ) -> bool {
        let (began, before) = (Instant::now(), self.master.stats().answered);
        let ended = timeout(HANGS, call).await;
        let took = began.elapsed();
        let calls = self.master.stats().answered - before;
        let nodes = if self.nodes == 1 { "1 node" } else { "3 nodes" };
        let each = took / u32::try_from(calls.max(1)).unwrap_or(u32::MAX);
        match ended {
            Ok(Ok(value)) if value == expected => {
                println!(
                    "{what}, {nodes} with one slot each: {value:?}; {calls} calls in {} ({each:.1?} each)",
                    ms(took)
                );
                true
            }
            other => {
                println!("{what}, {nodes} with one slot each: {other:?}, and it should be {expected:?}");
                false
            }
        }
    }
}
