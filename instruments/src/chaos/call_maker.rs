//! Makes the calls that the driver orders, through any caller, and writes down how they end.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use distribution::{Answer, CallError, Caller, NodeIdentity};
use serde::{Deserialize, Serialize};
use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, unbounded_channel},
};

use super::{
    call_plan::{CallPlan, Declined, Method, Output},
    child,
    ledger::{Execution, Kind, Ledger, MasterEntry, MasterEvent, Outcome, Reason, Registration, now},
    service::{AgainClient, OnceClient},
};

/// How often the driver is told how many calls have ended.
pub(super) const PROGRESS: Duration = Duration::from_millis(5);

/// A line that the driver writes to a process that makes calls.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Make the calls with these keys.
    Go { from: u64, to: u64 },
    /// End once all have ended.
    Finish,
}

/// A line that a master or a caller prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The master listens, or the caller is connected.
    Ready,
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
pub(super) fn say(said: &Said) {
    println!("{}", serde_json::to_string(said).expect("plain data"));
}

/// The driver's orders to this process, which ends with the driver.
pub(super) fn orders() -> UnboundedReceiver<Order> {
    let (sender, orders) = unbounded_channel();
    child::end_with_parent(move |line| {
        // Nobody receives any more while the process ends.
        let _ = sender.send(serde_json::from_str(&line).expect("the driver writes orders"));
    });
    orders
}

/// How often a process looks whether it runs.
const TICK: Duration = Duration::from_millis(50);

pub(super) struct CallMaker {
    seed: u64,
    once: OnceClient,
    again: AgainClient,
    ledger: Arc<Ledger>,
    ended: AtomicU64,
}

impl CallMaker {
    pub(super) fn new(seed: u64, caller: &impl Caller, ledger: Arc<Ledger>) -> Arc<Self> {
        let (once, again) = (OnceClient::new(caller), AgainClient::new(caller));
        Arc::new(Self { seed, once, again, ledger, ended: AtomicU64::new(0) })
    }

    /// Makes the calls that are ordered, this many at a time, until it is told to finish and all have ended.
    pub(super) async fn obey(self: &Arc<Self>, mut orders: UnboundedReceiver<Order>, window: u32) -> io::Result<()> {
        let reports = tokio::spawn(Arc::clone(self).report());
        let watch = tokio::spawn(Arc::clone(self).watch_itself());
        let permits = Arc::new(Semaphore::new(window as usize));
        while let Some(Order::Go { from, to }) = orders.recv().await {
            for key in from..to {
                let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
                let maker = Arc::clone(self);
                tokio::spawn(async move {
                    maker.call(key).await;
                    drop(permit);
                });
            }
        }
        let _all = permits.acquire_many(window).await.map_err(io::Error::other)?;
        reports.abort();
        watch.abort();
        say(&Said::Progress { ended: self.ended.load(Ordering::Relaxed) });
        Ok(())
    }

    /// Notes when this process has not run for a while: its calls end later for as long.
    async fn watch_itself(self: Arc<Self>) {
        loop {
            let due = Instant::now() + TICK;
            tokio::time::sleep_until(due.into()).await;
            let late = due.elapsed();
            if late > TICK {
                self.note(MasterEvent::StoodStill { micros: late.as_micros() as u64 });
            }
        }
    }

    /// Tells the driver how far the calls are.
    async fn report(self: Arc<Self>) {
        let mut told = 0;
        loop {
            tokio::time::sleep(PROGRESS).await;
            let ended = self.ended.load(Ordering::Relaxed);
            if ended != told {
                told = ended;
                say(&Said::Progress { ended });
            }
        }
    }

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

pub(super) fn who(node: &NodeIdentity) -> Registration {
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
        CallError::MasterLost { .. } => Kind::MasterLost,
        _ => Kind::Other,
    };
    Outcome::Error { kind, execution, text: format!("{error:?}") }
}
