//! When those that were refused may come again: each in turn, as fast as registrations are dealt with.
//!
//! A thousand nodes that were told the same time would come at once again. So each is told a time of its own: the place
//! behind the one before it in a line that moves as fast as handshakes have ended lately.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::door::MOST_ADDRESSES;

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

/// The lines of all addresses.
#[derive(Debug)]
pub(super) struct Turns {
    /// When the last one of each line is to come.
    last: HashMap<IpAddr, Instant>,
    /// What a handshake takes, on average.
    mean: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { last: HashMap::new(), mean: FIRST_GUESS }
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
    pub(super) fn next(&mut self, line: IpAddr, places: usize) -> Duration {
        let now = Instant::now();
        if self.last.len() >= MOST_ADDRESSES && !self.last.contains_key(&line) {
            self.last.retain(|_, last| *last > now);
            if self.last.len() >= MOST_ADDRESSES {
                return LONGEST / 2;
            }
        }
        // Those who are there have to be done first.
        let first = now + self.mean;
        let step = self.mean.div_f64(places.max(1) as f64 * PLANNED);
        let last = self.last.entry(line).or_insert(first);
        // One that is told the longest time does not make the line longer.
        let next = (*last).max(first) + step;
        if next.saturating_duration_since(now) > LONGEST {
            return LONGEST;
        }
        *last = next;
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_told_another_time_as_far_apart_as_handshakes_are() {
        let mut turns = Turns::default();
        (0..200).for_each(|_| turns.note(Duration::from_millis(280)));
        let times: Vec<_> = (0..100).map(|_| turns.next(line(1), 40).as_secs_f64()).collect();
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0] - 0.01).abs() < 1e-4), "{times:?}");
        assert!((times[0] - 0.29).abs() < 1e-3, "{times:?}");
        assert!((turns.next(line(2), 40).as_secs_f64() - times[0]).abs() < 1e-6, "another line");
        // The line has moved on.
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!((turns.next(line(1), 40).as_secs_f64() - times[0]).abs() < 1e-6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_makes_nobody_wait_for_ever() {
        let mut turns = Turns::default();
        assert!((0..1_000_000).all(|_| turns.next(line(1), 1) <= LONGEST));
        for number in 0..MOST_ADDRESSES as u32 * 2 {
            assert!(turns.next(IpAddr::from(number.to_be_bytes()), 1) <= LONGEST);
        }
        assert!(turns.last.len() <= MOST_ADDRESSES);
        tokio::time::advance(LONGEST).await;
        assert!(turns.next(line(1), 1) < FIRST_GUESS * 3);
    }
}
