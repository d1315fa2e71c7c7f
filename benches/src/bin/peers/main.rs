//! The crate beside its peers: the same work over `distribution`, over tarpc, over tonic and over bare TCP, one after the
//! other in several rounds.
//!
//! `cargo run --release -p distribution-benches --bin peers`
//!
//! Servers and nodes are processes of their own: this program again, in another role. All run tokio's multi-thread
//! runtime as it comes, talk over loopback, and set TCP_NODELAY. A ratio says how many times better the crate is:
//! above 1 it wins. It is taken within each round; the table has the medians over the rounds.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user on its standard streams")]

mod cancel;
mod comparisons;
mod distribute;
mod failure;
mod field;
mod idle;
mod light_nodes;
mod load;
mod ours;
mod process;
mod raw;
mod relay;
mod remote;
mod streams;
mod table;
mod tarpc_peer;
mod tonic_peer;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use comparisons::{Against, Case, Measure};
use failure::{During, Failure};
use field::Field;
use table::Row;

/// Compares the crate with its peers.
#[derive(Parser)]
struct Options {
    /// How often everything is run.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Fewer and shorter rounds, under a minute in all.
    #[arg(long)]
    quick: bool,

    /// Only these measures.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Measure>,

    /// One JSON object a line instead of the table.
    #[arg(long)]
    json: bool,

    /// Also every single reading, on standard error.
    #[arg(long)]
    each: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What the processes do that this program starts.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    RawServer,
    #[command(hide = true)]
    TarpcServer,
    #[command(hide = true)]
    TonicServer,
    #[command(hide = true)]
    Node {
        #[arg(long)]
        master: String,
        #[arg(long)]
        slots: Option<usize>,
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
    #[command(hide = true)]
    LightNodes {
        #[arg(long)]
        master: String,
        #[arg(long)]
        count: usize,
    },
    #[command(hide = true)]
    Master {
        #[arg(long)]
        nodes: usize,
    },
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long)]
        way: relay::Way,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    // On a worker of the runtime, as the servers' connections are, and not beside it.
    let ended = tokio::spawn(run(Options::parse())).await;
    match ended.during("the program broke").and_then(|ended| ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("peers: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let open_files = process::raise_open_files();
    match options.role {
        Some(role) => {
            process::end_with_parent();
            serve(role).await
        }
        None => compare(&options, open_files).await,
    }
}

async fn serve(role: Role) -> Result<(), Failure> {
    match role {
        Role::RawServer => raw::serve().await,
        Role::TarpcServer => tarpc_peer::serve().await,
        Role::TonicServer => tonic_peer::serve().await,
        Role::Node { master, slots, token_file } => ours::serve(&master, slots, token_file).await,
        Role::LightNodes { master, count } => light_nodes::serve(&master, count).await,
        Role::Master { nodes } => remote::serve(nodes).await,
        Role::Relay { to, way } => relay::serve(to, way).await,
    }
}

async fn compare(options: &Options, open_files: Option<u64>) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        eprintln!("peers: this build is not optimized, so its numbers mean nothing; run it with `--release`");
    }
    let (rounds, time) = if options.quick { (3, Duration::from_millis(500)) } else { (5, Duration::from_secs(2)) };
    let rounds = options.rounds.unwrap_or(rounds);
    let measures =
        Measure::value_variants().iter().filter(|measure| options.only.is_empty() || options.only.contains(measure));
    let mut rows: Vec<Row> = measures.flat_map(|measure| measure.comparisons()).map(Row::new).collect();
    let mut cases: Vec<Case> = Vec::new();
    for case in rows.iter().flat_map(|row| row.comparison().cases()) {
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    let needed = cases.iter().map(|case| case.open_files()).max().unwrap_or(0);
    if let Some(allowed) = open_files.filter(|allowed| *allowed < needed) {
        return Err(Failure::new(format!(
            "{needed} open files are needed and {allowed} are allowed; raise the hard limit (`ulimit -Hn`), or leave \
             nodes_1000 and idle_node out with `--only`"
        )));
    }
    let field = Field::start().await?;
    for round in 1..=rounds {
        let mut results: Vec<(Case, Vec<f64>)> = cases.iter().map(|case| (*case, Vec::new())).collect();
        for slice in 0..comparisons::MOST_SLICES {
            for (case, values) in results.iter_mut().filter(|(case, _)| slice < case.slices()) {
                eprint!("\rround {round} of {rounds}: {:<20}", format!("{case:?}"));
                let value = field.measure(*case, time / case.slices()).await?;
                if options.each {
                    eprintln!("{value:.1}");
                }
                values.push(value);
            }
        }
        // The peer that came first in this round comes last in the next, so that none gains from the order.
        cases.reverse();
        let result = |wanted: Case| {
            results.iter().find(|(case, _)| *case == wanted).map_or(f64::NAN, |(_, values)| table::median(values))
        };
        for row in &mut rows {
            let ours = result(row.comparison().ours);
            let theirs = match row.comparison().theirs {
                Against::Case(case) => result(case),
                Against::Limit(limit) => limit,
            };
            row.add(ours, theirs);
        }
    }
    eprintln!("\r{:<40}\r", "");
    if options.json {
        rows.iter().for_each(|row| println!("{}", row.json()));
    } else {
        print!("{}", table::table(&rows));
    }
    Ok(())
}
