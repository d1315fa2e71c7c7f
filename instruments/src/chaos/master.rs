//! The role of a master: makes the calls it is ordered to, and writes down how they end.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use distribution::{Answer, CallError, Master, NodeEvent, NodeIdentity, error::GoneReason};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

use super::{
    call_plan::{CallPlan, Declined, Method, Output},
    child,
    ledger::{Execution, Kind, Ledger, MasterEntry, MasterEvent, Outcome, Reason, Registration, now},
    service::{AgainClient, OnceClient},
};

/// How often the driver is told how many calls have ended.
const PROGRESS: Duration = Duration::from_millis(5);

/// How long the books may take to be empty once all calls have ended: cancelled ones keep their slots
/// until their handlers return.
const SETTLING: Duration = Duration::from_secs(10);

/// What a master is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    pub(super) listen: String,
    #[arg(long)]
    pub(super) name: String,
    #[arg(long)]
    pub(super) seed: u64,
    #[arg(long)]
    pub(super) window: u32,
    #[arg(long)]
    pub(super) heartbeat_ms: u64,
    #[arg(long)]
    pub(super) folder: PathBuf,
}

/// A line that the driver writes to a master.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Make the calls with these keys.
    Go { from: u64, to: u64 },
    /// End once all have ended.
    Finish,
}

/// A line that a master prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    Listening,
    Joined {
        name: String,
    },
    Gone {
        name: String,
        reason: Reason,
    },
    /// This many of its calls have ended.
    Progress {
        ended: u64,
    },
    /// All calls have ended, and these are still in the books.
    Quiet {
        queued: usize,
        in_flight: usize,
    },
}

/// Logs to standard error, which the driver has made a file.
pub(super) fn log() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .init();
}

#[allow(clippy::print_stdout, reason = "the driver reads it")]
fn say(said: &Said) {
    println!("{}", serde_json::to_string(said).expect("plain data"));
}

pub(super) async fn run(arguments: Arguments) -> io::Result<()> {
    log();
    let ledger = Arc::new(Ledger::create(&arguments.folder, &arguments.name)?);
    let (sender, mut orders) = mpsc::unbounded_channel();
    child::end_with_parent(move |line| {
        // Nobody receives any more while the process ends.
        let _ = sender.send(serde_json::from_str(&line).expect("the driver writes orders"));
    });
    let heartbeat = Duration::from_millis(arguments.heartbeat_ms);
    let master = Master::builder().heartbeat(heartbeat).bind(&arguments.listen).await.map_err(io::Error::other)?;
    say(&Said::Listening);
    tokio::spawn(watch(master.clone(), Arc::clone(&ledger)));
    let caller = Arc::new(Caller {
        seed: arguments.seed,
        once: OnceClient::new(&master),
        again: AgainClient::new(&master),
        ledger,
        ended: AtomicU64::new(0),
    });
    tokio::spawn(report(Arc::clone(&caller)));

    let window = Arc::new(Semaphore::new(arguments.window as usize));
    while let Some(Order::Go { from, to }) = orders.recv().await {
        for key in from..to {
            let permit = Arc::clone(&window).acquire_owned().await.map_err(io::Error::other)?;
            let caller = Arc::clone(&caller);
            tokio::spawn(async move {
                caller.call(key).await;
                drop(permit);
            });
        }
    }
    let _all = window.acquire_many(arguments.window).await.map_err(io::Error::other)?;
    let since = Instant::now();
    let stats = loop {
        let stats = master.stats();
        if (stats.queued, stats.in_flight) == (0, 0) || since.elapsed() > SETTLING {
            break stats;
        }
        tokio::time::sleep(PROGRESS).await;
    };
    say(&Said::Progress { ended: caller.ended.load(Ordering::Relaxed) });
    say(&Said::Quiet { queued: stats.queued, in_flight: stats.in_flight });
    master.shutdown().await;
    Ok(())
}

/// Tells the driver how far the calls are.
async fn report(caller: Arc<Caller>) {
    let mut told = 0;
    loop {
        tokio::time::sleep(PROGRESS).await;
        let ended = caller.ended.load(Ordering::Relaxed);
        if ended != told {
            told = ended;
            say(&Said::Progress { ended });
        }
    }
}

