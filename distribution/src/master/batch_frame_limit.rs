//! Limits how many frames about batches a node may send: each costs the core's lock.

use crate::config::BATCH_FRAMES;

/// How many frames a node may send beyond those for its batches: one to drain, and some for a newer release.
const RESERVE: u64 = 64;

/// The frames of one connection that ask for grants, give calls back, or drain.
///
/// Each batch that is sent to the node allows it [`BATCH_FRAMES`] more. This is not a rate: a node that sends them all at once
/// after a stall of its own or of the master stays below it.
#[derive(Debug)]
pub(super) struct BatchFrameLimit {
    left: u64,
    /// A node cannot save up more than the frames of as many batches as it had calls at a time.
    most: u64,
}

impl BatchFrameLimit {
    pub(super) fn new() -> Self {
        Self { left: RESERVE, most: RESERVE }
    }

    /// A batch is about to be sent to the node, which has this many other calls and batches.
    pub(super) fn on_batch(&mut self, in_flight: usize) {
        let frames = u64::from(BATCH_FRAMES);
        // Frames about batches that have just ended may still come: they count as those of batches in flight.
        self.most = self.most.max(RESERVE + frames * (in_flight as u64 + 1));
        self.left = (self.left + frames).min(self.most);
    }

    /// A frame has come.
    ///
    /// # Errors
    ///
    /// If the node has sent more than its batches need: the reason why the connection is closed.
    pub(super) fn on_frame(&mut self) -> Result<(), String> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!(
                "it sent more than {BATCH_FRAMES} `request grant`, `give back` and `drain` frames for each of its batches"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(limit: &mut BatchFrameLimit) -> u64 {
        (0..1_000_000).take_while(|_| limit.on_frame().is_ok()).count() as u64
    }

    #[test]
    fn a_node_without_batches_may_send_few_frames() {
        let mut limit = BatchFrameLimit::new();
        assert_eq!(accepted(&mut limit), RESERVE);
        let why = limit.on_frame().expect_err("is too many");
        assert!(why.contains("more than 16 `request grant`"), "{why}");
    }

    #[test]
    fn each_batch_allows_its_frames_for_ever() {
        let mut limit = BatchFrameLimit::new();
        for batch in 0..100_000 {
            limit.on_batch(8);
            for _ in 0..BATCH_FRAMES {
                assert_eq!(limit.on_frame(), Ok(()), "batch {batch}");
            }
        }
        assert_eq!(accepted(&mut limit), RESERVE);
    }

    #[test]
    fn all_batches_in_flight_may_send_their_frames_at_once() {
        let mut limit = BatchFrameLimit::new();
        for in_flight in 0..5000 {
            limit.on_batch(in_flight);
        }
        assert_eq!(accepted(&mut limit), RESERVE + 5000 * u64::from(BATCH_FRAMES));
    }

    #[test]
    fn frames_that_a_node_did_not_send_are_not_saved_up() {
        let mut limit = BatchFrameLimit::new();
        for _ in 0..100_000 {
            limit.on_batch(3);
        }
        assert_eq!(accepted(&mut limit), RESERVE + 4 * u64::from(BATCH_FRAMES));
    }
}
