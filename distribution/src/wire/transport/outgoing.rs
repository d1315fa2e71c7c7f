//! What a connection has still to write: whole frames in their order, and large messages, whose chunks go between them.
//!
//! Chunks are added only while little waits to be written, and those of several messages take turns. So a frame that is
//! added waits behind few chunks, however much is left of large messages.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashSet;

use super::{frames::Frames, window::Window};
use crate::{
    error::CodecError,
    wire::{
        connection_state::ConnectionState,
        fetched_arguments::{Fetch, FetchedArguments, PassedOn},
        frame::{
            kind::Control,
            layout::{BODY_HEADER_LIMIT, LARGEST_CHUNK, LARGEST_PIECE, LARGEST_WHOLE_PAYLOAD},
        },
        freed_elsewhere::freed_elsewhere,
        incoming_memory::RESERVED_ABOVE,
        payload::Payload,
        send_permit::{ONLY_ATTEMPT, SendPermit},
        streams::{Piece, StreamTable},
    },
};

/// After this many bytes of frames comes a chunk, so that frames without end leave large messages half of the line.
const FRAMES_BETWEEN_CHUNKS: u64 = 64 * 1024;

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
    /// The bytes in `parts`.
    here: usize,
    /// Until it begins, without the header.
    length: usize,
    /// Bytes that are not in the write buffer.
    left: usize,
    /// Where the payload comes from, if it is not in `parts`.
    arguments: Option<Arc<FetchedArguments>>,
    /// While it comes from there.
    fetch: Option<Fetch>,
    /// Whether it waits for memory at the receiver before its second chunk.
    waits: bool,
    is_accepted: bool,
}

impl Message {
    fn may_send(&self) -> bool {
        self.is_accepted || !self.waits || self.left == self.length
    }

