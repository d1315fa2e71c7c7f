//! Limits how many frames a peer may send that this release skips.

use std::time::Duration;

use tokio::time::Instant;

/// A peer may send this many frames of unknown optional kinds in [`SKIPPED_PERIOD`]: far more than a newer release needs,
/// also if all of a stall come at once, and few enough to cost no time.
pub(super) const MOST_SKIPPED: u32 = 10_000;
pub(super) const SKIPPED_PERIOD: Duration = Duration::from_secs(1);

/// Frames of unknown optional kinds that were skipped lately.
#[derive(Default)]
pub(super) struct SkippedFrames {
    since: Option<Instant>,
    count: u32,
}

impl SkippedFrames {
    /// One more has come.
    ///
    /// # Errors
    ///
    /// If too many have come lately.
    pub(super) fn count(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SKIPPED_PERIOD) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        match self.count > MOST_SKIPPED {
            true => Err(format!(
                "it sent more than {MOST_SKIPPED} frames of unknown optional kinds within {SKIPPED_PERIOD:?}"
            )),
            false => Ok(()),
        }
    }
}
