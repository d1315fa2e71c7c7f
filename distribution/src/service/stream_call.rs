//! `StreamCall`: what a client returns for a method that returns a stream.

use std::{
    convert::Infallible,
    fmt,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream::FusedStream};

use super::{
    call::Call,
    dispatcher::Dispatcher,
    state::{CallState, RawAnswer},
    stream::{DecodeItem, ItemReceiver, Next},
    wait::block_on,
};
use crate::{
    error::{CallError, GoneReason, Part},
    id::{CallId, MethodName, NodeId},
    wire::codec::Decoder,
};

/// A call of a method that returns a stream: a [`Stream`] of `Result<T, CallError<E>>`.
///
/// It has the options of a [`Call`], and is sent when it is polled for the first time, or with [`send`](Self::send). Options that are
/// set after that have no effect. Items come as the
/// consumer takes them: the handler is at most 64 KiB of items ahead, and more only if the way between them is long, up to
/// 64 MiB. Dropping it cancels the call, and ends the handler.
///
/// If the method's items are results, an `Err` of the handler comes as [`CallError::Handler`], and the stream goes on behind it. Every
/// other error is the last item. The items before it are whole, in order and without a gap.
///
/// ```
/// use distribution::{InProcess, service};
///
/// #[service]
/// pub trait Numbers {
///     /// The squares of the numbers below `end`.
///     fn squares(&self, end: u64) -> impl Iterator<Item = u64> + Send;
/// }
///
/// struct Calculator;
///
/// impl Numbers for Calculator {
///     fn squares(&self, end: u64) -> impl Iterator<Item = u64> + Send {
///         (0..end).map(|number| number * number)
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let direct = InProcess::new().serve(NumbersServer::new(Calculator));
/// let numbers = NumbersClient::new(&direct);
/// let mut squares = numbers.squares(4);
/// while let Some(square) = squares.next().await {
///     println!("{}", square?);
/// }
/// assert_eq!(numbers.squares(4).try_collect::<Vec<_>>().await?, [0, 1, 4, 9]);
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing until it is polled: use `next`, or one of the methods that read all of it"]
pub struct StreamCall<T, E = Infallible> {
    progress: Progress,
    decode: DecodeItem<Result<T, E>>,
}

enum Progress {
    /// It was not sent yet.
    Made(Box<Call<u64>>),
    Sent(Box<Sent>),
    /// It was not submitted, because of this error.
    Refused(MethodName, Box<CallError>),
    /// The last item, or error, was taken.
    Ended(MethodName, Option<CallId>),
}

/// A call that was sent. Cancelled when dropped before its end.
struct Sent {
    state: Arc<CallState>,
    dispatcher: Arc<dyn Dispatcher>,
    receiver: ItemReceiver,
    /// How the call has ended, and the items that came before are still to be taken.
    end: Option<Result<RawAnswer, CallError>>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.state.streams.stop();
        if self.end.is_none() && !self.state.has_ended() {
            self.dispatcher.cancel(&self.state);
            self.state.on_abandoned();
        }
    }
}

impl<T, E> StreamCall<T, E> {
    pub(crate) fn new(call: Call<u64>, decode: DecodeItem<Result<T, E>>) -> Self {
        Self { progress: Progress::Made(Box::new(call)), decode }
    }

    /// The method that is called.
    pub fn method(&self) -> MethodName {
        match &self.progress {
            Progress::Made(call) => call.method(),
            Progress::Sent(sent) => sent.state.method.name().clone(),
            Progress::Refused(method, _) | Progress::Ended(method, _) => method.clone(),
        }
    }

    /// The call's number at its master, once it was sent.
    pub fn id(&self) -> Option<CallId> {
        match &self.progress {
            Progress::Made(_) | Progress::Refused(..) => None,
            Progress::Sent(sent) => sent.state.id(),
            Progress::Ended(_, id) => *id,
        }
    }

    /// Changes the call, as long as it was not sent.
    fn set(mut self, change: impl FnOnce(Call<u64>) -> Call<u64>) -> Self {
        if let Progress::Made(call) = self.progress {
            self.progress = Progress::Made(Box::new(change(*call)));
        }
        self
    }

