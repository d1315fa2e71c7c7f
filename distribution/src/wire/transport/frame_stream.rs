//! Framed reading and writing on a connection, for both ends.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::{
    large_frame::{LargeFrame, Read},
    pending_sends::{PendingSends, SendPermit},
    skipped_frames::SkippedFrames,
};
use crate::{
    error::CodecError,
    wire::{
        connection_state::ConnectionState,
        frame::{
            kind::{self, Control, Direction, FrameKind},
            layout::{FRAME_HEADER, encode_frame},
        },
        payload::Payload,
    },
};

/// One read asks for this many bytes, unless a larger frame has begun.
const READ_CHUNK: usize = 8 * 1024;

/// A frame of at least this size is read into memory of its own. So a value that is kept from a small frame never keeps more
/// than about twice this much memory.
pub(super) const LARGE_FRAME: usize = 64 * 1024;

/// A payload of at least this size is queued as it is. A smaller one is copied behind its header, which costs less than one
/// more slice in the vectored write.
const QUEUED_AS_IT_IS: usize = 8 * 1024;

/// With this many bytes unwritten the transport takes no more messages. It is enough to keep a socket busy, and little
/// beside the one large payload that may come on top of it.
const WRITE_BUFFER: usize = 256 * 1024;

/// One write offers at most this many bytes. A request counts as sent before a write that may complete it, and still does if
/// the write took less, until the connection ends.
const WRITE_AT_ONCE: usize = 256 * 1024;

/// One vectored write offers at most this many slices. Linux takes up to 1024; beyond some dozens nothing is gained.
const WRITE_SLICES: usize = 64;

/// Is given each control frame that arrives; an error ends the connection as a protocol violation.
pub(crate) type OnControl = Box<dyn FnMut(Control) -> Result<(), String> + Send>;

/// Reads and writes frames. [`MasterTransport`](super::MasterTransport) and [`NodeTransport`](super::NodeTransport) are built
/// on it.
pub(super) struct FrameStream<Io> {
    io: Io,
    /// Which way the frames travel that are read here.
    incoming_direction: Direction,
    /// The kind of the frames that carry calls to this end.
    call: FrameKind,
    pub(super) state: Arc<ConnectionState>,
    on_control: OnControl,
    incoming: BytesMut,
    /// A large frame that has begun; `incoming` is empty meanwhile.
    large: Option<LargeFrame>,
    /// Whether a frame has begun and is not complete.
    has_begun: bool,
    /// Whether nothing is read until the peer has read more of what waits for it.
    is_paused: bool,
    /// How much of the frame that has begun had arrived when it last made enough progress.
    had_arrived: usize,
    max_message_size: usize,
    skipped: SkippedFrames,
    /// Complete pieces to write, in order. What is written is removed from the first.
    outgoing: VecDeque<Bytes>,
    /// What is to be written behind `outgoing`, and may still grow.
    tail: BytesMut,
    unwritten: usize,
    /// Bytes written since the connection began; with TLS, those that it has taken.
    written: u64,
    pending_sends: PendingSends,
}

