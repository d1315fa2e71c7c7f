//! What a master has answered at one moment.

use distribution::{
    AdminClient, CallError, CallFilter, CallInfo, NodeInfo, Stats,
    administration::{MasterStatus, MethodSummary, Metrics, RunInfo, Warning},
};
use futures::future;

use crate::failure::Failure;

/// Calls that are asked for: the oldest. Nobody reads more lines than this in a terminal.
pub(super) const MOST_CALLS: usize = 1_000;

/// What a master has answered.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) status: MasterStatus,
    pub(super) stats: Stats,
    pub(super) nodes: Vec<NodeInfo>,
    pub(super) calls: Vec<CallInfo>,
    /// Whether there are more calls than these.
    pub(super) has_more: bool,
    pub(super) methods: Vec<MethodSummary>,
    /// Empty if the master is of a release that does not count.
    pub(super) metrics: Metrics,
    /// None if the master is of a release that does not know of runs.
    pub(super) runs: Vec<RunInfo>,
    pub(super) warnings: Vec<Warning>,
}

impl Snapshot {
    /// Asks for all of it.
    pub(super) async fn fetch(admin: &AdminClient) -> Result<Self, Failure> {
        let first = future::join5(
            admin.status().into_future(),
            admin.stats().into_future(),
            admin.nodes().into_future(),
            admin.calls(CallFilter::default().limit(MOST_CALLS)).into_future(),
            admin.methods().into_future(),
        );
        let second =
            future::join3(admin.metrics().into_future(), admin.warnings().into_future(), admin.runs().into_future());
        let ((status, stats, nodes, calls, methods), (metrics, warnings, runs)) = future::join(first, second).await;
        let page = calls?;
        Ok(Self {
            status: status?,
            stats: stats?,
            nodes: nodes?,
            has_more: page.next.is_some(),
            calls: page.calls,
            methods: methods?,
            metrics: if_known(metrics)?,
            runs: if_known(runs)?,
            warnings: if_known(warnings)?,
        })
    }
}

/// Nothing, if the master is of an older release than this program and has no such method.
fn if_known<T: Default>(answer: Result<T, CallError>) -> Result<T, CallError> {
    match answer {
        Err(CallError::Incompatible { .. } | CallError::NoNode { .. }) => Ok(T::default()),
        answer => answer,
    }
}
