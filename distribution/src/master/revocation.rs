//! Puts nodes out whose credential was taken back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::dispatch::Shared;
use crate::{error::GoneReason, id::NodeId, wire::guard::Credential};

/// By what each registered node was let in.
#[derive(Debug, Default)]
pub(super) struct Credentials(Mutex<HashMap<NodeId, Credential>>);

impl Credentials {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, Credential>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the credential of a node in mind while its connection lasts.
pub(super) struct Watch {
    shared: Arc<Shared>,
    node: NodeId,
}

impl Watch {
    pub(super) fn new(shared: &Arc<Shared>, node: NodeId, credential: Credential) -> Self {
        shared.credentials.lock().insert(node, credential.clone());
        // The files may have changed between the proof and now. From here on `run` finds it.
        if shared.admission.guard.current().is_some_and(|files| !files.holds(&credential)) {
            put_out(shared, node, &credential);
        }
        Self { shared: Arc::clone(shared), node }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.credentials.lock().remove(&self.node);
    }
}

fn put_out(shared: &Shared, node: NodeId, credential: &Credential) {
    tracing::warn!(%node, principal = %credential.principal, "put a node out: its credential was taken back");
    shared.with_core("a credential was taken back", |core, now, effects| {
        core.disconnect(now, node, GoneReason::Revoked, effects)
    });
}

/// Looks at the files once a heartbeat. Where they have changed, puts those nodes out that could not come in any more.
///
/// While the files cannot be used nobody is put out: that is damage, and no decision of the owner's.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut seen = shared.admission.guard.current();
    let mut looks = tokio::time::interval(shared.heartbeat);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = shared.closing.cancelled() => return,
        }
        let admission = Arc::clone(&shared.admission);
        let Ok(Some(files)) = tokio::task::spawn_blocking(move || admission.guard.look()).await else { continue };
        if seen.as_ref().is_some_and(|seen| seen.is(&files)) {
            continue;
        }
        let open: Vec<_> =
            shared.credentials.lock().iter().map(|(node, credential)| (*node, credential.clone())).collect();
        for (node, credential) in open {
            if !files.holds(&credential) {
                put_out(&shared, node, &credential);
            }
        }
        seen = Some(files);
    }
}
