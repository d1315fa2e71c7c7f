//! Puts nodes out whose credential was taken back or has expired.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::{spawn_blocking, yield_now},
    time::{Instant, MissedTickBehavior, interval},
};

use super::dispatch::Shared;
use crate::{
    error::GoneReason,
    id::NodeId,
    wire::credential::{Credential, Generation, Invalid},
};

/// Nodes that are put out in one go: each may have a thousand calls.
const SLICE: usize = 16;

/// How often certificates are held against the clock, where heartbeats are not so short that sixty take less.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// By what each registered node was let in.
#[derive(Default)]
pub(super) struct Credentials(Mutex<Books>);

#[derive(Default)]
struct Books {
    open: HashMap<NodeId, Arc<Credential>>,
    /// What `open` was last held against.
    enforced: Option<Generation>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Credentials").field(&self.lock().open).finish()
    }
}

impl Credentials {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds all against this from now on, and says who does not pass.
    fn enforce(&self, files: Generation) -> Vec<(NodeId, Arc<Credential>, Invalid)> {
        let mut books = self.lock();
        books.enforced = Some(files.clone());
        let open = books.open.iter().map(|(node, credential)| (*node, Arc::clone(credential))).collect();
        drop(books);
        files.invalid(open)
    }
}

/// Keeps the credential of a node in mind while its connection lasts.
pub(super) struct Watch {
    shared: Arc<Shared>,
    node: NodeId,
}

impl Watch {
    pub(super) fn new(shared: &Arc<Shared>, node: NodeId, credential: Credential) -> Self {
        let credential = Arc::new(credential);
        let enforced = {
            let mut books = shared.credentials.lock();
            books.open.insert(node, Arc::clone(&credential));
            books.enforced.clone()
        };
        // The files may have changed between the proof and now, and `run` have acted on it. From here on it finds this
        // node. Files that are newer than what it has acted on may be what let the node in.
        let passes = |files: &Generation| files.check(&credential);
        if let Some(Err(invalid)) = enforced.as_ref().map(passes) {
            if shared.admission.authenticator.current().is_some_and(|files| passes(&files).is_err()) {
                tell(&credential, invalid, 1);
                put_out(shared, &[(node, invalid)]);
            }
        }
        Self { shared: Arc::clone(shared), node }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.credentials.lock().open.remove(&self.node);
    }
}

fn tell(credential: &Credential, invalid: Invalid, nodes: usize) {
    let principal = &credential.principal;
    match invalid {
        Invalid::Revoked => tracing::warn!(%principal, nodes, "puts nodes out: their credential was taken back"),
        Invalid::Expired => tracing::warn!(%principal, nodes, "puts nodes out: their certificate has expired"),
    }
}

fn put_out(shared: &Shared, nodes: &[(NodeId, Invalid)]) {
    shared.with_core("credentials do not hold any more", |core, now, effects| {
        for (node, invalid) in nodes {
            core.on_disconnect_requested(now, *node, GoneReason::from(*invalid), effects);
        }
    });
}

/// What the files say, once it is certain: a file that is written in place holds less for a moment than what it will.
struct Agreed {
    enforced: Option<Generation>,
    /// What the last look has found, if it is something new.
    candidate: Option<Generation>,
}

impl Agreed {
    /// Notes what a look has found, nothing where the files cannot be used. Whether the look before it found the same, and
    /// that is to be enforced now.
    fn note(&mut self, found: Option<Generation>) -> bool {
        let is_same =
            |one: &Option<Generation>| one.as_ref().zip(found.as_ref()).is_some_and(|(one, found)| one.is(found));
        if is_same(&self.enforced) {
            self.candidate = None;
            return false;
        }
        let agrees = is_same(&self.candidate);
        if agrees {
            (self.enforced, self.candidate) = (found, None);
        } else {
            self.candidate = found;
        }
        agrees
    }
}

/// Looks at the files twice a heartbeat. Where two looks have found the same change, puts those nodes out that could not
/// come in any more; and now and then those whose certificate has expired.
///
/// While the files cannot be used nobody is put out for what they hold: that is damage, and no decision of the owner's.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut agreed = Agreed { enforced: shared.admission.authenticator.current(), candidate: None };
    let mut looks = interval(shared.heartbeat / 2);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let every = CLOCK_LOOK.min(shared.heartbeat * 60);
    let mut clock_looked_at = Instant::now();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = shared.closing.cancelled() => return,
        }
        // A file may hang, and the master end nevertheless.
        let found = tokio::select! {
            found = shared.admission.authenticator.look() => found,
            () = shared.closing.cancelled() => return,
        };
        let has_changed = agreed.note(found);
        let Some(files) = &agreed.enforced else { continue };
        if has_changed && files.is_empty() {
            tracing::warn!("no token is left in the token file: all nodes are put out, and nobody is let in");
        }
        if has_changed || (files.expires() && clock_looked_at.elapsed() >= every) {
            clock_looked_at = Instant::now();
            enforce(&shared, files.clone()).await;
        }
    }
}

async fn enforce(shared: &Arc<Shared>, files: Generation) {
    let books = Arc::clone(shared);
    let Ok(invalid) = spawn_blocking(move || books.credentials.enforce(files)).await else { return };
    let mut counts = HashMap::new();
    for (_, credential, invalid) in &invalid {
        counts.entry((credential.principal.id, *invalid)).or_insert((credential, 0)).1 += 1;
    }
    for ((_, invalid), (credential, nodes)) in counts {
        tell(credential, invalid, nodes);
    }
    let nodes: Vec<_> = invalid.iter().map(|(node, _, invalid)| (*node, *invalid)).collect();
    for slice in nodes.chunks(SLICE) {
        put_out(shared, slice);
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
    async fn a_file_that_is_being_written_is_not_believed_before_it_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cluster.token");
        Token::issue(&file, Access::Nodes).expect("writes");
        let authenticator =
            MasterAuthenticator::new(&SecurityConfig { token_file: Some(file.clone()), ..SecurityConfig::default() })
                .expect("reads");
        let mut agreed = Agreed { enforced: authenticator.current(), candidate: None };
        let text = std::fs::read_to_string(&file).expect("reads");
        let half = &text[..text.len() - 40];
        for (text, is_enforced) in [
            (&text[..], false),
            // Emptied, half a line, whole again.
            ("", false),
            (half, false),
            ("", false),
            (&text, false),
            // It was read anew, and so is another, and still has the same.
            (&text, true),
            (&text, false),
            ("", false),
            ("", true),
            ("", false),
            // Nor is what was found before the damage believed at once after it.
            (&text, false),
            ("x", false),
            (&text, false),
            (&text, true),
        ] {
            std::fs::write(&file, text).expect("writes");
            assert_eq!(agreed.note(authenticator.look().await), is_enforced, "{text}");
        }
    }
}
