//! The connection to a node: sends it the attempts that the core gives it, and tells the core how they ended.
//!
//! One task drives the queue of attempts, tarpc's client, and the replies that are awaited. It takes all attempts that
//! are queued before it lets tarpc write, so that calls which are made together travel together.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tarpc::client::{self, NewClient};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::unconstrained,
    time::{MissedTickBehavior, timeout},
};

use super::{
    awaited_profile::Profiles,
    batch_frame_limit::BatchFrameLimit,
    event_log::time,
    heartbeat_limit::HeartbeatLimit,
    link::{Attempt, Link, NodeRequest},
    log_limit::LogLimit,
    shared::Shared,
};
use crate::{
    config::LONGEST_TIME,
    core::{AttemptEnd, NodeConnection},
    error::GoneReason,
    id::{CallId, MethodName, NodeIdentity},
    service::spans::without_own_span,
    wire::{
        CloseReason, Control, Load, Payload, Reply, batch,
        confirmations::Confirmations,
        connection_state::ConnectionState,
        frame::layout::BODY_HEADER_LIMIT,
        repoller::Repoller,
        transport::{
            AttemptGivenUp, MasterTransport, OnControl, OutgoingRequest,
            end_on_error::{EndOnError, ErrorSlot},
        },
    },
};

/// Requests that tarpc's client queues before it writes them.
const REQUEST_BUFFER: usize = 1024;

/// How long the last frames, the goodbye among them, may take to be written before the connection is closed anyway.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// A node reports how its process does this often, or less often.
const VITALS_EVERY: Duration = Duration::from_secs(1);

/// A connection that is yet to be run.
#[must_use = "nothing is sent or received until the connection is run"]
pub(super) struct Connection {
    requests: UnboundedReceiver<NodeRequest>,
    link: Link,
    /// The most bytes of arguments that the node takes.
    argument_limit: usize,
}

/// A connection to a node that takes frames of this size, and the core's handle of it.
pub(super) fn new(shared: &Shared, node_max_message_size: u64) -> (Link, Connection) {
    let (sender, requests) = unbounded_channel();
    let link = shared.new_link(sender);
    let limit = usize::try_from(node_max_message_size).unwrap_or(usize::MAX);
    (link.clone(), Connection { requests, link, argument_limit: limit.saturating_sub(BODY_HEADER_LIMIT) })
}

impl Connection {
    /// Drives the connection until it ends, and reports that.
    pub(super) async fn run<Io>(
        self,
        shared: Arc<Shared>,
        stream: Io,
        connection: NodeConnection,
        identity: NodeIdentity,
    ) where
        Io: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { requests, link, argument_limit } = self;
        // Dropped last: the core sends attempts that were not written to other nodes, so nothing may be written here any
        // more when it hears that the node is gone.
        let mut report = LossReport { shared: &shared, connection, profiles: Arc::clone(&link.profiles), reason: None };
        let left = Arc::new(AtomicBool::new(false));
        // The interval that the node was told when it registered.
        let heartbeats = Arc::new(Mutex::new(HeartbeatLimit::new(shared.heartbeat / 2)));
        let batch_frames = Arc::new(Mutex::new(BatchFrameLimit::new()));
        let on_control = on_control(
            Arc::clone(&shared),
            &link,
            Arc::clone(&left),
            Arc::clone(&heartbeats),
            Arc::clone(&batch_frames),
            (connection, identity),
        );
        let limit = batch::response_limit(shared.max_message_size);
        let transport = MasterTransport::new(stream, Arc::clone(&link.state), limit, on_control);
        let error = ErrorSlot::default();
        let transport = EndOnError::new(transport, error.clone());
        let mut config = client::Config::default();
        // The core bounds what is in flight, so tarpc need not.
        config.max_in_flight_requests = usize::MAX;
        config.pending_request_buffer = REQUEST_BUFFER;
        let NewClient { client, dispatch } = client::new(config, transport);
        let mut dispatch = pin!(dispatch);
        let mut driver = Driver {
            shared: &shared,
            connection,
            state: Arc::clone(&link.state),
            requests,
            confirmations: shared.resumes_nodes().then(Confirmations::default),
            replied: 0,
            client,
            context: tarpc::context::current(),
            argument_limit,
            heartbeats,
            batch_frames,
            finished: Vec::new(),
            has_yielded: false,
            in_flight: FuturesUnordered::new(),
        };
        let repoller = Repoller::new();
        let mut beats = tokio::time::interval(shared.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        report.reason = Some(loop {
            tokio::select! {
            _ = beats.tick() => {
                link.state.send(Control::MasterHeartbeat);
                driver.confirm();
            }
            _ = std::future::poll_fn(|cx| repoller.poll(cx, |inner| {
                let polled = driver.poll(cx, inner, dispatch.as_mut());
                (polled, driver.is_alone())
            })) => break match error.take() {
                Some(error) if is_violation(&error) => reason_of(&error),
                // A node that has said goodbye may close while something is unread, which looks like a reset.
                _ if left.load(Ordering::Acquire) => GoneReason::Left,
                None => GoneReason::Disconnected,
                Some(error) => reason_of(&error),
            },
            reason = link.closed() => {
                // Once every sender is dropped, tarpc's client writes what is left, the goodbye included, and ends.
                drop(driver);
                let is_shutdown = matches!(reason, GoneReason::Shutdown);
                link.state.send(Control::Goodbye { reason: close_reason(&reason), is_shutdown });
                let _ = timeout(GOODBYE_TIMEOUT, dispatch).await;
                break reason;
            }
            }
        });
    }
}

