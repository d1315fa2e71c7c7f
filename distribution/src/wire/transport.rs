//! A connection as tarpc wants to see it: a stream and sink of its messages, over our frames.
//!
//! Requests and responses pass through to tarpc. Control frames do not: those that arrive go to a
//! callback at once, in order; those to be sent are left in the [`Side`] by whoever has one, and
//! travel with the next write. A payload is written from the memory it was encoded into and handed on
//! in the memory it was read into, so on the way it is copied by the kernel only.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, Stream};
use tarpc::{ClientMessage, Request, RequestName, Response, trace};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_util::io::poll_read_buf;

use super::{
    codec::encode_header,
    frame::{
        Control, FRAME_HEADER, Kind, Outcome, Reply, RequestHeader, ResponseHeader, Trace, encode_frame, split_body,
    },
    incoming::{Large, Read},
    payload::Payload,
    side::Side,
    unfinished::{SendPermit, Unfinished},
};
use crate::{
    config::{LONGEST_TIME, from_micros, to_micros},
    error::CodecError,
    id::MethodName,
};

/// One read asks for this much, unless a larger frame has begun.
const READ_CHUNK: usize = 8 * 1024;

/// A frame of at least this size is read into memory of its own, so that a value which is kept from a small frame never
/// keeps more than about twice this much.
const ALONE: usize = 64 * 1024;

/// A payload of at least this size is queued as it is; a smaller one is copied behind its header, which
/// costs less than one more slice in the vectored write.
const WRITTEN_APART: usize = 8 * 1024;

/// With this much unwritten the transport takes no more messages: enough to keep a socket busy, and
/// little beside the one large payload that may stand on top of it.
const WRITE_BUFFER: usize = 256 * 1024;

/// One write offers this much: what it may complete counts as sent before it is, and so does what it then leaves, until
/// the connection ends.
const WRITE_AT_ONCE: usize = 256 * 1024;

/// How many slices one vectored write offers. Linux takes up to 1024; beyond some dozens nothing is gained.
const WRITE_SLICES: usize = 64;

/// A request as the master's end hands it to tarpc.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: u64,
    pub(crate) call: u64,
    pub(crate) attempt: u32,
    pub(crate) count: u32,
    pub(crate) granted: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) payload: Payload,
    /// Names the method in traces.
    pub(crate) name: MethodName,
    pub(crate) permit: Arc<dyn SendPermit>,
}

impl RequestName for Outgoing {
    fn name(&self) -> &str {
        self.name.method()
    }
}

/// A request as the node's end gets it from tarpc.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: u64,
    pub(crate) call: u64,
    pub(crate) attempt: u32,
    pub(crate) count: u32,
    pub(crate) granted: u32,
    pub(crate) timeout: Option<Duration>,
    payload: Mutex<Bytes>,
}

