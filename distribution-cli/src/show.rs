//! What a master answers, as tables for people.

use distribution::{
    CallInfo, NodeEvent, NodeInfo, NodeState, Principal, PrincipalKind, Stats,
    administration::{
        CallMetrics, CallStatus, CallerInfo, LogLevel, LogRecord, MasterSecurity, MasterStatus, MethodKind,
        MethodSummary, RefusedCalls, RunInfo, RunStatus, ServiceSummary, TimedEvent,
    },
};

use crate::{
    counted::{failures, times},
    look::{Look, Tone},
    table::{Table, shown},
    units::{count, date, moment, size, time},
};

/// With what was counted of each.
pub(crate) fn nodes(nodes: &[NodeInfo], counted: impl Fn(&NodeInfo) -> Option<CallMetrics>, look: Look) -> String {
    if nodes.is_empty() {
        return "no nodes are registered\n".to_owned();
    }
    let mut table = Table::new(&[
        "ID2",
        "NAME",
        "STATE",
        "SLOTS>",
        "CALLS>",
        "ANSWERED>3",
        "ERRORS>8",
        "FAILED~5",
        "P50>9",
        "P99>9",
        "SHARE>6",
        "UP>4",
        "SILENT>1",
        "ADDRESS12",
        "CREDENTIAL11",
        "SERVICES~7",
        "LABELS~10",
    ]);
    for node in nodes {
        let counted = counted(node).unwrap_or_default();
        let [half, most] = times(&counted);
        let cordoned = if node.is_cordoned { ", cordoned" } else { "" };
        let services = node.services.iter().map(|service| match service.version {
            1 => service.name.clone(),
            version => format!("{} v{version}", service.name),
        });
        let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row([
            node.id.to_string(),
            node.name.to_string(),
            format!("{}{cordoned}", node.state),
            match node.held_slots {
                0 => node.slots.to_string(),
                held => format!("{} ({held} held)", node.slots),
            },
            node.in_flight.to_string(),
            node.answered.to_string(),
            count(counted.outcomes.errors),
            failures(&counted),
            half,
            most,
            format!("{:.0} %", node.share * 100.0),
            time(node.registered_for),
            time(node.silent_for),
            node.addr.to_string(),
            credential(&node.principal),
            services.collect::<Vec<_>>().join(", "),
            or_dash(labels.join(", ")),
        ]);
        let state = match node.state {
            NodeState::Alive if !node.is_cordoned => Tone::Good,
            _ => Tone::Attention,
        };
        table.tone("STATE", Some(state)).tone("SHARE", (node.share < 1.0).then_some(Tone::Bad));
        table.tone("FAILED", (counted.outcomes.failures() > 0).then_some(Tone::Bad));
    }
    table.text(look)
}

pub(crate) fn calls(calls: &[CallInfo], has_more: bool, look: Look) -> String {
    if calls.is_empty() {
        return "no such calls wait or run\n".to_owned();
    }
    let mut table = Table::new(&["ID", "METHOD", "CALLS>3", "AGE>1", "SIZE>4", "CALLER2", "STATUS~"]);
    for call in calls {
        table.row([
            call.id.to_string(),
            call.method.to_string(),
            call.count.to_string(),
            time(call.age),
            size(call.size),
            call.caller.as_deref().unwrap_or("-").to_owned(),
            status_of_call(call),
        ]);
        table.tone("STATUS", tone_of(&call.status));
    }
    let more = if has_more { "there are more; --limit says how many are listed\n" } else { "" };
    table.text(look) + more
}

/// What a call does, after which failed attempts, and who made it.
pub(crate) fn status_of_call(call: &CallInfo) -> String {
    let failed = match call.failed_attempts {
        0 => String::new(),
        1 => ", after 1 failed attempt".to_owned(),
        failed => format!(", after {failed} failed attempts"),
    };
    let of = call.parent.map(|parent| format!(", made by {parent}")).unwrap_or_default();
    format!("{}{failed}{of}", status_of(&call.status))
}