/// Reports the connection lost when it is dropped, so that it is reported whichever way it ends.
struct LossReport<'a> {
    shared: &'a Shared,
    connection: NodeConnection,
    profiles: Arc<Profiles>,
    reason: Option<GoneReason>,
}

impl Drop for LossReport<'_> {
    fn drop(&mut self) {
        self.profiles.end();
        let reason = self.reason.take();
        let reason = reason.unwrap_or_else(|| match std::thread::panicking() {
            true => GoneReason::Broken("the task of the connection at the master panicked".into()),
            // The task was dropped because its runtime has ended.
            false => GoneReason::Shutdown,
        });
        self.shared.with_core("a connection was lost", |core, now, effects| {
            core.on_connection_lost(now, self.connection, reason, effects);
        });
    }
}

fn on_control(
    shared: Arc<Shared>,
    link: &Link,
    left: Arc<AtomicBool>,
    heartbeats: Arc<Mutex<HeartbeatLimit>>,
    batch_frames: Arc<Mutex<BatchFrameLimit>>,
    (connection, identity): (NodeConnection, NodeIdentity),
) -> OnControl {
    let node = connection.node;
    let (state, profiles) = (Arc::clone(&link.state), Arc::clone(&link.profiles));
    let mut vitals_limit = HeartbeatLimit::new(VITALS_EVERY);
    let mut log_limit = LogLimit::new();
    Box::new(move |control| {
        if let Control::Drain | Control::GiveBack { .. } | Control::RequestGrant { .. } = &control {
            batch_frames.lock().unwrap_or_else(PoisonError::into_inner).on_frame()?;
        }
        match control {
            Control::Heartbeat { load } => {
                heartbeats.lock().unwrap_or_else(PoisonError::into_inner).on_heartbeat(load, state.paused_for())?;
            }
            Control::Vitals { vitals } => {
                let allowed = vitals_limit.on_heartbeat(Load::default(), state.paused_for());
                allowed.map_err(|_| "it reported how its process does more often than once a second")?;
                let vitals = vitals.shown(time());
                shared.with_connection(connection, "a node reports its vitals", |core, now, _| {
                    core.on_vitals(now, node, vitals);
                });
            }
            Control::Drain => {
                shared.with_connection(connection, "a node drains", |core, now, effects| {
                    core.on_node_draining(now, node, effects)
                });
            }
            Control::GiveBack { call, attempt, kept } => {
                shared.with_connection(connection, "a node gave calls back", |core, _, effects| {
                    core.on_calls_given_back(node, CallId(call), attempt, kept, effects);
                });
            }
            Control::RequestGrant { call, attempt, upto } => {
                shared.with_connection(connection, "a node wants to start more of a batch", |core, _, effects| {
                    core.on_grant_requested(node, CallId(call), attempt, upto, effects);
                });
            }
            Control::Lend { call, attempt } => {
                shared.with_connection(connection, "a handler waits for a nested call", |core, now, effects| {
                    core.on_slot_lent(now, node, CallId(call), attempt, effects);
                });
            }
            Control::Resume { call, attempt } => {
                shared.with_connection(connection, "a handler goes on", |core, now, _| {
                    core.on_slot_resumed(now, node, CallId(call), attempt)
                });
            }
            Control::Logs { records } => {
                let accepted = log_limit.on_frame(records.len())?;
                shared.logs.add(&identity, records, accepted);
            }
            Control::ProfilePart { profile, bytes, is_last } => profiles.add(profile, &bytes, is_last)?,
            // It drained, or its owner dropped it: `GoneReason::Left` says as much.
            Control::Goodbye { .. } => left.store(true, Ordering::Release),
            other => return Err(other.unhandled()),
        }
        Ok(())
    })
}