impl Incoming {
    /// Takes the payload, once. tarpc keeps the request until it is answered, and would keep the frame as well.
    pub(crate) fn take_payload(&self) -> Bytes {
        std::mem::take(&mut *self.payload.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RequestName for Incoming {
    fn name(&self) -> &str {
        "distribution call"
    }
}

/// Why a message was not sent although the connection is well.
#[derive(Debug, thiserror::Error)]
#[error("the call was withdrawn before it was sent")]
pub(crate) struct Withdrawn;

/// What is done with a control frame that arrives; an error ends the connection.
pub(crate) type OnControl = Box<dyn FnMut(Control) -> Result<(), String> + Send>;

/// Reads and writes frames; both ends are built on it.
struct FrameStream<Io> {
    io: Io,
    side: Arc<Side>,
    on_control: OnControl,
    incoming: BytesMut,
    /// A large frame that has begun; nothing lies in `incoming` meanwhile.
    large: Option<Large>,
    /// How much of the frame that has begun had arrived when its time began.
    had_arrived: usize,
    max_message_size: usize,
    /// Complete pieces to write, in order; the one being written has lost what is written already.
    outgoing: VecDeque<Bytes>,
    /// What comes after `outgoing` and may still grow.
    tail: BytesMut,
    unwritten: usize,
    /// Bytes written since the connection began; of TLS, those that it has taken.
    written: u64,
    unfinished: Unfinished,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> FrameStream<Io> {
    fn new(io: Io, side: Arc<Side>, max_message_size: usize, on_control: OnControl) -> Self {
        Self {
            io,
            side,
            on_control,
            incoming: BytesMut::new(),
            large: None,
            had_arrived: 0,
            max_message_size,
            outgoing: VecDeque::new(),
            tail: BytesMut::new(),
            unwritten: 0,
            written: 0,
            unfinished: Unfinished::default(),
        }
    }

    /// The next frame that carries a call; control frames on the way are dealt with.
    fn poll_call_frame(&mut self, cx: &mut Context<'_>, wanted: Kind) -> Poll<Option<io::Result<Bytes>>> {
        self.collect_controls(cx)?;
        loop {
            while let Some((kind, body)) = self.split_frame()? {
                if kind == wanted {
                    return Poll::Ready(Some(Ok(body)));
                }
                match Control::decode(kind, &body).map_err(invalid)? {
                    Some(control) => (self.on_control)(control).map_err(invalid)?,
                    None => {
                        return Poll::Ready(Some(Err(invalid(format_args!(
                            "a frame of kind {kind:?} came the wrong way"
                        )))));
                    }
                }
            }
            if ready!(self.poll_read(cx))? == 0 {
                self.side.end();
                return Poll::Ready(if self.incoming.is_empty() && self.large.is_none() {
                    None
                } else {
                    Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a frame")))
                });
            }
        }
    }

    /// Reads what has come and says how much that is; nothing at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (count, arrived) = loop {
            let Some(large) = &mut self.large else {
                let count = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.incoming))?;
                break (count, self.incoming.len());
            };
            let had_loan = large.has_loan();
            let read = large.poll_read(&mut self.io, cx);
            if large.waits() {
                self.side.wait_for_memory();
                return Poll::Pending;
            }
            if large.has_loan() && !had_loan {
                self.side.has_memory();
            }
            match ready!(read)? {
                Read::Came(count) => break (count, large.arrived()),
                Read::MayGoOn => {}
            }
        };
        if count > 0 {
            self.side.hear();
            if self.side.has_begun_frame() && (arrived - self.had_arrived) as u64 >= self.side.least_progress() {
                self.had_arrived = arrived;
                self.side.progress();
            }
        }
        Poll::Ready(Ok(count))
    }

