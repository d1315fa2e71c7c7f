//! Waits for nodes to join or leave, at each master that a stream sends calls to.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::Context,
};

use futures::{FutureExt, future::BoxFuture};

use crate::service::dispatcher::Dispatcher;

/// Where a stream sends calls, without keeping it alive. It keeps the address taken, so that no other dispatcher can have it.
pub(super) type WeakDispatcher = Weak<dyn Dispatcher>;

/// Whether both are one dispatcher.
pub(super) fn is_same(weak: &WeakDispatcher, dispatcher: &Arc<dyn Dispatcher>) -> bool {
    std::ptr::addr_eq(weak.as_ptr(), Arc::as_ptr(dispatcher))
}

/// The masters whose nodes are watched: few, as a stream has calls of one as a rule.
#[derive(Debug, Default)]
pub(super) struct NodeWatches(Vec<NodeWatch>);

struct NodeWatch {
    dispatcher: WeakDispatcher,
    /// Ready when nodes have joined or left.
    changed: BoxFuture<'static, ()>,
}

impl NodeWatches {
    /// Watches the nodes of this dispatcher from here on, if it does not yet.
    pub(super) fn watch(&mut self, dispatcher: &Arc<dyn Dispatcher>) {
        if self.0.iter().any(|watch| is_same(&watch.dispatcher, dispatcher)) {
            return;
        }
        // A master that has ended tells nothing more.
        self.0.retain(|watch| watch.dispatcher.strong_count() > 0);
        self.0.push(NodeWatch { dispatcher: Arc::downgrade(dispatcher), changed: dispatcher.nodes_changed() });
    }

    /// Calls `on_change` for each dispatcher whose nodes have joined or left since the last look, and wakes this task at the
    /// next change.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mut on_change: impl FnMut(&Arc<dyn Dispatcher>)) {
        for watch in &mut self.0 {
            while watch.changed.poll_unpin(cx).is_ready() {
                let Some(dispatcher) = watch.dispatcher.upgrade() else {
                    watch.changed = std::future::pending().boxed();
                    break;
                };
                // First, so that a change during `on_change` is not missed.
                watch.changed = dispatcher.nodes_changed();
                on_change(&dispatcher);
            }
        }
    }
}

impl fmt::Debug for NodeWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeWatch").field(&self.dispatcher.as_ptr()).finish()
    }
}