/// What the node is told when this end closes the connection.
fn close_reason(reason: &GoneReason) -> CloseReason {
    CloseReason::new(format_args!("the node {reason}"))
}

fn is_violation(error: &io::Error) -> bool {
    matches!(reason_of(error), GoneReason::Violation(_))
}

/// Why a node is gone whose connection failed with this error.
fn reason_of(error: &io::Error) -> GoneReason {
    match error.kind() {
        io::ErrorKind::InvalidData => GoneReason::Violation(error.to_string().into()),
        // A process that is killed causes one or the other, depending on whether it had read everything.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => GoneReason::Disconnected,
        _ => GoneReason::Broken(error.to_string().into()),
    }
}

/// An attempt at a call that has ended, and how.
type FinishedAttempt = (CallId, u32, AttemptEnd);

/// Moves attempts to the node, and replies and heartbeats to the core.
struct Driver<'a> {
    shared: &'a Arc<Shared>,
    connection: NodeConnection,
    state: Arc<ConnectionState>,
    requests: UnboundedReceiver<NodeRequest>,
    /// Which responses the core knows; `None` if the node keeps none.
    confirmations: Option<Confirmations>,
    /// Responses that were collected.
    replied: u64,
    client: client::Channel<Box<OutgoingRequest>, Reply>,
    context: tarpc::context::Context,
    argument_limit: usize,
    heartbeats: Arc<Mutex<HeartbeatLimit>>,
    batch_frames: Arc<Mutex<BatchFrameLimit>>,
    /// Attempts that have ended and of which the core has not been told. Kept between polls for its memory.
    finished: Vec<FinishedAttempt>,
    /// Whether other tasks of this thread have run since the last attempts came.
    has_yielded: bool,
    /// An attempt ends with `None` if all that is known is that the connection ended.
    in_flight: FuturesUnordered<BoxFuture<'static, Option<FinishedAttempt>>>,
}

