//! Takes items out of a pipe.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};

use super::codec::DecodeItem;
use crate::{
    config::ValueLimits,
    error::CodecError,
    wire::{
        codec::Decoder,
        incoming_memory::{PendingReservation, RESERVED_ABOVE, Reservation},
        streams::{ItemPipe, Taken},
    },
};

/// The producer hears of what was consumed after this many bytes, or when the consumer waits.
const REPORTED_AFTER: u64 = 16 * 1024;

/// The bytes in front of an item.
const LENGTH: usize = 4;

/// Takes the items of one stream out of its pipe.
pub(crate) struct ItemReceiver {
    pipe: Arc<ItemPipe>,
    /// Bytes that were taken out of the pipe; `there` of them in all.
    pieces: VecDeque<Bytes>,
    there: usize,
    /// Bytes of the items that were handed on, and those of them that the pipe does not know of.
    consumed: u64,
    unreported: u64,
    limits: ValueLimits,
    large: Option<LargeItem>,
}

/// The memory of an item that is too large to be read without a reservation.
enum LargeItem {
    Waits(PendingReservation),
    Reserved(#[allow(dead_code, reason = "held to be dropped")] Reservation),
}

/// What comes next of a stream.
#[derive(Debug, PartialEq)]
pub(crate) enum Next<I> {
    Item(I),
    /// An item cannot be decoded, and no further one is looked at.
    Undecodable(CodecError),
    TooLarge {
        size: u64,
        limit: u64,
    },
    /// That was the last one.
    End,
    /// The producer is gone, and this was not the end.
    Broken,
    /// The call is over.
    Stopped,
}

impl ItemReceiver {
    pub(crate) fn new(pipe: Arc<ItemPipe>, limits: ValueLimits) -> Self {
        Self { pipe, pieces: VecDeque::new(), there: 0, consumed: 0, unreported: 0, limits, large: None }
    }

    pub(crate) fn pipe(&self) -> &Arc<ItemPipe> {
        &self.pipe
    }

    /// The bytes of the items that were handed on.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Lets the producer of an argument begin.
    pub(crate) fn open(&self) {
        self.pipe.on_consumed(0);
    }

    pub(crate) fn poll_next<I>(&mut self, cx: &mut Context<'_>, decode: DecodeItem<I>) -> Poll<Next<I>> {
        loop {
            if let Some(length) = self.length() {
                if length > self.limits.bytes {
                    return Poll::Ready(Next::TooLarge { size: length as u64, limit: self.limits.bytes as u64 });
                }
                if self.there >= LENGTH + length {
                    return Poll::Ready(match self.take(length, decode) {
                        Ok(item) => Next::Item(item),
                        Err(error) => Next::Undecodable(error),
                    });
                }
                self.report();
                let end = self.consumed + (LENGTH + length) as u64;
                // What is here already needs no more memory.
                if length > RESERVED_ABOVE && self.pipe.put() < end {
                    ready!(self.poll_memory(cx, length));
                }
                self.pipe.require(end);
            }
            self.report();
            let before = self.pieces.len();
            match ready!(self.pipe.poll_take(cx, &mut self.pieces)) {
                Taken::Bytes => self.there += self.pieces.iter().skip(before).map(Bytes::len).sum::<usize>(),
                Taken::End if self.there > 0 => {
                    return Poll::Ready(Next::Undecodable(CodecError::new("the stream ends within an item")));
                }
                Taken::End => return Poll::Ready(Next::End),
                Taken::Broken => return Poll::Ready(Next::Broken),
                Taken::Stopped => return Poll::Ready(Next::Stopped),
            }
        }
    }

    /// Whether the next item waits for memory, so that the end of its call says nothing yet.
    pub(crate) fn waits_for_memory(&self) -> bool {
        matches!(self.large, Some(LargeItem::Waits(_)))
    }

    /// Waits until there is memory for an item of this length: its producer waits meanwhile.
    fn poll_memory(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<()> {
        if self.large.is_none() {
            let Some(memory) = self.pipe.item_memory(self.limits.bytes) else { return Poll::Ready(()) };
            self.large = Some(match memory.try_reserve(length) {
                Some(reservation) => LargeItem::Reserved(reservation),
                None => LargeItem::Waits(memory.reserve(length)),
            });
        }
        if let Some(LargeItem::Waits(pending)) = &mut self.large {
            self.large = Some(LargeItem::Reserved(ready!(pending.poll(cx))));
        }
        Poll::Ready(())
    }

    /// The length of the next item, if it is here.
    fn length(&self) -> Option<usize> {
        if self.there < LENGTH {
            return None;
        }
        if let Some(length) = self.pieces.front().and_then(|piece| piece.first_chunk().copied()) {
            return Some(u32::from_le_bytes(length) as usize);
        }
        let mut bytes = self.pieces.iter().flatten().copied();
        let mut length = [0; LENGTH];
        length.iter_mut().zip(&mut bytes).for_each(|(place, byte)| *place = byte);
        Some(u32::from_le_bytes(length) as usize)
    }

    /// Takes an item of this length, all of which is here.
    fn take<I>(&mut self, length: usize, decode: DecodeItem<I>) -> Result<I, CodecError> {
        self.skip(LENGTH);
        let depth = self.limits.depth;
        let item = match self.pieces.front() {
            Some(piece) if piece.len() >= length => decode(Decoder::of_first(piece, length, depth)),
            _ => {
                let whole = self.gather(length);
                decode(Decoder::new(&whole, depth))
            }
        };
        self.skip(length);
        self.large = None;
        self.consumed += (LENGTH + length) as u64;
        self.unreported += (LENGTH + length) as u64;
        if self.unreported >= REPORTED_AFTER {
            self.report();
        }
        item
    }

    /// Copies the next bytes, which are in several pieces, into one, and leaves them.
    fn gather(&mut self, length: usize) -> Bytes {
        let mut whole = BytesMut::with_capacity(length);
        for piece in &self.pieces {
            let part = piece.len().min(length - whole.len());
            whole.extend_from_slice(&piece[..part]);
            if whole.len() == length {
                break;
            }
        }
        whole.freeze()
    }

    fn skip(&mut self, bytes: usize) {
        self.there -= bytes;
        let mut left = bytes;
        while let Some(piece) = self.pieces.front_mut() {
            if left < piece.len() {
                piece.advance(left);
                break;
            }
            left -= piece.len();
            self.pieces.pop_front();
        }
    }

    fn report(&mut self) {
        if self.unreported > 0 {
            self.pipe.on_consumed(std::mem::take(&mut self.unreported));
        }
    }
}