/// Writes down which nodes come and go, and tells the driver.
async fn watch(master: Master, ledger: Arc<Ledger>) {
    let note = |what| ledger.write(&MasterEntry { at: now(), what });
    let joined = |node: &NodeIdentity| {
        note(MasterEvent::Joined { node: who(node) });
        say(&Said::Joined { name: node.name.to_string() });
    };
    let mut events = master.events();
    // Its tasks end with the process, but it must not be this that keeps the master going.
    drop(master);
    while let Some(event) = events.next().await {
        match event {
            NodeEvent::Present { node, .. } | NodeEvent::Joined { node, .. } => joined(&node),
            NodeEvent::Draining { node, .. } => note(MasterEvent::Leaving { node: who(&node) }),
            NodeEvent::Gone { node, reason, .. } => {
                let reason = match reason {
                    GoneReason::Disconnected | GoneReason::Broken(_) => Reason::Cut,
                    GoneReason::Silent(_) => Reason::Silent,
                    GoneReason::Left => Reason::Left,
                    GoneReason::Shutdown => Reason::Shutdown,
                    _ => Reason::Other,
                };
                note(MasterEvent::Gone { node: who(&node), reason });
                say(&Said::Gone { name: node.name.to_string(), reason });
            }
            _ => {}
        }
    }
}

struct Caller {
    seed: u64,
    once: OnceClient,
    again: AgainClient,
    ledger: Arc<Ledger>,
    ended: AtomicU64,
}

impl Caller {
    async fn call(&self, key: u64) {
        let plan = CallPlan::new(self.seed, key);
        let call = match (plan.idempotent, plan.method) {
            (false, Method::Quick) => self.once.quick(plan.work),
            (false, Method::Compute) => self.once.compute(plan.work),
            (false, Method::Wait) => self.once.wait(plan.work),
            (true, Method::Quick) => self.again.quick(plan.work),
            (true, Method::Compute) => self.again.compute(plan.work),
            (true, Method::Wait) => self.again.wait(plan.work),
        };
        let call = match plan.timeout {
            Some(timeout) => call.timeout(timeout),
            None => call,
        };
        let call = match plan.attempts {
            // Refused for a call that may run only once.
            Some(attempts) if plan.idempotent => call.attempts(attempts),
            _ => call,
        };
        self.note(MasterEvent::Submit { key });
        let started = Instant::now();
        let result = match plan.given_up {
            Some(after) => tokio::time::timeout(after, call.answer()).await.ok(),
            None => Some(call.answer().await),
        };
        let elapsed = started.elapsed().as_micros() as u64;
        self.note(match result {
            Some(result) => MasterEvent::End { key, elapsed, outcome: outcome(result) },
            None => MasterEvent::GivenUp { key },
        });
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, what: MasterEvent) {
        self.ledger.write(&MasterEntry { at: now(), what });
    }
}

fn who(node: &NodeIdentity) -> Registration {
    Registration { name: node.name.to_string(), id: node.id.to_string() }
}

fn outcome(result: Result<Answer<Output>, CallError<Declined>>) -> Outcome {
    let error = match result {
        Ok(answer) => {
            let (node, attempts) = (who(&answer.node), answer.attempts);
            return Outcome::Value { digest: answer.value.digest(), node, attempts };
        }
        Err(CallError::Handler(Declined { value })) => return Outcome::Declined { value },
        Err(error) => error,
    };
    let execution = match error.execution() {
        distribution::error::Execution::NotRun => Execution::NotRun,
        distribution::error::Execution::MayHaveRun => Execution::MayHaveRun,
        distribution::error::Execution::Ran => Execution::Ran,
    };
    let kind = match &error {
        CallError::Panicked { node, .. } => Kind::Panicked { node: who(node) },
        CallError::NoNode { waited, .. } => Kind::NoNode { waited: waited.as_micros() as u64 },
        CallError::TimedOut { .. } => Kind::TimedOut,
        CallError::NodeLost { node, attempts, .. } => Kind::NodeLost { node: who(node), attempts: *attempts },
        CallError::Poisoned { nodes, .. } => Kind::Poisoned { nodes: nodes.iter().map(who).collect() },
        _ => Kind::Other,
    };
    Outcome::Error { kind, execution, text: format!("{error:?}") }
}
