//! The calls that wait.
//!
//! Calls that wait for the same thing are in one queue, in the order in which they are taken: those of one method, for either any node
//! (with certain labels, except certain nodes) or one node. A node with a free slot takes the first call of a queue or none
//! of it, and never looks at the others. It finds the first calls in its [`QueueHeads`](super::queue_heads::QueueHeads).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    avoidance::AvoidedNodes,
    queue_heads::{HeadChange, Place, TakenBy},
    queue_ids::{QueueId, Seq, ServiceId},
    turns::CallerTurns,
    unserved::Unserved,
};
use crate::{
    hash::hash,
    id::{CallId, CallerId, NodeId},
    service::{
        method::{MethodId, MethodInfo},
        options::Labels,
    },
};

/// How many services take turns of their own. Callers elsewhere may name ever new services; those beyond this number share
/// the turns of others.
pub(super) const MOST_SERVICES: usize = 4096;

/// What the calls of a queue wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Any node that has the labels, except those to avoid.
    Any { labels: Labels, avoid: AvoidedNodes },
    /// This node: named by the caller if `exact`, otherwise chosen by the affinity key of the calls.
    Node { node: NodeId, exact: bool },
}

/// Calls of one method that wait for the same thing.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) method: Arc<MethodInfo>,
    pub(super) service: ServiceId,
    pub(super) scope: Scope,
    /// Whether its calls may go to the nodes that they avoid, because no other node serves them. Reviewed as nodes join
    /// and leave, by deferred work.
    pub(super) lapsed: bool,
    pub(super) calls: BTreeMap<Seq, CallId>,
    /// Set while no node serves the calls.
    pub(super) unserved: Option<Unserved>,
    /// Why the node of these calls takes no more. Deferred work moves them out.
    pub(super) closed: Option<Arc<str>>,
}

impl Queue {
    pub(super) fn head(&self) -> Option<Seq> {
        self.calls.first_key_value().map(|(seq, _)| *seq)
    }

    /// Where nodes look for its head.
    pub(super) fn place(&self) -> Place {
        let (taken_by, labels, avoid) = match &self.scope {
            _ if self.closed.is_some() => (TakenBy::Nobody, None, None),
            Scope::Node { node, .. } => (TakenBy::Node(*node), None, None),
            Scope::Any { labels, avoid } => (TakenBy::Groups, labels.clone(), avoid.clone()),
        };
        Place { method: self.method.id(), service: self.service, labels, avoid, lapsed: self.lapsed, taken_by }
    }

    /// The nodes that its calls are not for.
    pub(super) fn avoided(&self) -> &[NodeId] {
        match &self.scope {
            Scope::Any { avoid: Some(avoid), .. } if !self.lapsed => avoid,
            Scope::Any { .. } | Scope::Node { .. } => &[],
        }
    }
}

/// All queues, and the calls that wait in them.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Not a hash table, which moves all its entries as it grows: each call that avoids nodes may have a queue of its
    /// own.
    queues: BTreeMap<QueueId, Box<Queue>>,
    by_scope: BTreeMap<(MethodId, Scope), QueueId>,
    next_queue: u64,
    services: FxHashMap<Box<str>, ServiceId>,
    /// When each service was served last, so that services take turns.
    turns: Vec<u64>,
    turn: u64,
    /// The turns of callers.
    pub(super) callers: CallerTurns,
    /// Queues whose calls avoid some nodes.
    pub(super) avoiding: BTreeSet<QueueId>,
    /// Those of them that are [`lapsed`](Queue::lapsed).
    pub(super) lapsed: BTreeSet<QueueId>,
    /// Queues that no node serves.
    pub(super) unserved: BTreeSet<QueueId>,
    /// All calls that wait.
    pub(super) waiting: usize,
    /// The calls that count towards the limits.
    pub(super) limited: Amount,
    /// Those of them that each caller in another process has made, for callers that have any.
    pub(super) limited_of: FxHashMap<CallerId, Amount>,
}

/// A number of calls, and the bytes of their arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) calls: usize,
    pub(super) bytes: usize,
}

impl Amount {
    pub(super) fn add(&mut self, size: usize) {
        self.calls += 1;
        self.bytes += size;
    }

    fn subtract(&mut self, size: usize) {
        self.calls -= 1;
        self.bytes -= size;
    }
}

/// What a queue needs to know of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) seq: Seq,
    pub(super) id: CallId,
    pub(super) size: usize,
    pub(super) caller: CallerId,
    pub(super) is_nested: bool,
    /// Whether it counts towards the limits of the queue.
    pub(super) is_limited: bool,
}

impl Queues {
    /// The turns that a service takes.
    pub(super) fn service(&mut self, name: &str) -> ServiceId {
        if let Some(service) = self.services.get(name) {
            return *service;
        }
        let known = self.turns.len();
        if known >= MOST_SERVICES {
            return ServiceId((hash(name.as_bytes()) % known as u64) as u32);
        }
        self.turns.push(0);
        let service = ServiceId(known as u32);
        self.services.insert(name.into(), service);
        service
    }

