//! The way to the core and back: events in under one short lock, effects carried out behind it.
//!
//! Whoever brings an event carries out its effects: a caller's task puts its call into the link's
//! queue, a link's task hands a freed slot to the next call. The lock is a std mutex, because it is
//! never held across an await and its critical sections are some microseconds.

use std::{
    any::Any,
    cell::Cell,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, Semaphore, broadcast, mpsc, watch},
    task::spawn_blocking,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(feature = "tls")]
use super::revocation::Credentials;
use super::{
    admission::Admission,
    claims::Bindings,
    link::{Attempt, Link},
};
use crate::{
    config::{Limits, ValueLimits},
    core::{CallAnswer, Core, Demand, Effect, Effects, Host, HostCall, HostLink, Settings, Time},
    error::{CallError, Execution, FailedAttempt, GoneReason},
    id::NodeId,
    service::{
        caller::{CallOptions, CallState, Capacity, Dispatcher, Failed, Labels, RawAnswer, Role},
        method::{Method, MethodId},
    },
    view::{NodeEvent, NodeInfo, Stats},
    wire::{Control, Outcome, authenticator::MasterAuthenticator, budget::Budget, frame::BODY_HEADER_LIMIT},
};

/// Events that a slow reader may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;

/// How long links may take to say goodbye before they are cut.
const GOODBYE_TIME: Duration = Duration::from_secs(3);

/// Fills in the core's blanks: calls as stubs make them, links as connections have them.
#[derive(Debug)]
pub(super) struct MasterHost;

impl Host for MasterHost {
    type Call = HeldCall;
    type Link = Link;
}

/// A call as the core holds it. One that the core drops because it panicked ends with an error: nobody else knows of
/// it, and its caller must not wait for ever.
#[derive(Clone, Debug)]
pub(super) struct HeldCall(Arc<CallState>);

impl Deref for HeldCall {
    type Target = Arc<CallState>;

    fn deref(&self) -> &Arc<CallState> {
        &self.0
    }
}

thread_local! {
    /// Whether this thread was unwinding already when it brought an event: that panic is not the core's.
    static PANICS_OUTSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Drop for HeldCall {
    fn drop(&mut self) {
        if std::thread::panicking() && !PANICS_OUTSIDE.get() {
            // A call that has ended, or was cancelled, does not mind: the first end counts.
            let error = CallError::Shutdown { method: self.method.name(), execution: Execution::MayHaveRun };
            self.finish(Err(Failed { error, failed_attempts: Vec::new() }));
        }
    }
}

impl HostCall for HeldCall {
    fn open(&self, attempt: u32) {
        self.attempt.open(attempt);
    }

    fn withdraw(&self, attempt: u32) -> bool {
        self.attempt.withdraw(attempt)
    }

    fn abandon(&self, attempt: u32) -> bool {
        self.attempt.abandon(attempt)
    }
}

impl HostLink for Link {
    fn heard(&self) -> Time {
        self.side.heard().saturating_duration_since(self.origin)
    }

    fn violation(&self, stall_grace: Time) -> Option<&'static str> {
        self.side.violation(self.origin + stall_grace)
    }
}

