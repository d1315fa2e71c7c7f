//! Brings what the core counts to those who ask for it, some of it at a time, so that no event waits for long.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::shared::Shared;
use crate::{
    administration::{
        CallerMetrics, FailureGroup, Metrics, TimelineCursor, TimelineFilter, TimelinePage, TimelineSpan,
    },
    id::{CallerId, MethodName},
    service::method::MethodId,
};

/// How many methods are copied under one hold of the lock. Each has three histograms.
const METHODS_AT_A_TIME: usize = 32;

/// The most spans on a page of the timeline.
const MOST_SPANS: usize = 100_000;

impl Shared {
    /// All that is counted.
    pub(super) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics {
            running_for: self.origin.elapsed(),
            refused_calls: self.refused_calls.view(),
            refused_connections: self.admission.totals().0,
            ..Metrics::default()
        };
        let ids = self.lock().core.called_ids();
        for ids in ids.chunks(METHODS_AT_A_TIME) {
            metrics.methods.extend(self.lock().core.method_metrics(ids));
        }
        let mut after = None;
        loop {
            let (rows, last) = self.lock().core.node_metrics(metrics.running_for, after);
            metrics.nodes.extend(rows);
            if last.is_none() {
                break;
            }
            after = last;
        }
        let callers = self.lock().core.callers_with_calls();
        let names = self.callers.names();
        for caller in callers {
            let calls = self.lock().core.caller_metrics(caller);
            let name = names.get(&caller).cloned();
            if let Some(calls) = calls.filter(|_| name.is_some() || caller == CallerId::MASTER) {
                metrics.callers.push(CallerMetrics { name, first_call: caller.first_call(), calls });
            }
        }
        let locked = self.lock();
        (metrics.gone_nodes, metrics.gone_callers) = locked.core.gone_metrics();
        metrics.forgotten_methods = locked.core.forgotten_metrics();
        drop(locked);
        metrics
    }

    /// The groups of calls that failed, the one that failed last first.
    pub(super) fn failures(&self) -> Vec<FailureGroup> {
        let (now, groups) = (self.origin.elapsed(), self.lock().core.failure_groups());
        let mut names = self.gone_callers.names();
        names.extend(self.callers.names());
        let mut groups: Vec<_> = groups
            .into_iter()
            .map(|group| FailureGroup {
                method: group.method.name().clone(),
                kind: group.kind.to_owned(),
                message: group.message.to_string(),
                call: Some(group.call),
                caller: names.get(&group.caller).cloned(),
                count: group.count,
                first: now.saturating_sub(group.first),
                last: now.saturating_sub(group.last),
            })
            .collect();
        groups.sort_by(|a, b| (a.last, &a.method, &a.kind).cmp(&(b.last, &b.method, &b.kind)));
        groups
    }

    /// A part of the timeline.
    pub(super) fn timeline(&self, filter: &TimelineFilter) -> TimelinePage {
        let now = self.origin.elapsed();
        let since = now.saturating_sub(filter.within);
        // A span of a row that is idle is finished up to two seconds late.
        let from = since.saturating_sub(Duration::from_secs(2));
        let mut next = {
            let locked = self.lock();
            filter.after.map_or(0, |cursor| cursor.0).max(locked.core.first_span_since(from))
        };
        let most = filter.limit.clamp(1, MOST_SPANS);
        let (mut places, mut methods, mut spans) = (FxHashMap::default(), Vec::new(), Vec::new());
        let mut has_more = true;
        while has_more && spans.len() < most {
            let slice = self.lock().core.spans_from(next);
            for finished in &slice.spans {
                next += 1;
                if finished.span.end < since || filter.node.is_some_and(|node| node != finished.node) {
                    continue;
                }
                let method = finished.span.method.and_then(|id| self.place_of(id, &mut places, &mut methods));
                spans.push(TimelineSpan {
                    node: finished.node,
                    row: finished.row,
                    method,
                    start: finished.span.start,
                    length: finished.span.end.saturating_sub(finished.span.start),
                    busy: finished.span.busy,
                    calls: finished.span.calls,
                    failed: finished.span.failed,
                });
                if spans.len() == most {
                    break;
                }
            }
            // Spans that the master has dropped meanwhile are skipped.
            next = next.max(slice.next - slice.spans.len() as u64);
            has_more = slice.has_more || next < slice.next;
        }
        TimelinePage { started: self.started, methods, spans, next: TimelineCursor(next), has_more }
    }

    /// The place of a method in a list of methods, to which it is added if it is new.
    fn place_of(
        &self,
        id: MethodId,
        places: &mut FxHashMap<MethodId, Option<u16>>,
        methods: &mut Vec<MethodName>,
    ) -> Option<u16> {
        *places.entry(id).or_insert_with(|| {
            let name = self.lock().core.method_name(id)?;
            let place = methods.iter().position(|other| *other == name).unwrap_or(methods.len());
            if place == methods.len() {
                methods.push(name);
            }
            u16::try_from(place).ok()
        })
    }
}
