//! The way to the core and back: events in under one short lock, effects carried out behind it.
//!
//! Whoever brings an event carries out its effects: a caller's task puts its call into the link's
//! queue, a link's task hands a freed slot to the next call. The lock is a std mutex, because it is
//! never held across an await and its critical sections are some microseconds.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    door::Door,
    link::{Attempt, Link},
};
use crate::{
    config::Limits,
    core::{CallHandle, Core, Demand, Effect, Effects, Ended, Host, LinkHandle, Settings, Time},
    error::{CallError, GoneReason, Setback},
    service::{
        caller::{CallOptions, CallState, Capacity, Dispatcher, Failed, RawAnswer, Role},
        method::Method,
    },
    view::{NodeEvent, NodeInfo, Stats},
    wire::{Control, Outcome, frame::BODY_HEADER_LIMIT, guard::MasterGuard},
};

/// Events that a slow reader may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;

/// How long links may take to say goodbye before they are cut.
const GOODBYE_TIME: Duration = Duration::from_secs(3);

/// Fills in the core's blanks: calls as stubs make them, links as connections have them.
#[derive(Debug)]
pub(super) struct MasterHost;

impl Host for MasterHost {
    type Call = Arc<CallState>;
    type Link = Link;
}

impl CallHandle for Arc<CallState> {
    fn open(&self, attempt: u32) {
        CallState::open(self, attempt);
    }

    fn revoke(&self, attempt: u32) -> bool {
        CallState::revoke(self, attempt)
    }
}

impl LinkHandle for Link {
    fn heard(&self) -> Time {
        self.side.heard().saturating_duration_since(self.origin)
    }

    fn complaint(&self, amnesty: Time) -> Option<&'static str> {
        self.side.complaint(self.origin + amnesty)
    }
}

/// What all handles, tasks and stubs of a master share.
#[derive(Debug)]
pub(super) struct Shared {
    locked: Mutex<Locked>,
    /// The core's time zero.
    pub(super) origin: Instant,
    pub(super) heartbeat: Duration,
    pub(super) frame_limit: usize,
    pub(super) limits: Limits,
    pub(super) door: Arc<Door>,
    shutdown_limit: Duration,
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
        frame_limit: usize,
        limits: Limits,
        guard: MasterGuard,
        shutdown_limit: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            heartbeat: settings.heartbeat,
            frame_limit,
            limits,
            door: Door::new(guard, limits),
            shutdown_limit,
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

    /// Brings an event to the core and carries out what follows from it.
    pub(super) fn with_core<R>(
        &self,
        event: impl FnOnce(&mut Core<MasterHost>, Time, &mut Effects<MasterHost>) -> R,
    ) -> R {
        self.with_locked(|locked, now, effects| event(&mut locked.core, now, effects))
    }

    fn with_locked<R>(&self, event: impl FnOnce(&mut Locked, Time, &mut Effects<MasterHost>) -> R) -> R {
        let mut effects = Vec::new();
        let result = {
            let mut locked = self.lock();
            let now = self.origin.elapsed();
            let result = event(&mut locked, now, &mut effects);
            self.announce(&locked, &effects);
            if locked.core.next_timer().is_some_and(|next| next < locked.armed) {
                self.rearm.notify_one();
            }
            if locked.shutting_down {
                self.ended.notify_one();
            }
            result
        };
        for effect in effects {
            carry_out(effect);
        }
        result
    }

    /// Lets the core look at the clock, and says when it wants to again.
    pub(super) fn tick(&self) -> Instant {
        let look = self.heartbeat / 4;
        let next = self.with_locked(|locked, now, effects| {
            locked.core.tick(now, effects);
            let next = now + look;
            locked.armed = locked.core.next_timer().map_or(next, |timer| timer.min(next));
            locked.armed
        });
        self.origin + next
    }

    /// Events go out under the lock, so that everybody sees them in the order they happened.
    fn announce(&self, locked: &Locked, effects: &Effects<MasterHost>) {
        let mut changed = false;
        for effect in effects {
            if let Effect::Event(event) = effect {
                changed = true;
                // Fails while nobody listens, which is fine.
                let _ = locked.events.as_ref().map(|events| events.send(event.clone()));
            }
        }
        if changed {
            self.alive.send_replace(locked.core.alive());
        }
    }

    pub(super) fn nodes(&self) -> Vec<NodeInfo> {
        let now = self.origin.elapsed();
        self.lock().core.nodes(now)
    }

