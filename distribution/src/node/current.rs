//! `CurrentCall`: what a handler can learn about the call that it runs.

use std::{
    backtrace::Backtrace,
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{latch::Latch, profiler};
use crate::{
    id::CallId,
    log_queue::NodeLogs,
    service::{
        dispatcher::Dispatcher,
        metadata::{self, Metadata},
        method::MethodInfo,
    },
};

thread_local! {
    static COMPUTING: RefCell<Option<CurrentCall>> = const { RefCell::new(None) };
}

tokio::task_local! {
    static ASYNCHRONOUS: CurrentCall;
}

/// The call that the current thread or task runs; see [`current`].
///
/// Clones are cheap. Take it at the beginning of a handler, and move clones into the tasks, threads and parallel iterators
/// that the handler starts: on other threads [`current`] does not find the call.
#[derive(Clone, Debug)]
pub struct CurrentCall {
    id: CallId,
    /// The id of the request that brought it: of a batch, that of its first call.
    request: CallId,
    attempt: u32,
    deadline: Option<Instant>,
    shared: Arc<Shared>,
    /// What makes nested calls; `None` outside a handler.
    nesting: Option<Arc<dyn Nesting>>,
}

/// What the handler of a call and its connection share.
#[derive(Debug, Default)]
struct Shared {
    cancelled: Latch,
    /// Whether its async handler was polled.
    was_started: AtomicBool,
    /// Nested calls of an async handler that have not ended.
    nested: Mutex<usize>,
    metadata: Metadata,
    /// `None` outside a handler, and if the node does not serve it.
    method: Option<Arc<MethodInfo>>,
    /// The last panic while the handler ran, until it is logged.
    panic: Mutex<Option<Box<SeenPanic>>>,
}

/// What was seen of a panic where it began.
#[derive(Debug)]
pub(super) struct SeenPanic {
    pub(super) message: String,
    pub(super) place: Option<String>,
    /// `None` if there were too many lately.
    pub(super) backtrace: Option<Backtrace>,
}

/// The call whose handler this is called in.
///
/// Outside a handler, as in a unit test that calls the trait's method directly, it returns a call that is never cancelled
/// and has no deadline.
///
/// ```
/// # let (from, to) = (0u64, 10);
/// let call = distribution::current();
/// let mut sum = 0;
/// for number in from..to {
///     if call.is_cancelled() {
///         break; // the caller no longer waits for the value
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
        .unwrap_or_else(|| CurrentCall::new(CallId(0), 1, None, None, None, None))
}

/// What the node does for a call that makes nested calls.
pub(super) trait Nesting: fmt::Debug + Send + Sync {
    /// What clients make calls with that are parts of `call`.
    fn dispatcher(&self, call: &CurrentCall) -> Arc<dyn Dispatcher>;

    /// The compute handler of a call waits, and lends its slot. False if it must not, because too many wait.
    fn on_waits(&self, call: &CurrentCall) -> bool;

    /// The compute handler of a call goes on, and needs its slot.
    fn on_goes_on(&self, call: &CurrentCall);

    /// The handler of a call waits, and the node can run another one.
    fn lend(&self, call: &CurrentCall);

    /// The handler of a call goes on.
    fn resume(&self, call: &CurrentCall);

    /// Where records of the call's handler go.
    fn logs(&self) -> Option<&Arc<NodeLogs>>;
}

