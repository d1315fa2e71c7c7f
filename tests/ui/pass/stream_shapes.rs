//! What streams look like in a service's methods: returned or taken, of values or results, and in every way to write them.

#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]

use distribution::{Call, CallError, InProcess, StreamCall, Streaming};
use futures::{Stream, StreamExt, stream};

/// Streams of every shape.
#[distribution::service(version = 3, name = "streams", idempotent)]
pub trait Streams {
    /// An iterator of values.
    fn count(&self, end: u64) -> impl Iterator<Item = u64> + Send;

    /// An iterator of results.
    fn even(&self, end: u64) -> impl Iterator<Item = Result<u64, String>> + Send;

    /// A stream of values.
    fn count_later(&self, end: u64) -> impl Stream<Item = u64> + Send;

    /// A stream of results.
    #[rpc(idempotent)]
    fn even_later(&self, end: u64) -> impl Stream<Item = Result<u64, String>> + Send;

    /// Nothing in, nothing out, again and again.
    fn units(&self) -> impl Iterator<Item = ()> + Send;

    /// A stream as the only argument.
    fn sum(&self, values: Streaming<u64>) -> u64;

    /// A stream as the only argument, later.
    async fn sum_later(&self, values: Streaming<u64>) -> u64;

    /// A stream as the last argument.
    fn sum_below(&self, end: u64, values: Streaming<u64>) -> Result<u64, String>;

    /// A stream as the last argument, later.
    async fn sum_below_later(&self, end: u64, values: Streaming<u64>) -> Result<u64, String>;

    /// A stream as the last argument of many.
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
        p: Streaming<u8>,
    ) -> impl Iterator<Item = u8> + Send;

    /// A stream of what may be missing, which ends the answer's values.
    fn drain(&self, values: Streaming<Option<u64>>);

    /// A stream of results is one of values on its way to a node.
    fn failures(&self, values: Streaming<Result<u64, String>>) -> u64;

    /// Both ways.
    fn doubled(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send;

    /// Both ways, with errors.
    fn halved(&self, by: u64, values: Streaming<u64>) -> impl Iterator<Item = Result<u64, (u64, String)>> + Send;

    /// Both ways, later.
    fn doubled_later(&self, values: Streaming<u64>) -> impl Stream<Item = u64> + Send;

    /// Both ways, later, with errors.
    fn halved_later(&self, by: u64, values: Streaming<u64>) -> impl Stream<Item = Result<u64, (u64, String)>> + Send;

    /// An argument with documentation and an attribute.
    fn attributes(
        &self,
        /// Documentation of a stream.
        #[allow(unused_variables)]
        values: Streaming<u64>,
    ) -> impl Iterator<Item = u64> + Send;
}

/// The same, written in other ways.
#[distribution::service]
#[allow(unused_parens)]
pub trait Written {
    /// `Send` before the other bound.
    fn send_first(&self) -> impl Send + Iterator<Item = u64>;

    /// `Send` before the other bound.
    fn send_first_later(&self) -> impl Send + Stream<Item = u64>;

    /// By whole paths.
    fn by_std(
        &self,
        values: distribution::Streaming<u64>,
    ) -> impl std::iter::Iterator<Item = std::result::Result<u64, String>> + std::marker::Send;

    /// By whole paths.
    fn by_core(&self, values: ::distribution::Streaming<u64>) -> impl ::core::iter::Iterator<Item = u64> + Send;

    /// By whole paths.
    fn by_futures(&self) -> impl futures::Stream<Item = u64> + core::marker::Send;

    /// By whole paths.
    fn by_module(&self) -> impl futures::stream::Stream<Item = ::core::result::Result<u64, ()>> + Send;

    /// In parentheses, and with the commas that rustfmt leaves out.
    #[rustfmt::skip]
    fn parentheses(&self, values: (Streaming<(u64),>)) -> (impl (Iterator<Item = (u64),>) + (Send));

    /// A stream of streams' worth: what is in an item is a value like any other.
    fn inside(&self) -> impl Iterator<Item = Vec<Result<Option<u8>, String>>> + Send;
}

