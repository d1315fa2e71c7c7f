//! Framed reading and writing on a connection, for both ends.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::{
    frame_rate::FrameRate,
    frames::Frames,
    incoming_messages::{Complete, IncomingMessages},
    outgoing::{MessageKey, Outgoing, Owner},
    slow::Slow,
};
use crate::{
    error::CodecError,
    wire::{
        codec::encode_header,
        connection_state::ConnectionState,
        frame::{
            kind::{self, Control, Direction, FrameKind},
            layout::{CHUNK_HEADER, FRAME_HEADER, ITEMS_HEADER, LARGEST_CALL_FRAME},
        },
        payload::Payload,
        send_permit::ONLY_ATTEMPT,
        streams::{FETCHED, Known},
    },
};

/// One read asks for this many bytes, unless a larger frame has begun.
const READ_CHUNK: usize = 8 * 1024;

/// After this many bytes were read, or written, at once, the task does what else there is to do: it takes new calls, and reads
/// or writes the other way. A peer that is as fast as this end could keep it busy with one large message otherwise.
const MOST_AT_ONCE: usize = 512 * 1024;

/// Is given each control frame that arrives, apart from those about large messages and streams; an error ends the connection as a protocol
/// violation.
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
    messages: IncomingMessages,
    /// Whether nothing is read until the peer has read more of what waits for it.
    is_paused: bool,
    /// Since when the frame that is being read, and the large messages of which the peer owes bytes, make too little progress.
    /// A chunk belongs to its message.
    slow_frame: Option<Slow>,
    slow_messages: Option<Slow>,
    max_message_size: usize,
    skipped: FrameRate,
    unknown_streams: FrameRate,
    outgoing: Outgoing,
    /// How long the last message took from its beginning to its end.
    took: Duration,
    /// Whether nothing can be written any more.
    is_shut_down: bool,
}

