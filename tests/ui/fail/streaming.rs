//! A method takes one stream, as its last argument, and as a `Streaming`.

use distribution::{Call, Streaming};
use futures::stream::{self, BoxStream, Stream};

#[distribution::service]
pub trait Arguments {
    fn iterator(&self, values: impl Iterator<Item = u64>) -> u64;
    fn stream(&self, values: impl Stream<Item = u64> + Send, more: u64) -> u64;
    fn anything(&self, values: impl Clone) -> u64;
    fn inside(&self, values: Option<impl IntoIterator<Item = u64>>) -> u64;
    fn without_impl(&self, values: Iterator<Item = u64>) -> u64;
    fn boxed(&self, values: Box<dyn Iterator<Item = u64>>) -> u64;
    fn boxed_stream(&self, values: BoxStream<'_, u64>) -> u64;
    async fn borrowed(&self, values: &mut (dyn Iterator<Item = u64> + Send)) -> u64;
    fn not_last(&self, values: Streaming<u64>, more: u64) -> u64;
    fn twice(&self, first: Streaming<u64>, second: Streaming<u32>) -> u64;
    fn twice_and_more(&self, first: Streaming<u64>, second: Streaming<u64>, more: u64) -> u64;
    fn list(&self, values: Vec<Streaming<u64>>) -> u64;
    fn option(&self, values: Option<Streaming<u64>>) -> u64;
    fn tuple(&self, values: (u64, distribution::Streaming<u64>)) -> u64;
    fn streams(&self, values: Streaming<Streaming<u64>>) -> u64;
    fn reference(&self, values: &Streaming<u64>) -> u64;
    fn mutable(&self, mut values: Streaming<u64>) -> u64;
    fn right(&self, more: u64, values: Streaming<u64>) -> u64;
}

struct Implementation;

impl Arguments for Implementation {
    fn iterator(&self, _: impl Iterator<Item = u64>) -> u64 {
        1
    }
    fn stream(&self, _: impl Stream<Item = u64> + Send, _: u64) -> u64 {
        1
    }
    fn anything(&self, _: impl Clone) -> u64 {
        1
    }
    fn inside(&self, _: Option<impl IntoIterator<Item = u64>>) -> u64 {
        1
    }
    fn without_impl(&self, _: Streaming<u64>) -> u64 {
        1
    }
    fn boxed(&self, _: Box<dyn Iterator<Item = u64>>) -> u64 {
        1
    }
    fn boxed_stream(&self, _: BoxStream<'_, u64>) -> u64 {
        1
    }
    async fn borrowed(&self, _: &mut (dyn Iterator<Item = u64> + Send)) -> u64 {
        1
    }
    fn not_last(&self, _: Streaming<u64>, _: u64) -> u64 {
        1
    }
    fn twice(&self, _: Streaming<u64>, _: Streaming<u32>) -> u64 {
        1
    }
    fn twice_and_more(&self, _: Streaming<u64>, _: Streaming<u64>, _: u64) -> u64 {
        1
    }
    fn list(&self, _: Vec<Streaming<u64>>) -> u64 {
        1
    }
    fn option(&self, _: Option<Streaming<u64>>) -> u64 {
        1
    }
    fn tuple(&self, _: (u64, Streaming<u64>)) -> u64 {
        1
    }
    fn streams(&self, _: Streaming<Streaming<u64>>) -> u64 {
        1
    }
    fn reference(&self, _: &Streaming<u64>) -> u64 {
        1
    }
    fn mutable(&self, mut values: Streaming<u64>) -> u64 {
        values = Streaming::from_iter(values);
        values.into_iter().sum()
    }
    fn right(&self, _: u64, _: Streaming<u64>) -> u64 {
        1
    }
}

fn calls(client: &ArgumentsClient) {
    let _: Call<u64> = client.iterator(0..1);
    let _: Call<u64> = client.stream(stream::iter([1]), 1);
    let _: Call<u64> = client.not_last(Streaming::from_iter(0..1), 1);
    let _: Call<u64> = client.twice(Streaming::from_iter(0..1), Streaming::from_iter(0..1));
    let _: Call<u64> = client.option(None::<Streaming<u64>>);
    let _: Call<u64> = client.reference(&Streaming::from_iter(0..1));
    let _: Call<u64> = client.mutable(Streaming::from_iter(0..1));
    let _: Call<u64> = client.right(1, Streaming::from_iter(0..1));
}

fn main() {
    let _ = (ArgumentsServer::new(Implementation), calls);
}
