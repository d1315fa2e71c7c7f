//! Lists the calls, the oldest first, some at a time.
//!
//! A page looks at calls in the order in which they were submitted. Their ids have no such order: each caller counts its
//! own. Why a call waits follows from its queue, so it is found out once for all calls of a queue that are on the same
//! page.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{
    call::{CallEntry, CallLocation},
    host::{Host, HostCall as _, Time},
    queue_ids::QueueId,
    queues::{Queue, Scope},
    state::Core,
    stopping_calls::StoppingCall,
};
use crate::{
    administration::{CallCursor, CallFilter, CallInfo, CallStatus, StatusFilter, WaitReason},
    id::{CallId, NodeId},
    service::metadata::{self, Metadata},
    view::NodeState,
};

/// Calls that are looked at under one hold of the lock, for each that a slice may deal with: to skip a call takes less
/// time than to list it.
const SKIPPED: usize = 4;

/// Some calls.
#[derive(Debug)]
pub(crate) struct CallSlice {
    pub(crate) calls: Vec<CallInfo>,
    /// The last call that was looked at; `None` if there are no more.
    pub(crate) last: Option<CallCursor>,
    /// How many were looked at.
    pub(crate) looked_at: usize,
}

/// Why the calls of some queues wait.
type Reasons = FxHashMap<QueueId, WaitReason>;

impl<H: Host> Core<H> {
    /// The next calls after [`CallFilter::after`], `most` of those that the filter wants, or fewer, as many as can be
    /// listed under one hold of the lock.
    pub(crate) fn call_infos(&self, now: Time, filter: &CallFilter, most: usize) -> CallSlice {
        let mut slice = CallSlice { calls: Vec::new(), last: None, looked_at: 0 };
        let mut left = self.settings.slice * SKIPPED;
        let mut reasons = Reasons::default();
        let after = filter.after.map(|CallCursor(number)| number);
        for (number, id) in in_order(self.calls.after(after), self.stopping.after(after)) {
            if left == 0 || slice.calls.len() == most {
                return slice;
            }
            left -= 1;
            slice.looked_at += 1;
            slice.last = Some(CallCursor(number));
            let listed = match (self.calls.get(&id), self.stopping.get(id)) {
                (Some(call), _) if is_younger(now, call.made(), filter) => break,
                (None, Some(call)) if is_younger(now, call.made, filter) => break,
                (Some(call), _) => self.info(now, id, call, filter, &mut reasons),
                (None, Some(call)) => self.stopping_info(now, id, call, filter),
                (None, None) => None,
            };
            if let Some(listed) = listed {
                slice.calls.push(listed);
                left = left.saturating_sub(SKIPPED - 1);
            }
        }
        slice.last = None;
        slice
    }

    /// A call that has not ended.
    pub(crate) fn call_info(&self, now: Time, id: CallId) -> Option<CallInfo> {
        let call = self.calls.get(&id)?;
        self.info(now, id, call, &CallFilter::default(), &mut Reasons::default())
    }

    fn info(
        &self,
        now: Time,
        id: CallId,
        call: &CallEntry<H>,
        filter: &CallFilter,
        reasons: &mut Reasons,
    ) -> Option<CallInfo> {
        if !filter.lists_method(call.method.name()) || !self.is_at(call, filter.node) {
            return None;
        }
        let is_running = matches!(call.location, CallLocation::InFlight(_));
        let is_wanted = match filter.status {
            None => true,
            Some(StatusFilter::Waiting) => !is_running,
            Some(StatusFilter::Running) => is_running,
            Some(StatusFilter::Stopping) => false,
        };
        is_wanted.then(|| CallInfo {
            id,
            method: call.method.name().clone(),
            // The core knows callers by their numbers only.
            caller: None,
            parent: call.parent(),
            age: now.saturating_sub(call.made()),
            size: call.demand.size,
            metadata: listed(&call.handle.metadata()),
            trace: call.handle.trace().map(|trace| trace.id()),
            count: call.count(),
            failed_attempts: call.failed_attempts.len() as u32,
            status: self.status(now, id, call, reasons),
        })
    }