/// A whole frame that was read.
enum Frame {
    /// It carries a call.
    Call(Bytes),
    Control(FrameKind, Bytes),
    /// Its kind is optional and unknown.
    Skipped,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> FrameStream<Io> {
    pub(super) fn new(
        io: Io,
        incoming_direction: Direction,
        state: Arc<ConnectionState>,
        max_message_size: usize,
        on_control: OnControl,
    ) -> Self {
        Self {
            io,
            incoming_direction,
            call: FrameKind::of_calls(incoming_direction),
            state,
            on_control,
            incoming: BytesMut::new(),
            large: None,
            has_begun: false,
            is_paused: false,
            had_arrived: 0,
            max_message_size,
            skipped: SkippedFrames::default(),
            outgoing: VecDeque::new(),
            tail: BytesMut::new(),
            unwritten: 0,
            written: 0,
            pending_sends: PendingSends::default(),
        }
    }

    /// The body of the next frame that carries a call. Control frames that come before it are handled.
    pub(super) fn poll_call_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut has_collected = false;
        loop {
            while let Some(frame) = self.split_frame()? {
                match frame {
                    Frame::Call(body) => return Poll::Ready(Some(Ok(body))),
                    Frame::Control(kind, body) => {
                        if let Some(control) = Control::decode(kind, &body).map_err(invalid)? {
                            (self.on_control)(control).map_err(invalid)?;
                        }
                    }
                    Frame::Skipped => self.skipped.count().map_err(invalid)?,
                }
            }
            // Once, and not for each frame: it is needed before the task can go to sleep.
            if !std::mem::replace(&mut has_collected, true) {
                self.collect_controls(cx)?;
            }
            if self.must_pause() {
                self.is_paused = true;
                self.state.on_reading_paused();
                return Poll::Pending;
            }
            if std::mem::take(&mut self.is_paused) {
                self.state.on_reading_resumed(self.has_begun);
            }
            if ready!(self.poll_read(cx))? == 0 {
                self.state.on_peer_closed();
                return Poll::Ready(if self.incoming.is_empty() && self.large.is_none() {
                    None
                } else {
                    Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a frame")))
                });
            }
        }
    }

    /// Whether nothing is read until the peer has read what waits for it. Only of callers: if both ends of a connection did
    /// it, each would wait for the other.
    fn must_pause(&self) -> bool {
        // A large frame that has begun has its memory, and is read to its end.
        self.incoming_direction == Direction::CallerToMaster && self.large.is_none() && self.state.is_congested()
    }

