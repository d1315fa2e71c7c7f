//! The last span of each row of a node's timeline, into which more calls may be put.

use std::time::Duration;

use super::host::Time;
use crate::service::method::MethodId;

/// How many rows a node has at most.
pub(super) const MOST_ROWS: usize = 64;

/// A handler that ran for longer has a span of its own.
pub(super) const SHORT: Duration = Duration::from_millis(100);

/// Short calls are put together up to this length.
pub(super) const ONE_SPAN: Duration = Duration::from_secs(1);

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
    pub(super) fn take_in(&mut self, next: &Self) -> bool {
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

/// The last span of each row of a node. More calls may be put into it.
#[derive(Debug, Default)]
pub(super) struct Rows(pub(super) Vec<Option<Span>>);

impl Rows {
    /// The first row that was free when this began, or, if there is none, the one that was free first.
    pub(super) fn row_for(&mut self, start: Time, most: usize) -> usize {
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
