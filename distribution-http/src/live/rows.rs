//! The rows of the page's lists: what the admin service tells, with what is known only here in words.

use std::collections::{BTreeMap, HashMap};

use distribution::{
    CallInfo, NodeId, NodeInfo, NodeState,
    administration::{CallStatus, NodeMetrics, RunInfo, TimedEvent, Vitals},
};
use serde::Serialize;

/// The most rows of a list that are sent to the page by themselves. It asks for others by name.
pub(crate) const MOST_ROWS: usize = 200;

/// The most services of a node that a row names.
const MOST_SERVICES: usize = 8;

/// A call, with a sentence that says what it does.
#[derive(Debug, Serialize)]
pub(crate) struct CallRow {
    #[serde(flatten)]
    info: CallInfo,
    does: String,
}

impl CallRow {
    pub(crate) fn new(info: CallInfo) -> Self {
        let does = match &info.status {
            CallStatus::Waiting { why, .. } => why.to_string(),
            CallStatus::Running { node, attempt: 1, .. } => format!("runs on {}", node.name),
            CallStatus::Running { node, attempt, .. } => format!("runs on {}, as attempt {attempt}", node.name),
            CallStatus::Stopping { node, .. } => format!("has ended, and its handler goes on on {}", node.name),
            _ => "does something that this page does not know".to_owned(),
        };
        Self { info, does }
    }
}

/// A node, without the list of its methods.
#[derive(Debug, Serialize)]
pub(crate) struct NodeRow {
    id: String,
    name: String,
    addr: String,
    labels: BTreeMap<String, String>,
    services: Vec<String>,
    more_services: usize,
    principal: String,
    version: Option<String>,
    /// How its version differs from others', in words; empty if it does not.
    skew: String,
    slots: u32,
    state: NodeState,
    is_cordoned: bool,
    share: f64,
    in_flight: usize,
    /// Slots that run a handler.
    busy: u32,
    answered: u64,
    uncallable: Vec<String>,
    blocked_async: u32,
    registered_for: f64,
    silent_for: f64,
    /// How its process does, if it tells.
    vitals: Option<Vitals>,
    /// Attempts on it that failed.
    failed: u64,
}

impl NodeRow {
    pub(crate) fn new(node: NodeInfo, versions: &Versions, metrics: Option<&NodeMetrics>) -> Self {
        let busy = busy_slots(&node, metrics);
        let name = |service: &distribution::ServiceInfo| match service.version {
            1 => service.name.clone(),
            version => format!("{} v{version}", service.name),
        };
        Self {
            id: node.id.to_string(),
            name: node.name.to_string(),
            addr: node.addr.to_string(),
            services: node.services.iter().take(MOST_SERVICES).map(name).collect(),
            more_services: node.services.len().saturating_sub(MOST_SERVICES),
            principal: node.principal.to_string(),
            labels: node.labels,
            skew: versions.skew(node.version.as_deref()),
            version: node.version,
            slots: node.slots,
            state: node.state,
            is_cordoned: node.is_cordoned,
            share: node.share,
            in_flight: node.in_flight,
            busy,
            answered: node.answered,
            uncallable: node.uncallable,
            blocked_async: node.blocked_async,
            registered_for: node.registered_for.as_secs_f64(),
            silent_for: node.silent_for.as_secs_f64(),
            vitals: metrics.and_then(|metrics| metrics.vitals),
            failed: metrics.map_or(0, |metrics| metrics.calls.outcomes.failures()),
        }
    }

    /// Whether an operator need not look at a node.
    pub(crate) fn is_well(node: &NodeInfo) -> bool {
        node.state == NodeState::Alive && !node.is_cordoned && node.share >= 1.0 && node.uncallable.is_empty()
    }
}

/// What was counted and measured of nodes, by their ids.
pub(crate) fn by_id(nodes: &[NodeMetrics]) -> HashMap<NodeId, &NodeMetrics> {
    nodes.iter().map(|node| (node.id, node)).collect()
}

/// Slots that run a handler, as the node says. Of one that has not told, at most as many as it has calls: async calls need no
/// slot.
fn busy_slots(node: &NodeInfo, metrics: Option<&NodeMetrics>) -> u32 {
    let vitals = metrics.and_then(|metrics| metrics.vitals);
    let busy = vitals.map_or(u32::try_from(node.in_flight).unwrap_or(u32::MAX), |vitals| vitals.busy_slots);
    busy.min(node.slots)
}