    /// Ends the stream as [`CallError::TimedOut`] if its end has not come after this time, counted from when the call is sent: the
    /// time that the consumer takes is included. See [`Call::timeout`].
    pub fn timeout(self, time: Duration) -> Self {
        self.set(|call| call.timeout(time))
    }

    /// Sends the call to this node and to no other. See [`Call::on`].
    pub fn on(self, node: impl Into<NodeId>) -> Self {
        self.set(|call| call.on(node))
    }

    /// Sends the call only to nodes with this label. See [`Call::label`].
    pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(|call| call.label(key, value))
    }

    /// Sends calls with the same key to the same node. See [`Call::affinity`].
    pub fn affinity(self, key: &(impl Hash + ?Sized)) -> Self {
        self.set(|call| call.affinity(key))
    }

    /// How often the call may be sent in all, if nodes are lost before an item has come. See [`Call::attempts`].
    ///
    /// A stream that has yielded an item is never repeated.
    pub fn attempts(self, most: u32) -> Self {
        self.set(|call| call.attempts(most))
    }

    /// Sends the call to another node if its handler panics before an item has come. See [`Call::retry_panics`].
    pub fn retry_panics(self) -> Self {
        self.set(Call::retry_panics)
    }

    /// Sends this text along. See [`Call::metadata`].
    pub fn metadata(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(|call| call.metadata(key, value))
    }

    /// Sends the call now, and not only when the stream is polled for the first time.
    pub fn send(mut self) -> Self {
        self.begin();
        self
    }

    fn begin(&mut self) {
        let Progress::Made(call) = &mut self.progress else { return };
        let (method, limits) = (call.method(), call.dispatcher.argument_limits());
        let Progress::Made(call) = std::mem::replace(&mut self.progress, Progress::Ended(method.clone(), None)) else {
            return;
        };
        match call.submit() {
            Ok((state, dispatcher)) => {
                // The signature says that there are items.
                let Some(items) = state.streams.items.clone() else { return };
                let receiver = ItemReceiver::new(items, limits);
                self.progress = Progress::Sent(Box::new(Sent { state, dispatcher, receiver, end: None }));
            }
            Err(error) => self.progress = Progress::Refused(method, Box::new(error)),
        }
    }

    /// The next item; `None` after the last one.
    ///
    /// # Errors
    ///
    /// [`CallError::Handler`] with an error that the handler yielded, after which the stream goes on. Every other error is the last
    /// item.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no item.
    pub async fn next(&mut self) -> Option<Result<T, CallError<E>>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// The next item; `Ok(None)` after the last one.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no item.
    pub async fn try_next(&mut self) -> Result<Option<T>, CallError<E>> {
        self.next().await.transpose()
    }

    /// All items, each a value or an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn collect<C: Default + Extend<Result<T, CallError<E>>>>(mut self) -> C {
        let mut all = C::default();
        while let Some(item) = self.next().await {
            all.extend([item]);
        }
        all
    }

    /// All items, or the first error, which cancels the call.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn try_collect<C: Default + Extend<T>>(mut self) -> Result<C, CallError<E>> {
        let mut all = C::default();
        while let Some(item) = self.try_next().await? {
            all.extend([item]);
        }
        Ok(all)
    }

    /// Calls `each` with each item, in order. The next one is taken when it has returned.
    ///
    /// # Errors
    ///
    /// The first error, which cancels the call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn for_each<F: Future<Output = ()>>(mut self, mut each: impl FnMut(T) -> F) -> Result<(), CallError<E>> {
        while let Some(item) = self.try_next().await? {
            each(item).await;
        }
        Ok(())
    }

    /// An iterator that blocks the current thread for each item; for code that is not async. In a compute handler it lends the slot
    /// meanwhile.
    ///
    /// # Panics
    ///
    /// `next` panics where [`Call::wait`] does.
    pub fn iter(self) -> StreamIter<T, E> {
        StreamIter(self)
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError<E>>>> {
        self.begin();
        let sent = match &mut self.progress {
            Progress::Sent(sent) => sent,
            Progress::Refused(method, _) => {
                let ended = Progress::Ended(method.clone(), None);
                let Progress::Refused(_, error) = std::mem::replace(&mut self.progress, ended) else {
                    return Poll::Ready(None);
                };
                return Poll::Ready(Some(Err(error.widen())));
            }
            Progress::Made(_) | Progress::Ended(..) => return Poll::Ready(None),
        };
        let polled = sent.poll_item(cx, self.decode);
        if let Poll::Ready(item) = &polled {
            if !matches!(item, Some(Ok(_) | Err(CallError::Handler(_)))) {
                let (method, id) = (sent.state.method.name().clone(), sent.state.id());
                self.progress = Progress::Ended(method, id);
            }
        }
        polled
    }
}

