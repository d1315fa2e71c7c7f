//! Tells the recorder of the program, if it has one, what is counted: through the facade of the crate `metrics`, once a second.
//!
//! So a call costs nothing more for it, and a recorder sees each call within a second.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::administration::{Histogram, MetricFamily, MetricKind, MetricValue, Metrics};

/// What was told before.
#[derive(Debug, Default)]
pub(super) struct Facade {
    is_described: bool,
    /// Times are told as differences.
    times: HashMap<Key, Histogram>,
    /// A gauge that is not there any more is told as 0.
    gauges: HashSet<Key>,
}

type Key = (&'static str, Vec<(&'static str, String)>);

impl Facade {
    /// Tells all counts.
    pub(super) fn tell(&mut self, metrics: &Metrics) {
        let families = metrics.families();
        if !std::mem::replace(&mut self.is_described, true) {
            families.iter().for_each(describe);
        }
        let (mut times_before, mut gauges_before) = (mem::take(&mut self.times), mem::take(&mut self.gauges));
        for MetricFamily { name, samples, .. } in families {
            for sample in samples {
                let key = (name, sample.labels);
                match sample.value {
                    MetricValue::Count(count) => counter!(name, &key.1).absolute(count),
                    MetricValue::Number(number) => {
                        gauge!(name, &key.1).set(number);
                        gauges_before.remove(&key);
                        self.gauges.insert(key);
                    }
                    MetricValue::Times(times) => {
                        let recorder = histogram!(name, &key.1);
                        for (time, count) in times.since(&times_before.remove(&key).unwrap_or_default()).middles() {
                            recorder.record_many(time.as_secs_f64(), usize::try_from(count).unwrap_or(usize::MAX));
                        }
                        self.times.insert(key, times);
                    }
                }
            }
        }
        for (name, labels) in gauges_before {
            gauge!(name, &labels).set(0.0);
        }
    }
}

fn describe(family: &MetricFamily) {
    let MetricFamily { name, help, .. } = family;
    match family.kind {
        MetricKind::Counter => describe_counter!(*name, *help),
        MetricKind::Gauge => describe_gauge!(*name, *help),
        MetricKind::Histogram => describe_histogram!(*name, ::metrics::Unit::Seconds, *help),
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::administration::{BUCKETS, CallMetrics, MethodKind, MethodMetrics, Outcomes, bucket_of};

    fn counted(calls: u64) -> Metrics {
        let (time, mut buckets) = (std::time::Duration::from_millis(3), [0; BUCKETS]);
        buckets[bucket_of(time)] = calls;
        let outcomes = Outcomes { answered: calls, ..Outcomes::default() };
        let in_handler = Histogram::new(&buckets, time * calls as u32);
        let calls = CallMetrics { outcomes, in_handler, ..CallMetrics::default() };
        let (service, name) = ("Arith".to_owned(), "sum".to_owned());
        let (waiting, running, has_streams) = (2, 0, false);
        let kind = MethodKind::Compute;
        let methods = vec![MethodMetrics { service, name, version: 1, kind, waiting, running, has_streams, calls }];
        Metrics { methods, ..Metrics::default() }
    }

    #[test]
    fn a_recorder_hears_totals_and_each_time_once() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let mut facade = Facade::default();
        let mut told = |metrics| {
            ::metrics::with_local_recorder(&recorder, || facade.tell(&metrics));
            let all = snapshotter.snapshot().into_vec();
            let find = |name: &str, label: &str| {
                let is_it = |key: &::metrics::Key| key.name() == name && key.labels().any(|one| one.value() == label);
                all.iter().find(|(key, ..)| is_it(key.key())).map(|(.., value)| match value {
                    DebugValue::Counter(count) => *count as f64,
                    DebugValue::Gauge(number) => number.0,
                    DebugValue::Histogram(times) => times.len() as f64,
                })
            };
            (
                find("distribution_calls_total", "answered"),
                find("distribution_calls_waiting", "Arith.sum"),
                find("distribution_handler_seconds", "Arith.sum"),
            )
        };
        assert_eq!(told(counted(5)), (Some(5.0), Some(2.0), Some(5.0)));
        assert_eq!(told(counted(7)), (Some(7.0), Some(2.0), Some(2.0)));
        assert_eq!(told(counted(7)).2.unwrap_or_default(), 0.0);
        // A gauge of what is gone does not stay as it was.
        assert_eq!(told(Metrics::default()).1, Some(0.0));
    }
}
