//! A stream that a method returns is written in one way: `impl Iterator<Item = T> + Send`, or `impl Stream<..>`.

use distribution::StreamCall;
use futures::stream::{self, FusedStream, Stream};

#[distribution::service]
pub trait Streams {
    fn not_send(&self) -> impl Iterator<Item = u64>;
    fn not_send_later(&self) -> impl Stream<Item = Result<u64, String>>;
    fn forever(&self) -> impl Iterator<Item = u64> + Send + 'static;
    fn shared(&self) -> impl Stream<Item = u64> + Sync + Send;
    fn several(&self) -> impl Iterator<Item = u64> + Send + Clone + Unpin;
    fn double_ended(&self) -> impl DoubleEndedIterator<Item = u64> + Send;
    fn exact_size(&self) -> impl ExactSizeIterator<Item = Result<u64, String>>;
    fn exact_size_too(&self) -> impl Iterator<Item = u64> + ExactSizeIterator + Send;
    fn into_one(&self) -> impl IntoIterator<Item = u64> + Send;
    fn fused(&self) -> impl FusedStream<Item = u64> + Send;
    fn no_item(&self) -> impl Iterator + Send;
    fn no_item_later(&self) -> impl Send + Stream;
    fn no_impl(&self) -> Iterator<Item = u64>;
    fn no_impl_but_send(&self) -> Stream<Item = u64> + Send;
    fn nothing_but_send(&self) -> impl Send;
    async fn waited(&self) -> impl Stream<Item = u64> + Send;
    async fn waited_iterator(&self, end: u64) -> impl Iterator<Item = Result<u64, String>>;
    fn written_out(&self) -> impl Future<Output = u64> + Send;
    fn right(&self) -> impl Iterator<Item = u64> + Send;
}

struct Implementation;

impl Streams for Implementation {
    fn not_send(&self) -> impl Iterator<Item = u64> {
        0..1
    }
    fn not_send_later(&self) -> impl Stream<Item = Result<u64, String>> {
        stream::empty()
    }
    fn forever(&self) -> impl Iterator<Item = u64> + Send + 'static {
        0..1
    }
    fn shared(&self) -> impl Stream<Item = u64> + Sync + Send {
        stream::empty()
    }
    fn several(&self) -> impl Iterator<Item = u64> + Send + Clone + Unpin {
        0..1
    }
    fn double_ended(&self) -> impl DoubleEndedIterator<Item = u64> + Send {
        0..1
    }
    fn exact_size(&self) -> impl ExactSizeIterator<Item = Result<u64, String>> {
        [Ok(1)].into_iter()
    }
    fn exact_size_too(&self) -> impl Iterator<Item = u64> + ExactSizeIterator + Send {
        [1].into_iter()
    }
    fn into_one(&self) -> impl IntoIterator<Item = u64> + Send {
        [1]
    }
    fn fused(&self) -> impl FusedStream<Item = u64> + Send {
        stream::empty()
    }
    fn no_item(&self) -> impl Iterator + Send {
        0..1
    }
    fn no_item_later(&self) -> impl Send + Stream {
        stream::iter([1])
    }
    fn no_impl(&self) -> impl Iterator<Item = u64> {
        0..1
    }
    fn no_impl_but_send(&self) -> impl Stream<Item = u64> + Send {
        stream::empty()
    }
    fn nothing_but_send(&self) -> impl Send {
        0..1
    }
    async fn waited(&self) -> impl Stream<Item = u64> + Send {
        stream::empty()
    }
    async fn waited_iterator(&self, end: u64) -> impl Iterator<Item = Result<u64, String>> {
        (0..end).map(Ok)
    }
    async fn written_out(&self) -> u64 {
        1
    }
    fn right(&self) -> impl Iterator<Item = u64> + Send {
        0..1
    }
}

fn calls(client: &StreamsClient) {
    let _: StreamCall<u64> = client.not_send();
    let _: StreamCall<u64, String> = client.not_send_later();
    let _: StreamCall<u64> = client.forever();
    let _: StreamCall<u64, String> = client.exact_size();
    let _: StreamCall<u64> = client.into_one();
    let _: StreamCall<u64> = client.no_impl();
    let _: StreamCall<u64> = client.waited();
    let _: StreamCall<u64, String> = client.waited_iterator(1);
    let _: StreamCall<u64> = client.right();
}

fn main() {
    let _ = (StreamsServer::new(Implementation), calls);
}
