//! The node's side of a service: from a method's id to the handler that decodes, runs and encodes.

use std::{
    collections::HashMap, fmt, future::Future, panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll, time::Instant,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    arguments::DecodeArguments,
    first_poll::FirstPollTime,
    method::{Method, MethodId, MethodInfo, MethodKind, Usage},
    panics::{caught, cut, decoded, message},
    stream::{ArgumentFailure, ArgumentStream, ItemCodec, Items, Produced},
    structure::Structure,
};
use crate::{
    config::ValueLimits,
    error::{CodecError, Error},
    wire::{
        Outcome, Refusal, Reply,
        codec::{Decoder, Encoder},
        handshake::{Definition, MethodOffer, STRUCTURES_LIMIT},
        streams::{CallStreams, ItemPipe, StreamRole},
    },
};

/// A service that a node can serve: `ArithServer::new(implementation)`, where `#[distribution::service]` generates
/// `ArithServer` from the trait `Arith`.
pub trait Service: Send + Sync + 'static {
    /// The service's methods with their handlers.
    #[doc(hidden)]
    fn routes(self) -> Routes;
}

/// The methods of one service, each with its handler. Filled by generated code.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Route>,
}

impl Routes {
    /// No methods yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a `fn` that returns a plain value.
    pub fn compute<A, T>(&mut self, method: &'static Method, handler: impl Fn(A) -> T + Send + Sync + 'static)
    where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::plain::<A, T>);
        self.add_compute(method, move |arguments, _, _| handler(arguments), encode_value);
    }

    /// Adds a `fn` that returns an iterator of values.
    pub fn compute_stream<A, T>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A, Items<T>) -> Produced + Send + Sync + 'static,
    ) where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::plain::<A, T>);
        let items = |items, limits| Items::new(items, limits, ItemCodec::encode());
        self.add_compute(method, move |a, pipe, limits| handler(a, items(of_handler(pipe), limits)), encode_length);
    }

    /// Adds a `fn` that returns an iterator of results.
    pub fn compute_stream_fallible<A, T, E>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A, Items<Result<T, E>>) -> Produced + Send + Sync + 'static,
    ) where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
        E: Serialize + DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::fallible::<A, T, E>);
        let items = |items, limits| Items::new(items, limits, ItemCodec::encode_result());
        self.add_compute(method, move |a, pipe, limits| handler(a, items(of_handler(pipe), limits)), encode_length);
    }

    /// Adds a `fn` that returns a stream of values.
    pub fn asynchronous_stream<A, T, F>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A, Items<T>) -> F + Send + Sync + 'static,
    ) where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
        F: Future<Output = Produced> + Send + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::plain::<A, T>);
        let items = |items, limits| Items::new(items, limits, ItemCodec::encode());
        self.add_asynchronous(
            method,
            move |a, pipe, limits| handler(a, items(of_handler(pipe), limits)),
            encode_length,
        );
    }

    /// Adds a `fn` that returns a stream of results.
    pub fn asynchronous_stream_fallible<A, T, E, F>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A, Items<Result<T, E>>) -> F + Send + Sync + 'static,
    ) where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
        E: Serialize + DeserializeOwned + 'static,
        F: Future<Output = Produced> + Send + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::fallible::<A, T, E>);
        let items = |items, limits| Items::new(items, limits, ItemCodec::encode_result());
        self.add_asynchronous(
            method,
            move |a, pipe, limits| handler(a, items(of_handler(pipe), limits)),
            encode_length,
        );
    }

    /// Adds a `fn` that returns a `Result`.
    pub fn compute_fallible<A, T, E>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A) -> Result<T, E> + Send + Sync + 'static,
    ) where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
        E: Serialize + DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::fallible::<A, T, E>);
        self.add_compute(method, move |arguments, _, _| handler(arguments), encode_result);
    }

    /// Adds an `async fn` that returns a plain value.
    pub fn asynchronous<A, T, F>(&mut self, method: &'static Method, handler: impl Fn(A) -> F + Send + Sync + 'static)
    where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::plain::<A, T>);
        self.add_asynchronous(method, move |arguments, _, _| handler(arguments), encode_value);
    }

    /// Adds an `async fn` that returns a `Result`.
    pub fn asynchronous_fallible<A, T, E, F>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A) -> F + Send + Sync + 'static,
    ) where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
        E: Serialize + DeserializeOwned + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let method = method.recorded(Usage::Served, Structure::fallible::<A, T, E>);
        self.add_asynchronous(method, move |arguments, _, _| handler(arguments), encode_result);
    }

    fn add_compute<A, R>(
        &mut self,
        method: &Arc<MethodInfo>,
        handler: impl Fn(A, Option<Arc<ItemPipe>>, ValueLimits) -> R + Send + Sync + 'static,
        encode: fn(R, &mut Encoder) -> Outcome,
    ) where
        A: DecodeArguments,
        R: 'static,
    {
        let handler = move |arguments: Arguments<'_>, reply: &mut Encoder| {
            let mark = reply.mark();
            let limits = reply.limits();
            let (arguments, CallStreams { items, argument }) = arguments.split();
            let (stream, failure) = argument.map(|pipe| ArgumentStream::new(pipe, limits)).unzip();
            // A user's `Deserialize` and `Serialize` may panic as well as the handler.
            let outcome = match decode_arguments::<A>(arguments, stream, limits.depth) {
                Ok(arguments) => caught(AssertUnwindSafe(|| encode(handler(arguments, items, limits), reply)))
                    .unwrap_or_else(Outcome::Panicked),
                Err(outcome) => outcome,
            };
            let outcome = failure.and_then(|failure| failure.outcome()).unwrap_or(outcome);
            if !matches!(outcome, Outcome::Value | Outcome::Error) {
                reply.rewind(mark);
            }
            outcome
        };
        self.routes.push(Route { method: Arc::clone(method), handler: Handler::Compute(Arc::new(handler)) });
    }

    fn add_asynchronous<A, R, F>(
        &mut self,
        method: &Arc<MethodInfo>,
        handler: impl Fn(A, Option<Arc<ItemPipe>>, ValueLimits) -> F + Send + Sync + 'static,
        encode: fn(R, &mut Encoder) -> Outcome,
    ) where
        A: DecodeArguments,
        R: 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler = move |payload: Bytes, streams: CallStreams, limits: ValueLimits| {
            let handler = Arc::clone(&handler);
            async move {
                // The arguments' type need not be `Send`, so they never live across an await: they are
                // decoded and handed over before the first one.
                let started = Instant::now();
                if payload.len() >= LARGE {
                    // What waits is handed over to the user's runtime.
                    tokio::task::yield_now().await;
                }
                let CallStreams { items, argument } = streams;
                let (stream, failure) = argument.map(|pipe| ArgumentStream::new(pipe, limits)).unzip();
                let begin = |arguments| handler(arguments, items, limits);
                let future = match start::<A, F>(payload, stream, limits.depth, begin) {
                    Ok(future) => future,
                    Err(outcome) => return Reply::without_payload(outcome, started.elapsed()),
                };
                let encoded = async move {
                    let result = match failure {
                        None => future.await,
                        Some(failure) => match unless_failed(future, &failure).await {
                            Ok(result) => result,
                            Err(outcome) => return Reply::without_payload(outcome, started.elapsed()),
                        },
                    };
                    let mut reply = Encoder::new(limits);
                    let outcome = encode(result, &mut reply);
                    Reply::new(outcome, started.elapsed(), reply)
                };
                match AssertUnwindSafe(encoded).catch_unwind().await {
                    Ok(reply) => reply,
                    Err(panic) => Reply::without_payload(Outcome::Panicked(message(panic)), started.elapsed()),
                }
            }
            .boxed()
        };
        self.routes
            .push(Route { method: Arc::clone(method), handler: Handler::Async(Arc::new(handler), Arc::default()) });
    }
}

