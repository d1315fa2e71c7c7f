//! What a stub sends its calls through, and the state that a call shares between the caller and
//! whoever carries it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use super::{
    arguments::{EncodeArguments, RecordArguments},
    attempt::AttemptWord,
    call::{Call, DecodeReply},
    method::{Method, MethodInfo, Usage},
    structure::Structure,
};
use crate::{
    config::ValueLimits,
    error::{CallError, CallIdentity, FailedAttempt, Part},
    id::{CallId, NodeId, NodeIdentity},
    view::NodeInfo,
    wire::{
        Payload,
        codec::{EncodePayloadError, Encoder},
        transport::SendPermit,
    },
};

/// Something that calls can be sent through: a [`Master`](crate::Master), or a
/// [`LocalCluster`](crate::LocalCluster) by its own master.
///
/// Given to a stub's constructor: `ArithClient::new(&master)`. Implemented by this crate alone.
pub trait Caller {
    #[doc(hidden)]
    fn dispatcher(&self) -> Arc<dyn Dispatcher>;
}

/// A caller as the stubs use it.
#[doc(hidden)]
pub trait Dispatcher: fmt::Debug + Send + Sync {
    /// What the arguments of a call may have, all together. A reply may be nested as deeply.
    fn argument_limits(&self) -> ValueLimits;

    /// Takes a call over. It ends through its state, whatever happens.
    fn submit(&self, call: Arc<CallState>);

    /// The caller wants the call no more.
    fn cancel(&self, call: &CallState);

    /// Takes back a call that was never sent and that no node serves; false if it is not so, and nothing has
    /// changed then. Its end is the caller's to make.
    fn take_back_unserved(&self, call: &CallState) -> bool;

    /// Where calls of this method with these options can go at this moment.
    fn capacity(&self, method: &MethodInfo, options: &CallOptions) -> Capacity;

    /// Waits until nodes have come or gone.
    fn nodes_changed(&self) -> BoxFuture<'static, ()>;

    /// The nodes that serve this method with these options at this moment.
    fn serving(&self, method: &MethodInfo, options: &CallOptions) -> Vec<NodeInfo>;
}

/// Labels that a node must have, each with its value; `None` for any node.
pub(crate) type Labels = Option<Arc<[(String, String)]>>;

/// How a call is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) node: Option<NodeId>,
    pub(crate) attempts: Option<u32>,
    pub(crate) labels: Labels,
    pub(crate) affinity: Option<u64>,
    pub(crate) retry_panics: bool,
}

/// What else is to be known of a call that is one of many.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// How many calls the payload holds: more than one is a batch.
    pub(crate) count: u32,
    /// Whether it may wait although the queue is full.
    pub(crate) patient: bool,
    /// The call that this one is made a second time for.
    pub(crate) beside: Option<CallId>,
    /// What has befallen it as part of a batch.
    pub(crate) failed_attempts: Vec<FailedAttempt>,
}

impl Default for Role {
    fn default() -> Self {
        Self { count: 1, patient: false, beside: None, failed_attempts: Vec::new() }
    }
}

/// Where calls of a method can go at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Nodes that serve it.
    pub(crate) nodes: usize,
    /// What they run of it at once, all together.
    pub(crate) slots: usize,
    /// How much of that is free.
    pub(crate) free: usize,
    /// Whether it is compute everywhere, so that its calls may travel in batches.
    pub(crate) compute: bool,
}

/// A call on its way: what to send, and where its end is left.
///
/// Shared by the caller's future, which waits; the master, which owns the call's fate; and the link
/// that sends it, which asks leave as it writes.
#[derive(Debug)]
pub struct CallState {
    pub(crate) method: Arc<MethodInfo>,
    pub(crate) payload: Payload,
    pub(crate) options: CallOptions,
    pub(crate) role: Role,
    /// How many calls of a batch its node has kept, 0 if it has given none back.
    kept: AtomicU32,
    id: std::sync::OnceLock<CallId>,
    /// The newest attempt, and how far it has come on its way to a node.
    pub(crate) attempt: AttemptWord,
    end: Mutex<End>,
}

#[derive(Debug)]
enum End {
    Awaited(Option<Waker>),
    Reached(Result<RawAnswer, Failed>),
    Taken,
}

/// How a call failed, and what had befallen it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: CallError,
    pub(crate) failed_attempts: Vec<FailedAttempt>,
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

