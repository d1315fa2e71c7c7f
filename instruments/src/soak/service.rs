//! What is called.

use std::time::Duration;

/// Methods that cost what their arguments say.
#[distribution::service]
pub(super) trait Mixed {
    /// Sum of the bytes.
    fn sum(&self, bytes: Vec<u8>) -> u64;
    /// The same, asynchronously.
    async fn sum_async(&self, bytes: Vec<u8>) -> u64;
    /// This many bytes.
    fn bytes(&self, count: u64) -> Vec<u8>;
    /// Keeps a slot for this many milliseconds.
    fn nap(&self, millis: u64);
    /// Waits this many milliseconds without a slot.
    async fn doze(&self, millis: u64);
    /// Returns an error.
    fn decline(&self, reason: String) -> Result<(), String>;
    /// Panics.
    fn panic(&self, message: String);
}

/// Does it all.
#[derive(Debug)]
pub(super) struct Worker;

impl Mixed for Worker {
    fn sum(&self, bytes: Vec<u8>) -> u64 {
        bytes.iter().map(|byte| u64::from(*byte)).sum()
    }

    async fn sum_async(&self, bytes: Vec<u8>) -> u64 {
        self.sum(bytes)
    }

    fn bytes(&self, count: u64) -> Vec<u8> {
        vec![7; count as usize]
    }

    fn nap(&self, millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }

    async fn doze(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn decline(&self, reason: String) -> Result<(), String> {
        Err(reason)
    }

    fn panic(&self, message: String) {
        panic!("{message}");
    }
}
