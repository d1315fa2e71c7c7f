//! What a master has counted of calls, beside what it says of methods and nodes.

use std::{collections::HashMap, time::Duration};

use distribution::{
    NodeId,
    administration::{CallMetrics, Metrics},
};
use serde::Serialize;
use serde_json::Value;

use crate::units::{count, short_time};

/// The counts of methods, by service, name and version.
pub(crate) fn by_method(metrics: Metrics) -> HashMap<(String, String, u32), CallMetrics> {
    let mut all: HashMap<_, CallMetrics> = HashMap::new();
    for method in metrics.methods {
        // Forms of a method that have other types are put together.
        all.entry((method.service, method.name, method.version)).or_default().add(&method.calls);
    }
    all
}

/// The counts of nodes.
pub(crate) fn by_node(metrics: Metrics) -> HashMap<NodeId, CallMetrics> {
    metrics.nodes.into_iter().map(|node| (node.id, node.calls)).collect()
}

/// A list as JSON, each entry with its counts as `counted`.
pub(crate) fn with_counts<T: Serialize>(rows: &[T], of: impl Fn(&T) -> Option<CallMetrics>) -> Value {
    let rows = rows.iter().map(|row| {
        let mut value = serde_json::to_value(row).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("counted".to_owned(), serde_json::to_value(of(row)).unwrap_or_default());
        }
        value
    });
    rows.collect()
}

/// How many calls failed, and how: `3 (2 panicked, 1 lost)`. A method's own errors are not among them.
pub(crate) fn failures(calls: &CallMetrics) -> String {
    let outcomes = &calls.outcomes;
    let kinds = outcomes
        .named()
        .into_iter()
        .filter(|(name, number)| *number > 0 && !matches!(*name, "answered" | "error" | "cancelled"));
    let kinds: Vec<String> =
        kinds.map(|(name, number)| format!("{} {}", count(number), name.replace('_', " "))).collect();
    match outcomes.failures() {
        0 => "0".to_owned(),
        all => format!("{} ({})", count(all), kinds.join(", ")),
    }
}

/// In which time half of the handlers, and 99 of 100, were done; `-` if none has run.
pub(crate) fn times(calls: &CallMetrics) -> [String; 2] {
    let shown = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), short_time);
    [0.5, 0.99].map(|part| shown(calls.in_handler.quantile(part)))
}
