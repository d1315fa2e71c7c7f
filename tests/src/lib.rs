//! What the tests share: a service that shows what becomes of its calls, a place where tests meet
//! running handlers, and real processes.

#![allow(rustdoc::private_intra_doc_links, reason = "its documentation is read beside its source")]

#[cfg(feature = "browser")]
pub mod browser;
pub mod chatter;
pub mod impostor;
pub mod ledger;
pub mod line;
pub mod log;
pub mod meeting;
pub mod process;
pub mod proxy;
pub mod rogue_caller;
pub mod sources;
pub mod transport;
pub mod trust;
pub mod words;

use std::{convert::Infallible, future::IntoFuture, net::SocketAddr, time::Duration};

use distribution::{CallError, Events, NodeEvent};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

/// Far beyond what anything here takes; a test that gets there hangs.
pub const LONG: Duration = Duration::from_secs(60);

/// Awaits something that must happen.
///
/// # Panics
///
/// When it has not happened after a time that only a hang explains.
pub async fn soon<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// Waits until something is so that no event tells of.
///
/// # Panics
///
/// When it has not become so after a time that only a hang explains.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let looked = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(what, looked).await;
}

/// Waits for an event of this kind; others are passed over.
///
/// # Panics
///
/// When none has come after a time that only a hang explains, or the master has ended.
pub async fn event(events: &mut Events, what: &str, is_it: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
    let looked = async {
        loop {
            let event = events.next().await.expect("the master lives");
            if is_it(&event) {
                return event;
            }
        }
    };
    soon(what, looked).await
}

/// How a held call went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// The test let it go.
    Released,
    /// It noticed that nobody waits for it.
    Cancelled,
}

/// Methods that do what tests need to see.
#[distribution::service]
pub trait Probe {
    /// Adds.
    fn add(&self, a: i64, b: i64) -> i64;

    /// Adds, asynchronously.
    async fn add_async(&self, a: i64, b: i64) -> i64;

    /// Divides, and says so where it cannot.
    fn divide(&self, a: i64, b: i64) -> Result<i64, String>;

    /// Divides, asynchronously.
    async fn divide_async(&self, a: i64, b: i64) -> Result<i64, String>;

    /// Panics.
    fn panic(&self, message: String);

    /// Panics, asynchronously.
    async fn panic_async(&self, message: String);

    /// Gives this many bytes back.
    fn bytes(&self, count: u64) -> Vec<u8>;

    /// Takes bytes and says how many.
    fn length(&self, bytes: Vec<u8>) -> u64;

    /// Holds a slot until the test at this address lets it go.
    fn hold(&self, at: SocketAddr, tag: String) -> Held;

    /// Holds a slot until the test at this address lets it go, whether or not it is cancelled.
    fn ignore(&self, at: SocketAddr);

    /// Holds a slot until the test at this address lets it go, and may be repeated elsewhere.
    #[rpc(idempotent)]
    fn hold_again(&self, at: SocketAddr, tag: String) -> Held;

    /// Waits without a slot until the test at this address lets it go.
    async fn wait(&self, at: SocketAddr, tag: String) -> Held;

    /// Blocks a thread of the async runtime, as no handler should, until the test lets it go.
    async fn block(&self, at: SocketAddr, tag: String) -> Held;

    /// Holds a slot and its argument until the test at this address lets it go.
    fn keep(&self, text: String, at: SocketAddr) -> Held;

    /// The same without a slot.
    async fn keep_async(&self, text: String, at: SocketAddr) -> Held;

    /// The call's own number, attempt, and whether it has a deadline.
    fn current(&self) -> (u64, u32, bool);

    /// Gives a value back that may be nested.
    fn chain(&self, chain: Chain) -> Chain;

    /// The same, asynchronously.
    async fn chain_async(&self, chain: Chain) -> Chain;

    /// Calculates until it is cancelled.
    fn spin(&self) -> u64;

    /// Gives elements back that take no bytes.
    fn marks(&self, marks: Vec<()>) -> Vec<()>;
}

/// Two levels, itself and the option, for each link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain(Option<Box<Self>>);

impl Chain {
    /// Of this many links.
    pub fn new(links: usize) -> Self {
        (1..links).fold(Self(None), |below, _| Self(Some(Box::new(below))))
    }
}

/// Does it all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prober;

impl Probe for Prober {
    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    async fn add_async(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    fn divide(&self, a: i64, b: i64) -> Result<i64, String> {
        a.checked_div(b).ok_or_else(|| format!("{a} / {b} has no value"))
    }

    async fn divide_async(&self, a: i64, b: i64) -> Result<i64, String> {
        self.divide(a, b)
    }

    fn panic(&self, message: String) {
        panic!("{message}");
    }

    async fn panic_async(&self, message: String) {
        panic!("{message}");
    }

    fn bytes(&self, count: u64) -> Vec<u8> {
        vec![7; count as usize]
    }

    fn length(&self, bytes: Vec<u8>) -> u64 {
        bytes.len() as u64
    }

    fn hold(&self, at: SocketAddr, tag: String) -> Held {
        meeting::hold(at, &tag)
    }

    fn ignore(&self, at: SocketAddr) {
        meeting::ignore(at);
    }

    fn hold_again(&self, at: SocketAddr, tag: String) -> Held {
        meeting::hold(at, &tag)
    }

    async fn wait(&self, at: SocketAddr, tag: String) -> Held {
        meeting::wait(at, &tag).await
    }

    async fn block(&self, at: SocketAddr, tag: String) -> Held {
        meeting::hold(at, &tag)
    }

    fn keep(&self, text: String, at: SocketAddr) -> Held {
        let held = meeting::hold(at, "kept");
        drop(text);
        held
    }

    async fn keep_async(&self, text: String, at: SocketAddr) -> Held {
        let held = meeting::wait(at, "kept").await;
        drop(text);
        held
    }

    fn current(&self) -> (u64, u32, bool) {
        let call = distribution::current();
        (call.id().number(), call.attempt(), call.deadline().is_some())
    }

    fn chain(&self, chain: Chain) -> Chain {
        chain
    }

    async fn chain_async(&self, chain: Chain) -> Chain {
        chain
    }

    fn spin(&self) -> u64 {
        multiply_until_cancelled()
    }

    fn marks(&self, marks: Vec<()>) -> Vec<()> {
        marks
    }
}

/// The error of a call that must not have a value.
///
/// # Panics
///
/// If it has one.
pub fn failure<T: std::fmt::Debug>(result: Result<T, CallError<Infallible>>) -> CallError<Infallible> {
    result.expect_err("a call that must fail")
}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Uses a processor, under a name that a profile shows.
#[inline(never)]
fn multiply_until_cancelled() -> u64 {
    let call = distribution::current();
    let mut product = 1_u64;
    while !call.is_cancelled() {
        for factor in 1..10_000 {
            product = std::hint::black_box(product.wrapping_mul(factor) | 1);
        }
    }
    product
}