    pub(super) fn stats(&self) -> Stats {
        let (turned_away, registration_bytes) = self.door.totals();
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
        self.with_core(|core, _, effects| core.shut_down(effects));
        let quiet = async {
            while self.lock().core.unfinished() > 0 {
                self.ended.notified().await;
            }
        };
        if tokio::time::timeout(self.shutdown_limit, quiet).await.is_err() {
            let calls = self.lock().core.unfinished();
            tracing::warn!(
                calls,
                "the shutdown limit of {:?} has passed; ending with calls in flight",
                self.shutdown_limit
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
        self.with_core(|core, _, effects| core.abandon(effects));
        self.closed.cancel();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Locked> {
        // If the core ever panics, going on with it is better than taking every caller down.
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn carry_out(effect: Effect<MasterHost>) {
    match effect {
        Effect::Send { link, call, id, attempt, granted, deadline } => {
            let deadline = deadline.map(|deadline| link.origin + deadline);
            // A link that takes no more is about to be reported gone, which requeues the call.
            let _: Result<(), mpsc::error::SendError<Attempt>> =
                link.sender.send(Attempt { call, id, attempt, granted, deadline });
        }
        Effect::Cancel { link, id, attempt } => link.side.send(Control::Cancel { call: id.0, attempt }),
        Effect::End { call, end, setbacks } => {
            tell(&call, &end, &setbacks);
            call.finish(end.map(raw_answer).map_err(|error| Failed { error, setbacks }));
        }
        Effect::Grant { link, id, attempt, upto } => link.side.send(Control::Granted { call: id.0, attempt, upto }),
        Effect::Shorten { call, kept } => call.shorten(kept),
        Effect::Retract { link } => link.side.send(Control::Retract),
        Effect::Drained { link } => link.side.send(Control::Drained),
        Effect::Disconnect { link, reason } => link.close(reason),
        Effect::Event(event) => match &event {
            NodeEvent::Gone { reason: GoneReason::Left | GoneReason::Shutdown, in_flight: 0, .. } => {
                tracing::info!("{event}");
            }
            NodeEvent::Suspect { .. } | NodeEvent::Gone { .. } => tracing::warn!("{event}"),
            _ => tracing::info!("{event}"),
        },
    }
}

/// Logs a call that did not simply end with a value: where each attempt at it was, and what came of it.
fn tell(call: &CallState, end: &Result<Ended, CallError>, setbacks: &[Setback]) {
    if end.is_ok() && setbacks.is_empty() {
        return;
    }
    let method = call.method.name();
    let id = call.id().map(|id| id.0);
    let attempts: Vec<String> = setbacks.iter().map(Setback::to_string).collect();
    let attempts = attempts.join("; ");
    match end {
        Err(_) if call.role.count > 1 => {
            let count = call.role.count;
            tracing::warn!(call = id, %method, attempts, count, "a batch was lost; what may be repeated is, one by one");
        }
        Ok(ended) => tracing::info!(call = id, %method, attempts, "answered by {} in the end", ended.node),
        // Quoted, because a handler's message may be anything. Without setbacks it is for the caller to
        // judge, and there may be very many: each that is over the queue's limit is one.
        Err(error) if setbacks.is_empty() => {
            tracing::debug!(call = id, %method, error = ?error.to_string(), "call failed");
        }
        Err(error) => tracing::warn!(call = id, %method, attempts, error = ?error.to_string(), "call failed"),
    }
}

fn raw_answer(ended: Ended) -> RawAnswer {
    let Ended { reply, node, attempts, elapsed } = ended;
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
    fn argument_limit(&self) -> usize {
        self.frame_limit - BODY_HEADER_LIMIT
    }

    fn submit(&self, call: Arc<CallState>) {
        let CallOptions { timeout, node, attempts, labels, affinity } = call.options.clone();
        let Role { count, patient, beside, setbacks } = call.role.clone();
        let size = call.payload.len();
        let demand = Demand { count, timeout, node, labels, affinity, beside, patient, attempts, size };
        self.with_core(|core, now, effects| {
            let id = core.submit(now, Arc::clone(&call), call.method, demand, setbacks, effects);
            call.set_id(id);
        });
    }

    fn cancel(&self, call: &CallState) {
        if let Some(id) = call.id() {
            self.with_core(|core, _, effects| core.cancel(id, effects));
        }
    }

    fn withdraw(&self, call: &CallState) -> bool {
        call.id().is_some_and(|id| self.with_core(|core, _, _| core.withdraw(id)))
    }

    fn capacity(&self, method: &'static Method, options: &CallOptions) -> Capacity {
        self.lock().core.capacity(method.id(), &options.labels)
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
        let now = self.origin.elapsed();
        self.lock().core.serving(now, method.id(), &options.labels)
    }
}