fn status_of(status: &CallStatus) -> String {
    match status {
        CallStatus::Waiting { why, .. } => format!("waits: {why}"),
        CallStatus::Running { node, running_for, .. } => {
            format!("runs on {} ({}) for {}", node.name, node.id, time(*running_for))
        }
        CallStatus::Stopping { node, stopping_for, .. } => {
            format!(
                "has ended, and its handler has gone on for {2} on {0} ({1})",
                node.name,
                node.id,
                time(*stopping_for)
            )
        }
        _ => "does what this program does not know; a newer version of it does".to_owned(),
    }
}

/// With what was counted of each, if it was called.
pub(crate) fn methods(
    methods: &[MethodSummary],
    counted: impl Fn(&MethodSummary) -> Option<CallMetrics>,
    look: Look,
) -> String {
    if methods.is_empty() {
        return "no methods are served or called\n".to_owned();
    }
    let mut table = Table::new(&[
        "METHOD",
        "VERSION>8",
        "KIND6",
        "IDEMPOTENT7",
        "NODES>",
        "WAITING>",
        "RUNNING>1",
        "ERRORS>4",
        "FAILED~3",
        "P50>5",
        "P99>5",
        "SIGNATURE~2",
    ]);
    for method in methods {
        let kind = match method.kind {
            MethodKind::Compute => "compute",
            MethodKind::Async => "async",
            _ => "-",
        };
        let calls = counted(method).unwrap_or_default();
        let [half, most] = times(&calls);
        table.row([
            format!("{}.{}", method.service, method.name),
            method.version.to_string(),
            kind.to_owned(),
            if method.idempotent { "yes" } else { "no" }.to_owned(),
            method.nodes.to_string(),
            method.waiting.to_string(),
            method.running.to_string(),
            count(calls.outcomes.errors),
            failures(&calls),
            half,
            most,
            method.signature.clone(),
        ]);
        table.tone("FAILED", (calls.outcomes.failures() > 0).then_some(Tone::Bad));
    }
    table.text(look)
}

pub(crate) fn services(services: &[ServiceSummary], look: Look) -> String {
    if services.is_empty() {
        return "no services are served or called\n".to_owned();
    }
    let mut table = Table::new(&["SERVICE", "VERSION>3", "METHODS>2", "NODES>", "WAITING>", "RUNNING>1"]);
    for service in services {
        table.row([
            service.name.clone(),
            service.version.to_string(),
            service.methods.len().to_string(),
            service.nodes.to_string(),
            service.waiting.to_string(),
            service.running.to_string(),
        ]);
    }
    table.text(look)
}

pub(crate) fn callers(callers: &[CallerInfo], look: Look) -> String {
    if callers.is_empty() {
        return "there are no callers in other processes\n".to_owned();
    }
    let mut table = Table::new(&["ID", "NAME", "ROLE2", "CALLS>", "STATE", "FIRST SEEN>1", "ADDRESS4", "CREDENTIAL3"]);
    for caller in callers {
        // All of its calls have an id that begins so.
        let first = caller.first_call.to_string();
        table.row([
            first.split('-').next().unwrap_or_default().to_owned(),
            caller.name.to_string(),
            caller.access.to_string(),
            caller.calls.to_string(),
            if caller.is_connected { "connected" } else { "disconnected" }.to_owned(),
            time(caller.connected_for),
            caller.addr.to_string(),
            credential(&caller.principal),
        ]);
        table.tone("STATE", Some(if caller.is_connected { Tone::Good } else { Tone::Attention }));
    }
    table.text(look)
}

