//! The hub: reads the master while somebody looks, and holds the newest state of each part of the page.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use distribution::AdminClient;
use tokio::{sync::watch, task::AbortHandle};

use super::{measured::Measured, part::Part, poll::Reader};

/// The time from one look at the master to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// A look that took some time is followed by this many times as long without one, so that the page costs a busy master
/// little, however much there is to show.
const REST: u32 = 40;

/// But not longer than this: the page has to tell soon what is wrong.
const LONGEST_REST: Duration = Duration::from_secs(3);

/// How long the master is read after the last viewer has gone: who comes back in this time sees figures at once.
const LINGER: Duration = Duration::from_secs(30);

/// The newest state of all parts.
pub(crate) type Parts = Arc<[Part]>;

/// Reads the master while somebody looks.
#[derive(Debug)]
pub(crate) struct Hub {
    admin: AdminClient,
    parts: watch::Sender<Parts>,
    measured: Arc<Mutex<Measured>>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    viewers: usize,
    /// When the last one has gone.
    alone_since: Option<Instant>,
    reader: Option<AbortHandle>,
}

impl Hub {
    pub(crate) fn new(admin: AdminClient) -> Arc<Self> {
        let parts = watch::Sender::new(Arc::default());
        Arc::new(Self { admin, parts, measured: Arc::default(), inner: Mutex::default() })
    }

    /// Counts a viewer until this is dropped, and begins to read the master if nobody has looked before.
    pub(crate) fn look(self: &Arc<Self>) -> Look {
        let mut inner = self.lock();
        inner.viewers += 1;
        inner.alone_since = None;
        // A reader whose runtime has ended, or that panicked, is replaced.
        if inner.reader.as_ref().is_none_or(AbortHandle::is_finished) {
            let reader =
                tokio::spawn(read(Arc::downgrade(self), Reader::new(self.admin.clone(), Arc::clone(&self.measured))));
            inner.reader = Some(reader.abort_handle());
        }
        drop(inner);
        Look { hub: Arc::clone(self), parts: self.parts.subscribe() }
    }

    /// Whether the reader may end, because nobody has looked for a while. If so, the next viewer starts another one.
    fn is_over(&self) -> bool {
        let mut inner = self.lock();
        let is_over = inner.alone_since.is_some_and(|since| since.elapsed() >= LINGER);
        if is_over {
            inner.reader = None;
            // Old figures must not be the first that the next viewer sees.
            self.parts.send_replace(Arc::default());
            *self.measured() = Measured::default();
        }
        is_over
    }

    /// What was counted of methods while somebody has looked.
    pub(crate) fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(reader) = self.lock().reader.take() {
            reader.abort();
        }
    }
}

/// A viewer's look at the hub.
#[derive(Debug)]
pub(crate) struct Look {
    hub: Arc<Hub>,
    pub(crate) parts: watch::Receiver<Parts>,
}

impl Drop for Look {
    fn drop(&mut self) {
        let mut inner = self.hub.lock();
        inner.viewers -= 1;
        if inner.viewers == 0 {
            inner.alone_since = Some(Instant::now());
        }
    }
}

/// Reads the master again and again, until nobody has looked for a while or the router is gone.
async fn read(hub: Weak<Hub>, mut reader: Reader) {
    loop {
        let began = Instant::now();
        let parts = reader.read().await;
        let took = began.elapsed();
        {
            let Some(hub) = hub.upgrade() else { return };
            hub.parts.send_replace(parts);
            if hub.is_over() {
                return;
            }
        }
        reader.rest((took * REST).min(LONGEST_REST).max(INTERVAL.saturating_sub(took))).await;
    }
}
