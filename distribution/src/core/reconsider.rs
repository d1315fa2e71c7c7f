//! Calls that avoid nodes, or wait for a node that is ejected, are looked at again as nodes join and leave.

use super::{
    deferred::DeferredTask, host::Host, queue_heads::HeadChange, queue_ids::QueueId, queues::Scope, state::Core,
};
use crate::id::NodeId;

impl<H: Host> Core<H> {
    /// Looks again for nodes for the calls that avoid some, because they may go to these now.
    pub(super) fn place_avoiding(&mut self) {
        // If this is under way already, it goes on and then starts again. So it runs once for several departures. If it
        // started again with each departure, the last queues would never get their turn.
        if self.deferred.place_from.is_some() {
            self.deferred.place_again = true;
        } else {
            self.deferred.place_from = Some(QueueId::FIRST);
            self.deferred.push(DeferredTask::PlaceAvoiding);
        }
    }

    /// Reviews the queues that are lapsed: there may be other nodes now.
    pub(super) fn review_lapsed(&mut self) {
        if self.queues.lapsed.is_empty() {
            return;
        }
        let is_under_way = self.deferred.review_from.replace(QueueId::FIRST).is_some();
        if !is_under_way {
            self.deferred.push(DeferredTask::ReviewLapsed);
        }
    }

    /// Finds out whether a queue is lapsed, and lists its head accordingly.
    pub(super) fn review(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(id) else { return };
        let Scope::Any { labels, avoid } = &queue.scope else { return };
        let lapses = self.registry.lapses(queue.method.id(), labels, avoid);
        if let Some((before, after, head)) = self.queues.set_lapsed(id, lapses) {
            self.registry.change_head(id, &before, HeadChange { before: head, after: None });
            self.registry.change_head(id, &after, HeadChange { before: None, after: head });
        }
    }

    /// Looks again for calls that only ejected nodes can take: the last node that was not ejected may have gone.
    pub(super) fn feed_ejected(&mut self) {
        if self.registry.ejected.is_empty() {
            return;
        }
        // If this is under way already, it starts again, so that it runs once for several departures.
        let is_under_way = self.deferred.feed_ejected_from.replace(NodeId::from_bits(0)).is_some();
        if !is_under_way {
            self.deferred.push(DeferredTask::FeedEjected);
        }
    }
}
