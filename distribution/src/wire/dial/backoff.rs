//! How long a node or a caller waits before it dials again.

use std::time::Duration;

use rand::RngExt;

/// The wait before the second dial; it grows by [`GROWTH`] with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const GROWTH: f64 = 1.6;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The factor, drawn at random, of each wait: nodes that lost their master at the same time must not come back at the
/// same time.
const JITTER: std::ops::Range<f64> = 0.5..1.5;

/// The factor of a wait that the master asked for. The master asks each node for a different wait, so a small range is
/// enough. It is never below 1, or nodes that were asked to come later would meet those that were asked to come earlier.
const ASKED_JITTER: std::ops::Range<f64> = 1.0..1.1;

/// The longest wait that the node accepts: an attacker on the network may have sent the request for it.
const LONGEST_ASKED: Duration = Duration::from_secs(40);

/// The waits between the attempts to reach a master.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Backoff {
    /// The next wait; near the time that the master `asked` for, if it did.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            return asked.min(LONGEST_ASKED).mul_f64(rand::rng().random_range(ASKED_JITTER));
        }
        let wait = self.0;
        self.0 = wait.mul_f64(GROWTH).min(LONGEST_WAIT);
        wait.mul_f64(rand::rng().random_range(JITTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit_and_differ_from_node_to_node() {
        let (mut one, mut other) = (Backoff::default(), Backoff::default());
        let waits: Vec<_> = (0..20).map(|_| (one.next(None), other.next(None))).collect();
        assert!(waits.iter().all(|(one, other)| one != other), "{waits:?}");
        assert!(waits[0].0 <= FIRST_WAIT.mul_f64(1.5) && waits[19].0 >= LONGEST_WAIT.mul_f64(0.5), "{waits:?}");
        assert!(waits.iter().all(|(one, _)| *one <= LONGEST_WAIT.mul_f64(1.5)), "{waits:?}");
    }

    #[test]
    fn a_wait_that_the_master_asks_for_does_not_change_the_next_wait() {
        let mut backoff = Backoff::default();
        for asked in [1, 30].map(Duration::from_secs) {
            let waits: Vec<_> = (0..100).map(|_| backoff.next(Some(asked))).collect();
            assert!(waits.iter().all(|wait| (asked..asked.mul_f64(1.1)).contains(wait)), "{waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]), "{waits:?}");
        }
        assert!(backoff.next(Some(Duration::MAX)) <= LONGEST_ASKED.mul_f64(1.1));
        assert!(backoff.next(None) <= FIRST_WAIT.mul_f64(1.5), "as at first");
    }
}