#[derive(Debug)]
struct Source;

fn even(number: u64) -> Result<u64, String> {
    if number % 2 == 0 { Ok(number) } else { Err(format!("{number} is odd")) }
}

fn divided(number: u64, by: u64) -> Result<u64, (u64, String)> {
    number.checked_div(by).ok_or_else(|| (number, "divided by nothing".to_owned()))
}

fn below(end: u64, sum: u64) -> Result<u64, String> {
    if sum < end { Ok(sum) } else { Err(format!("{sum} is too much")) }
}

impl Streams for Source {
    fn count(&self, end: u64) -> impl Iterator<Item = u64> + Send {
        0..end
    }

    fn even(&self, end: u64) -> impl Iterator<Item = Result<u64, String>> + Send {
        (0..end).map(even)
    }

    fn count_later(&self, end: u64) -> impl Stream<Item = u64> + Send {
        stream::iter(0..end)
    }

    fn even_later(&self, end: u64) -> impl Stream<Item = Result<u64, String>> + Send {
        stream::iter(0..end).map(even)
    }

    fn units(&self) -> impl Iterator<Item = ()> + Send {
        [(), ()].into_iter()
    }

    fn sum(&self, values: Streaming<u64>) -> u64 {
        values.into_iter().sum()
    }

    async fn sum_later(&self, values: Streaming<u64>) -> u64 {
        values.fold(0, async |sum, value| sum + value).await
    }

    fn sum_below(&self, end: u64, values: Streaming<u64>) -> Result<u64, String> {
        below(end, values.into_iter().sum())
    }

    async fn sum_below_later(&self, end: u64, values: Streaming<u64>) -> Result<u64, String> {
        below(end, self.sum_later(values).await)
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
        p: Streaming<u8>,
    ) -> impl Iterator<Item = u8> + Send {
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o].into_iter().chain(p)
    }

    fn drain(&self, values: Streaming<Option<u64>>) {
        values.into_iter().for_each(drop);
    }

    fn failures(&self, values: Streaming<Result<u64, String>>) -> u64 {
        values.into_iter().filter(Result::is_err).count() as u64
    }

    fn doubled(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
        values.into_iter().map(|value| value * 2)
    }

    fn halved(&self, by: u64, values: Streaming<u64>) -> impl Iterator<Item = Result<u64, (u64, String)>> + Send {
        values.into_iter().map(move |value| divided(value, by))
    }

    fn doubled_later(&self, values: Streaming<u64>) -> impl Stream<Item = u64> + Send {
        values.map(|value| value * 2)
    }

    fn halved_later(&self, by: u64, values: Streaming<u64>) -> impl Stream<Item = Result<u64, (u64, String)>> + Send {
        values.map(move |value| divided(value, by))
    }

    fn attributes(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
        values.into_iter()
    }
}

impl Written for Source {
    fn send_first(&self) -> impl Send + Iterator<Item = u64> {
        0..1
    }

    fn send_first_later(&self) -> impl Send + Stream<Item = u64> {
        stream::iter(0..2)
    }

    fn by_std(&self, values: Streaming<u64>) -> impl Iterator<Item = Result<u64, String>> + Send {
        values.into_iter().map(even)
    }

    fn by_core(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
        values.into_iter()
    }

    fn by_futures(&self) -> impl Stream<Item = u64> + Send {
        stream::iter(0..3)
    }

    fn by_module(&self) -> impl Stream<Item = Result<u64, ()>> + Send {
        stream::iter([Err(())])
    }

    fn parentheses(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
        values.into_iter()
    }

    fn inside(&self) -> impl Iterator<Item = Vec<Result<Option<u8>, String>>> + Send {
        [vec![Ok(None)]].into_iter()
    }
}

