//! A large frame while it comes in: memory is taken as bytes arrive, and not because they were announced.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::{
    budget::{Budget, LENT_ABOVE, Loan, Wait},
    frame::{FRAME_HEADER, Kind},
};

/// A buffer grows by this much at least.
const STEP: usize = 64 * 1024;

/// A frame in memory of its own, so that nothing else comes to lie behind it.
pub(crate) struct Large {
    kind: Kind,
    /// Bytes of the frame, header included.
    whole: usize,
    bytes: Vec<u8>,
    loan: Credit,
}

/// What a frame has to have before it grows beyond its first step.
enum Credit {
    NotNeeded,
    Needed(Arc<Budget>),
    Awaited(Wait),
    Lent(#[allow(dead_code, reason = "held to be dropped")] Loan),
}

/// What comes of a try to read more.
pub(crate) enum Read {
    /// This many bytes came; none at the end of the connection.
    Came(usize),
    /// The memory that it waited for is there.
    MayGoOn,
}

impl Large {
    /// A frame that begins with these bytes.
    pub(crate) fn new(kind: Kind, whole: usize, begun: &BytesMut, budget: Option<&Arc<Budget>>) -> Self {
        let mut bytes = Vec::new();
        bytes.reserve_exact(room(begun.len(), whole));
        bytes.extend_from_slice(begun);
        let loan = match budget {
            Some(budget) if whole > LENT_ABOVE => Credit::Needed(Arc::clone(budget)),
            _ => Credit::NotNeeded,
        };
        Self { kind, whole, bytes, loan }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.bytes.len() == self.whole
    }

    /// Bytes that have arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it waits for memory that others have.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.loan, Credit::Awaited(_))
    }

    /// Whether it has memory that others may wait for.
    pub(crate) fn has_loan(&self) -> bool {
        matches!(self.loan, Credit::Lent(_))
    }

    /// Reads some of what is left, and nothing beyond.
    pub(crate) fn poll_read<Io: AsyncRead + Unpin>(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Read>> {
        if self.bytes.len() == self.bytes.capacity() {
            let waited = self.waits();
            ready!(self.poll_loan(cx));
            self.bytes.reserve_exact(room(self.bytes.len(), self.whole) - self.bytes.len());
            if waited {
                return Poll::Ready(Ok(Read::MayGoOn));
            }
        }
        // The allocator may have given more than was asked for.
        let left = self.whole.min(self.bytes.capacity()) - self.bytes.len();
        poll_read_buf(Pin::new(io), cx, &mut (&mut self.bytes).limit(left)).map_ok(Read::Came)
    }

    fn poll_loan(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.loan = match &mut self.loan {
                Credit::NotNeeded | Credit::Lent(_) => return Poll::Ready(()),
                Credit::Needed(budget) => {
                    // Of its body, so that as many fit as the settings say.
                    let bytes = self.whole - FRAME_HEADER;
                    match budget.lend(bytes) {
                        Some(loan) => Credit::Lent(loan),
                        None => Credit::Awaited(budget.wait(bytes)),
                    }
                }
                Credit::Awaited(wait) => Credit::Lent(ready!(wait.poll(cx))),
            };
        }
    }

    /// The body of the frame, which is complete.
    pub(crate) fn into_body(self) -> (Kind, Bytes) {
        let mut frame = Bytes::from(self.bytes);
        frame.advance(FRAME_HEADER);
        (self.kind, frame)
    }
}

impl fmt::Debug for Large {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arrived, whole) = (self.arrived(), self.whole);
        f.debug_struct("Large").field("arrived", &arrived).field("whole", &whole).finish_non_exhaustive()
    }
}

/// The memory for a frame of which this much has arrived: twice that, or a step more, and never more than the frame.
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

    /// Reads until nothing comes any more.
    fn read(large: &mut Large, peer: &mut Peer) {
        while !large.is_complete() && large.poll_read(peer, &mut Context::from_waker(Waker::noop())).is_ready() {}
    }

    #[test]
    fn room_is_made_for_what_arrived_and_a_step_more() {
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
    fn memory_grows_with_what_arrives() {
        let whole = 64 << 20;
        let mut large = Large::new(Kind::Response, whole, &BytesMut::from(&[0; FRAME_HEADER][..]), None);
        let mut peer = Peer(0);
        for more in [1, 1000, STEP, 1 << 20, 10 << 20, 30 << 20, whole] {
            peer.0 = more;
            read(&mut large, &mut peer);
            let (arrived, memory) = (large.arrived(), large.bytes.capacity());
            assert!(memory <= (2 * arrived).max(arrived + STEP), "{arrived} bytes have {memory}");
        }
        assert!(large.is_complete());
        assert!(peer.0 > 0, "what lies behind the frame was not read");
        assert_eq!(large.into_body().1.len(), whole - FRAME_HEADER);
    }

    #[test]
    fn a_large_frame_stops_at_its_first_step_until_there_is_memory_for_all_of_it() {
        let (budget, whole) = (Budget::new(64 << 20), 40 << 20);
        let begun = BytesMut::from(&[0; FRAME_HEADER][..]);
        let mut frames: Vec<_> = (0..2).map(|_| Large::new(Kind::Response, whole, &begun, Some(&budget))).collect();
        let mut second = frames.pop().expect("there are two");
        let mut first = frames.pop().expect("there are two");
        read(&mut first, &mut Peer(30 << 20));
        read(&mut second, &mut Peer(30 << 20));
        assert_eq!((first.arrived(), first.has_loan()), ((30 << 20) + FRAME_HEADER, true));
        assert!(second.waits() && second.bytes.capacity() <= STEP + FRAME_HEADER);
        // One that is small goes on meanwhile.
        let mut small = Large::new(Kind::Response, LENT_ABOVE, &begun, Some(&budget));
        read(&mut small, &mut Peer(usize::MAX));
        assert!(small.is_complete());
        drop(first);
        read(&mut second, &mut Peer(usize::MAX));
        assert!(second.is_complete() && second.has_loan());
    }
}
