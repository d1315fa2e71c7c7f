//! Kills, freezes and restarts real processes while calls run, and proves from their ledgers what became
//! of each call. What is judged, and how, is in `distribution_instruments::chaos`.

use std::process::ExitCode;

use clap::Parser;
use distribution_instruments::chaos::{self, Options, Role};

/// Ledger under chaos: the last line of standard output is the result as JSON; the exit code is 1 if
/// `lost`, `unexpected` or `duplicates` in it is not 0.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    role: Option<Role>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options, role } = Arguments::parse();
    chaos::main(options, role).await
}
