//! A transport that keeps its error for the connection's owner, so that tarpc's client sees an ordinary end.
//!
//! When a connection fails, tarpc logs a warning for each call in flight, which says nothing that the master's own line about
//! the lost node does not say. When a connection ends, it logs nothing.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures::{Sink, Stream};

/// The error with which an [`EndOnError`] transport ended, if any. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ErrorSlot(Arc<Mutex<Option<io::Error>>>);

impl ErrorSlot {
    /// Takes the error.
    pub(crate) fn take(&self) -> Option<io::Error> {
        self.lock().take()
    }

    fn is_set(&self) -> bool {
        self.lock().is_some()
    }

    /// Keeps the first error, because later ones follow from it.
    fn keep(&self, error: io::Error) {
        self.lock().get_or_insert(error);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the transport in it fails.
pub(crate) struct EndOnError<T> {
    transport: T,
    error: ErrorSlot,
}

impl<T> EndOnError<T> {
    pub(crate) fn new(transport: T, error: ErrorSlot) -> Self {
        Self { transport, error }
    }

    /// The result of a step of the sink. A step that fails stays pending, and the stream ends when the task polls it again.
    fn outcome(&self, cx: &Context<'_>, result: io::Result<()>) -> Poll<io::Result<()>> {
        match result {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => {
                self.error.keep(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for EndOnError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndOnError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T, I> Stream for EndOnError<T>
where
    T: Stream<Item = io::Result<I>> + Unpin,
{
    type Item = io::Result<I>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.error.is_set() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.transport).poll_next(cx)) {
            Some(Err(error)) => {
                self.error.keep(error);
                None
            }
            item => item,
        })
    }
}

impl<T, M> Sink<M> for EndOnError<T>
where
    T: Sink<M, Error = io::Error> + Unpin,
{
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.transport).poll_ready(cx));
        self.outcome(cx, result)
    }

    /// The one step whose error is returned: it is about this message, and the connection still works.
    fn start_send(mut self: Pin<&mut Self>, message: M) -> io::Result<()> {
        Pin::new(&mut self.transport).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.error.is_set() {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.transport).poll_flush(cx));
        self.outcome(cx, result)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.error.is_set() {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.transport).poll_close(cx));
        self.outcome(cx, result)
    }
}
