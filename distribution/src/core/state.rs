//! The state machine's state.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::SmallRng};
use rustc_hash::FxHashMap;

use super::{
    called_methods::CalledMethods,
    calls::{CallCursor, Calls},
    counters::Books,
    deferred::{DeferredWork, DepartedNode},
    dependents::Dependents,
    failure_groups::FailureGroups,
    health::Failures,
    host::{Host, Time},
    liveness_scan::LivenessScan,
    queue_ids::QueueId,
    queues::Queues,
    registry::Registry,
    settings::Settings,
    stopping_calls::Stopping,
    timeline::Timeline,
    unserved::UnservedReason,
};
use crate::{
    id::{CallId, NodeId},
    service::{method::MethodId, options::Labels},
    view::Stats,
};

/// What is to happen at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A call's time is up.
    Deadline(CallId),
    /// A call that backed off is queued again.
    Retry(CallId),
    /// Calls of a queue have waited long enough for a node.
    Unserved(QueueId),
    /// A node gets calls again.
    EndEjection(NodeId),
    /// A node that was ejected gets more calls.
    GrowAllowance(NodeId),
    /// A node whose connection has broken has had long enough to come back.
    Absent(NodeId),
    /// A handler has had long enough to stop.
    Overdue(CallId),
}

/// The state machine.
pub(crate) struct Core<H: Host> {
    pub(super) settings: Settings,
    pub(super) registry: Registry<H>,
    pub(super) calls: Calls<H>,
    /// Calls that have ended, and whose handlers run.
    pub(super) stopping: Stopping,
    pub(super) queues: Queues,
    pub(super) dependents: Dependents,
    /// Calls that are queued again after a while.
    pub(super) backing_off: usize,
    /// Methods that have been called, each with its service and the number of its calls.
    pub(super) called: CalledMethods,
    /// Mean run time of each method, by its replies.
    pub(super) run_times: FxHashMap<MethodId, Duration>,
    pub(super) timers: BTreeSet<(Time, Timer)>,
    /// Work that earlier events have left.
    pub(super) deferred: DeferredWork,
    /// Why no node serves calls that are in no queue which keeps the reason. Valid until a node joins or leaves.
    pub(super) unserved_reasons: FxHashMap<(MethodId, Option<NodeId>, Labels), Arc<UnservedReason>>,
    /// Nodes that are gone, while some of their calls are still to be dealt with.
    pub(super) departed: FxHashMap<NodeId, Arc<DepartedNode>>,
    pub(super) liveness: LivenessScan,
    pub(super) failures: Failures,
    pub(super) rng: SmallRng,
    pub(super) next_call: u64,
    pub(super) next_node: u32,
    /// How many calls have been submitted.
    pub(super) submitted: u64,
    pub(super) stats: Stats,
    pub(super) books: Books,
    pub(super) failure_groups: FailureGroups,
    pub(super) timeline: Timeline,
    pub(super) shutting_down: bool,
    /// How far a shutdown has come with the calls that wait, and then with all others.
    pub(super) end_waiting: CallCursor,
    pub(super) end_all: CallCursor,
}

impl<H: Host> Core<H> {
    pub(crate) fn new(settings: Settings) -> Self {
        let first = CallId::first(settings.epoch);
        Self {
            rng: SmallRng::seed_from_u64(settings.seed),
            registry: Registry::new(settings.ring_key),
            calls: Calls::new(settings.seed),
            settings,
            stopping: Stopping::default(),
            queues: Queues::default(),
            dependents: Dependents::default(),
            backing_off: 0,
            called: CalledMethods::default(),
            run_times: FxHashMap::default(),
            timers: BTreeSet::new(),
            deferred: DeferredWork::default(),
            unserved_reasons: FxHashMap::default(),
            departed: FxHashMap::default(),
            liveness: LivenessScan::default(),
            failures: Failures::default(),
            next_call: first.0,
            next_node: 0,
            submitted: 0,
            stats: Stats::default(),
            books: Books::default(),
            failure_groups: FailureGroups::default(),
            timeline: Timeline::default(),
            shutting_down: false,
            end_waiting: CallCursor::default(),
            end_all: CallCursor::default(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { queued: self.queues.waiting + self.backing_off, in_flight: self.registry.in_flight, ..self.stats }
    }
}

impl<H: Host> fmt::Debug for Core<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("nodes", &self.registry.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