/// Arguments of at least this many bytes are decoded on the runtime of the handler, because that may take milliseconds,
/// for which the threads that serve connections must not wait.
const LARGE: usize = 256 * 1024;

/// Decodes the arguments and makes the handler's future; a panic in making it is caught as well.
fn start<A: DecodeArguments, F>(
    payload: Bytes,
    stream: Option<ArgumentStream>,
    max_depth: u16,
    handler: impl FnOnce(A) -> F,
) -> Result<F, Outcome> {
    let arguments = decode_arguments::<A>(Encoded::Whole(payload), stream, max_depth)?;
    caught(AssertUnwindSafe(|| handler(arguments))).map_err(Outcome::Panicked)
}

/// Decodes the arguments, and frees their frame if nothing else is in it.
fn decode_arguments<A: DecodeArguments>(
    arguments: Encoded<'_>,
    stream: Option<ArgumentStream>,
    max_depth: u16,
) -> Result<A, Outcome> {
    let decode = |mut decoder: Decoder<'_>| -> Result<A, CodecError> {
        let arguments = A::decode(&mut decoder, stream)?;
        decoder.finish()?;
        Ok(arguments)
    };
    let decoded = decoded(|| match arguments {
        Encoded::Whole(frame) => decode(Decoder::new(&frame, max_depth)),
        Encoded::Part(decoder) => decode(decoder),
    });
    decoded.map_err(|error| Outcome::Refused(Refusal::Decode(cut(error.to_string()))))
}

/// Waits for a handler, which ends early if its stream of arguments fails.
async fn unless_failed<F: Future>(future: F, failure: &ArgumentFailure) -> Result<F::Output, Outcome> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Ok(result)),
        // It fails while it is polled, so the waker need not be kept.
        Poll::Pending => failure.outcome().map_or(Poll::Pending, |outcome| Poll::Ready(Err(outcome))),
    })
    .await
}