    /// Notes that a service was served, so that all others come first.
    pub(super) fn end_turn(&mut self, service: ServiceId) {
        self.turn += 1;
        if let Some(turn) = self.turns.get_mut(service.0 as usize) {
            *turn = self.turn;
        }
    }

    /// When a service was served last.
    pub(super) fn turn(&self, service: ServiceId) -> u64 {
        self.turns.get(service.0 as usize).copied().unwrap_or(0)
    }

    pub(super) fn get(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.queues.get_mut(&id).map(Box::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (QueueId, &Queue)> {
        self.queues.iter().map(|(id, queue)| (*id, &**queue))
    }

    /// Puts a call into the queue for its method and scope. `lapses` says whether a new queue is
    /// [`lapsed`](Queue::lapsed).
    pub(super) fn push(
        &mut self,
        method: &Arc<MethodInfo>,
        service: ServiceId,
        scope: Scope,
        call: Waiting,
        lapses: impl FnOnce(&Scope) -> bool,
    ) -> (QueueId, Option<Place>, HeadChange) {
        let id = *self.by_scope.entry((method.id(), scope.clone())).or_insert_with(|| {
            let id = QueueId(self.next_queue);
            self.next_queue += 1;
            let avoids = matches!(scope, Scope::Any { avoid: Some(_), .. });
            let lapsed = avoids && lapses(&scope);
            if avoids {
                self.avoiding.insert(id);
            }
            if lapsed {
                self.lapsed.insert(id);
            }
            let calls = BTreeMap::new();
            let method = Arc::clone(method);
            let queue = Queue { method, service, scope, lapsed, calls, unserved: None, closed: None };
            self.queues.insert(id, Box::new(queue));
            id
        });
        self.waiting += 1;
        if !call.is_nested {
            self.callers.on_queued(service, call.caller, call.seq);
        }
        if call.is_limited {
            self.limited.add(call.size);
            if call.caller != CallerId::MASTER {
                self.limited_of.entry(call.caller).or_default().add(call.size);
            }
        }
        let mut change = HeadChange { before: None, after: None };
        let mut place = None;
        if let Some(queue) = self.queues.get_mut(&id) {
            change.before = queue.head();
            queue.calls.insert(call.seq, call.id);
            change.after = queue.head();
            place = (change.before != change.after).then(|| queue.place());
        }
        (id, place, change)
    }

    /// Removes a call, and its queue if that is empty then. Returns where the head of the queue was listed, and its
    /// change.
    pub(super) fn remove(&mut self, id: QueueId, call: Waiting) -> Option<(Place, HeadChange)> {
        let queue = self.queues.get_mut(&id)?;
        let before = queue.head();
        queue.calls.remove(&call.seq)?;
        let after = queue.head();
        self.waiting -= 1;
        if !call.is_nested {
            self.callers.on_unqueued(queue.service, call.caller);
        }
        if call.is_limited {
            self.limited.subtract(call.size);
            free_share(&mut self.limited_of, call);
        }
        let removed = queue.place();
        if after.is_none() {
            if let Some(queue) = self.queues.remove(&id) {
                self.avoiding.remove(&id);
                self.lapsed.remove(&id);
                self.unserved.remove(&id);
                self.forget(id, &queue);
            }
        }
        Some((removed, HeadChange { before, after }))
    }

    /// The queue of a method and a scope, if any call waits in it.
    pub(super) fn find(&self, method: MethodId, scope: Scope) -> Option<QueueId> {
        self.by_scope.get(&(method, scope)).copied()
    }

    /// Sets [`Queue::lapsed`]. Returns where its head was listed and where it has to be listed now, if that has
    /// changed.
    pub(super) fn set_lapsed(&mut self, id: QueueId, lapsed: bool) -> Option<(Place, Place, Option<Seq>)> {
        let queue = self.queues.get_mut(&id).filter(|queue| queue.lapsed != lapsed)?;
        let before = queue.place();
        queue.lapsed = lapsed;
        if lapsed {
            self.lapsed.insert(id);
        } else {
            self.lapsed.remove(&id);
        }
        Some((before, queue.place(), queue.head()))
    }

    /// Closes a queue whose node takes no more calls. New calls go to another queue.
    pub(super) fn close(&mut self, id: QueueId, why: Arc<str>) {
        if let Some(mut queue) = self.queues.remove(&id) {
            queue.closed = Some(why);
            self.forget(id, &queue);
            self.queues.insert(id, queue);
        }
    }

    fn forget(&mut self, id: QueueId, queue: &Queue) {
        let key = (queue.method.id(), queue.scope.clone());
        // Another queue may have taken its place since it was closed.
        if self.by_scope.get(&key) == Some(&id) {
            self.by_scope.remove(&key);
        }
    }
}

/// A call does not wait any more that counted towards the limits.
fn free_share(shares: &mut FxHashMap<CallerId, Amount>, call: Waiting) {
    if let Some(share) = shares.get_mut(&call.caller) {
        share.subtract(call.size);
        if share.calls == 0 {
            shares.remove(&call.caller);
        }
    }
}
