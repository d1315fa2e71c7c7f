//! Names that are keywords, or that generated code could take for its own.

#![deny(warnings, missing_docs, unused_qualifications)]
#![allow(missing_debug_implementations, reason = "one type for each name would say nothing more")]

use std::collections::HashMap;

use distribution::{Call, StreamCall, Streaming};
use futures::{Stream, StreamExt};

/// Names that need `r#`.
#[distribution::service]
pub trait Keywords {
    /// A method and an argument.
    fn r#type(&self, r#async: u8) -> u8;
    /// The same, later.
    async fn r#match(&self, r#fn: u8, r#dyn: u8) -> Result<u8, String>;
    /// A stream of them.
    fn r#while(&self, r#in: u8, r#for: Streaming<u8>) -> impl Iterator<Item = u8> + Send;
    /// The same, with `r#` where none is needed.
    fn r#loop(&self, r#move: r#Streaming<u8>) -> impl r#Stream<r#Item = Result<u8, String>> + r#Send;
}

#[distribution::service]
#[allow(non_camel_case_types)]
trait r#loop {
    fn r#break(&self, r#continue: u8);
}

/// Names that generated code uses, as methods.
#[distribution::service]
#[allow(clippy::should_implement_trait)]
pub trait Methods {
    /// As the other side of `Debug`.
    fn fmt(&self, formatter: u8) -> u8;
    /// As `Clone` has it.
    fn clone(&self) -> u8;
    /// As a future has it.
    fn poll(&self, context: u8) -> u8;
    /// As `Default` has it.
    fn default(&self) -> u8;
    /// As the generated client has it.
    fn call(&self, method: u8, arguments: u8) -> u8;
    /// As the generated client has it.
    fn call_fallible(&self) -> Result<u8, u8>;
    /// As a builder has it.
    fn serve(&self, node: u8) -> u8;
    /// As a builder has it.
    async fn name(&self, name: u8) -> u8;
    /// As a server has it.
    fn routes(&self, routes: u8) -> u8;
    /// As a server has it.
    fn implementation(&self, implementation: u8) -> u8;
    /// As the generated client has it.
    fn client(&self, client: u8) -> u8;
    /// As the generated client has it.
    fn caller(&self, caller: u8) -> u8;
    /// Almost the receiver.
    fn self_(&self, self_: u8) -> u8;
    /// As a call has it.
    async fn spawn(&self) -> u8;
    /// As the generated client has it.
    fn stream(&self, stream: Streaming<u8>) -> impl Stream<Item = u8> + Send;
    /// As a method's description has it.
    fn streaming(&self, items: u8, argument: Streaming<u8>) -> impl Iterator<Item = u8> + Send;
    /// As an iterator has it.
    fn next(&self) -> impl Iterator<Item = u8> + Send;
    /// As the items of a handler have it.
    fn iterate(&self, items: u8) -> impl Iterator<Item = u8> + Send;
    /// As a stream has it.
    fn poll_next(&self, cx: Streaming<u8>) -> impl Stream<Item = u8> + Send;
}

/// Names that generated code uses, as arguments.
#[distribution::service]
#[allow(clippy::too_many_arguments)]
pub trait Arguments {
    /// All at once.
    fn sync(&self, self_: u8, call: u8, caller: u8, clone: u8, name: u8, serve: u8, poll: u8, default: u8) -> u8;
    /// All at once, later.
    async fn later(&self, node: u8, payload: u8, request: u8, client: u8, implementation: u8, routes: u8) -> u8;
    /// The rest of them.
    async fn rest(&self, method: u8, arguments: u8, service: u8, handler: u8, formatter: u8) -> Result<u8, u8>;
    /// Those of streams.
    fn streams(&self, items: u8, whole: u8, stream: u8, tuple: Streaming<u8>) -> impl Stream<Item = u8> + Send;
    /// A stream without a name, beside the name that stands for it.
    fn unnamed_stream(&self, argument_1: u8, _: Streaming<u8>) -> impl Iterator<Item = u8> + Send;
    /// No name at all, beside the name that stands for it.
    fn unnamed(&self, _: u8, argument_0: u8, _unused: u8, _: u8) -> u8;
}

/// Types that are called like the generated ones' parameters, the traits that generated code asks for, and more.
pub mod hidden {
    #![allow(non_camel_case_types, dead_code, missing_docs)]

