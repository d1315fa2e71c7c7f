//! The lines of the panels: what is in each cell, and by what it is sorted.

use std::{cmp::Ordering, collections::HashMap, time::Duration};

use distribution::{
    CallId, CallInfo, NodeId, NodeInfo, NodeState,
    administration::{CallStatus, MethodKind, MethodSummary, NodeMetrics, RunInfo, Warning},
};

use super::{
    rates::{MethodRates, Rates},
    snapshot::Snapshot,
};
use crate::{
    look::Tone,
    show,
    table::shown,
    trouble,
    units::{short_time, size, time},
};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    Nodes,
    Calls,
    Methods,
    Runs,
    Warnings,
}

impl Panel {
    /// In the order of their keys, from 1.
    pub(super) const ALL: [Self; 5] = [Self::Nodes, Self::Calls, Self::Methods, Self::Runs, Self::Warnings];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Calls => "calls",
            Self::Methods => "methods",
            Self::Runs => "runs",
            Self::Warnings => "warnings",
        }
    }

    /// What is said where there are no lines.
    pub(super) fn when_empty(self) -> &'static str {
        match self {
            Self::Nodes => "no nodes are registered",
            Self::Calls => "no calls wait or run",
            Self::Methods => "no methods are served or called",
            Self::Runs => "no runs of many calls with a name are known",
            Self::Warnings => "nothing looks wrong",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Nodes => NODES,
            Self::Calls => CALLS,
            Self::Methods => METHODS,
            Self::Runs => RUNS,
            Self::Warnings => WARNINGS,
        }
    }

    pub(super) fn rows(self, snapshot: &Snapshot, rates: &Rates) -> Vec<Row> {
        match self {
            Self::Nodes => {
                let metrics: HashMap<_, _> = snapshot.metrics.nodes.iter().map(|node| (node.id, node)).collect();
                snapshot.nodes.iter().map(|node| node_row(node, metrics.get(&node.id).copied(), rates)).collect()
            }
            Self::Calls => snapshot.calls.iter().map(call_row).collect(),
            Self::Methods => snapshot.methods.iter().map(|method| method_row(method, rates)).collect(),
            Self::Runs => snapshot.runs.iter().enumerate().map(run_row).collect(),
            Self::Warnings => snapshot.warnings.iter().map(warning_row).collect(),
        }
    }
}

/// A column of a panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Numbers are aligned on their right, and sorted with the largest first.
    pub(super) is_number: bool,
    /// Where the terminal is narrow, columns with a small number stay.
    pub(super) rank: u8,
    /// Takes what the others leave, and may be cut short.
    pub(super) is_flexible: bool,
}

const fn text(name: &'static str, rank: u8) -> Column {
    Column { name, is_number: false, rank, is_flexible: false }
}

const fn number(name: &'static str, rank: u8) -> Column {
    Column { is_number: true, ..text(name, rank) }
}

const fn flexible(name: &'static str, rank: u8) -> Column {
    Column { is_flexible: true, ..text(name, rank) }
}

const NODES: &[Column] = &[
    text("NAME", 0),
    text("STATE", 1),
    number("CALLS", 2),
    number("BUSY", 3),
    number("CPU", 4),
    number("MEMORY", 6),
    number("ANSWERED/S", 5),
    number("ANSWERED", 10),
    number("SHARE", 8),
    number("SILENT", 7),
    number("UP", 9),
    text("ID", 11),
    text("ADDRESS", 12),
    flexible("LABELS", 13),
];

const CALLS: &[Column] = &[
    text("ID", 3),
    text("METHOD", 0),
    number("AGE", 1),
    number("CALLS", 5),
    number("SIZE", 6),
    text("CALLER", 4),
    flexible("STATUS", 2),
];

const METHODS: &[Column] = &[
    text("METHOD", 0),
    number("NODES", 9),
    number("WAITING", 1),
    number("RUNNING", 2),
    number("ENDED/S", 3),
    number("FAILED", 4),
    number("HANDLER P50", 5),
    number("HANDLER P99", 6),
    number("QUEUE P50", 7),
    number("QUEUE P99", 8),
    text("KIND", 10),
    number("VERSION", 11),
    flexible("SIGNATURE", 12),
];

const RUNS: &[Column] = &[
    text("RUN", 0),
    text("CALLER", 8),
    text("STATUS", 2),
    number("DONE", 1),
    number("PART", 4),
    number("FAILED", 3),
    number("RUNNING", 7),
    number("WAITING", 9),
    number("DONE/S", 6),
    number("LEFT", 5),
    number("TIME", 10),
    flexible("OLDEST CALL", 11),
];

const WARNINGS: &[Column] = &[text("NODE", 1), text("METHOD", 2), flexible("WARNING", 0)];

