//! One look at the master: asks it for what the page shows, and makes an event of each part that has changed.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use distribution::{
    AdminClient, CallError, CallFilter, NodeInfo, Stats,
    administration::{
        CallPage, CallerInfo, FailureGroup, HistoryFilter, MasterStatus, MethodSummary, Metrics, RunInfo,
        ServiceSummary, StatusFilter, TimedEvent, Warning,
    },
};
use futures::{StreamExt, stream::BoxStream};
use serde::Serialize;
use serde_json::json;

use super::{
    hub::{Part, Parts},
    measured::{Measured, MethodRow},
    rows::{CallRow, EventRow, MOST_ROWS, NodeCounts, NodeRow, RunRow},
    warnings::{Seen, warnings},
};

/// How many of the newest events are shown.
const MOST_EVENTS: usize = 200;

/// How many seconds of the history an event brings. A page that misses some asks for them.
const MOST_POINTS: usize = 30;

/// How long the master may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Reads a master, and remembers what it needs for the next look.
pub(super) struct Reader {
    admin: AdminClient,
    /// The events that come; `None` after an error, until the next look.
    following: Option<BoxStream<'static, Result<TimedEvent, CallError>>>,
    events: VecDeque<EventRow>,
    /// How many events there have been, so that the page knows a new one.
    event_number: u64,
    totals: Option<(Instant, Stats)>,
    measured: Measured,
    /// The next second of the history.
    next_point: u64,
    parts: BTreeMap<&'static str, Part>,
    /// When the figures are from that are shown.
    read_at: Option<f64>,
}

/// What a master answers in one look.
struct Answers {
    status: MasterStatus,
    stats: Stats,
    nodes: Vec<NodeInfo>,
    running: CallPage,
    waiting: CallPage,
    stopping: CallPage,
    methods: Vec<MethodSummary>,
    services: Vec<ServiceSummary>,
    callers: Vec<CallerInfo>,
    metrics: Metrics,
    failures: Vec<FailureGroup>,
    warnings: Vec<Warning>,
    runs: Vec<RunInfo>,
}

impl Reader {
    pub(super) fn new(admin: AdminClient) -> Self {
        Self {
            admin,
            following: None,
            events: VecDeque::new(),
            event_number: 0,
            totals: None,
            measured: Measured::default(),
            next_point: 0,
            parts: BTreeMap::new(),
            read_at: None,
        }
    }

    /// Waits, and takes events meanwhile.
    pub(super) async fn rest(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        let mut following = self.following.take().unwrap_or_else(|| follow(&self.admin));
        loop {
            match tokio::time::timeout_at(end, following.next()).await {
                Err(_) => {
                    self.following = Some(following);
                    return;
                }
                Ok(Some(Ok(event))) => self.on_event(event),
                // The next look begins anew.
                Ok(Some(Err(_)) | None) => return tokio::time::sleep_until(end).await,
            }
        }
    }

    fn on_event(&mut self, event: TimedEvent) {
        self.event_number += 1;
        self.events.push_front(EventRow::new(self.event_number, &event));
        self.events.truncate(MOST_EVENTS);
    }

    /// Asks the master for everything.
    pub(super) async fn read(&mut self) -> Parts {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        match tokio::time::timeout(ANSWER_TIME, ask(&self.admin)).await {
            Ok(Ok(answers)) => {
                self.read_at = Some(now);
                self.show(answers, now);
                self.show_history().await;
            }
            // What was read before stays, and the page says from when it is.
            Ok(Err(error)) => self.set("trouble", &json!({ "sentence": error.to_string(), "since": self.read_at })),
            Err(_) => {
                let sentence =
                    format!("the master has not answered for {} s; it may be stalled", ANSWER_TIME.as_secs());
                self.set("trouble", &json!({ "sentence": sentence, "since": self.read_at }));
            }
        }
        self.parts.values().cloned().collect()
    }

