//! What compute handlers ran on each node, and when: a row for each slot.
//!
//! An answer says how long its handler ran, so it ran until shortly before now. It is put into the first row of its node that
//! was free by then. Short calls of a row that follow each other are put together, so that a row makes few spans, however many
//! calls there are.

use std::collections::VecDeque;

use super::{
    counters::Ended,
    host::{Host, Time},
    node::Node,
    rows::{MOST_ROWS, ONE_SPAN, Rows, SHORT, Span},
};
use crate::{id::NodeId, service::method::MethodId, wire::Reply};

/// How many spans are kept. With [`ONE_SPAN`] this is an hour of about 55 slots that are never free, in 18 MB.
const MOST_SPANS: usize = 200_000;

/// A span that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedSpan {
    pub(crate) node: NodeId,
    pub(crate) row: u16,
    pub(crate) span: Span,
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

    /// The spans from this number on, this many at most.
    pub(super) fn slice(&self, number: u64, most: usize) -> SpanSlice {
        let skipped = usize::try_from(number.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.spans.len());
        let spans: Vec<_> = self.spans.range(skipped..).take(most).copied().collect();
        let next = self.dropped + (skipped + spans.len()) as u64;
        SpanSlice { has_more: skipped + spans.len() < self.spans.len(), spans, next }
    }

    /// The number of the first span that ended at this time or later.
    pub(super) fn first_since(&self, time: Time) -> u64 {
        self.dropped + self.spans.partition_point(|finished| finished.span.end < time) as u64
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
