//! What a handler can ask about the call it is running.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::latch::Latch;
use crate::id::CallId;

thread_local! {
    static COMPUTING: RefCell<Option<CurrentCall>> = const { RefCell::new(None) };
}

tokio::task_local! {
    static ASYNCHRONOUS: CurrentCall;
}

/// The call that the current thread or task is running; see [`current`].
///
/// A cheap clone. Take it at the beginning of a handler and move clones into what the handler spawns,
/// rayon's parallel iterators included: those run on other threads, where [`current`] knows nothing.
#[derive(Clone, Debug)]
pub struct CurrentCall {
    id: CallId,
    attempt: u32,
    deadline: Option<Instant>,
    shared: Arc<Shared>,
}

/// What a call's handler and its connection tell each other.
#[derive(Debug, Default)]
struct Shared {
    cancelled: Latch,
    /// Whether its async handler was polled.
    was_started: AtomicBool,
}

/// The call whose handler asks.
///
/// Outside a handler, as in a unit test that calls the trait's method directly, it is a call that nobody
/// cancels and that has no deadline.
///
/// ```
/// # let (from, to) = (0u64, 10);
/// let call = distribution::current();
/// let mut sum = 0;
/// for number in from..to {
///     if call.is_cancelled() {
///         break; // nobody waits for the value any more
///     }
///     sum += number;
/// }
/// # assert_eq!(sum, 45);
/// ```
pub fn current() -> CurrentCall {
    ASYNCHRONOUS
        .try_with(Clone::clone)
        .ok()
        .or_else(|| COMPUTING.with_borrow(Clone::clone))
        .unwrap_or_else(|| CurrentCall::new(CallId(0), 1, None))
}

impl CurrentCall {
    pub(super) fn new(id: CallId, attempt: u32, timeout: Option<Duration>) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { id, attempt, deadline, shared: Arc::default() }
    }

    /// The call, as its master counts them; the same in each attempt at it. A call of a `.distribute()`
    /// whose batch was lost or cut is made anew, under a new number.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Which attempt at the call this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the caller gives up, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether nobody waits for the value any more: the caller gave up, its time is over, or the
    /// connection to the master is lost. A compute handler that runs for long should ask now and then,
    /// and return anything at all when it is so.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.is_set() || self.is_late()
    }

    /// Whether its time is over.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// The call that comes so many behind this one, the first of a batch.
    pub(super) fn nth(&self, index: u64) -> Self {
        Self { id: CallId(self.id.0.saturating_add(index)), ..self.clone() }
    }

    pub(super) fn key(&self) -> (u64, u32) {
        (self.id.0, self.attempt)
    }

    pub(super) fn cancel(&self) {
        self.shared.cancelled.set();
    }

    /// Waits until it is cancelled or its time is over.
    pub(super) async fn stopped(&self) {
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.cancelled.wait() => {}
            () = late => {}
        }
    }

    /// Runs a compute handler as this call.
    pub(super) fn compute<T>(&self, run: impl FnOnce() -> T) -> T {
        struct Forget;
        impl Drop for Forget {
            fn drop(&mut self) {
                COMPUTING.set(None);
            }
        }
        COMPUTING.set(Some(self.clone()));
        let _forget = Forget;
        run()
    }

    /// Whether its async handler was ever polled.
    pub(super) fn was_started(&self) -> bool {
        self.shared.was_started.load(Ordering::Acquire)
    }

    /// Polls an async handler once as this call.
    pub(super) fn poll_in<F: Future + ?Sized>(&self, cx: &mut Context<'_>, handler: Pin<&mut F>) -> Poll<F::Output> {
        self.shared.was_started.store(true, Ordering::Release);
        ASYNCHRONOUS.sync_scope(self.clone(), || handler.poll(cx))
    }

    /// Runs an async handler as this call.
    pub(super) fn scope<F: Future>(&self, handler: F) -> impl Future<Output = F::Output> + use<F> {
        let shared = Arc::clone(&self.shared);
        ASYNCHRONOUS.scope(self.clone(), async move {
            shared.was_started.store(true, Ordering::Release);
            handler.await
        })
    }
}
