//! A call that was sent, as its caller holds it.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    dispatcher::Dispatcher,
    reply::{Answer, DecodeReply},
    state::CallState,
    wait::block_on,
};
use crate::{error::CallError, id::CallId};

/// A call that was sent: a future for its value.
///
/// The call goes on whether the handle is polled or not. Dropping the handle cancels the call: a queued call is removed
/// from the queue, and the node that runs a call is told. [`detach`](Self::detach) lets the call run to its end instead.
#[must_use = "dropping the handle cancels the call; await it, or detach it"]
pub struct CallHandle<T, E = Infallible> {
    progress: CallProgress,
    decode: DecodeReply<T, E>,
}

/// How far a call has come for the holder of its handle.
enum CallProgress {
    /// It was not submitted, because of this error.
    Refused(Box<CallError>),
    Submitted(Submitted),
    /// The value or error was taken.
    Taken(Option<CallId>),
}

/// Cancels its call when dropped before the end.
struct Submitted {
    state: Arc<CallState>,
    dispatcher: Arc<dyn Dispatcher>,
    detached: bool,
}

impl Drop for Submitted {
    fn drop(&mut self) {
        // If the result comes between the two, cancelling does nothing and the result is dropped with the state.
        if !self.detached && !self.state.has_ended() {
            self.state.streams.stop();
            self.dispatcher.cancel(&self.state);
            self.state.on_abandoned();
        }
    }
}

impl<T, E> CallHandle<T, E> {
    pub(super) fn submitted(state: Arc<CallState>, dispatcher: Arc<dyn Dispatcher>, decode: DecodeReply<T, E>) -> Self {
        Self { progress: CallProgress::Submitted(Submitted { state, dispatcher, detached: false }), decode }
    }

    pub(super) fn refused(error: CallError, decode: DecodeReply<T, E>) -> Self {
        Self { progress: CallProgress::Refused(Box::new(error)), decode }
    }

    /// The call's number at its master, by which logs and [`CallError`] name it. `None` only for a call that was refused
    /// before it was submitted, for instance because its arguments are too large.
    pub fn id(&self) -> Option<CallId> {
        match &self.progress {
            CallProgress::Refused(_) => None,
            CallProgress::Submitted(submitted) => submitted.state.id(),
            CallProgress::Taken(id) => *id,
        }
    }

    /// Whether the call has ended, so that awaiting the handle returns at once.
    pub fn is_finished(&self) -> bool {
        match &self.progress {
            CallProgress::Submitted(submitted) => submitted.state.has_ended(),
            CallProgress::Refused(_) | CallProgress::Taken(_) => true,
        }
    }

    /// Cancels the call, as dropping the handle does. A queued call never runs; the node that runs a call is told, and
    /// the handler can ask [`CurrentCall::is_cancelled`](crate::CurrentCall::is_cancelled). A call that has ended is not
    /// affected.
    pub fn cancel(self) {}

    /// Lets the call run to its end with nobody waiting for it.
    pub fn detach(mut self) {
        if let CallProgress::Submitted(submitted) = &mut self.progress {
            submitted.detached = true;
            submitted.dispatcher.detach(&submitted.state);
        }
    }

    /// Waits for the value, and returns it with the node that it came from, the number of attempts and the times.
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn answer(mut self) -> Result<Answer<T>, CallError<E>> {
        std::future::poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// Blocks the current thread until the call has ended; for code that is not async. See
    /// [`Call::wait`](crate::Call::wait).
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Panics
    ///
    /// On the thread of a current-thread runtime and in a `LocalSet`, as [`Call::wait`](crate::Call::wait)
    /// does. The call is cancelled then.
    #[track_caller]
    pub fn wait(self) -> Result<T, CallError<E>> {
        block_on(self)
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer<T>, CallError<E>>> {
        if let CallProgress::Submitted(submitted) = &self.progress {
            let end = ready!(submitted.state.poll_end(cx));
            let (call, max_depth) = (submitted.state.identity(), submitted.dispatcher.argument_limits().depth);
            // What was sent is freed before the reply is decoded.
            self.progress = CallProgress::Taken(call.id());
            return Poll::Ready(match end {
                Ok(raw) => self.decode.decode(&call, raw, max_depth),
                Err(failed) => Err(failed.error.widen()),
            });
        }
        match std::mem::replace(&mut self.progress, CallProgress::Taken(None)) {
            CallProgress::Refused(error) => Poll::Ready(Err(error.widen())),
            CallProgress::Submitted(_) | CallProgress::Taken(_) => panic!("a call was polled after it had ended"),
        }
    }
}

impl<T, E> Future for CallHandle<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_answer(cx).map_ok(|answer| answer.value)
    }
}

impl<T, E> Unpin for CallHandle<T, E> {}

impl<T, E> fmt::Debug for CallHandle<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHandle")
            .field("id", &self.id())
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
