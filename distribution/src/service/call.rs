//! A call as its maker holds it: a value that does nothing, then a future, then an answer.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, IntoFuture},
    hash::{Hash, Hasher},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{
    caller::{CallOptions, CallState, Dispatcher, RawAnswer, Role},
    method::MethodInfo,
    panics::decoded,
    wait::block_on,
};
use crate::{
    error::{CallError, CallIdentity, Part},
    hash,
    id::{CallId, MethodName, NodeId, NodeIdentity},
    wire::{Payload, codec::Decoder},
};

/// One method with its arguments, ready to be sent. Nothing is sent until it is awaited, or given to
/// [`send`](Self::send) or [`wait`](Self::wait).
///
/// `T` is the method's value and `E` its own error type, `Infallible` for a method that returns no
/// `Result`. Made by the client that `#[distribution::service]` generates.
///
/// ```
/// # use distribution::{LocalCluster, service};
/// # use std::time::Duration;
/// # #[service]
/// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
/// # struct Calculator;
/// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
/// let arith = ArithClient::new(&cluster);
/// assert_eq!(arith.sum(vec![2, 4, 6]).await?, 12);
/// assert_eq!(arith.sum(vec![1]).timeout(Duration::from_secs(5)).await?, 1);
/// let answer = arith.sum(vec![2, 3]).answer().await?;
/// println!("{} from {}", answer.value, answer.node);
/// # Ok(()) }
/// ```
#[must_use = "a call does nothing until it is sent: await it, or use `send` or `wait`"]
pub struct Call<T, E = Infallible> {
    pub(crate) dispatcher: Arc<dyn Dispatcher>,
    pub(crate) method: Arc<MethodInfo>,
    pub(crate) payload: Result<Payload, CallError>,
    pub(crate) options: CallOptions,
    pub(crate) decode: DecodeReply<T, E>,
}

impl<T, E> Call<T, E> {
    pub(crate) fn new(
        dispatcher: Arc<dyn Dispatcher>,
        method: Arc<MethodInfo>,
        payload: Result<Payload, CallError>,
        decode: DecodeReply<T, E>,
    ) -> Self {
        Self { dispatcher, method, payload, options: CallOptions::default(), decode }
    }

    /// The same call once more, not sent either.
    pub(crate) fn again(&self) -> Self {
        Self {
            dispatcher: Arc::clone(&self.dispatcher),
            method: Arc::clone(&self.method),
            payload: self.payload.clone(),
            options: self.options.clone(),
            decode: self.decode,
        }
    }

    /// The method it calls.
    pub fn method(&self) -> MethodName {
        self.method.name().clone()
    }

