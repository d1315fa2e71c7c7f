//! A large frame that is being read: its memory grows with the bytes that arrive, and not by what was announced.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::wire::{
    frame::layout::FRAME_HEADER,
    incoming_memory::{IncomingMemory, PendingReservation, RESERVED_ABOVE, Reservation},
};

/// A buffer grows by at least this much.
const STEP: usize = 64 * 1024;

/// A frame that carries a call, in memory of its own, so that nothing else is read behind it.
pub(super) struct LargeFrame {
    /// Bytes of the frame, its header included.
    whole: usize,
    bytes: Vec<u8>,
    memory: Memory,
}

/// The reservation that a frame needs before it grows beyond its first step.
enum Memory {
    NotNeeded,
    Needed(Arc<IncomingMemory>),
    Pending(PendingReservation),
    Reserved(#[allow(dead_code, reason = "held to be dropped")] Reservation),
}

/// The result of reading more of a frame.
pub(super) enum Read {
    /// This many bytes came; 0 at the end of the connection.
    Came(usize),
    /// The memory that the frame waited for is reserved.
    MayGoOn,
}

impl LargeFrame {
    /// A frame of `whole` bytes that begins with these.
    pub(super) fn new(whole: usize, begun: &BytesMut, memory: Option<&Arc<IncomingMemory>>) -> Self {
        let mut bytes = Vec::new();
        bytes.reserve_exact(room(begun.len(), whole));
        bytes.extend_from_slice(begun);
        let memory = match memory {
            Some(memory) if whole > RESERVED_ABOVE => Memory::Needed(Arc::clone(memory)),
            _ => Memory::NotNeeded,
        };
        Self { whole, bytes, memory }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.bytes.len() == self.whole
    }

    /// Bytes that have arrived.
    pub(super) fn arrived(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it waits for memory that other frames have reserved.
    pub(super) fn waits(&self) -> bool {
        matches!(self.memory, Memory::Pending(_))
    }

    /// Whether it has reserved memory that other frames may wait for.
    pub(super) fn has_reservation(&self) -> bool {
        matches!(self.memory, Memory::Reserved(_))
    }

    /// Reads some of the rest of the frame, and nothing behind it.
    pub(super) fn poll_read<Io: AsyncRead + Unpin>(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Read>> {
        if self.bytes.len() == self.bytes.capacity() {
            let waited = self.waits();
            ready!(self.poll_memory(cx));
            self.bytes.reserve_exact(room(self.bytes.len(), self.whole) - self.bytes.len());
            if waited {
                return Poll::Ready(Ok(Read::MayGoOn));
            }
        }
        // The allocator may have given more than was asked for.
        let left = self.whole.min(self.bytes.capacity()) - self.bytes.len();
        poll_read_buf(Pin::new(io), cx, &mut (&mut self.bytes).limit(left)).map_ok(Read::Came)
    }

    fn poll_memory(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.memory = match &mut self.memory {
                Memory::NotNeeded | Memory::Reserved(_) => return Poll::Ready(()),
                Memory::Needed(memory) => {
                    // Without the header, so that as many frames of the largest size fit as the settings say.
                    let bytes = self.whole - FRAME_HEADER;
                    match memory.try_reserve(bytes) {
                        Some(reservation) => Memory::Reserved(reservation),
                        None => Memory::Pending(memory.reserve(bytes)),
                    }
                }
                Memory::Pending(pending) => Memory::Reserved(ready!(pending.poll(cx))),
            };
        }
    }

    /// The body of the frame, which is complete.
    pub(super) fn into_body(self) -> Bytes {
        let mut frame = Bytes::from(self.bytes);
        frame.advance(FRAME_HEADER);
        frame
    }
}

impl fmt::Debug for LargeFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arrived, whole) = (self.arrived(), self.whole);
        f.debug_struct("LargeFrame").field("arrived", &arrived).field("whole", &whole).finish_non_exhaustive()
    }
}

/// The memory of a frame of which this much has arrived: twice as much or a step more, and never more than the frame.
fn room(arrived: usize, whole: usize) -> usize {
    whole.min(arrived.saturating_mul(2).max(arrived.saturating_add(STEP)))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A peer that sends as many bytes as it is told.
    struct Peer(usize);

    impl AsyncRead for Peer {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let count = self.0.min(buffer.remaining());
            if count == 0 {
                return Poll::Pending;
            }
            buffer.put_bytes(7, count);
            self.0 -= count;
            Poll::Ready(Ok(()))
        }
    }

    /// Reads until nothing more comes.
    fn read(large: &mut LargeFrame, peer: &mut Peer) {
        while !large.is_complete() && large.poll_read(peer, &mut Context::from_waker(Waker::noop())).is_ready() {}
    }

    #[test]
    fn a_buffer_has_room_for_what_arrived_and_a_step_more() {
        for (arrived, whole, expected) in [
            (5, 64 << 20, STEP + 5),
            (5, 70_000, STEP + 5),
            (5, 1000, 1000),
            (STEP, 64 << 20, 2 * STEP),
            (10 << 20, 64 << 20, 20 << 20),
            (40 << 20, 64 << 20, 64 << 20),
            (usize::MAX - 1, usize::MAX, usize::MAX),
        ] {
            assert_eq!(room(arrived, whole), expected, "{arrived} of {whole}");
        }
    }

    #[test]
    fn the_memory_of_a_large_frame_grows_with_what_arrives() {
        let whole = 64 << 20;
        let mut large = LargeFrame::new(whole, &BytesMut::from(&[0; FRAME_HEADER][..]), None);
        let mut peer = Peer(0);
        for more in [1, 1000, STEP, 1 << 20, 10 << 20, 30 << 20, whole] {
            peer.0 = more;
            read(&mut large, &mut peer);
            let (arrived, memory) = (large.arrived(), large.bytes.capacity());
            assert!(memory <= (2 * arrived).max(arrived + STEP), "{arrived} bytes have {memory}");
        }
        assert!(large.is_complete());
        assert!(peer.0 > 0, "what lies behind the frame was not read");
        assert_eq!(large.into_body().len(), whole - FRAME_HEADER);
    }

    #[test]
    fn a_large_frame_stops_at_its_first_step_until_memory_for_all_of_it_is_reserved() {
        let (memory, whole) = (IncomingMemory::new(64 << 20), 40 << 20);
        let begun = BytesMut::from(&[0; FRAME_HEADER][..]);
        let mut frames: Vec<_> = (0..2).map(|_| LargeFrame::new(whole, &begun, Some(&memory))).collect();
        let mut second = frames.pop().expect("there are two");
        let mut first = frames.pop().expect("there are two");
        read(&mut first, &mut Peer(30 << 20));
        read(&mut second, &mut Peer(30 << 20));
        assert_eq!((first.arrived(), first.has_reservation()), ((30 << 20) + FRAME_HEADER, true));
        assert!(second.waits() && second.bytes.capacity() <= STEP + FRAME_HEADER);
        // A small frame goes on meanwhile.
        let mut small = LargeFrame::new(RESERVED_ABOVE, &begun, Some(&memory));
        read(&mut small, &mut Peer(usize::MAX));
        assert!(small.is_complete());
        drop(first);
        read(&mut second, &mut Peer(usize::MAX));
        assert!(second.is_complete() && second.has_reservation());
    }
}
