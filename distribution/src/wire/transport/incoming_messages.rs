//! Large messages that are being read: several at a time, each in memory that grows with the chunks that arrive.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{io::AsyncRead, time::Instant};
use tokio_util::io::poll_read_buf;

use super::{
    frame_rate::FrameRate,
    outgoing::{MOST_RESERVING, MOST_UNRESERVED},
    window::TELL_AFTER,
};
use crate::wire::{
    frame::{
        kind::Direction,
        layout::{LARGEST_CHUNK, LARGEST_WHOLE_PAYLOAD},
    },
    incoming_memory::{IncomingMemory, PendingReservation, RESERVED_ABOVE, Reservation, Reserved},
};

/// A buffer grows by at least this much.
const STEP: usize = LARGEST_CHUNK;

/// The large messages of one connection.
pub(super) struct IncomingMessages {
    memory: Option<Arc<IncomingMemory>>,
    max_message_size: usize,
    /// Those that have begun, in the order of their numbers.
    messages: Vec<Message>,
    /// The number of the next one.
    next_number: u32,
    /// The bytes of those that do not wait for memory, and the number of the others.
    unreserved_bytes: usize,
    reserving: usize,
    /// The chunk that is being read.
    chunk: Option<Chunk>,
    /// `None` if they may be any number.
    abandoned: Option<FrameRate>,
    /// Bytes of chunks that were read, and how many of them the sender was told of.
    consumed: u64,
    told: u64,
}

struct Message {
    number: u32,
    length: usize,
    began: Instant,
    bytes: Vec<u8>,
    memory: Memory,
}

/// The reservation that a message needs before its second chunk.
enum Memory {
    NotNeeded,
    Pending(PendingReservation),
    Reserved {
        since: Instant,
        #[allow(dead_code, reason = "held to be dropped")]
        reservation: Option<Reservation>,
        /// Whether the sender knows.
        is_told: bool,
    },
}

impl Memory {
    fn reserved(reservation: Option<Reservation>) -> Self {
        Self::Reserved { since: Instant::now(), reservation, is_told: false }
    }
}

/// A message that is complete.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) body: Bytes,
    /// When it began to come.
    pub(super) began: Instant,
}

/// A chunk whose header was read.
struct Chunk {
    /// Where its message is.
    at: usize,
    left: usize,
}

impl Message {
    /// How many bytes of it may have come.
    fn allowed(&self) -> usize {
        match self.memory {
            Memory::Pending(_) => self.length.min(LARGEST_CHUNK),
            Memory::NotNeeded | Memory::Reserved { .. } => self.length,
        }
    }
}

