//! What all handles, tasks and clients of a master share, and the only way to its core.
//!
//! An event goes to the core under one short lock; the task that brought it carries out the effects after the lock is
//! released: a caller's task puts its call into the queue of a connection, and a connection's task gives a freed slot to
//! the next call. The lock is a std mutex, because it is never held across an await and each critical section takes some
//! microseconds.

use std::{
    any::Any,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, mpsc::UnboundedSender, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(feature = "tls")]
use super::credentials::Credentials;
use super::{
    admission::Admission,
    allowance::Allowances,
    caller_table::Callers,
    effects::carry_out,
    event_log::{EventLog, time},
    gone_callers::GoneCallers,
    history_log::HistoryLog,
    host::{MasterHost, PanicScope},
    kept_bytes::KeptBytes,
    link::{Link, NodeRequest},
    log_store::LogStore,
    lost_nodes::LostNodes,
    recent::Recent,
    refused_calls::RefusedCallCounts,
    registration_policy::RegistrationPolicy,
    runs::Runs,
};
use crate::{
    administration::Warning,
    config::Limits,
    core::{Core, Effect, Effects, NodeConnection, NodeSnapshot, Settings, Time},
    error::GoneReason,
    id::{NodeId, NodeIdentity},
    security::Principal,
    service::{method::MethodId, options::Labels},
    view::{NodeInfo, Stats},
    wire::{authenticator::MasterAuthenticator, connection_state::ConnectionState, incoming_memory::IncomingMemory},
};

/// Events that a slow reader may lag behind before it misses some.
const EVENT_BUFFER: usize = 1024;

/// Readers of events that wait at a time for something to happen. Each waits some seconds at most, and then the next one has
/// its turn.
const MOST_FOLLOWING: usize = 256;

/// Calls of the admin service that run at a time for callers in other processes.
const MOST_ADMINISTERING: usize = 4;

/// The state of a master.
#[derive(Debug)]
pub(super) struct Shared {
    locked: Mutex<Locked>,
    /// Threads that wait for the lock.
    waiters: AtomicUsize,
    /// Held by the task that compares the methods of one node with those of the others.
    pub(super) comparing: Semaphore,
    /// Held by calls of the admin service that run, so that many of them leave threads for others.
    pub(super) administering: Semaphore,
    /// Held by calls of the admin service that wait for something to happen.
    pub(super) following: Semaphore,
    /// Where calls of the admin service wait that are made in this process, from any thread. `None` if the master was made
    /// outside of a runtime, as tests of its parts do.
    pub(super) runtime: Option<Handle>,
    /// The newest events.
    pub(super) events: EventLog,
    /// The newest records that nodes have logged.
    pub(super) logs: LogStore,
    /// The core's time zero.
    pub(super) origin: Instant,
    /// The same by the clock of this machine. It is read once: readers tell by it that the master is still the same.
    pub(super) started: Duration,
    pub(super) heartbeat: Duration,
    pub(super) max_message_size: usize,
    /// Calls of a caller in another process that may wait.
    pub(super) max_queued_calls_per_caller: usize,
    /// Bytes of their arguments.
    max_queued_bytes_per_caller: usize,
    pub(super) limits: Limits,
    /// Lends memory to large frames that are being read.
    incoming: Arc<IncomingMemory>,
    /// The memory for large arguments of detached calls that wait.
    detached: Arc<IncomingMemory>,
    pub(super) admission: Arc<Admission>,
    pub(super) registration_policy: RegistrationPolicy,
    /// How the cluster did in the last hour and day.
    pub(super) history: HistoryLog,
    /// Runs of many calls that have a name.
    pub(super) runs: Runs,
    /// When the master itself was stalled last, and for how long.
    last_stall: Mutex<Option<(Instant, Duration)>>,
    /// The nodes that were lost lately.
    pub(super) lost_nodes: LostNodes,
    /// What was counted some minutes ago.
    pub(super) recent: Recent,
    /// What looked wrong when somebody asked last, and when that was.
    pub(super) last_warnings: Mutex<Option<(std::time::Instant, Vec<Warning>)>>,
    /// Callers in other processes.
    pub(super) callers: Callers,
    /// The names of some that are gone.
    pub(super) gone_callers: GoneCallers,
    /// Their calls that were refused before the core heard of them.
    pub(super) refused_calls: RefusedCallCounts,
    /// What is kept for those whose connection may break, or has broken.
    pub(super) kept_ends: Arc<KeptBytes>,
    /// What these have under way, by credential.
    pub(super) allowances: Allowances,
    #[cfg(feature = "tls")]
    pub(super) credentials: Credentials,
    pub(super) shutdown_timeout: Duration,
    /// The address that it listens on.
    pub(super) local_addr: SocketAddr,
    /// The master itself, as the answers of the admin service name it.
    pub(super) identity: NodeIdentity,
    /// This, for what outlives the call that it is made in.
    pub(super) this: Weak<Self>,
    alive: watch::Sender<usize>,
    /// Wakes the ticker: a timer was set that is due before the one it sleeps for.
    pub(super) timer_set: Notify,
    /// Wakes a shutdown: calls have ended.
    pub(super) calls_ended: Notify,
    /// Cancelled when the master takes no more nodes; ends the listener.
    pub(super) closing: CancellationToken,
    /// Cancelled when the master ends; closes the connections and ends the ticker.
    pub(super) closed: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) core: Core<MasterHost>,
    /// When the ticker wakes up next.
    next_tick: Time,
    pub(super) shutting_down: bool,
}

