//! A stream as the last argument of a method, at both ends.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt, future::BoxFuture};

use super::{
    codec::{DecodeItem, EncodeItem},
    receiver::{ItemReceiver, Next},
    sender::{ItemSender, NotPut},
};
use crate::{
    config::ValueLimits,
    error::{CallError, CallIdentity, CodecError, Part},
    service::{panics, wait::block_on},
    wire::{
        Outcome,
        streams::{Closed, ItemPipe},
    },
};

/// What reading a stream of arguments panics with once its call is over.
const READ_TOO_LATE: &str = "the stream of an argument was read after the handler of its call had returned, or the call was \
     cancelled. Read it in the handler, or wait there for what reads it";

/// After this many items a producer lets other tasks run.
const ITEMS_IN_A_ROW: u32 = 64;

/// A stream as the last argument of a method.
///
/// A caller makes one of a stream or an iterator, and the method's handler gets its items as they come. An async handler
/// uses it as a [`Stream`], with the methods of `futures::StreamExt`; a compute handler iterates over it, which blocks for
/// the next item and lends the slot meanwhile:
///
/// ```
/// use distribution::{InProcess, Streaming, service};
///
/// #[service]
/// pub trait Sums {
///     /// The sum of all values.
///     fn sum(&self, values: Streaming<u64>) -> u64;
/// }
///
/// struct Adder;
///
/// impl Sums for Adder {
///     fn sum(&self, values: Streaming<u64>) -> u64 {
///         values.into_iter().sum()
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let direct = InProcess::new().serve(SumsServer::new(Adder));
/// let sums = SumsClient::new(&direct);
/// assert_eq!(sums.sum(Streaming::from_iter(1..=100)).await?, 5050);
/// assert_eq!(sums.sum(Streaming::new(futures::stream::iter([1, 2, 3]))).await?, 6);
/// # Ok(()) }
/// ```
///
/// The caller's stream is polled, or its iterator run, when the handler has started, and only as far as the handler has
/// asked for: 64 KiB ahead of it at first, and more if the way between them is long. It is dropped when the call ends, or
/// when the handler drops its end.
///
/// A source that can fail, such as a file, sends `Result` items (`Streaming<Result<Bytes, String>>`), so that the handler does
/// not take a failure for the end.
///
/// It belongs to the handler: a task or thread that goes on with it when the handler has returned panics.
///
/// If the caller goes away before the end of the stream, the handler ends too, and does not take what it has for all: an
/// async handler is dropped, and the stack of a compute handler unwinds, as with a panic but without a message.
pub struct Streaming<T>(Repr<T>);

enum Repr<T> {
    Stream(Pin<Box<dyn Stream<Item = T> + Send>>),
    Iterator(Box<dyn Iterator<Item = T> + Send>),
    Received(ReceivedItems<T>),
}

impl<T> Streaming<T> {
    /// Sends the items of this stream. It is polled on the runtime that the call is sent from.
    pub fn new(stream: impl Stream<Item = T> + Send + 'static) -> Self {
        Self(Repr::Stream(Box::pin(stream)))
    }

    /// Sends the items of this iterator. It may block, for instance to read a file: it is run on a thread for blocking work.
    ///
    /// When the call ends while `next` blocks, the iterator is dropped once `next` has returned, and the item is lost. The end of
    /// the runtime waits for that too. Use [`new`](Self::new) for what may block for long, such as standard input or a channel.
    #[allow(clippy::should_implement_trait, reason = "`FromIterator` cannot ask for `Send`")]
    pub fn from_iter<I>(items: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self(Repr::Iterator(Box::new(items.into_iter())))
    }

    pub(crate) fn received(argument: ArgumentStream, decode: DecodeItem<T>) -> Self {
        let ArgumentStream { receiver, failure } = argument;
        Self(Repr::Received(ReceivedItems { receiver, failure, decode, is_open: false, has_ended: false }))
    }
}

impl<T: Send + 'static> Streaming<T> {
    pub(crate) fn into_source(self, encode: EncodeItem<T>) -> ArgumentSource {
        ArgumentSource(Mutex::new(Box::new(move |pipe, limits| {
            let sender = ItemSender::new(pipe, limits, encode);
            match self.0 {
                Repr::Iterator(items) => Box::pin(pump_iterator(sender, items)),
                other => Box::pin(pump_stream(sender, Self(other))),
            }
        })))
    }
}

