//! A load that counts itself: in its handlers, and where its calls end. Nothing here asks the master what it has counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use distribution::{CallError, Cluster, Master, Node, NodeId, prelude::*};
use distribution_tests::{event, soon, until};

/// Methods that end in each of the ways that a load can bring about.
#[distribution::service]
pub(crate) trait Work {
    /// Answers.
    fn square(&self, number: u64) -> u64;

    /// Ends with its own error if it is told to divide by zero.
    fn divide(&self, a: i64, b: i64) -> Result<i64, String>;

    /// Panics with this message.
    fn explode(&self, message: String) -> u64;

    /// Holds a slot for at least this long.
    fn nap(&self, millis: u64) -> u64;

    /// Never ends by itself.
    async fn forever(&self);
}

/// What the load has counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Calls that have ended, by how they did.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Calls that have ended, by method.
    pub(crate) methods: BTreeMap<&'static str, u64>,
    /// Calls that have ended, by caller.
    pub(crate) callers: BTreeMap<&'static str, u64>,
    /// Handlers that were run by each node, without those that never end by themselves.
    pub(crate) handlers: BTreeMap<&'static str, u64>,
    /// How many handlers that never end by themselves have begun.
    pub(crate) forever: u64,
    /// How long each nap has held its slot, by the clock of its handler.
    pub(crate) naps: Vec<Duration>,
    /// How long naps took, by the clock of their caller.
    pub(crate) round_trips: Duration,
}

impl Counts {
    /// All calls that have ended.
    pub(crate) fn all(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

type Shared = Arc<Mutex<Counts>>;

fn count(counts: &Shared, count: impl FnOnce(&mut Counts)) {
    count(&mut counts.lock().unwrap_or_else(PoisonError::into_inner));
}

struct Worker {
    node: &'static str,
    counts: Shared,
}

impl Worker {
    fn runs(&self) {
        count(&self.counts, |counts| *counts.handlers.entry(self.node).or_default() += 1);
    }
}

impl Work for Worker {
    fn square(&self, number: u64) -> u64 {
        self.runs();
        number * number
    }

    fn divide(&self, a: i64, b: i64) -> Result<i64, String> {
        self.runs();
        a.checked_div(b).ok_or_else(|| "b is zero".to_owned())
    }

    fn explode(&self, message: String) -> u64 {
        self.runs();
        panic!("{message}")
    }

    fn nap(&self, millis: u64) -> u64 {
        self.runs();
        let begun = Instant::now();
        // This is the call's work: a time that the histogram has to show. It is measured, because it may take longer.
        std::thread::sleep(Duration::from_millis(millis));
        let slept = begun.elapsed();
        count(&self.counts, |counts| counts.naps.push(slept));
        millis
    }

    async fn forever(&self) {
        count(&self.counts, |counts| counts.forever += 1);
        std::future::pending().await
    }
}

/// Two callers and nodes that all count in one place.
pub(crate) struct Load {
    master: Master,
    /// Its connection ends with it.
    _cluster: Cluster,
    own: WorkClient,
    elsewhere: WorkClient,
    counts: Shared,
}

impl Load {
    /// A load on this master, by its own process and by a caller elsewhere, which is called `planner`.
    pub(crate) async fn on(master: &Master) -> Self {
        let cluster = Cluster::builder().name("planner").connect(master.local_addr()).await.expect("connects");
        let (own, elsewhere) = (WorkClient::new(master), WorkClient::new(&cluster));
        Self { master: master.clone(), _cluster: cluster, own, elsewhere, counts: Shared::default() }
    }

    /// Starts a node of this name with this many slots.
    pub(crate) async fn node(&self, name: &'static str, slots: usize) -> Node {
        let mut events = self.master.events();
        let worker = Worker { node: name, counts: self.counts.clone() };
        let node = Node::builder().serve(WorkServer::new(worker)).name(name).slots(slots);
        let node = node.drain_timeout(Duration::from_secs(3600));
        let node = soon("the node", node.spawn(self.master.local_addr())).await.expect("registers");
        event(&mut events, "the node", |event| event.node().is_some_and(|node| &*node.name == name)).await;
        node
    }

    /// What was counted up to now.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self, caller: &'static str, method: &'static str, outcome: &'static str) {
        count(&self.counts, |counts| {
            *counts.callers.entry(caller).or_default() += 1;
            *counts.methods.entry(method).or_default() += 1;
            *counts.outcomes.entry(outcome).or_default() += 1;
        });
    }

    /// Calls of all kinds, which all have ended at the end.
    pub(crate) async fn round(&self) {
        let callers = [("(master)", &self.own), ("planner", &self.elsewhere)];
        for (caller, work) in callers {
            for number in 0..20 {
                assert_eq!(work.square(number).await, Ok(number * number));
                self.ended(caller, "Work.square", "answered");
            }
            for number in 0..6 {
                let divided = work.divide(12, number % 3).await;
                let outcome = if divided.is_ok() { "answered" } else { "error" };
                self.ended(caller, "Work.divide", outcome);
            }
            let error = work.explode("as it was told to".to_owned()).await.expect_err("panics");
            assert!(matches!(error, CallError::Panicked { .. }), "{error}");
            self.ended(caller, "Work.explode", "panicked");

            // Many calls, in batches.
            let batched = (0..300).map(|number| work.square(number)).distribute();
            for result in batched.collect::<Vec<_>>().await {
                result.expect("answers");
                self.ended(caller, "Work.square", "answered");
            }
            let batched = (0..8).map(|number| work.explode(format!("number {number}"))).distribute();
            for result in batched.collect::<Vec<_>>().await {
                let error = result.expect_err("panics");
                assert!(matches!(error, CallError::Panicked { .. }), "{error}");
                self.ended(caller, "Work.explode", "panicked");
            }

            let begun = Instant::now();
            work.nap(30).await.expect("answers");
            let took = begun.elapsed();
            count(&self.counts, |counts| counts.round_trips += took);
            self.ended(caller, "Work.nap", "answered");

            let error = work.forever().timeout(Duration::from_millis(20)).await.expect_err("never ends");
            assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
            self.ended(caller, "Work.forever", "timed_out");
        }
    }

    /// Cancels a call that runs on this node.
    pub(crate) async fn cancel(&self, node: NodeId) {
        drop(self.runs_on(node).await);
        self.ended("planner", "Work.forever", "cancelled");
    }

    /// A call that runs on this node, until this is dropped.
    pub(crate) async fn runs_on(&self, node: NodeId) -> impl Future + use<> {
        let before = self.counts().forever;
        let call = self.elsewhere.forever().on(node).send();
        until("the call runs", || self.counts().forever > before).await;
        call
    }

    /// A call that waits, until this is dropped, for a node that there is not.
    pub(crate) async fn waits(&self) -> impl Future + use<> {
        let before = self.master.stats().queued;
        let call = self.own.nap(1).label("gpu", "a100").send();
        until("the call waits", || self.master.stats().queued > before).await;
        call
    }
}
