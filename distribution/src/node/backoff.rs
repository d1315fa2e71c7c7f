//! How long a node waits before it dials again.

use std::time::Duration;

use rand::RngExt;

/// The wait before the second dial; it grows by [`GROWTH`] with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const GROWTH: f64 = 1.6;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What a wait is multiplied with, at random, so that nodes that lost their master together do not
/// come back together.
const JITTER: std::ops::Range<f64> = 0.5..1.5;

/// The same for a wait that the master asked for. It asks each node for another one, so little is enough; and never
/// less, or those that it asked for later would meet those that it asked for earlier.
const ASKED_JITTER: std::ops::Range<f64> = 1.0..1.1;

/// A master that asks for more is not believed: who asks may be somebody on the way.
const LONGEST_ASKED: Duration = Duration::from_secs(40);

/// The waits of a node from the loss of its master on.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Backoff {
    /// The next wait, where the master `asked` for that long if it did.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
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
    fn what_the_master_asks_for_is_heeded_and_costs_no_patience() {
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