pub(crate) fn runs(runs: &[RunInfo], look: Look) -> String {
    if runs.is_empty() {
        return "no runs of many calls with a name are known\n".to_owned();
    }
    let mut table = Table::new(&[
        "RUN",
        "CALLER6",
        "STATUS",
        "DONE>",
        "FAILED>",
        "RUNNING>4",
        "WAITING>5",
        "DONE/S>3",
        "LEFT>1",
        "TIME>2",
        "OLDEST CALLS~7",
    ]);
    for run in runs {
        let oldest: Vec<_> = run.stragglers.iter().take(3).map(straggler).collect();
        table.row([
            run.name.clone(),
            run.caller.as_deref().unwrap_or("-").to_owned(),
            status_of_run(run.status).to_owned(),
            done_of(run),
            count(run.failed),
            count(run.running),
            count(run.waiting),
            rate(run.rate),
            match run.stalled_for {
                Some(stalled) => format!("stalled {}", time(stalled)),
                None => run.time_left.map_or_else(|| "-".to_owned(), time),
            },
            time(run.elapsed),
            or_dash(oldest.join("; ")),
        ]);
        table.tone("STATUS", tone_of_run(run.status)).tone("FAILED", (run.failed > 0).then_some(Tone::Bad));
    }
    table.text(look)
}

/// `1,200 of 5,000`.
pub(crate) fn done_of(run: &RunInfo) -> String {
    match run.total {
        Some(total) => format!("{} of {}", count(run.done), count(total)),
        None => count(run.done),
    }
}

/// `1,200 of 5,000 calls (24 %), 310/s, 12 s left, 2 failed`.
pub(crate) fn progress(run: &RunInfo) -> String {
    let mut text = format!("{} calls", done_of(run));
    if let Some(total) = run.total.filter(|total| *total > 0) {
        text += &format!(" ({:.0} %)", run.done as f64 / total as f64 * 100.0);
    }
    text += &format!(", {}/s", rate(run.rate));
    if let Some(stalled) = run.stalled_for {
        text += &format!(", stalled for {}", time(stalled));
    }
    if let Some(left) = run.time_left {
        text += &format!(", {} left", time(left));
    }
    if run.failed > 0 {
        text += &format!(", {} failed", count(run.failed));
    }
    text
}

pub(crate) fn status_of_run(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Finished => "finished",
        RunStatus::Stopped => "stopped",
        RunStatus::Lost => "lost",
        _ => "-",
    }
}

pub(crate) fn tone_of_run(status: RunStatus) -> Option<Tone> {
    match status {
        RunStatus::Running | RunStatus::Finished => Some(Tone::Good),
        RunStatus::Stopped => Some(Tone::Attention),
        RunStatus::Lost => Some(Tone::Bad),
        _ => None,
    }
}

/// A call that its run waits for: `91c2a7-3 on node n1 (5f3a91c2-1) for 40 s`.
pub(crate) fn straggler(call: &CallInfo) -> String {
    match &call.status {
        CallStatus::Running { node, running_for, .. } => {
            format!("{} on {} ({}) for {}", call.id, node.name, node.id, time(*running_for))
        }
        CallStatus::Waiting { why, .. } => format!("{} waits for {}: {why}", call.id, time(call.age)),
        _ => format!("{} for {}", call.id, time(call.age)),
    }
}