impl<T> Stream for Streaming<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match &mut self.0 {
            Repr::Stream(stream) => stream.as_mut().poll_next(cx),
            Repr::Iterator(items) => Poll::Ready(items.next()),
            Repr::Received(received) => match ready!(received.poll_next(cx)) {
                Ok(item) => Poll::Ready(item),
                // The handler is dropped: it must not take this for the end.
                Err(Failed) => Poll::Pending,
            },
        }
    }
}

// What is pinned is in a box.
impl<T> Unpin for Streaming<T> {}

/// Blocks for each item. See [`Streaming`].
impl<T> IntoIterator for Streaming<T> {
    type Item = T;
    type IntoIter = StreamingIter<T>;

    fn into_iter(self) -> StreamingIter<T> {
        StreamingIter(self)
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}

/// The items of a [`Streaming`], for a compute handler. Blocks the thread for each, and lends its slot meanwhile.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked for items"]
pub struct StreamingIter<T>(Streaming<T>);

impl<T> Iterator for StreamingIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0.0 {
            Repr::Stream(stream) => block_on(stream.next()),
            Repr::Iterator(items) => items.next(),
            Repr::Received(received) => {
                let mut context = Context::from_waker(std::task::Waker::noop());
                let next = match received.poll_next(&mut context) {
                    Poll::Ready(next) => next,
                    Poll::Pending => block_on(std::future::poll_fn(|cx| received.poll_next(cx))),
                };
                match next {
                    Ok(item) => item,
                    // The handler must not take this for the end. Nothing is printed, because no panic hook is run.
                    Err(Failed) => std::panic::resume_unwind(Box::new("the stream of its argument broke off")),
                }
            }
        }
    }
}

/// The end of a stream of arguments that a handler gets.
pub struct ArgumentStream {
    receiver: ItemReceiver,
    failure: ArgumentFailure,
}

impl fmt::Debug for ArgumentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArgumentStream")
    }
}

impl ArgumentStream {
    pub(crate) fn new(pipe: Arc<ItemPipe>, limits: ValueLimits) -> (Self, ArgumentFailure) {
        let failure = ArgumentFailure::default();
        (Self { receiver: ItemReceiver::new(pipe, limits), failure: failure.clone() }, failure)
    }
}

/// How a handler that reads a stream of arguments ends, if that has failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArgumentFailure(Arc<OnceLock<Outcome>>);

impl ArgumentFailure {
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.0.get().cloned()
    }
}

/// The items of an argument, in its handler. Dropping them tells the caller that no more are wanted.
struct ReceivedItems<T> {
    receiver: ItemReceiver,
    failure: ArgumentFailure,
    decode: DecodeItem<T>,
    /// Whether the producer may begin. Not before the first item is wanted: until then the call can be made again elsewhere.
    is_open: bool,
    has_ended: bool,
}

/// The stream has failed, and the failure is noted.
#[derive(Debug)]
struct Failed;

impl<T> ReceivedItems<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Failed>> {
        if self.has_ended {
            return Poll::Ready(Ok(None));
        }
        if self.failure.0.get().is_some() {
            return Poll::Ready(Err(Failed));
        }
        if !std::mem::replace(&mut self.is_open, true) {
            self.receiver.open();
        }
        let outcome = match ready!(self.receiver.poll_next(cx, self.decode)) {
            Next::Item(item) => return Poll::Ready(Ok(Some(item))),
            Next::End => {
                self.has_ended = true;
                return Poll::Ready(Ok(None));
            }
            Next::Undecodable(error) => Outcome::DecodeItem(error.to_string()),
            Next::TooLarge { size, limit } => {
                Outcome::DecodeItem(format!("it has {size} bytes, and the limit of the node is {limit}"))
            }
            Next::Broken => Outcome::Lost("the stream of its argument broke off".to_owned()),
            // Only what the handler has started can still be here.
            Next::Stopped => panic!("{READ_TOO_LATE}"),
        };
        let _ = self.failure.0.set(outcome);
        Poll::Ready(Err(Failed))
    }
}

