//! Disconnects nodes and callers whose credential was revoked or has expired.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::{spawn_blocking, yield_now},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{credentials::PeerId, shared::Shared};
use crate::{
    error::GoneReason,
    id::{CallerId, NodeId},
    wire::credential::{Credential, CredentialSet, Invalid},
};

/// Nodes that are disconnected in one hold of the core's lock: each may have a thousand calls.
const SLICE: usize = 16;

/// How often certificates are checked for having expired, unless sixty heartbeats take less.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// Has the credential of a node or caller checked until it is dropped.
#[must_use = "the credential is checked until this is dropped"]
pub(super) struct CredentialWatch {
    shared: Arc<Shared>,
    peer: PeerId,
    credential: Arc<Credential>,
}

impl CredentialWatch {
    pub(super) fn of_node(shared: &Arc<Shared>, node: NodeId, credential: Credential) -> Self {
        Self::new(shared, PeerId::Node(node), credential)
    }

    pub(super) fn of_caller(shared: &Arc<Shared>, caller: CallerId, credential: Credential) -> Self {
        Self::new(shared, PeerId::Caller(caller), credential)
    }

    fn new(shared: &Arc<Shared>, peer: PeerId, credential: Credential) -> Self {
        let credential = Arc::new(credential);
        let enforced = shared.credentials.insert(peer, Arc::clone(&credential));
        // The files may have changed after the node proved itself, and `run` may have checked all nodes before this one
        // was inserted. If it has, the node is checked here. The files can also be newer than what `run` has enforced, and
        // let the node in, so it must be invalid by both.
        let passes = |files: &CredentialSet| files.check(&credential);
        if let Some(Err(invalid)) = enforced.as_ref().map(passes) {
            if shared.admission.authenticator.current().is_some_and(|files| passes(&files).is_err()) {
                log_disconnect(&credential, invalid, 1);
                disconnect(shared, &[(peer, invalid)]);
            }
        }
        Self { shared: Arc::clone(shared), peer, credential }
    }
}

impl Drop for CredentialWatch {
    fn drop(&mut self) {
        self.shared.credentials.remove(self.peer, &self.credential);
    }
}

fn log_disconnect(credential: &Credential, invalid: Invalid, peers: usize) {
    let principal = &credential.principal;
    match invalid {
        Invalid::Revoked => {
            tracing::warn!(%principal, peers, "disconnecting nodes and callers: their credential was revoked")
        }
        Invalid::Expired => {
            tracing::warn!(%principal, peers, "disconnecting nodes and callers: their certificate has expired")
        }
    }
}

fn disconnect(shared: &Shared, peers: &[(PeerId, Invalid)]) {
    shared.with_core("credentials have become invalid", |core, now, effects| {
        for (peer, invalid) in peers {
            if let PeerId::Node(node) = peer {
                core.on_disconnect_requested(now, *node, GoneReason::from(*invalid), effects);
            }
        }
    });
    for (peer, invalid) in peers {
        if let PeerId::Caller(caller) = peer {
            shared.callers.close(*caller, GoneReason::from(*invalid));
        }
    }
}

/// The contents of the files, accepted only when two reads in a row have found them: a file that is being written in
/// place is incomplete for a moment.
struct ConfirmedFiles {
    enforced: Option<CredentialSet>,
    /// What the last read found, if it differs from `enforced`.
    candidate: Option<CredentialSet>,
}

impl ConfirmedFiles {
    /// Takes what a read has found; `None` if the files cannot be used. Returns whether this is the second read in a row
    /// that found the same change, which is to be enforced now.
    fn on_read(&mut self, found: Option<CredentialSet>) -> bool {
        let is_same =
            |one: &Option<CredentialSet>| one.as_ref().zip(found.as_ref()).is_some_and(|(one, found)| one.is(found));
        if is_same(&self.enforced) {
            self.candidate = None;
            return false;
        }
        let is_confirmed = is_same(&self.candidate);
        if is_confirmed {
            (self.enforced, self.candidate) = (found, None);
        } else {
            self.candidate = found;
        }
        is_confirmed
    }
}

/// Reads the files twice a heartbeat. When two reads have found the same change, disconnects the nodes that would not be
/// let in any more; and regularly those whose certificate has expired.
///
/// While the files cannot be used, no node is disconnected: damaged files are not a decision of the owner.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut files = ConfirmedFiles { enforced: shared.admission.authenticator.current(), candidate: None };
    let mut reads = interval(shared.heartbeat / 2);
    reads.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let every = EXPIRY_INTERVAL.min(shared.heartbeat * 60);
    let mut expiry_checked_at = Instant::now();
    loop {
        tokio::select! {
            _ = reads.tick() => {}
            () = shared.closing.cancelled() => return,
        }
        // Reading a file may hang, and the master must be able to end meanwhile.
        let found = tokio::select! {
            found = shared.admission.authenticator.look() => found,
            () = shared.closing.cancelled() => return,
        };
        let has_changed = files.on_read(found);
        let Some(enforced) = &files.enforced else { continue };
        if has_changed && enforced.is_empty() {
            tracing::warn!(
                "the token file has no token any more: all nodes and callers are disconnected, and none can connect"
            );
        }
        if has_changed || (enforced.expires() && expiry_checked_at.elapsed() >= every) {
            expiry_checked_at = Instant::now();
            enforce(&shared, enforced.clone()).await;
        }
    }
}

async fn enforce(shared: &Arc<Shared>, files: CredentialSet) {
    let checking = Arc::clone(shared);
    let Ok(invalid) = spawn_blocking(move || checking.credentials.enforce(files)).await else { return };
    let mut counts = HashMap::new();
    for (_, credential, invalid) in &invalid {
        counts.entry((credential.principal.id, *invalid)).or_insert((credential, 0)).1 += 1;
    }
    for ((_, invalid), (credential, peers)) in counts {
        log_disconnect(credential, invalid, peers);
    }
    let peers: Vec<_> = invalid.iter().map(|(peer, _, invalid)| (*peer, *invalid)).collect();
    for slice in peers.chunks(SLICE) {
        disconnect(shared, slice);
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        security::{Access, SecurityConfig, Token},
        wire::authenticator::MasterAuthenticator,
    };

    #[tokio::test]
    async fn a_file_that_is_being_written_is_enforced_only_once_two_reads_find_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cluster.token");
        Token::issue(&file, Access::Nodes).expect("writes");
        let authenticator =
            MasterAuthenticator::new(&SecurityConfig { token_file: Some(file.clone()), ..SecurityConfig::default() })
                .expect("reads");
        let mut files = ConfirmedFiles { enforced: authenticator.current(), candidate: None };
        let text = std::fs::read_to_string(&file).expect("reads");
        let half = &text[..text.len() - 40];
        for (text, is_enforced) in [
            (&text[..], false),
            // Emptied, half a line, whole again.
            ("", false),
            (half, false),
            ("", false),
            (&text, false),
            // The file was written again with the same contents.
            (&text, true),
            (&text, false),
            ("", false),
            ("", true),
            ("", false),
            // What was found before the damage has to be confirmed after it as well.
            (&text, false),
            ("x", false),
            (&text, false),
            (&text, true),
        ] {
            std::fs::write(&file, text).expect("writes");
            assert_eq!(files.on_read(authenticator.look().await), is_enforced, "{text}");
        }
    }
}
