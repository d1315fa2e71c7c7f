//! One connection to the master: sends calls, and brings their ends to the caller.
//!
//! One task drives the queue of calls, tarpc's client, and the responses that are awaited. It takes all calls that are
//! queued before it lets tarpc write, so that calls which are made together travel together.

use std::{
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tarpc::client::{self, NewClient};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::unconstrained,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    accepted::Accepted,
    calls::{Connection, Outgoing},
    shared::{ClusterShared, Question},
};
use crate::{
    config::{LONGEST_TIME, PeerTimeouts},
    id::CallId,
    service::{metadata, method::MethodInfo, spans::without_own_span, state::CallState},
    wire::{
        CallRequest, CallerEnd, CloseReason, Control, batch,
        channel::Channel,
        codec::Decoder,
        confirmations::Confirmations,
        connection_state::ConnectionState,
        handshake::{Definition, MethodOffer},
        incoming_memory::IncomingMemory,
        repoller::Repoller,
        transport::{
            CallerReply, CallerTransport, Describe, ONLY_ATTEMPT, OutgoingCallerRequest,
            end_on_error::{EndOnError, ErrorSlot},
            is_fetched,
        },
    },
};

/// Requests that tarpc's client queues before it writes them.
const REQUEST_BUFFER: usize = 1024;

/// How long the last frames, the goodbye among them, may take to be written.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of the structure of a method that a caller declares, beside its names: both must fit into a control frame.
const DECLARED_STRUCTURE: usize = 4 * 1024;

