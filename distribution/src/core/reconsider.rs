//! Calls that avoid nodes, or wait for a node that is ejected, are looked at again as nodes join and leave.

use super::{
    deferred::DeferredTask, host::Host, queue_heads::HeadChange, queue_ids::QueueId, queues::Scope, state::Core,
};
use crate::id::NodeId;

impl<H: Host> Core<H> {
    /// Looks again for nodes for calls that avoid some, and may not need to any more.
    pub(super) fn place_avoiding(&mut self) {
        // One that is under way goes on and round once more: departures in a row do not pile up, and if it began anew
        // with each, the last queues would never have their turn.
        if self.deferred.place_from.is_some() {
            self.deferred.place_again = true;
        } else {
            self.deferred.place_from = Some(QueueId::FIRST);
            self.deferred.push(DeferredTask::PlaceAvoiding);
        }
    }

    /// Looks again at calls for which it does not count what they avoid: others may have come.
    pub(super) fn review_lapsed(&mut self) {
        if self.queues.lapsed.is_empty() {
            return;
        }
        let is_under_way = self.deferred.review_from.replace(QueueId::FIRST).is_some();
        if !is_under_way {
            self.deferred.push(DeferredTask::ReviewLapsed);
        }
    }

    /// Lists the head of a queue by whether it counts now what its calls avoid.
    pub(super) fn review(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(id) else { return };
        let Scope::Any { labels, avoid } = &queue.scope else { return };
        let lapses = self.registry.lapses(queue.method.id(), labels, avoid);
        if let Some((before, after, head)) = self.queues.set_lapsed(id, lapses) {
            self.registry.change_head(id, &before, HeadChange { before: head, after: None });
            self.registry.change_head(id, &after, HeadChange { before: None, after: head });
        }
    }

    /// Looks again for calls that only nodes can take which rest: the last one that did not may just have gone.
    pub(super) fn feed_ejected(&mut self) {
        if self.registry.ejected.is_empty() {
            return;
        }
        // One that is under way begins anew, so that departures in a row do not pile up.
        let is_under_way = self.deferred.feed_ejected_from.replace(NodeId::from_bits(0)).is_some();
        if !is_under_way {
            self.deferred.push(DeferredTask::FeedEjected);
        }
    }
}
