//! What an operator should know without having looked for it, in words.

use std::collections::BTreeMap;

use distribution::{
    CallInfo, NodeInfo, NodeState, Stats,
    administration::{CallStatus, MasterStatus, MethodSummary, WaitReason},
};
use serde::Serialize;

/// The most warnings that are shown.
const MOST: usize = 50;

/// What one look at the master has found.
pub(super) struct Seen<'a> {
    pub(super) status: &'a MasterStatus,
    pub(super) stats: &'a Stats,
    pub(super) nodes: &'a [NodeInfo],
    pub(super) waiting: &'a [CallInfo],
    pub(super) stopping: &'a [CallInfo],
    pub(super) methods: &'a [MethodSummary],
}

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Calls do not get on.
    Problem,
    /// They may soon not, or get on worse than they could.
    Warning,
    /// Somebody has asked for it.
    Note,
}

/// A sentence, and the panel that tells more.
#[derive(Debug, Serialize)]
pub(super) struct Warning {
    level: Level,
    sentence: String,
    panel: &'static str,
}

/// All that is worth a warning, the worst first.
pub(super) fn warnings(seen: &Seen<'_>) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut add = |level, panel, sentence: String| found.push(Warning { level, sentence, panel });
    if seen.status.is_shutting_down {
        add(Level::Problem, "overview", "the master shuts down: it takes no more nodes and calls".to_owned());
    }
    if seen.nodes.is_empty() {
        add(Level::Problem, "nodes", "no node is registered".to_owned());
    }
    for (method, why, calls) in stuck(seen.waiting) {
        let calls = if calls == 1 { "a call".to_owned() } else { format!("{calls} calls") };
        add(Level::Problem, "calls", format!("{calls} of {method} cannot run: {why}"));
    }
    for node in seen.nodes {
        let name = &node.name;
        match node.state {
            NodeState::Suspect => {
                let silent = node.silent_for.as_secs_f64();
                add(Level::Problem, "nodes", format!("{name} is suspect: it has been silent for {silent:.0} s"));
            }
            NodeState::Disconnected => {
                add(
                    Level::Problem,
                    "nodes",
                    format!("{name} is disconnected, and the master waits for it to come back"),
                );
            }
            NodeState::Draining => add(Level::Note, "nodes", format!("{name} is draining")),
            _ => {}
        }
        if node.share < 1.0 {
            let share = node.share * 100.0;
            add(Level::Warning, "nodes", format!("calls fail on {name}, so that it gets {share:.0} % of its share"));
        }
        if let Some(reason) = node.uncallable.first() {
            let more = node.uncallable.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
            add(Level::Warning, "nodes", format!("{name} serves a method that cannot be called there: {reason}{more}"));
        }
        if node.blocked_async > 0 {
            let times = node.blocked_async;
            let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
            let sentence = format!(
                "an async handler on {name} has blocked its thread {times}; make it a `fn`, or use `spawn_blocking`"
            );
            add(Level::Warning, "nodes", sentence);
        }
        if node.is_cordoned {
            add(Level::Note, "nodes", format!("{name} is cordoned, and gets no new calls"));
        }
    }
    let stopping = seen.stopping.len();
    if stopping > 0 {
        let calls = if stopping == 1 { "a call has".to_owned() } else { format!("{stopping} calls have") };
        add(Level::Warning, "calls", format!("{calls} ended, and the handlers go on and hold their slots"));
    }
    if seen.stats.overdue > 0 {
        let overdue = seen.stats.overdue;
        let sentence = format!("handlers went on for 10 s and longer after their calls had ended, {overdue} so far");
        add(Level::Note, "overview", sentence);
    }
    let unserved = seen.methods.iter().filter(|method| method.nodes == 0 && method.waiting == 0);
    for method in unserved {
        let sentence = format!("no node serves {}.{}, which was called", method.service, method.name);
        add(Level::Warning, "methods", sentence);
    }
    found.sort_by_key(|warning| warning.level);
    if found.len() > MOST {
        let more = found.len() - MOST;
        found.truncate(MOST);
        found.push(Warning { level: Level::Note, sentence: format!("there are {more} more warnings"), panel: "nodes" });
    }
    found
}

/// Calls that wait for something which time alone does not bring, by method and reason, with how many.
fn stuck(waiting: &[CallInfo]) -> impl Iterator<Item = (String, String, u64)> {
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for call in waiting {
        let CallStatus::Waiting { why, .. } = &call.status else { continue };
        let is_stuck = matches!(
            why,
            WaitReason::NoNode
                | WaitReason::NoLabel { .. }
                | WaitReason::AllCordoned { .. }
                | WaitReason::NodeSuspect { .. }
                | WaitReason::NodeDisconnected { .. }
                | WaitReason::NodeCordoned { .. }
        );
        if is_stuck {
            *found.entry((call.method.to_string(), why.to_string())).or_default() += u64::from(call.count);
        }
    }
    found.into_iter().map(|((method, why), calls)| (method, why, calls))
}
