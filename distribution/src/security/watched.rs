//! Something that is made of files, and made anew when they change.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use crate::error::Error;

/// What tells that a file was replaced or written to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// Files that are replaced in the same instant differ in this; 0 where there is none.
    inode: u64,
}

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
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, Error> + Send + Sync>,
    on_trouble: OnTrouble,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    /// Said once, not with each connection.
    complained: String,
}

impl<T> Watched<T> {
    /// Makes it for the first time.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        on_trouble: OnTrouble,
        load: impl Fn() -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // Before, so that a change while it is loaded is seen at the next look.
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        let state = Mutex::new(State { value, stamps, complained: String::new() });
        Ok(Self { files, load: Box::new(load), on_trouble, state })
    }

    /// What the files held when they were looked at last.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).value)
    }

    /// What the files hold now. Reads files, so not for a thread that others wait for.
    ///
    /// # Errors
    ///
    /// Why they are of no use, if that is not to be passed over.
    pub(crate) fn look(&self) -> Result<Arc<T>, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if stamps == state.stamps {
            return Ok(Arc::clone(&state.value));
        }
        match (self.load)() {
            Ok(value) => {
                tracing::info!(files = ?self.files, "read again, because they have changed");
                *state = State { value: Arc::new(value), stamps, complained: String::new() };
                Ok(Arc::clone(&state.value))
            }
            // The stamps stay as they were, so that the next look tries again.
            Err(error) => {
                let complaint = error.to_string();
                if complaint != state.complained {
                    let until_then = match self.on_trouble {
                        OnTrouble::Keep => "what was there before holds",
                        OnTrouble::Fail => "nobody is let in",
                    };
                    tracing::error!(files = ?self.files, %error, "changed and of no use; until they are, {until_then}");
                    state.complained = complaint;
                }
                match self.on_trouble {
                    OnTrouble::Keep => Ok(Arc::clone(&state.value)),
                    OnTrouble::Fail => Err(error),
                }
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| fs::metadata(file).ok().map(|metadata| stamp(&metadata))).collect()
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_its_files() {
        for on_trouble in [OnTrouble::Keep, OnTrouble::Fail] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("number");
            fs::write(&file, "1").expect("writes");
            let from = file.clone();
            let watched = Watched::new(vec![file.clone()], on_trouble, move || {
                let text = fs::read_to_string(&from).unwrap_or_default();
                text.parse::<u32>().map_err(|_| Error::setting("number", text, "it must be a number"))
            });
            let watched = watched.expect("loads");
            let look = || watched.look().ok().map(|number| *number);
            let before = |number| (on_trouble == OnTrouble::Keep).then_some(number);
            assert_eq!(look(), Some(1));
            fs::write(&file, "234").expect("writes");
            assert_eq!(look(), Some(234));
            fs::write(&file, "none").expect("writes");
            assert_eq!(look(), before(234));
            fs::remove_file(&file).expect("removes");
            assert_eq!(look(), before(234));
            fs::write(&file, "5").expect("writes");
            assert_eq!(look(), Some(5));
        }
    }
}
