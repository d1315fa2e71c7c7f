//! The numbers that a caller has given to its calls. None may be used twice on a connection: the core and the nodes know a
//! call by its number for longer than its caller does, because a call that was cancelled holds its slot until its handler
//! has ended.

use std::collections::BTreeMap;

use crate::id::{CallId, CallerId};

/// The numbers that are still free.
#[derive(Debug)]
pub(super) struct Numbers {
    caller: CallerId,
    /// This number and all behind it are free.
    next: u64,
    /// Free numbers before it: where each gap begins, and the number behind it.
    gaps: BTreeMap<u64, u64>,
    /// How many gaps are remembered: one for each call that others may overtake on their way, because it is large. A caller leaves
    /// some for good, for calls that it withdraws before they are sent.
    most_gaps: usize,
}

impl Numbers {
    pub(super) fn new(caller: CallerId, most_gaps: usize) -> Self {
        Self { caller, next: caller.first_call().0, gaps: BTreeMap::new(), most_gaps }
    }

    /// The caller uses this many numbers, beginning with `first`.
    ///
    /// # Errors
    ///
    /// What a correct caller never does, as the reason why the connection is closed.
    pub(super) fn take(&mut self, first: CallId, count: u32) -> Result<(), String> {
        let last = first.0.checked_add(u64::from(count).wrapping_sub(1));
        let Some(last) = last.filter(|last| first.is_of(self.caller) && CallId(*last).is_of(self.caller)) else {
            return Err(format!(
                "it sent {count} calls from number {first} on, which are not numbers that it was given"
            ));
        };
        let behind = last.wrapping_add(1);
        if first.0 >= self.next {
            if first.0 > self.next {
                self.gaps.insert(self.next, first.0);
            }
            self.next = behind;
        } else {
            let gap = self.gaps.range(..=first.0).next_back().map(|(begin, end)| (*begin, *end));
            let Some((begin, end)) = gap.filter(|(_, end)| behind <= *end) else {
                return Err(format!("it sent another call with the number {first}"));
            };
            self.gaps.remove(&begin);
            for (begin, end) in [(begin, first.0), (behind, end)] {
                if begin < end {
                    self.gaps.insert(begin, end);
                }
            }
        }
        if self.gaps.len() > self.most_gaps {
            self.gaps.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: u32 = 5;
    const MOST_GAPS: usize = 4096;

    fn number(number: u64) -> CallId {
        CallId(CallId::first(CALLER).0 + number)
    }

    #[test]
    fn each_number_is_used_once_in_any_order() {
        let mut numbers = Numbers::new(CallerId::of_prefix(CALLER), MOST_GAPS);
        let used: [(u64, u32); 7] = [(0, 1), (10, 5), (3, 2), (5, 5), (1, 2), (20, 1), (15, 5)];
        for (first, count) in used {
            assert_eq!(numbers.take(number(first), count), Ok(()), "{count} from {first} on");
        }
        for first in 0..=20 {
            let error = numbers.take(number(first), 1).expect_err("was used");
            assert!(error.contains("another call with the number 000005-"), "{error}");
        }
        assert_eq!(numbers.gaps.len(), 0);
        assert!(numbers.take(number(19), 5).is_err(), "a part of it was used");
        assert_eq!(numbers.take(number(21), 5), Ok(()));
    }

    #[test]
    fn numbers_of_others_are_refused() {
        let mut numbers = Numbers::new(CallerId::of_prefix(CALLER), MOST_GAPS);
        let end = CallId::first(CALLER + 1).0 - 1;
        for (first, count) in
            [(number(0), 0), (CallId(0), 1), (CallId(end), 2), (CallId(end + 1), 1), (CallId(u64::MAX), 2)]
        {
            let error = numbers.take(first, count).expect_err("is not its own");
            assert!(error.contains("not numbers that it was given"), "{error}");
        }
        assert_eq!(numbers.take(CallId(end), 1), Ok(()), "the last of all");
    }

    #[test]
    fn the_oldest_of_too_many_gaps_counts_as_used() {
        let mut numbers = Numbers::new(CallerId::of_prefix(CALLER), MOST_GAPS);
        for gap in 0..=MOST_GAPS as u64 {
            assert_eq!(numbers.take(number(1 + 2 * gap), 1), Ok(()));
        }
        assert!(numbers.take(number(0), 1).is_err());
        assert_eq!(numbers.take(number(2), 1), Ok(()));
    }
}