/// The versions in a cluster, by which one that differs is noticed.
#[derive(Debug)]
pub(crate) struct Versions {
    master: String,
    /// That of more than half of the nodes.
    most: Option<String>,
}

impl Versions {
    pub(crate) fn of(master: &str, nodes: &[NodeInfo]) -> Self {
        let mut counts = BTreeMap::<&str, usize>::new();
        for version in nodes.iter().filter_map(|node| node.version.as_deref()) {
            *counts.entry(version).or_default() += 1;
        }
        let most = counts.into_iter().find(|(_, count)| count * 2 > nodes.len());
        Self { master: master.to_owned(), most: most.map(|(version, _)| version.to_owned()) }
    }

    fn skew(&self, version: Option<&str>) -> String {
        let Some(version) = version else { return String::new() };
        match &self.most {
            _ if version != self.master => format!("differs from the master's {}", self.master),
            Some(most) if version != most => format!("differs from most nodes' {most}"),
            _ => String::new(),
        }
    }
}

/// How many nodes there are in each state, and what they can do together.
#[derive(Debug, Default, Serialize)]
pub(crate) struct NodeCounts {
    total: usize,
    alive: usize,
    cordoned: usize,
    suspect: usize,
    disconnected: usize,
    draining: usize,
    ejected: usize,
    slots: u64,
    /// Slots that run a handler.
    busy: u64,
}

impl NodeCounts {
    pub(crate) fn of(nodes: &[NodeInfo], metrics: &HashMap<NodeId, &NodeMetrics>) -> Self {
        let mut counts = Self { total: nodes.len(), ..Self::default() };
        for node in nodes {
            match node.state {
                NodeState::Alive if node.is_cordoned => counts.cordoned += 1,
                NodeState::Alive => counts.alive += 1,
                NodeState::Suspect => counts.suspect += 1,
                NodeState::Disconnected => counts.disconnected += 1,
                NodeState::Draining => counts.draining += 1,
                _ => {}
            }
            counts.ejected += usize::from(node.share < 1.0);
            counts.slots += u64::from(node.slots);
            counts.busy += u64::from(busy_slots(node, metrics.get(&node.id).copied()));
        }
        counts
    }
}

/// Something that has happened to a node.
#[derive(Debug, Serialize)]
pub(crate) struct EventRow {
    number: u64,
    /// Seconds since 1970.
    at: f64,
    /// `gone`, `joined`, ..
    kind: String,
    node: Option<String>,
    node_id: Option<String>,
    sentence: String,
}

impl EventRow {
    pub(crate) fn new(number: u64, TimedEvent { at, event, .. }: &TimedEvent) -> Self {
        // An event is `{"gone":{..}}` in JSON.
        let kind = serde_json::to_value(event).ok().and_then(|json| json.as_object()?.keys().next().cloned());
        Self {
            number,
            at: at.as_secs_f64(),
            kind: kind.unwrap_or_default(),
            node: event.node().map(|node| node.name.to_string()),
            node_id: event.node().map(|node| node.id.to_string()),
            sentence: event.to_string(),
        }
    }
}

/// A run of many calls, with its stragglers in words.
#[derive(Debug, Serialize)]
pub(crate) struct RunRow {
    #[serde(flatten)]
    run: RunInfo,
    /// Its number as a text: a browser's numbers are not as large.
    key: String,
    /// Each as a sentence.
    waits_for: Vec<String>,
}

impl RunRow {
    pub(crate) fn new(run: RunInfo) -> Self {
        let waits_for = run.stragglers.iter().map(|call| {
            let row = CallRow::new(call.clone());
            format!("{} of {} {}", call.id, call.method, row.does)
        });
        Self { waits_for: waits_for.collect(), key: run.number.to_string(), run }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_differs_is_named_with_what_it_differs_from() {
        let skew = |most: Option<&str>, version| {
            Versions { master: "1.2.0".to_owned(), most: most.map(str::to_owned) }.skew(version)
        };
        assert_eq!(skew(Some("1.2.0"), Some("1.2.0")), "");
        assert_eq!(skew(None, Some("1.1.0")), "differs from the master's 1.2.0");
        assert_eq!(skew(Some("1.3.0"), Some("1.2.0")), "differs from most nodes' 1.3.0");
        assert_eq!(skew(Some("1.3.0"), None), "", "it does not say");
    }
}
