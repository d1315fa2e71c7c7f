//! Keeps the heads of queues listed at the nodes and groups that may take calls from them.

use super::{
    host::Host,
    queue_heads::{HeadChange, Place, TakenBy},
    queue_ids::QueueId,
    queues::{Queues, Scope},
    registry::Registry,
};
use crate::id::NodeId;

impl<H: Host> Registry<H> {
    /// Lists the new head of a queue in place of the old one.
    pub(super) fn change_head(&mut self, queue: QueueId, place: &Place, change: HeadChange) {
        if change.before == change.after {
            return;
        }
        let method = place.method;
        match place.taken_by {
            TakenBy::Groups => {
                for id in self.providers.get(&method).into_iter().flatten() {
                    if let Some(group) = self.groups.get_mut(id) {
                        if let Some(kind) = group.kind_of(method) {
                            group.heads[kind].change(place, queue, change);
                        }
                    }
                }
            }
            TakenBy::Node(id) => {
                let Some(kind) = self.kind_on(id, method) else { return };
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.heads[kind].change(place, queue, change);
                }
            }
            TakenBy::Nobody => {}
        }
    }

    /// Lists the heads of all queues that the new group of a node may take calls from.
    pub(super) fn list_queues_for(&mut self, id: NodeId, queues: &Queues) {
        let Some(group) = self.nodes.get(&id).map(|node| node.group) else { return };
        let Some(group) = self.groups.get_mut(&group) else { return };
        for (id, queue) in queues.iter().filter(|(_, queue)| matches!(queue.scope, Scope::Any { .. })) {
            if let Some(kind) = group.kind_of(queue.method.id()) {
                group.heads[kind].change(&queue.place(), id, HeadChange { before: None, after: queue.head() });
            }
        }
    }
}
