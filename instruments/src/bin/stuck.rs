//! Seven ways in which a cluster gets stuck, each over real processes. What does the master say of each, how soon, and what do
//! the program's commands show?
//!
//! `cargo build --release -p distribution-cli && cargo run --release -p distribution-instruments --bin stuck`
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::{Barrier, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use distribution::{
    AdminClient, Cluster, Node,
    administration::{Warning, WarningKind},
};
use distribution_instruments::program::Program;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

type Failure = Box<dyn std::error::Error>;

/// Within what time the cause has to be named.
const WITHIN: Duration = Duration::from_secs(5);

/// How long it is waited for at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    program: Program,
    /// Do not fail if a cause is named later than after 5 s: for a machine that is busy.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Serves calls that get stuck. The instrument starts such processes itself.
    Node { master: String, name: String, slots: usize },
}

/// What a call does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Step {
    /// It returns at once.
    Quick,
    /// It never returns, and calculates.
    Spin,
    /// It takes one of two locks and, when another handler has the other one, wants that too.
    Lock { first: usize },
    /// It waits for something for this many milliseconds.
    Wait { millis: u64 },
}

#[distribution::service]
trait Trouble {
    /// Does what it is told.
    fn step(&self, step: Step) -> u32;
}

struct Maker;

static LOCKS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
/// Each has its first lock before one of them wants the other.
static BOTH_LOCKED: Barrier = Barrier::new(2);

