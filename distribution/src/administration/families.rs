//! A master's counts as metrics with names and labels, for monitoring systems.
//!
//! Names follow the [conventions of Prometheus](https://prometheus.io/docs/practices/naming/): a unit in the name, base units,
//! and `_total` for what only grows.

use std::{collections::BTreeMap, time::Duration};

use super::{
    histogram::Histogram,
    metrics::{CallMetrics, Metrics, Outcomes, RefusedCalls},
};
use crate::view::NodeState;

/// How many methods, nodes and callers have labels of their own: those that came first, so that none loses its labels to one
/// that comes later. A counter that falls or jumps because of that would look like many calls.
const MOST_METHODS: usize = 256;
const MOST_NODES: usize = 1024;
const MOST_CALLERS: usize = 100;

/// The label of methods that have none of their own.
const OTHERS: &str = "(others)";

/// The label of calls that are made in the master's own process.
const OWN: &str = "(master)";

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricFamily {
    /// The name: `distribution_calls_total`.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// What kind of metric.
    pub kind: MetricKind,
    /// One for each combination of labels.
    pub samples: Vec<MetricSample>,
}

/// Kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows, until the master is started again.
    Counter,
    /// It grows and falls.
    Gauge,
    /// Times in buckets.
    Histogram,
}

/// A metric with its labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricSample {
    /// The names of the labels, each with its value.
    pub labels: Vec<(&'static str, String)>,
    /// What it says.
    pub value: MetricValue,
}

/// What a metric says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricValue {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Number(f64),
    /// Of a histogram.
    Times(Histogram),
}

/// The ends of the buckets in which monitoring systems get times: each four times as long as the one before, from 16 µs to 19
/// hours. They are ends of the master's own buckets, so the counts are exact.
pub fn bucket_ends() -> impl Iterator<Item = Duration> {
    (2..=18).map(|power| Duration::from_micros(1 << (2 * power)))
}

