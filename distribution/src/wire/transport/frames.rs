//! The write buffer of a connection: whole frames, and the permission that is asked before some of them are written.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    task::{Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::pending_sends::PendingSends;
use crate::{
    error::CodecError,
    wire::{
        frame::{
            kind::{Control, FrameKind},
            layout::{CHUNK_HEADER, FRAME_HEADER, ITEMS_HEADER, encode_frame},
        },
        payload::Payload,
        send_permit::SendPermit,
        streams::StreamKey,
    },
};

/// A payload of at least this size is queued as it is. A smaller one is copied behind its header, which costs less than one
/// more slice in the vectored write.
const QUEUED_AS_IT_IS: usize = 8 * 1024;

/// With this many bytes unwritten no more frames are taken. It is enough to keep a socket busy.
const WRITE_BUFFER: usize = 512 * 1024;

/// Chunks are added while fewer bytes than this are unwritten, so that there is always room for frames.
const CHUNKS_BELOW: usize = 256 * 1024;

/// One write offers at most this many bytes. A request counts as sent before a write that may complete it, and still does if
/// the write took less, until the connection ends.
const WRITE_AT_ONCE: usize = 256 * 1024;

/// One vectored write offers at most this many slices. Linux takes up to 1024; beyond some dozens nothing is gained.
const WRITE_SLICES: usize = 64;

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
    /// Whether chunks may be added.
    pub(super) fn is_low(&self) -> bool {
        self.unwritten < CHUNKS_BELOW
    }

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
    pub(super) fn end(&self) -> u64 {
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
    pub(super) fn push_chunk(&mut self, number: u32, parts: &mut VecDeque<Bytes>, length: usize) {
        self.tail.put_u32_le((CHUNK_HEADER + length) as u32);
        self.tail.put_u8(FrameKind::Chunk as u8);
        self.tail.put_u32_le(number);
        self.unwritten += FRAME_HEADER + CHUNK_HEADER + length;
        let mut left = length;
        while let Some(part) = parts.front_mut().filter(|_| left > 0) {
            let piece = part.split_to(part.len().min(left));
            if part.is_empty() {
                parts.pop_front();
            }
            left -= piece.len();
            self.push_piece(piece);
        }
    }

    /// Appends a frame with the next bytes of a stream.
    pub(super) fn push_items(&mut self, (call, attempt): StreamKey, parts: &mut VecDeque<Bytes>, length: usize) {
        self.tail.put_u32_le((ITEMS_HEADER + length) as u32);
        self.tail.put_u8(FrameKind::Items as u8);
        self.tail.put_u64_le(call);
        self.tail.put_u32_le(attempt);
        self.unwritten += FRAME_HEADER + ITEMS_HEADER + length;
        parts.drain(..).for_each(|part| self.push_piece(part));
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
