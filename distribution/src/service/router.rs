//! The node's side of a service: from a method's id to the handler that decodes, runs and encodes.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    arguments::DecodeArguments,
    method::{Method, MethodId, MethodKind, Side},
    structure::Structure,
};
use crate::{
    error::{CodecError, Error},
    wire::{
        Outcome, Refusal, Reply,
        codec::{Decoder, Encoder},
        frame::BODY_HEADER_LIMIT,
        hello::{Definition, MethodOffer, STRUCTURES_LIMIT},
    },
};

/// A service that a node can serve: what `#[distribution::service]` makes of a trait and an
/// implementation, `ArithServer::new(implementation)`.
pub trait Service: Send + Sync + 'static {
    /// The service's methods with their handlers.
    #[doc(hidden)]
    fn routes(self) -> Routes;
}

/// The methods of one service, each with its handler. Filled by generated code.
#[derive(Debug)]
pub struct Routes {
    service: &'static str,
    routes: Vec<Route>,
}

impl Routes {
    /// No methods yet.
    pub fn new(service: &'static str) -> Self {
        Self { service, routes: Vec::new() }
    }

    /// Adds a `fn` that returns a plain value.
    pub fn compute<A, T>(&mut self, method: &'static Method, handler: impl Fn(A) -> T + Send + Sync + 'static)
    where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
    {
        method.find(Side::Serves, Structure::plain::<A, T>);
        self.add_compute(method, handler, encode_value);
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
        method.find(Side::Serves, Structure::fallible::<A, T, E>);
        self.add_compute(method, handler, encode_result);
    }

    /// Adds an `async fn` that returns a plain value.
    pub fn asynchronous<A, T, F>(&mut self, method: &'static Method, handler: impl Fn(A) -> F + Send + Sync + 'static)
    where
        A: DecodeArguments,
        T: Serialize + DeserializeOwned + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        method.find(Side::Serves, Structure::plain::<A, T>);
        self.add_asynchronous(method, handler, encode_value);
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
        method.find(Side::Serves, Structure::fallible::<A, T, E>);
        self.add_asynchronous(method, handler, encode_result);
    }

    fn add_compute<A, R>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A) -> R + Send + Sync + 'static,
        encode: fn(R, &mut Encoder) -> Outcome,
    ) where
        A: DecodeArguments,
        R: 'static,
    {
        let handler = move |mut arguments: Decoder<'_>, reply: &mut Encoder| {
            let mark = reply.mark();
            // A user's `Deserialize` and `Serialize` are no less likely to panic than the handler.
            let outcome = match catch_unwind(AssertUnwindSafe(|| decode_arguments::<A>(&mut arguments))) {
                Ok(Ok(arguments)) => catch_unwind(AssertUnwindSafe(|| encode(handler(arguments), reply)))
                    .unwrap_or_else(|panic| Outcome::Panicked(message(&*panic))),
                Ok(Err(error)) => Outcome::Refused(Refusal::Decode(cut(error.to_string()))),
                Err(panic) => Outcome::Refused(Refusal::Decode(message(&*panic))),
            };
            if !matches!(outcome, Outcome::Value | Outcome::Error) {
                reply.rewind(mark);
            }
            outcome
        };
        self.routes.push(Route { method, handler: Handler::Compute(Arc::new(handler)) });
    }

    fn add_asynchronous<A, R, F>(
        &mut self,
        method: &'static Method,
        handler: impl Fn(A) -> F + Send + Sync + 'static,
        encode: fn(R, &mut Encoder) -> Outcome,
    ) where
        A: DecodeArguments,
        R: 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler = move |payload: Bytes, limit: usize| {
            let handler = Arc::clone(&handler);
            async move {
                // The arguments' type need not be `Send`, so they never live across an await: they are
                // decoded and handed over before the first one.
                let started = Instant::now();
                let future = match start::<A, F>(&payload, &*handler) {
                    Ok(future) => future,
                    Err(outcome) => return Reply::without_payload(outcome, started.elapsed()),
                };
                let encoded = async move {
                    let result = future.await;
                    let mut reply = Encoder::new(limit);
                    let outcome = encode(result, &mut reply);
                    Reply::new(outcome, started.elapsed(), reply)
                };
                match AssertUnwindSafe(encoded).catch_unwind().await {
                    Ok(reply) => reply,
                    Err(panic) => Reply::without_payload(Outcome::Panicked(message(&*panic)), started.elapsed()),
                }
            }
            .boxed()
        };
        self.routes.push(Route { method, handler: Handler::Async(Arc::new(handler), Arc::default()) });
    }
}

