//! What happens in a second, and how long it takes, as read from two snapshots.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use distribution::{
    NodeId,
    administration::{CallMetrics, Histogram, MethodMetrics, Metrics},
};

use super::snapshot::Snapshot;

/// Times of calls are those of about this long.
const WINDOW: Duration = Duration::from_secs(30);

/// What is kept of that time: one look in each of these.
const STEP: Duration = Duration::from_secs(5);

/// A method: its service, name, and version.
type Method<'a> = (&'a str, &'a str, u32);

fn key(method: &MethodMetrics) -> Method<'_> {
    (&method.service, &method.name, method.version)
}

/// What happens in a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Calls that ended with a value or the method's own error.
    pub(super) answered: f64,
    /// Calls that ended with another error.
    pub(super) failed: f64,
    /// Calls that each node has answered.
    pub(super) nodes: HashMap<NodeId, f64>,
    /// By service, name and version.
    pub(super) methods: HashMap<(String, String, u32), MethodRates>,
}

/// What is known of the calls of a method.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MethodRates {
    /// Calls that end in a second, however they do.
    pub(super) ended: f64,
    /// Calls that fail in a second.
    pub(super) failing: f64,
    /// Calls that have failed since the master started.
    pub(super) failed: u64,
    /// Half of the calls, and 99 of 100, waited no longer than this.
    pub(super) in_queue: [Option<Duration>; 2],
    /// Half of the handlers, and 99 of 100, ran no longer than this.
    pub(super) in_handler: [Option<Duration>; 2],
}

impl Rates {
    /// Without `earlier`, or if that is of another run of the master, all rates are 0. Times are those after `begin`, or of
    /// all calls.
    pub(super) fn new(earlier: Option<&Snapshot>, later: &Snapshot, begin: Option<&Metrics>) -> Self {
        let earlier = earlier.filter(|earlier| is_same_run(earlier, later));
        let passed = earlier.map(|earlier| later.status.running_for.saturating_sub(earlier.status.running_for));
        let per_second = |before: Option<u64>, after: u64| match (before, passed.map(|passed| passed.as_secs_f64())) {
            (Some(before), Some(seconds)) if seconds > 0.0 => after.saturating_sub(before) as f64 / seconds,
            _ => 0.0,
        };
        let nodes_before: HashMap<_, _> =
            earlier.iter().flat_map(|earlier| &earlier.nodes).map(|node| (node.id, node.answered)).collect();
        let nodes = later.nodes.iter().map(|node| {
            let before = nodes_before.get(&node.id).copied().unwrap_or(0);
            (node.id, per_second(Some(before), node.answered))
        });
        let by_key = |metrics: &Metrics| -> HashMap<(String, String, u32), CallMetrics> {
            let methods = metrics.methods.iter();
            methods.map(|method| (owned(key(method)), method.calls.clone())).collect()
        };
        let before = earlier.map(|earlier| by_key(&earlier.metrics)).unwrap_or_default();
        let began = begin.map(by_key).unwrap_or_default();
        let mut methods: HashMap<_, MethodRates> = HashMap::new();
        for method in &later.metrics.methods {
            let key = owned(key(method));
            let (before, began) = (before.get(&key), began.get(&key));
            let row = methods.entry(key).or_default();
            let outcomes = &method.calls.outcomes;
            // A method that has several structures is one row, whose times are those of the last of them that has any.
            row.ended += per_second(Some(before.map_or(0, |before| before.outcomes.all())), outcomes.all());
            row.failing += per_second(Some(before.map_or(0, |before| before.outcomes.failures())), outcomes.failures());
            row.failed += outcomes.failures();
            let recent = |now: &Histogram, then: Option<&Histogram>| quantiles(now, then);
            row.in_queue = recent(&method.calls.in_queue, began.map(|began| &began.in_queue));
            row.in_handler = recent(&method.calls.in_handler, began.map(|began| &began.in_handler));
        }
        Self {
            answered: per_second(earlier.map(|earlier| earlier.stats.answered), later.stats.answered),
            failed: per_second(earlier.map(|earlier| earlier.stats.failed), later.stats.failed),
            nodes: nodes.collect(),
            methods,
        }
    }
}

fn owned((service, name, version): Method<'_>) -> (String, String, u32) {
    (service.to_owned(), name.to_owned(), version)
}

/// Whether the later one is of the same run of the master: what it counts goes up.
fn is_same_run(earlier: &Snapshot, later: &Snapshot) -> bool {
    later.status.running_for > earlier.status.running_for && later.stats.answered >= earlier.stats.answered
}

/// The median and the 99th percentile of what was counted since then, or of all if that is nothing.
fn quantiles(now: &Histogram, then: Option<&Histogram>) -> [Option<Duration>; 2] {
    let since = then.map(|then| now.since(then)).filter(|since| since.count > 0);
    let histogram = since.as_ref().unwrap_or(now);
    [histogram.quantile(0.5), histogram.quantile(0.99)]
}

/// The counts of the last while, some seconds apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Window(VecDeque<Metrics>);

impl Window {
    /// The oldest counts that are kept, after those of this moment were added.
    pub(super) fn add(&mut self, now: &Metrics) -> Option<&Metrics> {
        let age = |of: &Metrics| now.running_for.saturating_sub(of.running_for);
        // The master was started again.
        if self.0.back().is_some_and(|last| last.running_for > now.running_for) {
            self.0.clear();
        }
        while self.0.front().is_some_and(|first| age(first) > WINDOW) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|last| age(last) >= STEP) {
            self.0.push_back(now.clone());
        }
        self.0.front().filter(|first| first.running_for < now.running_for)
    }
}

#[cfg(test)]
mod tests {
    use distribution::administration::RefusedCalls;

    use super::*;

    #[test]
    fn a_window_has_the_counts_of_the_last_half_minute() {
        let mut window = Window::default();
        let at = |seconds| {
            let json = serde_json::json!({
                "running_for": seconds, "methods": [], "forgotten_methods": CallMetrics::default(), "nodes": [], "gone_nodes": CallMetrics::default(), "callers": [],
                "gone_callers": CallMetrics::default(), "refused_calls": RefusedCalls::default(), "refused_connections": 0,
            });
            serde_json::from_value::<Metrics>(json).expect("is one")
        };
        let mut begin = |seconds: u64| {
            let begin = window.add(&at(seconds)).map(|begin| begin.running_for.as_secs());
            (begin, window.0.len())
        };
        assert_eq!(begin(100), (None, 1));
        assert_eq!(begin(101), (Some(100), 1));
        for second in 102..=200 {
            let (first, kept) = begin(second);
            assert!(first >= Some(second - 30) || first == Some(100), "{second}: {first:?}");
            assert!(first < Some(second) && kept <= 7, "{second}: {first:?}, {kept}");
        }
        assert_eq!(begin(3), (None, 1), "it was started again");
    }
}
