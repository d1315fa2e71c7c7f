//! What the system and the runtime tell of processes, and how times spread.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;

/// What has to be back to its start when all is quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reading {
    /// Open file descriptors of this process.
    pub(super) descriptors: usize,
    /// Tokio tasks that are alive.
    pub(super) tasks: usize,
}

impl Reading {
    pub(super) fn take() -> io::Result<Self> {
        // Reading the folder takes a descriptor of its own.
        let descriptors = std::fs::read_dir("/proc/self/fd")?.count() - 1;
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        Ok(Self { descriptors, tasks })
    }
}

/// The middle one.
pub(super) fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// Counts times by how long they are, 2 % apart, in memory that never grows.
#[derive(Debug)]
pub(super) struct Histogram(Vec<AtomicU64>);

/// From a microsecond to some minutes.
const BUCKETS: usize = 1000;
const STEP: f64 = 1.02;

impl Histogram {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn add(&self, time: Duration) {
        let bucket = (time.as_micros().max(1) as f64).log(STEP) as usize;
        self.0[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Empties it, and gives the times in microseconds that these parts of all lie below.
    pub(super) fn take<const N: usize>(&self, parts: [f64; N]) -> [f64; N] {
        let counts: Vec<u64> = self.0.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        parts.map(|part| {
            let (mut seen, wanted) = (0, all as f64 * part);
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen as f64 >= wanted
            });
            STEP.powi(bucket.unwrap_or(BUCKETS) as i32 + 1).round()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_knows_its_parts_to_two_percent() {
        let histogram = Histogram::new();
        for micros in 1..=10_000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (found, right) in histogram.take([0.5, 0.99]).into_iter().zip([5000.0, 9900.0]) {
            assert!((found / right - 1.0).abs() < 0.021, "{found} for {right}");
        }
    }
}