impl<T> Drop for ReceivedItems<T> {
    fn drop(&mut self) {
        self.receiver.pipe().stop();
    }
}

/// A stream of arguments at its caller, before the call is sent.
///
/// Behind a lock that nobody waits for, so that a `Call` is `Sync`.
pub struct ArgumentSource(Mutex<Box<MakePump>>);

type MakePump = dyn FnOnce(Arc<ItemPipe>, ValueLimits) -> Pump + Send;

/// What moves the items of a stream of arguments into its pipe.
pub(crate) type Pump = BoxFuture<'static, Result<(), PumpError>>;

/// Why the items of an argument did not come to their end.
#[derive(Debug)]
pub(crate) struct PumpError(NotPut);

impl ArgumentSource {
    pub(crate) fn pump(self, pipe: Arc<ItemPipe>, limits: ValueLimits) -> Pump {
        (self.0.into_inner().unwrap_or_else(PoisonError::into_inner))(pipe, limits)
    }
}

impl fmt::Debug for ArgumentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArgumentSource")
    }
}

impl PumpError {
    /// The error of the call.
    pub(crate) fn into_call_error(self, call: CallIdentity) -> CallError {
        let part = Part::Item;
        match self.0 {
            NotPut::Encode(source) => CallError::Encode { call, part, source },
            NotPut::TooLarge { size, limit } => CallError::TooLarge { call, part, size, limit },
            NotPut::Panicked(message) => {
                let source = CodecError::new(format_args!("the stream of the argument panicked here: {message}"));
                CallError::Encode { call, part, source }
            }
        }
    }
}

/// Moves the items of an iterator until the end, or until nobody wants them. A thread for blocking work is taken only while
/// there is room: these are few, and a call may wait for long.
async fn pump_iterator<T: Send + 'static>(
    mut sender: ItemSender<T>,
    mut items: Box<dyn Iterator<Item = T> + Send>,
) -> Result<(), PumpError> {
    loop {
        let room = std::future::poll_fn(|cx| sender.poll_room(cx)).await;
        if let Err(Closed) = room {
            return Ok(());
        }
        let filled = tokio::task::spawn_blocking(move || fill(sender, items));
        match filled.await {
            Ok(Ok(Some(rest))) => (sender, items) = rest,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(PumpError(error)),
            // It panics nowhere, so the runtime ends.
            Err(_) => return Ok(()),
        }
    }
}

type Filled<T> = Result<Option<(ItemSender<T>, Box<dyn Iterator<Item = T> + Send>)>, NotPut>;

/// Moves items as long as there is room. Returns what is left to be moved; `None` after the end.
fn fill<T>(mut sender: ItemSender<T>, mut items: Box<dyn Iterator<Item = T> + Send>) -> Filled<T> {
    let filled = panics::caught(AssertUnwindSafe(move || {
        while sender.has_room() {
            let Some(item) = items.next() else {
                sender.pipe().finish();
                return Ok(None);
            };
            sender.put(&item)?;
        }
        Ok(Some((sender, items)))
    }));
    filled.unwrap_or_else(|message| Err(NotPut::Panicked(message)))
}

/// The same of a stream.
async fn pump_stream<T>(mut sender: ItemSender<T>, mut items: Streaming<T>) -> Result<(), PumpError> {
    let mut in_row = 0;
    loop {
        let room = std::future::poll_fn(|cx| sender.poll_room(cx)).await;
        if let Err(Closed) = room {
            return Ok(());
        }
        let item = std::future::poll_fn(|cx| {
            // It may go while the next item is awaited.
            if let Poll::Ready(Closed) = sender.pipe().poll_closed(cx) {
                return Poll::Ready(Ok(None));
            }
            match panics::caught(AssertUnwindSafe(|| items.poll_next_unpin(cx))) {
                Ok(polled) => polled.map(Ok),
                Err(message) => Poll::Ready(Err(NotPut::Panicked(message))),
            }
        });
        match item.await.map_err(PumpError)? {
            Some(item) => sender.put(&item).map_err(PumpError)?,
            None => {
                // Of a pipe that is closed this changes nothing.
                sender.pipe().finish();
                return Ok(());
            }
        }
        in_row += 1;
        if in_row % ITEMS_IN_A_ROW == 0 {
            tokio::task::yield_now().await;
        }
    }
}
