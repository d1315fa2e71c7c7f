//! Finds out which methods of a node that has just joined cannot be called on it, and logs them.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::shared::Shared;
use crate::id::NodeId;

impl Shared {
    /// Compares a node's methods with those that are called here and with those of the other nodes. Comparing can take
    /// long, so one node is compared at a time, and on a thread that serves no connections.
    pub(super) fn look_for_uncallable(self: &Arc<Self>, node: NodeId, name: String) {
        let shared = Arc::clone(self);
        self.track(async move {
            let look = async {
                let Ok(_permit) = shared.comparing.acquire().await else { return };
                let shared = Arc::clone(&shared);
                // Fails only if the runtime ends, and the master with it.
                let _ = spawn_blocking(move || shared.compare(node, &name)).await;
            };
            tokio::select! {
                () = look => {}
                () = shared.closing.cancelled() => {}
            }
        });
    }

    fn compare(&self, node: NodeId, name: &str) {
        let surroundings = self.with_core("looking at what a node serves", |core, _, _| core.compatibility_check(node));
        let Some(surroundings) = surroundings.flatten() else { return };
        let uncallable = surroundings.uncallable(name);
        if uncallable.is_empty() {
            return;
        }
        // One line for a node, not one for each method. It does not say which side is out of date: the master cannot know.
        tracing::warn!(
            node = name,
            node_id = %node,
            methods = uncallable.len(),
            reason = uncallable.join("; "),
            "a node has other definitions of methods than the callers here or the other nodes have, so calls to these \
             methods cannot go to both: one of the two programs is out of date"
        );
        self.with_core("uncallable methods are noted", |core, _, _| core.on_methods_checked(node, uncallable.into()));
    }
}
