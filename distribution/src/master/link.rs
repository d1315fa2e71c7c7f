//! One node's connection: sends it the calls that the core gives it, and brings back how they ended.
//!
//! One task drives it all: the queue of attempts, tarpc's client, and the replies awaited. It takes
//! what has gathered before it lets tarpc write, so that calls made together travel together.

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

use futures::{Stream, future::BoxFuture, stream::FuturesUnordered};
use tarpc::client::{self, NewClient, RpcError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{dispatch::Shared, pulse::Pulse};
use crate::{
    config::LONGEST_TIME,
    core::AttemptEnd,
    error::GoneReason,
    id::{CallId, NodeId},
    service::caller::CallState,
    wire::{
        Control, Reply,
        again::Again,
        frame::BODY_HEADER_LIMIT,
        quiet::{Failure, Quiet},
        side::Side,
        transport::{MasterTransport, OnControl, Outgoing, Withdrawn},
    },
};

/// Requests that tarpc's client holds before it writes them.
const REQUEST_BUFFER: usize = 1024;

/// How long the last frames may take to go out before the connection is simply closed.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// The way to a node, as the core hands it around.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Bounded by what the core sends to one node: its slots and a little more, and its async limit.
    pub(super) sender: UnboundedSender<Attempt>,
    pub(super) side: Arc<Side>,
    pub(super) origin: Instant,
    verdict: Arc<Mutex<Option<GoneReason>>>,
    closed: CancellationToken,
}

impl Link {
    /// One whose calls are taken from the other end of this.
    pub(super) fn new(shared: &Shared, sender: UnboundedSender<Attempt>) -> Self {
        Self {
            sender,
            side: Side::new(shared.limits.peer_timeouts, Some(Arc::clone(&shared.incoming))),
            origin: shared.origin,
            verdict: Arc::default(),
            closed: shared.closed.child_token(),
        }
    }

    /// Ends the connection, for this reason.
    pub(super) fn close(&self, reason: GoneReason) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.closed.cancel();
    }

    fn verdict(&self) -> GoneReason {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(GoneReason::Shutdown)
    }
}

/// A call on its way to the node.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) call: Arc<CallState>,
    pub(super) id: CallId,
    pub(super) attempt: u32,
    /// How many calls of a batch the node may start before it asks.
    pub(super) granted: u32,
    pub(super) deadline: Option<Instant>,
}

/// The owner's end of a new link: what runs it.
pub(super) struct LinkTask {
    attempts: UnboundedReceiver<Attempt>,
    link: Link,
    /// The most bytes of arguments that the node takes.
    argument_limit: usize,
}

/// Makes both ends of a link to a node that takes frames of this size.
pub(super) fn new(shared: &Shared, node_max_message_size: u64) -> (Link, LinkTask) {
    let (sender, attempts) = unbounded_channel();
    let link = Link::new(shared, sender);
    let limit = usize::try_from(node_max_message_size).unwrap_or(usize::MAX);
    (link.clone(), LinkTask { attempts, link, argument_limit: limit.saturating_sub(BODY_HEADER_LIMIT) })
}

impl LinkTask {
    /// Drives the connection until it ends, and reports the node gone.
    pub(super) async fn run<Io>(self, shared: Arc<Shared>, stream: Io, node: NodeId)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { attempts, link, argument_limit } = self;
        // Dropped last: only once nothing is written here any more may the core send elsewhere what was not written.
        let mut departure = Departure { shared: &shared, node, reason: None };
        let left = Arc::new(AtomicBool::new(false));
        // What the node was told as it registered.
        let pulse = Arc::new(Mutex::new(Pulse::new(shared.heartbeat / 2)));
        let on_control =
            on_control(Arc::clone(&shared), Arc::clone(&link.side), Arc::clone(&left), Arc::clone(&pulse), node);
        let transport = MasterTransport::new(stream, Arc::clone(&link.side), shared.max_message_size, on_control);
        let failure = Failure::default();
        let transport = Quiet::new(transport, failure.clone());
        let mut config = client::Config::default();
        // The core bounds what is in flight; tarpc shall not hold anything back on top of it.
        config.max_in_flight_requests = usize::MAX;
        config.pending_request_buffer = REQUEST_BUFFER;
        let NewClient { client, dispatch } = client::new(config, transport);
        let mut dispatch = pin!(dispatch);
        let mut traffic = Traffic {
            shared: &shared,
            node,
            attempts,
            client,
            context: tarpc::context::current(),
            argument_limit,
            pulse,
            done: Vec::new(),
            has_yielded: false,
            in_flight: FuturesUnordered::new(),
        };
        let again = Again::new();
        let mut beats = tokio::time::interval(shared.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        departure.reason = Some(loop {
            tokio::select! {
            _ = beats.tick() => link.side.send(Control::HeartbeatSeen),
            _ = std::future::poll_fn(|cx| again.poll(cx, |inner| {
                let polled = traffic.poll(cx, inner, dispatch.as_mut());
                (polled, traffic.is_alone())
            })) => break match failure.take() {
                // A node that has said goodbye may close with something unread, which looks like a reset.
                Some(error) if is_violation(&error) => broken(&error),
                _ if left.load(Ordering::Acquire) => GoneReason::Left,
                None => GoneReason::Disconnected,
                Some(error) => broken(&error),
            },
            () = link.closed.cancelled() => {
                let reason = link.verdict();
                // With every sender gone tarpc's client writes out what is left, the goodbye included.
                drop(traffic);
                link.side.send(Control::Goodbye);
                let _ = timeout(FAREWELL_TIME, dispatch).await;
                break reason;
            }
            }
        });
    }
}

