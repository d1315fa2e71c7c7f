//! The program `distribution`: runs a master, and looks at a cluster and changes it.

mod administer;
mod arguments;
mod counted;
mod failure;
mod lines;
mod look;
mod master;
mod new_file;
mod output;
mod page;
mod profile;
mod show;
mod signals;
mod table;
mod tokens;
mod top;
mod trouble;
mod units;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use failure::Failure;
use look::Look;

fn main() -> ExitCode {
    let Arguments { command, color } = Arguments::parse();
    let look = Look::of_stdout(color);
    let ended = match command {
        Command::Master(options) => in_runtime(master::run(*options)),
        Command::Token { command } => tokens::run(command, look),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "distribution", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
        Command::Administer(command) => in_runtime(administer::run(command, look)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::other(format!("the program cannot start its threads: {error}")))?.block_on(work)
}
