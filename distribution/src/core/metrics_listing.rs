//! Lists what is counted: all of it for administrators, and for the history what grows.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    counters::Counters,
    failure_groups::Group,
    host::{Host, Time},
    state::Core,
};
use crate::{
    administration::{CallMetrics, MethodMetrics, NodeMetrics, Vitals},
    id::{CallerId, MethodName, NodeId, NodeIdentity},
    service::method::{MethodId, MethodKind},
    wire::handshake::StreamShape,
};

/// A node, as the history looks at it once a second.
#[derive(Clone, Debug)]
pub(crate) struct NodeSample {
    pub(crate) node: NodeIdentity,
    pub(crate) slots: u32,
    /// For how long its slots have been taken since it registered, all together.
    pub(crate) slot_time: Duration,
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) vitals: Option<Vitals>,
}

/// A method, as the history looks at it.
#[derive(Clone, Debug)]
pub(crate) struct MethodSample {
    pub(crate) method: MethodId,
    pub(crate) name: MethodName,
    pub(crate) version: u32,
    pub(crate) calls: CallMetrics,
}

impl<H: Host> Core<H> {
    /// How the process of a node does, as it says.
    pub(crate) fn on_vitals(&mut self, now: Time, id: NodeId, vitals: Vitals) {
        let Some(node) = self.registry.node_mut(id) else { return };
        // A report that was read late makes the clock look as if it were behind. So the one that was read soonest counts.
        node.skews.rotate_right(1);
        node.skews[0] = vitals.clock_skew;
        let clock_skew = node.skews.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        node.vitals = Some((now, Vitals { clock_skew, ..vitals }));
    }

    /// The methods that were called, in the order in which they were called first.
    pub(crate) fn called_ids(&self) -> Vec<MethodId> {
        self.called.ids()
    }

    /// How often calls of a method were sent or have ended. If it is the same as before, nothing was counted.
    pub(crate) fn activity_of(&self, method: MethodId) -> u64 {
        self.called.row(method).map_or(0, |(_, _, counters)| counters.activity())
    }

    /// What was counted of a method.
    pub(crate) fn method_sample(&self, method: MethodId) -> Option<MethodSample> {
        let (info, _, counters) = self.called.row(method)?;
        Some(MethodSample { method, name: info.name().clone(), version: info.version(), calls: counters.view() })
    }

    /// The name of a method that was called.
    pub(crate) fn method_name(&self, method: MethodId) -> Option<MethodName> {
        self.called.info(method).map(|info| info.name().clone())
    }

    /// All that is told of these methods.
    pub(crate) fn method_metrics(&self, methods: &[MethodId]) -> Vec<MethodMetrics> {
        let rows = methods.iter().filter_map(|method| self.called.row(*method));
        rows.map(|(info, tally, counters)| MethodMetrics {
            service: info.name().service().to_owned(),
            name: info.name().method().to_owned(),
            version: info.version(),
            kind: info.kind(),
            waiting: tally.waiting,
            running: tally.running,
            has_streams: info.streams() != StreamShape::default(),
            calls: counters.view(),
        })
        .collect()
    }

    /// All that is told of some nodes, and the last of them; `None` if there are no more.
    pub(crate) fn node_metrics(&self, now: Time, after: Option<NodeId>) -> (Vec<NodeMetrics>, Option<NodeId>) {
        let most = self.settings.slice / 4;
        let nodes = self.registry.nodes_after(after).take(most);
        let rows: Vec<_> = nodes
            .map(|node| NodeMetrics {
                id: node.identity.id,
                name: Arc::clone(&node.identity.name),
                state: node.state,
                slots: node.profile.slots,
                held_slots: node.busy,
                computing: node.counts[MethodKind::Compute],
                asynchronous: node.counts[MethodKind::Async],
                lent: node.lent,
                ejections: node.ejections,
                vitals: node.vitals_at(now),
                calls: node.counters.as_deref().map(Counters::view).unwrap_or_default(),
            })
            .collect();
        let last = rows.last().filter(|_| rows.len() == most).map(|row| row.id);
        (rows, last)
    }

    /// The groups of calls that failed, in any order.
    pub(crate) fn failure_groups(&self) -> Vec<Group> {
        self.failure_groups.all()
    }

    /// The callers that the groups of failed calls name.
    pub(crate) fn callers_with_failures(&self) -> HashSet<CallerId> {
        self.failure_groups.callers().collect()
    }

    /// The callers that have made calls, the master's own process first. Those in other processes follow by their ids.
    pub(crate) fn callers_with_calls(&self) -> Vec<CallerId> {
        self.books.callers()
    }

    /// What was counted of a caller.
    pub(crate) fn caller_metrics(&self, caller: CallerId) -> Option<CallMetrics> {
        self.books.view(caller)
    }

    /// What was counted of nodes and of callers that are gone.
    pub(crate) fn gone_metrics(&self) -> (CallMetrics, CallMetrics) {
        self.books.gone()
    }

    /// What was counted of methods that were forgotten.
    pub(crate) fn forgotten_metrics(&self) -> CallMetrics {
        self.called.forgotten().clone()
    }

    /// Samples of some nodes, and the last of them; `None` if there are no more. Spans of these nodes' timelines that are over
    /// end.
    pub(crate) fn sample_nodes(&mut self, now: Time, after: Option<NodeId>) -> (Vec<NodeSample>, Option<NodeId>) {
        let most = self.settings.slice;
        let ids: Vec<NodeId> = self.registry.nodes_after(after).take(most).map(|node| node.identity.id).collect();
        let last = ids.last().filter(|_| ids.len() == most).copied();
        let mut samples = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(node) = self.registry.node_mut(id) else { continue };
            node.note_slot_time(now);
            self.timeline.finish(now, id, &mut node.rows, false);
            let outcomes = node.counters.as_ref().map(|counters| counters.outcomes).unwrap_or_default();
            samples.push(NodeSample {
                node: node.identity.clone(),
                slots: node.profile.slots,
                slot_time: node.slot_time,
                ended: outcomes.all(),
                // Those that were given back have not failed.
                failed: outcomes.failures() - outcomes.not_run,
                vitals: node.vitals_at(now),
            });
        }
        (samples, last)
    }
}