/// Drives a connection until it ends, and returns why it did, and whether neither end has closed it on purpose.
pub(super) async fn run(shared: &Arc<ClusterShared>, channel: Channel, accepted: &Accepted) -> (String, bool) {
    let silence = accepted.silence;
    let PeerTimeouts { read_timeout, write_timeout } = PeerTimeouts::default();
    // A master that is stalled neither reads nor ends a frame, and is tolerated for as long as it may be silent.
    let timeouts = PeerTimeouts { read_timeout: read_timeout.max(silence), write_timeout: write_timeout.max(silence) };
    let limit = usize::try_from(shared.hello.max_message_size).unwrap_or(usize::MAX).saturating_add(batch::ROOM);
    let state = ConnectionState::new(timeouts, Some(IncomingMemory::of_connection(limit)));
    let goodbye = Arc::new(OnceLock::new());
    let on_control = {
        let (shared, goodbye) = (Arc::clone(shared), Arc::clone(&goodbye));
        Box::new(move |control| match control {
            Control::MasterHeartbeat => Ok(()),
            Control::Goodbye { reason, .. } => {
                let _ = goodbye.set(reason);
                Ok(())
            }
            other => shared.on_control(other),
        })
    };
    let error = ErrorSlot::default();
    let transport =
        EndOnError::new(CallerTransport::new(channel, Arc::clone(&state), limit, on_control), error.clone());
    let mut config = client::Config::default();
    // The master bounds what is in flight, so tarpc need not.
    config.max_in_flight_requests = usize::MAX;
    config.pending_request_buffer = REQUEST_BUFFER;
    let NewClient { client, dispatch } = client::new(config, transport);
    let mut dispatch = pin!(dispatch);
    let (calls, outgoing) = unbounded_channel();
    let (questions, asked) = unbounded_channel();
    let mut driver = Driver {
        shared,
        state: Arc::clone(&state),
        confirmations: accepted.session.map(|_| Confirmations::default()),
        collected: 0,
        outgoing,
        asked,
        client,
        context: tarpc::context::current(),
        replies: Vec::new(),
        has_yielded: false,
        in_flight: FuturesUnordered::new(),
    };
    let connection = Connection { calls, state: Arc::clone(&state) };
    shared.on_connected(connection, questions, accepted);
    let repoller = Repoller::new();
    let mut beats = interval(accepted.heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reason = loop {
        tokio::select! {
            _ = std::future::poll_fn(|cx| repoller.poll(cx, |inner| {
                let polled = driver.poll(cx, inner, dispatch.as_mut());
                (polled, driver.is_alone())
            })) => break match (error.take(), goodbye.get().map(CloseReason::shown)) {
                (_, Some(Some(reason))) => format!("the master closed the connection: {reason}"),
                (_, Some(None)) => "the master said goodbye".to_owned(),
                (Some(error), None) => error.to_string(),
                (None, None) => "the master closed the connection without a goodbye".to_owned(),
            },
            _ = beats.tick() => {
                let silent = state.heard().elapsed();
                if let Some(violation) = state.violation(state.opened()) {
                    break format!("the master broke the protocol: {violation}");
                }
                if silent > silence {
                    break format!("the master was silent for {:.1} s", silent.as_secs_f64());
                }
                state.send(Control::CallerHeartbeat);
                driver.confirm();
            }
            () = shared.closed.cancelled() => {
                // Calls that were detached just before run to their end all the same, so they are written first.
                let detached_are_written = std::future::poll_fn(|cx| {
                    let polled = driver.poll(&Context::from_waker(cx.waker()), cx, dispatch.as_mut());
                    match polled.is_ready() || !shared.has_unsent_detached() {
                        true => Poll::Ready(polled.is_ready()),
                        false => Poll::Pending,
                    }
                });
                let has_ended = state.while_it_reads(detached_are_written).await.unwrap_or(false);
                // Once every sender is dropped, tarpc's client writes what is left, the goodbye included, and ends.
                drop(driver);
                if !has_ended {
                    state.send(Control::Goodbye { reason: CloseReason::default(), is_shutdown: false });
                    let _ = timeout(GOODBYE_TIMEOUT, dispatch).await;
                }
                return ("the program dropped its `Cluster`".to_owned(), false);
            }
        }
    };
    (reason, goodbye.get().is_none())
}

/// What a request was for.
enum Finished {
    Call(CallId, CallerReply),
    /// Its answer has gone where it belongs.
    Question,
    /// The request was not sent, or the connection is ending.
    Nothing,
}

/// Moves calls to the master, and responses to the callers.
struct Driver<'a> {
    shared: &'a Arc<ClusterShared>,
    state: Arc<ConnectionState>,
    /// Which responses have reached their callers; `None` if the master keeps none.
    confirmations: Option<Confirmations>,
    /// Responses that were collected.
    collected: u64,
    outgoing: UnboundedReceiver<Outgoing>,
    asked: UnboundedReceiver<Question>,
    client: client::Channel<OutgoingCallerRequest, CallerReply>,
    context: tarpc::context::Context,
    /// Responses that have come and were not handed on. Kept between polls for its memory.
    replies: Vec<(CallId, CallerReply)>,
    /// Whether other tasks of this thread have run since the last calls came.
    has_yielded: bool,
    in_flight: FuturesUnordered<BoxFuture<'static, Finished>>,
}

