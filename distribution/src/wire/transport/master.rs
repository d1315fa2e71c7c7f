//! The master's end of a connection: sends requests and receives responses.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Sink, Stream};
use tarpc::{ClientMessage, Request, RequestName, Response, trace};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    frame_stream::{FrameStream, OnControl, invalid},
    pending_sends::SendPermit,
};
use crate::{
    config::to_micros,
    id::MethodName,
    wire::{
        codec::encode_header,
        connection_state::ConnectionState,
        frame::{
            call::{Reply, RequestHeader, ResponseHeader, Trace},
            kind::{Direction, FrameKind},
            layout::split_body,
        },
        payload::Payload,
    },
};

/// A request as the master gives it to tarpc.
#[derive(Debug)]
pub(crate) struct OutgoingRequest {
    pub(crate) method: u64,
    pub(crate) call: u64,
    pub(crate) attempt: u32,
    pub(crate) count: u32,
    pub(crate) granted: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) payload: Payload,
    /// The method's name in traces.
    pub(crate) name: MethodName,
    /// Asked before the request is written.
    pub(crate) permit: Arc<dyn SendPermit>,
}

impl RequestName for OutgoingRequest {
    fn name(&self) -> &str {
        self.name.method()
    }
}

/// Why a request was not sent although the connection works: its [`SendPermit`] was refused.
#[derive(Debug, thiserror::Error)]
#[error("the attempt was given up before it was sent")]
pub(crate) struct AttemptGivenUp;

/// The master's end of a connection: sends requests, receives responses.
pub(crate) struct MasterTransport<Io> {
    frames: FrameStream<Io>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> MasterTransport<Io> {
    /// Receives frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(io: Io, state: Arc<ConnectionState>, max_message_size: usize, on_control: OnControl) -> Self {
        Self { frames: FrameStream::new(io, Direction::NodeToMaster, state, max_message_size, on_control) }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for MasterTransport<Io> {
    type Item = io::Result<Response<Reply>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.frames.poll_call_frame(cx)).map(|body| {
            let (header, payload) = split_body::<ResponseHeader>(body?).map_err(invalid)?;
            let run = Duration::from_micros(header.run);
            self.frames.state.on_response_arrived(payload.len());
            Ok(Response {
                request_id: header.request,
                message: Ok(Reply {
                    outcome: header.outcome,
                    run,
                    count: header.count,
                    panicked: header.panicked,
                    payload: payload.into(),
                }),
            })
        }))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<ClientMessage<OutgoingRequest>> for MasterTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, message: ClientMessage<OutgoingRequest>) -> io::Result<()> {
        let ClientMessage::Request(Request { context, id, message }) = message else {
            // tarpc cancels a request when its future is dropped. Here that happens only when the connection ends: calls are
            // cancelled by a control frame, because tarpc's cancellation is not answered, and the master would not know
            // when the slot is free.
            return Ok(());
        };
        let OutgoingRequest { attempt, permit, .. } = message;
        if !permit.begin(attempt) {
            return Err(io::Error::other(AttemptGivenUp));
        }
        let trace = &context.trace_context;
        let header = RequestHeader {
            request: id,
            method: message.method,
            call: message.call,
            attempt,
            count: message.count,
            granted: message.granted,
            timeout: message.deadline.map(|at| to_micros(at.saturating_duration_since(Instant::now()))),
            metadata: permit.metadata().to_vec(),
            trace: (!trace.trace_id.is_none()).then(|| Trace {
                trace: trace.trace_id.into(),
                span: trace.span_id.into(),
                sampled: trace.sampling_decision == trace::SamplingDecision::Sampled,
            }),
        };
        self.frames.queue(FrameKind::Request, message.payload, |body| encode_header(&header, body)).map_err(invalid)?;
        self.frames.ask_before_last_byte(attempt, permit);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_close(cx)
    }
}
