//! When those that were refused may come again: each in turn, as fast as registrations are dealt with.
//!
//! A thousand nodes that were told the same time would come at once again. So each is told a time of its own: the place
//! behind the one before it in a line that moves as fast as handshakes have ended lately.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{MOST_ADDRESSES, lately::Lately};

/// What a handshake takes, as long as none has ended: rather too much, or nobody would come as far as to show what it
/// takes.
const FIRST_GUESS: Duration = Duration::from_millis(500);

/// A handshake that takes this many times what others take has had its time.
const GRACE: u32 = 2;

/// How much a new handshake's time counts against those before it.
const WEIGHT: f64 = 0.1;

/// Of the places, the part that the line plans with. The rest is for those who come without having been told.
const PLANNED: f64 = 0.7;

/// Nobody is told to wait for longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Who waits in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    /// Those that found all places taken.
    All,
    /// Those of an address.
    Address(IpAddr),
}

/// All lines.
#[derive(Debug)]
pub(super) struct Turns {
    /// When the last one of each line is to come.
    last: Lately<Line, Instant>,
    /// What a handshake takes, on average.
    mean: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { last: Lately::new(MOST_ADDRESSES), mean: FIRST_GUESS }
    }
}

impl Turns {
    /// A handshake took this long.
    pub(super) fn note(&mut self, took: Duration) {
        self.mean = self.mean.mul_f64(1.0 - WEIGHT) + took.min(LONGEST).mul_f64(WEIGHT);
    }

    /// What a handshake is given before a newcomer may take its place.
    pub(super) fn grace(&self) -> Duration {
        self.mean * GRACE
    }

    /// How long the next one of this line has to wait, where as many as there are places can be served at once.
    pub(super) fn next(&mut self, line: Line, places: usize, now: Instant) -> Duration {
        // Those who are there have to be done first.
        let first = now + self.mean;
        let last = match self.last.get(&line) {
            Some(last) => (*last).max(first),
            // A line that others wait in is not forgotten for one more.
            None if self.last.is_full() && self.last.oldest().is_some_and(|last| *last > now) => return LONGEST / 2,
            None => first,
        };
        let next = last + self.mean.div_f64(places.max(1) as f64 * PLANNED);
        // One that is told the longest time does not make the line longer.
        if next.saturating_duration_since(now) > LONGEST {
            return LONGEST;
        }
        self.last.put(line, next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(last: u8) -> Line {
        Line::Address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn each_is_told_another_time_as_far_apart_as_handshakes_are() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        (0..200).for_each(|_| turns.note(Duration::from_millis(280)));
        let times: Vec<_> = (0..100).map(|_| turns.next(line(1), 40, now).as_secs_f64()).collect();
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0] - 0.01).abs() < 1e-4), "{times:?}");
        assert!((times[0] - 0.29).abs() < 1e-3, "{times:?}");
        assert!((turns.next(line(2), 40, now).as_secs_f64() - times[0]).abs() < 1e-6, "another line");
        // The line has moved on.
        let now = now + Duration::from_secs(2);
        assert!((turns.next(line(1), 40, now).as_secs_f64() - times[0]).abs() < 1e-6);
    }

    #[test]
    fn a_flood_makes_nobody_wait_for_ever() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        assert!((0..1_000_000).all(|_| turns.next(line(1), 1, now) <= LONGEST));
        for number in 0..MOST_ADDRESSES as u32 * 2 {
            assert!(turns.next(Line::Address(IpAddr::from(number.to_be_bytes())), 1, now) <= LONGEST);
        }
        assert!(turns.last.len() <= MOST_ADDRESSES);
        let now = now + LONGEST;
        assert!(turns.next(line(1), 1, now) < FIRST_GUESS * 3);
    }
}
