//! How many instructions a small call costs the master, under valgrind: a figure that is the same on a busy machine and
//! on an idle one.
//!
//! `cargo run --release -p distribution-benches --bin instructions` counts and compares with what is recorded in
//! `benches/instructions.txt`; more than 5 % above it is an error. `--record` writes the file. The figure belongs to a
//! compiler and to the versions in `Cargo.lock`: record it anew when these change.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user on its standard streams")]

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use clap::{Parser, Subcommand};
use distribution::{Master, Node};

/// Calls that are made before any count, so that what happens once does not.
const WARM_UP: u64 = 1_000;

/// Calls that make the difference between two runs.
const CALLS: u64 = 5_000;

/// How much more than recorded is an error.
const GROWTH: f64 = 0.05;

/// What the calls are made to.
#[distribution::service]
trait Echo {
    /// Gives the number back.
    async fn asynchronous(&self, number: u64) -> u64;
}

struct Parrot;

impl Echo for Parrot {
    async fn asynchronous(&self, number: u64) -> u64 {
        number
    }
}

/// Counts the instructions of a call on the master.
#[derive(Parser)]
struct Options {
    /// Write what is counted to the file instead of comparing with it.
    #[arg(long)]
    record: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// The process that is counted: a master, its node in another process, and one caller.
    #[command(hide = true)]
    Master {
        #[arg(long)]
        calls: u64,
    },
    #[command(hide = true)]
    Node {
        #[arg(long)]
        master: String,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match options.role {
        None => compare(options.record),
        Some(Role::Master { calls }) => run(call(calls)),
        Some(Role::Node { master }) => run(serve(master)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread, so that the same happens in the same order.
fn run(role: impl Future<Output = Result<(), Box<dyn Error>>>) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(role)
}

async fn serve(master: String) -> Result<(), Box<dyn Error>> {
    Node::builder().serve(EchoServer::new(Parrot)).slots(1).run(master).await?;
    Ok(())
}

async fn call(calls: u64) -> Result<(), Box<dyn Error>> {
    // Timers tick by the clock, and valgrind makes everything fifty times slower: few of them, so that they do not count.
    let master = Master::builder().heartbeat(Duration::from_secs(30)).bind("127.0.0.1:0").await?;
    let mut node =
        Command::new(std::env::current_exe()?).args(["node", "--master", &master.local_addr().to_string()]).spawn()?;
    master.wait_for_nodes(1).await;
    let echo = EchoClient::new(&master);
    for number in 0..calls {
        if echo.asynchronous(number).await? != number {
            return Err("an answer is wrong".into());
        }
    }
    node.kill()?;
    node.wait()?;
    Ok(())
}

fn compare(record: bool) -> Result<(), Box<dyn Error>> {
    let per_call = (count(WARM_UP + CALLS)? - count(WARM_UP)?) as f64 / CALLS as f64;
    println!("{per_call:.0} instructions on the master for a small call");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    if record {
        return Ok(fs::write(file, format!("{per_call:.0}\n"))?);
    }
    let recorded: f64 = fs::read_to_string(&file)?.trim().parse()?;
    let growth = per_call / recorded - 1.0;
    println!("{recorded:.0} are recorded: {:+.1} %", growth * 100.0);
    if growth > GROWTH {
        return Err(format!(
            "that is more than {:.0} % above; find out why (`valgrind --tool=callgrind`), or record it with `--record`",
            GROWTH * 100.0
        )
        .into());
    }
    Ok(())
}

/// Instructions of a whole run with this many calls.
fn count(calls: u64) -> Result<u64, Box<dyn Error>> {
    let program: PathBuf = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=no"])
        .arg(program)
        .args(["master", "--calls", &calls.to_string()])
        .output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("valgrind is not installed (on Debian: apt-get install valgrind)".into());
        }
        output => output?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected :"));
    match counted {
        Some((_, number)) if output.status.success() => Ok(number.trim().parse()?),
        _ => Err(format!("valgrind counted nothing; it said:\n{said}").into()),
    }
}
