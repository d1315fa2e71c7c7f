//! The lines of the panels: what is in each cell, and by what it is sorted.

use std::cmp::Ordering;

use distribution::{
    CallId, CallInfo, NodeId, NodeInfo, NodeState,
    administration::{CallStatus, MethodKind, MethodSummary},
};

use super::snapshot::{Rates, Snapshot};
use crate::{
    look::Tone,
    show,
    table::shown,
    units::{size, time},
};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    Nodes,
    Calls,
    Methods,
}

impl Panel {
    /// In the order of their keys, from 1.
    pub(super) const ALL: [Self; 3] = [Self::Nodes, Self::Calls, Self::Methods];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Calls => "calls",
            Self::Methods => "methods",
        }
    }

    /// What is said where there are no lines.
    pub(super) fn when_empty(self) -> &'static str {
        match self {
            Self::Nodes => "no nodes are registered",
            Self::Calls => "no calls wait or run",
            Self::Methods => "no methods are served or called",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Nodes => NODES,
            Self::Calls => CALLS,
            Self::Methods => METHODS,
        }
    }

    pub(super) fn rows(self, snapshot: &Snapshot, rates: &Rates) -> Vec<Row> {
        match self {
            Self::Nodes => snapshot.nodes.iter().map(|node| node_row(node, rates)).collect(),
            Self::Calls => snapshot.calls.iter().map(call_row).collect(),
            Self::Methods => snapshot.methods.iter().map(method_row).collect(),
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
    number("SLOTS", 3),
    number("ANSWERED/S", 4),
    number("ANSWERED", 8),
    number("SHARE", 6),
    number("SILENT", 5),
    number("UP", 7),
    text("ID", 9),
    text("ADDRESS", 10),
    flexible("LABELS", 11),
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
    number("NODES", 3),
    number("WAITING", 1),
    number("RUNNING", 2),
    text("KIND", 4),
    number("VERSION", 5),
    flexible("SIGNATURE", 6),
];

/// What a line is about. It stays the same while the line moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowId {
    Node(NodeId),
    Call(CallId),
    Method(String),
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

    fn time(of: std::time::Duration) -> Self {
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

fn node_row(node: &NodeInfo, rates: &Rates) -> Row {
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
    if node.blocked_async > 0 {
        details += &format!("; async handlers have blocked it {} times", node.blocked_async);
    }
    Row {
        id: RowId::Node(node.id),
        cells: vec![
            Cell::text(&*node.name),
            Cell::text(state).tone(Some(tone)),
            Cell::count(node.in_flight as u64),
            Cell::count(node.slots.into()),
            Cell::number(rate, per_second(rate)),
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

fn method_row(method: &MethodSummary) -> Row {
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
            Cell::text(kind),
            Cell::count(method.version.into()),
            Cell::text(&method.signature),
        ],
        details: shown(&details),
    }
}

/// A rate: `0`, `3.2`, `1250`.
pub(super) fn per_second(rate: f64) -> String {
    if rate == 0.0 || rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// Whether an administrator may cancel it: a call that has ended cannot be cancelled again.
pub(super) fn can_be_cancelled(call: &CallInfo) -> bool {
    !matches!(call.status, CallStatus::Stopping { .. })
}
