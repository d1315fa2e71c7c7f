//! The state of a call that was submitted, shared between its caller and whatever carries it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use super::{
    attempt::AttemptWord,
    metadata,
    method::MethodInfo,
    options::{CallOptions, SubmitOptions},
    spans::CallTrace,
};
use crate::{
    error::{CallError, CallIdentity},
    failed_attempt::FailedAttempt,
    id::{CallId, NodeIdentity},
    wire::{
        Payload, fetched_arguments::FetchedArguments, frame::call::Trace, streams::CallStreams, transport::SendPermit,
    },
};

/// A call that was submitted: what to send, and where its result is left.
///
/// Shared by the caller's handle, which waits for the result; the master's core, which decides what happens to the call;
/// and the connection that sends it, which asks for permission as it writes.
#[derive(Debug)]
pub struct CallState {
    pub(crate) method: Arc<MethodInfo>,
    pub(crate) payload: Payload,
    /// Arguments that are not in the payload, but at the caller.
    pub(crate) arguments: Option<Arc<FetchedArguments>>,
    pub(crate) options: CallOptions,
    pub(crate) submit_options: SubmitOptions,
    /// The streams that travel beside it.
    pub(crate) streams: CallStreams,
    /// Its span, and the trace that it belongs to, if anybody wants to know. Set before it is submitted.
    pub(crate) trace: Option<Box<CallTrace>>,
    /// How many calls of a batch its node has kept; 0 if it has given none back.
    kept: AtomicU32,
    /// [`NO_ID`] before it has one.
    id: AtomicU64,
    /// Who makes the call, where that matters to it.
    maker: std::sync::OnceLock<Box<Maker>>,
    /// Whether it runs to its end even if its caller's process ends. Only callers elsewhere say so.
    detached: AtomicBool,
    /// The newest attempt, and how far it has come on its way to a node.
    pub(crate) attempt: AttemptWord,
    result: Mutex<CallResult>,
}

#[derive(Debug)]
enum CallResult {
    /// With the waker of the one that waits.
    Pending(Option<Waker>),
    Ready(Result<RawAnswer, CallFailure>),
    Taken,
}

/// Who makes a call.
#[derive(Debug)]
enum Maker {
    /// The handler of another call.
    Handler(Parent),
    /// A caller elsewhere whose calls are counted.
    Counted(Held),
}

/// Something that ends when it is dropped.
pub(crate) type Held = Arc<dyn std::fmt::Debug + Send + Sync>;

/// The call whose handler makes a nested call.
struct Parent {
    call: CallId,
    on_end: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.call.fmt(f)
    }
}

/// How a call failed, and the attempts that failed before.
#[derive(Debug)]
pub(crate) struct CallFailure {
    pub(crate) error: CallError,
    /// In the master's process only.
    pub(crate) failed_attempts: Vec<FailedAttempt>,
    /// Whether an attempt at it failed.
    pub(crate) was_tried: bool,
}

impl CallFailure {
    /// A call that failed after these attempts.
    pub(crate) fn after(failed_attempts: Vec<FailedAttempt>, error: CallError) -> Self {
        Self { error, was_tried: !failed_attempts.is_empty(), failed_attempts }
    }
}

/// A reply whose value is still bytes.
#[derive(Clone, Debug)]
pub(crate) struct RawAnswer {
    /// Whether the payload is the method's own error.
    pub(crate) is_error: bool,
    pub(crate) payload: Bytes,
    /// How many calls of a batch were started.
    pub(crate) count: u32,
    pub(crate) node: NodeIdentity,
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
    pub(crate) run: Duration,
}

/// The id of a call that has none: the last one that a master could give.
const NO_ID: u64 = u64::MAX;

impl CallState {
    pub(crate) fn new(
        method: Arc<MethodInfo>,
        payload: Payload,
        options: CallOptions,
        submit_options: SubmitOptions,
    ) -> Self {
        let streams = CallStreams::new(method.streams());
        Self {
            method,
            payload,
            arguments: None,
            options,
            submit_options,
            streams,
            trace: None,
            kept: AtomicU32::new(0),
            id: AtomicU64::new(NO_ID),
            maker: std::sync::OnceLock::new(),
            detached: AtomicBool::new(false),
            attempt: AttemptWord::new(),
            result: Mutex::new(CallResult::Pending(None)),
        }
    }

    /// How many bytes its arguments are.
    pub(crate) fn size(&self) -> usize {
        self.arguments.as_ref().map_or(self.payload.len(), |arguments| arguments.len())
    }

    /// The call's number at its master, once it has been submitted.
    pub(crate) fn id(&self) -> Option<CallId> {
        Some(self.id.load(Ordering::Relaxed)).filter(|id| *id != NO_ID).map(CallId)
    }

    /// The call whose handler makes this one, if it is a nested call.
    pub(crate) fn parent(&self) -> Option<CallId> {
        match self.maker.get().map(|maker| &**maker) {
            Some(Maker::Handler(parent)) => Some(parent.call),
            _ => None,
        }
    }

    /// Makes it a nested call, before it is submitted. `on_end` is run once, when it has ended or is not wanted any more.
    pub(crate) fn set_parent(&self, call: CallId, on_end: Option<Box<dyn FnOnce() + Send>>) {
        let _ = self.maker.set(Box::new(Maker::Handler(Parent { call, on_end: Mutex::new(on_end) })));
    }