/// Where the items of a handler go. A node makes the pipe, as the signature says.
fn of_handler(pipe: Option<Arc<ItemPipe>>) -> Arc<ItemPipe> {
    pipe.unwrap_or_else(|| ItemPipe::new(StreamRole::Items))
}

/// The reply of a handler that has returned a stream: how many bytes that has.
fn encode_length(produced: Produced, reply: &mut Encoder) -> Outcome {
    match produced.0 {
        Ok(length) => encode_as(Outcome::Value, &length, reply),
        Err(outcome) => outcome,
    }
}

fn encode_value<T: Serialize + 'static>(value: T, reply: &mut Encoder) -> Outcome {
    encode_as(Outcome::Value, &value, reply)
}

fn encode_result<T: Serialize + 'static, E: Serialize + 'static>(result: Result<T, E>, reply: &mut Encoder) -> Outcome {
    match result {
        Ok(value) => encode_as(Outcome::Value, &value, reply),
        Err(error) => encode_as(Outcome::Error, &error, reply),
    }
}

fn encode_as<T: Serialize + 'static>(outcome: Outcome, value: &T, reply: &mut Encoder) -> Outcome {
    let before = reply.size();
    match reply.put(value) {
        Ok(()) if reply.is_within_limit() => outcome,
        Ok(()) => Outcome::TooLarge { size: reply.size() - before, limit: reply.limit() - before },
        Err(error) => Outcome::Encode(cut(error.to_string())),
    }
}

/// A method and what runs it.
pub(crate) struct Route {
    pub(crate) method: Arc<MethodInfo>,
    pub(crate) handler: Handler,
}

/// The arguments of a call.
pub(crate) enum Arguments<'a> {
    /// In a frame of their own, with the streams that travel beside it.
    Whole(Bytes, CallStreams),
    /// In a batch, with those of other calls.
    Part(Decoder<'a>),
}

/// The encoded arguments of a call.
enum Encoded<'a> {
    /// Freed once they are decoded, so that a large argument does not take its memory twice.
    Whole(Bytes),
    Part(Decoder<'a>),
}

impl<'a> Arguments<'a> {
    fn split(self) -> (Encoded<'a>, CallStreams) {
        match self {
            Self::Whole(frame, streams) => (Encoded::Whole(frame), streams),
            Self::Part(decoder) => (Encoded::Part(decoder), CallStreams::default()),
        }
    }
}

pub(crate) type AsyncHandler = Arc<dyn Fn(Bytes, CallStreams, ValueLimits) -> BoxFuture<'static, Reply> + Send + Sync>;

pub(crate) type ComputeHandler = Arc<dyn Fn(Arguments<'_>, &mut Encoder) -> Outcome + Send + Sync>;

/// Runs a method on encoded arguments.
///
/// A compute handler encodes its value or error, within the limit of the encoder, and returns which of the two it is. An
/// async handler makes the whole reply, with a value within the limits.
#[derive(Clone)]
pub(crate) enum Handler {
    Compute(ComputeHandler),
    Async(AsyncHandler, Arc<FirstPollTime>),
}

impl Route {
    pub(crate) fn kind(&self) -> MethodKind {
        match self.handler {
            Handler::Compute(_) => MethodKind::Compute,
            Handler::Async(..) => MethodKind::Async,
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("method", &self.method).field("kind", &self.kind()).finish()
    }
}

/// All methods that a node serves.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: HashMap<MethodId, Route>,
}

impl Router {
    /// Collects the services of a node. A service may be served in several versions.
    ///
    /// # Errors
    ///
    /// [`Error::ServedTwice`] if two services have a method of the same name and version, or if the ids of two methods
    /// collide.
    pub(crate) fn new(services: impl IntoIterator<Item = Routes>) -> Result<Self, Error> {
        let mut router = Self::default();
        let mut names = std::collections::HashSet::new();
        for service in services {
            for route in service.routes {
                let (name, version) = (route.method.name().clone(), route.method.version());
                if !names.insert((name.clone(), version)) || router.routes.insert(route.method.id(), route).is_some() {
                    return Err(Error::ServedTwice { method: name });
                }
            }
        }
        Ok(router)
    }

    pub(crate) fn route(&self, method: u64) -> Option<&Route> {
        self.routes.get(&MethodId(method))
    }

    /// The methods as a registration lists them, sorted by service, version and name.
    pub(crate) fn offers(&self) -> Vec<MethodOffer> {
        let mut offers: Vec<_> =
            self.routes.values().map(|route| MethodOffer { kind: route.kind(), ..route.method.offer() }).collect();
        offers.sort_by(|a, b| (&a.service, a.version, &a.name).cmp(&(&b.service, b.version, &b.name)));
        // All must fit into the registration. They are for people alone: ids tell methods apart.
        let mut left = STRUCTURES_LIMIT;
        for offer in &mut offers {
            let length: usize = offer.structure.iter().map(Definition::size).sum();
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => offer.structure = vec![Definition::left_out()],
            }
        }
        offers
    }
}
