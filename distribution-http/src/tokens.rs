//! The tokens that requests are let in by: those that a builder was given, and those of a token file, which may change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use distribution::{Access, Token};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Look, and change nothing.
    Viewer,
    /// Look, and change what the cluster does.
    Admin,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }

    fn of(access: Access) -> Option<Self> {
        match access {
            Access::Admins => Some(Self::Admin),
            Access::Viewers => Some(Self::Viewer),
            _ => None,
        }
    }
}

/// SHA-256 of a token. Tokens are compared by it, so that all have one length and none is kept in the clear.
pub(crate) type Fingerprint = [u8; 32];

pub(crate) fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token.as_bytes()).into()
}

/// A token that is accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) role: Role,
    /// What logs and the page call it: nothing secret.
    pub(crate) name: Arc<str>,
    fingerprint: Fingerprint,
}

impl Accepted {
    pub(crate) fn new(role: Role, name: &str, token: &str) -> Self {
        Self { role, name: name.into(), fingerprint: fingerprint(token) }
    }

    /// That one of these that has this fingerprint. Takes as long whichever it is.
    fn find(all: &[Self], wanted: &Fingerprint) -> Option<Self> {
        let (mut at, mut found) = (u64::MAX, Choice::from(0));
        for (index, accepted) in all.iter().enumerate() {
            let equal = accepted.fingerprint.ct_eq(wanted);
            at.conditional_assign(&(index as u64), equal);
            found |= equal;
        }
        bool::from(found).then(|| all.get(usize::try_from(at).ok()?).cloned()).flatten()
    }
}

/// The time from one look at the token file to the next.
const INTERVAL: Duration = Duration::from_millis(500);

/// The same for a token that was not there at the last look: it may have been issued since.
const SHORT_INTERVAL: Duration = Duration::from_millis(20);

/// The tokens of a file. A token that is removed from it is not accepted a second later.
#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    seen: Mutex<Seen>,
    /// Held by the look that is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    tokens: Arc<[Accepted]>,
    /// Said once, not with each request.
    trouble: Option<String>,
}

impl TokenFile {
    fn open(path: PathBuf) -> Result<Self, distribution::Error> {
        let tokens = read(&path)?;
        let seen = Mutex::new(Seen { at: Instant::now(), tokens, trouble: None });
        Ok(Self { path, seen, turn: Arc::default() })
    }

    /// When the last look began, and what it saw.
    fn last(&self) -> (Instant, Arc<[Accepted]>) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.at, Arc::clone(&seen.tokens))
    }

    /// The token with this fingerprint, if it is in the file.
    ///
    /// A token that the last look did not see is looked for again, by a look that begins after this call: a token that was
    /// issued a moment ago must not be refused. All that wait share that look, so wrong
    /// tokens cannot make this read the file more often than [`SHORT_INTERVAL`] says.
    async fn find(self: &Arc<Self>, wanted: &Fingerprint) -> Option<Accepted> {
        let asked = Instant::now();
        let (at, mut tokens) = self.last();
        if at.elapsed() >= INTERVAL {
            tokens = self.look(asked).await;
        }
        match Accepted::find(&tokens, wanted) {
            Some(found) => Some(found),
            None => Accepted::find(&self.look(asked).await, wanted),
        }
    }

    /// The tokens that a look saw which began at this time or later. None while the file cannot be read: a token that was
    /// removed must not stay valid because another line is damaged.
    async fn look(self: &Arc<Self>, since: Instant) -> Arc<[Accepted]> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (at, tokens) = self.last();
        if at >= since {
            return tokens;
        }
        // In a task of its own: a request that is given up must not end the look, or the next one would look at once.
        let file = Arc::clone(self);
        let looked = tokio::spawn(async move {
            let _turn = turn;
            tokio::time::sleep_until((at + SHORT_INTERVAL).into()).await;
            let (path, at) = (file.path.clone(), Instant::now());
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            file.note(
                at,
                read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string())),
            )
        });
        looked.await.unwrap_or_default()
    }

    /// Keeps what a look has seen that began at this time.
    fn note(&self, at: Instant, read: Result<Arc<[Accepted]>, String>) -> Arc<[Accepted]> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, trouble) = match read {
            Ok(tokens) => (tokens, None),
            Err(trouble) => (Arc::default(), Some(trouble)),
        };
        if let Some(trouble) = trouble.as_ref().filter(|_| seen.trouble != trouble) {
            let file = self.path.display();
            tracing::error!(%file, reason = trouble, "nobody can use the page until its tokens can be read");
        }
        *seen = Seen { at, tokens: Arc::clone(&tokens), trouble };
        tokens
    }
}

fn read(path: &Path) -> Result<Arc<[Accepted]>, distribution::Error> {
    let tokens = Token::list(path)?;
    let accepted = tokens.iter().filter_map(|token| {
        let role = Role::of(token.access())?;
        Some(Accepted::new(role, &format!("token {}", token.id()), token.expose()))
    });
    Ok(accepted.collect())
}

/// All tokens that requests are let in by.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    given: Vec<Accepted>,
    file: Option<Arc<TokenFile>>,
}

impl Tokens {
    /// Accepts this one.
    pub(crate) fn give(&mut self, token: Accepted) {
        self.given.push(token);
    }

    /// Accepts those of this file.
    pub(crate) fn open_file(&mut self, path: PathBuf) -> Result<(), distribution::Error> {
        self.file = Some(Arc::new(TokenFile::open(path)?));
        Ok(())
    }

    /// Whether requests have to bring one.
    pub(crate) fn are_demanded(&self) -> bool {
        !self.given.is_empty() || self.file.is_some()
    }

    /// The token with this fingerprint, if it is accepted now.
    pub(crate) async fn find(&self, wanted: &Fingerprint) -> Option<Accepted> {
        let given = Accepted::find(&self.given, wanted);
        let Some(file) = &self.file else { return given };
        if given.is_some() {
            return given;
        }
        file.find(wanted).await
    }

    /// How a token is had, as the end of a sentence.
    pub(crate) fn how_to_get_one(&self) -> String {
        match &self.file {
            Some(file) => format!(
                "`distribution token issue --token-file {} --for admins` makes one",
                file.path.file_name().unwrap_or_default().to_string_lossy()
            ),
            None => "the program's owner has it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_that_is_found_is_the_one_that_was_sent() {
        let all = [("a", Role::Viewer), ("b", Role::Admin)].map(|(name, role)| Accepted::new(role, name, name));
        let name = |token: &str| Accepted::find(&all, &fingerprint(token)).map(|found| found.name.to_string());
        assert_eq!([name("a"), name("b"), name("c"), name("")], [Some("a".into()), Some("b".into()), None, None]);
    }

    #[tokio::test]
    async fn a_token_that_was_issued_just_after_a_look_is_accepted_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        Token::issue(&path, Access::Admins).expect("is issued");
        let file = Arc::new(TokenFile::open(path.clone()).expect("is read"));
        for _ in 0..20 {
            assert!(file.find(&fingerprint("wrong")).await.is_none());
            let token = Token::issue(&path, Access::Viewers).expect("is issued");
            let found = file.find(&fingerprint(token.expose())).await.expect("is accepted");
            assert_eq!(found.role, Role::Viewer);
        }
    }
}