/// What each method of the clients returns; it is compiled and not run.
fn calls(streams: &StreamsClient, written: &WrittenClient) {
    let _: StreamCall<u64> = streams.count(1);
    let _: StreamCall<u64, String> = streams.even(1);
    let _: StreamCall<u64> = streams.count_later(1);
    let _: StreamCall<u64, String> = streams.even_later(1);
    let _: StreamCall<()> = streams.units();
    let _: Call<u64> = streams.sum(Streaming::from_iter([1]));
    let _: Call<u64, String> = streams.sum_below(1, Streaming::new(stream::iter([1])));
    let _: Call<()> = streams.drain(Streaming::from_iter([None]));
    let _: StreamCall<u64, (u64, String)> = streams.halved(2, Streaming::from_iter([1]));
    let _: StreamCall<u64, (u64, String)> = streams.halved_later(2, Streaming::from_iter([1]));
    let _: StreamCall<u64> = written.send_first();
    let _: StreamCall<u64, String> = written.by_std(Streaming::from_iter([1]));
    let _: StreamCall<u64, ()> = written.by_module();
    let _: StreamCall<Vec<Result<Option<u8>, String>>> = written.inside();
}

/// The items that come, each with its error.
fn all<T, E>(call: StreamCall<T, E>) -> Vec<Result<T, E>> {
    let item = |item: Result<T, CallError<E>>| match item {
        Ok(value) => Ok(value),
        Err(CallError::Handler(error)) => Err(error),
        Err(_) => panic!("the call fails"),
    };
    call.iter().map(item).collect()
}

fn main() {
    let direct = InProcess::new().serve(StreamsServer::new(Source)).serve(WrittenServer::new(Source));
    let (streams, written) = (StreamsClient::new(&direct), WrittenClient::new(&direct));
    let values = || Streaming::from_iter([2, 3]);
    let later = || Streaming::new(stream::iter([2, 3]));
    let odd = || Err("1 is odd".to_owned());

    assert_eq!(all(streams.count(3)), [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(all(streams.even(2)), [Ok(0), odd()]);
    assert_eq!(all(streams.count_later(2)), [Ok(0), Ok(1)]);
    assert_eq!(all(streams.even_later(3)), [Ok(0), odd(), Ok(2)]);
    assert_eq!(all(streams.units()).len(), 2);
    assert_eq!(streams.sum(values()).wait().ok(), Some(5));
    assert_eq!(streams.sum_later(later()).wait().ok(), Some(5));
    assert_eq!(streams.sum_below(6, later()).wait().ok(), Some(5));
    assert!(matches!(streams.sum_below_later(5, values()).wait(), Err(CallError::Handler(_))));
    let sixteen = streams.sixteen(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, Streaming::from_iter([16, 17]));
    assert_eq!(all(sixteen).len(), 17);
    assert!(streams.drain(Streaming::from_iter([None, Some(1)])).wait().is_ok());
    assert_eq!(streams.failures(Streaming::from_iter([Ok(1), odd()])).wait().ok(), Some(1));
    assert_eq!(all(streams.doubled(later())), [Ok(4), Ok(6)]);
    assert_eq!(all(streams.halved(2, values())), [Ok(1), Ok(1)]);
    assert_eq!(all(streams.doubled_later(values())), [Ok(4), Ok(6)]);
    assert_eq!(all(streams.halved_later(0, Streaming::from_iter([2]))), [Err((2, "divided by nothing".to_owned()))]);
    assert_eq!(all(streams.attributes(values())), [Ok(2), Ok(3)]);

    assert_eq!(all(written.send_first()), [Ok(0)]);
    assert_eq!(all(written.send_first_later()), [Ok(0), Ok(1)]);
    assert_eq!(all(written.by_std(Streaming::from_iter([1]))), [odd()]);
    assert_eq!(all(written.by_core(values())), [Ok(2), Ok(3)]);
    assert_eq!(all(written.by_futures()).len(), 3);
    assert_eq!(all(written.by_module()), [Err(())]);
    assert_eq!(all(written.parentheses(values())), [Ok(2), Ok(3)]);
    assert_eq!(all(written.inside()), [Ok(vec![Ok(None)])]);
    let _ = calls;
}
