//! What all handles, clients and tasks of a caller share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc::UnboundedSender, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    accepted::Accepted,
    calls::{Calls, Connection, finish},
    capacities::Capacities,
    run_reports::RunReports,
    status::{EndReason, Status},
};
use crate::{
    config::{ValueLimits, from_micros},
    error::CallError,
    id::{CallId, NO_ADDRESS, NodeId, NodeIdentity},
    service::{
        dispatcher::{Capacity, Dispatcher},
        method::MethodInfo,
        options::{CallOptions, Labels},
        state::{CallFailure, CallState, RawAnswer},
    },
    view::NodeInfo,
    wire::{
        CallerEnd, Control, RunReport,
        authenticator::PeerAuthenticator,
        channel::Connector,
        codec::Decoder,
        frame::layout::BODY_HEADER_LIMIT,
        handshake::{CallerHello, SessionId, SessionOffer},
        transport::CallerReply,
    },
};

/// A question to the master, and where its answer goes.
pub(super) struct Question {
    pub(super) method: u64,
    pub(super) labels: Labels,
    pub(super) answer: oneshot::Sender<Vec<NodeInfo>>,
}

/// The state of a caller.
pub(super) struct ClusterShared {
    /// The master's address as it was given.
    pub(super) master: String,
    pub(super) hello: CallerHello,
    pub(super) authenticator: PeerAuthenticator,
    /// For a master in the same process.
    pub(super) connector: Option<Connector>,
    pub(super) connect_timeout: Duration,
    pub(super) reconnect_timeout: Duration,
    /// What one value may take, by the limits of the master that is or was connected.
    argument_bytes: AtomicUsize,
    max_depth: AtomicU16,
    locked: Mutex<Locked>,
    /// Wakes the session: a call has an earlier deadline than all others.
    pub(super) deadline_set: Notify,
    pub(super) status: watch::Sender<Status>,
    /// That of its tasks.
    runtime: Option<Handle>,
    /// Cancelled when the last handle is dropped.
    pub(super) closed: CancellationToken,
}

struct Locked {
    calls: Calls,
    capacities: Capacities,
    run_reports: RunReports,
    questions: Option<UnboundedSender<Question>>,
    /// That of the master that is or was connected.
    default_timeout: Option<Duration>,
    /// What to name to go on with the session of the last connection.
    session: Option<SessionId>,
}

impl std::fmt::Debug for ClusterShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterShared").field("master", &self.master).finish_non_exhaustive()
    }
}

impl ClusterShared {
    pub(super) fn new(
        master: String,
        hello: CallerHello,
        authenticator: PeerAuthenticator,
        connect_timeout: Duration,
        reconnect_timeout: Duration,
        max_depth: u16,
        connector: Option<Connector>,
    ) -> Arc<Self> {
        let argument_bytes = usize::try_from(hello.max_message_size).unwrap_or(usize::MAX);
        Arc::new(Self {
            master,
            hello,
            authenticator,
            connector,
            connect_timeout,
            reconnect_timeout,
            argument_bytes: AtomicUsize::new(argument_bytes.saturating_sub(BODY_HEADER_LIMIT)),
            max_depth: AtomicU16::new(max_depth),
            locked: Mutex::new(Locked {
                calls: Calls::new(),
                capacities: Capacities::new(),
                run_reports: RunReports::default(),
                questions: None,
                default_timeout: None,
                session: None,
            }),
            deadline_set: Notify::new(),
            status: watch::channel(Status::Connecting).0,
            runtime: Handle::try_current().ok(),
            closed: CancellationToken::new(),
        })
    }

    // A std mutex: it is never held across an await, and each critical section takes some microseconds.
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a connection, on which the master has said this.
    pub(super) fn on_connected(
        &self,
        connection: Connection,
        questions: UnboundedSender<Question>,
        accepted: &Accepted,
    ) {
        let Accepted { first_call, limits, default_timeout, session, .. } = accepted;
        let is_resumed = session.is_some_and(|session| session.is_resumed);
        self.argument_bytes.store(limits.bytes, Ordering::Relaxed);
        self.max_depth.store(limits.depth, Ordering::Relaxed);
        let mut locked = self.lock();
        let state = Arc::clone(&connection.state);
        let ended = locked.calls.on_connected(connection, &self.master, (*first_call, is_resumed), limits.bytes);
        locked.capacities.on_connected(&state);
        locked.run_reports.on_connected(&state);
        locked.questions = Some(questions);
        locked.default_timeout = *default_timeout;
        drop(locked);
        self.deadline_set.notify_one();
        self.status.send_replace(Status::Connected);
        finish(ended);
    }

