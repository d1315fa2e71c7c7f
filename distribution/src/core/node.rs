//! A registered node, and the attempts that are in flight on it.

use std::{
    ops::{AddAssign, SubAssign},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;

use super::{
    counters::Counters,
    group::{GroupId, IndexEntry, Member, Views},
    health::Health,
    host::{Host, Time},
    node_connection::Absence,
    per_kind::PerKind,
    queue_heads::QueueHeads,
    registration::NodeProfile,
    rows::Rows,
    slow_start::Window,
};
use crate::{
    administration::Vitals,
    id::{CallId, NodeIdentity},
    security::Source,
    service::method::{MethodId, MethodKind},
    view::NodeState,
    wire::handshake::KnownSession,
};

/// A node reports how its process does every second or so. What it said longer ago does not count.
const VITALS_LAST: Duration = Duration::from_secs(5);

/// What a call, or a batch, is expected to cost its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CallCost {
    /// How long it is expected to run.
    pub(super) time: Duration,
    /// Bytes of its arguments.
    pub(super) bytes: usize,
}

impl CallCost {
    /// The least that a call can cost.
    pub(super) const ZERO: Self = Self { time: Duration::ZERO, bytes: 0 };
}

impl AddAssign for CallCost {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
        self.bytes += other.bytes;
    }
}

impl SubAssign for CallCost {
    fn sub_assign(&mut self, other: Self) {
        self.time -= other.time;
        self.bytes -= other.bytes;
    }
}

/// An attempt of a call, or of a batch, that a node has been sent and has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlightAttempt {
    pub(super) call: CallId,
    pub(super) attempt: u32,
    pub(super) method: MethodId,
    pub(super) kind: MethodKind,
    /// How many calls it is.
    pub(super) count: u32,
    pub(super) cost: CallCost,
    pub(super) sent: Time,
    /// Whether its handler waits for a nested call, and takes no slot meanwhile.
    pub(super) is_lent: bool,
}

/// A registered node.
pub(super) struct Node<H: Host> {
    pub(super) identity: NodeIdentity,
    pub(super) profile: Arc<NodeProfile>,
    /// Hash of its name, which places it on the ring of affinity keys.
    pub(super) place: u64,
    pub(super) source: Source,
    pub(super) link: H::Link,
    /// The number of its connection; see [`absence`](super::absence).
    pub(super) connection: u32,
    /// What its process has to name to go on on another connection.
    pub(super) session: Option<KnownSession>,
    /// `Some` while it has no connection.
    pub(super) absence: Option<Absence>,
    pub(super) state: NodeState,
    /// Whether an administrator wants it to get no new calls.
    pub(super) is_cordoned: bool,
    pub(super) in_flight: FxHashMap<(CallId, u32), InFlightAttempt>,
    /// Calls in flight, counting each call of a batch.
    pub(super) calls: usize,
    /// Heads of the queues for this node alone.
    pub(super) heads: PerKind<QueueHeads>,
    pub(super) joined: Time,
    pub(super) silent_for: Duration,
    /// Slots that handlers of an earlier connection hold.
    pub(super) busy: u32,
    pub(super) answered: u64,
    /// Which of its methods cannot be called on it, and why. Found out soon after it has joined.
    pub(super) uncallable: Arc<[String]>,
    /// How often an async handler of it has blocked its thread.
    pub(super) blocked_async: u32,
    pub(super) health: Health,
    /// How many requests it may have in flight that could also go elsewhere.
    pub(super) window: Window,
    pub(super) group: GroupId,
    pub(super) views: Views,
    /// Requests in flight, without those whose handlers wait for nested calls.
    pub(super) counts: PerKind<u32>,
    /// How many of its handlers wait for nested calls.
    pub(super) lent: u32,
    /// What all compute calls in flight are expected to cost, without those whose handlers wait.
    pub(super) backlog: CallCost,
    /// When a compute call ended here last, or the first of those in flight was sent.
    pub(super) last_progress: Time,
    /// Whether its calls take longer than was expected. It is sent nothing ahead of a free slot until one of them ends.
    pub(super) stuck: bool,
    /// What is counted of its attempts; `None` until one was sent.
    pub(super) counters: Option<Box<Counters>>,
    /// How often it was ejected.
    pub(super) ejections: u64,
    /// For how long its slots have been taken, all together, until `slot_time_until`.
    pub(super) slot_time: Duration,
    pub(super) slot_time_until: Time,
    /// What ran on its slots last.
    pub(super) rows: Rows,
    /// How its process does, as it said last.
    pub(super) vitals: Option<(Time, Vitals)>,
    /// What its last reports said of its clock, the newest first.
    pub(super) skews: [f64; 8],
    /// What the indexes of its group have of it.
    pub(super) index_entry: IndexEntry,
}

impl<H: Host> Node<H> {
    /// What is counted of its attempts.
    pub(super) fn counters(&mut self) -> &mut Counters {
        self.counters.get_or_insert_default()
    }

    /// How many of its slots are taken, as far as the master knows.
    pub(super) fn taken_slots(&self) -> u32 {
        self.counts[MethodKind::Compute].saturating_add(self.busy).min(self.profile.slots)
    }

    /// How its process does, if it has said so lately.
    pub(super) fn vitals_at(&self, now: Time) -> Option<Vitals> {
        self.vitals.filter(|(at, _)| now.saturating_sub(*at) < VITALS_LAST).map(|(_, vitals)| vitals)
    }

    /// The number of taken slots changes now, or is asked for.
    pub(super) fn note_slot_time(&mut self, now: Time) {
        let taken = self.taken_slots();
        if taken > 0 {
            self.slot_time += now.saturating_sub(self.slot_time_until) * taken;
        }
        self.slot_time_until = now;
    }

    /// An attempt takes a slot.
    pub(super) fn put_on(&mut self, now: Time, attempt: &InFlightAttempt) {
        self.note_slot_time(now);
        self.counts[attempt.kind] += 1;
        if attempt.kind == MethodKind::Compute {
            self.backlog += attempt.cost;
        }
    }

    /// An attempt takes no slot any more.
    pub(super) fn take_off(&mut self, now: Time, attempt: &InFlightAttempt) {
        self.note_slot_time(now);
        self.counts[attempt.kind] -= 1;
        if attempt.kind == MethodKind::Compute {
            self.backlog -= attempt.cost;
        }
    }

    /// Whether it gets new calls.
    pub(super) fn is_open(&self) -> bool {
        self.state == NodeState::Alive && !self.is_cordoned
    }

    /// The attempts in flight, in reverse order, because they are taken from the end.
    pub(super) fn attempts_in_flight(&self) -> Vec<(CallId, u32)> {
        let mut attempts: Vec<_> = self.in_flight.keys().copied().collect();
        attempts.sort_unstable_by(|a, b| b.cmp(a));
        attempts
    }

    pub(super) fn member(&self) -> Member {
        Member { node: self.identity.id, place: self.place, source: self.source }
    }
}
