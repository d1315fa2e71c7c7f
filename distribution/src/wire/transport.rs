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
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, Stream, task::AtomicWaker};
use tarpc::{ClientMessage, Request, RequestName, Response, trace};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::Instant,
};
use tokio_util::io::poll_read_buf;

use super::{
    codec::encode_header,
    frame::{
        Control, FRAME_HEADER, Kind, Outcome, Reply, RequestHeader, ResponseHeader, Trace, encode_frame, split_body,
    },
    payload::Payload,
    unfinished::{SendPermit, Unfinished},
};
use crate::{
    config::{LONGEST_TIME, Patience, from_micros, to_micros},
    error::CodecError,
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

/// A frame that has begun gets a second more to be complete for each so many bytes of it.
const SLOWEST_RATE: u64 = 64 * 1024;

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
    pub(crate) name: &'static str,
    pub(crate) permit: Arc<dyn SendPermit>,
}

impl RequestName for Outgoing {
    fn name(&self) -> &str {
        self.name
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

/// What a connection's owner shares with its transport.
#[derive(Debug)]
pub(crate) struct Side {
    opened: Instant,
    patience: Patience,
    /// Microseconds from `opened` to when the last byte came.
    heard: AtomicU64,
    /// Microseconds from `opened` to when the frame that is coming in must be complete; 0 if none is.
    frame_due: AtomicU64,
    /// Microseconds from `opened` to when the peer must have read some of what waits; 0 if nothing does.
    read_due: AtomicU64,
    outbox: Mutex<Vec<Control>>,
    /// Told when the peer has closed its side; tarpc's server keeps that to itself while it has requests.
    ended: Notify,
    writer: AtomicWaker,
}

impl Side {
    pub(crate) fn new(patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            patience,
            heard: AtomicU64::new(0),
            frame_due: AtomicU64::new(0),
            read_due: AtomicU64::new(0),
            outbox: Mutex::default(),
            ended: Notify::new(),
            writer: AtomicWaker::new(),
        })
    }

    /// Sends a control frame with the next write.
    pub(crate) fn send(&self, control: Control) {
        let mut outbox = self.outbox();
        // One acknowledges many heartbeats, so that a peer which sends them and never reads costs
        // nothing. All others are bounded by what is in flight.
        if control != Control::HeartbeatSeen || !outbox.contains(&control) {
            outbox.push(control);
        }
        drop(outbox);
        self.writer.wake();
    }

    /// Waits until the peer has closed its side.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    fn outbox(&self) -> std::sync::MutexGuard<'_, Vec<Control>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the peer does that no well-meant peer does, if anything: it stops in the middle of a frame,
    /// or does not read. Its time for either is counted from `since` at the earliest.
    pub(crate) fn complaint(&self, since: Instant) -> Option<&'static str> {
        let now = self.opened.elapsed();
        let past = |due: &AtomicU64, time: Duration| {
            let due = due.load(Ordering::Relaxed);
            let earliest = since.saturating_duration_since(self.opened).saturating_add(time);
            due > 0 && Duration::from_micros(due).max(earliest) <= now
        };
        if past(&self.read_due, self.patience.unread_time) {
            Some("it does not read what it is sent")
        } else if past(&self.frame_due, self.patience.frame_time) {
            Some("it has begun a frame and does not finish it")
        } else {
            None
        }
    }

    /// Something waits for the peer to read.
    fn wait_for_reader(&self) {
        if self.read_due.load(Ordering::Relaxed) == 0 {
            self.read_due.store(self.due_in(self.patience.unread_time), Ordering::Relaxed);
        }
    }

    fn due_in(&self, time: Duration) -> u64 {
        to_micros(self.opened.elapsed().saturating_add(time)).max(1)
    }

    /// When the connection was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// When the peer was last heard: any byte counts.
    pub(crate) fn heard(&self) -> Instant {
        self.opened + Duration::from_micros(self.heard.load(Ordering::Relaxed))
    }

    /// Nothing will come, and that is no silence.
    #[cfg(feature = "simulation")]
    pub(crate) fn hear_forever(&self) {
        self.heard.store(to_micros(LONGEST_TIME), Ordering::Relaxed);
    }

    fn hear(&self) {
        self.heard.store(to_micros(self.opened.elapsed()), Ordering::Relaxed);
    }
}