    /// Gives the call up after `time`, counted from when it is sent: queueing, every
    /// attempt and the reply included. The node gets what is left of it. Without this a call has no
    /// deadline, because liveness covers death and calculations are long. Clamped to a year.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.options.timeout = Some(time.min(crate::config::LONGEST_TIME));
        self
    }

    /// Sends the call to this node and to no other. It waits for a slot there as long as it takes; if the
    /// node is not registered, or leaves before, it ends as [`CallError::NoNode`] at once, because an id is
    /// never given to a node again.
    pub fn on(mut self, node: impl Into<NodeId>) -> Self {
        self.options.node = Some(node.into());
        self
    }

    /// Sends the call only to nodes that were started with this label (see
    /// [`NodeBuilder::label`](crate::NodeBuilder::label)); with several of these, to nodes that have all.
    /// Without meaning beside [`on`](Self::on).
    ///
    /// With no such node the call waits for one, and then ends as [`CallError::NoNode`].
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let mut labels = self.options.labels.map_or_else(Vec::new, |labels| labels.to_vec());
        labels.push((key.into(), value.into()));
        labels.sort();
        labels.dedup();
        self.options.labels = Some(labels.into());
        self
    }

    /// Sends calls with the same key to the same node, as long as that node lives; for handlers that keep
    /// something between calls. A node that comes or goes moves only the keys that are its own. The call
    /// waits for a slot there, also while others are free. Nodes are told apart by their names, so that one
    /// which registers again under its name has its keys back; at a master that has a token file or certificates also
    /// after the master was started again. With labels that more than 128 nodes have, the first
    /// calls that ask for these labels may go to other nodes.
    pub fn affinity(mut self, key: &(impl Hash + ?Sized)) -> Self {
        // Fixed keys, so that each master and each run sends a key the same way.
        let mut hasher = StableHasher(hash::hash(&[]));
        key.hash(&mut hasher);
        self.options.affinity = Some(hasher.finish());
        self
    }

    /// How often the call may be sent in all, if nodes are lost while they have it; 3 unless set, at least 1. An attempt
    /// that was lost as part of a batch of `.distribute()` counts only where this is set.
    ///
    /// Only for methods that are declared `#[rpc(idempotent)]`. A call of another method is not sent and ends as
    /// [`CallError::NotIdempotent`], and one with 0 attempts as [`CallError::InvalidOption`].
    pub fn attempts(mut self, most: u32) -> Self {
        if most == 0 {
            let reason = "a call needs at least one attempt";
            let call = self.identity();
            self.refuse(CallError::InvalidOption { call, option: "attempts", value: most.to_string(), reason });
        }
        self.options.attempts = Some(most);
        self.require_idempotence("attempts");
        self
    }

    /// Sends the call to another node if its handler panics, as often as [`attempts`](Self::attempts) says. Without this a
    /// panic ends the call, because most panics come from the arguments and would come again. If the last attempt panics
    /// as well, the call ends as [`CallError::Panicked`].
    ///
    /// Only for methods that are declared `#[rpc(idempotent)]`. A call of another method is not sent and ends as
    /// [`CallError::NotIdempotent`].
    pub fn retry_panics(mut self) -> Self {
        self.options.retry_panics = true;
        self.require_idempotence("retry_panics");
        self
    }

    /// Makes the call end with an error at once, unless it has one already.
    fn refuse(&mut self, error: CallError) {
        if self.payload.is_ok() {
            self.payload = Err(error);
        }
    }

    fn require_idempotence(&mut self, option: &'static str) {
        if !self.method.is_idempotent() {
            self.refuse(CallError::NotIdempotent { call: self.identity(), option });
        }
    }

    /// What errors call it before it has a number.
    fn identity(&self) -> CallIdentity {
        self.method.name().into()
    }

    /// Sends the call now, and returns a handle that is a future for its value. Dropping the handle cancels the call.
    pub fn send(self) -> CallHandle<T, E> {
        let progress = match self.payload {
            Ok(payload) => {
                let state = Arc::new(CallState::new(self.method, payload, self.options, Role::default()));
                self.dispatcher.submit(Arc::clone(&state));
                Progress::Submitted(Submitted { state, dispatcher: self.dispatcher, detached: false })
            }
            Err(error) => Progress::Refused(Box::new(error)),
        };
        CallHandle { progress, decode: self.decode }
    }

    /// Sends the call and blocks the current thread until it has ended; for code that is not async.
    ///
    /// A compute handler may use it: the handler keeps its slot while it waits. On a worker thread of a multi-thread
    /// runtime, the worker's other tasks move to another thread first.
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Panics
    ///
    /// On the thread of a current-thread runtime (as of `#[tokio::main(flavor = "current_thread")]`) and in a `LocalSet`,
    /// because the value could never arrive while that thread blocks. The call is not sent then. Await the call there, or
    /// wait inside [`tokio::task::spawn_blocking`].
    ///
    /// # Example
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start();
    /// let cluster = runtime.block_on(cluster)?;
    /// assert_eq!(ArithClient::new(&cluster).sum(vec![2, 4, 6]).wait()?, 12);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn wait(self) -> Result<T, CallError<E>> {
        block_on(async { self.send().await })
    }

    /// Like awaiting the call, but tells with the value how it came about.
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn answer(self) -> Result<Answer<T>, CallError<E>> {
        self.send().answer().await
    }
}

/// The hash of `hash.rs` for keys of any type.
struct StableHasher(u64);

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash::hash_on(self.0, bytes);
    }
}

impl<T, E> IntoFuture for Call<T, E> {
    type Output = Result<T, CallError<E>>;
    type IntoFuture = CallHandle<T, E>;

    fn into_future(self) -> CallHandle<T, E> {
        self.send()
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method()).field("options", &self.options).finish_non_exhaustive()
    }
}

/// A call that was sent: a future for its value.
///
/// The call goes on whether the handle is polled or not. Dropping the handle cancels the call: a queued call is removed
/// from the queue, and the node that runs a call is told. [`detach`](Self::detach) lets the call run to its end instead.
#[must_use = "dropping the handle cancels the call; await it, or detach it"]
pub struct CallHandle<T, E = Infallible> {
    progress: Progress,
    decode: DecodeReply<T, E>,
}

/// How far a call has come for the holder of its handle.
enum Progress {
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
        // An end that comes between the question and the cancelling is simply dropped with the state.
        if !self.detached && !self.state.has_ended() {
            self.dispatcher.cancel(&self.state);
        }
    }
}