/// Decodes the arguments and makes the handler's future; a panic in making it is caught as well.
fn start<A: DecodeArguments, F>(payload: &Bytes, handler: &impl Fn(A) -> F) -> Result<F, Outcome> {
    match catch_unwind(AssertUnwindSafe(|| decode_arguments::<A>(&mut Decoder::new(payload)))) {
        Ok(Ok(arguments)) => {
            catch_unwind(AssertUnwindSafe(|| handler(arguments))).map_err(|panic| Outcome::Panicked(message(&*panic)))
        }
        Ok(Err(error)) => Err(Outcome::Refused(Refusal::Decode(cut(error.to_string())))),
        Err(panic) => Err(Outcome::Refused(Refusal::Decode(message(&*panic)))),
    }
}

fn decode_arguments<A: DecodeArguments>(decoder: &mut Decoder<'_>) -> Result<A, CodecError> {
    let arguments = A::decode(decoder)?;
    decoder.finish()?;
    Ok(arguments)
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
        Ok(()) => Outcome::TooLarge { size: reply.size() - before, limit: reply.limit() },
        Err(error) => Outcome::Encode(cut(error.to_string())),
    }
}

/// What a panic said, as far as it is text.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    cut(text.unwrap_or("(the panic carried no text)").to_owned())
}

/// Shortens a message to what may stand in a reply's header.
fn cut(mut text: String) -> String {
    const MOST: usize = BODY_HEADER_LIMIT / 2;
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" …");
    }
    text
}

/// A method and what runs it.
pub(crate) struct Route {
    pub(crate) method: &'static Method,
    pub(crate) handler: Handler,
}

pub(crate) type ComputeHandler = Arc<dyn Fn(Decoder<'_>, &mut Encoder) -> Outcome + Send + Sync>;

/// Runs a method on encoded arguments.
///
/// A compute handler leaves its value or error with the encoder, whose limit is its own, and says which it
/// is. An async handler makes the whole reply; the number is the most bytes that its value may have.
#[derive(Clone)]
pub(crate) enum Handler {
    Compute(ComputeHandler),
    Async(Arc<dyn Fn(Bytes, usize) -> BoxFuture<'static, Reply> + Send + Sync>, Arc<Pace>),
}

/// How long an async method's handlers take until they first wait.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU32);

/// So many calls are taken for long after one that was.
const LONG_FOR: u32 = 256;

impl Pace {
    /// One was long, or was not.
    pub(crate) fn note(&self, is_long: bool) {
        if is_long {
            self.0.store(LONG_FOR, Ordering::Relaxed);
        }
    }

    /// Whether the next one is to be taken for long.
    pub(crate) fn is_long(&self) -> bool {
        // Racing threads may count one call twice, which does no harm.
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }
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
    /// Puts the services of a node together. A service may be there in several versions.
    ///
    /// # Errors
    ///
    /// [`Error::ServedTwice`] where two have the same method of the same name and version, or methods cannot be told
    /// apart because their ids collide.
    pub(crate) fn new(services: impl IntoIterator<Item = Routes>) -> Result<Self, Error> {
        let mut router = Self::default();
        let mut names = std::collections::HashSet::new();
        for service in services {
            for route in service.routes {
                let (name, version) = (route.method.name(), route.method.version());
                if !names.insert((name, version)) || router.routes.insert(route.method.id(), route).is_some() {
                    return Err(Error::ServedTwice { service: service.service, method: name.method });
                }
            }
        }
        Ok(router)
    }

    pub(crate) fn route(&self, method: u64) -> Option<&Route> {
        self.routes.get(&MethodId(method))
    }

    /// What a registration says of the methods, in the order of their services, versions and names.
    pub(crate) fn offers(&self) -> Vec<MethodOffer> {
        let mut offers: Vec<_> = self
            .routes
            .values()
            .map(|route| MethodOffer {
                id: route.method.id().0,
                service: route.method.name().service.to_owned(),
                version: route.method.version(),
                name: route.method.name().method.to_owned(),
                signature: route.method.signature().to_owned(),
                structure: route.method.definitions().to_vec(),
                compute: route.kind() == MethodKind::Compute,
            })
            .collect();
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
