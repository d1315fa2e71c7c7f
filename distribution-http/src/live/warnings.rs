//! What an operator should know without having looked for it: what the master warns of, and what somebody has done.

use distribution::{
    NodeInfo, NodeState,
    administration::{MasterStatus, Warning, WarningKind},
};
use serde::Serialize;

/// The most warnings that are shown.
const MOST: usize = 50;

/// What one look at the master has found.
pub(super) struct Seen<'a> {
    pub(super) status: &'a MasterStatus,
    pub(super) nodes: &'a [NodeInfo],
    pub(super) of_master: Vec<Warning>,
}

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Calls do not get on.
    Problem,
    /// They may soon not, or get on worse than they could.
    Warning,
    /// Somebody has asked for it.
    Note,
}

/// A sentence, and the panel that tells more.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    level: Level,
    sentence: String,
    panel: &'static str,
}

/// All that is worth a warning, the worst first.
pub(super) fn warnings(seen: &Seen<'_>) -> Vec<Line> {
    let mut found = Vec::new();
    let mut add = |level, panel, sentence: String| found.push(Line { level, sentence, panel });
    if seen.status.is_shutting_down {
        add(Level::Problem, "overview", "the master shuts down: it takes no more nodes and calls".to_owned());
    }
    if seen.nodes.is_empty() {
        add(Level::Problem, "nodes", "no node is registered".to_owned());
    }
    for warning in &seen.of_master {
        let (level, panel) = kind(warning);
        add(level, panel, warning.text.clone());
    }
    for node in seen.nodes {
        let name = &node.name;
        if node.share < 1.0 {
            let share = node.share * 100.0;
            add(Level::Warning, "nodes", format!("calls fail on {name}, so that it gets {share:.0} % of its share"));
        }
        if node.state == NodeState::Draining {
            add(Level::Note, "nodes", format!("{name} is draining"));
        }
        if node.is_cordoned {
            add(Level::Note, "nodes", format!("{name} is cordoned, and gets no new calls"));
        }
    }
    found.sort_by_key(|line| line.level);
    if found.len() > MOST {
        let more = found.len() - MOST;
        found.truncate(MOST);
        found.push(Line { level: Level::Note, sentence: format!("there are {more} more warnings"), panel: "nodes" });
    }
    found
}

fn kind(warning: &Warning) -> (Level, &'static str) {
    let level = match warning.kind {
        WarningKind::MasterStalled | WarningKind::NodeSilent | WarningKind::NobodyServes | WarningKind::QueueFull => {
            Level::Problem
        }
        _ => Level::Warning,
    };
    let panel = match warning.kind {
        WarningKind::MasterStalled => "overview",
        WarningKind::NobodyServes | WarningKind::SlotsHeld | WarningKind::RunsLong => "calls",
        WarningKind::QueueFull => "callers",
        WarningKind::LargeBatches => "methods",
        _ => "nodes",
    };
    (level, panel)
}
