//! A transport whose failure tarpc's client takes for an ordinary end.
//!
//! For a connection that fails tarpc logs one warning per call in flight, which says nothing that the master's own
//! line about the lost node does not. One that merely ends is not worth a line to it. So the failure is kept for
//! the owner of the connection, and tarpc sees the end.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures::{Sink, Stream};

/// Why a [`Quiet`] transport ended, if it did not simply end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    /// Takes what went wrong, if anything did.
    pub(crate) fn take(&self) -> Option<io::Error> {
        self.lock().take()
    }

    fn has_come(&self) -> bool {
        self.lock().is_some()
    }

    /// Keeps the first one, from which others follow.
    fn keep(&self, error: io::Error) {
        self.lock().get_or_insert(error);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends where the transport in it fails.
pub(crate) struct Quiet<T> {
    transport: T,
    failure: Failure,
}

impl<T> Quiet<T> {
    pub(crate) fn new(transport: T, failure: Failure) -> Self {
        Self { transport, failure }
    }

    /// What a step of the sink comes to. One that fails never ends: the stream does, as soon as the task looks at it
    /// again.
    fn outcome(&self, cx: &Context<'_>, result: io::Result<()>) -> Poll<io::Result<()>> {
        match result {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => {
                self.failure.keep(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Quiet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quiet").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl<T, I> Stream for Quiet<T>
where
    T: Stream<Item = io::Result<I>> + Unpin,
{
    type Item = io::Result<I>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failure.has_come() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.transport).poll_next(cx)) {
            Some(Err(error)) => {
                self.failure.keep(error);
                None
            }
            item => item,
        })
    }
}

impl<T, M> Sink<M> for Quiet<T>
where
    T: Sink<M, Error = io::Error> + Unpin,
{
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.transport).poll_ready(cx));
        self.outcome(cx, result)
    }

    /// The one step whose failure is told: it is about this message, and the connection is well.
    fn start_send(mut self: Pin<&mut Self>, message: M) -> io::Result<()> {
        Pin::new(&mut self.transport).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failure.has_come() {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.transport).poll_flush(cx));
        self.outcome(cx, result)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failure.has_come() {
            return Poll::Pending;
        }
        let result = ready!(Pin::new(&mut self.transport).poll_close(cx));
        self.outcome(cx, result)
    }
}
