//! Views of the nodes with certain labels: filled a slice at a time, while calls already use them.

use std::sync::Arc;

use super::{
    deferred::{DeferredTask, ViewKey},
    group::{GroupId, ViewStep},
    host::{Host, Time},
    queue_ids::QueueId,
    queues::Scope,
    registry::Registry,
    state::Core,
};
use crate::service::{method::MethodId, options::Labels};

impl<H: Host> Core<H> {
    /// Begins or continues to fill the views of these labels, and lets deferred work fill the rest.
    pub(super) fn prepare_views(&mut self, method: MethodId, labels: &Arc<[(String, String)]>) {
        let is_left = self.registry.prepare_views(method, labels, self.settings.slice);
        let views = (method, Arc::clone(labels));
        if is_left && self.deferred.filling.insert(views.clone()) {
            self.deferred.push_view(DeferredTask::FillViews(views));
        }
    }

    /// Whether views of these labels are being filled. Until they are whole, calls go to the nodes that the views have
    /// so far, or wait: a look at all nodes for each of these calls would hold the lock for too long.
    pub(super) fn is_filling(&self, method: MethodId, labels: &Labels) -> bool {
        let Some(labels) = labels.as_ref().filter(|_| !self.deferred.filling.is_empty()) else { return false };
        self.deferred.filling.contains(&(method, Arc::clone(labels)))
    }

    /// Whether there may be a node for the calls of a queue that a view does not have yet.
    pub(super) fn may_soon_find_one(&self, queue: QueueId) -> bool {
        let Some(queue) = self.queues.get(queue) else { return false };
        let Scope::Any { labels, .. } = &queue.scope else { return false };
        let method = queue.method.id();
        self.is_filling(method, labels) && !self.registry.has_views(method, labels)
    }

    /// Adds more nodes to views. Once the views are whole, places the calls that wait for nodes in them.
    pub(super) fn fill_views(&mut self, now: Time, (method, labels): ViewKey) {
        self.deferred.filling.remove(&(method, Arc::clone(&labels)));
        self.prepare_views(method, &labels);
        let labels = Some(labels);
        if self.is_filling(method, &labels) {
            return;
        }
        let is_served = self.registry.serves(method, &labels);
        if let Some(queue) = self.queues.find(method, Scope::Any { labels, avoid: None }) {
            if is_served {
                self.deferred.push_view(DeferredTask::PlaceQueue(queue));
            } else {
                self.mark_unserved(now, queue);
            }
        }
        self.place_avoiding();
    }
}

impl<H: Host> Registry<H> {
    /// Adds up to `most` nodes of each group to the views of these labels, and says whether more are left.
    pub(super) fn prepare_views(&mut self, method: MethodId, labels: &Arc<[(String, String)]>, most: usize) -> bool {
        let mut is_left = false;
        for at in 0..self.providers(method).len() {
            let group = self.providers(method)[at];
            is_left |= self.prepare_view(group, labels, most);
        }
        is_left
    }

    fn prepare_view(&mut self, id: GroupId, labels: &Arc<[(String, String)]>, most: usize) -> bool {
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let Some(ViewStep { bit, fills, labels, members, is_last }) = group.use_view(labels, most) else {
            return false;
        };
        for member in members {
            let Some(node) = self.nodes.get_mut(&member) else { continue };
            if !fills {
                node.views &= !(1 << bit);
            } else if node.views & (1 << bit) == 0 && node.profile.has_labels(&labels) {
                // A node that joined after the view was begun is in it already.
                node.views |= 1 << bit;
                group.add_to_view(bit, node.member(), &node.index_entry);
            }
        }
        !is_last
    }

    /// Whether the views of these labels are whole.
    pub(super) fn has_views(&self, method: MethodId, labels: &Labels) -> bool {
        let mut groups = self.providers(method).iter().filter_map(|id| self.group(*id));
        groups.all(|group| group.view(labels).is_some())
    }
}