    /// The connection has ended. With a `session` the master may wait for this caller, and has noticed the end after `silence` at
    /// the latest.
    pub(super) fn on_disconnected(&self, reason: &str, session: Option<SessionOffer>, silence: Duration) {
        let mut locked = self.lock();
        locked.questions = None;
        locked.session = session.map(|session| session.id);
        let keep = session.map(|session| session.keep() + silence);
        let ended = locked.calls.on_disconnected(&self.master, reason, keep);
        drop(locked);
        self.status.send_replace(Status::Away);
        self.deadline_set.notify_one();
        finish(ended);
    }

    /// What to name to go on with the session of the last connection.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.lock().session
    }

    /// When the master does not wait for this caller any more, if it waits now.
    pub(super) fn session_ends(&self) -> Option<tokio::time::Instant> {
        self.lock().calls.session_ends()
    }

    /// The master does not wait for this caller any more.
    pub(super) fn give_up_session(&self) {
        let mut locked = self.lock();
        locked.session = None;
        let ended = locked.calls.give_up_sent(&self.master);
        drop(locked);
        finish(ended);
    }

    /// The master could not be reached again.
    pub(super) fn on_still_away(&self, reason: &str) {
        self.lock().calls.on_still_away(reason);
    }

    /// Ends the calls that wait if the master has been away for too long.
    pub(super) fn give_up_absent(&self) {
        let mut locked = self.lock();
        if let Some(ended) = locked.calls.give_up_after(&self.master, self.reconnect_timeout) {
            locked.capacities.on_given_up();
            drop(locked);
            finish(ended);
        }
    }

    /// The caller has ended, and with it all its calls.
    pub(super) fn end(&self, reason: &str, end: Option<EndReason>) {
        let mut locked = self.lock();
        locked.questions = None;
        locked.capacities.on_given_up();
        let ended = locked.calls.give_up(&self.master, reason, true);
        drop(locked);
        self.status.send_replace(Status::Ended(end));
        finish(ended);
    }

    /// Whether a detached call was not written yet.
    pub(super) fn has_unsent_detached(&self) -> bool {
        self.lock().calls.has_unsent_detached()
    }

    /// Responses have come.
    pub(super) fn on_replies(&self, replies: &mut Vec<(CallId, CallerReply)>) {
        let mut ended = Vec::with_capacity(replies.len());
        {
            let mut locked = self.lock();
            for (id, reply) in replies.drain(..) {
                if reply.end == CallerEnd::NotReceived && locked.calls.send_again(id) {
                    continue;
                }
                // Nobody waits for a call that was cancelled.
                if let Some((state, elapsed)) = locked.calls.answered(id) {
                    ended.push((state, elapsed, reply));
                }
            }
        }
        for (state, elapsed, reply) in ended {
            let end = self.end_of(&state, elapsed, reply);
            state.finish(end.map_err(|failure| *failure));
        }
    }

    fn end_of(&self, state: &CallState, elapsed: Duration, reply: CallerReply) -> Result<RawAnswer, Box<CallFailure>> {
        let CallerReply { end, payload } = reply;
        match end {
            CallerEnd::Answered { is_error, count, node: (id, name), addr, attempts, run, .. } => Ok(RawAnswer {
                is_error,
                payload,
                count: count.clamp(1, state.submit_options.count.max(1)),
                node: NodeIdentity::new(NodeId::from_bits(id), &name, addr.unwrap_or(NO_ADDRESS)),
                attempts,
                elapsed,
                run: from_micros(run).min(elapsed),
            }),
            CallerEnd::Failed { failed_attempts } => {
                let error = Decoder::new(&payload, self.max_depth.load(Ordering::Relaxed)).only::<CallError<()>>();
                let error = error.map_err(|source| source.to_string()).and_then(|error| {
                    error.try_map(|()| Err("the master sent an error that only a handler can have".to_owned()))
                });
                let mut error = error.unwrap_or_else(|reason| self.protocol_error(state, &reason));
                // The master was told how much of the timeout was left.
                if let (CallError::TimedOut { timeout, .. }, Some(set)) = (&mut error, state.options.timeout) {
                    *timeout = set;
                }
                Err(Box::new(CallFailure { error, failed_attempts: Vec::new(), was_tried: failed_attempts > 0 }))
            }
            CallerEnd::Nodes | CallerEnd::NotReceived => {
                let reason = match end {
                    CallerEnd::Nodes => "the master answered a call with a list of nodes",
                    _ => "the master had received the call, and said later that it had not",
                };
                Err(Box::new(CallFailure::after(Vec::new(), self.protocol_error(state, reason))))
            }
        }
    }

    /// The error of a call whose end cannot be read.
    fn protocol_error(&self, state: &CallState, reason: &str) -> CallError {
        CallError::MasterLost {
            call: state.identity(),
            master: self.master.clone(),
            reason: format!("its response cannot be read: {reason}"),
            execution: crate::error::Execution::MayHaveRun,
        }
    }

    /// A control frame has come.
    ///
    /// # Errors
    ///
    /// What a correct master never sends, as the reason why the connection is closed.
    pub(super) fn on_control(&self, control: Control) -> Result<(), String> {
        match control {
            Control::GiveBack { call, kept, .. } => self.lock().calls.shorten(CallId(call), kept)?,
            Control::Capacity { watch, capacity } => self.lock().capacities.on_told(watch, capacity),
            other => return Err(other.unhandled()),
        }
        Ok(())
    }

    /// Ends the calls whose time is up, and returns when to look again.
    pub(super) fn expire(&self) -> Option<tokio::time::Instant> {
        let (ended, next) = {
            let mut locked = self.lock();
            (locked.calls.expire(tokio::time::Instant::now()), locked.calls.next_deadline())
        };
        finish(ended);
        next
    }

    /// Since when there is no connection; `None` while there is one.
    pub(super) fn away_since(&self) -> Option<tokio::time::Instant> {
        self.lock().calls.absence().map(|(since, _)| since)
    }

    /// Why there is no connection yet.
    pub(super) fn last_failure(&self) -> String {
        self.lock().calls.absence().map_or_else(String::new, |(_, reason)| reason.to_owned())
    }
}

