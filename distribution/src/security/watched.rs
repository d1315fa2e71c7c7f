//! A value that is made from files, and made again when they change.
//!
//! Whether they have changed is decided by their contents, because a user who may write to a file can also set its length and
//! times. The files are small and read whole.
//!
//! Any connection causes a read, and a file may be on a network file system that is slow or hangs. So one read serves all
//! connections that wait for one, the next begins only when it has ended, and there are at most a hundred a second.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex as Turn, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::trusted_file::Contents;
use crate::error::Error;

/// SHA-256 over what all files hold. Kept in place of what they hold, which is secret.
type Held = [u8; 32];

/// The time from the beginning of one look to that of the next.
const INTERVAL: Duration = Duration::from_millis(10);

/// What is used while the files cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTrouble {
    /// The value from before: files that belong together are replaced one by one.
    Keep,
    /// Nothing: a credential that was removed from a file must not stay valid because another line is damaged.
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
    /// What the look will find that has not begun yet, if somebody waits for one.
    next: Mutex<Option<watch::Receiver<Option<Looked<T>>>>>,
    /// Held by the look that is under way. When it began.
    turn: Turn<Option<Instant>>,
}

/// What a look has found for all that wait for it, or why the files cannot be used.
type Looked<T> = Result<Arc<T>, Arc<str>>;

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
        let (next, turn) = (Mutex::new(None), Turn::new(None));
        Ok(Self { files, read: Box::new(read), on_trouble, seen, current, next, turn })
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
    /// Why they cannot be used, if that is not to be passed over.
    pub(crate) fn look(&self) -> Result<Arc<T>, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.read)(seen.held) {
            Ok(None) => {
                if !std::mem::take(&mut seen.complained).is_empty() {
                    tracing::info!(files = ?self.files, "these files can be used again, and have the contents from before");
                }
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
                let violation = error.to_string();
                if violation != seen.complained {
                    let (files, reason) = (&self.files, &error);
                    match self.on_trouble {
                        OnTrouble::Keep => {
                            tracing::error!(?files, %reason, "these files cannot be used; their contents from before stay in use");
                        }
                        OnTrouble::Fail => tracing::error!(
                            ?files,
                            %reason,
                            "these files cannot be used; no new node can register until they can, and nodes that are registered stay"
                        ),
                    }
                    seen.complained = violation;
                }
                match self.on_trouble {
                    OnTrouble::Keep => Ok(self.current()),
                    OnTrouble::Fail => Err(error),
                }
            }
        }
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// What the files held at a time after this was called, without holding up the thread. May wait for two looks: the one
    /// under way may have read before they changed.
    ///
    /// # Errors
    ///
    /// As for [`look`](Self::look).
    pub(crate) async fn look_in_turn(self: &Arc<Self>) -> Looked<T> {
        if !self.may_change() {
            return Ok(self.current());
        }
        loop {
            let mut next = self.next();
            if let Ok(looked) = next.wait_for(Option::is_some).await {
                if let Some(looked) = &*looked {
                    return looked.clone();
                }
            }
            // The look panicked or its runtime has ended. If it is this one, this is polled no more.
            tokio::task::yield_now().await;
        }
    }

    fn next(self: &Arc<Self>) -> watch::Receiver<Option<Looked<T>>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match &*next {
            Some(receiver) if receiver.has_changed().is_ok() => receiver.clone(),
            _ => {
                let (found, receiver) = watch::channel(None);
                *next = Some(receiver.clone());
                // Apart from who asks, who may go away while a file hangs.
                tokio::spawn(Arc::clone(self).take_turn(found));
                receiver
            }
        }
    }

    async fn take_turn(self: Arc<Self>, found: watch::Sender<Option<Looked<T>>>) {
        let mut turn = self.turn.lock().await;
        if let Some(begun) = *turn {
            sleep_until(begun + INTERVAL).await;
        }
        *turn = Some(Instant::now());
        // Who comes from here on may know of something that this look will not see.
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let watched = Arc::clone(&self);
        if let Ok(looked) = spawn_blocking(move || watched.look()).await {
            found.send_replace(Some(looked.map_err(|error| error.to_string().into())));
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

    /// One that says when it begins to read, and goes on when it is told to.
    fn slow() -> (Arc<Watched<u32>>, tokio::sync::mpsc::UnboundedReceiver<()>, mpsc::Sender<()>) {
        let (begun, has_begun) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (may_go_on, is_first) = (Mutex::new(may_go_on), Mutex::new(true));
        let read = move || {
            if !std::mem::take(&mut *is_first.lock().expect("is whole")) {
                begun.send(()).expect("the test waits");
                may_go_on.lock().expect("is whole").recv().expect("the test goes on");
            }
            Ok([])
        };
        let files = vec!["slow".into()];
        let watched = Watched::new(files, OnTrouble::Fail, read, |_: &[Contents; 0]| Ok(7)).expect("loads");
        (Arc::new(watched), has_begun, go_on)
    }

    #[tokio::test]
    async fn a_flood_waits_for_two_looks_and_blocks_one_thread() {
        let (watched, mut has_begun, go_on) = slow();
        let ask = || {
            let watched = Arc::clone(&watched);
            tokio::spawn(async move { watched.look_in_turn().await.map(|value| *value) })
        };
        let first = ask();
        has_begun.recv().await.expect("it reads");
        // The one under way is not for them: what they know of may have happened since it began.
        let flood: Vec<_> = (0..1000).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        // Nor does it end when nobody waits for it any more.
        first.abort();
        has_begun.try_recv().expect_err("one thread at a time");
        go_on.send(()).expect("it reads");
        has_begun.recv().await.expect("it reads again");
        go_on.send(()).expect("it reads");
        for asked in flood {
            assert_eq!(asked.await.expect("does not panic"), Ok(7));
        }
        has_begun.try_recv().expect_err("one look was enough for all of them");
    }

    #[tokio::test(start_paused = true)]
    async fn looks_are_a_hundred_a_second_at_most() {
        let (watched, mut has_begun, go_on) = slow();
        let start = Instant::now();
        let mut looks = 0;
        while start.elapsed() < Duration::from_secs(1) {
            go_on.send(()).expect("it reads");
            watched.look_in_turn().await.expect("holds");
            has_begun.recv().await.expect("it has read");
            looks += 1;
        }
        assert!((50..=102).contains(&looks), "{looks}");
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