impl CallState {
    pub(crate) fn new(method: Arc<MethodInfo>, payload: Payload, options: CallOptions, role: Role) -> Self {
        Self {
            method,
            payload,
            options,
            role,
            kept: AtomicU32::new(0),
            id: std::sync::OnceLock::new(),
            attempt: AttemptWord::new(),
            end: Mutex::new(End::Awaited(None)),
        }
    }

    /// The number the caller counts it by, once it has been submitted.
    pub(crate) fn id(&self) -> Option<CallId> {
        self.id.get().copied()
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

    pub(crate) fn set_id(&self, id: CallId) {
        // Set once, by the one that took the call over.
        let _ = self.id.set(id);
    }

    /// Ends the call. The first end counts; a later one is dropped.
    pub(crate) fn finish(&self, result: Result<RawAnswer, Failed>) {
        let waker = {
            let mut end = self.lock();
            match &mut *end {
                End::Awaited(waker) => {
                    let waker = waker.take();
                    *end = End::Reached(result);
                    waker
                }
                End::Reached(_) | End::Taken => None,
            }
        };
        // Woken outside the lock: the woken task may run at once and take the end.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A batch has only so many calls left.
    pub(crate) fn shorten(&self, kept: u32) {
        self.kept.store(kept, Ordering::Release);
        self.wake();
    }

    /// Wakes the one who waits, who has reason to look.
    pub(crate) fn wake(&self) {
        let waker = match &mut *self.lock() {
            End::Awaited(waker) => waker.take(),
            End::Reached(_) | End::Taken => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many calls of the batch its node has kept; `None` while it has given none back.
    pub(crate) fn kept(&self) -> Option<u32> {
        Some(self.kept.load(Ordering::Acquire)).filter(|kept| *kept > 0)
    }

    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Result<RawAnswer, Failed>> {
        let mut end = self.lock();
        match std::mem::replace(&mut *end, End::Taken) {
            End::Reached(result) => Poll::Ready(result),
            End::Awaited(_) => {
                *end = End::Awaited(Some(cx.waker().clone()));
                Poll::Pending
            }
            End::Taken => panic!("a call was polled after it had ended"),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        !matches!(*self.lock(), End::Awaited(_))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, End> {
        // Nothing panics while it is held, so a poisoned lock cannot be; going on is right either way.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendPermit for CallState {
    fn begin(&self, attempt: u32) -> bool {
        self.attempt.begin(attempt)
    }

    fn complete(&self, attempt: u32) -> bool {
        self.attempt.complete(attempt)
    }

    fn cut_short(&self, attempt: u32) {
        self.attempt.cut_short(attempt);
    }
}

/// The part of a generated client that does not depend on the trait.
#[derive(Clone, Debug)]
pub struct RawClient {
    dispatcher: Arc<dyn Dispatcher>,
}

impl RawClient {
    /// A stub that calls through `caller`.
    pub fn new(caller: &(impl Caller + ?Sized)) -> Self {
        Self { dispatcher: caller.dispatcher() }
    }

    /// A call to a method that has no error of its own.
    pub fn call<A, T>(&self, method: &'static Method, arguments: &A) -> Call<T>
    where
        A: EncodeArguments + RecordArguments,
        T: DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Called, Structure::plain::<A, T>);
        self.make(method, arguments, DecodeReply::plain())
    }

    /// A call to a method that returns a `Result`.
    pub fn call_fallible<A, T, E>(&self, method: &'static Method, arguments: &A) -> Call<T, E>
    where
        A: EncodeArguments + RecordArguments,
        T: DeserializeOwned + 'static,
        E: DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Called, Structure::fallible::<A, T, E>);
        self.make(method, arguments, DecodeReply::fallible())
    }

    fn make<A: EncodeArguments, T, E>(
        &self,
        method: &Arc<MethodInfo>,
        arguments: &A,
        decode: DecodeReply<T, E>,
    ) -> Call<T, E> {
        let limits = self.dispatcher.argument_limits();
        let mut encoder = Encoder::new(limits);
        let encoded = arguments.encode(&mut encoder).map_err(EncodePayloadError::Codec);
        let payload = encoded.and_then(|()| encoder.finish()).map_err(|error| match error {
            EncodePayloadError::TooLarge(size) => CallError::TooLarge {
                call: method.name().into(),
                part: Part::Arguments,
                size,
                limit: limits.bytes as u64,
            },
            EncodePayloadError::Codec(source) => {
                CallError::Encode { call: method.name().into(), part: Part::Arguments, source }
            }
        });
        Call::new(Arc::clone(&self.dispatcher), Arc::clone(method), payload, decode)
    }
}
