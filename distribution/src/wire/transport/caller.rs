//! The caller's end of a connection: sends requests to the master and receives the responses.

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Sink, Stream};
use tarpc::{ClientMessage, Request, RequestName, Response, trace};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    frame_stream::{FrameStream, OnControl, invalid},
    master::AttemptGivenUp,
    pending_sends::SendPermit,
};
use crate::{
    config::to_micros,
    id::MethodName,
    wire::{
        codec::encode_header,
        connection_state::ConnectionState,
        frame::{
            call::Trace,
            caller::{CallRequest, CallerEnd, CallerRequestBody, CallerRequestHeader, CallerResponseHeader},
            kind::{Control, Direction, FrameKind},
            layout::split_body,
        },
        handshake::MethodOffer,
        payload::Payload,
    },
};

/// The number of the only attempt that a caller makes to send a call on one connection.
pub(crate) const ONLY_ATTEMPT: u32 = 1;

/// A request as a caller gives it to tarpc.
#[derive(Debug)]
pub(crate) enum OutgoingCallerRequest {
    Call {
        /// Without the time that is left and the trace, which are set as it is written.
        request: CallRequest,
        deadline: Option<Instant>,
        payload: Payload,
        /// The method's name in traces.
        name: MethodName,
        /// What the master has to know of the method before its first call.
        describe: Describe,
        /// Asked before the request is written.
        permit: Arc<dyn SendPermit>,
    },
    Serving {
        method: u64,
        labels: Vec<(String, String)>,
    },
}

/// Describes a method to the master.
pub(crate) struct Describe(pub(crate) Box<dyn Fn() -> MethodOffer + Send + Sync>);

impl std::fmt::Debug for Describe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Describe")
    }
}

impl RequestName for OutgoingCallerRequest {
    fn name(&self) -> &str {
        match self {
            Self::Call { name, .. } => name.method(),
            Self::Serving { .. } => "nodes that serve a method",
        }
    }
}

/// How a request ended, with its payload.
#[derive(Debug)]
pub(crate) struct CallerReply {
    pub(crate) end: CallerEnd,
    pub(crate) payload: Bytes,
}

/// The caller's end of a connection: sends requests, receives responses.
pub(crate) struct CallerTransport<Io> {
    frames: FrameStream<Io>,
    /// The methods that the master knows of.
    declared: HashSet<u64>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> CallerTransport<Io> {
    /// Receives frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(io: Io, state: Arc<ConnectionState>, max_message_size: usize, on_control: OnControl) -> Self {
        let frames = FrameStream::new(io, Direction::MasterToCaller, state, max_message_size, on_control);
        Self { frames, declared: HashSet::new() }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for CallerTransport<Io> {
    type Item = io::Result<Response<CallerReply>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.frames.poll_call_frame(cx)).map(|body| {
            let (header, payload) = split_body::<CallerResponseHeader>(body?).map_err(invalid)?;
            Ok(Response { request_id: header.request, message: Ok(CallerReply { end: header.end, payload }) })
        }))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<ClientMessage<OutgoingCallerRequest>> for CallerTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, message: ClientMessage<OutgoingCallerRequest>) -> io::Result<()> {
        let ClientMessage::Request(Request { context, id, message }) = message else {
            // As at the master: calls are cancelled by a control frame, which is answered.
            return Ok(());
        };
        let (body, payload, permit) = match message {
            OutgoingCallerRequest::Serving { method, labels } => {
                (CallerRequestBody::Serving { method, labels }, Payload::EMPTY, None)
            }
            OutgoingCallerRequest::Call { mut request, deadline, payload, describe, permit, .. } => {
                if !permit.begin(ONLY_ATTEMPT) {
                    return Err(io::Error::other(AttemptGivenUp));
                }
                if self.declared.insert(request.method) {
                    self.frames.queue_control(&Control::Declare { method: (describe.0)() }).map_err(invalid)?;
                }
                let left = |at: Instant| to_micros(at.saturating_duration_since(Instant::now()));
                request.timeout = deadline.zip(request.timeout).map(|(at, (_, set))| (left(at), set));
                let trace = &context.trace_context;
                request.trace = (!trace.trace_id.is_none()).then(|| Trace {
                    trace: trace.trace_id.into(),
                    span: trace.span_id.into(),
                    sampled: trace.sampling_decision == trace::SamplingDecision::Sampled,
                });
                let call = request.call;
                (CallerRequestBody::Call(request), payload, Some((call, permit)))
            }
        };
        let header = CallerRequestHeader { request: id, body };
        self.frames.queue(FrameKind::CallerRequest, payload, |body| encode_header(&header, body)).map_err(invalid)?;
        if let Some((call, permit)) = permit {
            self.frames.ask_before_last_byte(ONLY_ATTEMPT, Arc::clone(&permit));
            // Looked at once the request is in the buffer: a frame that says so before may have overtaken it, and one that
            // says so later comes behind it.
            if permit.is_detached() {
                self.frames.queue_control(&Control::Detach { call }).map_err(invalid)?;
            }
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_close(cx)
    }
}
