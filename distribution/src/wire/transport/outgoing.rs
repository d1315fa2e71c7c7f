//! What a connection has still to write: whole frames in their order, and large messages, whose chunks go between them.
//!
//! Chunks are added only while little waits to be written, and those of several messages take turns. So a frame that is
//! added waits behind few chunks, however much is left of large messages.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    task::{Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustc_hash::FxHashSet;

use super::pending_sends::{ONLY_ATTEMPT, PendingSends, SendPermit};
use crate::{
    error::CodecError,
    wire::{
        frame::{
            kind::{Control, FrameKind},
            layout::{
                BODY_HEADER_LIMIT, CHUNK_HEADER, FRAME_HEADER, LARGEST_CHUNK, LARGEST_WHOLE_PAYLOAD, encode_frame,
            },
        },
        incoming_memory::RESERVED_ABOVE,
        payload::Payload,
    },
};

/// A payload of at least this size is queued as it is. A smaller one is copied behind its header, which costs less than one
/// more slice in the vectored write.
const QUEUED_AS_IT_IS: usize = 8 * 1024;

/// With this many bytes unwritten no more frames are taken. It is enough to keep a socket busy.
const WRITE_BUFFER: usize = 512 * 1024;

/// Chunks are added while fewer bytes than this are unwritten, so that there is always room for frames.
const CHUNKS_BELOW: usize = 256 * 1024;

/// After this many bytes of frames comes a chunk, so that frames without end leave large messages half of the line.
const FRAMES_BETWEEN_CHUNKS: u64 = 64 * 1024;

/// One write offers at most this many bytes. A request counts as sent before a write that may complete it, and still does if
/// the write took less, until the connection ends.
const WRITE_AT_ONCE: usize = 256 * 1024;

/// One vectored write offers at most this many slices. Linux takes up to 1024; beyond some dozens nothing is gained.
const WRITE_SLICES: usize = 64;

/// The most messages that have begun of those that wait for memory at the receiver. Each may send [`LARGEST_CHUNK`] before it is
/// accepted. They share the line, so with many of them none would be complete for long.
pub(super) const MOST_RESERVING: usize = 8;

/// The most bytes of messages that have begun and do not wait for memory.
pub(super) const MOST_UNRESERVED: usize = 4 * RESERVED_ABOVE;

/// Whose end a message is: the call and the attempt.
pub(super) type MessageKey = (u64, u32);

/// What a message is to the end that sends it.
pub(super) enum Owner {
    Request {
        /// Its number at tarpc.
        request: u64,
        attempt: u32,
        /// Asked before the last chunk goes into the write buffer. Until then the attempt has not begun.
        permit: Arc<dyn SendPermit>,
        /// A frame that follows the request of a detached call.
        detach: Option<Control>,
    },
    Response {
        /// Called when the last chunk, or what is sent instead, is in the write buffer.
        on_written: Box<dyn FnOnce() + Send>,
        /// The response if it is not wanted any more.
        instead: Instead,
    },
}

/// Adds the frame that is sent instead of a response.
pub(super) type Instead = Box<dyn FnOnce(&mut Frames) -> Result<(), CodecError> + Send>;

/// Writes the header of a message. Called when it begins, because the header says how much time is left.
type Header = Box<dyn FnOnce(&mut BytesMut) -> Result<(), CodecError> + Send>;

/// A message that is written in chunks.
struct Message {
    key: MessageKey,
    number: u32,
    owner: Owner,
    /// Until it begins.
    header: Option<Header>,
    parts: VecDeque<Bytes>,
    /// Until it begins, without the header.
    length: usize,
    /// Bytes that are not in the write buffer.
    left: usize,
    /// Whether it waits for memory at the receiver before its second chunk.
    waits: bool,
    is_accepted: bool,
}

impl Message {
    fn may_send(&self) -> bool {
        self.is_accepted || !self.waits || self.left == self.length
    }