    /// Whether it can begin as far as this end is concerned.
    fn is_available(&self, connection: &Arc<ConnectionState>) -> bool {
        // One that was given up begins too, to be ended.
        self.is_given_up() || self.arguments.as_ref().is_none_or(|arguments| arguments.are_available(connection))
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
    was_streams_turn: bool,
    /// Empty between calls. Kept for its memory.
    parts: VecDeque<Bytes>,
    window: Window,
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
        arguments: Option<Arc<FetchedArguments>>,
        header: impl FnOnce(&mut BytesMut) -> Result<(), CodecError> + Send + 'static,
        owner: Owner,
    ) {
        let here = payload.len();
        let length = arguments.as_ref().map_or(here, |arguments| arguments.len());
        let mut parts = VecDeque::new();
        payload.each_part(
            &mut parts,
            |parts, bytes| parts.push_back(Bytes::copy_from_slice(bytes)),
            |parts, bytes| parts.push_back(freed_elsewhere(bytes)),
        );
        let header = Some(Box::new(header) as Header);
        let waits = length > RESERVED_ABOVE - BODY_HEADER_LIMIT;
        let message = Message {
            key,
            number: 0,
            owner,
            header,
            parts,
            here,
            length,
            left: length,
            arguments,
            fetch: None,
            waits,
            is_accepted: false,
        };
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
            if let Some(fetch) = &message.fetch {
                fetch.begin();
            }
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

    /// The receiver has read this many bytes of chunks.
    ///
    /// # Errors
    ///
    /// What a correct peer never sends, as the reason why the connection is closed.
    pub(super) fn on_consumed(&mut self, bytes: u64) -> Result<(), String> {
        self.window.on_consumed(bytes)
    }

    /// Whether chunks, or items of streams, wait for the receiver to read those that it was sent.
    pub(super) fn awaits_reading(&self, streams: &StreamTable) -> bool {
        let may_go_on = self.begun.iter().any(Message::may_send) || streams.has_ready();
        self.window.is_full() && (may_go_on || !self.unreserved.is_empty() || !self.reserving.is_empty())
    }

    /// Whether messages wait for others that have begun.
    pub(super) fn is_contended(&self) -> bool {
        self.begun_reserving == MOST_RESERVING && !self.reserving.is_empty()
    }

    /// Whether no chunk can be written before the receiver has accepted a message.
    pub(super) fn is_stuck(&self) -> bool {
        !self.begun.is_empty() && !self.begun.iter().any(Message::may_send)
    }

    /// Puts the next chunks behind the frames, as long as little waits to be written.
    /// With `ignores_window`, more may be on the way than the receiver reads soon. Streams and messages take turns.
    pub(super) fn add_chunks(
        &mut self,
        ignores_window: bool,
        connection: &Arc<ConnectionState>,
    ) -> Result<(), CodecError> {
        // Like a chunk: only while little waits to be written.
        if self.frames.is_low() {
            if let Some(spare) = connection.spare().take() {
                self.frames.push_control(&spare)?;
            }
        }
        let streams = connection.streams();
        let has_messages = !(self.begun.is_empty() && self.unreserved.is_empty() && self.reserving.is_empty());
        if !has_messages && !streams.has_ready() {
            return Ok(());
        }
        while self.frames.is_low()
            || self.frames.end() - self.last_chunk >= FRAMES_BETWEEN_CHUNKS && self.frames.has_room()
        {
            if self.window.is_full() && !ignores_window {
                break;
            }
            let is_streams_turn = !self.was_streams_turn;
            let has_added = match is_streams_turn {
                true => self.add_items(streams)? || self.add_chunk(connection)?,
                false => self.add_chunk(connection)? || self.add_items(streams)?,
            };
            if !has_added {
                break;
            }
            self.was_streams_turn = is_streams_turn;
            self.last_chunk = self.frames.end();
        }
        Ok(())
    }

    /// Adds the next bytes of the stream whose turn it is; false if no stream has something to send.
    fn add_items(&mut self, streams: &StreamTable) -> Result<bool, CodecError> {
        let Some(Piece { key, length, end, permit, .. }) = streams.take_piece(LARGEST_PIECE, &mut self.parts) else {
            return Ok(false);
        };
        if length > 0 {
            self.frames.push_items(key, &mut self.parts, length);
            self.window.on_sent(length);
        }
        if let Some(permit) = permit {
            self.frames.ask_before_last_byte(ONLY_ATTEMPT, permit);
        }
        if let Some((length, is_whole)) = end {
            let (call, attempt) = key;
            self.frames.push_control(&Control::EndItems { call, attempt, length, is_whole })?;
        }
        Ok(true)
    }

    /// Adds the next chunk of the message whose turn it is; false if no message has one to send.
    fn add_chunk(&mut self, connection: &Arc<ConnectionState>) -> Result<bool, CodecError> {
        self.begin_messages(connection)?;
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
            if let (0, Some(fetch)) = (message.here, &message.fetch) {
                match fetch.take(LARGEST_CHUNK, &mut message.parts) {
                    Some(0) => {
                        self.begun.push_back(message);
                        continue;
                    }
                    Some(length) => message.here = length,
                    // Its call is about to end, or it is sent again.
                    None => {
                        self.abandon(message)?;
                        continue;
                    }
                }
            }
            let length = message.here.min(LARGEST_CHUNK);
            if message.left > length {
                message.left -= length;
                message.here -= length;
                self.frames.push_chunk(message.number, &mut message.parts, length);
                self.window.on_sent(length);
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
            self.frames.push_chunk(message.number, &mut message.parts, left);
            self.window.on_sent(left);
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
    fn begin_messages(&mut self, connection: &Arc<ConnectionState>) -> Result<(), CodecError> {
        while let Some(next) = self.unreserved.front() {
            if self.begun_bytes + next.length + BODY_HEADER_LIMIT > MOST_UNRESERVED {
                break;
            }
            let Some(message) = self.unreserved.pop_front() else { break };
            self.begin(message, connection)?;
        }
        while self.begun_reserving < MOST_RESERVING {
            // Arguments whose caller is away wait for it, and others do not wait for them.
            let next = self.reserving.iter().position(|message| message.is_available(connection));
            let Some(message) = next.and_then(|next| self.reserving.remove(next)) else { break };
            self.begin(message, connection)?;
        }
        Ok(())
    }

    fn begin(&mut self, mut message: Message, connection: &Arc<ConnectionState>) -> Result<(), CodecError> {
        if message.is_given_up() {
            return self.end_without(message);
        }
        if let Some(header) = message.header.take() {
            let mut bytes = BytesMut::new();
            header(&mut bytes)?;
            message.length += bytes.len();
            message.here += bytes.len();
            message.parts.push_front(bytes.freeze());
        }
        match message.arguments.as_ref().map(|arguments| arguments.pass_on(connection, message.key)) {
            Some(PassedOn::Here(bytes)) => {
                message.here += bytes.len();
                message.parts.push_back(bytes);
            }
            Some(PassedOn::Fetched(fetch)) => message.fetch = Some(fetch),
            None => {}
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
