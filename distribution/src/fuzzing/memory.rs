//! A connection in memory.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end of a connection, whose other end has sent all it has and closed.
///
/// Reads and writes go in pieces of these sizes, over and over (everything at once where there are
/// none). Before each piece the connection is not ready, so that each is a new poll for the decoder. As
/// the end comes right behind the bytes, no time limit is ever waited for.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    incoming: &'a [u8],
    pieces: &'a [usize],
    turn: usize,
    ready: bool,
    pub(super) written: Vec<u8>,
}

impl<'a> Memory<'a> {
    pub(super) fn new(incoming: &'a [u8], pieces: &'a [usize]) -> Self {
        Self { incoming, pieces, turn: 0, ready: false, written: Vec::new() }
    }

    /// The size of the next piece, every other time.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.ready = !self.ready;
        if self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = self.pieces.get(self.turn % self.pieces.len().max(1));
        self.turn = self.turn.wrapping_add(1);
        Poll::Ready(piece.map_or(usize::MAX, |&piece| piece.max(1)))
    }
}

impl AsyncRead for Memory<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_piece(cx).map(|piece| {
            let (now, later) = self.incoming.split_at(piece.min(buffer.remaining()).min(self.incoming.len()));
            buffer.put_slice(now);
            self.incoming = later;
            Ok(())
        })
    }
}

impl AsyncWrite for Memory<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_piece(cx).map(|piece| {
            let before = self.written.len();
            for slice in slices {
                let room = piece - (self.written.len() - before);
                self.written.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            Ok(self.written.len() - before)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
