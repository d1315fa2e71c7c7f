//! How much credit a consumer in this process grants: a window that grows while it is too small for the way.
//!
//! A window is too small if the producer waits for credit while the consumer waits for items. Then it becomes four times as
//! large, up to a limit. So it finds the product of rate and round trip, whatever these are. A consumer that is slower than its
//! producer never waits, and its window stays as it is.

use std::collections::VecDeque;

/// The credit that the producer of a method's items has from the beginning, and the smallest window. The producer of an argument
/// has none: it begins when the handler has started, so that a call that a node refuses can go to another one.
pub(super) const FIRST_CREDIT: u64 = 64 * 1024;

/// The largest window of one stream.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A window that is too small becomes this many times as large: on a long way each step takes a round trip.
const GROWTH: u64 = 4;

/// The credit of one consumer.
#[derive(Debug)]
pub(super) struct Window {
    size: u64,
    consumed: u64,
    /// Up to which bytes the producer may have known that it may send.
    limits: VecDeque<u64>,
    /// Since the window has grown: the producer used all the credit that it knew of; the consumer found nothing.
    producer_waited: bool,
    consumer_waited: bool,
}

impl Window {
    pub(super) fn new(granted: u64) -> Self {
        Self {
            size: FIRST_CREDIT,
            consumed: 0,
            limits: VecDeque::from([granted]),
            producer_waited: false,
            consumer_waited: false,
        }
    }

    /// This many bytes of the stream are here.
    pub(super) fn on_put(&mut self, put: u64) {
        while let Some(limit) = self.limits.front().copied().filter(|limit| *limit <= put) {
            self.limits.pop_front();
            // A producer that has more to send stops exactly there, and one that has not hardly ever does.
            self.producer_waited |= limit == put;
        }
    }

    /// The consumer wants an item, and there is none.
    pub(super) fn on_empty(&mut self) {
        self.consumer_waited = true;
    }

    /// The consumer has dealt with this many more bytes.
    pub(super) fn on_consumed(&mut self, bytes: u64) {
        self.consumed += bytes;
    }

    /// By how much the window would grow now.
    pub(super) fn wanted_growth(&self) -> Option<u64> {
        let is_too_small = self.producer_waited && self.consumer_waited && self.size < LARGEST;
        is_too_small.then(|| (self.size * GROWTH).min(LARGEST) - self.size)
    }

    pub(super) fn grow(&mut self) {
        self.size = (self.size * GROWTH).min(LARGEST);
        (self.producer_waited, self.consumer_waited) = (false, false);
    }

    /// Up to which byte the producer may send, if it is to be told: not for each item.
    pub(super) fn grant(&mut self, granted: u64) -> Option<u64> {
        let upto = self.consumed + self.size;
        // Often, because what is granted late is late by the time of a burst.
        (upto >= granted + self.size / 8).then(|| {
            self.limits.push_back(upto);
            upto
        })
    }

    /// An item needs credit up to this byte, whatever the window.
    pub(super) fn require(&mut self, upto: u64) {
        self.limits.push_back(upto);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = FIRST_CREDIT;

    /// All that was granted comes, and is consumed. Returns what is granted then.
    fn round(window: &mut Window, put: u64, granted: u64) -> u64 {
        window.on_put(granted);
        window.on_consumed(granted - put);
        if window.wanted_growth().is_some() {
            window.grow();
        }
        window.grant(granted).expect("all of the window was consumed")
    }

    #[test]
    fn a_window_grows_while_both_ends_wait_and_not_for_a_slow_consumer() {
        let mut window = Window::new(FIRST);
        let mut granted = FIRST;
        let mut put = 0;
        // The consumer never waits.
        for _ in 0..5 {
            let next = round(&mut window, put, granted);
            assert_eq!(next, granted + FIRST);
            (put, granted) = (granted, next);
        }
        // It waits, and the producer as well.
        let mut size = FIRST;
        while size < LARGEST {
            window.on_empty();
            let next = round(&mut window, put, granted);
            size *= GROWTH;
            assert_eq!(next, granted + size);
            (put, granted) = (granted, next);
        }
        window.on_empty();
        assert_eq!(window.wanted_growth(), None, "it has a limit");
    }

    #[test]
    fn a_producer_that_is_slow_does_not_make_the_window_grow() {
        let mut window = Window::new(FIRST);
        for put in 1..100 {
            window.on_empty();
            window.on_put(put * 100);
            window.on_consumed(100);
            assert_eq!(window.wanted_growth(), None);
        }
    }

    #[test]
    fn credit_is_told_an_eighth_of_the_window_at_a_time() {
        let mut window = Window::new(FIRST);
        window.on_consumed(FIRST / 8 - 1);
        assert_eq!(window.grant(FIRST), None);
        window.on_consumed(1);
        assert_eq!(window.grant(FIRST), Some(FIRST / 8 * 9));
    }
}