impl Metrics {
    /// All of it as metrics with names and labels. At most 256 methods, 1,024 nodes and 100 callers have labels of their own:
    /// those that came first. What the other methods counted is summed up under the label `(others)`, so that methods have all
    /// calls. The other nodes and callers are left out, and so are those that are gone.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = distribution::Master::bind("127.0.0.1:0").await?;
    /// let families = master.metrics().families();
    /// assert!(families.iter().any(|family| family.name == "distribution_calls_total"));
    /// # Ok(()) }
    /// ```
    pub fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.of_methods();
        families.extend(self.of_nodes());
        // Without those of a name put together: the sum would fall when one of them leaves.
        let callers = self.callers.iter().take(MOST_CALLERS).map(|caller| {
            let first = caller.first_call.to_string();
            let id = first.split_once('-').map_or("", |(prefix, _)| prefix);
            match &caller.name {
                Some(name) => (vec![("caller", name.to_string()), ("id", id.to_owned())], caller.calls.clone()),
                None => (vec![("caller", OWN.to_owned()), ("id", OWN.to_owned())], caller.calls.clone()),
            }
        });
        let callers = callers.collect();
        families.push(by_outcome(
            "distribution_caller_calls_total",
            "Calls of each caller that have ended, by how they did.",
            &callers,
        ));
        let RefusedCalls { session, credential, denied } = self.refused_calls;
        let refused = [("session", session), ("credential", credential), ("denied", denied)];
        families.push(MetricFamily {
            name: "distribution_refused_calls_total",
            help: "Calls of callers in other processes that the master refused when it read them.",
            kind: MetricKind::Counter,
            samples: refused
                .map(|(reason, count)| MetricSample {
                    labels: vec![("reason", reason.to_owned())],
                    value: MetricValue::Count(count),
                })
                .into(),
        });
        families.push(MetricFamily {
            name: "distribution_refused_connections_total",
            help: "Connections that were closed before they registered.",
            kind: MetricKind::Counter,
            samples: vec![MetricSample { labels: Vec::new(), value: MetricValue::Count(self.refused_connections) }],
        });
        families.push(MetricFamily {
            name: "distribution_uptime_seconds",
            help: "Time since the master started.",
            kind: MetricKind::Gauge,
            samples: vec![MetricSample {
                labels: Vec::new(),
                value: MetricValue::Number(self.running_for.as_secs_f64()),
            }],
        });
        families
    }

    fn of_methods(&self) -> Vec<MetricFamily> {
        let labels = |service: &str, name: &str, version: u32| {
            vec![("method", format!("{service}.{name}")), ("version", version.to_string())]
        };
        let rows = self.methods.iter().map(|row| (labels(&row.service, &row.name, row.version), row.calls.clone()));
        let mut methods = merged(rows, MOST_METHODS);
        if self.forgotten_methods.outcomes.all() > 0 {
            methods.entry(others(&labels("", "", 0))).or_default().add(&self.forgotten_methods);
        }
        let mut gauges = (BTreeMap::new(), BTreeMap::new());
        for row in &self.methods {
            let labels = labels(&row.service, &row.name, row.version);
            let labels = if methods.contains_key(&labels) { labels } else { others(&labels) };
            *gauges.0.entry(labels.clone()).or_insert(0.0) += row.waiting as f64;
            *gauges.1.entry(labels).or_insert(0.0) += row.running as f64;
        }
        let counter = |name, help, count: fn(&CallMetrics) -> u64| counters(name, help, &methods, count);
        let histogram = |name, help, times: fn(&CallMetrics) -> &Histogram| MetricFamily {
            name,
            help,
            kind: MetricKind::Histogram,
            samples: samples(&methods, |calls| MetricValue::Times(times(calls).clone())),
        };
        vec![
            by_outcome("distribution_calls_total", "Calls that have ended, by how they did.", &methods),
            numbers("distribution_calls_waiting", "Calls that wait at the master.", &gauges.0),
            numbers("distribution_calls_running", "Calls that a node has.", &gauges.1),
            counter("distribution_attempts_total", "How often calls were sent to a node.", |calls| calls.sent),
            counter("distribution_repeated_attempts_total", "How often calls were sent again.", |calls| calls.repeated),
            counter("distribution_batches_total", "Batches that were sent.", |calls| calls.batches),
            counter("distribution_hedges_total", "Second copies of slow batches that were sent.", |calls| calls.hedges),
            counter("distribution_argument_bytes_total", "Bytes of arguments that were sent to nodes.", |calls| {
                calls.argument_bytes
            }),
            counter("distribution_reply_bytes_total", "Bytes of values and errors that nodes answered.", |calls| {
                calls.reply_bytes
            }),
            histogram("distribution_queue_seconds", "Time in the queue before an attempt.", |calls| &calls.in_queue),
            histogram(
                "distribution_transit_seconds",
                "Time of an attempt on the way to the node and back, or waiting there.",
                |calls| &calls.on_the_way,
            ),
            histogram("distribution_handler_seconds", "Time in the handler.", |calls| &calls.in_handler),
        ]
    }

    fn of_nodes(&self) -> Vec<MetricFamily> {
        let mut states = BTreeMap::new();
        for state in [NodeState::Alive, NodeState::Suspect, NodeState::Disconnected, NodeState::Draining] {
            let nodes = self.nodes.iter().filter(|node| node.state == state).count();
            states.insert(vec![("state", state.to_string())], nodes as f64);
        }
        let shown = &self.nodes[..self.nodes.len().min(MOST_NODES)];
        let labels =
            |node: &super::metrics::NodeMetrics| vec![("node", node.name.to_string()), ("id", node.id.to_string())];
        let calls: BTreeMap<_, _> = shown.iter().map(|node| (labels(node), node.calls.clone())).collect();
        let gauge = |name, help, number: fn(&super::metrics::NodeMetrics) -> Option<f64>| {
            let rows = shown.iter().filter_map(|node| Some((labels(node), number(node)?))).collect();
            numbers(name, help, &rows)
        };
        vec![
            numbers("distribution_nodes", "Registered nodes by state.", &states),
            by_outcome(
                "distribution_node_attempts_total",
                "Attempts on each node that have ended, by how they did.",
                &calls,
            ),
            gauge("distribution_node_slots", "Compute calls that the node runs at a time.", |node| {
                Some(node.slots.into())
            }),
            gauge(
                "distribution_node_held_slots",
                "Slots that handlers hold whose calls were taken from the node.",
                |node| Some(node.held_slots.into()),
            ),
            gauge("distribution_node_computing", "Compute calls that the node has.", |node| {
                Some(node.computing.into())
            }),
            gauge("distribution_node_async", "Async calls that the node has.", |node| Some(node.asynchronous.into())),
            gauge("distribution_node_ejections", "How often the node was ejected since it registered.", |node| {
                Some(node.ejections as f64)
            }),
            gauge("distribution_node_cpu_cores", "Cores that the node's process uses.", |node| node.vitals?.cpu),
            gauge("distribution_node_memory_bytes", "Memory that the node's process holds.", |node| {
                Some(node.vitals?.memory? as f64)
            }),
            gauge("distribution_node_threads", "Threads of the node's process.", |node| {
                Some(node.vitals?.threads?.into())
            }),
            gauge("distribution_node_lag_seconds", "How long a task waits for the node's runtime.", |node| {
                Some(node.vitals?.lag.as_secs_f64())
            }),
            gauge(
                "distribution_node_clock_skew_seconds",
                "How far the node's clock is ahead of the master's.",
                |node| Some(node.vitals?.clock_skew),
            ),
        ]
    }
}

