//! The master's end of a caller's connection: receives requests and sends the responses.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Sink, Stream};
use tarpc::{ClientMessage, Request, RequestName, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame_stream::{FrameStream, OnControl, invalid};
use crate::{
    config::LONGEST_TIME,
    id::CallId,
    wire::{
        confirmations::Unconfirmed,
        connection_state::ConnectionState,
        frame::{
            caller::{CallRequest, CallerEnd, CallerRequestBody, CallerRequestHeader, CallerResponseHeader},
            kind::{Direction, FrameKind},
            layout::split_body,
        },
        payload::Payload,
        send_permit::ONLY_ATTEMPT,
    },
};

/// A caller's request as the master receives it from tarpc.
#[derive(Debug)]
pub(crate) struct IncomingCallerRequest {
    pub(crate) body: CallerRequestBody,
    /// How long it took to come. The time that is left is that of its beginning.
    pub(crate) took: Duration,
    payload: Mutex<Bytes>,
}

impl IncomingCallerRequest {
    /// Takes the payload; the second time it is empty. tarpc keeps the request until it is answered, and would keep the
    /// memory of the frame as well.
    pub(crate) fn take_payload(&self) -> Bytes {
        std::mem::take(&mut *self.payload.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RequestName for IncomingCallerRequest {
    fn name(&self) -> &str {
        "distribution caller"
    }
}

/// The master's response to a caller's request.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingCallerReply {
    /// The call that has ended; `None` for the answer to a question.
    pub(crate) call: Option<CallId>,
    pub(crate) end: CallerEnd,
    pub(crate) payload: Payload,
}

/// The master's end of a caller's connection: receives requests, sends responses.
pub(crate) struct CallerAtMasterTransport<Io> {
    frames: FrameStream<Io>,
    /// The context of all requests, apart from trace and deadline.
    context: tarpc::context::Context,
    /// Where responses are noted until the caller has confirmed them; `None` if it does not.
    unconfirmed: Option<Arc<Unconfirmed<Option<CallId>>>>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> CallerAtMasterTransport<Io> {
    /// Receives frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(
        io: Io,
        state: Arc<ConnectionState>,
        max_message_size: usize,
        unconfirmed: Option<Arc<Unconfirmed<Option<CallId>>>>,
        on_control: OnControl,
    ) -> Self {
        let frames = FrameStream::new(io, Direction::CallerToMaster, state, max_message_size, on_control);
        Self { frames, context: tarpc::context::current(), unconfirmed }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for CallerAtMasterTransport<Io> {
    type Item = io::Result<ClientMessage<IncomingCallerRequest>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.frames.poll_message(cx)).map(|body| {
            let (header, payload) = split_body::<CallerRequestHeader>(body?).map_err(invalid)?;
            let mut context = self.context;
            // The core keeps deadlines. tarpc's would drop a request without an answer.
            context.deadline = std::time::Instant::now() + LONGEST_TIME;
            if let CallerRequestBody::Call(CallRequest { trace: Some(trace), .. })
            | CallerRequestBody::LargeCall { call: CallRequest { trace: Some(trace), .. }, .. } = &header.body
            {
                context.trace_context = trace.for_tarpc();
            }
            let took = self.frames.took();
            let message = IncomingCallerRequest { body: header.body, took, payload: Mutex::new(payload) };
            Ok(ClientMessage::Request(Request { context, id: header.request, message }))
        }))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<Response<OutgoingCallerReply>> for CallerAtMasterTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, response: Response<OutgoingCallerReply>) -> io::Result<()> {
        // Only tarpc's throttling makes an `Err` here, and it is never turned on.
        let reply = response.message.map_err(|error| io::Error::other(error.detail))?;
        let (call, size) = (reply.call, reply.payload.len());
        let (unconfirmed, state) = (self.unconfirmed.clone(), Arc::clone(&self.frames.state));
        let on_written = move || {
            if let Some(unconfirmed) = unconfirmed {
                unconfirmed.push(call);
            }
            state.on_response_taken(size);
        };
        let header = CallerResponseHeader { request: response.request_id, end: reply.end };
        // The answer to a question has a number that no call has.
        let key = (call.map_or(u64::MAX, |CallId(call)| call), ONLY_ATTEMPT);
        // The caller waits for the call no more, and does not look at how it ended.
        let unwanted = |header: &CallerResponseHeader| CallerResponseHeader {
            request: header.request,
            end: CallerEnd::Failed { failed_attempts: 0 },
        };
        self.frames.queue_response((FrameKind::CallerResponse, key), header, reply.payload, on_written, unwanted)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_close(cx)
    }
}