impl IncomingMessages {
    /// Those that travel in this direction.
    pub(super) fn new(memory: Option<Arc<IncomingMemory>>, max_message_size: usize, direction: Direction) -> Self {
        // A master may have to abandon as many as its callers cancel.
        let is_limited = direction != Direction::MasterToNode;
        Self {
            memory,
            max_message_size,
            messages: Vec::new(),
            next_number: 0,
            unreserved_bytes: 0,
            reserving: 0,
            chunk: None,
            abandoned: is_limited.then(|| FrameRate::new("frames that abandon messages")),
            consumed: 0,
            told: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the rest of a chunk comes next.
    pub(super) fn is_in_chunk(&self) -> bool {
        self.chunk.is_some()
    }

    /// Whether the sender owes bytes of a message.
    pub(super) fn owes_bytes(&self) -> bool {
        self.messages.iter().any(|message| message.bytes.len() < message.allowed())
    }

    pub(super) fn reserved(&self) -> Option<Reserved> {
        let since = |message: &Message| match message.memory {
            Memory::Reserved { since, .. } => Some(since),
            _ => None,
        };
        let since = self.messages.iter().filter_map(since);
        Some(Reserved { since: since.clone().min()?, messages: since.count() as u32 })
    }

    /// A message begins.
    ///
    /// # Errors
    ///
    /// What a correct peer never sends, as the reason why the connection is closed.
    pub(super) fn on_begin(&mut self, number: u32, length: u64, waits: bool) -> Result<(), String> {
        if number != self.next_number {
            return Err(format!("it began message {number}, and the next one is {}", self.next_number));
        }
        let fits = usize::try_from(length).ok().filter(|length| *length <= self.max_message_size);
        let Some(length) = fits else {
            return Err(format!(
                "it announced a message of {length} bytes; the agreed limit is {}",
                self.max_message_size
            ));
        };
        // They would be many.
        if length <= LARGEST_WHOLE_PAYLOAD {
            return Err(format!(
                "it announced a message of {length} bytes in chunks, and one of up to {LARGEST_WHOLE_PAYLOAD} comes in one frame"
            ));
        }
        if length > RESERVED_ABOVE && !waits {
            return Err(format!("it announced a message of {length} bytes and did not want to wait for memory"));
        }
        self.next_number = number.wrapping_add(1);
        let (bytes, began) = (Vec::new(), Instant::now());
        let mut message = Message { number, length, began, bytes, memory: Memory::NotNeeded };
        if waits {
            if self.reserving == MOST_RESERVING {
                return Err(format!("it began more than {MOST_RESERVING} large messages at once"));
            }
            self.reserving += 1;
            message.memory = match &self.memory {
                None => Memory::reserved(None),
                Some(memory) => match memory.try_reserve(length) {
                    Some(reservation) => Memory::reserved(Some(reservation)),
                    None => Memory::Pending(memory.reserve(length)),
                },
            };
        } else {
            if self.unreserved_bytes + length > MOST_UNRESERVED {
                return Err(format!("it began messages of more than {MOST_UNRESERVED} bytes at once"));
            }
            self.unreserved_bytes += length;
        }
        self.messages.push(message);
        Ok(())
    }

    /// A chunk of this many bytes begins.
    ///
    /// # Errors
    ///
    /// As [`on_begin`](Self::on_begin).
    pub(super) fn on_chunk(&mut self, number: u32, length: usize) -> Result<(), String> {
        let Some(at) = self.position(number) else {
            return Err(format!("it sent a chunk of message {number}, which has not begun or has ended"));
        };
        let message = &self.messages[at];
        if length == 0 {
            return Err("it sent a chunk without bytes".to_owned());
        }
        if message.bytes.len() + length > message.length {
            return Err(format!("it sent more than the {} bytes of a message that it had announced", message.length));
        }
        if message.bytes.len() + length > message.allowed() {
            return Err(format!("it sent more than {LARGEST_CHUNK} bytes of a message that was not accepted"));
        }
        self.chunk = Some(Chunk { at, left: length });
        Ok(())
    }

    /// The rest of a message does not come.
    ///
    /// # Errors
    ///
    /// As [`on_begin`](Self::on_begin).
    pub(super) fn on_abandon(&mut self, number: u32) -> Result<(), String> {
        let Some(at) = self.position(number) else {
            return Err(format!("it abandoned message {number}, which has not begun or has ended"));
        };
        self.remove(at);
        self.abandoned.as_mut().map_or(Ok(()), FrameRate::count)
    }

    /// Looks whether messages have got the memory that they wait for.
    pub(super) fn poll_memory(&mut self, cx: &mut Context<'_>) {
        for message in &mut self.messages {
            if let Memory::Pending(pending) = &mut message.memory {
                if let Poll::Ready(reservation) = pending.poll(cx) {
                    message.memory = Memory::reserved(Some(reservation));
                }
            }
        }
    }

    /// The next message that has its memory and whose sender does not know. The sender is told then.
    pub(super) fn take_accepted(&mut self) -> Option<u32> {
        let untold = |message: &mut Message| match &mut message.memory {
            Memory::Reserved { is_told, .. } if !*is_told => {
                *is_told = true;
                Some(message.number)
            }
            _ => None,
        };
        self.messages.iter_mut().find_map(untold)
    }

    /// How many bytes of chunks were read, if the sender is to be told.
    pub(super) fn take_consumed(&mut self) -> Option<u64> {
        (self.consumed - self.told >= TELL_AFTER).then(|| {
            self.told = self.consumed;
            self.consumed
        })
    }

    /// Items of a stream were read: they count as chunks do.
    pub(super) fn on_items(&mut self, bytes: usize) {
        self.consumed += bytes as u64;
    }

    /// Takes what was read of the chunk.
    pub(super) fn take_from(&mut self, incoming: &mut BytesMut) {
        let Some(chunk) = &mut self.chunk else { return };
        let message = &mut self.messages[chunk.at];
        let count = chunk.left.min(incoming.len());
        grow(message, count);
        message.bytes.extend_from_slice(&incoming[..count]);
        incoming.advance(count);
        self.on_came(count);
    }

    /// Reads some of the rest of the chunk, and nothing behind it. Returns how many bytes came; 0 at the end of the
    /// connection.
    pub(super) fn poll_read<Io: AsyncRead + Unpin>(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(chunk) = &mut self.chunk else { return Poll::Ready(Ok(0)) };
        let message = &mut self.messages[chunk.at];
        grow(message, chunk.left);
        let count = ready!(poll_read_buf(Pin::new(io), cx, &mut (&mut message.bytes).limit(chunk.left)))?;
        self.on_came(count);
        Poll::Ready(Ok(count))
    }

    fn on_came(&mut self, count: usize) {
        if let Some(chunk) = &mut self.chunk {
            chunk.left -= count;
            self.consumed += count as u64;
        }
    }

    /// The chunk is over, if all of it has come. Returns its message if that is complete.
    pub(super) fn end_chunk(&mut self) -> Option<Complete> {
        let Chunk { at, .. } = self.chunk.take_if(|chunk| chunk.left == 0)?;
        if self.messages[at].bytes.len() < self.messages[at].length {
            return None;
        }
        let Message { bytes, began, .. } = self.remove(at);
        Some(Complete { body: bytes.into(), began })
    }

    fn position(&self, number: u32) -> Option<usize> {
        self.messages.iter().position(|message| message.number == number)
    }

    fn remove(&mut self, at: usize) -> Message {
        let message = self.messages.remove(at);
        match message.memory {
            Memory::NotNeeded => self.unreserved_bytes -= message.length,
            Memory::Pending(_) | Memory::Reserved { .. } => self.reserving -= 1,
        }
        message
    }
}

/// Makes room for this many more bytes.
fn grow(message: &mut Message, more: usize) {
    let (has, needs) = (message.bytes.capacity(), message.bytes.len() + more);
    if has < needs {
        let room = room(message.bytes.len(), message.length).max(needs);
        message.bytes.reserve_exact(room - message.bytes.len());
    }
}

/// The memory of a message of which this much has arrived: twice as much or a step more, and never more than the message.
fn room(arrived: usize, length: usize) -> usize {
    length.min(arrived.saturating_mul(2).max(arrived.saturating_add(STEP)))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const MOST: usize = 64 << 20;
    /// The length of a message that does not wait.
    const SHORT: usize = 100_000;

    fn messages(memory: Option<&Arc<IncomingMemory>>) -> IncomingMessages {
        IncomingMessages::new(memory.cloned(), MOST, Direction::NodeToMaster)
    }

    impl IncomingMessages {
        /// A chunk of this many bytes comes whole. Returns the length of its message if that is complete.
        fn chunk(&mut self, number: u32, length: usize) -> Result<Option<usize>, String> {
            self.on_chunk(number, length)?;
            self.take_from(&mut BytesMut::from(&vec![7; length][..]));
            assert!(!self.is_in_chunk() || self.chunk.as_ref().is_some_and(|chunk| chunk.left == 0));
            Ok(self.end_chunk().map(|complete| complete.body.len()))
        }

        fn accepted(&mut self) -> Vec<u32> {
            self.poll_memory(&mut Context::from_waker(Waker::noop()));
            std::iter::from_fn(|| self.take_accepted()).collect()
        }
    }

    #[test]
    fn a_buffer_has_room_for_what_arrived_and_a_step_more() {
        for (arrived, length, expected) in [
            (0, 64 << 20, STEP),
            (5, 64 << 20, STEP + 5),
            (5, 1000, 1000),
            (STEP, 64 << 20, 2 * STEP),
            (10 << 20, 64 << 20, 20 << 20),
            (40 << 20, 64 << 20, 64 << 20),
            (usize::MAX - 1, usize::MAX, usize::MAX),
        ] {
            assert_eq!(room(arrived, length), expected, "{arrived} of {length}");
        }
    }

    #[test]
    fn memory_grows_with_what_arrives_and_not_with_what_was_announced() {
        let mut messages = messages(None);
        messages.on_begin(0, MOST as u64, true).expect("may begin");
        for arrived in (STEP..MOST).step_by(STEP) {
            assert_eq!(messages.chunk(0, STEP), Ok(None));
            let memory = messages.messages[0].bytes.capacity();
            assert!(memory <= (2 * arrived).max(arrived + STEP), "{arrived} bytes have {memory}");
        }
        assert_eq!(messages.chunk(0, STEP), Ok(Some(MOST)));
        assert!(messages.is_empty() && !messages.owes_bytes());
    }

    #[test]
    fn what_no_correct_peer_sends_is_refused_with_a_sentence() {
        type Wrong = fn(&mut IncomingMessages) -> Result<(), String>;
        fn short(it: &mut IncomingMessages, number: u32) -> Result<(), String> {
            it.on_begin(number, SHORT as u64, false)
        }
        fn large(it: &mut IncomingMessages, number: u32) -> Result<(), String> {
            it.on_begin(number, MOST as u64, true)
        }
        let cases: [(Wrong, &str); 15] = [
            (|it| short(it, 1), "it began message 1, and the next one is 0"),
            (|it| short(it, 0).and_then(|()| short(it, 0)), "it began message 0, and the next one is 1"),
            (|it| it.on_begin(0, MOST as u64 + 1, true), "a message of 67108865 bytes; the agreed limit is 67108864"),
            (|it| it.on_begin(0, u64::MAX, true), "a message of 18446744073709551615 bytes; the agreed limit"),
            (
                |it| it.on_begin(0, 0, false),
                "a message of 0 bytes in chunks, and one of up to 55296 comes in one frame",
            ),
            (|it| it.on_begin(0, 55_296, true), "a message of 55296 bytes in chunks"),
            (|it| it.on_begin(0, (1 << 20) + 1, false), "1048577 bytes and did not want to wait for memory"),
            (|it| (0..9).try_for_each(|n| large(it, n)), "it began more than 8 large messages at once"),
            (|it| (0..42).try_for_each(|n| short(it, n)), "it began messages of more than 4194304 bytes at once"),
            (|it| it.on_chunk(0, 1), "a chunk of message 0, which has not begun or has ended"),
            (|it| short(it, 0).and_then(|()| it.on_chunk(0, 0)), "a chunk without bytes"),
            (|it| short(it, 0).and_then(|()| it.on_chunk(0, SHORT + 1)), "more than the 100000 bytes of a message"),
            (
                |it| {
                    large(it, 0)?;
                    it.chunk(0, LARGEST_CHUNK).expect("may come unasked");
                    it.on_chunk(0, 1)
                },
                "more than 65536 bytes of a message that was not accepted",
            ),
            (|it| it.on_abandon(0), "it abandoned message 0, which has not begun or has ended"),
            (
                |it| {
                    short(it, 0)?;
                    it.chunk(0, SHORT).expect("completes it");
                    it.on_chunk(0, 1)
                },
                "which has not begun or has ended",
            ),
        ];
        for (wrong, expected) in cases {
            let memory = IncomingMemory::new(MOST);
            let _taken = memory.try_reserve(MOST);
            let error = wrong(&mut messages(Some(&memory))).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_message_that_is_abandoned_or_complete_makes_room() {
        let memory = IncomingMemory::new(MOST);
        let mut messages = messages(Some(&memory));
        messages.on_begin(0, 50 << 20, true).expect("may begin");
        messages.on_begin(1, 40 << 20, true).expect("may begin");
        assert_eq!(messages.accepted(), [0]);
        assert_eq!(messages.accepted(), [0; 0], "its sender knows");
        assert_eq!(messages.reserved().map(|reserved| reserved.messages), Some(1));
        messages.chunk(1, LARGEST_CHUNK).expect("may come unasked");
        messages.on_abandon(0).expect("has begun");
        assert_eq!(messages.accepted(), [1]);
        messages.on_abandon(1).expect("has begun");
        assert!(messages.reserved().is_none() && messages.is_empty());
        assert!(memory.try_reserve(MOST).is_some());
        for number in 2..100 {
            messages.on_begin(number, 1 << 20, false).expect("may begin after the others");
            for _ in 0..15 {
                assert_eq!(messages.chunk(number, 1 << 16), Ok(None));
            }
            assert_eq!(messages.chunk(number, 1 << 16), Ok(Some(1 << 20)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_are_begun_and_abandoned_in_quick_turn_leave_nothing_and_are_limited() {
        let memory = IncomingMemory::new(MOST);
        let mut messages = messages(Some(&memory));
        let mut cycle = |number| {
            messages.on_begin(number, 2 << 20, true).expect("may begin");
            messages.on_abandon(number)
        };
        (0..10_000).for_each(|number| assert_eq!(cycle(number), Ok(())));
        let error = cycle(10_000).expect_err("is a flood");
        assert!(error.contains("more than 10000 frames that abandon messages within 1s"), "{error}");
        assert!(messages.is_empty() && messages.take_accepted().is_none());
        assert!(memory.try_reserve(MOST).is_some());
    }

    #[test]
    fn a_peer_owes_no_bytes_of_a_message_that_was_not_accepted() {
        let memory = IncomingMemory::new(MOST);
        let taken = memory.try_reserve(MOST);
        let mut messages = messages(Some(&memory));
        messages.on_begin(0, 2 << 20, true).expect("may begin");
        assert!(messages.owes_bytes(), "its first chunk");
        messages.chunk(0, LARGEST_CHUNK).expect("may come unasked");
        assert!(!messages.owes_bytes());
        drop(taken);
        assert_eq!(messages.accepted(), [0]);
        assert!(messages.owes_bytes());
    }
}
