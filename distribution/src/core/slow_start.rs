//! How much a newcomer is given: its calls in flight grow with its answers. (As TCP's slow start.)
//!
//! A node says itself how many slots it has. One that says a thousand is the least loaded of all, and if it never answers,
//! it would hold as many calls as others could have run. So a node begins with a small window of calls that could also go
//! elsewhere, and each answer makes it wider by one, up to what the node takes. Calls of milliseconds open it in less than
//! a second.
//!
//! Calls of an hour do not, and must not leave slots free for so long. So while a window is full of calls that are expected
//! to take ten heartbeats or longer, or of which nobody knows how long they take, it doubles with each heartbeat: a node
//! with 64 slots is full after two. Other windows, and those whose node has not answered for twice as long as expected,
//! grow by one with each heartbeat. So slots get work in the end wherever run times vary, and a node that answers nothing
//! gets one more call with each heartbeat.

use std::time::Duration;

use super::{
    Time,
    balance::PREFETCH_MOST,
    card::NodeProfile,
    per_kind::{KINDS, PerKind},
};
use crate::service::method::{MethodId, MethodKind};

/// Requests of each kind that a newcomer may have in flight. As many as most machines have cores, so that most nodes never
/// notice, and little of what any caller has to do.
pub(crate) const SLOW_START: u32 = 16;

/// Calls that take this many heartbeats are not waited for: until then a window grows by its answers fast enough.
const LONG: u32 = 10;

/// A node may go without an answer for this many times what the first request since the last one is expected to take.
const LATE_AFTER: u32 = 2;

/// The width of one that bounds nothing any more.
const OPEN: u32 = u32::MAX;

/// How many requests a node may have in flight of those that could also go elsewhere.
#[derive(Debug)]
pub(super) struct Window {
    width: PerKind<u32>,
    /// The first request since the last answer: when it was sent, of which method and of how many calls. Not the newest:
    /// each widening brings a new one, which is never late.
    first: PerKind<Option<(Time, MethodId, u32)>>,
    /// Since when a look has found it full.
    full_since: PerKind<Option<Time>>,
}

impl Window {
    pub(super) fn new(width: u32, card: &NodeProfile) -> Self {
        let mut window = Self {
            width: PerKind { compute: width, asynchronous: width },
            first: PerKind::default(),
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
            self.first[kind].get_or_insert((now, method, count));
        }
    }

    /// The node has answered a request.
    pub(super) fn answered(&mut self, kind: MethodKind, card: &NodeProfile) {
        self.first[kind] = None;
        self.widen(kind, 1, card);
    }

    /// Lets time count, and says whether the window is wider for it. `takes` is how long a call of a method is expected to
    /// run, by now.
    pub(super) fn look(
        &mut self,
        now: Time,
        heartbeat: Duration,
        in_flight: PerKind<u32>,
        card: &NodeProfile,
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
                let doubles = self.first[kind].is_some_and(|(sent, method, count)| {
                    let takes = takes(method).saturating_mul(count);
                    takes >= heartbeat * LONG && now.saturating_sub(sent) <= takes.saturating_mul(LATE_AFTER)
                });
                self.widen(kind, if doubles { self.width[kind] } else { 1 }, card);
            }
        }
        self.width != before
    }

    fn widen(&mut self, kind: MethodKind, by: u32, card: &NodeProfile) {
        let ahead = if kind == MethodKind::Compute { PREFETCH_MOST } else { 0 };
        let width = self.width[kind].saturating_add(by);
        self.width[kind] = if width < card.limit(kind).saturating_add(ahead) { width } else { OPEN };
    }
}