/// A rate: `0`, `3.2`, `1250`.
pub(crate) fn rate(rate: f64) -> String {
    if rate == 0.0 || rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// The credential that a peer came with.
fn credential(principal: &Principal) -> String {
    match principal.kind {
        PrincipalKind::Open => "-".to_owned(),
        _ => principal.to_string(),
    }
}

pub(crate) fn status(
    status: &MasterStatus,
    stats: &Stats,
    (counted, refused): (&CallMetrics, &RefusedCalls),
    look: Look,
) -> String {
    let security = match status.security {
        MasterSecurity::None => "none",
        MasterSecurity::Tokens => "tokens",
        MasterSecurity::Certificates => "certificates",
        _ => "unknown to this program",
    };
    let [half, most] = times(counted);
    let state = if status.is_shutting_down { "shuts down" } else { "runs" };
    let mut table = Table::new(&["MASTER", ""]);
    for (name, value) in [
        ("address", status.addr.to_string()),
        ("state", format!("{state}, for {}", time(status.running_for))),
        ("version", status.version.clone()),
        ("security", security.to_owned()),
        ("nodes", format!("{}, of which {} get new calls", status.nodes, status.alive)),
        ("callers", status.callers.to_string()),
        ("calls that wait", stats.queued.to_string()),
        ("calls that run", stats.in_flight.to_string()),
        ("answered", stats.answered.to_string()),
        ("of which the method's own error", count(counted.outcomes.errors)),
        ("failed", failures(counted)),
        ("cancelled", stats.cancelled.to_string()),
        ("handlers", format!("half within {half}, 99 of 100 within {most}")),
        ("calls refused at once", refused_calls(refused)),
        ("overdue handlers", stats.overdue.to_string()),
        ("late replies", stats.late.to_string()),
        ("connections turned away", stats.turned_away.to_string()),
    ] {
        table.row([name.to_owned(), value]);
    }
    table.text(look)
}

/// The calls of callers elsewhere that were refused when they came, and why.
fn refused_calls(refused: &RefusedCalls) -> String {
    let kinds =
        [("session full", refused.session), ("credential's limit", refused.credential), ("denied", refused.denied)];
    let kinds: Vec<_> = kinds
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(why, number)| format!("{} {why}", count(*number)))
        .collect();
    if kinds.is_empty() { "0".to_owned() } else { kinds.join(", ") }
}

/// An event on one line: when, which node, and what.
pub(crate) fn event(timed: &TimedEvent, look: Look) -> String {
    let tone = match &timed.event {
        NodeEvent::Joined { .. }
        | NodeEvent::Recovered { .. }
        | NodeEvent::Resumed { .. }
        | NodeEvent::Restored { .. }
        | NodeEvent::Uncordoned { .. } => Some(Tone::Good),
        NodeEvent::Suspect { .. }
        | NodeEvent::Disconnected { .. }
        | NodeEvent::Draining { .. }
        | NodeEvent::Cordoned { .. }
        | NodeEvent::Missed(_) => Some(Tone::Attention),
        NodeEvent::Gone { .. } | NodeEvent::Ejected { .. } => Some(Tone::Bad),
        _ => None,
    };
    format!("{}  {}\n", date(timed.at), look.paint(shown(&timed.event.to_string()), tone))
}

/// How many lines of a backtrace are shown unless all are wanted. The first ones are those of the handler.
const BACKTRACE_LINES: usize = 12;

/// A record on one line: when, how serious, which node, method and call, and what. The backtrace of a panic follows on lines of its
/// own.
pub(crate) fn record(record: &LogRecord, whole_backtrace: bool, look: Look) -> String {
    let tone = match record.level {
        LogLevel::Error => Some(Tone::Bad),
        LogLevel::Warn => Some(Tone::Attention),
        _ => None,
    };
    let mut text = format!("{}  {}\n", moment(record.at), look.paint(shown(&record.to_string()), tone));
    let lines: Vec<_> = record.backtrace.iter().flat_map(|backtrace| backtrace.lines()).collect();
    let most = if whole_backtrace { lines.len() } else { BACKTRACE_LINES };
    for line in lines.iter().take(most) {
        text.push_str("    ");
        text.push_str(&shown(line));
        text.push('\n');
    }
    if lines.len() > most {
        text.push_str(&format!("    .. and {} more lines: --backtrace\n", lines.len() - most));
    }
    text
}

/// The colour of what a call does: of one that waits, and of one that has ended and goes on.
pub(crate) fn tone_of(status: &CallStatus) -> Option<Tone> {
    match status {
        CallStatus::Waiting { .. } => Some(Tone::Attention),
        CallStatus::Running { .. } => Some(Tone::Good),
        CallStatus::Stopping { .. } => Some(Tone::Bad),
        _ => None,
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
