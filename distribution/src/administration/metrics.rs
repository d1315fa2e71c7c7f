//! What a master counts: calls by how they ended, their times and bytes, by method, node and caller.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{histogram::Histogram, methods::MethodKind, vitals::Vitals};
use crate::{
    id::{CallId, NodeId},
    seconds,
    view::NodeState,
};

/// All counts of a master since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Time since the master started.
    #[serde(with = "seconds")]
    pub running_for: Duration,
    /// The methods that were called, in the order in which they were called first. A method of which there are several versions
    /// or structures is listed once for each. At most 4,096 are remembered, beside those that have calls.
    pub methods: Vec<MethodMetrics>,
    /// What was counted of methods that are not remembered any more, all together.
    pub forgotten_methods: CallMetrics,
    /// The nodes that are registered, in the order in which they registered.
    pub nodes: Vec<NodeMetrics>,
    /// What the nodes counted that are gone, all together.
    pub gone_nodes: CallMetrics,
    /// The callers that have made calls: the master's own process first, and then those that have been connected longest.
    pub callers: Vec<CallerMetrics>,
    /// What the callers counted that are gone, all together.
    pub gone_callers: CallMetrics,
    /// Calls that were refused before they were counted with their method and caller.
    pub refused_calls: RefusedCalls,
    /// Connections that were closed before they registered: see [`Stats::turned_away`](crate::Stats::turned_away).
    pub refused_connections: u64,
}

impl Metrics {
    /// What was counted of all methods, those that are not remembered included.
    pub fn all_calls(&self) -> CallMetrics {
        let mut all = self.forgotten_methods.clone();
        self.methods.iter().for_each(|method| all.add(&method.calls));
        all
    }
}

/// Calls of callers in other processes that the master refused when it read them. Each call of a batch counts, and a batch that is
/// sent again counts again. They are not among the calls of their methods and callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedCalls {
    /// The session of the caller had no room for another call.
    pub session: u64,
    /// The caller's credential allows no more calls or bytes at a time.
    pub credential: u64,
    /// The caller may not make the call: see [`Denied`](crate::CallError::Denied).
    pub denied: u64,
}

/// What was counted of one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodMetrics {
    /// The name of its service on the wire.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The version of its service.
    pub version: u32,
    /// How nodes run it, as its callers say.
    pub kind: MethodKind,
    /// How many of its calls wait at the master. Each call of a batch counts.
    pub waiting: usize,
    /// How many of its calls were sent to a node and are not answered yet.
    pub running: usize,
    /// Whether it returns a stream or takes one.
    pub has_streams: bool,
    /// Its calls.
    pub calls: CallMetrics,
}

/// What was counted of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeMetrics {
    /// The node's id.
    pub id: NodeId,
    /// The name that it gave itself.
    pub name: Arc<str>,
    /// Whether it gets new calls.
    pub state: NodeState,
    /// How many compute calls it runs at a time.
    pub slots: u32,
    /// How many slots it cannot use, because handlers of an earlier registration of its process hold them.
    pub held_slots: u32,
    /// How many compute calls it has, those sent ahead of a free slot included, and those whose handlers wait for nested calls
    /// not.
    pub computing: u32,
    /// How many async calls it has.
    pub asynchronous: u32,
    /// How many of its handlers wait for nested calls.
    pub lent: u32,
    /// How often it was ejected because calls failed on it.
    pub ejections: u64,
    /// How its process does, as it said last; `None` until it has.
    pub vitals: Option<Vitals>,
    /// The attempts that were made on it. An attempt whose call is repeated counts here each time.
    pub calls: CallMetrics,
}

/// What was counted of one caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallerMetrics {
    /// The name that it gave itself; `None` for the master's own process.
    pub name: Option<Arc<str>>,
    /// The id of its first call. The ids of all its calls have the same part before the `-`.
    pub first_call: CallId,
    /// Its calls.
    pub calls: CallMetrics,
}

/// What is counted of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallMetrics {
    /// The calls that have ended, by how they did. Each call of a batch counts.
    pub outcomes: Outcomes,
    /// How often calls were sent to a node. Each call of a batch counts.
    pub sent: u64,
    /// How many of these were sent before.
    pub repeated: u64,
    /// How many batches were sent.
    pub batches: u64,
    /// How many second copies of slow batches were made (see [`hedge`](crate::Distributed::hedge)), or, of a node, sent to it.
    pub hedges: u64,
    /// Bytes of arguments that were sent to nodes, again for each attempt.
    pub argument_bytes: u64,
    /// Bytes of values and errors that nodes answered.
    pub reply_bytes: u64,
    /// From when a call was queued until it was sent to a node, for each attempt.
    pub in_queue: Histogram,
    /// Of an attempt that was answered, the time that it was on its way there and back, or waited at the node for a slot: all
    /// the time that it took without that of its handler.
    pub on_the_way: Histogram,
    /// How long the handler ran, decoding and encoding included, as the node says. Each call of a batch counts with the mean
    /// of the batch.
    pub in_handler: Histogram,
}

impl CallMetrics {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        // All by name, so that none is forgotten.
        let Self {
            outcomes,
            sent,
            repeated,
            batches,
            hedges,
            argument_bytes,
            reply_bytes,
            in_queue,
            on_the_way,
            in_handler,
        } = other;
        self.outcomes.add(outcomes);
        self.sent += sent;
        self.repeated += repeated;
        self.batches += batches;
        self.hedges += hedges;
        self.argument_bytes += argument_bytes;
        self.reply_bytes += reply_bytes;
        self.in_queue.add(in_queue);
        self.on_the_way.add(on_the_way);
        self.in_handler.add(in_handler);
    }
}

/// Calls by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcomes {
    /// With a value. Of batches all calls that a node ran and that did not panic: which of them ended with the method's own
    /// error is known to their caller only.
    pub answered: u64,
    /// With the method's own error.
    pub errors: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// The node was lost.
    pub lost: u64,
    /// The time was up.
    pub timed_out: u64,
    /// The caller, or an administrator, has cancelled it, or what made it is gone. Second copies of slow batches that were
    /// not needed any more count too.
    pub cancelled: u64,
    /// It never began: no node serves it, a limit of the queue was met, or its node refused it.
    pub not_run: u64,
    /// In another way.
    pub failed: u64,
}

impl Outcomes {
    /// Each outcome with its name, as metrics are labelled.
    pub fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("answered", self.answered),
            ("error", self.errors),
            ("panicked", self.panicked),
            ("lost", self.lost),
            ("timed_out", self.timed_out),
            ("cancelled", self.cancelled),
            ("not_run", self.not_run),
            ("failed", self.failed),
        ]
    }

    /// All calls that have ended.
    pub fn all(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    /// The calls that have failed: all but those that were answered, ended with the method's own error, or were cancelled.
    pub fn failures(&self) -> u64 {
        self.all() - self.answered - self.errors - self.cancelled
    }

    fn add(&mut self, other: &Self) {
        let Self { answered, errors, panicked, lost, timed_out, cancelled, not_run, failed } = *other;
        self.answered += answered;
        self.errors += errors;
        self.panicked += panicked;
        self.lost += lost;
        self.timed_out += timed_out;
        self.cancelled += cancelled;
        self.not_run += not_run;
        self.failed += failed;
    }
}