/// Reports the node gone when it is dropped, so that it is reported however its connection ends.
struct Departure<'a> {
    shared: &'a Shared,
    node: NodeId,
    reason: Option<GoneReason>,
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        let (node, reason) = (self.node, self.reason.take());
        let reason = reason.unwrap_or_else(|| match std::thread::panicking() {
            true => GoneReason::Broken("the task of the connection at the master panicked".into()),
            // The runtime has ended under it.
            false => GoneReason::Shutdown,
        });
        self.shared.with_core("a node is gone", |core, now, effects| core.on_node_gone(now, node, reason, effects));
    }
}

fn on_control(
    shared: Arc<Shared>,
    side: Arc<Side>,
    left: Arc<AtomicBool>,
    pulse: Arc<Mutex<Pulse>>,
    node: NodeId,
) -> OnControl {
    Box::new(move |control| {
        match control {
            Control::Heartbeat(load) => {
                pulse.lock().unwrap_or_else(PoisonError::into_inner).beat(load, side.waited())?;
            }
            Control::Drain => {
                shared.with_core("a node drains", |core, now, effects| core.on_node_draining(now, node, effects));
            }
            Control::GaveBack { call, attempt, kept } => {
                shared.with_core("a node gave calls back", |core, _, effects| {
                    core.on_calls_given_back(node, CallId(call), attempt, kept, effects);
                });
            }
            Control::Wants { call, attempt, upto } => {
                shared.with_core("a node wants to start more of a batch", |core, _, effects| {
                    core.on_grant_requested(node, CallId(call), attempt, upto, effects);
                });
            }
            Control::Goodbye => left.store(true, Ordering::Release),
            Control::Cancel { .. }
            | Control::HeartbeatSeen
            | Control::Drained
            | Control::Retract
            | Control::Granted { .. } => {
                return Err("a node sent a master's control frame".to_owned());
            }
        }
        Ok(())
    })
}

fn is_violation(error: &io::Error) -> bool {
    matches!(broken(error), GoneReason::Violation(_))
}

/// Why a connection was given up that failed so.
fn broken(error: &io::Error) -> GoneReason {
    match error.kind() {
        io::ErrorKind::InvalidData => GoneReason::Violation(error.to_string().into()),
        // What a peer that is killed leaves behind is one or the other, by whether it had read everything.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => GoneReason::Disconnected,
        _ => GoneReason::Broken(error.to_string().into()),
    }
}

/// A call whose attempt has ended, and how.
type Done = (CallId, u32, AttemptEnd);

/// What moves over a link.
struct Traffic<'a> {
    shared: &'a Arc<Shared>,
    node: NodeId,
    attempts: UnboundedReceiver<Attempt>,
    client: client::Channel<Outgoing, Reply>,
    context: tarpc::context::Context,
    argument_limit: usize,
    pulse: Arc<Mutex<Pulse>>,
    /// Calls whose attempts have ended, on their way to the core. Empty but while they gather.
    done: Vec<Done>,
    /// Whether others on this thread have had their turn since the last calls came.
    has_yielded: bool,
    /// `None` for one of which only the end of the connection is known.
    in_flight: FuturesUnordered<BoxFuture<'static, Option<Done>>>,
}