    /// Reads what has come and returns how many bytes that is; 0 at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (count, arrived) = loop {
            let Some(large) = &mut self.large else {
                let count = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.incoming))?;
                break (count, self.incoming.len());
            };
            let had_memory = large.has_reservation();
            let read = large.poll_read(&mut self.io, cx);
            if large.waits() {
                self.state.on_reading_paused();
                return Poll::Pending;
            }
            if large.has_reservation() && !had_memory {
                self.state.on_memory_reserved();
            }
            match ready!(read)? {
                Read::Came(count) => break (count, large.arrived()),
                Read::MayGoOn => {}
            }
        };
        if count > 0 {
            self.state.on_read();
            if self.has_begun && (arrived - self.had_arrived) as u64 >= self.state.least_progress() {
                self.had_arrived = arrived;
                self.state.on_frame_progress();
            }
        }
        Poll::Ready(Ok(count))
    }

    /// Takes one whole frame off what was read, or makes room for the rest of it.
    fn split_frame(&mut self) -> io::Result<Option<Frame>> {
        if let Some(large) = &self.large {
            if !large.is_complete() {
                return Ok(None);
            }
            self.on_complete();
            return Ok(self.large.take().map(|large| Frame::Call(large.into_body())));
        }
        let Some(&[a, b, c, d, byte]) = self.incoming.first_chunk::<FRAME_HEADER>() else {
            self.incoming.reserve(READ_CHUNK);
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > self.max_message_size {
            return Err(invalid(format_args!(
                "it announced a frame of {length} bytes; the agreed limit is {}",
                self.max_message_size
            )));
        }
        let kind = match byte == self.call as u8 {
            true => Some(self.call),
            false => kind::check(self.incoming_direction, byte, length).map_err(invalid)?,
        };
        let whole = FRAME_HEADER.saturating_add(length);
        if self.incoming.len() < whole {
            if !self.has_begun {
                self.has_begun = true;
                self.state.on_frame_progress();
                self.had_arrived = self.incoming.len();
            }
            // Only frames that carry calls can be so large.
            if whole >= LARGE_FRAME {
                self.large = Some(LargeFrame::new(whole, &self.incoming, self.state.incoming_memory()));
                self.incoming = BytesMut::new();
            } else if self.incoming.capacity() < whole {
                self.incoming.reserve((whole - self.incoming.len()).max(READ_CHUNK));
            }
            return Ok(None);
        }
        self.on_complete();
        let mut frame = self.incoming.split_to(whole);
        if self.incoming.is_empty() && whole >= LARGE_FRAME {
            // Otherwise its memory would be used again, when it is free, for frames of any size.
            self.incoming = BytesMut::new();
        }
        frame.advance(FRAME_HEADER);
        let body = frame.freeze();
        Ok(Some(match kind {
            Some(kind) if kind == self.call => Frame::Call(body),
            Some(kind) => Frame::Control(kind, body),
            None => Frame::Skipped,
        }))
    }

    fn on_complete(&mut self) {
        if std::mem::take(&mut self.has_begun) {
            self.state.on_frame_complete();
        }
    }

    /// Moves control frames that wait to be sent into the write buffer.
    fn collect_controls(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Registered before the outbox is taken, so that a frame that comes in between wakes this task again.
        self.state.register_writer(cx.waker());
        // The buffer must not grow while the peer does not read. What stays in the outbox is sent when there is room.
        if self.unwritten >= WRITE_BUFFER {
            return Ok(());
        }
        let controls = self.state.take_outbox();
        for control in controls {
            self.queue_control(&control).map_err(invalid)?;
        }
        if self.is_paused && !self.must_pause() {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Appends a control frame to the write buffer, for one that must not come behind the frames that are queued next.
    pub(super) fn queue_control(&mut self, control: &Control) -> Result<(), CodecError> {
        let before = self.tail.len();
        control.encode(&mut self.tail)?;
        self.unwritten += self.tail.len() - before;
        Ok(())
    }

    /// Appends a frame to the write buffer.
    pub(super) fn queue(
        &mut self,
        kind: FrameKind,
        payload: Payload,
        header: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let before = self.tail.len();
        if let Err(error) = encode_frame(&mut self.tail, kind as u8, payload.len(), header) {
            self.tail.truncate(before);
            return Err(error);
        }
        self.unwritten += self.tail.len() - before + payload.len();
        payload.each_part(
            self,
            |this, bytes| this.tail.extend_from_slice(bytes),
            |this, bytes| {
                if bytes.len() < QUEUED_AS_IT_IS {
                    this.tail.extend_from_slice(&bytes);
                } else {
                    this.outgoing.push_back(this.tail.split().freeze());
                    this.outgoing.push_back(bytes);
                }
            },
        );
        Ok(())
    }

    /// Has `permit` asked before the last byte of the frame that was queued last is written.
    pub(super) fn ask_before_last_byte(&mut self, attempt: u32, permit: Arc<dyn SendPermit>) {
        self.pending_sends.push(self.written + self.unwritten as u64, attempt, permit);
    }

    pub(super) fn poll_ready(&mut self) -> Poll<io::Result<()>> {
        // No waker is kept: after Pending tarpc flushes, which registers one if it has to.
        if self.unwritten < WRITE_BUFFER { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
            // Before the write and not after it: an attempt that the core gives up in between must not reach the node whole.
            self.pending_sends.complete(self.written + offered as u64)?;
            let Poll::Ready(written) = Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) else {
                self.state.on_write_blocked();
                return Poll::Pending;
            };
            let mut written = written?;
            self.state.on_write_progress();
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten -= written;
            self.written += written as u64;
            self.pending_sends.written(self.written);
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
        // TLS may have taken bytes that the peer has not.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        match &flushed {
            Poll::Pending => self.state.on_write_blocked(),
            Poll::Ready(_) => self.state.on_write_progress(),
        }
        flushed
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The error of a peer that breaks the protocol.
pub(super) fn invalid(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Cursor, sync::Mutex, time::Duration};

    use tokio::time::Instant;

    use super::{
        super::skipped_frames::{MOST_SKIPPED, SKIPPED_PERIOD},
        *,
    };
    use crate::{
        config::PeerTimeouts,
        wire::frame::{control::CloseReason, layout::CONTROL_LIMIT},
    };

    /// Reads frames at a node to the end of the bytes: the kinds of the control frames, and how many requests there were.
    async fn read(bytes: Vec<u8>) -> Result<(Vec<FrameKind>, usize), String> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let on_control: OnControl = {
            let seen = Arc::clone(&seen);
            Box::new(move |control| {
                seen.lock().expect("is whole").push(control.kind());
                Ok(())
            })
        };
        let state = ConnectionState::new(PeerTimeouts::default(), None);
        let mut frames = FrameStream::new(Cursor::new(bytes), Direction::MasterToNode, state, 1 << 20, on_control);
        let mut requests = 0;
        while let Some(body) = poll_fn(|cx| frames.poll_call_frame(cx)).await {
            body.map_err(|error| error.to_string())?;
            requests += 1;
        }
        let seen = std::mem::take(&mut *seen.lock().expect("is whole"));
        Ok((seen, requests))
    }

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_le_bytes()[..], &[kind], body].concat()
    }

    const REQUEST: u8 = FrameKind::Request as u8;
    const RETRACT: u8 = FrameKind::Retract as u8;
    const UNKNOWN: u8 = 200;

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_not_read_while_too_much_waits_for_it() {
        let state = ConnectionState::new(PeerTimeouts::default(), None);
        let ignored: OnControl = Box::new(|_| Ok(()));
        let bytes = frame(FrameKind::CallerRequest as u8, b"x");
        let mut frames =
            FrameStream::new(Cursor::new(bytes), Direction::CallerToMaster, Arc::clone(&state), 1 << 20, ignored);
        let mut read = || frames.poll_call_frame(&mut Context::from_waker(futures::task::noop_waker_ref()));
        state.on_response_waits(80 << 20);
        assert!(read().is_pending());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(state.heard(), Instant::now(), "a caller that is not read does not count as silent");
        state.on_response_taken(80 << 20);
        assert!(matches!(read(), Poll::Ready(Some(Ok(body))) if body == b"x"[..]));
        // It is kept in whole microseconds.
        assert!(state.memory_wait() > Duration::from_secs(59));
    }

    #[tokio::test]
    async fn an_unknown_optional_frame_is_skipped_with_its_body() {
        let largest = vec![7; CONTROL_LIMIT];
        let stream = [
            frame(UNKNOWN, b""),
            frame(RETRACT, b""),
            frame(UNKNOWN, &largest),
            frame(REQUEST, b"x"),
            frame(UNKNOWN, b"y"),
        ];
        assert_eq!(read(stream.concat()).await, Ok((vec![FrameKind::Retract], 1)));
        let mut goodbye = BytesMut::new();
        Control::Goodbye { reason: CloseReason::new("revoked"), is_shutdown: false }
            .encode(&mut goodbye)
            .expect("encodes");
        let stream = [frame(UNKNOWN, b"z"), goodbye.to_vec()];
        assert_eq!(read(stream.concat()).await, Ok((vec![FrameKind::Goodbye], 0)));
    }

    #[tokio::test]
    async fn an_unknown_frame_that_is_mandatory_or_too_long_is_a_violation() {
        let error = read(frame(77, b"")).await.expect_err("is mandatory");
        assert!(error.contains("kind 77, which this release does not know"), "{error}");
        let error = read(frame(UNKNOWN, &vec![7; CONTROL_LIMIT + 1])).await.expect_err("is too long");
        assert!(error.contains("the limit of control frames is 16384"), "{error}");
        let error = read(frame(FrameKind::Drain as u8, b"")).await.expect_err("comes from a master");
        assert!(error.contains("a `drain` frame, which its end"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_unknown_optional_frames_is_a_violation() {
        let most = frame(UNKNOWN, b"").repeat(MOST_SKIPPED as usize);
        assert_eq!(read(most.clone()).await, Ok((Vec::new(), 0)));
        let error = read([most, frame(UNKNOWN, b"")].concat()).await.expect_err("is a flood");
        assert!(error.contains("more than 10000 frames of unknown optional kinds within 1s"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_optional_frames_may_go_on_for_ever_at_a_lower_rate() {
        let mut skipped = SkippedFrames::default();
        for _ in 0..10 {
            for _ in 0..MOST_SKIPPED {
                skipped.count().expect("is below the limit");
            }
            tokio::time::advance(SKIPPED_PERIOD).await;
        }
    }
}
