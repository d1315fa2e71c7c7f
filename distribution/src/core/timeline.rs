//! What compute handlers ran on each node, and when: a row for each slot.
//!
//! An answer says how long its handler ran, so it ran until shortly before now. It is put into the first row of its node that
//! was free by then. Short calls of a row that follow each other are put together, so that a row makes few spans, however many
//! calls there are.

use std::{collections::VecDeque, time::Duration};

use super::{
    host::{Host, Time},
    metrics::Ended,
    node::Node,
    state::Core,
};
use crate::{id::NodeId, service::method::MethodId, wire::Reply};

/// How many spans are kept. With [`ONE_SPAN`] this is an hour of about 55 slots that are never free, in 13 MB.
const MOST_SPANS: usize = 200_000;

/// How many rows a node has at most.
const MOST_ROWS: usize = 64;

/// A handler that ran for longer has a span of its own.
const SHORT: Duration = Duration::from_millis(100);

/// Short calls are put together up to this length.
const ONE_SPAN: Duration = Duration::from_secs(1);

/// A time in which a slot was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// `None` if it has calls of several methods.
    pub(crate) method: Option<MethodId>,
    pub(crate) start: Time,
    pub(crate) end: Time,
    /// For how much of it handlers ran.
    pub(crate) busy: Duration,
    pub(crate) calls: u32,
    pub(crate) failed: u32,
}

impl Span {
    /// Puts another one behind this one, if both are short enough.
    fn take_in(&mut self, next: &Self) -> bool {
        let fits = next.start < self.end + SHORT
            && next.end.saturating_sub(self.start) <= ONE_SPAN
            && self.busy / self.calls.max(1) < SHORT
            && next.busy / next.calls.max(1) < SHORT;
        if fits {
            self.method = self.method.filter(|method| next.method == Some(*method));
            self.end = self.end.max(next.end);
            self.busy += next.busy;
            self.calls = self.calls.saturating_add(next.calls);
            self.failed = self.failed.saturating_add(next.failed);
        }
        fits
    }
}

/// A span that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedSpan {
    pub(crate) node: NodeId,
    pub(crate) row: u16,
    pub(crate) span: Span,
}

/// The last span of each row of a node. More calls may be put into it.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Option<Span>>);

impl Rows {
    /// The first row that was free when this began, or, if there is none, the one that was free first.
    fn row_for(&mut self, start: Time, most: usize) -> usize {
        let is_free = |row: &Option<Span>| row.is_none_or(|last| last.end <= start);
        if let Some(free) = self.0.iter().position(is_free) {
            return free;
        }
        if self.0.len() < most {
            self.0.push(None);
            return self.0.len() - 1;
        }
        let free_at = |row: &Option<Span>| row.map_or(Time::ZERO, |last| last.end);
        (0..self.0.len()).min_by_key(|row| free_at(&self.0[*row])).unwrap_or_default()
    }
}

/// The newest spans of all nodes.
#[derive(Debug)]
pub(super) struct Timeline {
    spans: VecDeque<FinishedSpan>,
    /// How many spans there were before the first of these.
    dropped: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        // All at once, though the system gives memory as it is used: to move them as they grow in number would take long.
        Self { spans: VecDeque::with_capacity(MOST_SPANS), dropped: 0 }
    }
}

impl Timeline {
    fn push(&mut self, node: NodeId, row: usize, span: Span) {
        if self.spans.len() == MOST_SPANS {
            self.spans.pop_front();
            self.dropped += 1;
        }
        self.spans.push_back(FinishedSpan { node, row: row as u16, span });
    }

    /// A compute handler of this node has run.
    pub(super) fn on_ran<H: Host>(
        &mut self,
        now: Time,
        node: &mut Node<H>,
        method: MethodId,
        reply: &Reply,
        ended: Ended,
    ) {
        let failed = match ended {
            Ended::Answered { panicked } => panicked,
            _ => reply.count,
        };
        let (calls, busy) = (reply.count, reply.run);
        let mut span = Span { method: Some(method), start: now.saturating_sub(busy), end: now, busy, calls, failed };
        let row = node.rows.row_for(span.start, (node.profile.slots as usize).clamp(1, MOST_ROWS));
        if let Some(last) = &mut node.rows.0[row] {
            if last.take_in(&span) {
                return;
            }
            span.start = span.start.max(last.end);
            self.push(node.identity.id, row, *last);
        }
        node.rows.0[row] = Some(span);
    }

    /// Ends the spans of a node that nothing can be put into any more, or all of them if the node is gone.
    pub(super) fn finish(&mut self, now: Time, node: NodeId, rows: &mut Rows, all: bool) {
        for (row, last) in rows.0.iter_mut().enumerate() {
            if let Some(span) =
                last.take_if(|span| all || span.end + SHORT <= now || span.end.saturating_sub(span.start) > ONE_SPAN)
            {
                self.push(node, row, span);
            }
        }
    }
}

/// Some spans of the timeline.
#[derive(Debug)]
pub(crate) struct SpanSlice {
    pub(crate) spans: Vec<FinishedSpan>,
    /// The number of the span behind these.
    pub(crate) next: u64,
    /// Whether there are more.
    pub(crate) has_more: bool,
}

impl<H: Host> Core<H> {
    /// The spans from this number on, as many as can be copied under one hold of the lock.
    pub(crate) fn spans_from(&self, number: u64) -> SpanSlice {
        let timeline = &self.timeline;
        let skipped = usize::try_from(number.saturating_sub(timeline.dropped)).unwrap_or(usize::MAX);
        let skipped = skipped.min(timeline.spans.len());
        let most = self.settings.slice * 8;
        let spans: Vec<_> = timeline.spans.range(skipped..).take(most).copied().collect();
        let next = timeline.dropped + (skipped + spans.len()) as u64;
        SpanSlice { has_more: skipped + spans.len() < timeline.spans.len(), spans, next }
    }

    /// The number of the first span that ended at this time or later.
    pub(crate) fn first_span_since(&self, time: Time) -> u64 {
        let timeline = &self.timeline;
        timeline.dropped + timeline.spans.partition_point(|finished| finished.span.end < time) as u64
    }
}
