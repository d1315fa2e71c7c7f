//! Something that is made of files, and made anew when they change.
//!
//! Whether they have changed is seen by what they hold: who may write to a file can set its length and times as well. They
//! are read whole at each look, and small.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use super::trusted_file::Contents;
use crate::error::Error;

/// SHA-256 over what all files hold. Kept in place of what they hold, which is secret.
type Held = [u8; 32];

/// What holds while the files are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTrouble {
    /// What was there before: files that belong together are replaced one by one.
    Keep,
    /// Nothing: what was taken out of a file must not go on by the damage of another line.
    Fail,
}

/// A value with the files that it was made of.
pub(crate) struct Watched<T> {
    /// For logs.
    files: Vec<PathBuf>,
    read: Box<Read<T>>,
    on_trouble: OnTrouble,
    /// Locked while files are read, which may take as long as a disk or a network does.
    seen: Mutex<Seen>,
    /// Never locked for longer than a copy takes.
    current: Mutex<Arc<T>>,
}

/// Reads the files; makes a value of them if they do not hold this any more.
type Read<T> = dyn Fn(Held) -> Result<Option<(T, Held)>, Error> + Send + Sync;

struct Seen {
    held: Held,
    /// Said once, not with each connection.
    complained: String,
}

impl<T> Watched<T> {
    /// Makes it for the first time.
    pub(crate) fn new<const FILES: usize>(
        files: Vec<PathBuf>,
        on_trouble: OnTrouble,
        read: impl Fn() -> Result<[Contents; FILES], Error> + Send + Sync + 'static,
        load: impl Fn(&[Contents; FILES]) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let contents = read()?;
        let seen = Mutex::new(Seen { held: held(&contents), complained: String::new() });
        let current = Mutex::new(Arc::new(load(&contents)?));
        let read = move |before| {
            let contents = read()?;
            let held = held(&contents);
            if held == before { Ok(None) } else { load(&contents).map(|value| Some((value, held))) }
        };
        Ok(Self { files, read: Box::new(read), on_trouble, seen, current })
    }

    /// Whether it may become another.
    pub(crate) fn may_change(&self) -> bool {
        !self.files.is_empty()
    }

    /// What the files held when they were looked at last. Waits for nothing.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the files hold now. Reads files, so not for a thread that others wait for.
    ///
    /// # Errors
    ///
    /// Why they are of no use, if that is not to be passed over.
    pub(crate) fn look(&self) -> Result<Arc<T>, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.read)(seen.held) {
            Ok(None) => {
                seen.complained.clear();
                Ok(self.current())
            }
            Ok(Some((value, held))) => {
                tracing::info!(files = ?self.files, "read again, because they have changed");
                *seen = Seen { held, complained: String::new() };
                let value = Arc::new(value);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&value);
                Ok(value)
            }
            // What was held stays as it was, so that the next look tries again.
            Err(error) => {
                let complaint = error.to_string();
                if complaint != seen.complained {
                    let until_then = match self.on_trouble {
                        OnTrouble::Keep => "what was there before holds",
                        OnTrouble::Fail => "nobody is let in",
                    };
                    tracing::error!(files = ?self.files, %error, "changed and of no use; until they are, {until_then}");
                    seen.complained = complaint;
                }
                match self.on_trouble {
                    OnTrouble::Keep => Ok(self.current()),
                    OnTrouble::Fail => Err(error),
                }
            }
        }
    }
}

fn held(contents: &[Contents]) -> Held {
    let mut digest = Sha256::new();
    for contents in contents {
        // With its length, so that nothing moves from one file to the next unseen.
        digest.update((contents.bytes().len() as u64).to_le_bytes());
        digest.update(contents.bytes());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use super::{super::trusted_file, *};

    #[test]
    fn what_the_files_held_is_known_while_they_are_read() {
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let is_first = Mutex::new(true);
        let read = move || {
            // The first time it is made, and the second time the disk is slow.
            if !std::mem::take(&mut *is_first.lock().expect("is whole")) {
                begun.send(()).expect("the test waits");
                may_go_on.lock().expect("is whole").recv().expect("the test goes on");
            }
            Ok([])
        };
        let watched = Watched::new(Vec::new(), OnTrouble::Keep, read, |_: &[Contents; 0]| Ok(7)).expect("loads");
        std::thread::scope(|scope| {
            let look = scope.spawn(|| *watched.look().expect("holds"));
            has_begun.recv().expect("it reads");
            let current = scope.spawn(|| *watched.current());
            // With a lock for both, this would never end.
            assert_eq!(current.join().expect("does not wait"), 7);
            go_on.send(()).expect("it reads");
            assert_eq!(look.join().expect("looks"), 7);
        });
    }

    #[test]
    fn it_changes_with_its_files() {
        for on_trouble in [OnTrouble::Keep, OnTrouble::Fail] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("number");
            fs::write(&file, "1").expect("writes");
            let from = file.clone();
            let read = move || match trusted_file::read(&from) {
                Ok(contents) => Ok([contents]),
                Err(error) => Err(Error::setting("number", error, "it must be there")),
            };
            let watched = Watched::new(vec![file.clone()], on_trouble, read, |[contents]| {
                let text = String::from_utf8_lossy(contents.bytes());
                text.parse::<u32>().map_err(|_| Error::setting("number", text, "it must be a number"))
            });
            let watched = watched.expect("loads");
            let look = || watched.look().ok().map(|number| *number);
            let before = |number| (on_trouble == OnTrouble::Keep).then_some(number);
            assert_eq!(look(), Some(1));
            fs::write(&file, "234").expect("writes");
            assert_eq!(look(), Some(234));
            // Nothing but what it holds tells this from the one before.
            let modified = fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("has a time");
            fs::write(&file, "432").expect("writes");
            fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(modified)).expect("sets it");
            assert_eq!(look(), Some(432));
            fs::write(&file, "none").expect("writes");
            assert_eq!(look(), before(432));
            fs::remove_file(&file).expect("removes");
            assert_eq!(look(), before(432));
            fs::write(&file, "5").expect("writes");
            assert_eq!(look(), Some(5));
        }
    }
}
