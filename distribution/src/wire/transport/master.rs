//! The master's end of a connection: sends requests and receives responses.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use futures::{Sink, Stream};
use tarpc::{ClientMessage, Request, RequestName, Response, ServerError, client::RpcError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    frame_stream::{FrameStream, OnControl, invalid},
    outgoing::{Outgoing, Owner},
};
use crate::{
    config::to_micros,
    id::MethodName,
    wire::{
        codec::encode_header,
        connection_state::ConnectionState,
        fetched_arguments::FetchedArguments,
        frame::{
            call::{Reply, RequestHeader, ResponseHeader},
            kind::{Direction, FrameKind},
            layout::split_body,
        },
        payload::Payload,
        send_permit::SendPermit,
    },
};

/// A request as the master gives it to tarpc, in a box, because tarpc moves it many times.
#[derive(Debug)]
pub(crate) struct OutgoingRequest {
    pub(crate) method: u64,
    pub(crate) call: u64,
    pub(crate) attempt: u32,
    pub(crate) count: u32,
    pub(crate) granted: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) payload: Payload,
    /// Arguments that are not in the payload.
    pub(crate) arguments: Option<Arc<FetchedArguments>>,
    /// The method's name in tarpc's log.
    pub(crate) name: MethodName,
    /// Asked before the request is written.
    pub(crate) permit: Arc<dyn SendPermit>,
}

impl RequestName for Box<OutgoingRequest> {
    fn name(&self) -> &str {
        self.name.method()
    }
}

/// Why a request was not sent although the connection works: its [`SendPermit`] was refused.
#[derive(Debug, thiserror::Error)]
#[error("the attempt was given up before it was sent")]
pub(crate) struct AttemptGivenUp;

impl AttemptGivenUp {
    /// Whether a request ended with this error of tarpc's client because of it.
    pub(crate) fn is_cause_of(error: &RpcError) -> bool {
        match error {
            RpcError::Send(error) => {
                let error = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
                error.is_some_and(|error| error.is::<Self>())
            }
            // No peer can send such an error: it is that of `not_sent`.
            RpcError::Server(_) => true,
            _ => false,
        }
    }
}

/// What tarpc is told of a request that was given up while it was written in chunks. No peer can send such an error.
pub(super) fn not_sent() -> ServerError {
    ServerError::new(io::ErrorKind::Interrupted, AttemptGivenUp.to_string())
}

/// The master's end of a connection: sends requests, receives responses.
pub(crate) struct MasterTransport<Io> {
    frames: FrameStream<Io>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> MasterTransport<Io> {
    /// Receives frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(io: Io, state: Arc<ConnectionState>, max_message_size: usize, on_control: OnControl) -> Self {
        Self { frames: FrameStream::new(io, Direction::NodeToMaster, state, max_message_size, on_control) }
    }

    /// Bytes that were written since the connection began.
    #[cfg(test)]
    pub(super) fn written(&mut self) -> u64 {
        self.frames.frames().written()
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for MasterTransport<Io> {
    type Item = io::Result<Response<Reply>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(request_id) = self.frames.take_not_sent() {
            return Poll::Ready(Some(Ok(Response { request_id, message: Err(not_sent()) })));
        }
        Poll::Ready(ready!(self.frames.poll_message(cx)).map(|body| {
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

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<ClientMessage<Box<OutgoingRequest>>> for MasterTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, message: ClientMessage<Box<OutgoingRequest>>) -> io::Result<()> {
        let ClientMessage::Request(Request { id, message, .. }) = message else {
            // tarpc cancels a request when its future is dropped. Here that happens only when the connection ends: calls are
            // cancelled by a control frame, because tarpc's cancellation is not answered, and the master would not know
            // when the slot is free.
            return Ok(());
        };
        let message = *message;
        let OutgoingRequest { attempt, permit, .. } = message;
        let is_large = message.arguments.is_some() || Outgoing::is_large(&message.payload);
        // A large one begins with its last chunk.
        if !(if is_large { permit.may_begin(attempt) } else { permit.begin(attempt) }) {
            return Err(io::Error::other(AttemptGivenUp));
        }
        let deadline = message.deadline;
        let mut header = RequestHeader {
            request: id,
            method: message.method,
            call: message.call,
            attempt,
            count: message.count,
            granted: message.granted,
            timeout: None,
            metadata: permit.metadata().to_vec(),
            trace: permit.trace(),
        };
        let encode = move |body: &mut BytesMut| {
            header.timeout = deadline.map(|at| to_micros(at.saturating_duration_since(Instant::now())));
            encode_header(&header, body)
        };
        if is_large {
            let owner = Owner::Request { request: id, attempt, permit, detach: None };
            self.frames.outgoing().push_large(
                (message.call, attempt),
                message.payload,
                message.arguments,
                encode,
                owner,
            );
            return Ok(());
        }
        let frames = self.frames.frames();
        frames.push(FrameKind::Request, message.payload, encode).map_err(invalid)?;
        frames.ask_before_last_byte(attempt, permit);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_close(cx)
    }
}
