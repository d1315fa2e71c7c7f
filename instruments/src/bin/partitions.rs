//! Partitions at length: cuts nodes off from their masters in network namespaces, again and again, and says how long
//! it took to notice and to come back. Needs root. Exits with 1 where a bound is missed; the last line is JSON.
#![allow(clippy::print_stdout, reason = "the report is what it is run for")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use distribution_instruments::network::{self, Kind, Lossy, Network, Outcome, Plan};
use futures::{StreamExt, stream};
use serde::Serialize;

/// The longest that a loss may go unnoticed, at the default heartbeat of 1 s.
const NOTICED: Duration = Duration::from_secs(7);

/// The longest that a reset may: the next heartbeat provokes it, and then the connection is closed.
const RESET_NOTICED: Duration = Duration::from_millis(1_500);

/// The longest from healing to an answer.
const RECOVERED: Duration = Duration::from_secs(15);

/// Nodes in the lossy part, and in every third trial.
const SEVERAL: usize = 3;

#[derive(Parser)]
#[command(about, args_conflicts_with_subcommands = true)]
struct Options {
    /// Trials of each kind of partition.
    #[arg(long, default_value_t = 20)]
    trials: usize,
    /// How long to make calls over lossy wires; 0 for not at all.
    #[arg(long, default_value_t = 300)]
    lossy_seconds: u64,
    /// The longest that a partition goes on after it was noticed, in seconds; the trials spread from 0 to that.
    #[arg(long, default_value_t = 120)]
    hold: u64,
    /// Trials under way at once. They mostly wait.
    #[arg(long, default_value_t = 40)]
    at_once: usize,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does inside a namespace.
#[derive(Subcommand)]
enum Role {
    /// Takes nodes, and does what standard input asks.
    #[command(hide = true)]
    Master { heartbeat: u64 },
    /// Serves.
    #[command(hide = true)]
    Node { master: String, name: String },
}

#[tokio::main]
async fn main() -> Result<ExitCode, distribution::Error> {
    let options = Options::parse();
    let Some(role) = &options.role else { return Ok(drive(&options).await) };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    match role {
        Role::Master { heartbeat } => network::master(Duration::from_millis(*heartbeat)).await?,
        Role::Node { master, name } => network::node(master, name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn drive(options: &Options) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            println!("where this program is cannot be found out: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (kinds, lossy) = tokio::join!(trials(options, &program), rough(options.lossy_seconds, &program));
    for (kind, row) in &kinds {
        println!("{kind:15} {row}");
    }
    if let Some(lossy) = &lossy {
        println!("{:15} {lossy:?}", "lossy");
    }
    let ok = kinds.values().all(|row| row.missed == 0) && lossy.as_ref().is_none_or(Lossy::is_well);
    let report = Report { ok, kinds, lossy };
    match serde_json::to_string(&report) {
        Ok(line) => println!("{line}"),
        Err(error) => println!("a report that cannot be written: {error}"),
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    kinds: BTreeMap<&'static str, Row>,
    lossy: Option<Lossy>,
}

/// One kind of partition.
#[derive(Default, Serialize)]
struct Row {
    trials: usize,
    /// Trials that took too long for either, gave the wrong reason, or went wrong.
    missed: usize,
    /// In seconds.
    noticed: Spread,
    /// In seconds.
    recovered: Spread,
    /// How often the node was lost again after it had come back.
    relapses: usize,
    /// How often the reason was silence. Else the connection was seen to break.
    silent: usize,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { trials, missed, noticed, recovered, relapses, silent } = self;
        write!(
            f,
            "{trials} trials, noticed in {:.2} / {:.2} / {:.2} s, recovered in {:.2} / {:.2} / {:.2} s (min / median / max), \
             {silent} by silence, {relapses} relapses, {missed} missed a bound",
            noticed.min, noticed.median, noticed.max, recovered.min, recovered.median, recovered.max,
        )
    }
}

async fn trials(options: &Options, program: &Path) -> BTreeMap<&'static str, Row> {
    let last = options.trials.saturating_sub(1).max(1) as f64;
    let plans = (0..options.trials).flat_map(|number| {
        Kind::ALL.map(|kind| Plan {
            kind,
            nodes: if number % 3 == 2 { SEVERAL } else { 1 },
            heartbeat: Duration::from_secs(1),
            phase: (number as f64 + 0.5) / options.trials as f64,
            // In another order than the phases, so that the two are not confused.
            hold: Duration::from_secs(options.hold).mul_f64((number * 7 % options.trials) as f64 / last),
        })
    });
    let mut outcomes: BTreeMap<Kind, Vec<Option<Outcome>>> = BTreeMap::new();
    let mut running = stream::iter(plans)
        .map(|plan| async move { (plan, one(plan, program.to_path_buf()).await) })
        .buffer_unordered(options.at_once.max(1));
    while let Some((plan, outcome)) = running.next().await {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let Plan { kind, nodes, phase, hold, .. } = plan;
        print!("{:15} {nodes} nodes, cut at {phase:.3}, held {:>8}: ", kind.name(), seconds(hold));
        match &outcome {
            Ok(Outcome { noticed, recovered, relapses, reason, .. }) => println!(
                "noticed in {}, recovered in {}, {relapses} relapses; it {reason}",
                seconds(*noticed),
                seconds(*recovered)
            ),
            Err(what) => println!("{what}"),
        }
        outcomes.entry(kind).or_default().push(outcome.ok());
    }
    outcomes.into_iter().map(|(kind, outcomes)| (kind.name(), row(kind, outcomes))).collect()
}

async fn one(plan: Plan, program: PathBuf) -> Result<Outcome, String> {
    let network = Network::new(plan.nodes).await.map_err(|error| format!("no network: {error}"))?;
    network::trial(&network, &program, plan).await
}

fn row(kind: Kind, outcomes: Vec<Option<Outcome>>) -> Row {
    let mut row = Row { trials: outcomes.len(), ..Row::default() };
    let well: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    row.missed = row.trials - well.iter().filter(|outcome| is_well(kind, outcome)).count();
    row.noticed = spread(well.iter().map(|outcome| outcome.noticed));
    row.recovered = spread(well.iter().map(|outcome| outcome.recovered));
    row.relapses = well.iter().map(|outcome| outcome.relapses).sum();
    row.silent = well.iter().filter(|outcome| outcome.silent).count();
    row
}

fn is_well(kind: Kind, outcome: &Outcome) -> bool {
    let (bound, reason) = match kind {
        Kind::Both | Kind::ToMaster => (NOTICED, outcome.silent),
        // The node may be the first to notice, and hang up.
        Kind::ToNode => (NOTICED, true),
        Kind::Reset => (RESET_NOTICED, !outcome.silent),
    };
    reason && outcome.noticed <= bound && outcome.recovered <= RECOVERED
}

fn spread(times: impl Iterator<Item = Duration>) -> Spread {
    // To the millisecond, which is more than they are worth.
    let mut times: Vec<f64> = times.map(|time| time.as_millis() as f64 / 1000.0).collect();
    times.sort_by(f64::total_cmp);
    match times.as_slice() {
        [] => Spread::default(),
        [min, .., max] => Spread { min: *min, median: times[times.len() / 2], max: *max },
        [one] => Spread { min: *one, median: *one, max: *one },
    }
}

async fn rough(seconds: u64, program: &Path) -> Option<Lossy> {
    if seconds == 0 {
        return None;
    }
    let run = async { network::lossy(&Network::new(SEVERAL).await?, SEVERAL, program, seconds).await };
    // A run that broke off has answered nothing, and so is not well.
    Some(run.await.unwrap_or_else(|error| Lossy { violations: vec![error.to_string()], ..Lossy::default() }))
}
