//! The items of a stream are sent like arguments and answers, and each of them is a whole.

use std::borrow::Cow;
use std::io;

use distribution::{Call, StreamCall, Streaming};
use futures::stream::{self, Stream};

#[distribution::service]
pub trait Items {
    fn borrowed(&self) -> impl Iterator<Item = &str> + Send;
    fn borrowed_later(&self) -> impl Stream<Item = Result<&[u8], &'static str>> + Send;
    fn borrowed_and_not_send(&self) -> impl Iterator<Item = &str>;
    fn cow(&self) -> impl Iterator<Item = Cow<'static, str>> + Send;
    fn same(&self) -> impl Stream<Item = Self> + Send;
    fn anything(&self) -> impl Iterator<Item = impl Clone> + Send;
    fn iterators(&self) -> impl Iterator<Item = impl Iterator<Item = u64>> + Send;
    fn streamings(&self) -> impl Iterator<Item = Streaming<u64>> + Send;
    fn io(&self) -> impl Iterator<Item = io::Result<u64>> + Send;
    async fn io_later(&self) -> impl Stream<Item = io::Result<u64>>;
    fn text(&self, texts: Streaming<&str>) -> u64;
    fn text_first(&self, texts: Streaming<&'static str>, end: u64) -> u64;
    fn holders(&self, holders: Streaming<Option<Holder<'static>>>) -> u64;
    fn any_argument(&self, values: Streaming<impl Clone>) -> u64;
    fn right(&self, values: Streaming<Vec<String>>) -> impl Iterator<Item = Vec<String>> + Send;
}

pub struct Holder<'a>(pub &'a str);

#[derive(Clone)]
pub struct Implementation;

impl Items for Implementation {
    fn borrowed(&self) -> impl Iterator<Item = &str> + Send {
        ["a"].into_iter()
    }
    fn borrowed_later(&self) -> impl Stream<Item = Result<&[u8], &'static str>> + Send {
        stream::empty()
    }
    fn borrowed_and_not_send(&self) -> impl Iterator<Item = &str> {
        ["a"].into_iter()
    }
    fn cow(&self) -> impl Iterator<Item = Cow<'static, str>> + Send {
        [Cow::Borrowed("a")].into_iter()
    }
    fn same(&self) -> impl Stream<Item = Self> + Send {
        stream::empty()
    }
    fn anything(&self) -> impl Iterator<Item = impl Clone> + Send {
        [1].into_iter()
    }
    fn iterators(&self) -> impl Iterator<Item = impl Iterator<Item = u64>> + Send {
        [0..1].into_iter()
    }
    fn streamings(&self) -> impl Iterator<Item = Streaming<u64>> + Send {
        [Streaming::from_iter(0..1)].into_iter()
    }
    fn io(&self) -> impl Iterator<Item = io::Result<u64>> + Send {
        [Ok(1)].into_iter()
    }
    async fn io_later(&self) -> impl Stream<Item = io::Result<u64>> {
        stream::empty()
    }
    fn text(&self, _: Streaming<&str>) -> u64 {
        1
    }
    fn text_first(&self, _: Streaming<&'static str>, _: u64) -> u64 {
        1
    }
    fn holders(&self, _: Streaming<Option<Holder<'static>>>) -> u64 {
        1
    }
    fn any_argument(&self, _: Streaming<impl Clone>) -> u64 {
        1
    }
    fn right(&self, values: Streaming<Vec<String>>) -> impl Iterator<Item = Vec<String>> + Send {
        values.into_iter()
    }
}

fn calls(client: &ItemsClient) {
    let _: StreamCall<String> = client.borrowed();
    let _: StreamCall<Vec<u8>, String> = client.borrowed_later();
    let _: StreamCall<String> = client.cow();
    let _: StreamCall<u64> = client.io();
    let _: Call<u64> = client.text(Streaming::from_iter([""]));
    let _: StreamCall<Vec<String>> = client.right(Streaming::from_iter([vec![]]));
}

fn main() {
    let _ = (ItemsServer::new(Implementation), calls);
}
