//! Looks for what is wrong in the cluster although no error says so.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{
    recent::{Batches, Counts},
    shared::Shared,
};
use crate::{
    administration::{
        CallFilter, CallInfo, CallStatus, HistoryFilter, MethodKind, MethodMetrics, NodeMetrics, StatusFilter,
        WaitReason, Warning, WarningKind,
    },
    id::{CallId, CallerId, MethodName, NodeId},
    view::{NodeInfo, NodeState},
};

/// A call runs for long if it has run for this long, and for ten times as long as 99 of 100 others.
const LONG: Duration = Duration::from_secs(3);

/// A call that cannot be compared with others runs for long after this.
const LONG_ALONE: Duration = Duration::from_secs(600);

/// This many seconds of the history are compared with, and at least this many calls.
const COMPARED_SECONDS: u64 = 300;
const COMPARED_CALLS: u32 = 20;

/// If all handlers of a node use less than this part of a core, they wait for something.
const IDLE_CPU: f64 = 0.05;

/// An answer to who asks is as old as this at most.
const FRESH: Duration = Duration::from_millis(250);

/// How many calls are looked at.
const LOOKED_AT: usize = 200;

/// How many warnings of one kind there are at most.
const MOST_OF_A_KIND: usize = 8;

/// Calls with more bytes than this should not travel in batches.
const LARGE: u64 = 1 << 20;

/// Clocks that differ by more than this make logs hard to compare.
const SKEW: f64 = 1.0;

/// For how long a slot has to be free while calls wait.
const IDLE_FOR: u64 = 30;

/// What all checks look at.
struct Scene {
    nodes: Vec<NodeInfo>,
    node_metrics: HashMap<NodeId, NodeMetrics>,
    methods: HashMap<MethodName, MethodMetrics>,
    /// What 99 of 100 calls of each method took at most, of late.
    usual: HashMap<MethodName, Duration>,
    /// The methods that no node serves, each with the number of its calls that wait.
    unserved: Vec<(MethodName, usize)>,
    /// What has grown in the last minutes.
    grown: Counts,
    running: Vec<CallInfo>,
    stopping: Vec<CallInfo>,
    waiting: Vec<CallInfo>,
}

