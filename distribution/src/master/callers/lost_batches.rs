//! The batches of a caller that were lost, each with the attempts that failed. The caller sends their calls again one by one,
//! and must not be believed about how often each was tried.

use std::collections::VecDeque;

use crate::{failed_attempt::FailedAttempt, id::CallId};

/// How many batches are remembered. A caller has fewer in flight at a time.
const MOST_BATCHES: usize = 4096;

/// Batches that were lost lately.
#[derive(Debug, Default)]
pub(super) struct LostBatches(VecDeque<LostBatch>);

#[derive(Debug)]
struct LostBatch {
    first: CallId,
    count: u32,
    failed_attempts: Vec<FailedAttempt>,
}

impl LostBatches {
    /// A batch has ended after these attempts.
    pub(super) fn note(&mut self, first: CallId, count: u32, failed_attempts: Vec<FailedAttempt>) {
        if self.0.len() >= MOST_BATCHES {
            self.0.pop_front();
        }
        self.0.push_back(LostBatch { first, count, failed_attempts });
    }

    /// The failed attempts of a call that was in a batch. Empty for any other.
    pub(super) fn attempts_of(&self, call: CallId) -> Vec<FailedAttempt> {
        let has = |batch: &&LostBatch| call.0.wrapping_sub(batch.first.0) < u64::from(batch.count);
        // The newest first: it is the one whose calls come next.
        self.0.iter().rev().find(has).map(|batch| batch.failed_attempts.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failed_attempt::Cause,
        id::{NodeId, NodeIdentity},
    };

    #[test]
    fn a_call_has_the_attempts_of_its_batch() {
        let attempt = |attempt| {
            let node = NodeIdentity::new(NodeId::new(1, attempt), "n", ([127, 0, 0, 1], 1).into());
            vec![FailedAttempt { attempt, node, source: None, cause: Cause::Refused("was full") }]
        };
        let mut lost = LostBatches::default();
        lost.note(CallId(100), 10, attempt(1));
        lost.note(CallId(110), 5, attempt(2));
        for (call, expected) in
            [(99, None), (100, Some(1)), (109, Some(1)), (110, Some(2)), (114, Some(2)), (115, None)]
        {
            assert_eq!(lost.attempts_of(CallId(call)), expected.map(attempt).unwrap_or_default(), "{call}");
        }
        for first in 0..MOST_BATCHES as u64 {
            lost.note(CallId(1_000 + first), 1, attempt(3));
        }
        assert_eq!(lost.attempts_of(CallId(100)), Vec::new(), "it was the oldest");
    }
}