    fn is_given_up(&self) -> bool {
        match &self.owner {
            Owner::Request { attempt, permit, .. } => !permit.may_begin(*attempt),
            Owner::Response { .. } => false,
        }
    }
}

/// All that is to be written to a connection.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) frames: Frames,
    /// Messages that have not begun, those that will wait for memory apart: others do not wait for them.
    unreserved: VecDeque<Message>,
    reserving: VecDeque<Message>,
    /// Messages that have begun, the next one first.
    begun: VecDeque<Message>,
    /// The keys of all these messages: most calls that are cancelled have none here.
    keys: FxHashSet<MessageKey>,
    /// Of those that have begun, the bytes of those that do not wait for memory, and the number of the others.
    begun_bytes: usize,
    begun_reserving: usize,
    next_number: u32,
    /// Where the last chunk ended.
    last_chunk: u64,
    /// Requests that were given up before they were written.
    not_sent: Vec<u64>,
}

impl Outgoing {
    /// Whether a message with this payload is written in chunks.
    pub(super) fn is_large(payload: &Payload) -> bool {
        payload.len() > LARGEST_WHOLE_PAYLOAD
    }

    /// Adds a message that is written in chunks.
    pub(super) fn push_large(
        &mut self,
        key: MessageKey,
        payload: Payload,
        header: impl FnOnce(&mut BytesMut) -> Result<(), CodecError> + Send + 'static,
        owner: Owner,
    ) {
        let length = payload.len();
        let mut parts = VecDeque::new();
        payload.each_part(
            &mut parts,
            |parts, bytes| parts.push_back(Bytes::copy_from_slice(bytes)),
            |parts, bytes| parts.push_back(bytes),
        );
        let header = Some(Box::new(header) as Header);
        let waits = length > RESERVED_ABOVE - BODY_HEADER_LIMIT;
        let message = Message { key, number: 0, owner, header, parts, length, left: length, waits, is_accepted: false };
        self.keys.insert(key);
        if waits {
            self.reserving.push_back(message);
        } else {
            self.unreserved.push_back(message);
        }
    }

    /// Adds a control frame. One that cancels a call takes a request back that is not completely written, and one that asks for
    /// calls back or ends the connection takes all such requests back.
    pub(super) fn push_control(&mut self, control: &Control) -> Result<(), CodecError> {
        match *control {
            Control::Cancel { call, attempt } if self.take_back((call, attempt))? => return Ok(()),
            Control::CancelCall { call } if self.take_back((call, ONLY_ATTEMPT))? => return Ok(()),
            Control::Retract | Control::Goodbye { .. } => self.take_back_requests()?,
            _ => {}
        }
        self.frames.push_control(control)
    }

    /// Whether a message has begun that the receiver has not accepted yet.
    pub(super) fn awaits_accept(&self) -> bool {
        self.begun.iter().any(|message| message.waits && !message.is_accepted)
    }

    /// The receiver has memory for a message.
    pub(super) fn on_accepted(&mut self, number: u32) {
        // It may have been abandoned at the same time.
        if let Some(message) = self.begun.iter_mut().find(|message| message.number == number) {
            message.is_accepted = true;
        }
    }