    use distribution::Streaming;
    use futures::{StreamExt, stream};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct S(pub u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct A;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct T;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct I;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Items;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Stream;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Streaming2(pub u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct StreamCall;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct SentArguments;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct ReceivedArguments;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Call;
    pub trait Send {}
    pub trait Sync {}
    pub trait Clone {}
    pub trait Service {}
    pub trait Caller {}
    pub trait Iterator {}
    pub trait IntoIterator {}
    pub struct Arc;
    pub struct RawClient;
    pub struct Routes;
    pub struct Method;
    pub enum Option {}
    pub enum Result {}
    pub struct u32;
    pub struct bool;
    pub struct str;
    pub mod core {}
    pub mod std {}

    /// Methods on everything, which would win over those of the runtime.
    pub trait Everywhere: Sized {
        fn call(self) {}
        fn compute(self) {}
        fn compute_stream(self) {}
        fn asynchronous(self) {}
        fn asynchronous_stream(self) {}
        fn stream(self) {}
        fn streaming(self) {}
        fn iterate(self) {}
        fn poll(self) {}
        fn clone(self) {}
        fn debug_struct(self) {}
        fn field(self) {}
        fn finish(self) {}
    }
    impl<T> Everywhere for T {}

    #[distribution::service]
    pub trait Hidden {
        fn parameter(&self, s: S, a: A) -> S;
        async fn call(&self, call: Call) -> Call;
        fn items(&self, t: T, i: Streaming<I>) -> impl ::core::iter::Iterator<Item = Items> + ::core::marker::Send;
        fn item(
            &self,
            item: Item,
        ) -> impl ::futures::Stream<Item = ::core::result::Result<Stream, T>> + ::core::marker::Send;
        fn streaming_2(&self, first: Streaming2, second: Streaming2) -> Streaming2;
        fn calls(
            &self,
            sent: SentArguments,
            received: ReceivedArguments,
            calls: Streaming<Streaming2>,
        ) -> impl ::futures::Stream<Item = StreamCall> + ::core::marker::Send;
    }

    pub struct Implementation;

    impl Hidden for Implementation {
        fn parameter(&self, s: S, A: A) -> S {
            s
        }
        async fn call(&self, call: Call) -> Call {
            call
        }
        fn items(&self, T: T, i: Streaming<I>) -> impl ::core::iter::Iterator<Item = Items> + ::core::marker::Send {
            i.into_iter().map(|I| Items)
        }
        fn item(
            &self,
            Item: Item,
        ) -> impl ::futures::Stream<Item = ::core::result::Result<Stream, T>> + ::core::marker::Send {
            stream::iter([Ok(Stream), Err(T)])
        }
        fn streaming_2(&self, first: Streaming2, Streaming2(_): Streaming2) -> Streaming2 {
            first
        }
        fn calls(
            &self,
            SentArguments: SentArguments,
            ReceivedArguments: ReceivedArguments,
            calls: Streaming<Streaming2>,
        ) -> impl ::futures::Stream<Item = StreamCall> + ::core::marker::Send {
            calls.map(|Streaming2(_)| StreamCall)
        }
    }
}

/// A service that is called like the parameter of most others.
#[distribution::service]
pub trait S {
    /// The parameter of its server has another name.
    fn method(&self) -> u8;
}

/// Without anything in scope.
pub mod bare {
    #![no_implicit_prelude]

    /// A service of primitive types.
    #[::distribution::service]
    pub trait Bare {
        /// One way of answering.
        fn plain(&self, value: u8) -> u8;
        /// The other way of answering.
        async fn fallible(&self, value: u8) -> ::core::result::Result<u8, ()>;
        /// A stream.
        fn items(
            &self,
            values: ::distribution::Streaming<u8>,
        ) -> impl ::core::iter::Iterator<Item = u8> + ::core::marker::Send;
        /// The other kind of stream.
        fn items_later(&self) -> impl ::core::marker::Send + ::futures::Stream<Item = ::core::result::Result<u8, ()>>;
    }
}

struct Implementation;

impl Keywords for Implementation {
    fn r#type(&self, r#async: u8) -> u8 {
        r#async
    }
    async fn r#match(&self, r#fn: u8, r#dyn: u8) -> Result<u8, String> {
        Ok(r#fn + r#dyn)
    }
    fn r#while(&self, r#in: u8, r#for: Streaming<u8>) -> impl Iterator<Item = u8> + Send {
        r#for.into_iter().map(move |value| r#in + value)
    }
    fn r#loop(&self, r#move: Streaming<u8>) -> impl Stream<Item = Result<u8, String>> + Send {
        r#move.map(Ok)
    }
}

