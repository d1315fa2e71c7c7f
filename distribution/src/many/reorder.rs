//! The reorder buffer: holds results until they are yielded, in the order of the calls or as they arrive.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) enum ReorderBuffer<R> {
    Ordered {
        /// The number of the call that the first place is for.
        first: u64,
        places: VecDeque<Option<R>>,
    },
    Unordered(VecDeque<R>),
}

impl<R> ReorderBuffer<R> {
    pub(super) fn ordered() -> Self {
        Self::Ordered { first: 0, places: VecDeque::new() }
    }

    pub(super) fn is_ordered(&self) -> bool {
        matches!(self, Self::Ordered { .. })
    }

    /// From now on results are yielded as they arrive.
    pub(super) fn stop_ordering(&mut self) {
        if let Self::Ordered { places, .. } = self {
            *self = Self::Unordered(std::mem::take(places).into_iter().flatten().collect());
        }
    }

    /// Adds the result of the call with this number.
    pub(super) fn push(&mut self, call: u64, result: R) {
        match self {
            Self::Ordered { first, places } => {
                // A smaller number cannot come: each call has one result, and those were yielded.
                let Some(place) = call.checked_sub(*first) else { return };
                let place = place as usize;
                while places.len() <= place {
                    places.push_back(None);
                }
                places[place] = Some(result);
            }
            Self::Unordered(results) => results.push_back(result),
        }
    }

    /// Takes the next result, if it has arrived.
    pub(super) fn pop(&mut self) -> Option<R> {
        match self {
            Self::Ordered { first, places } => {
                let result = places.front_mut()?.take()?;
                places.pop_front();
                *first += 1;
                Some(result)
            }
            Self::Unordered(results) => results.pop_front(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordered_buffer_yields_results_in_the_order_of_the_calls() {
        let mut buffer = ReorderBuffer::ordered();
        buffer.push(2, 'c');
        assert_eq!(buffer.pop(), None);
        buffer.push(0, 'a');
        assert_eq!((buffer.pop(), buffer.pop()), (Some('a'), None));
        buffer.push(1, 'b');
        assert_eq!((buffer.pop(), buffer.pop(), buffer.pop()), (Some('b'), Some('c'), None));
    }

    #[test]
    fn an_unordered_buffer_yields_results_as_they_arrive_and_keeps_those_it_had() {
        let mut buffer = ReorderBuffer::ordered();
        buffer.push(7, 'x');
        buffer.stop_ordering();
        buffer.push(3, 'y');
        assert_eq!((buffer.pop(), buffer.pop(), buffer.pop()), (Some('x'), Some('y'), None));
    }
}
