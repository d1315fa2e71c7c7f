//! A stream is all that a method returns, and not a part of it.

use std::pin::Pin;

use distribution::{Call, StreamCall, Streaming};
use futures::stream::{self, BoxStream, Stream, StreamExt};

#[distribution::service]
pub trait Inside {
    fn list(&self) -> Vec<impl Iterator<Item = u64> + Send>;
    fn option(&self) -> Option<impl Stream<Item = u64> + Send>;
    fn tuple(&self) -> (u64, impl Iterator<Item = u64>);
    fn result(&self) -> Result<impl Iterator<Item = u64> + Send, String>;
    async fn result_later(&self) -> Result<impl Stream<Item = u64>, String>;
    fn without_impl(&self) -> Option<Iterator<Item = u64>>;
    fn boxed(&self) -> Box<dyn Iterator<Item = u64> + Send>;
    async fn pinned(&self) -> Pin<Box<dyn Stream<Item = u64> + Send>>;
    fn boxed_stream(&self) -> BoxStream<'static, u64>;
    fn fallible(&self) -> Result<BoxStream<'static, u64>, String>;
    fn streaming(&self) -> Streaming<u64>;
    async fn streaming_inside(&self) -> Option<Streaming<u64>>;
    fn right(&self) -> Result<u64, String>;
    fn right_stream(&self) -> impl Stream<Item = u64> + Send;
}

struct Implementation;

impl Inside for Implementation {
    fn list(&self) -> Vec<impl Iterator<Item = u64> + Send> {
        vec![0..1]
    }
    fn option(&self) -> Option<impl Stream<Item = u64> + Send> {
        Some(stream::empty())
    }
    fn tuple(&self) -> (u64, impl Iterator<Item = u64>) {
        (1, 0..1)
    }
    fn result(&self) -> Result<impl Iterator<Item = u64> + Send, String> {
        Ok(0..1)
    }
    async fn result_later(&self) -> Result<impl Stream<Item = u64>, String> {
        Ok(stream::empty())
    }
    fn without_impl(&self) -> Option<impl Iterator<Item = u64>> {
        Some(0..1)
    }
    fn boxed(&self) -> Box<dyn Iterator<Item = u64> + Send> {
        Box::new(0..1)
    }
    async fn pinned(&self) -> Pin<Box<dyn Stream<Item = u64> + Send>> {
        stream::empty().boxed()
    }
    fn boxed_stream(&self) -> BoxStream<'static, u64> {
        stream::empty().boxed()
    }
    fn fallible(&self) -> Result<BoxStream<'static, u64>, String> {
        Ok(stream::empty().boxed())
    }
    fn streaming(&self) -> Streaming<u64> {
        Streaming::from_iter(0..1)
    }
    async fn streaming_inside(&self) -> Option<Streaming<u64>> {
        None
    }
    fn right(&self) -> Result<u64, String> {
        Ok(1)
    }
    fn right_stream(&self) -> impl Stream<Item = u64> + Send {
        stream::empty()
    }
}

fn calls(client: &InsideClient) {
    let _: Call<u64, String> = client.right();
    let _: StreamCall<u64> = client.right_stream();
}

fn main() {
    let _ = (InsideServer::new(Implementation), calls);
}