impl CurrentCall {
    pub(super) fn new(
        id: CallId,
        attempt: u32,
        timeout: Option<Duration>,
        metadata: Metadata,
        method: Option<Arc<MethodInfo>>,
        nesting: Option<Arc<dyn Nesting>>,
    ) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let shared = Arc::new(Shared { metadata, method, ..Shared::default() });
        Self { id, request: id, attempt, deadline, shared, nesting }
    }

    /// The call whose handler runs on this thread at this moment. Does not panic, so that a panic hook may ask.
    pub(super) fn running() -> Option<Self> {
        let asynchronous = ASYNCHRONOUS.try_with(Clone::clone).ok();
        asynchronous.or_else(|| COMPUTING.try_with(|call| call.try_borrow().ok()?.clone()).ok().flatten())
    }

    /// The method that it calls.
    pub(super) fn method(&self) -> Option<&MethodInfo> {
        self.shared.method.as_deref()
    }

    /// A panic began while its handler ran. The handler may catch it.
    pub(super) fn on_panic(&self, seen: SeenPanic) {
        *self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(seen));
    }

    /// The last panic while its handler ran.
    pub(super) fn take_panic(&self) -> Option<SeenPanic> {
        self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take().map(|seen| *seen)
    }

    /// The id of the request that brought the call.
    pub(super) fn request(&self) -> CallId {
        self.request
    }

    pub(super) fn nesting(&self) -> Option<&Arc<dyn Nesting>> {
        self.nesting.as_ref()
    }

    /// Looks at the call whose compute handler runs on this thread.
    pub(super) fn with_computing(look: impl FnOnce(&Self)) {
        if let Some(call) = COMPUTING.with_borrow(Clone::clone) {
            look(&call);
        }
    }

    /// Whether its handler is async.
    pub(super) fn is_asynchronous(&self) -> bool {
        self.was_started()
    }

    /// The compute handler waits, and lends its slot. False if too many wait already: then it keeps the slot.
    pub(super) fn on_waits(&self) -> bool {
        self.nesting.as_ref().is_none_or(|nesting| nesting.on_waits(self))
    }

    /// The compute handler goes on, and needs its slot.
    pub(super) fn on_goes_on(&self) {
        if let Some(nesting) = &self.nesting {
            nesting.on_goes_on(self);
        }
    }

    /// The async handler has made a nested call: with the first it counts as waiting.
    pub(super) fn on_nested_begun(&self) {
        let mut nested = self.shared.nested.lock().unwrap_or_else(PoisonError::into_inner);
        *nested += 1;
        // Under the lock, so that the master hears of both in the order in which they happen.
        if let (1, Some(nesting)) = (*nested, &self.nesting) {
            nesting.lend(self);
        }
    }

    /// A nested call of the async handler has ended.
    pub(super) fn on_nested_ended(&self) {
        let mut nested = self.shared.nested.lock().unwrap_or_else(PoisonError::into_inner);
        *nested = nested.saturating_sub(1);
        if let (0, Some(nesting)) = (*nested, &self.nesting) {
            nesting.resume(self);
        }
    }

    /// The call's id, which is the same in each attempt. A call of a `.distribute()` whose batch was lost or cut is made
    /// again, with a new id.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// The number of this attempt at the call, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the call's timeout passes; `None` if it has none.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The value that the caller has sent along under this key with [`Call::metadata`](crate::Call::metadata), or that the
    /// call inherited from the one whose handler made it.
    ///
    /// It is what the caller says, and no proof of who the caller is.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        metadata::get(&self.shared.metadata, key)
    }

    /// All keys and values that [`metadata`](Self::metadata) finds, in the order of the keys.
    ///
    /// ```
    /// # fn outgoing() -> Vec<(String, String)> {
    /// // As headers of a request to somebody else.
    /// let call = distribution::current();
    /// call.metadata_entries().map(|(key, value)| (format!("x-{key}"), value.to_owned())).collect()
    /// # }
    /// # assert!(outgoing().is_empty());
    /// ```
    pub fn metadata_entries(&self) -> impl Iterator<Item = (&str, &str)> {
        metadata::entries(&self.shared.metadata).iter().map(|(key, value)| (&**key, &**value))
    }

    /// The same, for calls that the handler makes.
    pub(super) fn inherited_metadata(&self) -> Metadata {
        self.shared.metadata.clone()
    }

    /// Whether the value is no longer needed: the caller has dropped the call, its deadline has passed, or the master is
    /// lost. A connection that breaks does not cancel it while the master may wait for the node (see
    /// [`reconnect_grace`](crate::MasterBuilder::reconnect_grace)). A compute handler that runs for long should check this
    /// now and then, and return early, with any value.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.is_set() || self.is_late()
    }

    /// Whether its deadline has passed.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// The call at this index of a batch, of which this call is the first.
    pub(super) fn nth(&self, index: u64) -> Self {
        Self { id: CallId(self.id.0.saturating_add(index)), ..self.clone() }
    }

    pub(super) fn key(&self) -> (u64, u32) {
        (self.request.0, self.attempt)
    }

    pub(super) fn cancel(&self) {
        self.shared.cancelled.set();
    }

    /// Waits until it is cancelled, or its deadline has passed.
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
        let _running = profiler::running(self.id, self.attempt, self.shared.method.as_ref());
        run()
    }

    /// Whether its async handler has been polled.
    pub(super) fn was_started(&self) -> bool {
        self.shared.was_started.load(Ordering::Acquire)
    }

    /// Polls an async handler once as this call.
    pub(super) fn poll_in<F: Future + ?Sized>(&self, cx: &mut Context<'_>, handler: Pin<&mut F>) -> Poll<F::Output> {
        self.shared.was_started.store(true, Ordering::Release);
        let _running = profiler::running(self.id, self.attempt, self.shared.method.as_ref());
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
