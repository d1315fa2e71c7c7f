//! Results on their way out: in the order of the calls, or as they come.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) enum Outlet<R> {
    Ordered {
        /// Which call the first place is for.
        first: u64,
        places: VecDeque<Option<R>>,
    },
    Unordered(VecDeque<R>),
}

impl<R> Outlet<R> {
    pub(super) fn ordered() -> Self {
        Self::Ordered { first: 0, places: VecDeque::new() }
    }

    pub(super) fn unordered() -> Self {
        Self::Unordered(VecDeque::new())
    }

    /// Takes the result of the call that came in as number `call`.
    pub(super) fn push(&mut self, call: u64, result: R) {
        match self {
            Self::Ordered { first, places } => {
                // Not before the first: each call has one result, and those were yielded.
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

    /// The result that is next, if it is there.
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
    fn results_come_in_the_order_of_their_calls() {
        let mut outlet = Outlet::ordered();
        outlet.push(2, 'c');
        assert_eq!(outlet.pop(), None);
        outlet.push(0, 'a');
        assert_eq!((outlet.pop(), outlet.pop()), (Some('a'), None));
        outlet.push(1, 'b');
        assert_eq!((outlet.pop(), outlet.pop(), outlet.pop()), (Some('b'), Some('c'), None));
    }

    #[test]
    fn or_as_they_are() {
        let mut outlet = Outlet::unordered();
        outlet.push(7, 'x');
        outlet.push(3, 'y');
        assert_eq!((outlet.pop(), outlet.pop(), outlet.pop()), (Some('x'), Some('y'), None));
    }
}
