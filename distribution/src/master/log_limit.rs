//! Limits how many records of a node's log are taken.

use std::time::Instant;

use crate::{log_queue::Allowance, wire::log::MOST_RECORDS};

/// A node may send this many frames of records at once, and each second from then on. A correct one sends twenty a second and
/// one for each 6 KiB, at most 1 MiB a second; all of a stall may come at once.
const BURST_FRAMES: u32 = 10_000;
const FRAME_RATE: u32 = 1_000;

/// This many records of a node are taken at once, and each second from then on: twice what a correct one sends. Those beyond are
/// dropped.
const BURST: u32 = 20_000;
const RATE: u32 = 2_000;

/// The records of one connection.
#[derive(Debug)]
pub(super) struct LogLimit {
    frames: Allowance,
    records: Allowance,
}

impl LogLimit {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { frames: Allowance::new(BURST_FRAMES, FRAME_RATE, now), records: Allowance::new(BURST, RATE, now) }
    }

    /// A frame with this many records has come. Whether they are taken.
    ///
    /// # Errors
    ///
    /// What a correct node does not do, as the reason why the connection is closed.
    pub(super) fn on_frame(&mut self, records: usize) -> Result<bool, String> {
        let now = Instant::now();
        if records > MOST_RECORDS {
            return Err(format!("it sent {records} log records in one frame; the limit is {MOST_RECORDS}"));
        }
        if !self.frames.take(1, now) {
            return Err(format!("it sent log records in more than {FRAME_RATE} frames a second"));
        }
        Ok(self.records.take(records, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_records_are_dropped_and_too_many_frames_are_an_error() {
        let mut limit = LogLimit::new();
        let taken = (0..1_000).filter(|_| limit.on_frame(100) == Ok(true)).count();
        assert!((200..300).contains(&taken), "{taken}");
        let error = limit.on_frame(257).expect_err("is too much");
        assert!(error.contains("257 log records in one frame"), "{error}");
        let frames = (0..1_000_000).take_while(|_| limit.on_frame(0).is_ok()).count();
        assert!((9_000..100_000).contains(&frames), "{frames}");
    }
}
