//! The credentials with which nodes and callers came in, for as long as they are connected.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    id::{CallerId, NodeId},
    wire::credential::{Credential, CredentialSet, Invalid},
};

/// A peer with a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PeerId {
    Node(NodeId),
    Caller(CallerId),
}

/// The credential of each node and caller.
#[derive(Default)]
pub(super) struct Credentials(Mutex<Locked>);

#[derive(Default)]
struct Locked {
    by_peer: HashMap<PeerId, Arc<Credential>>,
    /// The contents of the files that `by_peer` was last checked against.
    enforced: Option<CredentialSet>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.lock().by_peer).finish()
    }
}

impl Credentials {
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a peer, and returns what all peers before it were last checked against. The next check finds this one too.
    pub(super) fn insert(&self, peer: PeerId, credential: Arc<Credential>) -> Option<CredentialSet> {
        let mut locked = self.lock();
        locked.by_peer.insert(peer, credential);
        locked.enforced.clone()
    }

    /// Removes a peer, unless it has come again with another credential since.
    pub(super) fn remove(&self, peer: PeerId, credential: &Arc<Credential>) {
        let mut locked = self.lock();
        if locked.by_peer.get(&peer).is_some_and(|known| Arc::ptr_eq(known, credential)) {
            locked.by_peer.remove(&peer);
        }
    }

    /// Checks all peers against these files, and returns those whose credentials are not valid any more. May take long.
    pub(super) fn enforce(&self, files: CredentialSet) -> Vec<(PeerId, Arc<Credential>, Invalid)> {
        let mut locked = self.lock();
        locked.enforced = Some(files.clone());
        let all = locked.by_peer.iter().map(|(peer, credential)| (*peer, Arc::clone(credential))).collect();
        drop(locked);
        files.invalid(all)
    }
}
