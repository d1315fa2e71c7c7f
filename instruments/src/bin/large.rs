//! Many callers pass a large value each at the same time, over one master: how much memory the master takes, how fast it is,
//! and whether each node gets the right bytes.
//!
//! `cargo run --release -p distribution-instruments --bin large`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    io,
    net::SocketAddr,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use distribution::{Cluster, Master, Node};
use distribution_instruments::{
    chaos::child::{Child, end_with_parent},
    figures::{Figures, ms},
    memory::most_resident,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// More is a hang.
const LONGEST: Duration = Duration::from_secs(600);

/// Small calls beside the large ones follow each other after this time.
const BETWEEN: Duration = Duration::from_millis(5);

/// Passes large values of many callers to the nodes of one master.
#[derive(Parser)]
struct Options {
    /// Callers, each a process with one value.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=256))]
    callers: u32,

    /// MiB of each value.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    mib: u32,

    /// Nodes. Each may hold the values of the calls that it runs.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    nodes: u32,

    /// The values come back too.
    #[arg(long)]
    echo: bool,

    /// The most memory that the master's process may take, in MiB.
    #[arg(long, default_value_t = 600)]
    limit: u64,

    /// Eight callers with 50 MiB each.
    #[arg(long)]
    quick: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What the processes do that this program starts.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Master,
    #[command(hide = true)]
    Node { master: String },
    #[command(hide = true)]
    Caller {
        master: String,
        number: u32,
        mib: u32,
        #[arg(action = clap::ArgAction::Set)]
        echo: bool,
    },
}

/// Methods with large values.
#[distribution::service]
trait Values {
    /// A sum over all bytes.
    async fn sum(&self, bytes: Bytes) -> u64;
    /// The same bytes.
    async fn echo(&self, bytes: Bytes) -> Bytes;
    /// The same number.
    async fn small(&self, number: u64) -> u64;
}

struct Summing;

/// Differs if a byte is missing, changed, or elsewhere.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    words.fold(0, |sum: u64, word| sum.rotate_left(5).wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Values for Summing {
    async fn sum(&self, bytes: Bytes) -> u64 {
        sum(&bytes)
    }

    async fn echo(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    async fn small(&self, number: u64) -> u64 {
        number
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let mut options = Options::parse();
    match options.role.take() {
        Some(Role::Master) => {
            end_with_parent(|_| {});
            let master = Master::bind("127.0.0.1:0").await?;
            println!("{}", master.local_addr());
            std::future::pending().await
        }
        Some(Role::Node { master }) => {
            end_with_parent(|_| {});
            Node::builder().serve(ValuesServer::new(Summing)).run(master).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Role::Caller { master, number, mib, echo }) => {
            call(&master, number, mib, echo).await?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            if options.quick {
                (options.callers, options.mib) = (8, 50);
            }
            let is_kept = tokio::time::timeout(LONGEST, drive(&options)).await??;
            println!("{}", if is_kept { "kept" } else { "BROKEN" });
            Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Connects and makes its value, waits for the word, and passes it.
async fn call(master: &str, number: u32, mib: u32, echo: bool) -> Result<(), Failure> {
    let (sender, mut begin) = tokio::sync::mpsc::unbounded_channel();
    end_with_parent(move |_| _ = sender.send(()));
    let cluster = Cluster::connect(master).await?;
    let values = ValuesClient::new(&cluster);
    values.small(number.into()).await?;
    let mut state = u64::from(number) + 1;
    let words = (0..u64::from(mib) << 17).flat_map(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state.to_le_bytes()
    });
    let bytes = Bytes::from_iter(words);
    println!("ready");
    begin.recv().await;
    let began = Instant::now();
    let expected = sum(&bytes);
    let received = match echo {
        true => sum(&values.echo(bytes).await?),
        false => values.sum(bytes).await?,
    };
    match received == expected {
        true => println!("right after {}", ms(began.elapsed())),
        false => println!("WRONG"),
    }
    Ok(())
}

/// A process, and what it prints.
struct Running {
    child: Child,
    lines: Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Running {
    fn start(arguments: &[String]) -> io::Result<Self> {
        let mut child = Child::start(arguments, Stdio::inherit())?;
        let stdout = child.take_stdout().ok_or_else(|| io::Error::other("a child has no output"))?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    async fn line(&mut self) -> io::Result<String> {
        let line = self.lines.next_line().await?;
        line.ok_or_else(|| io::Error::other("a process ended early; its reason is above"))
    }
}

async fn drive(options: &Options) -> Result<bool, Failure> {
    let mut master = Running::start(&["master".to_owned()])?;
    let addr: SocketAddr = master.line().await?.parse()?;
    let start =
        |role: &str, others: &[String]| Running::start(&[&[role.to_owned(), addr.to_string()], others].concat());
    let nodes = (0..options.nodes).map(|_| start("node", &[])).collect::<io::Result<Vec<_>>>()?;
    let others = |number: u32| [number.to_string(), options.mib.to_string(), options.echo.to_string()];
    let mut callers =
        (0..options.callers).map(|number| start("caller", &others(number))).collect::<io::Result<Vec<_>>>()?;
    for caller in &mut callers {
        caller.line().await?;
    }
    let before = most_resident(master.child.id())?;
    let began = Instant::now();
    for caller in &mut callers {
        caller.child.stdin().ok_or("a child has no input")?.write_all(b"begin\n").await?;
    }
    let (over, is_over) = tokio::sync::watch::channel(false);
    let small = tokio::spawn(call_beside(addr, is_over));
    let mut wrong = 0;
    for caller in &mut callers {
        let line = caller.line().await?;
        if !line.starts_with("right") {
            println!("{line}");
            wrong += 1;
        }
    }
    let elapsed = began.elapsed();
    over.send(true)?;
    let times = small.await??;
    let most = most_resident(master.child.id())?;
    let nodes = nodes.iter().map(|node| most_resident(node.child.id())).collect::<io::Result<Vec<_>>>()?;
    let ways = if options.echo { "there and back" } else { "there" };
    let mib = u64::from(options.callers) * u64::from(options.mib) * if options.echo { 2 } else { 1 };
    println!(
        "{} callers passed {} MiB each {ways} in {:.1} s: {:.0} MiB/s",
        options.callers,
        options.mib,
        elapsed.as_secs_f64(),
        mib as f64 / elapsed.as_secs_f64()
    );
    println!("wrong: {wrong}");
    println!(
        "memory of the master: {} MiB before, {} MiB at most; nodes {} MiB at most",
        before / 1024,
        most / 1024,
        nodes.iter().max().copied().unwrap_or_default() / 1024
    );
    println!(
        "small calls of another caller meanwhile: median {}, p99 {}, worst {}",
        ms(times.quantile(0.5)),
        ms(times.quantile(0.99)),
        ms(times.worst())
    );
    Ok(wrong == 0 && most / 1024 <= options.limit)
}

/// Makes small calls until the large ones are over.
async fn call_beside(addr: SocketAddr, mut is_over: tokio::sync::watch::Receiver<bool>) -> Result<Figures, Failure> {
    let cluster = Cluster::connect(addr.to_string()).await?;
    let values = ValuesClient::new(&cluster);
    let mut times = Vec::new();
    loop {
        let began = Instant::now();
        values.small(1).await?;
        times.push(began.elapsed());
        if tokio::time::timeout(BETWEEN, is_over.wait_for(|is_over| *is_over)).await.is_ok() {
            return Ok(Figures::new(times));
        }
    }
}