    /// Takes one whole frame off what was read, or makes room for the rest of it.
    fn split_frame(&mut self) -> io::Result<Option<(Kind, Bytes)>> {
        if let Some(large) = self.large.take_if(|large| large.is_complete()) {
            self.side.frame_is_complete();
            return Ok(Some(large.into_body()));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let Some(&[a, b, c, d, kind]) = self.incoming.first_chunk::<FRAME_HEADER>() else {
            self.incoming.reserve(READ_CHUNK);
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > self.max_message_size {
            return Err(invalid(format_args!(
                "a frame claims {length} bytes, and {} is the limit that was agreed on",
                self.max_message_size
            )));
        }
        let kind = Kind::from_byte(kind).ok_or_else(|| invalid(format_args!("a frame is of unknown kind {kind}")))?;
        let whole = FRAME_HEADER.saturating_add(length);
        if self.incoming.len() < whole {
            if !self.side.has_begun_frame() {
                self.side.progress();
                self.had_arrived = self.incoming.len();
            }
            if whole >= ALONE {
                self.large = Some(Large::new(kind, whole, &self.incoming, self.side.budget()));
                self.incoming = BytesMut::new();
            } else if self.incoming.capacity() < whole {
                self.incoming.reserve((whole - self.incoming.len()).max(READ_CHUNK));
            }
            return Ok(None);
        }
        self.side.frame_is_complete();
        let mut frame = self.incoming.split_to(whole);
        if self.incoming.is_empty() && whole >= ALONE {
            // Else its memory would be used again, once it is free, for frames of any size.
            self.incoming = BytesMut::new();
        }
        frame.advance(FRAME_HEADER);
        Ok(Some((kind, frame.freeze())))
    }

    /// Moves waiting control frames into the write buffer.
    fn collect_controls(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Registered before looking, so that one which is left in between wakes this task again.
        self.side.register_writer(cx.waker());
        // A peer that does not read shall not make the buffer grow; what is left in the outbox travels
        // once there is room.
        if self.unwritten >= WRITE_BUFFER {
            return Ok(());
        }
        let controls = self.side.take_outbox();
        for control in controls {
            let before = self.tail.len();
            control.encode(&mut self.tail).map_err(invalid)?;
            self.unwritten += self.tail.len() - before;
        }
        Ok(())
    }

    fn queue(
        &mut self,
        kind: Kind,
        payload: Payload,
        header: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let before = self.tail.len();
        if let Err(error) = encode_frame(&mut self.tail, kind, payload.len(), header) {
            self.tail.truncate(before);
            return Err(error);
        }
        self.unwritten += self.tail.len() - before + payload.len();
        payload.each_part(
            self,
            |this, bytes| this.tail.extend_from_slice(bytes),
            |this, bytes| {
                if bytes.len() < WRITTEN_APART {
                    this.tail.extend_from_slice(&bytes);
                } else {
                    this.outgoing.push_back(this.tail.split().freeze());
                    this.outgoing.push_back(bytes);
                }
            },
        );
        Ok(())
    }

    fn poll_ready(&mut self) -> Poll<io::Result<()>> {
        // No waker is kept: tarpc answers Pending with a flush, which registers one where it has to.
        if self.unwritten < WRITE_BUFFER { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.collect_controls(cx)?;
        while self.unwritten > 0 {
            if !self.tail.is_empty() {
                self.outgoing.push_back(self.tail.split().freeze());
            }
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let (mut count, mut offered) = (0, 0);
            for (slice, piece) in slices.iter_mut().zip(&self.outgoing) {
                if offered == WRITE_AT_ONCE {
                    break;
                }
                let piece = &piece[..piece.len().min(WRITE_AT_ONCE - offered)];
                *slice = IoSlice::new(piece);
                offered += piece.len();
                count += 1;
            }
            // Before the write and not after it: what the core has given up in between must not reach its node whole.
            self.unfinished.complete(self.written + offered as u64)?;
            let Poll::Ready(written) = Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) else {
                self.side.wait_for_reader();
                return Poll::Pending;
            };
            let mut written = written?;
            self.side.was_read();
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten -= written;
            self.written += written as u64;
            self.unfinished.written(self.written);
            while let Some(first) = self.outgoing.front_mut() {
                if written < first.len() {
                    first.advance(written);
                    break;
                }
                written -= first.len();
                self.outgoing.pop_front();
            }
            if self.unwritten == 0 {
                self.collect_controls(cx)?;
            }
        }
        // TLS takes some of what the peer does not.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        match &flushed {
            Poll::Pending => self.side.wait_for_reader(),
            Poll::Ready(_) => self.side.was_read(),
        }
        flushed
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn invalid(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// The master's end of a connection: sends requests, receives responses.
pub(crate) struct MasterTransport<Io> {
    frames: FrameStream<Io>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> MasterTransport<Io> {
    /// Takes frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(io: Io, side: Arc<Side>, max_message_size: usize, on_control: OnControl) -> Self {
        Self { frames: FrameStream::new(io, side, max_message_size, on_control) }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for MasterTransport<Io> {
    type Item = io::Result<Response<Reply>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.frames.poll_call_frame(cx, Kind::Response)).map(|body| {
            let (header, payload) = split_body::<ResponseHeader>(body?).map_err(invalid)?;
            let run = Duration::from_micros(header.run);
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

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<ClientMessage<Outgoing>> for MasterTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, message: ClientMessage<Outgoing>) -> io::Result<()> {
        let ClientMessage::Request(Request { context, id, message }) = message else {
            // tarpc cancels a request when its future is dropped, which here happens only as the link
            // ends. Calls are cancelled by a control frame, because tarpc's cancellation goes
            // unanswered and the slot would never be known to be free.
            return Ok(());
        };
        let Outgoing { attempt, permit, .. } = message;
        if !permit.begin(attempt) {
            return Err(io::Error::other(Withdrawn));
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
            trace: (!trace.trace_id.is_none()).then(|| Trace {
                trace: trace.trace_id.into(),
                span: trace.span_id.into(),
                sampled: trace.sampling_decision == trace::SamplingDecision::Sampled,
            }),
        };
        self.frames.queue(Kind::Request, message.payload, |body| encode_header(&header, body)).map_err(invalid)?;
        let end = self.frames.written + self.frames.unwritten as u64;
        self.frames.unfinished.push(end, attempt, permit);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_close(cx)
    }
}

/// The node's end of a connection: receives requests, sends responses.
pub(crate) struct NodeTransport<Io> {
    frames: FrameStream<Io>,
    /// Requests inherit all but trace and deadline from this.
    context: tarpc::context::Context,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> NodeTransport<Io> {
    /// Takes frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(io: Io, side: Arc<Side>, max_message_size: usize, on_control: OnControl) -> Self {
        Self { frames: FrameStream::new(io, side, max_message_size, on_control), context: tarpc::context::current() }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for NodeTransport<Io> {
    type Item = io::Result<ClientMessage<Incoming>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.frames.poll_call_frame(cx, Kind::Request)).map(|body| {
            let (header, payload) = split_body::<RequestHeader>(body?).map_err(invalid)?;
            let mut context = self.context;
            // The node's own timer ends a call whose time is up, so that it is answered; tarpc's would
            // drop it without a word.
            context.deadline = std::time::Instant::now() + LONGEST_TIME;
            if let Some(trace) = header.trace {
                context.trace_context.trace_id = trace.trace.into();
                context.trace_context.span_id = trace.span.into();
                context.trace_context.sampling_decision =
                    if trace.sampled { trace::SamplingDecision::Sampled } else { trace::SamplingDecision::Unsampled };
            }
            let message = Incoming {
                method: header.method,
                call: header.call,
                attempt: header.attempt,
                count: header.count,
                granted: header.granted,
                timeout: header.timeout.map(from_micros),
                payload: Mutex::new(payload),
            };
            Ok(ClientMessage::Request(Request { context, id: header.request, message }))
        }))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<Response<Reply>> for NodeTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, response: Response<Reply>) -> io::Result<()> {
        // Only tarpc's own throttling makes an `Err` here, and nothing of ours turns it on.
        let reply = response
            .message
            .unwrap_or_else(|error| Reply::without_payload(Outcome::Panicked(error.detail), Duration::ZERO));
        let header = ResponseHeader {
            request: response.request_id,
            run: to_micros(reply.run),
            count: reply.count,
            panicked: reply.panicked,
            outcome: reply.outcome,
        };
        self.frames.queue(Kind::Response, reply.payload, |body| encode_header(&header, body)).map_err(invalid)
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
    use crate::{config::PeerTimeouts, wire::frame::FRAME_HEADER};

    fn request(payload: usize) -> Vec<u8> {
        let header = RequestHeader {
            request: 1,
            method: 2,
            call: 3,
            attempt: 1,
            count: 1,
            granted: 1,
            timeout: None,
            trace: None,
        };
        let mut frame = BytesMut::new();
        encode_frame(&mut frame, Kind::Request, payload, |body| encode_header(&header, body)).expect("encodes");
        frame.resize(frame.len() + payload, 7);
        frame.to_vec()
    }

    #[tokio::test]
    async fn a_small_frame_does_not_keep_the_memory_of_a_large_one() {
        const LARGE: usize = 8 << 20;
        let sizes = [20_000, LARGE, 20_000, 20_000, 70_000, LARGE, 100, 20_000];
        let stream: Vec<u8> = sizes.iter().flat_map(|size| request(*size)).collect();
        let side = Side::new(PeerTimeouts::default(), None);
        let mut transport =
            NodeTransport::new(Cursor::new(stream), side, LARGE + FRAME_HEADER + 100, Box::new(|_| Ok(())));
        let mut kept = Vec::new();
        for size in sizes {
            let message = transport.next().await.expect("one more").expect("is read");
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
            // Those that share memory with others are looked at once they are alone.
            if let Ok(memory) = payload.try_into_mut() {
                assert!(memory.capacity() <= 4 * ALONE, "{length} bytes keep {}", memory.capacity());
            }
        }
    }
}
