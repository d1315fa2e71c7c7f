//! A service whose methods are streams, and that notes what becomes of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use distribution::{LocalCluster, Streaming, service};
use futures::{Stream, StreamExt, stream};

#[service]
pub(crate) trait Streams {
    /// The numbers below `end`.
    fn count(&self, end: u64) -> impl Iterator<Item = u64> + Send;

    /// The same, as one that may be run again.
    #[rpc(idempotent)]
    fn count_again(&self, end: u64) -> impl Iterator<Item = u64> + Send;

    /// The numbers below `end`, without a slot.
    fn count_waiting(&self, end: u64) -> impl Stream<Item = u64> + Send;

    /// Yields the numbers below `end`, and then nothing for ever.
    fn stuck_after(&self, end: u64) -> impl Stream<Item = u64> + Send;

    /// Yields the numbers below `end`, an error for each odd one.
    fn even(&self, end: u64) -> impl Iterator<Item = Result<u64, String>> + Send;

    /// Yields the numbers below `end`, and panics then.
    fn panic_after(&self, end: u64) -> impl Iterator<Item = u64> + Send;

    /// Texts of these lengths.
    fn texts(&self, lengths: Vec<u64>) -> impl Stream<Item = Result<String, u8>> + Send;

    /// This many blocks of this many bytes.
    fn blocks(&self, count: u64, size: u64) -> impl Iterator<Item = Bytes> + Send;

    /// The sum of all values.
    fn sum(&self, first: u64, values: Streaming<u64>) -> u64;

    /// The same, without a slot. An error for a sum of 13.
    async fn sum_waiting(&self, values: Streaming<u64>) -> Result<u64, String>;

    /// The sum of the first `count` values; the others are not read.
    async fn sum_first(&self, count: u64, values: Streaming<u64>) -> u64;

    /// The bytes of all blocks.
    async fn length(&self, blocks: Streaming<Bytes>) -> u64;

    /// Twice each value, as they come.
    fn doubled(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send;

    /// The same, without a slot.
    fn doubled_waiting(&self, values: Streaming<u64>) -> impl Stream<Item = Result<u64, String>> + Send;

    /// The numbers below `end`, which another call counts.
    fn count_nested(&self, end: u64) -> impl Stream<Item = u64> + Send;

    /// The same, on a slot.
    fn count_nested_blocking(&self, end: u64) -> impl Iterator<Item = u64> + Send;

    /// Adds, to see that the node goes on.
    fn add(&self, a: u64, b: u64) -> u64;
}

/// What has happened to the streams of a [`Source`].
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Items that were made.
    pub(crate) made: AtomicU64,
    /// Iterators and streams that were begun, and that were dropped.
    pub(crate) begun: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// Calls of methods that read an argument which have ended, however they did.
    pub(crate) readers_gone: AtomicU64,
}

impl Notes {
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(crate) fn running(&self) -> u64 {
        self.begun.load(Ordering::Relaxed) - self.dropped.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(crate) notes: Arc<Notes>,
}

/// Notes that what holds it was dropped.
struct Guard(Arc<Notes>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes that the handler that holds it has ended.
struct Reader(Arc<Notes>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.readers_gone.fetch_add(1, Ordering::Relaxed);
    }
}

impl Source {
    fn numbers(&self, end: u64) -> impl Iterator<Item = u64> + Send + use<> {
        self.notes.begun.fetch_add(1, Ordering::Relaxed);
        let guard = Guard(Arc::clone(&self.notes));
        (0..end).inspect(move |_| _ = guard.0.made.fetch_add(1, Ordering::Relaxed))
    }

    fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.notes))
    }
}

impl Streams for Source {
    fn count(&self, end: u64) -> impl Iterator<Item = u64> + Send {
        self.numbers(end)
    }

    fn count_again(&self, end: u64) -> impl Iterator<Item = u64> + Send {
        self.numbers(end)
    }

    fn count_waiting(&self, end: u64) -> impl Stream<Item = u64> + Send {
        stream::iter(self.numbers(end))
    }

    fn stuck_after(&self, end: u64) -> impl Stream<Item = u64> + Send {
        stream::iter(self.numbers(end)).chain(stream::pending())
    }

    fn even(&self, end: u64) -> impl Iterator<Item = Result<u64, String>> + Send {
        self.numbers(end).map(|number| match number % 2 {
            0 => Ok(number),
            _ => Err(format!("{number} is odd")),
        })
    }

    fn panic_after(&self, end: u64) -> impl Iterator<Item = u64> + Send {
        self.numbers(end + 1).inspect(move |number| assert!(*number < end, "no more than {end}"))
    }

    fn texts(&self, lengths: Vec<u64>) -> impl Stream<Item = Result<String, u8>> + Send {
        stream::iter(lengths).map(|length| Ok("x".repeat(length as usize)))
    }

    fn blocks(&self, count: u64, size: u64) -> impl Iterator<Item = Bytes> + Send {
        let block = Bytes::from(vec![7; size as usize]);
        self.numbers(count).map(move |_| block.clone())
    }

    fn sum(&self, first: u64, values: Streaming<u64>) -> u64 {
        let _reader = self.reader();
        first + values.into_iter().sum::<u64>()
    }

    async fn sum_waiting(&self, mut values: Streaming<u64>) -> Result<u64, String> {
        let _reader = self.reader();
        let mut sum = 0;
        while let Some(value) = values.next().await {
            sum += value;
        }
        if sum == 13 { Err("unlucky".to_owned()) } else { Ok(sum) }
    }

    async fn sum_first(&self, count: u64, values: Streaming<u64>) -> u64 {
        values.take(count as usize).fold(0, |sum, value| std::future::ready(sum + value)).await
    }

    async fn length(&self, mut blocks: Streaming<Bytes>) -> u64 {
        let mut length = 0;
        while let Some(block) = blocks.next().await {
            length += block.len() as u64;
        }
        length
    }

    fn doubled(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
        values.into_iter().map(|value| 2 * value)
    }

    fn doubled_waiting(&self, values: Streaming<u64>) -> impl Stream<Item = Result<u64, String>> + Send {
        values.map(|value| Ok(2 * value))
    }

    fn count_nested(&self, end: u64) -> impl Stream<Item = u64> + Send {
        let streams = StreamsClient::new(&distribution::current());
        streams.count_waiting(end).map(|number| number.expect("is counted"))
    }

    fn count_nested_blocking(&self, end: u64) -> impl Iterator<Item = u64> + Send {
        let streams = StreamsClient::new(&distribution::current());
        streams.count(end).iter().map(|number| number.expect("is counted"))
    }

    fn add(&self, a: u64, b: u64) -> u64 {
        a + b
    }
}

/// A cluster of one node with this many slots.
pub(crate) async fn local(slots: usize) -> (LocalCluster, StreamsClient, Arc<Notes>) {
    let source = Source::default();
    let notes = Arc::clone(&source.notes);
    let cluster = LocalCluster::builder().nodes(1).slots(slots).serve(move || StreamsServer::new(source.clone()));
    let cluster = cluster.start().await.expect("starts");
    let client = StreamsClient::new(&cluster);
    (cluster, client, notes)
}

/// Waits for a moment in which nothing is made any more.
pub(crate) async fn until_at_rest(notes: &Notes) -> u64 {
    let mut before = notes.made();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = notes.made();
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}
