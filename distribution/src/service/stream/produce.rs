//! Runs a handler that returns a stream.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;

use super::{
    codec::EncodeItem,
    sender::{ItemSender, NotPut},
};
use crate::{
    config::ValueLimits,
    service::{panics, wait::block_on},
    wire::{
        Outcome,
        streams::{Closed, ItemPipe},
    },
};

/// After this many items a producer lets other tasks run.
const ITEMS_IN_A_ROW: u32 = 64;

/// Where the items of a handler go.
#[derive(Debug)]
pub struct Items<I> {
    pipe: Arc<ItemPipe>,
    limits: ValueLimits,
    encode: EncodeItem<I>,
}

/// How a handler that returns a stream has ended: with this many bytes, or without an end.
#[derive(Debug)]
pub struct Produced(pub(crate) Result<u64, Outcome>);

impl<I> Items<I> {
    pub(crate) fn new(pipe: Arc<ItemPipe>, limits: ValueLimits, encode: EncodeItem<I>) -> Self {
        Self { pipe, limits, encode }
    }

    /// Runs an iterator to its end. Blocks while its items are not wanted, and lends the slot meanwhile.
    pub fn iterate(self, items: impl Iterator<Item = I>) -> Produced {
        let Self { pipe, limits, encode } = self;
        let mut sender = ItemSender::new(Arc::clone(&pipe), limits, encode);
        for_each(&mut sender, items, &pipe)
    }

    /// Polls a stream to its end. Waits while its items are not wanted.
    pub async fn poll(self, items: impl Stream<Item = I>) -> Produced {
        let Self { pipe, limits, encode } = self;
        let mut sender = ItemSender::new(Arc::clone(&pipe), limits, encode);
        let mut items = pin!(items);
        let mut in_row = 0;
        loop {
            let room = std::future::poll_fn(|cx| sender.poll_room(cx)).await;
            if let Err(Closed) = room {
                return closed(&pipe);
            }
            let next = std::future::poll_fn(|cx| poll_open(&pipe, cx, |cx| items.as_mut().poll_next(cx)));
            match next.await {
                Err(Closed) => return closed(&pipe),
                Ok(None) => break,
                Ok(Some(item)) => {
                    if let Err(outcome) = sender.put(&item).map_err(outcome) {
                        return Produced(Err(outcome));
                    }
                }
            }
            in_row += 1;
            if in_row % ITEMS_IN_A_ROW == 0 {
                tokio::task::yield_now().await;
            }
        }
        // The response must not overtake the items.
        match std::future::poll_fn(|cx| pipe.poll_all_taken(cx)).await {
            Ok(()) => Produced(Ok(pipe.put())),
            Err(Closed) => closed(&pipe),
        }
    }
}

fn for_each<I>(sender: &mut ItemSender<I>, items: impl Iterator<Item = I>, pipe: &Arc<ItemPipe>) -> Produced {
    let mut items = items;
    loop {
        // Before the item is made: a consumer that stops has the window and one item made for it, and no more.
        if let Err(Closed) = sender.wait_for_room() {
            return closed(pipe);
        }
        let Some(item) = items.next() else { break };
        if let Err(outcome) = sender.put(&item).map_err(outcome) {
            return Produced(Err(outcome));
        }
    }
    // Not needed while the last items wait to be read.
    drop(items);
    // The response must not overtake the items.
    match block_on(std::future::poll_fn(|cx| pipe.poll_all_taken(cx))) {
        Ok(()) => Produced(Ok(pipe.put())),
        Err(Closed) => closed(pipe),
    }
}

/// Polls something as long as the pipe is open.
fn poll_open<T>(
    pipe: &ItemPipe,
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<Result<T, Closed>> {
    match pipe.poll_closed(cx) {
        Poll::Ready(closed) => Poll::Ready(Err(closed)),
        Poll::Pending => poll(cx).map(Ok),
    }
}

/// How a handler ends whose items nobody wants any more.
fn closed(pipe: &ItemPipe) -> Produced {
    Produced(Err(match pipe.is_broken() {
        true => Outcome::Lost("the connection broke while its items were on their way".to_owned()),
        false => Outcome::Stopped,
    }))
}

fn outcome(error: NotPut) -> Outcome {
    match error {
        NotPut::Encode(error) => Outcome::Encode(panics::cut(error.to_string())),
        NotPut::TooLarge { size, limit } => Outcome::TooLarge { size, limit },
        NotPut::Panicked(message) => Outcome::Panicked(message),
    }
}