/// What is done with a control frame that arrives; an error ends the connection.
pub(crate) type OnControl = Box<dyn FnMut(Control) -> Result<(), String> + Send>;

/// Reads and writes frames; both ends are built on it.
struct FrameStream<Io> {
    io: Io,
    side: Arc<Side>,
    on_control: OnControl,
    incoming: BytesMut,
    frame_limit: usize,
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
    fn new(io: Io, side: Arc<Side>, frame_limit: usize, on_control: OnControl) -> Self {
        Self {
            io,
            side,
            on_control,
            incoming: BytesMut::new(),
            frame_limit,
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
            if ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.incoming))? == 0 {
                self.side.ended.notify_one();
                return Poll::Ready(if self.incoming.is_empty() {
                    None
                } else {
                    Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a frame")))
                });
            }
            self.side.hear();
        }
    }

    /// Takes one whole frame off the read buffer, or makes room for the rest of it.
    fn split_frame(&mut self) -> io::Result<Option<(Kind, Bytes)>> {
        let Some(&[a, b, c, d, kind]) = self.incoming.first_chunk::<FRAME_HEADER>() else {
            self.incoming.reserve(READ_CHUNK);
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > self.frame_limit {
            return Err(invalid(format_args!(
                "a frame claims {length} bytes, and {} is the limit that was agreed on",
                self.frame_limit
            )));
        }
        let kind = Kind::from_byte(kind).ok_or_else(|| invalid(format_args!("a frame is of unknown kind {kind}")))?;
        let whole = FRAME_HEADER.saturating_add(length);
        if self.incoming.len() < whole {
            if self.side.frame_due.load(Ordering::Relaxed) == 0 {
                let time = self.side.patience.frame_time + Duration::from_secs(length as u64 / SLOWEST_RATE);
                self.side.frame_due.store(self.side.due_in(time), Ordering::Relaxed);
                if whole >= ALONE {
                    // Exactly as much, so that nothing else comes to lie behind it.
                    let mut alone = BytesMut::with_capacity(whole);
                    alone.extend_from_slice(&self.incoming);
                    self.incoming = alone;
                }
            }
            if self.incoming.capacity() >= whole {
                return Ok(None);
            }
            self.incoming.reserve((whole - self.incoming.len()).max(READ_CHUNK));
            return Ok(None);
        }
        self.side.frame_due.store(0, Ordering::Relaxed);
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
        self.side.writer.register(cx.waker());
        // A peer that does not read shall not make the buffer grow; what is left in the outbox travels
        // once there is room.
        if self.unwritten >= WRITE_BUFFER {
            return Ok(());
        }
        let controls = std::mem::take(&mut *self.side.outbox());
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
            self.side.read_due.store(0, Ordering::Relaxed);
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
            Poll::Ready(_) => self.side.read_due.store(0, Ordering::Relaxed),
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
    /// Takes frames with bodies of up to `frame_limit` bytes.
    pub(crate) fn new(io: Io, side: Arc<Side>, frame_limit: usize, on_control: OnControl) -> Self {
        Self { frames: FrameStream::new(io, side, frame_limit, on_control) }
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
    /// Takes frames with bodies of up to `frame_limit` bytes.
    pub(crate) fn new(io: Io, side: Arc<Side>, frame_limit: usize, on_control: OnControl) -> Self {
        Self { frames: FrameStream::new(io, side, frame_limit, on_control), context: tarpc::context::current() }
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
    use crate::wire::frame::FRAME_HEADER;

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
        let side = Side::new(Patience::default());
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
