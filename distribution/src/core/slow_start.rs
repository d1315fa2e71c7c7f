//! How much a newcomer is given: its calls in flight grow with its answers. (As TCP's slow start.)
//!
//! A node says itself how many slots it has. One that says a thousand is the least loaded of all, and if it never answers,
//! it would hold as many calls as others could have run. So a node begins with a small window of calls that could also go
//! elsewhere, and each answer makes it wider by one, up to what the node takes. Calls of milliseconds open it in less than
//! a second.
//!
//! Calls of an hour do not, and must not leave slots free for so long. So a window that has been full for a heartbeat
//! doubles, unless its calls take longer than expected: a node with 64 slots is full after two heartbeats.
//! Once they take longer than the same method did elsewhere, the window grows by one with each heartbeat. So slots get
//! work in the end wherever run times vary, and a node that answers nothing gets some calls a minute.

use std::time::Duration;

use super::{
    Time,
    balance::PREFETCH_MOST,
    card::NodeCard,
    per_kind::{KINDS, PerKind},
};
use crate::service::method::{MethodId, MethodKind};

/// Requests of each kind that a newcomer may have in flight. As many as most machines have cores, so that most nodes never
/// notice, and little of what any caller has to do.
pub(crate) const SLOW_START: u32 = 16;

/// The newest request may take this many times what is expected before all are late.
const LATE_AFTER: u32 = 2;

/// The width of one that bounds nothing any more.
const OPEN: u32 = u32::MAX;

/// How many requests a node may have in flight of those that could also go elsewhere.
#[derive(Debug)]
pub(super) struct Window {
    width: PerKind<u32>,
    /// The newest request: when it was sent, of which method and of how many calls.
    newest: PerKind<Option<(Time, MethodId, u32)>>,
    /// Since when a look has found it full.
    full_since: PerKind<Option<Time>>,
}

impl Window {
    pub(super) fn new(width: u32, card: &NodeCard) -> Self {
        let mut window = Self {
            width: PerKind { compute: width, asynchronous: width },
            newest: PerKind::default(),
            full_since: PerKind::default(),
        };
        KINDS.into_iter().for_each(|kind| window.widen(kind, 0, card));
        window
    }

    /// How many more a node may have that has this many in flight.
    pub(super) fn left(&self, kind: MethodKind, in_flight: u32) -> u32 {
        self.width[kind].saturating_sub(in_flight)
    }

    /// A request was sent.
    pub(super) fn sent(&mut self, now: Time, kind: MethodKind, method: MethodId, count: u32) {
        if self.width[kind] != OPEN {
            self.newest[kind] = Some((now, method, count));
        }
    }

    /// The node has answered a request.
    pub(super) fn answered(&mut self, kind: MethodKind, card: &NodeCard) {
        self.widen(kind, 1, card);
    }

    /// Lets time count, and says whether the window is wider for it. `takes` is how long a call of a method is expected to
    /// run, by now.
    pub(super) fn look(
        &mut self,
        now: Time,
        heartbeat: Duration,
        in_flight: PerKind<u32>,
        card: &NodeCard,
        takes: impl Fn(MethodId) -> Duration,
    ) -> bool {
        let before = self.width;
        for kind in KINDS {
            if self.left(kind, in_flight[kind]) > 0 {
                self.full_since[kind] = None;
                continue;
            }
            let since = *self.full_since[kind].get_or_insert(now);
            if now.saturating_sub(since) >= heartbeat {
                self.full_since[kind] = Some(now);
                let is_late = self.newest[kind].is_some_and(|(sent, method, count)| {
                    now.saturating_sub(sent) > takes(method).saturating_mul(count).saturating_mul(LATE_AFTER)
                });
                self.widen(kind, if is_late { 1 } else { self.width[kind] }, card);
            }
        }
        self.width != before
    }

    fn widen(&mut self, kind: MethodKind, by: u32, card: &NodeCard) {
        let ahead = if kind == MethodKind::Compute { PREFETCH_MOST } else { 0 };
        let width = self.width[kind].saturating_add(by);
        self.width[kind] = if width < card.limit(kind).saturating_add(ahead) { width } else { OPEN };
    }
}
