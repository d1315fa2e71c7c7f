//! Puts items into a pipe.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::codec::EncodeItem;
use crate::{
    config::ValueLimits,
    error::CodecError,
    service::{panics::caught, wait::block_on},
    wire::{
        codec::Encoder,
        streams::{Closed, ItemPipe, Parts},
    },
};

/// Puts the items of one stream into its pipe.
#[derive(Debug)]
pub(super) struct ItemSender<I> {
    pipe: Arc<ItemPipe>,
    encoder: Encoder,
    encode: EncodeItem<I>,
    /// The most bytes of an item.
    limit: usize,
}

/// Why an item was not put in.
#[derive(Debug, PartialEq)]
pub(super) enum NotPut {
    Encode(CodecError),
    TooLarge { size: u64, limit: u64 },
    Panicked(String),
}

/// The bytes in front of an item.
const LENGTH: usize = 4;

impl<I> ItemSender<I> {
    pub(super) fn new(pipe: Arc<ItemPipe>, limits: ValueLimits, encode: EncodeItem<I>) -> Self {
        // The length has four bytes.
        let limit = limits.bytes.min(u32::MAX as usize);
        let encoder = Encoder::new(ValueLimits { bytes: limit.saturating_add(LENGTH), depth: limits.depth });
        Self { pipe, encoder, encode, limit }
    }

    pub(super) fn pipe(&self) -> &Arc<ItemPipe> {
        &self.pipe
    }

    /// Waits until an item may be put in.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.pipe.poll_room(cx)
    }

    /// Whether an item may be put in now.
    pub(super) fn has_room(&self) -> bool {
        matches!(self.pipe.poll_room(&mut Context::from_waker(std::task::Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Blocks the thread until an item may be put in, and lends its slot meanwhile.
    pub(super) fn wait_for_room(&self) -> Result<(), Closed> {
        match self.pipe.poll_room(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(room) => room,
            Poll::Pending => block_on(std::future::poll_fn(|cx| self.pipe.poll_room(cx))),
        }
    }

    /// Puts an item in. Room was waited for before.
    pub(super) fn put(&mut self, item: &I) -> Result<(), NotPut> {
        self.encoder.clear();
        let mark = self.encoder.mark();
        self.encoder.put_raw(&[0; LENGTH]);
        let encoder = &mut self.encoder;
        // The user's `Serialize` may panic.
        caught(std::panic::AssertUnwindSafe(|| (self.encode)(item, encoder)))
            .map_err(NotPut::Panicked)?
            .map_err(NotPut::Encode)?;
        let size = self.encoder.size() - LENGTH as u64;
        if size > self.limit as u64 {
            return Err(NotPut::TooLarge { size, limit: self.limit as u64 });
        }
        self.encoder.replace(mark, &(size as u32).to_le_bytes());
        let encoder = &mut self.encoder;
        self.pipe.put_item(|parts| {
            encoder.drain_into(
                parts,
                |parts: &mut Parts<'_>, bytes| parts.copy(bytes),
                |parts, bytes| {
                    parts.append(bytes);
                },
            );
        });
        Ok(())
    }
}