/// Some nodes as they were at one moment.
pub(super) struct NodePage {
    pub(super) rows: Vec<NodeSnapshot>,
    /// The last node that was looked at; `None` if there are no more.
    pub(super) last: Option<NodeId>,
    /// The last event that had happened by then.
    pub(super) last_event: u64,
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        max_message_size: usize,
        limits: Limits,
        authenticator: MasterAuthenticator,
        registration_policy: RegistrationPolicy,
        shutdown_timeout: Duration,
        local_addr: SocketAddr,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            origin: Instant::now(),
            started: time(),
            heartbeat: settings.heartbeat,
            max_message_size,
            max_queued_calls_per_caller: settings.max_queued_calls_per_caller,
            max_queued_bytes_per_caller: settings.max_queued_bytes_per_caller,
            limits,
            incoming: IncomingMemory::new(limits.incoming_bytes),
            detached: IncomingMemory::new(settings.max_queued_bytes.max(1)),
            admission: Admission::new(authenticator, limits),
            registration_policy,
            history: HistoryLog::default(),
            runs: Runs::default(),
            last_stall: Mutex::default(),
            lost_nodes: LostNodes::default(),
            recent: Recent::default(),
            last_warnings: Mutex::default(),
            callers: Callers::new(settings.epoch),
            gone_callers: GoneCallers::default(),
            refused_calls: RefusedCallCounts::default(),
            kept_ends: Arc::default(),
            allowances: Allowances::new(),
            #[cfg(feature = "tls")]
            credentials: Credentials::default(),
            shutdown_timeout,
            local_addr,
            identity: NodeIdentity::new(NodeId::new(settings.epoch, 0), "master", local_addr),
            this: Weak::clone(this),
            waiters: AtomicUsize::new(0),
            comparing: Semaphore::new(1),
            administering: Semaphore::new(MOST_ADMINISTERING),
            following: Semaphore::new(MOST_FOLLOWING),
            runtime: Handle::try_current().ok(),
            events: EventLog::new(EVENT_BUFFER),
            logs: LogStore::new(),
            locked: Mutex::new(Locked { core: Core::new(settings), next_tick: Time::ZERO, shutting_down: false }),
            alive: watch::channel(0).0,
            timer_set: Notify::new(),
            calls_ended: Notify::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs a task that a shutdown waits for.
    pub(super) fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The memory for large arguments of detached calls that wait, of one caller. Those of all callers share
    /// [`detached_memory`](Self::detached_memory).
    pub(super) fn new_detached_memory(&self) -> Arc<IncomingMemory> {
        IncomingMemory::new(self.max_queued_bytes_per_caller.max(1))
    }

    pub(super) fn detached_memory(&self) -> &Arc<IncomingMemory> {
        &self.detached
    }

