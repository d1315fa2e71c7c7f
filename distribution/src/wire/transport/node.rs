//! The node's end of a connection: receives requests and sends responses.

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
    config::{LONGEST_TIME, from_micros, to_micros},
    wire::{
        confirmations::Unconfirmed,
        connection_state::ConnectionState,
        frame::{
            call::{Outcome, Reply, RequestHeader, ResponseHeader, Trace},
            kind::{Direction, FrameKind},
            layout::split_body,
        },
    },
};

/// A request as the node receives it from tarpc.
#[derive(Debug)]
pub(crate) struct IncomingRequest {
    pub(crate) method: u64,
    pub(crate) call: u64,
    pub(crate) attempt: u32,
    pub(crate) count: u32,
    pub(crate) granted: u32,
    /// The time that was left when it began to come.
    pub(crate) timeout: Option<Duration>,
    /// How long it took to come.
    pub(crate) took: Duration,
    pub(crate) metadata: Vec<(String, String)>,
    /// Behind a pointer, because few calls have it and tarpc moves the request several times.
    pub(crate) trace: Option<Box<Trace>>,
    payload: Mutex<Bytes>,
}

impl IncomingRequest {
    pub(crate) fn key(&self) -> AttemptKey {
        (self.call, self.attempt)
    }

    /// Takes the payload; the second time it is empty. tarpc keeps the request until it is answered, and would keep the
    /// memory of the frame as well.
    pub(crate) fn take_payload(&self) -> Bytes {
        std::mem::take(&mut *self.payload.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RequestName for IncomingRequest {
    fn name(&self) -> &str {
        "distribution call"
    }
}

/// The call and the attempt of a request.
pub(crate) type AttemptKey = (u64, u32);

/// The response to a request, as the node gives it to tarpc.
#[derive(Debug)]
pub(crate) struct OutgoingReply {
    pub(crate) key: AttemptKey,
    pub(crate) reply: Reply,
}

/// The node's end of a connection: receives requests, sends responses.
pub(crate) struct NodeTransport<Io> {
    frames: FrameStream<Io>,
    /// The context of all requests, apart from trace and deadline.
    context: tarpc::context::Context,
    /// Where responses are noted until the master has confirmed them; `None` if it does not.
    unconfirmed: Option<Arc<Unconfirmed<AttemptKey>>>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> NodeTransport<Io> {
    /// Receives frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(
        io: Io,
        state: Arc<ConnectionState>,
        max_message_size: usize,
        unconfirmed: Option<Arc<Unconfirmed<AttemptKey>>>,
        on_control: OnControl,
    ) -> Self {
        let frames = FrameStream::new(io, Direction::MasterToNode, state, max_message_size, on_control);
        Self { frames, context: tarpc::context::current(), unconfirmed }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for NodeTransport<Io> {
    type Item = io::Result<ClientMessage<IncomingRequest>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.frames.poll_message(cx)).map(|body| {
            let (header, payload) = split_body::<RequestHeader>(body?).map_err(invalid)?;
            let took = self.frames.took();
            let mut context = self.context;
            // The node's own timer ends a call at its deadline, so that it is answered. tarpc's would drop it without an
            // answer.
            context.deadline = std::time::Instant::now() + LONGEST_TIME;
            if let Some(trace) = &header.trace {
                context.trace_context = trace.for_tarpc();
            }
            let message = IncomingRequest {
                method: header.method,
                call: header.call,
                attempt: header.attempt,
                count: header.count,
                granted: header.granted,
                timeout: header.timeout.map(from_micros),
                took,
                metadata: header.metadata,
                trace: header.trace.map(Box::new),
                payload: Mutex::new(payload),
            };
            Ok(ClientMessage::Request(Request { context, id: header.request, message }))
        }))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<Response<OutgoingReply>> for NodeTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, response: Response<OutgoingReply>) -> io::Result<()> {
        // Only tarpc's throttling makes an `Err` here, and it is never turned on.
        let OutgoingReply { key, reply } = response.message.map_err(|error| io::Error::other(error.detail))?;
        let unconfirmed = self.unconfirmed.clone();
        let on_written = move || {
            if let Some(unconfirmed) = unconfirmed {
                unconfirmed.push(key);
            }
        };
        let header = ResponseHeader {
            request: response.request_id,
            run: to_micros(reply.run),
            count: reply.count,
            panicked: reply.panicked,
            outcome: reply.outcome,
        };
        let stopped =
            |header: &ResponseHeader| ResponseHeader { outcome: Outcome::Stopped, panicked: 0, ..header.clone() };
        self.frames.queue_response((FrameKind::Response, key), header, reply.payload, on_written, stopped)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use futures::StreamExt;

    use super::*;
    use crate::{
        config::PeerTimeouts,
        wire::{
            codec::encode_header,
            frame::{
                kind::Control,
                layout::{CHUNK_HEADER, FRAME_HEADER, LARGEST_CALL_FRAME, LARGEST_CHUNK, encode_frame},
            },
        },
    };
    use bytes::{BufMut, BytesMut};

    /// A request as it is on the wire; `number` counts those that are too large for one frame.
    fn request(payload: usize, number: &mut u32) -> Vec<u8> {
        let header = RequestHeader {
            request: 1,
            method: 2,
            call: 3,
            attempt: 1,
            count: 1,
            granted: 1,
            timeout: None,
            metadata: Vec::new(),
            trace: None,
        };
        let mut frame = BytesMut::new();
        encode_frame(&mut frame, FrameKind::Request as u8, payload, |body| encode_header(&header, body))
            .expect("encodes");
        frame.resize(frame.len() + payload, 7);
        let body = &frame[FRAME_HEADER..];
        if body.len() <= LARGEST_CALL_FRAME {
            return frame.to_vec();
        }
        let mut frames = BytesMut::new();
        Control::Begin { message: *number, length: body.len() as u64, waits: body.len() > 1 << 20 }
            .encode(&mut frames)
            .expect("encodes");
        for chunk in body.chunks(LARGEST_CHUNK) {
            frames.put_u32_le((CHUNK_HEADER + chunk.len()) as u32);
            frames.put_u8(FrameKind::Chunk as u8);
            frames.put_u32_le(*number);
            frames.put_slice(chunk);
        }
        *number += 1;
        frames.to_vec()
    }

    #[tokio::test]
    async fn a_small_frame_does_not_keep_the_memory_of_a_large_one() {
        const LARGE: usize = 8 << 20;
        let sizes = [20_000, LARGE, 20_000, 20_000, 70_000, LARGE, 100, 20_000];
        let mut number = 0;
        let stream: Vec<u8> = sizes.iter().flat_map(|size| request(*size, &mut number)).collect();
        let state = ConnectionState::new(PeerTimeouts::default(), None);
        let mut transport =
            NodeTransport::new(Cursor::new(stream), state, LARGE + FRAME_HEADER + 100, None, Box::new(|_| Ok(())));
        let mut kept = Vec::new();
        for size in sizes {
            let message = transport.next().await.expect("another").expect("is read");
            let ClientMessage::Request(Request { message, .. }) = message else { panic!("a request was sent") };
            let payload = message.take_payload();
            assert_eq!(payload.len(), size);
            if size < LARGE {
                kept.push(payload);
            }
        }
        drop(transport);
        for payload in kept {
            let length = payload.len();
            // A payload that shares its memory is looked at when it is the only one left.
            if let Ok(memory) = payload.try_into_mut() {
                assert!(memory.capacity() <= 4 * LARGEST_CALL_FRAME, "{length} bytes keep {}", memory.capacity());
            }
        }
    }
}