impl Driver<'_> {
    /// Moves everything that can move; ready when tarpc's client has ended. What is polled wakes `cx`; `task` is woken
    /// when this task only lets others run.
    fn poll<D>(&mut self, task: &Context<'_>, cx: &mut Context<'_>, mut dispatch: Pin<&mut D>) -> Poll<D::Output>
    where
        D: Future,
    {
        let mut came = false;
        while let Poll::Ready(Some(outgoing)) = self.outgoing.poll_recv(cx) {
            came = true;
            self.start(outgoing);
        }
        while let Poll::Ready(Some(question)) = self.asked.poll_recv(cx) {
            self.ask(question);
        }
        // Tasks that are ready to make calls make them before anything is written, so that all travel in one write.
        self.has_yielded = came && !self.has_yielded && !self.is_alone();
        if self.has_yielded {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Before tarpc's client is polled, so that it finds all new requests at once and writes them together; and after
        // it, for the responses that it has just read.
        self.collect(cx);
        let ended = dispatch.as_mut().poll(cx);
        self.collect(cx);
        self.shared.on_replies(&mut self.replies);
        let arrived = self.state.arrived();
        if let Some(confirmations) = self.confirmations.as_mut().filter(|_| arrived.responses == self.collected) {
            confirmations.on_dealt_with(arrived, &self.state);
        }
        ended
    }

    /// Whether at most one call is in flight, so that its caller waits for this task and for nothing else.
    fn is_alone(&self) -> bool {
        self.in_flight.len() <= 1
    }

    fn collect(&mut self, cx: &mut Context<'_>) {
        // All that is ready, also if the budget of tokio's task has run out: what was read is confirmed once all of it is
        // here.
        while let Poll::Ready(Some(finished)) = pin!(unconstrained(self.in_flight.next())).poll(cx) {
            match finished {
                Finished::Call(id, reply) => self.replies.push((id, reply)),
                Finished::Question => {}
                Finished::Nothing => continue,
            }
            self.collected += 1;
        }
    }

    /// Confirms the responses that are dealt with.
    fn confirm(&mut self) {
        if let Some(confirmations) = &mut self.confirmations {
            confirmations.confirm(&self.state);
        }
    }

    fn request_context(&self) -> tarpc::context::Context {
        let mut context = self.context;
        // Timeouts are the master's and the caller's own. tarpc's would forget a call that still runs.
        context.deadline = std::time::Instant::now() + LONGEST_TIME;
        context
    }

    fn start(&mut self, outgoing: Outgoing) {
        let (client, context) = (self.client.clone(), self.request_context());
        // The connection, if the call has streams, or arguments that are fetched.
        let mut connection = None;
        let (id, request) = match outgoing {
            Outgoing::AskAgain { id, permit, arguments } => {
                connection = arguments.is_some().then(|| Arc::clone(&self.state));
                (id, OutgoingCallerRequest::AskAgain { call: id, permit, arguments })
            }
            Outgoing::Call { id, state, deadline } => {
                let method = Arc::clone(&state.method);
                if !state.streams.is_none() {
                    self.state.open_streams_of_call((id.0, ONLY_ATTEMPT), &state.streams);
                }
                if !state.streams.is_none() || is_fetched(&state.payload) {
                    connection = Some(Arc::clone(&self.state));
                }
                let request = OutgoingCallerRequest::Call {
                    request: request(id, &state),
                    deadline,
                    payload: state.payload.clone(),
                    name: method.name().clone(),
                    describe: Describe(Box::new(move || offer(&method))),
                    permit: state,
                };
                (id, request)
            }
        };
        // Calls reach tarpc in the order in which they were made. If the budget of tokio's task ran out in between, those
        // that had to wait for it would come behind all others.
        self.in_flight.push(without_own_span(|| {
            unconstrained(async move {
                let answered = client.call(context, request).await;
                if let Some(connection) = connection {
                    connection.close_streams((id.0, ONLY_ATTEMPT));
                    connection.streams().withdraw_offer(id.0);
                }
                match answered {
                    Ok(reply) => Finished::Call(id, reply),
                    // It was withdrawn before it was written, or the connection is ending: what becomes of its calls is decided
                    // by whether each was written.
                    Err(_) => Finished::Nothing,
                }
            })
        }));
    }

    fn ask(&mut self, question: Question) {
        let (client, context) = (self.client.clone(), self.request_context());
        let Question { method, labels, answer } = question;
        let request =
            OutgoingCallerRequest::Serving { method, labels: labels.map_or_else(Vec::new, |labels| labels.to_vec()) };
        self.in_flight.push(without_own_span(|| async move {
            let Ok(CallerReply { end, payload }) = client.call(context, request).await else {
                return Finished::Nothing;
            };
            if end == CallerEnd::Nodes {
                match Decoder::new(&payload, crate::config::MAX_DEPTH).only() {
                    // Nobody may wait for it any more.
                    Ok(nodes) => drop(answer.send(nodes)),
                    Err(error) => tracing::warn!(reason = %error, "the master's list of nodes cannot be read"),
                }
            }
            Finished::Question
        }));
    }
}