    /// A handle of a new connection, whose requests come out at the other end of `requests`.
    pub(super) fn new_link(&self, requests: UnboundedSender<NodeRequest>) -> Link {
        Link::new(requests, self.new_connection_state(), self.origin, self.closed.child_token())
    }

    /// The state of a new connection.
    pub(super) fn new_connection_state(&self) -> Arc<ConnectionState> {
        ConnectionState::new(self.limits.peer_timeouts, Some(Arc::clone(&self.incoming)))
    }

    /// Checks that a node may make nested calls: that it is registered, with the same credential.
    pub(super) fn check_calling_node(&self, instance: u128, principal: &Principal) -> Result<(), String> {
        let locked = self.lock();
        let node = locked.core.node_of_process(instance).and_then(|node| locked.core.principal_of(node));
        match node {
            Some(registered) if registered.id == principal.id => Ok(()),
            Some(_) => Err("its node registered with another credential".to_owned()),
            None => {
                Err("its node is not registered, and only handlers of a registered node make nested calls".to_owned())
            }
        }
    }

    /// Whether a node whose connection breaks may go on with its calls on another one.
    pub(super) fn resumes_nodes(&self) -> bool {
        !self.limits.reconnect_grace.is_zero()
    }

    /// The same of callers in other processes.
    pub(super) fn resumes_callers(&self) -> bool {
        !self.limits.resume_timeout.is_zero()
    }

    /// Whether the master waits for a node whose connection has broken.
    pub(super) fn is_absent(&self, node: NodeId) -> bool {
        self.lock().core.is_absent(node)
    }

    /// Whether callers in other processes are told the addresses of nodes.
    pub(super) fn shows_addresses(&self) -> bool {
        self.limits.expose_node_addresses
    }

    /// Brings an event to the core and carries out its effects. `None` if the core panicked.
    ///
    /// Such a panic is a defect of this crate, and neither the caller nor the connection that brought the event can do
    /// anything about it. So it ends here: the effects that the core had decided on before are carried out, because the
    /// core has recorded them already; calls that it left in no place end with an error; and the master goes on.
    pub(super) fn with_core<R>(
        &self,
        event_name: &'static str,
        event: impl FnOnce(&mut Core<MasterHost>, Time, &mut Effects<MasterHost>) -> R,
    ) -> Option<R> {
        self.with_locked(event_name, |locked, now, effects| event(&mut locked.core, now, effects))
    }

    /// The same for an event that has come on a connection of a node. Also `None` if the node goes on with another connection:
    /// then nothing counts that still comes on this one.
    pub(super) fn with_connection<R>(
        &self,
        connection: NodeConnection,
        event_name: &'static str,
        event: impl FnOnce(&mut Core<MasterHost>, Time, &mut Effects<MasterHost>) -> R,
    ) -> Option<R> {
        self.with_core(event_name, |core, now, effects| {
            core.is_connected(connection).then(|| event(core, now, effects))
        })
        .flatten()
    }

    fn with_locked<R>(
        &self,
        event_name: &'static str,
        event: impl FnOnce(&mut Locked, Time, &mut Effects<MasterHost>) -> R,
    ) -> Option<R> {
        let mut effects = Vec::new();
        let _scope = PanicScope::enter();
        let result = {
            let mut locked = self.lock();
            let now = self.origin.elapsed();
            let result = catch_panic(event_name, || event(&mut locked, now, &mut effects));
            if result.is_none() {
                let lost = catch_panic("looking for lost calls", || locked.core.stranded_calls()).unwrap_or_default();
                for id in lost {
                    catch_panic("ending a lost call", || locked.core.on_call_stranded(id, &mut effects));
                }
            }
            self.publish(&locked, &effects);
            if locked.core.next_tick() < locked.next_tick {
                self.timer_set.notify_one();
            }
            if locked.shutting_down {
                self.calls_ended.notify_one();
            }
            result
        };
        let mut effects = effects.into_iter();
        // They run wakers and subscribers of the program: if one panics, the other effects are carried out all the same.
        while catch_panic("carrying out effects", || effects.by_ref().for_each(carry_out)).is_none() {}
        result
    }