impl Shared {
    /// What looks wrong, the most urgent first.
    ///
    /// Several who ask at the same time share an answer.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut last = self.last_warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, warnings)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return warnings.clone();
        }
        let warnings = self.look_for_warnings();
        *last = Some((Instant::now(), warnings.clone()));
        warnings
    }

    fn look_for_warnings(&self) -> Vec<Warning> {
        let metrics = self.metrics();
        let calls = |status| self.calls(CallFilter::default().status(status).limit(LOOKED_AT)).calls;
        let nodes = self.nodes();
        let grown = self.recent.grown(Counts::of(&nodes, &metrics.methods));
        let scene = Scene {
            nodes,
            grown,
            node_metrics: metrics.nodes.into_iter().map(|node| (node.id, node)).collect(),
            methods: metrics
                .methods
                .into_iter()
                .map(|method| (MethodName::new(&method.service, &method.name), method))
                .collect(),
            usual: self.usual_times(),
            unserved: self
                .methods()
                .into_iter()
                .filter(|method| method.nodes == 0 && method.waiting > 0)
                .map(|method| (MethodName::new(&method.service, &method.name), method.waiting))
                .collect(),
            running: calls(StatusFilter::Running),
            stopping: calls(StatusFilter::Stopping),
            waiting: calls(StatusFilter::Waiting),
        };
        let mut warnings = Vec::new();
        warnings.extend(self.shutdown_warning());
        warnings.extend(scene.no_nodes());
        warnings.extend(self.stall_warning());
        warnings.extend(capped(scene.silent_nodes()));
        warnings.extend(capped(self.lost_nodes.warnings(self.origin.elapsed())));
        warnings.extend(capped(scene.unserved()));
        warnings.extend(self.full_queue());
        warnings.extend(capped(scene.long_calls()));
        warnings.extend(capped(scene.held_slots()));
        warnings.extend(capped(scene.held_from_before()));
        warnings.extend(capped(scene.blocked_async()));
        warnings.extend(capped(scene.incompatible()));
        warnings.extend(capped(self.idle_slots(&scene)));
        warnings.extend(capped(scene.large_batches()));
        warnings.extend(capped(scene.clock_skew()));
        warnings.extend(capped(scene.ejected()));
        warnings.extend(capped(scene.leaving()));
        warnings.extend(capped(scene.cordoned()));
        // Those of one level stay in the order in which they were looked for.
        warnings.sort_by_key(|warning| warning.kind.level());
        warnings
    }

    fn shutdown_warning(&self) -> Option<Warning> {
        let text = "the master shuts down: it takes no more nodes and calls, and ends when those in flight have ended";
        self.lock().shutting_down.then(|| warning(WarningKind::ShuttingDown, text.to_owned()))
    }

    /// The master was held up lately.
    fn stall_warning(&self) -> Option<Warning> {
        let (ago, lasted) = self.last_stall()?;
        Some(warning(
            WarningKind::MasterStalled,
            format!(
                "the master was stalled for {:.1} s, {:.0} s ago: its runtime was blocked, or its machine or disk was \
                 overloaded or suspended. Calls waited for that time. Look for blocking code in the master's program, and \
                 at the load of its machine",
                lasted.as_secs_f64(),
                ago.as_secs_f64()
            ),
        ))
    }

    /// The longest 99th percentile of the last minutes, of each method with enough calls.
    fn usual_times(&self) -> HashMap<MethodName, Duration> {
        let now = self.origin.elapsed();
        let from = now.as_secs().saturating_sub(COMPARED_SECONDS);
        let history = self.history.read(&HistoryFilter::default().methods().from(from), now);
        let usual = history.methods.into_iter().filter_map(|series| {
            let calls: u32 = series.points.iter().map(|point| point.ended - point.failed.min(point.ended)).sum();
            let longest = series.points.iter().map(|point| point.handler_p99).fold(0.0, f32::max);
            (calls >= COMPARED_CALLS).then(|| (series.name, Duration::from_secs_f32(longest)))
        });
        usual.collect()
    }

    /// Calls are refused because of a limit of the queue.
    fn full_queue(&self) -> Option<Warning> {
        let failures = self.failures();
        let group = failures.iter().find(|group| group.kind == "overloaded" && group.last < Duration::from_secs(10))?;
        let (fullest, calls, all) = self.lock().core.fullest_caller();
        let fullest = match self.callers.names().get(&fullest) {
            Some(name) => format!("caller {name}"),
            None if fullest == CallerId::MASTER => "the master's own process".to_owned(),
            None => "a caller that is gone".to_owned(),
        };
        let most = match all {
            0 => String::new(),
            _ => format!(" Of the {all} calls that wait, {calls} are of {fullest}."),
        };
        let text = format!(
            "calls of `{}` are refused, the last one as: {}.{most} Start more nodes, or have callers make fewer calls at a time; \
             `max_queued_calls_per_caller` keeps one caller from filling the queue for others",
            group.method, group.message
        );
        Some(Warning { method: Some(group.method.clone()), ..warning(WarningKind::QueueFull, text) })
    }

    /// Slots that were free for long while calls waited.
    fn idle_slots(&self, scene: &Scene) -> Vec<Warning> {
        let filter = HistoryFilter::default().nodes();
        let now = self.origin.elapsed();
        let from = now.as_secs().saturating_sub(IDLE_FOR + 1);
        let history = self.history.read(&filter.from(from), now);
        let waited = history.cluster.len() as u64 >= IDLE_FOR && history.cluster.iter().all(|point| point.waiting > 0);
        if !waited {
            return Vec::new();
        }
        let nodes: HashMap<NodeId, &NodeInfo> = scene.nodes.iter().map(|node| (node.id, node)).collect();
        let mut warnings = Vec::new();
        for series in &history.nodes {
            // One that is ejected gets fewer calls on purpose.
            let Some(node) = nodes.get(&series.id).filter(|node| node.share >= 1.0) else { continue };
            // One that serves no method whose calls wait has nothing to take.
            let serves = |call: &CallInfo| node.services.iter().any(|service| service.name == call.method.service());
            if !scene.waiting.iter().any(serves) {
                continue;
            }
            let is_idle = series.points.iter().all(|point| f64::from(point.busy) < f64::from(node.slots) - 0.9);
            if series.points.len() as u64 >= IDLE_FOR && is_idle && node.state == NodeState::Alive && !node.is_cordoned
            {
                let text = format!(
                    "node {} had a free slot for the last {IDLE_FOR} s while calls waited: none of these can run there. `distribution \
                     calls` says what they wait for",
                    node.name
                );
                warnings.push(about(node, WarningKind::IdleSlots, text));
            }
        }
        warnings
    }
}

