//! The first calls of queues, listed where nodes look for work.
//!
//! Each node, and each group of nodes, has a [`QueueHeads`] with the heads of the queues that it may take calls from. So a
//! node looks at a few heads, however many calls wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    avoidance::AvoidedNodes,
    avoiding_heads::AvoidingHeads,
    queue_ids::{QueueId, Seq, ServiceId},
};
use crate::{
    id::NodeId,
    service::{method::MethodId, options::Labels},
};

/// How the head of a queue has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadChange {
    pub(super) before: Option<Seq>,
    pub(super) after: Option<Seq>,
}

/// Labels and their values.
type LabelSet = Arc<[(String, String)]>;

/// Queues by all their labels.
type ByLabels = FxHashMap<LabelSet, Heads>;

/// Queues by service.
type Heads = Vec<(ServiceId, ServiceHeads)>;

/// Queues of one service, in the order of their first calls.
#[derive(Debug, Default)]
pub(super) struct ServiceHeads {
    /// Those whose calls avoid no node.
    pub(super) open: BTreeSet<(Seq, QueueId)>,
    pub(super) avoiding: BTreeMap<MethodId, AvoidingHeads>,
}

/// The heads of the queues that a node, or each node of a group, may take calls of one kind from.
#[derive(Debug, Default)]
pub(super) struct QueueHeads {
    /// Queues without labels, by service. Few services have calls that wait.
    plain: Heads,
    /// Queues with labels, by their first label and then by all. A node only looks at queues for its own labels.
    labelled: FxHashMap<String, FxHashMap<String, ByLabels>>,
}

impl QueueHeads {
    pub(super) fn change(&mut self, place: &Place, queue: QueueId, change: HeadChange) {
        let Some((labels, (key, value))) = place.labels() else {
            return change_heads(&mut self.plain, place, queue, change);
        };
        let values = self.labelled.entry(key.clone()).or_default();
        let sets = values.entry(value.clone()).or_default();
        let heads = sets.entry(Arc::clone(labels)).or_default();
        change_heads(heads, place, queue, change);
        if heads.is_empty() {
            sets.remove(labels);
            if sets.is_empty() {
                values.remove(value);
                if values.is_empty() {
                    self.labelled.remove(key);
                }
            }
        }
    }

    /// For each service, and each set of labels, the queues that a node with these labels may take from.
    pub(super) fn for_labels<'a>(
        &'a self,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (ServiceId, &'a ServiceHeads)> {
        let own = labels.iter().filter(|_| !self.labelled.is_empty());
        let sets = own.filter_map(|(key, value)| self.labelled.get(key)?.get(value)).flatten();
        let has = |(key, value): &(String, String)| labels.get(key) == Some(value);
        let labelled = sets.filter(move |(set, _)| set.iter().all(has)).flat_map(|(_, heads)| heads);
        self.plain.iter().chain(labelled).map(|(service, heads)| (*service, heads))
    }

    /// The queues that a node with these labels may take calls from.
    pub(super) fn queues_for_labels<'a>(
        &'a self,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = QueueId> + 'a {
        self.for_labels(labels).flat_map(|(_, heads)| heads.iter()).map(|(_, queue)| queue)
    }

    /// All queues.
    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        let labelled = self.labelled.values().flat_map(FxHashMap::values).flat_map(FxHashMap::values).flatten();
        self.plain.iter().chain(labelled).flat_map(|(_, heads)| heads.iter()).map(|(_, queue)| queue)
    }
}

impl ServiceHeads {
    /// All heads.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, QueueId)> {
        self.open.iter().copied().chain(self.avoiding.values().flat_map(AvoidingHeads::iter))
    }

    fn change(&mut self, place: &Place, queue: QueueId, change: HeadChange) {
        let avoided = place.avoided();
        if avoided.is_empty() {
            if let Some(before) = change.before {
                self.open.remove(&(before, queue));
            }
            if let Some(after) = change.after {
                self.open.insert((after, queue));
            }
            return;
        }
        let avoiding = self.avoiding.entry(place.method).or_default();
        if let Some(before) = change.before {
            avoiding.remove((before, queue), avoided);
        }
        if let Some(after) = change.after {
            avoiding.insert((after, queue), avoided);
        }
        if avoiding.is_empty() {
            self.avoiding.remove(&place.method);
        }
    }
}

fn change_heads(services: &mut Heads, place: &Place, queue: QueueId, change: HeadChange) {
    let known = services.iter().position(|(id, _)| *id == place.service);
    let at = known.unwrap_or_else(|| {
        services.push((place.service, ServiceHeads::default()));
        services.len() - 1
    });
    let heads = &mut services[at].1;
    heads.change(place, queue, change);
    if heads.open.is_empty() && heads.avoiding.is_empty() {
        services.swap_remove(at);
    }
}

/// Where the head of a queue is listed.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) method: MethodId,
    pub(super) service: ServiceId,
    pub(super) labels: Labels,
    pub(super) avoid: AvoidedNodes,
    pub(super) lapsed: bool,
    pub(super) taken_by: TakenBy,
}

impl Place {
    /// The labels, and the first one.
    fn labels(&self) -> Option<(&LabelSet, &(String, String))> {
        let labels = self.labels.as_ref()?;
        Some((labels, labels.first()?))
    }

    /// The nodes that its calls avoid.
    fn avoided(&self) -> &[NodeId] {
        self.avoid.as_deref().filter(|_| !self.lapsed).unwrap_or_default()
    }
}

/// Which [`QueueHeads`] a queue is listed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakenBy {
    /// Those of each group that serves the method.
    Groups,
    Node(NodeId),
    /// None: the queue is closed.
    Nobody,
}