    /// This call is over: a request that is not completely written is taken back, and a response is replaced by a short one.
    /// False if there is no such message.
    pub(super) fn take_back(&mut self, key: MessageKey) -> Result<bool, CodecError> {
        if !self.keys.contains(&key) {
            return Ok(false);
        }
        let remove = |queue: &mut VecDeque<Message>| {
            let at = queue.iter().position(|message| message.key == key)?;
            queue.remove(at)
        };
        if let Some(message) = remove(&mut self.unreserved).or_else(|| remove(&mut self.reserving)) {
            self.end_without(message)?;
        } else if let Some(message) = remove(&mut self.begun) {
            self.abandon(message)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn take_back_requests(&mut self) -> Result<(), CodecError> {
        let is_request = |message: &Message| matches!(message.owner, Owner::Request { .. });
        // All messages of one end are either requests or responses.
        if !self.begun.iter().chain(&self.unreserved).chain(&self.reserving).any(is_request) {
            return Ok(());
        }
        for message in std::mem::take(&mut self.begun) {
            self.abandon(message)?;
        }
        for message in std::mem::take(&mut self.unreserved).into_iter().chain(std::mem::take(&mut self.reserving)) {
            self.end_without(message)?;
        }
        Ok(())
    }

    pub(super) fn has_not_sent(&self) -> bool {
        !self.not_sent.is_empty()
    }

    /// The number, at tarpc, of a request that was given up before it was written.
    pub(super) fn take_not_sent(&mut self) -> Option<u64> {
        self.not_sent.pop()
    }

    /// Whether nothing can be written before the receiver has accepted a message.
    pub(super) fn is_stuck(&self) -> bool {
        self.frames.is_empty() && self.awaits_accept()
    }

    /// Puts the next chunks behind the frames, as long as little waits to be written.
    pub(super) fn add_chunks(&mut self) -> Result<(), CodecError> {
        while self.frames.unwritten < CHUNKS_BELOW
            || self.frames.end() - self.last_chunk >= FRAMES_BETWEEN_CHUNKS && self.frames.unwritten < WRITE_BUFFER
        {
            if !self.add_chunk()? {
                break;
            }
            self.last_chunk = self.frames.end();
        }
        Ok(())
    }

    /// Adds the next chunk of the message whose turn it is; false if no message has one to send.
    fn add_chunk(&mut self) -> Result<bool, CodecError> {
        self.begin_messages()?;
        for _ in 0..self.begun.len() {
            let Some(mut message) = self.begun.pop_front() else { break };
            if message.is_given_up() {
                self.abandon(message)?;
                continue;
            }
            if !message.may_send() {
                self.begun.push_back(message);
                continue;
            }
            if message.left > LARGEST_CHUNK {
                self.frames.push_chunk(&mut message, LARGEST_CHUNK);
                self.begun.push_back(message);
                return Ok(true);
            }
            if let Owner::Request { attempt, permit, .. } = &message.owner {
                if !permit.begin(*attempt) {
                    self.abandon(message)?;
                    continue;
                }
            }
            let left = message.left;
            self.frames.push_chunk(&mut message, left);
            self.forget(&message);
            match message.owner {
                Owner::Request { attempt, permit, detach, .. } => {
                    self.frames.ask_before_last_byte(attempt, Arc::clone(&permit));
                    // As with a small request: looked at once all of it is in the buffer.
                    if let Some(detach) = detach.filter(|_| permit.is_detached()) {
                        self.frames.push_control(&detach)?;
                    }
                }
                Owner::Response { on_written, .. } => on_written(),
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Begins the messages that may begin beside those that have.
    fn begin_messages(&mut self) -> Result<(), CodecError> {
        while let Some(next) = self.unreserved.front() {
            if self.begun_bytes + next.length + BODY_HEADER_LIMIT > MOST_UNRESERVED {
                break;
            }
            let Some(message) = self.unreserved.pop_front() else { break };
            self.begin(message)?;
        }
        while self.begun_reserving < MOST_RESERVING {
            let Some(message) = self.reserving.pop_front() else { break };
            self.begin(message)?;
        }
        Ok(())
    }

    fn begin(&mut self, mut message: Message) -> Result<(), CodecError> {
        if message.is_given_up() {
            return self.end_without(message);
        }
        if let Some(header) = message.header.take() {
            let mut bytes = BytesMut::new();
            header(&mut bytes)?;
            message.length += bytes.len();
            message.parts.push_front(bytes.freeze());
        }
        message.left = message.length;
        message.number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let Message { number, length, waits, .. } = message;
        self.frames.push_control(&Control::Begin { message: number, length: length as u64, waits })?;
        if waits {
            self.begun_reserving += 1;
        } else {
            self.begun_bytes += message.length;
        }
        self.begun.push_back(message);
        Ok(())
    }

    /// Does not count a message any more that has begun.
    fn forget(&mut self, message: &Message) {
        self.keys.remove(&message.key);
        if message.waits {
            self.begun_reserving -= 1;
        } else {
            self.begun_bytes -= message.length;
        }
    }

    /// Ends a message that has begun and is not completely written.
    fn abandon(&mut self, message: Message) -> Result<(), CodecError> {
        self.forget(&message);
        self.frames.push_control(&Control::Abandon { message: message.number })?;
        self.end_without(message)
    }

    fn end_without(&mut self, message: Message) -> Result<(), CodecError> {
        self.keys.remove(&message.key);
        match message.owner {
            Owner::Request { request, .. } => self.not_sent.push(request),
            Owner::Response { on_written, instead } => {
                instead(&mut self.frames)?;
                on_written();
            }
        }
        Ok(())
    }
}

/// Whole frames, in the order in which they are written.
#[derive(Default)]
pub(super) struct Frames {
    /// Complete pieces to write, in order. What is written is removed from the first.
    pieces: VecDeque<Bytes>,
    /// What is to be written behind `pieces`, and may still grow.
    tail: BytesMut,
    unwritten: usize,
    /// Bytes written since the connection began; with TLS, those that it has taken.
    written: u64,
    pending_sends: PendingSends,
}

impl Frames {
    /// Whether another frame may be added.
    pub(super) fn has_room(&self) -> bool {
        self.unwritten < WRITE_BUFFER
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unwritten == 0
    }

    #[cfg(test)]
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Where the last frame ends, in bytes since the connection began.
    fn end(&self) -> u64 {
        self.written + self.unwritten as u64
    }

    /// Appends a control frame.
    pub(super) fn push_control(&mut self, control: &Control) -> Result<(), CodecError> {
        let before = self.tail.len();
        control.encode(&mut self.tail)?;
        self.unwritten += self.tail.len() - before;
        Ok(())
    }

    /// Appends a frame with a whole message.
    pub(super) fn push(
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
        payload.each_part(self, |this, bytes| this.tail.extend_from_slice(bytes), Self::push_piece);
        Ok(())
    }

    /// Appends a frame with the next bytes of a message.
    fn push_chunk(&mut self, message: &mut Message, length: usize) {
        message.left -= length;
        self.tail.put_u32_le((CHUNK_HEADER + length) as u32);
        self.tail.put_u8(FrameKind::Chunk as u8);
        self.tail.put_u32_le(message.number);
        self.unwritten += FRAME_HEADER + CHUNK_HEADER + length;
        let mut left = length;
        while let Some(part) = message.parts.front_mut().filter(|_| left > 0) {
            let piece = part.split_to(part.len().min(left));
            if part.is_empty() {
                message.parts.pop_front();
            }
            left -= piece.len();
            self.push_piece(piece);
        }
    }

    fn push_piece(&mut self, bytes: Bytes) {
        if bytes.len() < QUEUED_AS_IT_IS {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.pieces.push_back(self.tail.split().freeze());
            self.pieces.push_back(bytes);
        }
    }

    /// Has `permit` asked before the last byte of the frame that was added last is written.
    pub(super) fn ask_before_last_byte(&mut self, attempt: u32, permit: Arc<dyn SendPermit>) {
        self.pending_sends.push(self.end(), attempt, permit);
    }

    /// Has `write` write the next bytes, and removes as many as it has written.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let (mut count, mut offered) = (0, 0);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
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
        let mut written = ready!(write(&slices[..count]))?;
        let taken = written;
        self.unwritten -= written;
        self.written += written as u64;
        self.pending_sends.written(self.written);
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            self.pieces.pop_front();
        }
        Poll::Ready(Ok(taken))
    }
}
