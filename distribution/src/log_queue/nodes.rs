//! The nodes of this process, for a subscriber of `tracing`: it is one for the process, and a record belongs to a node.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::queue::NodeLogs;

/// Those that have not ended, in the order in which they were started.
static NODES: RwLock<Vec<Weak<NodeLogs>>> = RwLock::new(Vec::new());

/// Adds a node that was started. Its end is noticed by itself.
pub(crate) fn register(node: &Arc<NodeLogs>) {
    let mut nodes = NODES.write().unwrap_or_else(PoisonError::into_inner);
    nodes.retain(|node| node.strong_count() > 0);
    nodes.push(Arc::downgrade(node));
}

/// Whether there is none.
pub(crate) fn is_empty() -> bool {
    NODES.read().unwrap_or_else(PoisonError::into_inner).is_empty()
}

/// The one that was started first.
pub(crate) fn oldest() -> Option<Arc<NodeLogs>> {
    NODES.read().unwrap_or_else(PoisonError::into_inner).iter().find_map(Weak::upgrade)
}

/// The first one of this name.
pub(crate) fn named(name: &str) -> Option<Arc<NodeLogs>> {
    let nodes = NODES.read().unwrap_or_else(PoisonError::into_inner);
    nodes.iter().filter_map(Weak::upgrade).find(|node| node.name() == name)
}