    fn stopping_info(&self, now: Time, id: CallId, call: &StoppingCall, filter: &CallFilter) -> Option<CallInfo> {
        let is_wanted = filter.lists_method(call.method.name())
            && filter.node.is_none_or(|node| node == call.node)
            && filter.status.is_none_or(|status| status == StatusFilter::Stopping);
        let node = self.identity_of(call.node).filter(|_| is_wanted)?;
        Some(CallInfo {
            id,
            method: call.method.name().clone(),
            caller: None,
            parent: None,
            age: now.saturating_sub(call.made),
            size: call.size,
            metadata: listed(&call.metadata),
            trace: call.trace.map(|trace| trace.id()),
            count: call.count,
            failed_attempts: call.failed_attempts,
            status: CallStatus::Stopping { node, stopping_for: now.saturating_sub(call.since) },
        })
    }

    /// Whether the node has the call, or the call has to run there.
    fn is_at(&self, call: &CallEntry<H>, node: Option<NodeId>) -> bool {
        let Some(wanted) = node else { return true };
        match call.location {
            CallLocation::InFlight(node) => node == wanted,
            CallLocation::Queued(queue) => self
                .queues
                .get(queue)
                .is_some_and(|queue| matches!(queue.scope, Scope::Node { node, .. } if node == wanted)),
            CallLocation::BackingOff(_) | CallLocation::Unplaced => call.demand.node == Some(wanted),
        }
    }

    fn status(&self, now: Time, id: CallId, call: &CallEntry<H>, reasons: &mut Reasons) -> CallStatus {
        let why = match call.location {
            CallLocation::InFlight(node) => {
                let node = self.registry.node(node);
                let attempt = node.and_then(|node| node.in_flight.get(&(id, call.attempt)));
                if let (Some(node), Some(attempt)) = (node, attempt) {
                    let running_for = now.saturating_sub(attempt.sent);
                    return CallStatus::Running { node: node.identity.clone(), attempt: call.attempt, running_for };
                }
                // Its node was lost, and deferred work decides about the call.
                WaitReason::Placing
            }
            CallLocation::Queued(id) => match self.queues.get(id) {
                Some(queue) => reasons.entry(id).or_insert_with(|| self.why_waiting(queue)).clone(),
                None => WaitReason::Placing,
            },
            CallLocation::BackingOff(until) => match call.failed_attempts.last() {
                Some(failed) => WaitReason::BackingOff {
                    attempt: failed.attempt,
                    node: failed.node.clone(),
                    left: until.saturating_sub(now),
                },
                None => WaitReason::Placing,
            },
            CallLocation::Unplaced => WaitReason::Placing,
        };
        CallStatus::Waiting { why }
    }

    /// Why the calls of a queue wait.
    fn why_waiting(&self, queue: &Queue) -> WaitReason {
        if queue.closed.is_some() {
            return WaitReason::Placing;
        }
        match &queue.scope {
            Scope::Node { node, .. } => match self.registry.node(*node) {
                None => WaitReason::Placing,
                Some(node) => {
                    let identity = node.identity.clone();
                    match node.state {
                        _ if node.is_cordoned => WaitReason::NodeCordoned { node: identity },
                        NodeState::Suspect => WaitReason::NodeSuspect { node: identity },
                        NodeState::Disconnected => WaitReason::NodeDisconnected { node: identity },
                        _ => WaitReason::NodeBusy { node: identity },
                    }
                }
            },
            Scope::Any { labels, .. } => {
                let method = queue.method.id();
                if self.is_filling(method, labels) {
                    return WaitReason::Placing;
                }
                let found = self.registry.availability(method, labels, queue.avoided());
                let nodes = self.registry.serving(method);
                match (found.all(), labels) {
                    (0, Some(labels)) if nodes > 0 => WaitReason::NoLabel { labels: labels.clone(), nodes },
                    (0, _) => WaitReason::NoNode,
                    _ => found.why(),
                }
            }
        }
    }
}

/// Metadata as administrators see it.
fn listed(metadata: &Metadata) -> BTreeMap<String, String> {
    metadata::entries(metadata).iter().cloned().collect()
}

/// Whether a call is younger than the filter wants. Then so are all calls after it.
fn is_younger(now: Time, made: Time, filter: &CallFilter) -> bool {
    now.saturating_sub(made) < filter.older_than
}

/// Two lists that are in order, as one. A call is in one of them only.
fn in_order(
    one: impl Iterator<Item = (u64, CallId)>,
    other: impl Iterator<Item = (u64, CallId)>,
) -> impl Iterator<Item = (u64, CallId)> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(first), Some(second)) if second < first => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}
