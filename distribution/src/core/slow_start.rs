//! How much a new node gets: the number of calls it may have in flight grows with its answers, as in TCP's slow start.
//!
//! A node says itself how many slots it has. A node that claims a thousand is the least loaded of all. If it never answers,
//! it would hold as many calls as other nodes could have run. So a node begins with a small window for calls that could also
//! go elsewhere. Each answer widens it by one, up to what the node takes. With calls of milliseconds, the window is fully
//! open in less than a second.
//!
//! With calls of an hour it would stay small, and slots must not stay free for so long. So a window that is full of calls
//! which are expected to take ten heartbeats or longer, or whose run time is unknown, doubles with each heartbeat: a node
//! with 64 slots is full after two. All other full windows grow by one with each heartbeat, and so do those whose node has
//! not answered for twice as long as expected. So all slots get work in the end, however much run times vary, while a node
//! that answers nothing gets only one more call with each heartbeat.

use std::time::Duration;

use super::{
    host::Time,
    per_kind::{KINDS, PerKind},
};
use crate::service::method::{MethodId, MethodKind};

/// Requests of each kind that a new node may have in flight. Most machines have no more cores, so most nodes never notice,
/// and it is little of what any caller has to do.
pub(crate) const SLOW_START: u32 = 16;

/// A window of calls that take this many heartbeats or longer doubles. With shorter calls, it grows fast enough by answers.
const LONG_HEARTBEATS: u32 = 10;

/// A node is late if it has not answered for this many times the expected run time of the first request since its last
/// answer.
const LATE_AFTER: u32 = 2;

/// The width of a window that does not limit anything any more.
const OPEN: u32 = u32::MAX;

/// How many requests that could also go elsewhere a node may have in flight.
#[derive(Debug)]
pub(super) struct Window {
    width: PerKind<u32>,
    /// What the node has in flight at most, by the balancing rule. A window of this width is open.
    most: PerKind<u32>,
    /// The first request since the last answer: when it was sent, its method, and how many calls it is. Not the newest
    /// request: each growth of the window brings a new one, which is never late.
    first: PerKind<Option<(Time, MethodId, u32)>>,
    /// When the window was first seen full.
    full_since: PerKind<Option<Time>>,
}

impl Window {
    pub(super) fn new(width: u32, most: PerKind<u32>) -> Self {
        let mut window = Self {
            width: PerKind { compute: width, asynchronous: width },
            most,
            first: PerKind::default(),
            full_since: PerKind::default(),
        };
        KINDS.into_iter().for_each(|kind| window.widen(kind, 0));
        window
    }

    /// How many more requests a node may have in flight, if it has this many now.
    pub(super) fn left(&self, kind: MethodKind, in_flight: u32) -> u32 {
        self.width[kind].saturating_sub(in_flight)
    }

    /// Notes that the node was sent a request.
    pub(super) fn on_sent(&mut self, now: Time, kind: MethodKind, method: MethodId, count: u32) {
        if self.width[kind] != OPEN {
            self.first[kind].get_or_insert((now, method, count));
        }
    }

    /// Notes that the node has answered a request.
    pub(super) fn on_answered(&mut self, kind: MethodKind) {
        self.first[kind] = None;
        self.widen(kind, 1);
    }

    /// Widens the window as time passes, and says whether it is wider than before. `run_time` is the expected run time of a
    /// call of a method.
    pub(super) fn on_look(
        &mut self,
        now: Time,
        heartbeat: Duration,
        in_flight: PerKind<u32>,
        run_time: impl Fn(MethodId) -> Duration,
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
                    let expected = run_time(method).saturating_mul(count);
                    expected >= heartbeat * LONG_HEARTBEATS
                        && now.saturating_sub(sent) <= expected.saturating_mul(LATE_AFTER)
                });
                self.widen(kind, if doubles { self.width[kind] } else { 1 });
            }
        }
        self.width != before
    }

    fn widen(&mut self, kind: MethodKind, by: u32) {
        let width = self.width[kind].saturating_add(by);
        self.width[kind] = if width < self.most[kind] { width } else { OPEN };
    }
}