/// A call as the master is asked for it.
fn request(id: CallId, state: &CallState) -> CallRequest {
    let (options, submit_options) = (&state.options, &state.submit_options);
    CallRequest {
        method: state.method.id().0,
        call: id.0,
        count: submit_options.count,
        idempotent: state.method.is_idempotent(),
        timeout: options.timeout.map(|timeout| (0, crate::config::to_micros(timeout))),
        node: options.node.map(crate::id::NodeId::to_bits),
        attempts: options.attempts,
        labels: options.labels.as_ref().map_or_else(Vec::new, |labels| labels.to_vec()),
        affinity: options.affinity,
        retry_panics: options.retry_panics,
        is_broadcast: options.is_broadcast,
        hedge_of: submit_options.hedge_of.map(|hedged| (hedged.id.0, crate::config::to_micros(hedged.elapsed))),
        continues: submit_options.continues.map(|call| call.0),
        parent: state.parent().map(|call| call.0),
        metadata: metadata::entries(&options.metadata).to_vec(),
        trace: state.trace(),
    }
}

/// What the master has to know of a method before its first call.
fn offer(method: &MethodInfo) -> MethodOffer {
    let mut offer = method.offer();
    if offer.structure.iter().map(Definition::size).sum::<usize>() > DECLARED_STRUCTURE {
        offer.structure = vec![Definition::left_out()];
    }
    offer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        service::options::{CallOptions, MOST_LABEL_BYTES, MOST_LABELS, SubmitOptions, are_possible},
        wire::{
            CallerRequestBody, Payload,
            codec::encode_header,
            frame::{call::Trace, caller::CallerRequestHeader, layout::BODY_HEADER_LIMIT},
        },
    };

    #[test]
    fn a_header_has_room_for_all_the_labels_and_metadata_that_a_call_can_have() {
        static METHOD: crate::service::Method = crate::service::Method::new("A", 1, "a", "fn() -> ()", true);
        let size = MOST_LABEL_BYTES / MOST_LABELS;
        let labels: Vec<_> = (0..MOST_LABELS).map(|number| (format!("{number:02}"), "v".repeat(size - 2))).collect();
        assert!(are_possible(&labels));
        // As many entries as there may be, as long as they may be together.
        let metadata =
            (0..16).try_fold(None, |all, number| metadata::with(&all, format!("{number:02}"), "v".repeat(254)));
        let metadata = metadata.expect("can be");
        assert!(metadata::with(&metadata, "00".to_owned(), "v".repeat(255)).is_err());
        let longest = std::time::Duration::MAX;
        let options = CallOptions {
            timeout: Some(longest),
            node: Some(crate::id::NodeId::from_bits(u64::MAX)),
            attempts: Some(u32::MAX),
            labels: Some(labels.into()),
            affinity: Some(u64::MAX),
            retry_panics: true,
            metadata,
            is_broadcast: true,
        };
        let hedge_of = Some(crate::service::options::Hedged { id: CallId(u64::MAX), elapsed: longest });
        let submit_options =
            SubmitOptions { count: u32::MAX, hedge_of, continues: Some(CallId(u64::MAX)), ..SubmitOptions::default() };
        let state = CallState::new(Arc::clone(METHOD.info()), Payload::EMPTY, options, submit_options);
        state.set_parent(CallId(u64::MAX), None);
        let mut request = request(CallId(u64::MAX), &state);
        request.timeout = Some((u64::MAX, u64::MAX));
        request.trace = Some(Trace { trace: u128::MAX, span: u64::MAX, sampled: true });
        let header = CallerRequestHeader { request: u64::MAX, body: CallerRequestBody::Call(request) };
        let mut bytes = bytes::BytesMut::new();
        encode_header(&header, &mut bytes).expect("encodes");
        assert!((8 * 1024..=BODY_HEADER_LIMIT).contains(&bytes.len()), "{}", bytes.len());
    }
}
