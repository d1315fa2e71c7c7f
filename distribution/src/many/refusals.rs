//! How many batches may be in flight, after the master has refused one because of the limits of the caller's session or
//! credential.
//!
//! Other connections may share these limits, so they are found by trying: as many as were in flight when one was refused, and
//! one more whenever that many were answered since.

/// What was learned from refused batches. Nothing, for most callers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    /// How many batches may be in flight; at least 1, so that the next try is one of them.
    most: Option<usize>,
    /// How many were answered since that changed.
    answered: usize,
}

impl Refusals {
    /// A batch was refused while this many others were in flight.
    pub(super) fn on_refused(&mut self, others: usize) {
        *self = Self { most: Some(others.max(1)), answered: 0 };
    }

    /// A batch was answered.
    pub(super) fn on_answered(&mut self) {
        let Some(most) = &mut self.most else { return };
        self.answered += 1;
        if self.answered >= *most {
            (*most, self.answered) = (most.saturating_add(1), 0);
        }
    }

    /// Whether another batch has to wait for one of these to end.
    pub(super) fn must_wait(&self, in_flight: usize) -> bool {
        self.most.is_some_and(|most| in_flight >= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_as_many_are_in_flight_as_were_then_and_slowly_more() {
        let mut refusals = Refusals::default();
        assert!(!refusals.must_wait(1_000_000));
        refusals.on_answered();
        assert!(!refusals.must_wait(1_000_000));
        refusals.on_refused(2);
        assert_eq!([1, 2, 3].map(|in_flight| refusals.must_wait(in_flight)), [false, true, true]);
        refusals.on_answered();
        assert!(refusals.must_wait(2));
        refusals.on_answered();
        assert_eq!([2, 3].map(|in_flight| refusals.must_wait(in_flight)), [false, true]);
        refusals.on_refused(0);
        assert_eq!([0, 1].map(|in_flight| refusals.must_wait(in_flight)), [false, true]);
    }
}