impl Scene {
    fn no_nodes(&self) -> Option<Warning> {
        let text = "no node is registered, so no call can run. Start a node that dials this master";
        self.nodes.is_empty().then(|| warning(WarningKind::NoNodes, text.to_owned()))
    }

    fn ejected(&self) -> Vec<Warning> {
        let warn = |node: &NodeInfo| {
            let text = format!(
                "calls fail on node {} and not on others, so that it gets {:.0} % of its share of calls. `distribution \
                 failures` says how they fail",
                node.name,
                node.share * 100.0
            );
            about(node, WarningKind::Ejected, text)
        };
        self.nodes.iter().filter(|node| node.share < 1.0).map(warn).collect()
    }

    fn leaving(&self) -> Vec<Warning> {
        let warn = |node: &NodeInfo| {
            let text = format!(
                "node {} is draining: it gets no new calls, and leaves when it has answered the {} that it has",
                node.name, node.in_flight
            );
            about(node, WarningKind::Draining, text)
        };
        self.nodes.iter().filter(|node| node.state == NodeState::Draining).map(warn).collect()
    }

    fn cordoned(&self) -> Vec<Warning> {
        let warn = |node: &NodeInfo| {
            let text = format!(
                "node {} is cordoned, and gets no new calls until `distribution uncordon {}`",
                node.name, node.id
            );
            about(node, WarningKind::Cordoned, text)
        };
        self.nodes.iter().filter(|node| node.is_cordoned).map(warn).collect()
    }

    fn silent_nodes(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for node in &self.nodes {
            let text = match node.state {
                NodeState::Suspect => format!(
                    "node {} has been silent for {:.1} s and gets no new calls; {} of its calls are not answered. Its process is \
                     stopped or its machine overloaded, or the network is down. If it does not come back, its calls are lost",
                    node.name,
                    node.silent_for.as_secs_f64(),
                    node.in_flight
                ),
                NodeState::Disconnected => format!(
                    "the connection of node {} has broken, and {} of its calls are not answered. The master waits for it to come back",
                    node.name, node.in_flight
                ),
                _ => continue,
            };
            warnings.push(about(node, WarningKind::NodeSilent, text));
        }
        warnings
    }

    fn unserved(&self) -> Vec<Warning> {
        let mut seen: BTreeMap<(&MethodName, String), usize> = BTreeMap::new();
        for (method, waiting) in &self.unserved {
            *seen.entry((method, WaitReason::NoNode.to_string())).or_default() += waiting;
        }
        for call in &self.waiting {
            if let CallStatus::Waiting { why: why @ WaitReason::NoLabel { .. } } = &call.status {
                *seen.entry((&call.method, why.to_string())).or_default() += call.count as usize;
            }
        }
        let warn = |((method, why), count): ((&MethodName, String), usize)| {
            let calls = if count == 1 { "a call of".to_owned() } else { format!("{count} calls of") };
            let waits = if count == 1 { "waits" } else { "wait" };
            let text = format!("{calls} `{method}` {waits}: {why}. Start a node that can run it");
            Warning { method: Some(method.clone()), ..warning(WarningKind::NobodyServes, text) }
        };
        seen.into_iter().map(warn).collect()
    }

