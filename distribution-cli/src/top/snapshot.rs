//! What a master has answered at one moment, and what has happened since the moment before.

use std::{collections::HashMap, time::Duration};

use distribution::{
    AdminClient, CallFilter, CallInfo, NodeId, NodeInfo, Stats,
    administration::{MasterStatus, MethodSummary},
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
}

impl Snapshot {
    /// Asks for all of it.
    pub(super) async fn fetch(admin: &AdminClient) -> Result<Self, Failure> {
        let (status, stats, nodes, calls, methods) = future::join5(
            admin.status().into_future(),
            admin.stats().into_future(),
            admin.nodes().into_future(),
            admin.calls(CallFilter::default().limit(MOST_CALLS)).into_future(),
            admin.methods().into_future(),
        )
        .await;
        let page = calls?;
        Ok(Self {
            status: status?,
            stats: stats?,
            nodes: nodes?,
            has_more: page.next.is_some(),
            calls: page.calls,
            methods: methods?,
        })
    }
}

/// What happens in a second, as counted between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Calls that ended with a value or the method's own error.
    pub(super) answered: f64,
    /// Calls that ended with another error.
    pub(super) failed: f64,
    /// Calls that each node has answered.
    pub(super) nodes: HashMap<NodeId, f64>,
}

impl Rates {
    /// `None` if no time has passed, or the later snapshot is of another run of the master.
    pub(super) fn between(earlier: &Snapshot, later: &Snapshot) -> Option<Self> {
        let passed = later.status.running_for.checked_sub(earlier.status.running_for)?;
        let answered = per_second(earlier.stats.answered, later.stats.answered, passed)?;
        let failed = per_second(earlier.stats.failed, later.stats.failed, passed)?;
        let before: HashMap<_, _> = earlier.nodes.iter().map(|node| (node.id, node.answered)).collect();
        let nodes = later.nodes.iter().filter_map(|node| {
            let before = before.get(&node.id).copied().unwrap_or(0);
            Some((node.id, per_second(before, node.answered, passed)?))
        });
        Some(Self { answered, failed, nodes: nodes.collect() })
    }
}

fn per_second(before: u64, after: u64, passed: Duration) -> Option<f64> {
    let seconds = passed.as_secs_f64();
    (seconds > 0.0).then_some(after.checked_sub(before)? as f64 / seconds)
}