    fn show(&mut self, answers: Answers, now: f64) {
        let Answers { status, stats, nodes, running, waiting, stopping, methods, services, callers, .. } = answers;
        let warnings = warnings(&Seen { status: &status, nodes: &nodes, of_master: answers.warnings });
        let (metrics, failures) = (answers.metrics, answers.failures);
        let counts = NodeCounts::of(&nodes);
        let rates = self.rates(&stats);
        self.set("trouble", &json!({}));
        self.set("status", &json!({ "at": now, "status": status, "stats": stats, "nodes": counts, "rates": rates }));
        self.set("warnings", &json!({ "warnings": warnings }));
        let by_id = metrics.nodes.iter().map(|node| (node.id, node)).collect::<std::collections::HashMap<_, _>>();
        let row = |node: NodeInfo| {
            let metrics = by_id.get(&node.id).copied();
            NodeRow::new(node).with(metrics)
        };
        self.set("nodes", &listed("nodes", most_interesting(nodes), row));
        // How many there are in all, `status` says.
        let rows = |page: CallPage| page.calls.into_iter().map(CallRow::new).collect::<Vec<_>>();
        self.set("running", &json!({ "running": rows(running) }));
        self.set("waiting", &json!({ "waiting": rows(waiting) }));
        self.set("stopping", &json!({ "stopping": rows(stopping) }));
        let window = self.measured.window(metrics);
        let row = |method| MethodRow::new(method, &window);
        let methods = listed("methods", busiest(methods, |row| row.waiting + row.running), row);
        self.set("methods", &methods);
        self.set("runs", &listed("runs", answers.runs, RunRow::new));
        self.set("failures", &listed("failures", failures, |group| group));
        self.set("services", &listed("services", busiest(services, |row| row.waiting + row.running), |row| row));
        self.set("callers", &listed("callers", busiest(callers, |row| row.calls), |row| row));
        let events = json!({ "events": self.events });
        self.set("events", &events);
    }

    /// Shows the seconds since the last look. What was before, the page asks for once.
    async fn show_history(&mut self) {
        let filter = HistoryFilter::default().from(self.next_point);
        let Ok(Ok(history)) = tokio::time::timeout(ANSWER_TIME, async { self.admin.history(filter).await }).await
        else {
            return;
        };
        self.next_point = history.next;
        let newest = history.cluster.len().saturating_sub(MOST_POINTS);
        let points = &history.cluster[newest..];
        self.set("history", &json!({ "started": history.started.as_secs_f64(), "points": points }));
    }

    /// Calls a second since the last look.
    fn rates(&mut self, stats: &Stats) -> serde_json::Value {
        let now = Instant::now();
        let before = self.totals.replace((now, *stats));
        let Some((at, before)) = before else { return serde_json::Value::Null };
        let seconds = now.duration_since(at).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        json!({
            "answered": rate(stats.answered, before.answered),
            "failed": rate(stats.failed, before.failed),
            "cancelled": rate(stats.cancelled, before.cancelled),
        })
    }

    /// Makes an event of a part, if it is another one than before.
    fn set(&mut self, name: &'static str, content: &impl Serialize) {
        let Ok(json) = serde_json::to_string(content) else { return };
        // JSON as serde_json writes it has no line breaks.
        let event = Bytes::from(format!("event: {name}\ndata: {json}\n\n"));
        match self.parts.get_mut(name) {
            Some(part) if part.event == event => {}
            Some(part) => {
                part.event = event;
                part.version += 1;
            }
            None => {
                self.parts.insert(name, Part { name, version: 1, event });
            }
        }
    }
}

async fn ask(admin: &AdminClient) -> Result<Answers, CallError> {
    let calls = |status| {
        let filter = CallFilter::default().status(status).limit(MOST_ROWS);
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
    Ok(Answers {
        status,
        stats,
        nodes,
        running,
        waiting,
        stopping,
        methods,
        services,
        callers,
        metrics,
        failures,
        warnings,
        runs,
    })
}

fn follow(admin: &AdminClient) -> BoxStream<'static, Result<TimedEvent, CallError>> {
    admin.events().boxed()
}

/// The first rows of a list, with the length of all of it.
fn listed<T, R: Serialize>(name: &str, all: Vec<T>, row: impl Fn(T) -> R) -> serde_json::Value {
    let total = all.len();
    let rows: Vec<R> = all.into_iter().take(MOST_ROWS).map(row).collect();
    json!({ name: rows, "total": total })
}

/// Those with the most calls first. Otherwise they stay in their order.
fn busiest<T>(mut rows: Vec<T>, calls: impl Fn(&T) -> usize) -> Vec<T> {
    if rows.len() > MOST_ROWS {
        rows.sort_by_key(|row| std::cmp::Reverse(calls(row)));
    }
    rows
}

/// Nodes that something is wrong with first, then those with the most calls.
fn most_interesting(mut nodes: Vec<NodeInfo>) -> Vec<NodeInfo> {
    if nodes.len() > MOST_ROWS {
        nodes.sort_by_key(|node| (NodeRow::is_well(node), std::cmp::Reverse(node.in_flight)));
    }
    nodes
}
