//! Limits how many frames of some sort a peer may send in a second.

use std::time::Duration;

use tokio::time::Instant;

/// A peer may send this many such frames in [`PERIOD`]: far more than a correct one needs, also if all of a stall come at once, and few
/// enough to cost no time.
pub(super) const MOST_FRAMES: u32 = 10_000;
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// Frames of some sort that have come lately.
#[derive(Debug)]
pub(super) struct FrameRate {
    what: &'static str,
    since: Option<Instant>,
    count: u32,
}

impl FrameRate {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, since: None, count: 0 }
    }

    /// One more has come.
    ///
    /// # Errors
    ///
    /// If too many have come lately.
    pub(super) fn count(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        match self.count > MOST_FRAMES {
            true => Err(format!("it sent more than {MOST_FRAMES} {} within {PERIOD:?}", self.what)),
            false => Ok(()),
        }
    }
}
