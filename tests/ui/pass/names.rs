//! Names that are keywords, or that generated code could take for its own.

#![deny(warnings, missing_docs, unused_qualifications)]
#![allow(missing_debug_implementations, reason = "one type for each name would say nothing more")]

use std::collections::HashMap;

use distribution::Call;

/// Names that need `r#`.
#[distribution::service]
pub trait Keywords {
    /// A method and an argument.
    fn r#type(&self, r#async: u8) -> u8;
    /// The same, later.
    async fn r#match(&self, r#fn: u8, r#dyn: u8) -> Result<u8, String>;
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
    /// No name at all, beside the name that stands for it.
    fn unnamed(&self, _: u8, argument_0: u8, _unused: u8, _: u8) -> u8;
}

/// Types that are called like the generated ones' parameters, the traits that generated code asks for, and more.
pub mod hidden {
    #![allow(non_camel_case_types, dead_code, missing_docs)]

    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct S(pub u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct A;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub struct Call;
    pub trait Send {}
    pub trait Sync {}
    pub trait Clone {}
    pub trait Service {}
    pub trait Caller {}
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
        fn asynchronous(self) {}
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
    }

    pub struct Implementation;

    impl Hidden for Implementation {
        fn parameter(&self, s: S, A: A) -> S {
            s
        }
        async fn call(&self, call: Call) -> Call {
            call
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
    let _: Call<u8> = methods.clone();
    let _: MethodsClient = Clone::clone(methods);
    let _: Call<u8> = methods.call(1, 2);
    let _: Call<u8, u8> = methods.call_fallible();
    let _: Call<u8> = arguments.unnamed(1, 2, 3, 4);
    let _: Call<hidden::S> = hidden.parameter(hidden::S(1), hidden::A);
    let _: Call<hidden::Call> = hidden.call(hidden::Call);
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