impl Trouble for Maker {
    fn step(&self, step: Step) -> u32 {
        match step {
            Step::Quick => {}
            Step::Spin => loop {
                std::hint::spin_loop();
            },
            // This is what the call does: it holds its slot and does not calculate.
            Step::Wait { millis } => std::thread::sleep(Duration::from_millis(millis)),
            Step::Lock { first } => {
                let _one = LOCKS[first].lock().unwrap_or_else(PoisonError::into_inner);
                BOTH_LOCKED.wait();
                let _other = LOCKS[1 - first].lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
        7
    }
}

/// A master and nodes, each a process that ends with this value.
struct Scene {
    program: PathBuf,
    addr: String,
    master: Child,
    nodes: Vec<Child>,
    cluster: Cluster,
}

impl Scene {
    async fn start(program: &Path, settings: &[&str], nodes: &[&str]) -> Result<Self, Failure> {
        let mut master = Command::new(program)
            .args(["master", "--listen", "127.0.0.1:0"])
            .args(settings)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(master.stdout.take().ok_or("it has an output")?).lines();
        let mut addr = None;
        while addr.is_none() {
            let line = lines.next_line().await?.ok_or("the master ended before it said where it listens")?;
            let words = line.split_whitespace().map(|word| word.trim_end_matches(['.', ',']));
            addr = words
                .filter(|word| !word.contains("//"))
                .find(|word| word.starts_with("127.0.0.1:"))
                .map(str::to_owned);
        }
        // What else it prints must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let addr = addr.unwrap_or_default();
        let cluster = Cluster::builder().name("patient").connect(&addr).await?;
        let mut scene = Self { program: program.to_owned(), addr, master, nodes: Vec::new(), cluster };
        for name in nodes {
            scene.nodes.push(
                Command::new(std::env::current_exe()?)
                    .args(["node", &scene.addr, name, "2"])
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()?,
            );
        }
        let admin = scene.admin();
        while admin.nodes().await?.len() < nodes.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(scene)
    }

    fn admin(&self) -> AdminClient {
        AdminClient::new(&self.cluster)
    }

    fn client(&self) -> TroubleClient {
        TroubleClient::new(&self.cluster)
    }

    /// Lets the method have an idea of how long it takes.
    async fn some_quick_calls(&self) -> Result<(), Failure> {
        for _ in 0..50 {
            self.client().step(Step::Quick).await?;
        }
        Ok(())
    }

    /// Waits for a warning of this kind. Returns it and how long it took.
    async fn warned(&self, began: Instant, kind: WarningKind) -> Result<(Warning, Duration), Failure> {
        loop {
            let warnings = self.admin().warnings().timeout(LONGEST_WAIT).await?;
            if let Some(warning) = warnings.into_iter().find(|warning| warning.kind == kind) {
                return Ok((warning, began.elapsed()));
            }
            if began.elapsed() > LONGEST_WAIT {
                return Err(format!("no warning of the kind {kind:?} came").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a command of the program prints.
    async fn shows(&self, command: &[&str]) -> Result<String, Failure> {
        let output =
            Command::new(&self.program).args(command).args(["--master", &self.addr]).env("COLUMNS", "200").output();
        Ok(String::from_utf8_lossy(&output.await?.stdout).into_owned())
    }
}

fn signal(child: &Child, name: &str) -> Result<(), Failure> {
    let id = child.id().ok_or("it runs")?.to_string();
    let done = std::process::Command::new("kill").args(["-s", name, &id]).status()?;
    if done.success() { Ok(()) } else { Err(format!("`kill -s {name}` failed").into()) }
}

/// A row of the table.
struct Row {
    what: &'static str,
    warning: Warning,
    after: Duration,
    calls: String,
    in_top: bool,
}

async fn row(what: &'static str, scene: &Scene, began: Instant, kind: WarningKind) -> Result<Row, Failure> {
    let (warning, after) = scene.warned(began, kind).await?;
    let calls = scene.shows(&["calls"]).await?;
    let top = scene.shows(&["top", "--once"]).await?;
    // A terminal cuts long lines, and the numbers in the sentence change.
    let beginning: String = warning.text.chars().take_while(|letter| !letter.is_ascii_digit()).take(24).collect();
    Ok(Row {
        what,
        in_top: top.contains(&beginning),
        calls: calls.lines().nth(1).unwrap_or("").trim().to_owned(),
        warning,
        after,
    })
}

async fn rows(program: &Path) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();

    {
        let scene = Scene::start(program, &[], &[]).await?;
        let began = Instant::now();
        let _call = scene.client().step(Step::Quick).send();
        rows.push(row("no node serves it", &scene, began, WarningKind::NobodyServes).await?);
    }

    {
        let scene = Scene::start(program, &[], &["n1", "n2"]).await?;
        let began = Instant::now();
        let _call = scene.client().step(Step::Quick).label("gpu", "a100").send();
        rows.push(row("no node has the label", &scene, began, WarningKind::NobodyServes).await?);
    }

    {
        let scene = Scene::start(program, &[], &["n1"]).await?;
        let _call = scene.client().step(Step::Wait { millis: 60_000 }).send();
        signal(&scene.nodes[0], "STOP")?;
        let began = Instant::now();
        rows.push(row("a node is silent", &scene, began, WarningKind::NodeSilent).await?);
        signal(&scene.nodes[0], "CONT")?;
    }

    {
        let scene = Scene::start(program, &[], &["n1"]).await?;
        scene.some_quick_calls().await?;
        let began = Instant::now();
        let _call = scene.client().step(Step::Spin).send();
        rows.push(row("a handler loops without end", &scene, began, WarningKind::RunsLong).await?);
    }

    {
        let scene = Scene::start(program, &[], &["n1"]).await?;
        scene.some_quick_calls().await?;
        let began = Instant::now();
        let _pair = [0, 1].map(|first| scene.client().step(Step::Lock { first }).send());
        rows.push(row("two handlers wait for each other", &scene, began, WarningKind::RunsLong).await?);
    }

    {
        let scene =
            Scene::start(program, &["--max-queued-calls", "100", "--max-queued-calls-per-caller", "100"], &["n1"])
                .await?;
        let flood = Cluster::builder().name("flood").connect(&scene.addr).await?;
        let flood = TroubleClient::new(&flood);
        // More than the node and the queue take. Those beyond are refused. By default no caller may fill the whole queue.
        let _calls: Vec<_> = (0..300).map(|_| flood.step(Step::Wait { millis: 60_000 }).send()).collect();
        while scene.admin().stats().await?.failed == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let began = Instant::now();
        let refused = scene.client().step(Step::Quick).await;
        if refused.is_ok() {
            return Err("a call found room in a full queue".into());
        }
        rows.push(row("another caller has filled the queue", &scene, began, WarningKind::QueueFull).await?);
    }

    {
        let scene = Scene::start(program, &[], &["n1"]).await?;
        let _call = scene.client().step(Step::Quick).await?;
        signal(&scene.master, "STOP")?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        signal(&scene.master, "CONT")?;
        let began = Instant::now();
        rows.push(row("the master is stalled", &scene, began, WarningKind::MasterStalled).await?);
    }

    Ok(rows)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let options = Options::parse();
    if let Some(Role::Node { master, name, slots }) = options.role {
        Node::builder().serve(TroubleServer::new(Maker)).name(name).slots(slots).run(master).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let program = options.program.find()?;
    let mut is_good = true;
    for Row { what, warning, after, calls, in_top } in rows(&program).await? {
        let in_time = after <= WITHIN;
        is_good &= in_top && (in_time || options.quick);
        println!("{what}: named after {:.1} s{}", after.as_secs_f64(), if in_time { "" } else { ", TOO LATE" });
        println!("  warning: {}", warning.text);
        println!("  calls:   {}", if calls.is_empty() { "-" } else { &calls });
        println!("  top:     {}", if in_top { "says the same" } else { "DOES NOT SAY IT" });
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