type Labels = Vec<(&'static str, String)>;

fn others(labels: &Labels) -> Labels {
    labels.iter().map(|(name, _)| (*name, OTHERS.to_owned())).collect()
}

/// Sums up what has the same labels. Beyond this many different ones, those that come later count as others.
fn merged(rows: impl Iterator<Item = (Labels, CallMetrics)>, most: usize) -> BTreeMap<Labels, CallMetrics> {
    let mut merged: BTreeMap<Labels, CallMetrics> = BTreeMap::new();
    for (labels, calls) in rows {
        let has_place = merged.len() < most || merged.contains_key(&labels);
        merged.entry(if has_place { labels } else { others(&labels) }).or_default().add(&calls);
    }
    merged
}

fn samples(rows: &BTreeMap<Labels, CallMetrics>, value: impl Fn(&CallMetrics) -> MetricValue) -> Vec<MetricSample> {
    rows.iter().map(|(labels, calls)| MetricSample { labels: labels.clone(), value: value(calls) }).collect()
}

fn counters(
    name: &'static str,
    help: &'static str,
    rows: &BTreeMap<Labels, CallMetrics>,
    count: fn(&CallMetrics) -> u64,
) -> MetricFamily {
    MetricFamily {
        name,
        help,
        kind: MetricKind::Counter,
        samples: samples(rows, |calls| MetricValue::Count(count(calls))),
    }
}

fn by_outcome(name: &'static str, help: &'static str, rows: &BTreeMap<Labels, CallMetrics>) -> MetricFamily {
    let mut samples = Vec::with_capacity(rows.len() * Outcomes::default().named().len());
    for (labels, calls) in rows {
        for (outcome, count) in calls.outcomes.named() {
            let mut labels = labels.clone();
            labels.push(("outcome", outcome.to_owned()));
            samples.push(MetricSample { labels, value: MetricValue::Count(count) });
        }
    }
    MetricFamily { name, help, kind: MetricKind::Counter, samples }
}

fn numbers(name: &'static str, help: &'static str, rows: &BTreeMap<Labels, f64>) -> MetricFamily {
    let sample = |(labels, number): (&Labels, &f64)| MetricSample {
        labels: labels.clone(),
        value: MetricValue::Number(*number),
    };
    MetricFamily { name, help, kind: MetricKind::Gauge, samples: rows.iter().map(sample).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::administration::{MethodKind, MethodMetrics};

    fn method(name: String, sent: u64) -> MethodMetrics {
        let outcomes = Outcomes { answered: sent, ..Outcomes::default() };
        let calls = CallMetrics { sent, outcomes, ..CallMetrics::default() };
        let (waiting, running, has_streams) = (1, 0, false);
        MethodMetrics {
            service: "Arith".to_owned(),
            name,
            version: 1,
            kind: MethodKind::Compute,
            waiting,
            running,
            has_streams,
            calls,
        }
    }

    fn count(families: &[MetricFamily], name: &str) -> (usize, u64) {
        let family = families.iter().find(|family| family.name == name).expect("it is there");
        let sum = family.samples.iter().map(|sample| match sample.value {
            MetricValue::Count(count) => count,
            _ => panic!("{name} is a counter"),
        });
        (family.samples.len(), sum.sum())
    }

    #[test]
    fn methods_beyond_the_limit_count_together_and_no_call_is_lost() {
        let methods = (0..1000).map(|number| method(format!("m{number:04}"), 3)).collect();
        let families = Metrics { methods, ..Metrics::default() }.families();
        assert_eq!(count(&families, "distribution_calls_total"), (257 * 8, 3000));
        assert_eq!(count(&families, "distribution_attempts_total"), (257, 3000));
    }

    #[test]
    fn two_forms_of_a_method_have_one_set_of_labels() {
        let methods = vec![method("sum".to_owned(), 3), method("sum".to_owned(), 4)];
        let families = Metrics { methods, ..Metrics::default() }.families();
        assert_eq!(count(&families, "distribution_attempts_total"), (1, 7));
        for family in &families {
            let mut seen = std::collections::HashSet::new();
            assert!(family.samples.iter().all(|sample| seen.insert(&sample.labels)), "{}", family.name);
        }
    }

    #[test]
    fn the_buckets_of_monitoring_systems_end_where_those_of_a_histogram_do() {
        for end in bucket_ends() {
            let mut buckets = [0; crate::administration::BUCKETS];
            buckets[crate::administration::bucket_of(end - Duration::from_micros(1))] += 1;
            buckets[crate::administration::bucket_of(end)] += 1;
            let times = Histogram::new(&buckets, end);
            // The last bucket has no end.
            assert!(times.shorter_than(end) == 1 || end == Duration::from_micros(1 << 36), "{end:?}");
        }
        assert_eq!(bucket_ends().count(), 17);
    }
}
