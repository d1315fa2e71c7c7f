//! How much is kept for callers whose connection may break, or has broken.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most bytes of ends of calls that are kept for all callers together.
const MOST_KEPT_IN_ALL: usize = 1024 * 1024 * 1024;

/// The bytes of the ends that are kept for all callers.
#[derive(Debug, Default)]
pub(super) struct KeptBytes(AtomicUsize);

impl KeptBytes {
    /// Adds this many bytes, if there is room for them.
    pub(super) fn add(&self, bytes: usize) -> bool {
        let fits = self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= MOST_KEPT_IN_ALL;
        if !fits {
            self.subtract(bytes);
        }
        fits
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}
