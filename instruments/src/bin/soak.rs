//! Runs mixed load for a while, and shows by quarter that nothing grows. What is called and judged is in
//! `distribution_instruments::soak`.

use std::process::ExitCode;

use clap::Parser;
use distribution_instruments::soak::{self, Options, Role};

/// Soak: the last line of standard output is the result as JSON; the exit code is 1 if memory grew,
/// something was left behind, or a call ended otherwise than it was to.
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
    soak::main(options, role).await
}