/// What all handles, tasks and stubs of a master share.
#[derive(Debug)]
pub(super) struct Shared {
    locked: Mutex<Locked>,
    /// Threads that wait for it.
    waiters: AtomicUsize,
    /// One node at a time is compared with the others.
    comparing: Semaphore,
    /// The core's time zero.
    pub(super) origin: Instant,
    pub(super) heartbeat: Duration,
    pub(super) max_message_size: usize,
    pub(super) limits: Limits,
    /// What large frames that are coming in are lent their memory from.
    pub(super) incoming: Arc<Budget>,
    pub(super) admission: Arc<Admission>,
    pub(super) bindings: Bindings,
    #[cfg(feature = "tls")]
    pub(super) credentials: Credentials,
    shutdown_timeout: Duration,
    alive: watch::Sender<usize>,
    /// Tells the ticker that a timer was set before the one it sleeps for.
    pub(super) rearm: Notify,
    /// Tells a shutdown that calls have ended.
    ended: Notify,
    /// Ends the listener.
    pub(super) closing: CancellationToken,
    /// Ends the links and the ticker.
    pub(super) closed: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Locked {
    core: Core<MasterHost>,
    /// `None` once the master has ended.
    events: Option<broadcast::Sender<NodeEvent>>,
    /// When the ticker will look next.
    armed: Time,
    shutting_down: bool,
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        max_message_size: usize,
        limits: Limits,
        authenticator: MasterAuthenticator,
        bindings: Bindings,
        shutdown_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            heartbeat: settings.heartbeat,
            max_message_size,
            limits,
            incoming: Budget::new(limits.incoming_bytes),
            admission: Admission::new(authenticator, limits),
            bindings,
            #[cfg(feature = "tls")]
            credentials: Credentials::default(),
            shutdown_timeout,
            waiters: AtomicUsize::new(0),
            comparing: Semaphore::new(1),
            locked: Mutex::new(Locked {
                core: Core::new(settings),
                events: Some(broadcast::channel(EVENT_BUFFER).0),
                armed: Time::ZERO,
                shutting_down: false,
            }),
            alive: watch::channel(0).0,
            rearm: Notify::new(),
            ended: Notify::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs a task that [`shut_down`](Self::shut_down) waits for.
    pub(super) fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Brings an event to the core and carries out what follows from it. `None` if the core panicked over it.
    ///
    /// A panic is a fault of ours, and neither the caller nor the connection that brought the event can do anything
    /// about it. So it ends here: what the core had decided before is carried out, for its books have it already; calls
    /// that it left in no place end with an error; and the master goes on.
    pub(super) fn with_core<R>(
        &self,
        what: &'static str,
        event: impl FnOnce(&mut Core<MasterHost>, Time, &mut Effects<MasterHost>) -> R,
    ) -> Option<R> {
        self.with_locked(what, |locked, now, effects| event(&mut locked.core, now, effects))
    }

    fn with_locked<R>(
        &self,
        what: &'static str,
        event: impl FnOnce(&mut Locked, Time, &mut Effects<MasterHost>) -> R,
    ) -> Option<R> {
        let mut effects = Vec::new();
        let outside = PANICS_OUTSIDE.replace(std::thread::panicking());
        let result = {
            let mut locked = self.lock();
            let now = self.origin.elapsed();
            let result = survive(what, || event(&mut locked, now, &mut effects));
            if result.is_none() {
                let astray = survive("looking for lost calls", || locked.core.stranded_calls()).unwrap_or_default();
                for id in astray {
                    survive("ending a lost call", || locked.core.on_call_stranded(id, &mut effects));
                }
            }
            self.announce(&locked, &effects);
            if locked.core.next_tick() < locked.armed {
                self.rearm.notify_one();
            }
            if locked.shutting_down {
                self.ended.notify_one();
            }
            result
        };
        let mut effects = effects.into_iter();
        // Among them are wakers and subscribers that are not ours: one that panics must not take the others along.
        while survive("carrying out effects", || effects.by_ref().for_each(carry_out)).is_none() {}
        PANICS_OUTSIDE.set(outside);
        result
    }

    /// Lets the core look at the clock, and says when it wants to again.
    pub(super) fn tick(&self) -> Instant {
        let look = self.heartbeat / 4;
        let next = self.with_locked("time passed", |locked, now, effects| {
            locked.core.on_tick(now, effects);
            locked.armed = locked.core.next_tick();
            locked.armed
        });
        self.origin + next.unwrap_or_else(|| self.origin.elapsed() + look)
    }

    /// Events go out under the lock, so that everybody sees them in the order they happened.
    fn announce(&self, locked: &Locked, effects: &Effects<MasterHost>) {
        let mut changed = false;
        for effect in effects {
            if let Effect::Publish(event) = effect {
                changed = true;
                // Fails while nobody listens, which is fine.
                if let Some(events) = &locked.events {
                    let _ = events.send(event.clone());
                }
            }
        }
        if changed {
            self.alive.send_replace(locked.core.alive());
        }
    }

    pub(super) fn nodes(&self) -> Vec<NodeInfo> {
        self.list_nodes(None)
    }

    /// Finds out which methods of a node that has just joined cannot be called on it, and says so once. It may be much that
    /// has to be compared, so one node's turn comes after the other's, and on a thread that serves no connections.
    pub(super) fn look_for_uncallable(self: &Arc<Self>, node: NodeId, name: String) {
        let shared = Arc::clone(self);
        self.track(async move {
            let look = async {
                let Ok(_turn) = shared.comparing.acquire().await else { return };
                let shared = Arc::clone(&shared);
                // It fails if the runtime ends, and the master with it.
                let _ = spawn_blocking(move || shared.compare(node, &name)).await;
            };
            tokio::select! {
                () = look => {}
                () = shared.closing.cancelled() => {}
            }
        });
    }

    fn compare(&self, node: NodeId, name: &str) {
        let surroundings = self.with_core("looking at what a node serves", |core, _, _| core.compatibility_check(node));
        let Some(surroundings) = surroundings.flatten() else { return };
        let uncallable = surroundings.uncallable(name);
        if uncallable.is_empty() {
            return;
        }
        for method in &uncallable {
            tracing::warn!(node = %node, name, "this node serves a method otherwise than it is called here, or than other nodes serve it: {method}");
        }
        self.with_core("what cannot be called was noted", |core, _, _| {
            core.on_methods_checked(node, uncallable.into())
        });
    }

    /// Lists nodes without holding the lock for long, so that it may take in one that comes meanwhile.
    fn list_nodes(&self, which: Option<(MethodId, &Labels)>) -> Vec<NodeInfo> {
        let now = self.origin.elapsed();
        let (mut infos, mut last) = (Vec::new(), None);
        loop {
            let (rows, next) = self.lock().core.node_snapshots(last, which);
            infos.extend(rows.iter().map(|row| row.info(now)));
            if next.is_none() {
                return infos;
            }
            last = next;
        }
    }

    /// Ends the connection of a node, if it is registered.
    pub(super) fn disconnect(&self, node: NodeId) -> bool {
        let put_out = |core: &mut Core<MasterHost>, now, effects: &mut _| {
            core.on_disconnect_requested(now, node, GoneReason::PutOut, effects)
        };
        self.with_core("a node is put out", put_out).unwrap_or(false)
    }

    pub(super) fn stats(&self) -> Stats {
        let (turned_away, registration_bytes) = self.admission.totals();
        Stats { turned_away, registration_bytes, ..self.lock().core.stats() }
    }

    /// Events from now on; `None` if the master has ended.
    pub(super) fn subscribe(&self) -> Option<broadcast::Receiver<NodeEvent>> {
        self.lock().events.as_ref().map(broadcast::Sender::subscribe)
    }

    /// Lets all streams of events end.
    pub(super) fn end_events(&self) {
        self.lock().events = None;
    }

    pub(super) fn alive(&self) -> watch::Receiver<usize> {
        self.alive.subscribe()
    }

    pub(super) async fn shut_down(&self) {
        self.closing.cancel();
        self.lock().shutting_down = true;
        while self.with_core("the master shuts down", |core, _, effects| core.on_shutdown(effects)) == Some(true) {}
        let quiet = async {
            while self.lock().core.unfinished() > 0 {
                self.ended.notified().await;
            }
        };
        if tokio::time::timeout(self.shutdown_timeout, quiet).await.is_err() {
            let calls = self.lock().core.unfinished();
            tracing::warn!(
                calls,
                "the shutdown limit of {:?} has passed; ending with calls in flight",
                self.shutdown_timeout
            );
        }
        self.abandon();
        self.tasks.close();
        if tokio::time::timeout(GOODBYE_TIME, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "some nodes do not read their goodbye; leaving them");
        }
        self.end_events();
    }

