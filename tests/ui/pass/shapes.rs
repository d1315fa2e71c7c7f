//! What a service's methods look like: any number of arguments, any answer, `fn` and `async fn`.

#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use distribution::Call;
use serde::{Deserialize, Serialize};

/// Why there is no value.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchError {
    /// The key that has none.
    pub key: String,
}

/// Arithmetic and more.
#[distribution::service(version = 2, name = "calculations/arith:v.2-b_1", idempotent)]
pub trait Arith: Debug {
    /// Sum of `values`.
    fn sum(&self, values: Vec<i64>) -> i64;

    /// The value of `key`.
    async fn fetch(&self, key: String) -> Result<Vec<u8>, FetchError>;

    /// A call that can be repeated.
    #[rpc(idempotent)]
    fn count(&self, from: u64, to: u64) -> u64;

    /// Nothing in, nothing out.
    fn touch(&self);

    /// Nothing in, nothing out, later.
    async fn touch_later(&self);

    /// The unit type, written.
    #[allow(clippy::unused_unit)]
    fn unit(&self, unit: ()) -> ();

    /// Arguments with documentation and attributes.
    fn attributes(
        &self,
        /// Documentation of an argument.
        #[allow(unused_variables)]
        first: u8,
        /** Another kind of it. */
        #[warn(unused_variables)]
        second: u8,
    ) -> u8;

    /// A `Result` by its whole path.
    fn by_std(&self, fails: bool) -> std::result::Result<u8, FetchError>;

    /// A `Result` by its whole path.
    async fn by_core(&self, fails: bool) -> ::core::result::Result<(), String>;

    /// A `Result` inside another type is no more than a value.
    fn inside(&self) -> Option<Result<u8, String>>;

    /// A `Result` within a `Result`.
    fn within(&self) -> Result<Result<u8, String>, FetchError>;

    /// Types of every kind.
    fn kinds(&self, map: HashMap<String, Vec<(u8, [f64; 3])>>, nothing: ((),), text: Box<str>) -> (u8, (u16,));

    /// As many arguments as there can be.
    #[allow(clippy::too_many_arguments)]
    fn sixteen(
        &self,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
        m: u8,
        n: u8,
        o: u8,
        p: u8,
    ) -> u32;
}

#[derive(Debug)]
struct Calculator;

impl Arith for Calculator {
    fn sum(&self, values: Vec<i64>) -> i64 {
        values.iter().sum()
    }

    async fn fetch(&self, key: String) -> Result<Vec<u8>, FetchError> {
        if key.is_empty() { Err(FetchError { key }) } else { Ok(key.into_bytes()) }
    }

    fn count(&self, from: u64, to: u64) -> u64 {
        to - from
    }

    fn touch(&self) {}

    async fn touch_later(&self) {}

    fn unit(&self, (): ()) {}

    fn attributes(&self, first: u8, second: u8) -> u8 {
        first + second
    }

    fn by_std(&self, fails: bool) -> Result<u8, FetchError> {
        if fails { Err(FetchError { key: String::new() }) } else { Ok(1) }
    }

    async fn by_core(&self, fails: bool) -> Result<(), String> {
        if fails { Err(String::new()) } else { Ok(()) }
    }

    fn inside(&self) -> Option<Result<u8, String>> {
        None
    }

    fn within(&self) -> Result<Result<u8, String>, FetchError> {
        Ok(Ok(1))
    }

    fn kinds(&self, map: HashMap<String, Vec<(u8, [f64; 3])>>, _: ((),), text: Box<str>) -> (u8, (u16,)) {
        (u8::try_from(map.len()).unwrap_or(0), (u16::try_from(text.len()).unwrap_or(0),))
    }

    fn sixteen(
        &self,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
        m: u8,
        n: u8,
        o: u8,
        p: u8,
    ) -> u32 {
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p].map(u32::from).iter().sum()
    }
}

/// What each method of the client returns; it is compiled and not run.
fn calls(arith: &ArithClient) {
    let _: Call<i64> = arith.sum(vec![2, 4, 6]);
    let _: Call<Vec<u8>, FetchError> = arith.fetch(String::new());
    let _: Call<u64> = arith.count(0, 1);
    let _: Call<()> = arith.touch();
    let _: Call<()> = arith.touch_later();
    let _: Call<()> = arith.unit(());
    let _: Call<u8> = arith.attributes(1, 2);
    let _: Call<u8, FetchError> = arith.by_std(true);
    let _: Call<(), String> = arith.by_core(true);
    let _: Call<Option<Result<u8, String>>> = arith.inside();
    let _: Call<Result<u8, String>, FetchError> = arith.within();
    let _: Call<(u8, (u16,))> = arith.kinds(HashMap::new(), ((),), "".into());
    let _: Call<u32> = arith.sixteen(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
}

fn send<F: Future + Send>(future: F) -> F {
    future
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for something"),
    }
}

fn properties<T: Clone + Debug + Send + Sync + 'static>() {}

fn main() {
    let calculator = Calculator;
    assert_eq!(calculator.sum(vec![2, 4, 6]), 12);
    assert_eq!(calculator.sixteen(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), 136);
    assert_eq!(now(send(calculator.fetch("a".to_owned()))), Ok(vec![97]));
    assert_eq!(now(calculator.fetch(String::new())), Err(FetchError { key: String::new() }));
    now(send(calculator.touch_later()));

    let server = ArithServer::new(Calculator);
    assert_eq!(format!("{server:?}"), "ArithServer { .. }");
    properties::<ArithClient>();
    let _ = calls;
}
