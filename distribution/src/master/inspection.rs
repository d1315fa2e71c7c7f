//! What a [`Master`] tells of how its cluster does: metrics, history, timeline, failures, warnings and profiles.

use std::time::Duration;

use super::{administrator::Administrator, handle::Master};
use crate::{
    administration::{
        FailureGroup, History, HistoryFilter, Metrics, Profile, RunInfo, TimedEvent, TimelineFilter, TimelinePage,
        Warning,
    },
    error::AdminError,
    id::NodeId,
};

impl Master {
    /// All counts since the master started, by method, node and caller: calls by how they ended, their times in the queue, on
    /// the way and in the handler, and their bytes.
    ///
    /// ```
    /// # use distribution::LocalCluster;
    /// # #[distribution::service]
    /// # trait Arith { fn double(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn double(&self, number: u64) -> u64 { 2 * number } }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalCluster::builder().nodes(1).serve(|| ArithServer::new(Calculator)).start().await?;
    /// ArithClient::new(&local).double(21).await?;
    /// let metrics = local.master().metrics();
    /// let double = &metrics.methods[0];
    /// assert_eq!((&*double.name, double.calls.outcomes.answered), ("double", 1));
    /// assert_eq!(double.calls.in_handler.count, 1);
    /// # Ok(()) }
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// How the cluster did in the last hour, second by second, or in the last day, minute by minute.
    ///
    /// The master keeps this in memory: 5,040 points of 56 bytes for the cluster, as many of 32 bytes for each of 128 methods, and
    /// at most 80 MiB for all nodes together, which is 197 KiB for each as long as there are no more than 291 nodes.
    pub fn history(&self, filter: &HistoryFilter) -> History {
        self.shared.history.read(filter, self.shared.started)
    }

    /// What ran on which slot of which node: the newest 200,000 spans, the oldest first. Short calls of a slot are put together.
    pub fn timeline(&self, filter: &TimelineFilter) -> TimelinePage {
        self.shared.timeline(filter)
    }

    /// The calls that failed, grouped by method, kind of error and message, those first that failed last.
    pub fn failures(&self) -> Vec<FailureGroup> {
        self.shared.failures()
    }

    /// The runs of many calls that have a [`name`](crate::Distributed::name), of this process and of callers elsewhere: those
    /// under way, the oldest first, and then the last 100 that have ended, the newest first.
    ///
    /// At most 64 runs of a caller that are under way at a time are listed, and 4,096 in all.
    ///
    /// ```
    /// # use distribution::{LocalCluster, administration::RunStatus, prelude::*};
    /// # #[distribution::service]
    /// # trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let local = LocalCluster::builder().nodes(1).serve(|| ArithServer::new(Calculator)).start().await?;
    /// let arith = ArithClient::new(&local);
    /// let squares: Vec<u64> = (0..100).map(|n| arith.square(n)).distribute().name("squares").try_collect().await?;
    /// let run = &local.master().runs()[0];
    /// assert_eq!((&*run.name, run.status, run.done), ("squares", RunStatus::Finished, 100));
    /// # Ok(()) }
    /// ```
    pub fn runs(&self) -> Vec<RunInfo> {
        self.shared.runs()
    }

    /// What has happened to the nodes before now: the newest events, at most `most`, the oldest first. The master keeps 1,024.
    /// [`events`](Self::events) tells what happens from now on.
    pub fn past_events(&self, most: usize) -> Vec<TimedEvent> {
        self.shared.past_events(most).events
    }

    /// What looks wrong in the cluster now, the most urgent first: silent nodes and nodes that were lost, calls that nobody serves, handlers that run for
    /// much longer than others, slots that are held, and more. See [`WarningKind`](crate::administration::WarningKind).
    ///
    /// To find it, the master looks at all nodes and methods, and at the 200 oldest waiting, running and stopping calls. That
    /// takes milliseconds with thousands of nodes, so ask once a second at most.
    pub fn warnings(&self) -> Vec<Warning> {
        self.shared.warnings()
    }

    /// Takes a profile of a node's process: which code it runs, 99 times for each second of processor time and for `length`, and
    /// what each handler is doing at the end that has a thread, with its stack and its call.
    ///
    /// The node's program has to be built with the feature `profiling`, and to run on Linux with the GNU C library, on x86-64 or 64-bit
    /// Arm. Its first profile makes the process some 200 MiB larger, which the profiler keeps for the next. While samples are
    /// taken its threads are interrupted by the signal `SIGPROF`, so it must not use that itself, and a system call in which a handler
    /// waits may end with [`ErrorKind::Interrupted`](std::io::ErrorKind::Interrupted), as it may with any signal. Names of functions
    /// need a program that is not stripped.
    ///
    /// # Errors
    ///
    /// [`AdminError::UnknownNode`] if no such node is registered, and [`AdminError::NotProfiled`] if `length` is zero or more than
    /// 60 s, another profile of its process is being taken, the node cannot take one, or its connection is lost meanwhile.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node takes the profile to its end, and takes no other one until then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn example(master: distribution::Master) -> Result<(), distribution::error::AdminError> {
    /// for node in master.nodes() {
    ///     let profile = master.profile(&node, Duration::from_secs(5)).await?;
    ///     for handler in &profile.handlers {
    ///         println!("{} is {}, in {:?}", handler.call, handler.state, handler.frames.last());
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn profile(&self, node: impl Into<NodeId>, length: Duration) -> Result<Profile, AdminError> {
        self.shared.profile(&Administrator::AtMaster, node.into(), length).await
    }
}