impl Traffic<'_> {
    /// Moves everything that can move; ready when tarpc's client has ended. What is polled wakes `cx`, and `task` is
    /// woken for others to have their turn.
    fn poll<D>(&mut self, task: &Context<'_>, cx: &mut Context<'_>, mut dispatch: Pin<&mut D>) -> Poll<D::Output>
    where
        D: Future,
    {
        let mut done = std::mem::take(&mut self.done);
        let mut came = false;
        while let Poll::Ready(Some(attempt)) = self.attempts.poll_recv(cx) {
            came = true;
            match self.start(attempt) {
                Ok(call) => self.in_flight.push(call),
                Err(refused) => done.push(refused),
            }
        }
        // Callers that are ready to make their calls do so before anything is written: then all of them
        // travel in one write. Who calls alone waits for nobody, for to yield wakes another thread.
        self.has_yielded = came && !self.has_yielded && !self.is_alone();
        if self.has_yielded {
            // To the end of this thread's queue. Tokio's `yield_now` would wait until the thread is idle, and
            // no other thread could take over meanwhile.
            task.waker().wake_by_ref();
            self.done = done;
            return Poll::Pending;
        }
        // Before tarpc's client, so that it finds all new requests at once and writes them together.
        self.collect(cx, &mut done);
        let ended = dispatch.as_mut().poll(cx);
        // All heartbeats that it has read are one.
        let news = self.pulse.lock().unwrap_or_else(PoisonError::into_inner).take_news();
        if let Some(load) = news {
            self.shared.with_core("a node told its load", |core, now, effects| {
                core.on_heartbeat(now, self.node, load, effects)
            });
        }
        // And after it, for the replies it has just read, be they the last.
        self.collect(cx, &mut done);
        let mut ends = done.drain(..);
        // Once, unless the core panics over one of them: then the others are brought all the same.
        while ends.len() > 0 {
            self.shared.with_core("attempts ended", |core, now, effects| {
                for (call, attempt, attempted) in ends.by_ref() {
                    core.on_attempt_finished(now, self.node, call, attempt, attempted, effects);
                }
            });
        }
        drop(ends);
        self.done = done;
        ended
    }

    /// Whether there is one call at most, whose caller waits for this task and for nothing else.
    fn is_alone(&self) -> bool {
        self.in_flight.len() <= 1
    }

    fn collect(&mut self, cx: &mut Context<'_>, done: &mut Vec<Done>) {
        while let Poll::Ready(Some(ended)) = Pin::new(&mut self.in_flight).poll_next(cx) {
            done.extend(ended);
        }
    }

    fn start(&self, attempt: Attempt) -> Result<BoxFuture<'static, Option<Done>>, Done> {
        let Attempt { call, id, attempt, granted, deadline } = attempt;
        let size = call.payload.len();
        if size > self.argument_limit {
            let (size, limit) = (size as u64, self.argument_limit as u64);
            return Err((id, attempt, AttemptEnd::TooLarge { size, limit }));
        }
        let client = self.client.clone();
        let mut context = self.context;
        // Deadlines are the core's: it cancels, and the node answers. tarpc's own would forget the call
        // while the node still has a slot taken by it.
        context.deadline = std::time::Instant::now() + LONGEST_TIME;
        let outgoing = Outgoing {
            method: call.method.id().0,
            call: id.0,
            attempt,
            count: call.role.count,
            granted,
            deadline,
            payload: call.payload.clone(),
            name: call.method.name().method,
            permit: call,
        };
        Ok(Box::pin(async move {
            let attempted = attempted(client.call(context, outgoing).await)?;
            Some((id, attempt, attempted))
        }))
    }
}

/// What is known of an attempt, as far as tarpc's client tells.
fn attempted(result: Result<Reply, RpcError>) -> Option<AttemptEnd> {
    match result {
        Ok(reply) => Some(AttemptEnd::Replied(reply)),
        Err(RpcError::Send(error)) if is_withdrawn(&*error) => Some(AttemptEnd::NotSent),
        // These come as the connection ends. What becomes of its calls is decided then, for all of them,
        // by whether each was written.
        Err(_) => None,
    }
}

fn is_withdrawn(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is_some_and(|error| error.is::<Withdrawn>())
}

#[cfg(test)]
mod tests {
    use tokio::io::ReadBuf;

    use super::*;
    use crate::{
        core::split_registration, master::dispatch::tests::shared, view::NodeEvent, wire::hello::Registration,
    };

    /// A connection under which our own code panics.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            panic!("as a test wants it");
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_connection_whose_task_panics_reports_its_node_gone() {
        let shared = shared();
        let mut events = shared.subscribe().expect("the master lives");
        let (link, task) = new(&shared, 65_536);
        let registration = Registration {
            name: "n".to_owned(),
            instance: 1,
            slots: 1,
            busy: 0,
            async_limit: 1,
            max_message_size: 65_536,
            labels: Vec::new(),
            methods: Vec::new(),
        };
        let node = shared.with_core("a node joined", |core, now, effects| {
            let node = core.new_node_id();
            core.on_node_joined(
                now,
                node,
                split_registration(registration, crate::security::Principal::open()),
                ([127, 0, 0, 1], 1).into(),
                link,
                effects,
            );
            node
        });
        let node = node.expect("joins");
        let run = tokio::spawn(task.run(Arc::clone(&shared), Broken, node));
        assert!(run.await.expect_err("panics").is_panic());
        assert_eq!(shared.nodes().len(), 0);
        assert!(matches!(events.recv().await, Ok(NodeEvent::Joined { .. })));
        match events.recv().await {
            Ok(NodeEvent::Gone { reason: GoneReason::Broken(what), .. }) => {
                assert!(what.contains("panicked"), "{what}")
            }
            other => panic!("{other:?}"),
        }
    }
}
