//! A call that was not sent yet, with its options.

use std::{
    convert::Infallible,
    fmt,
    future::IntoFuture,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    dispatcher::Dispatcher,
    handle::CallHandle,
    metadata,
    method::MethodInfo,
    options::{CallOptions, MOST_LABEL_BYTES, MOST_LABELS, SubmitOptions, are_possible},
    reply::{Answer, DecodeReply},
    spans::CallTrace,
    state::{CallFailure, CallState},
    stream::{ArgumentSource, Pump, PumpError},
    wait::block_on,
};
use crate::{
    error::{CallError, CallIdentity, Execution},
    hash,
    id::{MethodName, NodeId},
    text::in_one_line,
    wire::Payload,
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
    /// The last argument, if that is a stream. The call can be sent only once then.
    pub(crate) source: Option<ArgumentSource>,
}

impl<T, E> Call<T, E> {
    pub(crate) fn new(
        dispatcher: Arc<dyn Dispatcher>,
        method: Arc<MethodInfo>,
        payload: Result<Payload, CallError>,
        decode: DecodeReply<T, E>,
    ) -> Self {
        let options = CallOptions { metadata: dispatcher.metadata(), ..CallOptions::default() };
        Self { dispatcher, method, payload, options, decode, source: None }
    }

    /// Its last argument is this stream.
    pub(super) fn with_source(mut self, source: Option<ArgumentSource>) -> Self {
        self.source = source;
        self
    }

    /// The same call again, not sent either.
    pub(crate) fn again(&self) -> Self {
        let mut again = Self {
            source: None,
            dispatcher: Arc::clone(&self.dispatcher),
            method: Arc::clone(&self.method),
            payload: self.payload.clone(),
            options: self.options.clone(),
            decode: self.decode,
        };
        again.require_whole_arguments("broadcast");
        again
    }

    /// A call with a stream as its last argument can only be sent by itself.
    pub(crate) fn require_whole_arguments(&mut self, option: &'static str) {
        if self.method.streams().argument {
            let reason = "the last argument is a stream, which can be sent only once; await the call, or use `send`";
            let call = self.identity();
            let value = String::new();
            self.refuse(CallError::InvalidOption { call, option: option.into(), value, reason: reason.into() });
        }
    }

    /// The method that is called.
    pub fn method(&self) -> MethodName {
        self.method.name().clone()
    }