    /// Tells what made it that it has ended, or is not wanted any more.
    pub(crate) fn on_end(&self) {
        let Some(Maker::Handler(parent)) = self.maker.get().map(|maker| &**maker) else { return };
        let on_end = parent.on_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_end) = on_end {
            on_end();
        }
    }

    /// Keeps something until the call has ended and its handler has returned. Once, before it is submitted, and for calls
    /// that are not nested.
    pub(crate) fn hold(&self, held: Held) {
        let _ = self.maker.set(Box::new(Maker::Counted(held)));
    }

    /// What is kept.
    pub(crate) fn held(&self) -> Option<Held> {
        match self.maker.get().map(|maker| &**maker) {
            Some(Maker::Counted(held)) => Some(Arc::clone(held)),
            _ => None,
        }
    }

    /// What errors call it.
    pub(crate) fn identity(&self) -> CallIdentity {
        CallIdentity::new(self.id(), self.method.name().clone())
    }

    /// What errors call the call at this place of a batch.
    pub(crate) fn identity_at(&self, place: u32) -> CallIdentity {
        CallIdentity::new(self.id_at(place), self.method.name().clone())
    }

    /// The number of the call at this place of a batch: a batch has consecutive numbers.
    pub(crate) fn id_at(&self, place: u32) -> Option<CallId> {
        self.id().map(|first| CallId(first.0.wrapping_add(place.into())))
    }

    /// Set by the dispatcher that took the call over; again, if the master was lost and another one takes the call.
    pub(crate) fn set_id(&self, id: CallId) {
        self.id.store(id.0, Ordering::Relaxed);
    }

    /// The call runs to its end even if its caller's process ends.
    pub(crate) fn set_detached(&self) {
        self.detached.store(true, Ordering::Release);
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    /// The trace that it belongs to.
    pub(crate) fn trace(&self) -> Option<Trace> {
        self.trace.as_ref().and_then(|trace| trace.context())
    }

    /// Its caller has cancelled it, and may not learn of its end.
    pub(crate) fn on_abandoned(&self) {
        if let Some(trace) = &self.trace {
            trace.on_abandoned(self.id());
        }
    }

    /// Ends the call. Only the first result counts.
    pub(crate) fn finish(&self, result: Result<RawAnswer, CallFailure>) {
        if let Some(trace) = &self.trace {
            match &result {
                Ok(answer) => trace.on_answered(self.id(), &answer.node, answer.attempts, answer.is_error),
                Err(failure) => trace.on_failed(self.id(), &failure.error),
            }
        }
        self.streams.on_end(
            result.as_ref().is_err_and(|failure| {
                matches!(failure.error, CallError::TimedOut { .. } | CallError::Cancelled { .. })
            }),
        );
        let waker = {
            let mut end = self.lock();
            match &mut *end {
                CallResult::Pending(waker) => {
                    let waker = waker.take();
                    *end = CallResult::Ready(result);
                    waker
                }
                CallResult::Ready(_) | CallResult::Taken => None,
            }
        };
        self.on_end();
        // Outside of the lock, because the woken task may run at once and take the result.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The node has given calls of this batch back, and has kept this many.
    pub(crate) fn shorten(&self, kept: u32) {
        self.kept.store(kept, Ordering::Release);
        self.wake();
    }

    /// Wakes the one that waits, so that it looks at the call again.
    pub(crate) fn wake(&self) {
        let waker = match &mut *self.lock() {
            CallResult::Pending(waker) => waker.take(),
            CallResult::Ready(_) | CallResult::Taken => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many calls of the batch its node has kept; `None` while it has given none back.
    pub(crate) fn kept(&self) -> Option<u32> {
        Some(self.kept.load(Ordering::Acquire)).filter(|kept| *kept > 0)
    }

    /// How many calls of the batch its node has kept, if that has not been taken before.
    pub(crate) fn take_kept(&self) -> Option<u32> {
        Some(self.kept.swap(0, Ordering::AcqRel)).filter(|kept| *kept > 0)
    }

    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Result<RawAnswer, CallFailure>> {
        let mut end = self.lock();
        match std::mem::replace(&mut *end, CallResult::Taken) {
            CallResult::Ready(result) => Poll::Ready(result),
            CallResult::Pending(_) => {
                *end = CallResult::Pending(Some(cx.waker().clone()));
                Poll::Pending
            }
            CallResult::Taken => panic!("a call was polled after it had ended"),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        !matches!(*self.lock(), CallResult::Pending(_))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CallResult> {
        // Nothing panics while the lock is held, so it is never poisoned; going on would be right all the same.
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendPermit for CallState {
    fn may_begin(&self, attempt: u32) -> bool {
        self.attempt.is_open(attempt)
    }

    fn begin(&self, attempt: u32) -> bool {
        self.attempt.begin(attempt)
    }

    fn complete(&self, attempt: u32) -> bool {
        self.attempt.complete(attempt)
    }

    fn cut_short(&self, attempt: u32) {
        self.attempt.cut_short(attempt);
    }

    fn is_detached(&self) -> bool {
        CallState::is_detached(self)
    }

    fn metadata(&self) -> &[(String, String)] {
        metadata::entries(&self.options.metadata)
    }

    fn trace(&self) -> Option<Trace> {
        CallState::trace(self)
    }
}