impl Dispatcher for ClusterShared {
    fn argument_limits(&self) -> ValueLimits {
        ValueLimits {
            bytes: self.argument_bytes.load(Ordering::Relaxed),
            depth: self.max_depth.load(Ordering::Relaxed),
        }
    }

    fn default_timeout(&self) -> Option<Duration> {
        self.lock().default_timeout
    }

    fn runtime(&self) -> Option<Handle> {
        self.runtime.clone()
    }

    fn submit(&self, call: Arc<CallState>) {
        let (submitted, is_earliest) = {
            let mut locked = self.lock();
            let before = locked.calls.next_deadline();
            let submitted = locked.calls.submit(&self.master, self.reconnect_timeout, &call);
            (submitted, locked.calls.next_deadline() != before)
        };
        if is_earliest {
            self.deadline_set.notify_one();
        }
        if let Err(error) = submitted {
            finish([(call, error)]);
        }
    }

    fn cancel(&self, call: &CallState) {
        let mut locked = self.lock();
        // Under the lock: a new connection gives calls other ids.
        if let Some(id) = call.id() {
            locked.calls.cancel(id);
        }
    }

    fn detach(&self, call: &CallState) {
        let mut locked = self.lock();
        if let Some(id) = call.id() {
            locked.calls.detach(id);
        }
    }

    /// Never, because only the master knows: the call waits there until its time is up.
    fn take_back_unserved(&self, _: &CallState) -> bool {
        false
    }

    fn capacity(&self, method: &MethodInfo, options: &CallOptions) -> Capacity {
        let mut locked = self.lock();
        let connection = locked.calls.connection().map(|connection| Arc::clone(&connection.state));
        locked.capacities.get(method, &options.labels, connection.as_deref())
    }

    fn report_run(&self, report: RunReport) {
        let mut locked = self.lock();
        let connection = locked.calls.connection().map(|connection| Arc::clone(&connection.state));
        locked.run_reports.send(report, connection.as_deref());
    }

    fn nodes_changed(&self) -> BoxFuture<'static, ()> {
        let mut changes = self.lock().capacities.changes();
        Box::pin(async move {
            if changes.changed().await.is_err() {
                // The caller has ended, and so do all its calls.
                std::future::pending().await
            }
        })
    }

    fn serving(&self, method: &MethodInfo, options: &CallOptions) -> BoxFuture<'static, Vec<NodeInfo>> {
        let (answer, answered) = oneshot::channel();
        let question = Question { method: method.id().0, labels: options.labels.clone(), answer };
        let sent = self.lock().questions.as_ref().is_some_and(|questions| questions.send(question).is_ok());
        let master = self.master.clone();
        Box::pin(async move {
            match answered.await {
                Ok(nodes) if sent => nodes,
                _ => {
                    tracing::warn!(
                        master,
                        "the master cannot be asked for its nodes, because there is no connection to it"
                    );
                    Vec::new()
                }
            }
        })
    }
}