impl Sent {
    fn poll_item<T, E>(
        &mut self,
        cx: &mut Context<'_>,
        decode: DecodeItem<Result<T, E>>,
    ) -> Poll<Option<Result<T, CallError<E>>>> {
        loop {
            let next = self.receiver.poll_next(cx, decode);
            if next.is_pending() && self.receiver.waits_for_memory() {
                return Poll::Pending;
            }
            let call = || self.state.identity();
            match next {
                Poll::Ready(Next::Item(item)) => return Poll::Ready(Some(item.map_err(CallError::Handler))),
                Poll::Ready(Next::Undecodable(source)) => {
                    return Poll::Ready(Some(Err(CallError::Decode { call: call(), part: Part::Item, source })));
                }
                Poll::Ready(Next::TooLarge { size, limit }) => {
                    return Poll::Ready(Some(Err(CallError::TooLarge { call: call(), part: Part::Item, size, limit })));
                }
                // The end is that of the call.
                Poll::Ready(Next::End | Next::Broken | Next::Stopped) | Poll::Pending => {}
            }
            if let Some(end) = self.end.take() {
                return Poll::Ready(self.end_of(end).map(Err));
            }
            match self.state.poll_end(cx) {
                Poll::Pending => return Poll::Pending,
                // Items may have come between the two looks.
                Poll::Ready(end) => self.end = Some(end.map_err(|failure| failure.error)),
            }
        }
    }

    /// The error with which the stream ends, if it does.
    fn end_of<E>(&self, end: Result<RawAnswer, CallError>) -> Option<CallError<E>> {
        let max_depth = self.dispatcher.argument_limits().depth;
        let part_of = |error: CallError| match error {
            CallError::Encode { call, part: Part::Reply, source } => {
                CallError::Encode { call, part: Part::Item, source }
            }
            CallError::TooLarge { call, part: Part::Reply, size, limit } => {
                CallError::TooLarge { call, part: Part::Item, size, limit }
            }
            other => other,
        };
        let answer = match end {
            Ok(answer) => answer,
            Err(error) => return Some(part_of(error).widen()),
        };
        let call = self.state.identity();
        match Decoder::new(&answer.payload, max_depth).only::<u64>() {
            // All of it is here, and the consumer has it.
            Ok(length) if length == self.receiver.consumed() => None,
            Ok(length) => Some(CallError::NodeLost {
                call,
                node: answer.node,
                attempts: answer.attempts,
                reason: GoneReason::Dropped(
                    format!("sent {length} bytes of items, of which {} have come", self.receiver.consumed()).into(),
                ),
            }),
            Err(source) => Some(CallError::Decode { call, part: Part::Reply, source }),
        }
    }
}

impl<T, E> Stream for StreamCall<T, E> {
    type Item = Result<T, CallError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<T, E> FusedStream for StreamCall<T, E> {
    fn is_terminated(&self) -> bool {
        matches!(self.progress, Progress::Ended(..))
    }
}

impl<T, E> Unpin for StreamCall<T, E> {}

impl<T, E> fmt::Debug for StreamCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCall").field("method", &self.method()).field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The items of a [`StreamCall`], for code that is not async. Blocks the thread for each.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked for items"]
pub struct StreamIter<T, E = Infallible>(StreamCall<T, E>);

impl<T, E> Iterator for StreamIter<T, E> {
    type Item = Result<T, CallError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.begin();
        match self.0.poll_item(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => block_on(self.0.next()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_can_be_shared_between_threads() {
        fn is_sync<T: Send + Sync>() {}
        is_sync::<Call<u64>>();
    }
}