/// What a line is about. It stays the same while the line moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowId {
    Node(NodeId),
    Call(CallId),
    Method(String),
    Run(usize, String),
    Warning(String),
}

/// A line of a panel.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: RowId,
    /// One for each column.
    pub(super) cells: Vec<Cell>,
    /// What a person wants to know of it that has no column, or that a narrow column cuts short.
    pub(super) details: String,
}

/// A cell. Its text has no control characters.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Option<Tone>,
    /// What a number is sorted by.
    number: Option<f64>,
}

impl Cell {
    fn text(text: impl AsRef<str>) -> Self {
        Self { text: shown(text.as_ref()), tone: None, number: None }
    }

    fn number(number: f64, text: impl AsRef<str>) -> Self {
        Self { number: Some(number), ..Self::text(text) }
    }

    fn count(count: u64) -> Self {
        Self::number(count as f64, count.to_string())
    }

    fn time(of: Duration) -> Self {
        Self::number(of.as_secs_f64(), time(of))
    }

    fn tone(self, tone: Option<Tone>) -> Self {
        Self { tone, ..self }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self.number, other.number) {
            (Some(one), Some(other)) => one.total_cmp(&other),
            _ => self.text.cmp(&other.text),
        }
    }
}

impl Row {
    /// Whether a line with this filter, in lower case, is shown.
    pub(super) fn matches(&self, filter: &str) -> bool {
        filter.is_empty()
            || self.cells.iter().any(|cell| cell.text.to_lowercase().contains(filter))
            || self.details.to_lowercase().contains(filter)
    }
}

fn node_row(node: &NodeInfo, metrics: Option<&NodeMetrics>, rates: &Rates) -> Row {
    let vitals = metrics.and_then(|metrics| metrics.vitals);
    let state = match (node.state, node.is_cordoned) {
        (NodeState::Alive, true) => "cordoned".to_owned(),
        (state, true) => format!("{state}, cordoned"),
        (state, false) => state.to_string(),
    };
    let tone = match node.state {
        NodeState::Alive if !node.is_cordoned => Tone::Good,
        _ => Tone::Attention,
    };
    let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let services: Vec<_> = node.services.iter().map(|service| &*service.name).collect();
    let rate = rates.nodes.get(&node.id).copied().unwrap_or(0.0);
    let mut details = format!("{} ({}) from {}", node.name, node.id, node.addr);
    details += &format!("; serves {}", if services.is_empty() { "nothing".to_owned() } else { services.join(", ") });
    if !labels.is_empty() {
        details += &format!("; labels {}", labels.join(", "));
    }
    if !node.uncallable.is_empty() {
        details += &format!("; cannot be called: {}", node.uncallable.join(", "));
    }
    if let Some(vitals) = vitals {
        let threads = vitals.threads.map(|threads| format!("{threads} threads, ")).unwrap_or_default();
        details += &format!("; {threads}runtime held up by {} at most", short_time(vitals.lag));
    }
    if node.held_slots > 0 {
        details += &format!("; handlers hold {} of its slots whose calls were taken from it", node.held_slots);
    }
    if node.blocked_async > 0 {
        details += &format!("; async handlers have blocked it {} times", node.blocked_async);
    }
    Row {
        id: RowId::Node(node.id),
        cells: vec![
            Cell::text(&*node.name),
            Cell::text(state).tone(Some(tone)),
            Cell::count(node.in_flight as u64),
            match vitals {
                Some(vitals) => Cell::number(vitals.busy_slots.into(), format!("{}/{}", vitals.busy_slots, node.slots)),
                None => Cell::number(0.0, format!("-/{}", node.slots)),
            },
            known(vitals.and_then(|vitals| vitals.cpu), |cpu| Cell::number(cpu, format!("{:.0} %", cpu * 100.0))),
            known(vitals.and_then(|vitals| vitals.memory), |memory| {
                Cell::number(memory as f64, size(usize::try_from(memory).unwrap_or(usize::MAX)))
            }),
            Cell::number(rate, show::rate(rate)),
            Cell::count(node.answered),
            Cell::number(node.share, format!("{:.0} %", node.share * 100.0))
                .tone((node.share < 1.0).then_some(Tone::Bad)),
            Cell::time(node.silent_for),
            Cell::time(node.registered_for),
            Cell::text(node.id.to_string()),
            Cell::text(node.addr.to_string()),
            Cell::text(labels.join(", ")),
        ],
        details: shown(&details),
    }
}

/// A cell for what a system may not tell.
fn known<T>(value: Option<T>, cell: impl Fn(T) -> Cell) -> Cell {
    value.map_or_else(|| Cell::number(-1.0, "-"), cell)
}

