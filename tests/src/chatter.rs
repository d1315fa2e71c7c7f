//! A service whose handlers log, and its node.

use std::sync::atomic::{AtomicBool, Ordering};

use distribution::{Error, Node, logs::layer};
use tracing_subscriber::prelude::*;

/// Handlers that log.
#[distribution::service]
pub trait Chatter {
    /// Logs a line at each level, with a field.
    fn say(&self, text: String) -> u32;

    /// The same, asynchronously, and after it has waited.
    async fn say_async(&self, text: String) -> u32;

    /// Logs each of these lines this many times, one after the other.
    fn repeat(&self, lines: Vec<String>, times: u32);

    /// Logs different lines as fast as it can, on as many threads, until [`hush`](Self::hush); says how many.
    fn flood(&self, threads: u32) -> u64;

    /// Ends floods.
    async fn hush(&self);

    /// Logs on a thread that no call belongs to.
    fn elsewhere(&self, text: String);

    /// Panics.
    fn fail(&self, text: String);

    /// Panics after it has waited.
    async fn fail_async(&self, text: String);

    /// Panics if the number is odd.
    #[rpc(idempotent)]
    fn even(&self, number: u32) -> u32;
}

/// Logs.
#[derive(Debug, Default)]
pub struct Chatting {
    hushed: AtomicBool,
}

fn say(text: &str) -> u32 {
    tracing::error!(rows = 7, "{text}");
    tracing::warn!(name = "two words", "{text}");
    tracing::info!(text, "an info");
    tracing::debug!("{text}");
    distribution::current().attempt()
}

impl Chatter for Chatting {
    fn say(&self, text: String) -> u32 {
        say(&text)
    }

    async fn say_async(&self, text: String) -> u32 {
        tokio::task::yield_now().await;
        say(&text)
    }

    fn repeat(&self, lines: Vec<String>, times: u32) {
        for line in (0..times).flat_map(|_| &lines) {
            tracing::info!("{line}");
        }
    }

    fn flood(&self, threads: u32) -> u64 {
        let flood = |thread: u32| {
            let mut count = 0;
            while !self.hushed.load(Ordering::Relaxed) {
                tracing::info!(thread, count, "flood");
                count += 1;
            }
            count
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || flood(thread))).collect();
            flood(0) + others.into_iter().map(|thread| thread.join().unwrap_or_default()).sum::<u64>()
        })
    }

    async fn hush(&self) {
        self.hushed.store(true, Ordering::Relaxed);
    }

    fn elsewhere(&self, text: String) {
        std::thread::scope(|scope| drop(scope.spawn(|| tracing::info!("{text}"))));
    }

    fn fail(&self, text: String) {
        panic!("{text}");
    }

    async fn fail_async(&self, text: String) {
        tokio::task::yield_now().await;
        panic!("{text}");
    }

    fn even(&self, number: u32) -> u32 {
        assert!(number % 2 == 0, "{number} is odd");
        number
    }
}

/// Serves `Chatter` until told to end, with the layer that sends what is logged to the master.
///
/// # Errors
///
/// Those of [`NodeBuilder::run`](distribution::NodeBuilder::run).
pub async fn run(master: &str, name: &str) -> Result<(), Error> {
    tracing_subscriber::registry().with(layer()).init();
    Node::builder().serve(ChatterServer::new(Chatting::default())).name(name).slots(2).run(master).await
}