    /// Ends the call as [`CallError::TimedOut`] if it takes longer than `time`, counted from when it is sent: queueing, all
    /// attempts and the reply included. The node is told how much of it is left. More than a year counts as a year.
    ///
    /// Unless this or [`default_timeout`](crate::MasterBuilder::default_timeout) is set, a call has no deadline: the
    /// loss of a node is noticed without one, and calculations may be long.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.options.timeout = Some(time.min(crate::config::LONGEST_TIME));
        self
    }

    /// Sends the call to this node and to no other. The call waits until a slot is free there. If the node is not
    /// registered, or leaves before the call is sent, the call ends as [`CallError::NoNode`] at once, because an id is never
    /// given to a node again.
    pub fn on(mut self, node: impl Into<NodeId>) -> Self {
        self.options.node = Some(node.into());
        self
    }

    /// Sends the call only to nodes that were started with this label (see
    /// [`NodeBuilder::label`](crate::NodeBuilder::label)); if this is called several times, to nodes that have all these
    /// labels. It has no effect together with [`on`](Self::on).
    ///
    /// If no node has them, the call waits for one for the master's
    /// [`no_node_timeout`](crate::MasterBuilder::no_node_timeout), and then ends as [`CallError::NoNode`].
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let mut labels = self.options.labels.as_ref().map_or_else(Vec::new, |labels| labels.to_vec());
        labels.push((key.into(), value.into()));
        if !are_possible(&labels) {
            let value =
                labels.pop().map(|(key, value)| in_one_line(&format!("{key}, {value}"), 40)).unwrap_or_default();
            let reason = format!("no node has more than {MOST_LABELS} labels, or {MOST_LABEL_BYTES} bytes of them");
            let call = self.identity();
            self.refuse(CallError::InvalidOption { call, option: "label".into(), value, reason: reason.into() });
            return self;
        }
        labels.sort();
        labels.dedup();
        self.options.labels = Some(labels.into());
        self
    }

    /// Sends calls with the same key to the same node, as long as that node is registered; for handlers that keep something
    /// between calls. The call waits for a slot of that node, even while other nodes are free.
    ///
    /// A node that joins or leaves moves only its own keys. Nodes are told apart by their names, so a node that registers
    /// again under its name gets its keys back, even after the master was restarted if the master has a token file or
    /// certificates. With labels that more than 128 nodes have, the first calls that ask for these labels may go to other
    /// nodes.
    pub fn affinity(mut self, key: &(impl Hash + ?Sized)) -> Self {
        // The hash is the same in each process, so that each master and each run sends a key the same way.
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
            self.refuse(CallError::InvalidOption {
                call,
                option: "attempts".into(),
                value: most.to_string(),
                reason: reason.into(),
            });
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

    /// Sends this text along. The handler reads it with [`current().metadata(key)`](crate::CurrentCall::metadata), and
    /// administrators see it in [`CallInfo`](crate::CallInfo): for the id of a request, a tenant, or the like. Calls that the
    /// handler makes inherit it; they may add entries and replace values. A key that is set again gets the new value.
    ///
    /// At most 16 entries, with keys of 1 to 64 bytes, values of up to 1 KiB, and 4 KiB in all, without control or invisible
    /// characters. A call with others is not sent and ends as [`CallError::InvalidOption`]. Calls of `.distribute()` travel
    /// in batches if their metadata is the same.
    ///
    /// ```
    /// # use distribution::{InProcess, service};
    /// #[service]
    /// trait Reports {
    ///     fn title(&self) -> String;
    /// }
    /// # struct Writer;
    ///
    /// impl Reports for Writer {
    ///     fn title(&self) -> String {
    ///         format!("Report for {}", distribution::current().metadata("tenant").unwrap_or("nobody"))
    ///     }
    /// }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let direct = InProcess::new().serve(ReportsServer::new(Writer));
    /// # let reports = ReportsClient::new(&direct);
    /// assert_eq!(reports.title().metadata("tenant", "north").await?, "Report for north");
    /// # Ok(()) }
    /// ```
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        // The value may be a secret.
        let shown = in_one_line(&key, 40);
        match metadata::with(&self.options.metadata, key, value.into()) {
            Ok(metadata) => self.options.metadata = metadata,
            Err(reason) => {
                let call = self.identity();
                let value = format!("{shown}, ..");
                self.refuse(CallError::InvalidOption { call, option: "metadata".into(), value, reason: reason.into() });
            }
        }
        self
    }

    /// Makes the call end with an error at once, unless it has one already.
    pub(super) fn refuse(&mut self, error: CallError) {
        if self.payload.is_ok() {
            self.payload = Err(error);
        }
    }

    fn require_idempotence(&mut self, option: &'static str) {
        if !self.method.is_idempotent() {
            self.refuse(CallError::NotIdempotent { call: self.identity(), option: option.into() });
        }
    }

    /// What errors call it before it has a number.
    fn identity(&self) -> CallIdentity {
        self.method.name().into()
    }

    /// Sends the call now, and returns a handle that is a future for its value. Dropping the handle cancels the call.
    pub fn send(self) -> CallHandle<T, E> {
        let decode = self.decode;
        match self.submit() {
            Ok((state, dispatcher)) => CallHandle::submitted(state, dispatcher, decode),
            Err(error) => CallHandle::refused(error, decode),
        }
    }

    /// Submits the call, and begins to send its last argument if that is a stream.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    pub(super) fn submit(self) -> Result<(Arc<CallState>, Arc<dyn Dispatcher>), CallError> {
        let Self { dispatcher, method, payload, options, source, .. } = self;
        let mut state = CallState::new(method, payload?, options, SubmitOptions::default());
        state.trace = CallTrace::begin(state.method.name(), 1);
        let state = Arc::new(state);
        dispatcher.submit(Arc::clone(&state));
        if let (Some(source), Some(pipe)) = (source, &state.streams.argument) {
            let pump = source.pump(Arc::clone(pipe), dispatcher.argument_limits());
            start_pump(pump, Arc::clone(&state), Arc::clone(&dispatcher));
        }
        Ok((state, dispatcher))
    }

    /// Sends the call and blocks the current thread until it has ended; for code that is not async.
    ///
    /// A compute handler may use it: the handler lends its slot while it waits. An async handler must await the call
    /// instead: `wait` would block a thread on which other async handlers run. On a worker thread of a multi-thread runtime,
    /// the worker's other tasks move to another thread first.
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

    /// Like awaiting the call, but returns the value with the node that it came from, the number of attempts and the times.
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

/// Moves the items of a stream of arguments to the call. If that fails, the call ends.
fn start_pump(pump: Pump, state: Arc<CallState>, dispatcher: Arc<dyn Dispatcher>) {
    let runtime = Handle::try_current().ok().or_else(|| dispatcher.runtime());
    let Some(runtime) = runtime else {
        let error = CallError::Shutdown { call: state.identity(), execution: Execution::NotRun };
        dispatcher.cancel(&state);
        return state.finish(Err(CallFailure::after(Vec::new(), error)));
    };
    let on_end = move |pumped: Result<(), PumpError>| {
        if let Err(error) = pumped {
            dispatcher.cancel(&state);
            let error = error.into_call_error(state.identity());
            state.finish(Err(CallFailure::after(Vec::new(), error)));
        }
    };
    drop(runtime.spawn(async move { on_end(pump.await) }));
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