    /// Calls that run for much longer than others of their method. A call that waits for its nested calls is not among them: what
    /// these do is said of them.
    fn long_calls(&self) -> Vec<Warning> {
        let parents: HashSet<CallId> =
            self.waiting.iter().chain(&self.running).filter_map(|call| call.parent).collect();
        let mut warnings = Vec::new();
        for call in &self.running {
            let CallStatus::Running { node, running_for, .. } = &call.status else { continue };
            let method = self.methods.get(&call.method);
            if parents.contains(&call.id) || method.is_some_and(|method| method.has_streams) {
                continue;
            }
            let others = self.usual.get(&call.method).copied();
            let is_long = *running_for > others.map_or(LONG_ALONE, |others| LONG.max(others * 10 * call.count));
            if !is_long {
                continue;
            }
            let usual = match others {
                Some(others) => format!("99 of 100 others took at most {others:.1?} lately"),
                None => "there are no others to compare it with, so that may be normal".to_owned(),
            };
            let text = format!(
                "call {} of `{}` has run for {:.0} s on node {} ({usual}). {}. `distribution profile {}` shows \
                 where its handler is, if it has a thread. If it is stuck: `distribution cancel {}`, and if its handler goes on all the same, `distribution drain {}` and restart its process",
                call.id,
                call.method,
                running_for.as_secs_f64(),
                node.name,
                self.what_node_does(node.id),
                node.name,
                call.id,
                node.name
            );
            warnings.push(Warning {
                node: Some(node.id),
                node_name: Some(node.name.clone()),
                method: Some(call.method.clone()),
                ..warning(WarningKind::RunsLong, text)
            });
        }
        warnings
    }

    /// What the processor time of a node says about its handlers.
    fn what_node_does(&self, node: NodeId) -> String {
        let vitals = self.node_metrics.get(&node).and_then(|node| node.vitals);
        let Some((cpu, running)) =
            vitals.and_then(|vitals| Some((vitals.cpu?, vitals.busy_slots + vitals.asynchronous)))
        else {
            return "It may calculate, loop without end, or wait for something".to_owned();
        };
        if cpu < IDLE_CPU {
            format!(
                "The node's process uses {cpu:.2} cores, so the handler does not calculate: it waits for something, as for a lock that \
                 another handler holds, a file or the network"
            )
        } else if running <= 1 {
            format!(
                "The node's process uses {cpu:.2} cores for this call alone, so the handler calculates, or loops without end"
            )
        } else {
            format!("The node's process uses {cpu:.2} cores for {running} calls")
        }
    }

    fn held_slots(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for call in &self.stopping {
            let CallStatus::Stopping { node, stopping_for } = &call.status else { continue };
            if *stopping_for < LONG {
                continue;
            }
            let kind = self.methods.get(&call.method).map(|method| method.kind);
            let holds = if kind == Some(MethodKind::Compute) { " and holds a slot" } else { "" };
            let text = format!(
                "call {} of `{}` has ended, and its handler has gone on for {:.0} s on node {}{holds}. A handler that takes long \
                 should look at `distribution::current().is_cancelled()`. If it does not end: `distribution drain {}`, and restart \
                 its process. A kick would leave the handler running",
                call.id,
                call.method,
                stopping_for.as_secs_f64(),
                node.name,
                node.name
            );
            warnings.push(Warning {
                node: Some(node.id),
                node_name: Some(node.name.clone()),
                method: Some(call.method.clone()),
                ..warning(WarningKind::SlotsHeld, text)
            });
        }
        warnings
    }