/// A whole frame that was read.
enum Frame {
    /// The last one of a message.
    Message(Bytes),
    Control(FrameKind, Bytes),
    /// The next bytes of a stream.
    Items(Bytes),
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
            messages: IncomingMessages::new(state.incoming_memory().cloned(), max_message_size, incoming_direction),
            state,
            on_control,
            incoming: BytesMut::new(),
            is_paused: false,
            slow_frame: None,
            slow_messages: None,
            max_message_size,
            skipped: FrameRate::new("frames of unknown optional kinds"),
            unknown_streams: FrameRate::new("frames about streams that have ended"),
            outgoing: Outgoing::default(),
            took: Duration::ZERO,
            is_shut_down: false,
        }
    }

    /// How long the last message took to come. What it says of the time that is left was true when it began.
    pub(super) fn took(&self) -> Duration {
        self.took
    }

    /// The body of the next message. Control frames that come before it are handled.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut has_collected = false;
        let mut left = MOST_AT_ONCE;
        loop {
            while let Some(frame) = self.split_frame()? {
                match frame {
                    Frame::Message(body) => return Poll::Ready(Some(Ok(body))),
                    Frame::Control(kind, body) => {
                        if let Some(control) = Control::decode(kind, &body).map_err(invalid)? {
                            self.handle(control, cx)?;
                        }
                    }
                    Frame::Items(body) => self.on_items(body).map_err(invalid)?,
                    Frame::Skipped => self.skipped.count().map_err(invalid)?,
                }
            }
            self.tell_sender(cx)?;
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
                self.state.on_reading_resumed();
                for slow in [&mut self.slow_frame, &mut self.slow_messages].into_iter().flatten() {
                    *slow = Slow::new();
                }
            }
            self.note_progress();
            if left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = ready!(self.poll_read(cx))?;
            left = left.saturating_sub(count);
            if count == 0 {
                self.state.on_peer_closed();
                let inside = match (self.incoming.is_empty(), self.messages.is_empty()) {
                    (true, true) => return Poll::Ready(None),
                    (false, true) => "the connection ended inside a frame",
                    (_, false) => "the connection ended inside a message",
                };
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, inside))));
            }
        }
    }

    /// The number, at tarpc, of a request that was given up before all of it was written. To be asked for before each message.
    pub(super) fn take_not_sent(&mut self) -> Option<u64> {
        self.outgoing.take_not_sent()
    }

    fn handle(&mut self, control: Control, cx: &Context<'_>) -> io::Result<()> {
        match control {
            Control::Begin { message, length, waits } => {
                return self.messages.on_begin(message, length, waits).map_err(invalid);
            }
            Control::Abandon { message } => return self.messages.on_abandon(message).map_err(invalid),
            Control::Accept { message } => {
                self.outgoing.on_accepted(message);
                cx.waker().wake_by_ref();
                return Ok(());
            }
            Control::Consumed { bytes } => {
                self.outgoing.on_consumed(bytes).map_err(invalid)?;
                self.state.set_unconsumed(false);
                cx.waker().wake_by_ref();
                return Ok(());
            }
            Control::GrantItems { .. } | Control::EndItems { .. } | Control::StopItems { .. } => {
                return match self.state.streams().on_control(&self.state, &control).map_err(invalid)? {
                    Known::Yes => Ok(()),
                    // They may cross the end of their call, and a correct peer sends few of them.
                    Known::No => self.unknown_streams.count().map_err(invalid),
                };
            }
            // A response to it may be under way.
            Control::Cancel { call, attempt } => _ = self.outgoing.take_back((call, attempt)).map_err(invalid)?,
            Control::CancelCall { call } => _ = self.outgoing.take_back((call, ONLY_ATTEMPT)).map_err(invalid)?,
            _ => {}
        }
        (self.on_control)(control).map_err(invalid)
    }

    fn on_items(&mut self, mut body: Bytes) -> Result<(), String> {
        if body.len() < ITEMS_HEADER {
            return Err("it sent items without saying of which call".to_owned());
        }
        let key = (body.get_u64_le(), body.get_u32_le());
        self.messages.on_items(body.len());
        if key.1 >= FETCHED {
            Slow::on_came(&mut self.slow_messages, body.len(), self.state.least_progress());
        }
        self.state.streams().on_items(key, body)
    }

    /// Tells the sender of large messages which of them have memory now, and how much was read.
    fn tell_sender(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // A peer that does not read is told later.
        let consumed = if self.outgoing.frames.has_room() { self.messages.take_consumed() } else { None };
        if let Some(bytes) = consumed {
            self.outgoing.frames.push_control(&Control::Consumed { bytes }).map_err(invalid)?;
            cx.waker().wake_by_ref();
        }
        if self.messages.is_empty() {
            return Ok(());
        }
        self.messages.poll_memory(cx);
        while self.outgoing.frames.has_room() {
            let Some(message) = self.messages.take_accepted() else { break };
            self.outgoing.frames.push_control(&Control::Accept { message }).map_err(invalid)?;
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Whether nothing is read until the peer has read what waits for it. Only of callers: if both ends of a connection did
    /// it, each would wait for the other.
    fn must_pause(&self) -> bool {
        // What waits for the peer may need its word first.
        self.incoming_direction == Direction::CallerToMaster
            && self.state.is_congested()
            && !self.outgoing.awaits_accept()
    }

    /// Notes what the peer has begun and since when it makes too little progress.
    fn note_progress(&mut self) {
        let is_in_frame = !self.messages.is_in_chunk() && !self.incoming.is_empty();
        Slow::set(&mut self.slow_frame, is_in_frame);
        // A node waits as long as its master lives: the master may wait for a caller.
        let owes_bytes = self.incoming_direction != Direction::MasterToNode && self.messages.owes_bytes();
        Slow::set(&mut self.slow_messages, owes_bytes || self.state.streams().owes());
        let slow = [&self.slow_frame, &self.slow_messages].into_iter().flatten().map(Slow::since).min();
        self.state.set_slow_since(slow, self.messages.reserved());
    }

    /// Reads what has come and returns how many bytes that is; 0 at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let enough = self.state.least_progress();
        let count = if self.messages.is_in_chunk() {
            let count = ready!(self.messages.poll_read(&mut self.io, cx))?;
            Slow::on_came(&mut self.slow_messages, count, enough);
            count
        } else {
            let count = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.incoming))?;
            Slow::on_came(&mut self.slow_frame, count, enough);
            count
        };
        if count > 0 {
            self.state.on_read();
        }
        Poll::Ready(Ok(count))
    }

    /// Takes one whole frame off what was read, or makes room for the rest of it.
    fn split_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if self.messages.is_in_chunk() {
                let had = self.incoming.len();
                self.messages.take_from(&mut self.incoming);
                Slow::on_came(&mut self.slow_messages, had - self.incoming.len(), self.state.least_progress());
                if let Some(Complete { body, began }) = self.messages.end_chunk() {
                    self.took = began.elapsed();
                    return Ok(Some(Frame::Message(body)));
                }
                if self.messages.is_in_chunk() {
                    return Ok(None);
                }
            }
            let Some(&[a, b, c, d, byte]) = self.incoming.first_chunk::<FRAME_HEADER>() else {
                self.incoming.reserve(READ_CHUNK);
                return Ok(None);
            };
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            let kind = match byte == self.call as u8 && length <= LARGEST_CALL_FRAME.min(self.max_message_size) {
                true => Some(self.call),
                false => self.check(byte, length)?,
            };
            if kind == Some(FrameKind::Chunk) {
                let Some(header) = self.incoming.get(FRAME_HEADER..FRAME_HEADER + CHUNK_HEADER) else {
                    self.incoming.reserve(READ_CHUNK);
                    return Ok(None);
                };
                let number = header.try_into().map_or(0, u32::from_le_bytes);
                self.messages.on_chunk(number, length.saturating_sub(CHUNK_HEADER)).map_err(invalid)?;
                self.incoming.advance(FRAME_HEADER + CHUNK_HEADER);
                self.slow_frame = None;
                continue;
            }
            let whole = FRAME_HEADER + length;
            if self.incoming.len() < whole {
                if self.incoming.capacity() < whole {
                    self.incoming.reserve((whole - self.incoming.len()).max(READ_CHUNK));
                }
                return Ok(None);
            }
            self.slow_frame = None;
            self.took = Duration::ZERO;
            let mut frame = self.incoming.split_to(whole);
            frame.advance(FRAME_HEADER);
            let body = frame.freeze();
            return Ok(Some(match kind {
                Some(kind) if kind == self.call => Frame::Message(body),
                Some(FrameKind::Items) => Frame::Items(body),
                Some(kind) => Frame::Control(kind, body),
                None => Frame::Skipped,
            }));
        }
    }

    /// The kind of a frame whose header was read; `None` if it is to be skipped.
    fn check(&self, byte: u8, length: usize) -> io::Result<Option<FrameKind>> {
        let header = if byte == FrameKind::Chunk as u8 { CHUNK_HEADER } else { 0 };
        if length > self.max_message_size.saturating_add(header) {
            return Err(invalid(format_args!(
                "it announced a frame of {length} bytes; the agreed limit is {}",
                self.max_message_size
            )));
        }
        kind::check(self.incoming_direction, byte, length).map_err(invalid)
    }

    /// Moves control frames that wait to be sent into the write buffer.
    fn collect_controls(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Registered before the outbox is taken, so that a frame that comes in between wakes this task again.
        self.state.register_writer(cx.waker());
        // The buffer must not grow while the peer does not read. What stays in the outbox is sent when there is room.
        if !self.outgoing.frames.has_room() {
            return Ok(());
        }
        let controls = self.state.take_outbox();
        for control in controls {
            self.queue_control(&control).map_err(invalid)?;
        }
        // What was taken back is told by reading.
        if self.is_paused && !self.must_pause() || self.outgoing.has_not_sent() {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Appends a control frame to the write buffer, for one that must not come behind the frames that are queued next.
    pub(super) fn queue_control(&mut self, control: &Control) -> Result<(), CodecError> {
        self.outgoing.push_control(control)
    }

    /// The write buffer.
    pub(super) fn frames(&mut self) -> &mut Frames {
        &mut self.outgoing.frames
    }

    /// What is written.
    pub(super) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Appends a response. `on_written` is called when all of it is in the write buffer. If its call is cancelled before that, a
    /// frame with the header that `unwanted` makes of its own takes its place.
    pub(super) fn queue_response<Header: Serialize + Send + 'static>(
        &mut self,
        (kind, key): (FrameKind, MessageKey),
        header: Header,
        payload: Payload,
        on_written: impl FnOnce() + Send + 'static,
        unwanted: fn(&Header) -> Header,
    ) -> io::Result<()> {
        // What was granted of a stream, or that it was stopped, must come before the end of its call.
        if self.state.streams().was_used() {
            for control in self.state.take_outbox() {
                self.queue_control(&control).map_err(invalid)?;
            }
        }
        if !Outgoing::is_large(&payload) {
            on_written();
            let frames = &mut self.outgoing.frames;
            return frames.push(kind, payload, |body| encode_header(&header, body)).map_err(invalid);
        }
        let short = unwanted(&header);
        let instead = move |frames: &mut Frames| frames.push(kind, Payload::EMPTY, |body| encode_header(&short, body));
        let owner = Owner::Response { on_written: Box::new(on_written), instead: Box::new(instead) };
        self.outgoing.push_large(key, payload, None, move |body| encode_header(&header, body), owner);
        Ok(())
    }

    pub(super) fn poll_ready(&mut self) -> Poll<io::Result<()>> {
        // No waker is kept: after Pending tarpc flushes, which registers one if it has to.
        if self.outgoing.frames.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = MOST_AT_ONCE;
        loop {
            self.tell_sender(cx)?;
            self.collect_controls(cx)?;
            // What the peer has read is not known while nothing is read.
            self.outgoing.add_chunks(self.is_paused, &self.state).map_err(invalid)?;
            self.state.set_contended(self.outgoing.is_contended());
            // The memory of a master is shared, and may be short for long.
            let is_master = matches!(self.incoming_direction, Direction::NodeToMaster | Direction::CallerToMaster);
            self.state.set_unaccepted(is_master && self.outgoing.is_stuck());
            self.state.set_unconsumed(!self.is_paused && self.outgoing.awaits_reading(self.state.streams()));
            if self.outgoing.has_not_sent() {
                cx.waker().wake_by_ref();
            }
            if self.outgoing.frames.is_empty() {
                break;
            }
            if left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let io = Pin::new(&mut self.io);
            match self.outgoing.frames.write(|slices| io.poll_write_vectored(cx, slices)) {
                Poll::Pending => {
                    self.state.on_write_blocked();
                    return Poll::Pending;
                }
                Poll::Ready(written) => match written? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => {
                        left = left.saturating_sub(written);
                        self.state.on_write_progress(written);
                    }
                },
            }
        }
        // TLS may have taken bytes that the peer has not.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        match &flushed {
            Poll::Pending => self.state.on_write_blocked(),
            Poll::Ready(_) => self.state.on_write_progress(0),
        }
        flushed
    }

    /// Messages that wait for the peer to accept or to read are not written any more. Ends when the peer has closed its end too:
    /// a socket that is closed with something unread drops what the peer has not received.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut_down {
            ready!(self.poll_flush(cx))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.is_shut_down = true;
            // Others need the memory of messages that are not read any more.
            self.messages = IncomingMessages::new(None, self.max_message_size, self.incoming_direction);
        }
        loop {
            self.incoming.clear();
            self.incoming.reserve(READ_CHUNK);
            match ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.incoming)) {
                // An error is as good an end.
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(_) => self.state.on_read(),
            }
        }
    }
}

impl<Io> Drop for FrameStream<Io> {
    fn drop(&mut self) {
        match self.incoming_direction {
            // Handlers must not go on with what is lost. Everybody else hears of it as the end of the call.
            Direction::MasterToNode => self.state.streams().break_off(),
            _ => self.state.streams().forget(),
        }
    }
}

/// The error of a peer that breaks the protocol.
pub(super) fn invalid(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

#[cfg(test)]
mod tests;