impl r#loop for Implementation {
    fn r#break(&self, _: u8) {}
}

impl S for Implementation {
    fn method(&self) -> u8 {
        1
    }
}

impl Arguments for Implementation {
    fn sync(&self, self_: u8, call: u8, caller: u8, clone: u8, name: u8, serve: u8, poll: u8, default: u8) -> u8 {
        self_ + call + caller + clone + name + serve + poll + default
    }
    async fn later(&self, node: u8, payload: u8, request: u8, client: u8, implementation: u8, routes: u8) -> u8 {
        node + payload + request + client + implementation + routes
    }
    async fn rest(&self, method: u8, arguments: u8, service: u8, handler: u8, formatter: u8) -> Result<u8, u8> {
        Err(method + arguments + service + handler + formatter)
    }
    fn streams(&self, items: u8, whole: u8, stream: u8, tuple: Streaming<u8>) -> impl Stream<Item = u8> + Send {
        tuple.map(move |value| items + whole + stream + value)
    }
    fn unnamed_stream(&self, first: u8, second: Streaming<u8>) -> impl Iterator<Item = u8> + Send {
        second.into_iter().map(move |value| first + value)
    }
    fn unnamed(&self, first: u8, second: u8, third: u8, fourth: u8) -> u8 {
        first + second + third + fourth
    }
}

/// What each method of the clients returns; it is compiled and not run.
fn calls(
    keywords: &KeywordsClient,
    methods: &MethodsClient,
    arguments: &ArgumentsClient,
    hidden: &hidden::HiddenClient,
) {
    let _: Call<u8> = keywords.r#type(1);
    let _: Call<u8, String> = keywords.r#match(1, 2);
    let _: StreamCall<u8> = keywords.r#while(1, Streaming::from_iter([2]));
    let _: StreamCall<u8, String> = keywords.r#loop(Streaming::from_iter([2]));
    let _: Call<u8> = methods.clone();
    let _: MethodsClient = Clone::clone(methods);
    let _: Call<u8> = methods.call(1, 2);
    let _: Call<u8, u8> = methods.call_fallible();
    let _: StreamCall<u8> = methods.stream(Streaming::from_iter([1]));
    let _: StreamCall<u8> = methods.streaming(1, Streaming::from_iter([1]));
    let _: StreamCall<u8> = methods.next();
    let _: Call<u8> = arguments.unnamed(1, 2, 3, 4);
    let _: StreamCall<u8> = arguments.unnamed_stream(1, Streaming::from_iter([1]));
    let _: Call<hidden::S> = hidden.parameter(hidden::S(1), hidden::A);
    let _: Call<hidden::Call> = hidden.call(hidden::Call);
    let _: StreamCall<hidden::Items> = hidden.items(hidden::T, Streaming::from_iter([hidden::I]));
    let _: StreamCall<hidden::Stream, hidden::T> = hidden.item(hidden::Item);
    let _: Call<hidden::Streaming2> = hidden.streaming_2(hidden::Streaming2(1), hidden::Streaming2(2));
}

fn main() {
    let implementation = Implementation;
    assert_eq!(implementation.r#type(3), 3);
    assert_eq!(implementation.unnamed(1, 2, 3, 4), 10);
    assert_eq!(implementation.sync(1, 1, 1, 1, 1, 1, 1, 1), 8);
    let servers: HashMap<String, usize> = [
        format!("{:?}", KeywordsServer::new(Implementation)),
        format!("{:?}", loopServer::new(Implementation)),
        format!("{:?}", SServer::new(Implementation)),
        format!("{:?}", ArgumentsServer::new(Implementation)),
        format!("{:?}", hidden::HiddenServer::new(hidden::Implementation)),
    ]
    .map(|name| (name, 1))
    .into();
    assert_eq!(servers.len(), 5);
    let _ = calls;
}