fn call_row(call: &CallInfo) -> Row {
    let status = show::status_of_call(call);
    let mut details = format!("{} of {}: {status}", call.id, call.method);
    for (key, value) in &call.metadata {
        details += &format!("; {key}={value}");
    }
    Row {
        id: RowId::Call(call.id),
        cells: vec![
            Cell::text(call.id.to_string()),
            Cell::text(call.method.as_str()),
            Cell::time(call.age),
            Cell::count(call.count.into()),
            Cell::number(call.size as f64, size(call.size)),
            Cell::text(call.caller.as_deref().unwrap_or("-")),
            Cell::text(&status).tone(show::tone_of(&call.status)),
        ],
        details: shown(&details),
    }
}

fn method_row(method: &MethodSummary, rates: &Rates) -> Row {
    let nothing = MethodRates::default();
    let key = (method.service.clone(), method.name.clone(), method.version);
    let rates = rates.methods.get(&key).unwrap_or(&nothing);
    let quantile = |time: Option<Duration>| known(time, |time| Cell::number(time.as_secs_f64(), short_time(time)));
    let [handler_half, handler_most] = rates.in_handler.map(quantile);
    let [queue_half, queue_most] = rates.in_queue.map(quantile);
    let name = format!("{}.{}", method.service, method.name);
    let kind = match method.kind {
        MethodKind::Compute => "compute",
        MethodKind::Async => "async",
        _ => "-",
    };
    let idempotent = if method.idempotent { "idempotent" } else { "not idempotent" };
    let details = format!("{name} v{}: {}; {idempotent}", method.version, method.signature);
    let lacks_nodes = method.nodes == 0 && method.waiting > 0;
    Row {
        id: RowId::Method(details.clone()),
        cells: vec![
            Cell::text(&name),
            Cell::count(method.nodes as u64).tone(lacks_nodes.then_some(Tone::Bad)),
            Cell::count(method.waiting as u64).tone((method.waiting > 0).then_some(Tone::Attention)),
            Cell::count(method.running as u64).tone((method.running > 0).then_some(Tone::Good)),
            Cell::number(rates.ended, show::rate(rates.ended)),
            Cell::count(rates.failed).tone((rates.failing > 0.0).then_some(Tone::Bad)),
            handler_half,
            handler_most,
            queue_half,
            queue_most,
            Cell::text(kind),
            Cell::count(method.version.into()),
            Cell::text(&method.signature),
        ],
        details: shown(&details),
    }
}

fn run_row((place, run): (usize, &RunInfo)) -> Row {
    let tone = show::tone_of_run(run.status);
    let part = run.total.filter(|total| *total > 0).map(|total| run.done as f64 / total as f64);
    let oldest: Vec<_> = run.stragglers.iter().map(show::straggler).collect();
    let mut details = format!("{}: {}", run.name, show::progress(run));
    if !oldest.is_empty() {
        details += &format!("; oldest calls: {}", oldest.join("; "));
    }
    Row {
        // Several runs may have the same name.
        id: RowId::Run(place, run.name.clone()),
        cells: vec![
            Cell::text(&run.name),
            Cell::text(run.caller.as_deref().unwrap_or("-")),
            Cell::text(show::status_of_run(run.status)).tone(tone),
            Cell::number(run.done as f64, show::done_of(run)),
            known(part, |part| Cell::number(part, format!("{:.0} %", part * 100.0))),
            Cell::count(run.failed).tone((run.failed > 0).then_some(Tone::Bad)),
            Cell::count(run.running),
            Cell::count(run.waiting),
            Cell::number(run.rate, show::rate(run.rate)),
            match run.stalled_for {
                Some(stalled) => {
                    Cell::number(f64::INFINITY, format!("stalled {}", time(stalled))).tone(Some(Tone::Bad))
                }
                None => known(run.time_left, Cell::time),
            },
            Cell::time(run.elapsed),
            Cell::text(oldest.first().map_or("-", String::as_str)),
        ],
        details: shown(&details),
    }
}

fn warning_row(warning: &Warning) -> Row {
    let method = warning.method.as_ref().map_or("-", |method| method.as_str());
    Row {
        id: RowId::Warning(format!("{:?} {:?} {method}", warning.kind, warning.node)),
        cells: vec![
            Cell::text(warning.node_name.as_deref().unwrap_or("-")),
            Cell::text(method),
            Cell::text(&warning.text).tone(trouble::tone(warning)),
        ],
        details: shown(&warning.text),
    }
}

/// Whether an administrator may cancel it: a call that has ended cannot be cancelled again.
pub(super) fn can_be_cancelled(call: &CallInfo) -> bool {
    !matches!(call.status, CallStatus::Stopping { .. })
}
