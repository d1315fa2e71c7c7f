//! What a master answers when it is asked for everything that the page shows, and the parts that are made of it.

use distribution::{
    AdminClient, CallError, CallFilter, NodeInfo, Stats,
    administration::{
        CallPage, CallerInfo, FailureGroup, MasterStatus, MethodMetrics, MethodSummary, NodeMetrics, RunInfo,
        ServiceSummary, StatusFilter, Warning,
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    measured::{MethodRow, Window},
    rows::{CallRow, NodeCounts, NodeRow, RunRow, Versions, by_id},
    warnings::WarningRow,
};

/// What a master answers in one look.
pub(crate) struct Answers {
    pub(crate) status: MasterStatus,
    pub(crate) stats: Stats,
    nodes: Vec<NodeInfo>,
    running: CallPage,
    waiting: CallPage,
    stopping: CallPage,
    methods: Vec<MethodSummary>,
    services: Vec<ServiceSummary>,
    callers: Vec<CallerInfo>,
    node_metrics: Vec<NodeMetrics>,
    failures: Vec<FailureGroup>,
    warnings: Vec<Warning>,
    runs: Vec<RunInfo>,
}

impl Answers {
    /// Asks for everything, and for this many calls of each state. What was counted of the methods is not part of the answers,
    /// because a reader compares it with what was counted before.
    pub(crate) async fn ask(admin: &AdminClient, most: usize) -> Result<(Self, Vec<MethodMetrics>), CallError> {
        let calls = |status| {
            let filter = CallFilter::default().status(status).limit(most);
            async move { admin.calls(filter).await }
        };
        let lists = futures::future::try_join4(
            async { admin.metrics().await },
            async { admin.failures().await },
            async { admin.warnings().await },
            async { admin.runs().await },
        );
        let (status, stats, nodes, running, waiting, stopping, methods, services, callers, lists) = futures::try_join!(
            async { admin.status().await },
            async { admin.stats().await },
            async { admin.nodes().await },
            calls(StatusFilter::Running),
            calls(StatusFilter::Waiting),
            calls(StatusFilter::Stopping),
            async { admin.methods().await },
            async { admin.services().await },
            async { admin.callers().await },
            lists,
        )?;
        let (metrics, failures, warnings, runs) = lists;
        let node_metrics = metrics.nodes;
        let answers = Self {
            status,
            stats,
            nodes,
            running,
            waiting,
            stopping,
            methods,
            services,
            callers,
            node_metrics,
            failures,
            warnings,
            runs,
        };
        Ok((answers, metrics.methods))
    }

    /// The parts of the page, with at most this many rows each. `now` is in seconds since 1970.
    pub(crate) fn into_parts(
        self,
        now: f64,
        rates: Value,
        window: &Window<'_>,
        most: usize,
    ) -> Vec<(&'static str, Value)> {
        let Self { status, stats, nodes, running, waiting, stopping, methods, services, callers, .. } = self;
        let warnings: Vec<_> = self.warnings.into_iter().map(WarningRow::new).collect();
        let metrics = by_id(&self.node_metrics);
        let counts = NodeCounts::of(&nodes, &metrics);
        let versions = Versions::of(&status.version, &nodes);
        let node = |node: NodeInfo| {
            let metrics = metrics.get(&node.id).copied();
            NodeRow::new(node, &versions, metrics)
        };
        // How many there are in all, `status` says.
        let calls = |name: &str, page: CallPage| {
            let has_more = page.next.is_some();
            let rows: Vec<_> = page.calls.into_iter().map(CallRow::new).collect();
            json!({ name: rows, "has_more": has_more })
        };
        let method = |method| MethodRow::new(method, window);
        let methods = busiest(methods, most, |row| row.waiting + row.running);
        let services = busiest(services, most, |row| row.waiting + row.running);
        let callers = busiest(callers, most, |row| row.calls);
        vec![
            ("status", json!({ "at": now, "status": status, "stats": stats, "nodes": counts, "rates": rates })),
            ("warnings", json!({ "warnings": warnings })),
            ("nodes", listed("nodes", most_interesting(nodes, most), most, node)),
            ("running", calls("running", running)),
            ("waiting", calls("waiting", waiting)),
            ("stopping", calls("stopping", stopping)),
            ("methods", listed("methods", methods, most, method)),
            ("runs", listed("runs", self.runs, most, RunRow::new)),
            ("failures", listed("failures", self.failures, most, |group| group)),
            ("services", listed("services", services, most, with_few_methods)),
            ("callers", listed("callers", callers, most, |row| row)),
        ]
    }
}

/// The first rows of a list, with the length of all of it.
fn listed<T, R: Serialize>(name: &str, all: Vec<T>, most: usize, row: impl Fn(T) -> R) -> Value {
    let total = all.len();
    let rows: Vec<R> = all.into_iter().take(most).map(row).collect();
    json!({ name: rows, "total": total })
}

/// The most methods of a service that its row names.
const MOST_METHODS: usize = 100;

/// A service that names its first methods. A service may have a thousand, and a page many services.
fn with_few_methods(mut service: ServiceSummary) -> ServiceSummary {
    let more = service.methods.len().saturating_sub(MOST_METHODS);
    if more > 0 {
        service.methods.truncate(MOST_METHODS);
        service.methods.push(format!("…: and {more} more, which the panel Methods finds"));
    }
    service
}

/// Those with the most calls first, if there are too many. Otherwise they stay in their order.
fn busiest<T>(mut rows: Vec<T>, most: usize, calls: impl Fn(&T) -> usize) -> Vec<T> {
    if rows.len() > most {
        rows.sort_by_key(|row| std::cmp::Reverse(calls(row)));
    }
    rows
}

/// If there are too many, nodes that something is wrong with come first, and then those with the most calls. Among these they
/// stay in their order, so that a row is where it was.
fn most_interesting(mut nodes: Vec<NodeInfo>, most: usize) -> Vec<NodeInfo> {
    if nodes.len() > most {
        nodes.sort_by_key(|node| (NodeRow::is_well(node), std::cmp::Reverse(node.in_flight)));
        nodes[..most].sort_by_key(|node| (NodeRow::is_well(node), node.id));
    }
    nodes
}