impl Driver<'_> {
    /// Moves everything that can move; ready when tarpc's client has ended. What is polled wakes `cx`; `task` is woken
    /// when this task only lets others run.
    fn poll<D>(&mut self, task: &Context<'_>, cx: &mut Context<'_>, mut dispatch: Pin<&mut D>) -> Poll<D::Output>
    where
        D: Future,
    {
        let mut finished = std::mem::take(&mut self.finished);
        let mut came = false;
        while let Poll::Ready(Some(request)) = self.requests.poll_recv(cx) {
            came = true;
            match self.start(request) {
                Ok(call) => self.in_flight.push(call),
                Err(refused) => finished.push(refused),
            }
        }
        // Tasks that are ready to make calls make them before anything is written, so that all travel in one write. A
        // single caller does not wait for others, because yielding wakes another thread.
        self.has_yielded = came && !self.has_yielded && !self.is_alone();
        if self.has_yielded {
            // Goes to the end of this thread's queue. With tokio's `yield_now` it would wait until the thread is idle, and
            // no other thread could take it over meanwhile.
            task.waker().wake_by_ref();
            self.finished = finished;
            return Poll::Pending;
        }
        // Before tarpc's client is polled, so that it finds all new requests at once and writes them together.
        self.collect(cx, &mut finished);
        let ended = dispatch.as_mut().poll(cx);
        // All heartbeats that it has read count as one.
        let news = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).take_news();
        if let Some(load) = news {
            self.shared.with_connection(self.connection, "a node told its load", |core, now, effects| {
                core.on_heartbeat(now, self.connection.node, load, effects)
            });
        }
        // And after it, for the replies that it has just read, which may be the last.
        self.collect(cx, &mut finished);
        for (call, attempt, _) in &finished {
            self.state.close_streams((call.0, *attempt));
        }
        let mut ends = finished.drain(..);
        let (connection, mut is_current) = (self.connection, true);
        // The loop runs once, unless the core panics over one of them: then the others are delivered all the same.
        while ends.len() > 0 && is_current {
            let dealt_with = self.shared.with_core("attempts ended", |core, now, effects| {
                // What came on a connection that is given up is asked for again on the next one.
                if !core.is_connected(connection) {
                    return false;
                }
                for (call, attempt, attempted) in ends.by_ref() {
                    core.on_attempt_finished(now, connection.node, call, attempt, attempted, effects);
                }
                true
            });
            is_current = dealt_with.unwrap_or(true);
        }
        drop(ends);
        self.finished = finished;
        let arrived = self.state.arrived();
        if let Some(confirmations) =
            self.confirmations.as_mut().filter(|_| is_current && arrived.responses == self.replied)
        {
            confirmations.on_dealt_with(arrived, &self.state);
        }
        ended
    }

    /// Confirms what the core knows.
    fn confirm(&mut self) {
        if let Some(confirmations) = &mut self.confirmations {
            confirmations.confirm(&self.state);
        }
    }

    /// Whether at most one call is in flight, so that its caller waits for this task and for nothing else.
    fn is_alone(&self) -> bool {
        self.in_flight.len() <= 1
    }

    fn collect(&mut self, cx: &mut Context<'_>, finished: &mut Vec<FinishedAttempt>) {
        // All that is ready, also if the budget of tokio's task has run out: what was read is confirmed once all of it is
        // here.
        while let Poll::Ready(Some(ended)) = pin!(unconstrained(self.in_flight.next())).poll(cx) {
            self.replied += u64::from(matches!(&ended, Some((_, _, AttemptEnd::Replied(_)))));
            finished.extend(ended);
        }
    }

    fn start(&self, request: NodeRequest) -> Result<BoxFuture<'static, Option<FinishedAttempt>>, FinishedAttempt> {
        let mut context = self.context;
        // The core keeps deadlines: it cancels the call, and the node answers. tarpc's own deadline would forget the call
        // while it still holds a slot of the node.
        context.deadline = std::time::Instant::now() + LONGEST_TIME;
        let client = self.client.clone();
        let Attempt { call, id, attempt, granted, deadline } = match request {
            NodeRequest::Attempt(attempt) => attempt,
            NodeRequest::AskAgain { id, attempt, method, permit } => {
                // It may be a batch, whose node has something to say of it again.
                let mut batch_frames = self.batch_frames.lock().unwrap_or_else(PoisonError::into_inner);
                batch_frames.on_batch(self.in_flight.len());
                drop(batch_frames);
                let outgoing = Box::new(OutgoingRequest {
                    method: method.0,
                    call: id.0,
                    attempt,
                    count: 0,
                    granted: 0,
                    deadline: None,
                    payload: Payload::EMPTY,
                    arguments: None,
                    name: MethodName::new("distribution", "asks again"),
                    permit,
                });
                return Ok(without_own_span(|| ended(client, context, id, outgoing)));
            }
        };
        let size = call.size();
        if size > self.argument_limit {
            let (size, limit) = (size as u64, self.argument_limit as u64);
            return Err((id, attempt, AttemptEnd::TooLarge { size, limit }));
        }
        if call.submit_options.count > 1 {
            let mut batch_frames = self.batch_frames.lock().unwrap_or_else(PoisonError::into_inner);
            batch_frames.on_batch(self.in_flight.len());
        }
        if !call.streams.is_none() {
            self.state.open_streams_of_call((id.0, attempt), &call.streams);
        }
        let outgoing = Box::new(OutgoingRequest {
            method: call.method.id().0,
            call: id.0,
            attempt,
            count: call.submit_options.count,
            granted,
            deadline,
            payload: call.payload.clone(),
            arguments: call.arguments.clone(),
            name: call.method.name().clone(),
            permit: call,
        });
        Ok(without_own_span(|| ended(client, context, id, outgoing)))
    }
}

/// Sends a request, and says how the attempt ended, if tarpc's client knows.
async fn ended(
    client: client::Channel<Box<OutgoingRequest>, Reply>,
    context: tarpc::context::Context,
    id: CallId,
    outgoing: Box<OutgoingRequest>,
) -> Option<FinishedAttempt> {
    let (attempt, arguments) = (outgoing.attempt, outgoing.arguments.clone());
    let end = match client.call(context, outgoing).await {
        Ok(reply) => AttemptEnd::Replied(reply),
        Err(error) if AttemptGivenUp::is_cause_of(&error) => {
            match arguments.is_some_and(|arguments| arguments.are_gone()) {
                true => AttemptEnd::ArgumentsGone,
                false => AttemptEnd::NotSent,
            }
        }
        // The connection is ending. The core then decides about all its calls, by whether each was written.
        Err(_) => return None,
    };
    Some((id, attempt, end))
}

#[cfg(test)]
mod tests;