    /// Ends all calls and tells all tasks to end.
    pub(super) fn abandon(&self) {
        self.closing.cancel();
        while self.with_core("the master ends", |core, _, effects| core.on_shutdown_timeout(effects)) == Some(true) {}
        self.closed.cancel();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Locked> {
        match self.locked.try_lock() {
            Ok(locked) => locked,
            // No panic gets past `survive`; if one did, going on would be better than taking every caller down.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiters.fetch_add(1, Ordering::Relaxed);
                let locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiters.fetch_sub(1, Ordering::Relaxed);
                locked
            }
        }
    }

    /// Whether others wait for the core.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }
}

/// Runs something that should not panic; `None`, and an error in the log, if it does.
fn survive<R>(what: &'static str, run: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(panic) => {
            let message = message(&*panic);
            tracing::error!(
                event = what,
                message,
                "the master's core panicked; this is a bug in `distribution`. Going on"
            );
            // Its `Drop` may be anybody's, as the message of a waker that panicked is.
            std::mem::forget(panic);
            None
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

fn carry_out(effect: Effect<MasterHost>) {
    match effect {
        Effect::Send { link, call, id, attempt, granted, deadline } => {
            let deadline = deadline.map(|deadline| link.origin + deadline);
            // A link that takes no more is about to be reported gone, which requeues the call.
            let _: Result<(), mpsc::error::SendError<Attempt>> =
                link.sender.send(Attempt { call: Arc::clone(&call), id, attempt, granted, deadline });
        }
        Effect::Cancel { link, id, attempt } => link.side.send(Control::Cancel { call: id.0, attempt }),
        Effect::End { call, end, failed_attempts } => {
            tell(&call, &end, &failed_attempts);
            call.finish(end.map(raw_answer).map_err(|error| Failed { error, failed_attempts }));
        }
        Effect::Grant { link, id, attempt, upto } => link.side.send(Control::Granted { call: id.0, attempt, upto }),
        Effect::Shorten { call, kept } => call.shorten(kept),
        Effect::Retract { link } => link.side.send(Control::Retract),
        Effect::ConfirmDrained { link } => link.side.send(Control::Drained),
        Effect::Disconnect { link, reason } => link.close(reason),
        Effect::Publish(event) => match &event {
            NodeEvent::Gone { reason: GoneReason::Left | GoneReason::Shutdown, in_flight: 0, .. } => {
                tracing::info!("{event}");
            }
            NodeEvent::Suspect { .. } | NodeEvent::Gone { .. } | NodeEvent::Ejected { .. } => tracing::warn!("{event}"),
            _ => tracing::info!("{event}"),
        },
    }
}

/// Logs a call that did not simply end with a value: where each attempt at it was, and what came of it.
fn tell(call: &CallState, end: &Result<CallAnswer, CallError>, failed_attempts: &[FailedAttempt]) {
    if end.is_ok() && failed_attempts.is_empty() {
        return;
    }
    let method = call.method.name();
    let id = call.id().map(tracing::field::display);
    let attempts: Vec<String> = failed_attempts.iter().map(FailedAttempt::to_string).collect();
    let attempts = attempts.join("; ");
    match end {
        // What has happened to none of its calls has no news in it, and each call says why it ended.
        Err(error) if failed_attempts.is_empty() && call.role.count > 1 => {
            tracing::debug!(call = id, %method, count = call.role.count, error = ?error.to_string(), "batch failed");
        }
        Err(_) if call.role.count > 1 => {
            let count = call.role.count;
            tracing::warn!(call = id, %method, attempts, count, "a batch was lost; what may be repeated is, one by one");
        }
        Ok(ended) => tracing::info!(call = id, %method, attempts, "answered by {} in the end", ended.node),
        // Quoted, because a handler's message may be anything. Without failed_attempts it is for the caller to
        // judge, and there may be very many: each that is over the queue's limit is one.
        Err(error) if failed_attempts.is_empty() => {
            tracing::debug!(call = id, %method, error = ?error.to_string(), "call failed");
        }
        Err(error) => tracing::warn!(call = id, %method, attempts, error = ?error.to_string(), "call failed"),
    }
}

fn raw_answer(answer: CallAnswer) -> RawAnswer {
    let CallAnswer { reply, node, attempts, elapsed } = answer;
    RawAnswer {
        is_error: reply.outcome == Outcome::Error,
        payload: reply.payload.into_bytes(),
        count: reply.count,
        node,
        attempts,
        elapsed,
        run: reply.run,
    }
}

impl Dispatcher for Shared {
    fn argument_limits(&self) -> ValueLimits {
        ValueLimits { bytes: self.max_message_size - BODY_HEADER_LIMIT, depth: self.limits.max_depth }
    }

    fn submit(&self, call: Arc<CallState>) {
        let CallOptions { timeout, node, attempts, labels, affinity, retry_panics } = call.options.clone();
        let Role { count, patient, beside, failed_attempts } = call.role.clone();
        let size = call.payload.len();
        let timeout = timeout.or(self.limits.default_timeout);
        let demand = Demand {
            count,
            timeout,
            node,
            labels,
            affinity,
            hedge_of: beside,
            exempt_from_limits: patient,
            attempts,
            retry_panics,
            size,
        };
        self.with_core("a call was submitted", |core, now, effects| {
            let id =
                core.on_call_submitted(now, HeldCall(Arc::clone(&call)), call.method, demand, failed_attempts, effects);
            call.set_id(id);
        });
    }

    fn cancel(&self, call: &CallState) {
        if let Some(id) = call.id() {
            self.with_core("a call was cancelled", |core, _, effects| core.on_call_cancelled(id, effects));
        }
    }

    fn take_back_unserved(&self, call: &CallState) -> bool {
        let take_back = |id| self.with_core("a call is taken back", |core, _, _| core.take_back_unserved(id));
        call.id().and_then(take_back).unwrap_or(false)
    }

    fn capacity(&self, method: &'static Method, options: &CallOptions) -> Capacity {
        let capacity = self.with_core("a look at the nodes", |core, _, _| core.capacity(method.id(), &options.labels));
        capacity.unwrap_or_default()
    }

    fn nodes_changed(&self) -> BoxFuture<'static, ()> {
        let mut alive = self.alive();
        Box::pin(async move {
            if alive.changed().await.is_err() {
                // The master has ended, and so do all its calls.
                std::future::pending().await
            }
        })
    }

    fn serving(&self, method: &'static Method, options: &CallOptions) -> Vec<NodeInfo> {
        self.list_nodes(Some((method.id(), &options.labels)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::wire::{Payload, authenticator::MasterAuthenticator};

    static METHOD: Method = Method::new("Test", 1, "method", "fn() -> ()", false);

    pub(in crate::master) fn shared() -> Arc<Shared> {
        let settings = Settings {
            heartbeat: Duration::from_secs(1),
            no_node_timeout: Duration::from_secs(5),
            max_queued_calls: 100,
            max_queued_bytes: 100,
            max_nodes: usize::MAX,
            max_nodes_per_credential: usize::MAX,
            slow_start: u32::MAX,
            slice: 16,
            epoch: 1,
            seed: 1,
            ring_key: [0; 32],
        };
        let bindings = Bindings { names: false, labels: Vec::new(), max_slots: 1 };
        Shared::new(settings, 65_536, Limits::default(), MasterAuthenticator::Open, bindings, Duration::ZERO)
    }

    fn call() -> Arc<CallState> {
        Arc::new(CallState::new(&METHOD, Payload::EMPTY, CallOptions::default(), Role::default()))
    }

    fn end(call: &CallState) -> Option<CallError> {
        match call.poll_end(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(end) => Some(end.expect_err("nobody answers here").error),
            Poll::Pending => None,
        }
    }

    fn shutdown() -> CallError {
        CallError::Shutdown { method: METHOD.name(), execution: Execution::MayHaveRun }
    }

    #[tokio::test]
    async fn a_panic_of_the_core_takes_nothing_along_that_was_decided() {
        let shared = shared();
        let (decided, dropped, waiting) = (call(), call(), call());
        shared.submit(Arc::clone(&waiting));
        let taken = HeldCall(Arc::clone(&dropped));
        let result: Option<()> = shared.with_core("a test", |_, _, effects| {
            let error =
                CallError::NoNode { method: METHOD.name(), wanted: "decided".to_owned(), waited: Duration::ZERO };
            effects.push(Effect::End {
                call: HeldCall(Arc::clone(&decided)),
                end: Err(error),
                failed_attempts: Vec::new(),
            });
            let _taken = taken;
            panic!("as a test wants it");
        });
        assert!(result.is_none());
        assert!(matches!(end(&decided), Some(CallError::NoNode { .. })), "what was decided is carried out");
        assert_eq!(end(&dropped), Some(shutdown()), "a call that the core lost in its panic ends");
        assert_eq!(end(&waiting), None, "all others go on");
        // And so does the master.
        let another = call();
        shared.submit(Arc::clone(&another));
        assert_eq!(shared.stats().queued, 2);
        shared.cancel(&another);
        shared.cancel(&waiting);
        assert_eq!(shared.stats().queued, 0);
    }

    #[tokio::test]
    async fn a_call_that_a_panic_left_nowhere_ends() {
        let shared = shared();
        let astray = call();
        let _: Option<()> = shared.with_core("a test", |core, now, effects| {
            let demand = Demand {
                count: 1,
                timeout: None,
                node: None,
                labels: None,
                affinity: None,
                hedge_of: None,
                exempt_from_limits: false,
                attempts: None,
                retry_panics: false,
                size: 0,
            };
            let id = core.on_call_submitted(now, HeldCall(Arc::clone(&astray)), &METHOD, demand, Vec::new(), effects);
            core.strand(id);
            panic!("as a test wants it");
        });
        assert_eq!(end(&astray), Some(shutdown()));
        assert_eq!(shared.stats().queued, 0);
    }

    #[tokio::test]
    async fn a_waker_that_panics_takes_no_other_effect_along() {
        struct Sore;
        impl std::task::Wake for Sore {
            fn wake(self: Arc<Self>) {
                panic!("as a test wants it");
            }
        }
        let shared = shared();
        let (first, second) = (call(), call());
        let sore = Waker::from(Arc::new(Sore));
        assert!(first.poll_end(&mut Context::from_waker(&sore)).is_pending());
        let ended = shared.with_core("a test", |_, _, effects| {
            for call in [&first, &second] {
                let error = CallError::NoNode { method: METHOD.name(), wanted: String::new(), waited: Duration::ZERO };
                effects.push(Effect::End {
                    call: HeldCall(Arc::clone(call)),
                    end: Err(error),
                    failed_attempts: Vec::new(),
                });
            }
        });
        assert_eq!(ended, Some(()));
        assert!(end(&first).is_some() && end(&second).is_some());
    }
}
