//! Work that an event leaves for later, because it concerns many calls or nodes.

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::FxHashSet;

use super::{node_connection::NodeConnection, queue_ids::QueueId};
use crate::{
    error::GoneReason,
    id::{CallId, CallerId, NodeId, NodeIdentity},
    security::Source,
    service::method::MethodId,
};

/// A piece of work. A slice does some of it, and leaves the rest here again.
#[derive(Debug)]
pub(super) enum DeferredTask {
    /// Give a node more of the calls that wait.
    Feed(NodeId),
    /// Find nodes for calls that avoid some and may not have to any more.
    PlaceAvoiding,
    /// Find out whether calls can avoid nodes again, because other nodes have joined.
    ReviewLapsed,
    /// Give ejected nodes the calls that no other node can take.
    FeedEjected,
    /// Move the calls of a closed queue to other nodes, or end them.
    EmptyQueue(QueueId),
    /// End the calls of a queue that have waited long enough for a node.
    ExpireQueue(QueueId),
    /// Decide about the calls that a lost node had, the last one first.
    HandleLost { calls: Vec<(CallId, u32)>, from: Arc<DepartedNode> },
    /// Of the attempts on a node whose connection has broken, keep those that it may have received; the last one first.
    KeepSent { connection: NodeConnection, attempts: Vec<(CallId, u32)> },
    /// Ask a node for the results of attempts that were sent on an earlier connection, the last one first. This many requests
    /// were made before.
    AskAgain { connection: NodeConnection, attempts: Vec<(CallId, u32)>, requests: u32 },
    /// Cancel the calls of a caller that is gone.
    CancelCallsOf(CallerId),
    /// Cancel the calls that the handler of a call has made before this one.
    CancelNested { parent: CallId, before: u64 },
    /// Disconnect a node.
    CutOff(NodeId, GoneReason),
    /// Add more nodes to views.
    FillViews(ViewKey),
    /// Feed the nodes that can take the calls of a queue, one after the other.
    PlaceQueue(QueueId),
}

/// The views of these labels in all groups that serve the method.
pub(super) type ViewKey = (MethodId, Arc<[(String, String)]>);

/// A node that is not registered any more.
#[derive(Debug)]
pub(super) struct DepartedNode {
    pub(super) identity: NodeIdentity,
    pub(super) source: Source,
    pub(super) reason: GoneReason,
}

/// All deferred work.
#[derive(Debug, Default)]
pub(super) struct DeferredWork {
    tasks: VecDeque<DeferredTask>,
    /// Tasks that fill views, and that place the calls which wait for a view.
    view_tasks: VecDeque<DeferredTask>,
    is_turn_of_views: bool,
    /// Whether a slice is being done now.
    pub(super) is_running: bool,
    /// Which views the tasks fill.
    pub(super) filling: FxHashSet<ViewKey>,
    /// The first queue that [`DeferredTask::PlaceAvoiding`] has not looked at yet; `None` if it is not under way.
    pub(super) place_from: Option<QueueId>,
    /// Whether nodes have left since that began, so that it has to start again at the end.
    pub(super) place_again: bool,
    /// The first queue that [`DeferredTask::ReviewLapsed`] has not looked at yet; `None` if it is not under way.
    pub(super) review_from: Option<QueueId>,
    /// The first node that [`DeferredTask::FeedEjected`] has not fed yet; `None` if it is not under way.
    pub(super) feed_ejected_from: Option<NodeId>,
}

impl DeferredWork {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.view_tasks.is_empty()
    }

    pub(super) fn push(&mut self, task: DeferredTask) {
        self.tasks.push_back(task);
    }

    /// Puts back a task that is not done yet.
    pub(super) fn push_front(&mut self, task: DeferredTask) {
        self.tasks.push_front(task);
    }

    pub(super) fn push_view(&mut self, task: DeferredTask) {
        self.view_tasks.push_back(task);
    }

    /// Takes the next task. Tasks of views get every other turn: calls wait for them, and a single other task may deal with a
    /// million calls.
    pub(super) fn pop(&mut self) -> Option<DeferredTask> {
        self.is_turn_of_views = !self.is_turn_of_views;
        let (first, second) = match self.is_turn_of_views {
            true => (&mut self.view_tasks, &mut self.tasks),
            false => (&mut self.tasks, &mut self.view_tasks),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// Whether a task fills these views.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn has_task_for(&self, views: &ViewKey) -> bool {
        self.view_tasks.iter().any(|task| matches!(task, DeferredTask::FillViews(filled) if filled == views))
    }
}