    /// Slots that handlers hold whose calls were taken from their node: it was kicked, or away for too long.
    fn held_from_before(&self) -> Vec<Warning> {
        let warn = |node: &NodeInfo| {
            let (slots, handlers) = match node.held_slots {
                1 => ("1 slot".to_owned(), "a handler holds it that goes on"),
                held => (format!("{held} slots"), "handlers hold them that go on"),
            };
            let text = format!(
                "node {0} is without {slots}: {handlers} although their calls were taken from the node, which was kicked or away \
                 for too long. Only the end of its process ends them: `distribution drain {0}`, and restart it",
                node.name
            );
            about(node, WarningKind::SlotsHeld, text)
        };
        self.nodes.iter().filter(|node| node.held_slots > 0).map(warn).collect()
    }

    fn blocked_async(&self) -> Vec<Warning> {
        let warn = |node: &NodeInfo| {
            let times = self.grown.blocked.get(&node.id)?;
            let text = format!(
                "async handlers on node {} have blocked their thread {times} times in the last minutes, so that others had to wait. \
                 Its log names the methods; they should be `fn`, or do the work in `tokio::task::spawn_blocking`",
                node.name
            );
            Some(about(node, WarningKind::BlockedAsync, text))
        };
        self.nodes.iter().filter_map(warn).collect()
    }

    fn incompatible(&self) -> Vec<Warning> {
        let warn = |node: &NodeInfo| {
            let text = format!(
                "node {} serves methods that cannot be called on it: {}",
                node.name,
                node.uncallable.join("; ")
            );
            about(node, WarningKind::Incompatible, text)
        };
        self.nodes.iter().filter(|node| !node.uncallable.is_empty()).map(warn).collect()
    }

    fn large_batches(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (name, Batches { batches, calls, argument_bytes }) in &self.grown.batches {
            let each = argument_bytes / (*calls).max(1);
            if each > LARGE {
                let text = format!(
                    "calls of `{name}` have {:.1} MiB of arguments on average, and were sent in {batches} batches in the last minutes. \
                     Have the handler read large data where it lies, or pass it as a stream",
                    each as f64 / f64::from(1 << 20)
                );
                warnings.push(Warning { method: Some(name.clone()), ..warning(WarningKind::LargeBatches, text) });
            }
        }
        warnings.sort_by(|a, b| a.text.cmp(&b.text));
        warnings
    }

    fn clock_skew(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for node in &self.nodes {
            let vitals = self.node_metrics.get(&node.id).and_then(|metrics| metrics.vitals);
            let Some(skew) = vitals.map(|vitals| vitals.clock_skew).filter(|skew| skew.abs() > SKEW) else { continue };
            let way = if skew > 0.0 { "ahead of" } else { "behind" };
            let text = format!(
                "the clock of node {} is {:.1} s {way} the master's. Times in its logs differ by that, and certificates may seem \
                 expired or not valid yet",
                node.name,
                skew.abs()
            );
            warnings.push(about(node, WarningKind::ClockSkew, text));
        }
        warnings
    }
}

fn warning(kind: WarningKind, text: String) -> Warning {
    Warning { kind, text, node: None, node_name: None, method: None }
}

fn about(node: &NodeInfo, kind: WarningKind, text: String) -> Warning {
    Warning { node: Some(node.id), node_name: Some(node.name.clone()), ..warning(kind, text) }
}

/// The first warnings, and how many more there are.
fn capped(mut warnings: Vec<Warning>) -> Vec<Warning> {
    let more = warnings.len().saturating_sub(MOST_OF_A_KIND);
    if more > 0 {
        warnings.truncate(MOST_OF_A_KIND);
        let kind = warnings[0].kind;
        warnings.push(warning(kind, format!("and {more} more like this")));
    }
    warnings
}
