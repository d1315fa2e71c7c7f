//! The credentials with which the registered nodes came in, for as long as they are registered.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    id::NodeId,
    wire::credential::{Credential, CredentialSet, Invalid},
};

/// The credential of each registered node.
#[derive(Default)]
pub(super) struct Credentials(Mutex<Locked>);

#[derive(Default)]
struct Locked {
    by_node: HashMap<NodeId, Arc<Credential>>,
    /// The contents of the files that `by_node` was last checked against.
    enforced: Option<CredentialSet>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.lock().by_node).finish()
    }
}

impl Credentials {
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a node, and returns what all nodes before it were last checked against. The next check finds this node too.
    pub(super) fn insert(&self, node: NodeId, credential: Arc<Credential>) -> Option<CredentialSet> {
        let mut locked = self.lock();
        locked.by_node.insert(node, credential);
        locked.enforced.clone()
    }

    pub(super) fn remove(&self, node: NodeId) {
        self.lock().by_node.remove(&node);
    }

    /// Checks all nodes against these files, and returns those whose credentials are not valid any more. May take long.
    pub(super) fn enforce(&self, files: CredentialSet) -> Vec<(NodeId, Arc<Credential>, Invalid)> {
        let mut locked = self.lock();
        locked.enforced = Some(files.clone());
        let all = locked.by_node.iter().map(|(node, credential)| (*node, Arc::clone(credential))).collect();
        drop(locked);
        files.invalid(all)
    }
}
