//! Counts calls and attempts, by method, node and caller.
//!
//! Each call is counted when it is sent, when its attempt is answered, and when it ends. The counts lie where an event has been
//! anyway: those of a method with the number of its calls ([`called_methods`](super::called_methods)), those of a node in the
//! node.

use super::{
    call::{CallEntry, goes_on_one_by_one},
    counters::{Answered, Counters, Ended},
    host::{Host, Time},
    node::InFlightAttempt,
    state::Core,
};
use crate::{
    error::CallError,
    id::{CallId, CallerId, NodeId},
    service::method::MethodKind,
    wire::{Outcome, Reply},
};

impl<H: Host> Core<H> {
    /// An attempt was answered. `ran` says whether its handler was started, and `caller` who waits for it, if somebody does.
    pub(super) fn count_answer(
        &mut self,
        now: Time,
        node: NodeId,
        attempt: &InFlightAttempt,
        (reply, ran): (&Reply, bool),
        caller: Option<CallerId>,
    ) {
        let ended = Ended::of_attempt(reply);
        let answered = Answered::new(reply, now.saturating_sub(attempt.sent));
        let method = attempt.method;
        if let Some(node) = self.registry.node_mut(node) {
            let counters = node.counters();
            // A refusal is of the whole batch.
            counters.on_ended(ended, if ran { reply.count } else { attempt.count });
            if ran {
                counters.on_answered(&answered);
                if attempt.kind == MethodKind::Compute {
                    self.timeline.on_ran(now, node, method, reply, ended);
                }
            }
        }
        if ran {
            if let Some(counters) = self.called.counters(method) {
                counters.on_answered(&answered);
            }
            if let Some(caller) = caller {
                self.books.of(caller).on_answered(&answered);
            }
        }
    }

    /// An attempt was not written to its end.
    pub(super) fn count_unsent(&mut self, node: NodeId, attempt: &InFlightAttempt) {
        if let Some(node) = self.registry.node_mut(node) {
            node.counters().on_ended(Ended::NotRun, attempt.count);
        }
    }

    /// A node will not start more than the first `kept` calls of a batch. The others are not its calls any more.
    pub(super) fn count_given_back(&mut self, node: NodeId, key: (CallId, u32), kept: u32) {
        let given_back = self.registry.shorten(node, key, kept);
        if let Some(node) = self.registry.node_mut(node) {
            node.counters().on_ended(Ended::NotRun, given_back);
        }
    }

    /// A call has ended with a value or its method's own error; of a batch, as many calls as the reply says.
    pub(super) fn count_reply(&mut self, id: CallId, call: &CallEntry<H>, reply: &Reply) {
        let panicked = reply.panicked.min(reply.count);
        // Those of a batch that panicked are made again, one by one, if the caller wants that. Then they have not ended.
        let is_repeated = call.demand.retry_panics && call.method.is_idempotent() && call.demand.node.is_none();
        if is_repeated && call.demand.count > 1 && matches!(reply.outcome, Outcome::Value) {
            return self.count_end(call, Ended::Answered { panicked: 0 }, reply.count - panicked);
        }
        self.count_end(call, Ended::of_attempt(reply), reply.count);
        if panicked > 0 {
            // What they said is for their callers.
            self.failure_groups.on_panics_in_batch(id, call, panicked);
        }
    }

    /// A call has ended; of a batch, this many calls.
    pub(super) fn count_end(&mut self, call: &CallEntry<H>, ended: Ended, count: u32) {
        match ended {
            Ended::Answered { .. } | Ended::Error => self.stats.answered += u64::from(count),
            Ended::Cancelled => self.stats.cancelled += u64::from(count),
            _ => self.stats.failed += u64::from(count),
        }
        if let Some(counters) = self.called.counters(call.method.id()) {
            counters.on_ended(ended, count);
        }
        self.books.of(call.demand.caller).on_ended(ended, count);
    }

    /// A call has ended with an error that is not the method's own.
    pub(super) fn count_failure(&mut self, id: CallId, call: &CallEntry<H>, error: &CallError) {
        if goes_on_one_by_one(call, error) {
            return;
        }
        let ended = Ended::with(error);
        self.count_end(call, ended, call.count());
        if ended != Ended::Cancelled {
            self.failure_groups.on_failure(id, call, error);
        }
    }

    /// A node is gone, and has left this many calls unanswered.
    pub(super) fn count_gone_node(&mut self, counters: Option<Box<Counters>>, unanswered: usize) {
        let mut counters = counters.unwrap_or_default();
        counters.on_ended(Ended::Lost, u32::try_from(unanswered).unwrap_or(u32::MAX));
        self.books.gone_nodes.add(&counters.view());
    }

    /// A caller in another process is gone.
    pub(super) fn count_gone_caller(&mut self, caller: CallerId) {
        self.books.on_caller_gone(caller);
    }
}
