//! What one kind of event has cost.

use std::time::Duration;

/// What one kind of event has cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The kind of event.
    pub what: &'static str,
    /// Time per operation: the median over all rounds of each round's mean.
    pub each: Duration,
    /// The longest that the lock was held.
    pub longest: Duration,
}

/// The events of one kind, in rounds.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub(super) what: &'static str,
    pub(super) rounds: Vec<Round>,
}

/// How long the lock was held for each event of a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    /// The number of operations, which is not always that of the events.
    pub(super) operations: u32,
    /// In nanoseconds.
    pub(super) holds: Vec<u32>,
}

impl Events {
    /// Keeps the shorter time of each event. Both have measured the same events.
    pub(super) fn keep_shortest(&mut self, other: &Self) {
        for (round, other) in self.rounds.iter_mut().zip(&other.rounds) {
            for (hold, other) in round.holds.iter_mut().zip(&other.holds) {
                *hold = (*hold).min(*other);
            }
        }
    }

    pub(super) fn cost(&self) -> Cost {
        let rounds = || self.rounds.iter().filter(|round| round.operations > 0);
        let mut means: Vec<Duration> = rounds().map(Round::mean).collect();
        means.sort();
        let each = means.get(means.len() / 2).copied().unwrap_or_default();
        let longest = rounds().flat_map(|round| &round.holds).max().copied().unwrap_or_default();
        Cost { what: self.what, each, longest: Duration::from_nanos(longest.into()) }
    }
}

impl Round {
    fn mean(&self) -> Duration {
        let total: u64 = self.holds.iter().map(|hold| u64::from(*hold)).sum();
        Duration::from_nanos(total / u64::from(self.operations))
    }
}