impl<T, E> CallHandle<T, E> {
    /// The call's number at its master, by which logs and [`CallError`] name it. `None` only for a call that was refused
    /// before it was submitted, for instance because its arguments are too large.
    pub fn id(&self) -> Option<CallId> {
        match &self.progress {
            Progress::Refused(_) => None,
            Progress::Submitted(submitted) => submitted.state.id(),
            Progress::Taken(id) => *id,
        }
    }

    /// Whether the call has ended, so that awaiting the handle returns at once.
    pub fn is_finished(&self) -> bool {
        match &self.progress {
            Progress::Submitted(submitted) => submitted.state.has_ended(),
            Progress::Refused(_) | Progress::Taken(_) => true,
        }
    }

    /// Cancels the call, as dropping the handle does. A queued call never runs; the node that runs a call is told, and
    /// the handler can ask [`CurrentCall::is_cancelled`](crate::CurrentCall::is_cancelled). A call that has ended is not
    /// affected.
    pub fn cancel(self) {}

    /// Lets the call run to its end with nobody waiting for it.
    pub fn detach(mut self) {
        if let Progress::Submitted(submitted) = &mut self.progress {
            submitted.detached = true;
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

    /// Blocks the current thread until the call has ended; for code that is not async. See [`Call::wait`].
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Panics
    ///
    /// On the thread of a current-thread runtime and in a `LocalSet`, as [`Call::wait`] does. The call is cancelled then.
    #[track_caller]
    pub fn wait(self) -> Result<T, CallError<E>> {
        block_on(self)
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer<T>, CallError<E>>> {
        if let Progress::Submitted(submitted) = &self.progress {
            let end = ready!(submitted.state.poll_end(cx));
            let (call, max_depth) = (submitted.state.identity(), submitted.dispatcher.argument_limits().depth);
            // What was sent is freed before the reply is decoded.
            self.progress = Progress::Taken(call.id());
            return Poll::Ready(match end {
                Ok(raw) => self.decode.decode(&call, raw, max_depth),
                Err(failed) => Err(failed.error.widen()),
            });
        }
        match std::mem::replace(&mut self.progress, Progress::Taken(None)) {
            Progress::Refused(error) => Poll::Ready(Err(error.widen())),
            Progress::Submitted(_) | Progress::Taken(_) => panic!("a call was polled after it had ended"),
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

/// A call's value, with how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What the method returned.
    pub value: T,
    /// The node it ran on.
    pub node: NodeIdentity,
    /// How often it was sent to a node: 1 unless nodes were lost.
    pub attempts: u32,
    /// From being sent until the reply was here.
    pub elapsed: Duration,
    /// How long the handler ran on the node.
    pub run: Duration,
}

type Decode<T> = for<'a> fn(Decoder<'a>) -> Result<T, crate::error::CodecError>;

/// How a reply becomes typed again. Function pointers, so that a call needs no bounds on its types.
#[derive(Debug)]
pub(crate) struct DecodeReply<T, E> {
    value: Decode<T>,
    error: Option<Decode<E>>,
}

impl<T, E> Clone for DecodeReply<T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for DecodeReply<T, E> {}

impl<T: DeserializeOwned + 'static> DecodeReply<T, Infallible> {
    pub(crate) fn plain() -> Self {
        Self { value: |decoder| decoder.only(), error: None }
    }
}

impl<T: DeserializeOwned + 'static, E: DeserializeOwned + 'static> DecodeReply<T, E> {
    pub(crate) fn fallible() -> Self {
        Self { value: |decoder| decoder.only(), error: Some(|decoder| decoder.only()) }
    }
}

impl<T, E> DecodeReply<T, E> {
    /// A value, or the method's own error. Runs in the caller's own poll, and does not panic.
    pub(crate) fn decode_one(
        &self,
        call: impl Fn() -> CallIdentity,
        is_error: bool,
        payload: Decoder<'_>,
    ) -> Result<T, CallError<E>> {
        let failed = |source| CallError::Decode { call: call(), part: Part::Reply, source };
        if is_error {
            let decode = self.error.ok_or_else(|| {
                failed(crate::error::CodecError::new("the node sent an error, and the method declares none"))
            })?;
            return Err(decoded(|| decode(payload)).map_or_else(failed, CallError::Handler));
        }
        decoded(|| (self.value)(payload)).map_err(failed)
    }

    fn decode(&self, call: &CallIdentity, raw: RawAnswer, max_depth: u16) -> Result<Answer<T>, CallError<E>> {
        let value = self.decode_one(|| call.clone(), raw.is_error, Decoder::new(&raw.payload, max_depth))?;
        Ok(Answer { value, node: raw.node, attempts: raw.attempts, elapsed: raw.elapsed, run: raw.run })
    }
}
