//! What is said of the whole cluster, above the panels.

use distribution::administration::RunStatus;

use super::{rates::Rates, snapshot::Snapshot};
use crate::{
    look::Tone,
    show,
    table::shown,
    units::{count, time},
};

/// A fact, with its colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) text: String,
    pub(super) tone: Option<Tone>,
}

fn fact(text: String, tone: Option<Tone>) -> Fact {
    Fact { text: shown(&text), tone }
}

/// `1 node`, `2 nodes`.
fn of(what: &str, number: u64) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// What is known of the master and its calls, the most important first.
pub(super) fn facts(snapshot: &Snapshot, rates: &Rates) -> Vec<Fact> {
    let Snapshot { status, stats, .. } = snapshot;
    let slots: u64 = snapshot.nodes.iter().map(|node| u64::from(node.slots)).sum();
    let without = status.nodes - status.alive.min(status.nodes);
    let mut facts = vec![
        fact(format!("{} calls/s", show::rate(rates.answered + rates.failed)), None),
        fact(format!("{} waiting", count(stats.queued as u64)), (stats.queued > 0).then_some(Tone::Attention)),
        fact(format!("{} running", count(stats.in_flight as u64)), (stats.in_flight > 0).then_some(Tone::Good)),
        fact(
            match show::rate(rates.failed) {
                none if none == "0" => format!("{} failed", count(stats.failed)),
                rate => format!("{} failed ({rate}/s)", count(stats.failed)),
            },
            (rates.failed > 0.0).then_some(Tone::Bad),
        ),
        fact(
            match without {
                0 => of("node", status.nodes as u64),
                _ => format!("{} ({without} without new calls)", of("node", status.nodes as u64)),
            },
            (without > 0 || status.nodes == 0).then_some(Tone::Attention),
        ),
        fact(of("slot", slots), None),
        fact(of("caller", status.callers as u64), None),
    ];
    if stats.overdue > 0 {
        facts.push(fact(format!("{} overdue handlers", count(stats.overdue)), Some(Tone::Attention)));
    }
    facts.push(fact(format!("up {}", time(status.running_for)), None));
    if !snapshot.warnings.is_empty() {
        facts.insert(0, fact(of("warning", snapshot.warnings.len() as u64), Some(Tone::Attention)));
    }
    if status.is_shutting_down {
        facts.insert(0, fact("shuts down".to_owned(), Some(Tone::Bad)));
    }
    facts
}

/// How far the runs have come that are under way, one line each, the oldest first.
pub(super) fn runs(snapshot: &Snapshot, most: usize) -> Vec<String> {
    let under_way = snapshot.runs.iter().filter(|run| run.status == RunStatus::Running).take(most);
    under_way.map(|run| shown(&format!("{}: {}", run.name, show::progress(run)))).collect()
}

/// The address and version of the master.
pub(super) fn title(master: &str, snapshot: Option<&Snapshot>) -> String {
    match snapshot {
        Some(snapshot) => shown(&format!("master {master}, version {}", snapshot.status.version)),
        None => shown(&format!("master {master}")),
    }
}