    /// Tells the core the time, and returns when it wants to be told again.
    pub(super) fn tick(&self) -> Instant {
        let after_panic = self.heartbeat / 4;
        let next = self.with_locked("time passed", |locked, now, effects| {
            locked.core.on_tick(now, effects);
            locked.next_tick = locked.core.next_tick();
            locked.next_tick
        });
        self.origin + next.unwrap_or_else(|| self.origin.elapsed() + after_panic)
    }

    /// Adds events to the log under the core's lock, so that all readers see them in the order in which they happened.
    fn publish(&self, locked: &Locked, effects: &Effects<MasterHost>) {
        let mut has_changed = false;
        for effect in effects {
            if let Effect::Publish(event) = effect {
                has_changed = true;
                self.lost_nodes.on_event(self.origin.elapsed(), event);
                self.events.push(event.clone());
            }
        }
        if has_changed {
            self.alive.send_replace(locked.core.alive());
        }
    }

    pub(super) fn nodes(&self) -> Vec<NodeInfo> {
        self.list_nodes(None)
    }

    /// Lists nodes page by page. The lock is released between pages, so that events need not wait for a long list.
    pub(super) fn list_nodes(&self, which: Option<(MethodId, &Labels)>) -> Vec<NodeInfo> {
        let now = self.origin.elapsed();
        let (mut infos, mut after) = (Vec::new(), None);
        loop {
            let page = self.node_page(after, which);
            infos.extend(page.rows.iter().map(|row| row.info(now)));
            if page.last.is_none() {
                return infos;
            }
            after = page.last;
        }
    }

    /// The next nodes after `after` in the order in which they registered.
    pub(super) fn node_page(&self, after: Option<NodeId>, which: Option<(MethodId, &Labels)>) -> NodePage {
        let locked = self.lock();
        let (rows, last) = locked.core.node_snapshots(after, which);
        NodePage { rows, last, last_event: self.events.last() }
    }

    /// Ends the connection of a node. Returns whether the node was registered.
    pub(super) fn disconnect(&self, node: NodeId) -> bool {
        let disconnect = |core: &mut Core<MasterHost>, now, effects: &mut _| {
            core.on_disconnect_requested(now, node, GoneReason::DisconnectedByMaster, effects)
        };
        self.with_core("a node is disconnected", disconnect).unwrap_or(false)
    }

    pub(super) fn stats(&self) -> Stats {
        let (turned_away, registration_bytes) = self.admission.totals();
        Stats { turned_away, registration_bytes, ..self.lock().core.stats() }
    }

    /// The master itself was stalled for this long, until now.
    pub(super) fn on_stall(&self, lasted: Duration) {
        *self.last_stall.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), lasted));
    }

    /// How long ago the master was stalled last, and for how long, if that was in the last minute.
    pub(super) fn last_stall(&self) -> Option<(Duration, Duration)> {
        let (at, lasted) = (*self.last_stall.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some((at.elapsed(), lasted)).filter(|(ago, _)| *ago < Duration::from_secs(60))
    }

    /// How many nodes get new calls, now and later.
    pub(super) fn alive(&self) -> watch::Receiver<usize> {
        self.alive.subscribe()
    }

    /// The core, for what brings no event to it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        match self.locked.try_lock() {
            Ok(locked) => locked,
            // No panic gets past `catch_panic`. If one did, going on would be better than failing every caller.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiters.fetch_add(1, Ordering::Relaxed);
                let locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiters.fetch_sub(1, Ordering::Relaxed);
                locked
            }
        }
    }

    /// Whether other threads wait for the lock.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }
}

/// Runs something that should not panic; `None`, and an error in the log, if it does.
fn catch_panic<R>(event_name: &'static str, run: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(panic) => {
            let message = panic_message(&*panic);
            tracing::error!(
                event = event_name,
                reason = message,
                "the master's core panicked, and the master goes on; this is a bug in `distribution`, please report it"
            );
            // Dropping it could panic again: it may come from the program, as that of a waker does.
            std::mem::forget(panic);
            None
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

#[cfg(test)]
pub(super) mod tests;
