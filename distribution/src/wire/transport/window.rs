//! How many bytes of chunks may be on the way to the other end: enough to keep the line busy, and little more.
//!
//! The buffers of the system hold several MiB in each direction, and whatever is in them is ahead of a small message. So the
//! receiver tells how much it has read, and what is on the way stays near the product of rate and round trip. Both are
//! measured, as in BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14, 2016): the shortest round trip,
//! and the highest rate of late.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// The window before anything is measured, and the smallest.
const SMALLEST: u64 = 512 * 1024;

/// The largest.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The receiver tells how much it has read after this many bytes.
pub(super) const TELL_AFTER: u64 = 128 * 1024;

/// The rate is measured over at least this time, because chunks are read in bursts.
const SHORTEST_PERIOD: Duration = Duration::from_millis(5);

/// How much more than the product of rate and round trip may be on the way: at first, so that it doubles with each round trip,
/// as in BBR's startup; and once the rate grows no more.
const FIRST_GAIN: f64 = 2.89;
const GAIN: f64 = 1.5;

/// The rate grows no more when it has not grown by a quarter in this many measurements.
const FLAT_PERIODS: u8 = 3;

/// After this time the shortest round trip is measured anew: the way may have changed.
const ROUND_TRIP_VALID: Duration = Duration::from_secs(10);

/// The bytes of chunks that one end has sent and the other has read.
#[derive(Debug)]
pub(super) struct Window {
    sent: u64,
    consumed: u64,
    size: u64,
    /// How much had been sent at some times, for the round trip.
    samples: VecDeque<(u64, Instant)>,
    /// The shortest round trip, and when it was measured.
    round_trip: Option<(Duration, Instant)>,
    /// The highest rate of late, in bytes a second.
    rate: f64,
    /// What had been read when the current measurement of the rate began.
    period: Option<(u64, Instant)>,
    /// Whether chunks had to wait for the receiver since then. If none did, the rate is what there was to send.
    was_full: bool,
    /// The highest rate so far, and how many measurements have not exceeded it by much. `None` once the rate grows no more.
    startup: Option<(f64, u8)>,
    /// While the round trip is measured anew: how much had been sent when that began. What was sent before waited behind a full
    /// window, so its round trip says nothing. The window is the smallest meanwhile, so that the way gets empty.
    measuring: Option<u64>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            sent: 0,
            consumed: 0,
            size: SMALLEST,
            samples: VecDeque::new(),
            round_trip: None,
            rate: 0.0,
            period: None,
            was_full: false,
            startup: Some((0.0, 0)),
            measuring: None,
        }
    }
}

impl Window {
    /// Whether another chunk has to wait for the receiver.
    pub(super) fn is_full(&self) -> bool {
        self.sent - self.consumed >= self.size
    }

    /// A chunk is written.
    pub(super) fn on_sent(&mut self, bytes: usize) {
        let now = Instant::now();
        self.sent += bytes as u64;
        self.samples.push_back((self.sent, now));
    }

    /// The receiver has read this much in all.
    ///
    /// # Errors
    ///
    /// What a correct peer never sends, as the reason why the connection is closed.
    pub(super) fn on_consumed(&mut self, bytes: u64) -> Result<(), String> {
        if bytes <= self.consumed || bytes > self.sent {
            return Err(format!(
                "it said that it had read {bytes} bytes of chunks, and was sent fewer or had said as much before"
            ));
        }
        self.was_full |= self.is_full();
        self.consumed = bytes;
        let now = Instant::now();
        let mut took = None;
        while let Some((sent, at)) = self.samples.front().copied().filter(|(sent, _)| *sent <= bytes) {
            self.samples.pop_front();
            took = Some((sent, now.saturating_duration_since(at)));
        }
        let is_old = self.round_trip.is_some_and(|(_, at)| now.saturating_duration_since(at) >= ROUND_TRIP_VALID);
        if is_old && self.measuring.is_none() {
            self.measuring = Some(self.sent);
        }
        if let Some((sent, took)) = took {
            let is_anew = self.measuring.is_some_and(|from| sent > from);
            if is_anew || self.round_trip.is_none_or(|(shortest, _)| took <= shortest) {
                self.round_trip = Some((took, now));
                self.measuring = None;
            }
            if is_anew {
                self.period = None;
            }
        }
        if self.measuring.is_some() {
            self.size = SMALLEST;
            return Ok(());
        }
        let shortest = self.round_trip.map_or(Duration::ZERO, |(shortest, _)| shortest);
        let (from, since) = *self.period.get_or_insert((bytes, now));
        let period = now.saturating_duration_since(since);
        if period >= shortest.max(SHORTEST_PERIOD) {
            let rate = (bytes - from) as f64 / period.as_secs_f64();
            if std::mem::take(&mut self.was_full) {
                self.rate = rate.max(self.rate * 0.9);
                self.startup = match self.startup {
                    Some((highest, _)) if rate >= 1.25 * highest => Some((rate, 0)),
                    Some((highest, flat)) if flat + 1 < FLAT_PERIODS => Some((highest, flat + 1)),
                    _ => None,
                };
            } else {
                self.rate = rate.max(self.rate);
            }
            self.period = Some((bytes, now));
        }
        // More than the product, so that it grows as long as the rate does.
        let gain = if self.startup.is_some() { FIRST_GAIN } else { GAIN };
        let size = gain * self.rate * shortest.as_secs_f64();
        self.size = (size as u64).clamp(SMALLEST, LARGEST);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Sends for a while over a line of this rate (bytes a millisecond) and round trip. Returns the bytes that were read in
    /// the second half, and the most that were on the way then.
    async fn run(rate: u64, round_trip: u64, milliseconds: u64) -> (u64, u64) {
        let mut window = Window::default();
        // What has left the line, and what the sender will know of it.
        let (mut arrived, mut told) = (0, VecDeque::new());
        let (mut half, mut most) = (0, 0);
        for now in 0..milliseconds {
            while !window.is_full() {
                window.on_sent(64 * 1024);
            }
            arrived = (arrived + rate).min(window.sent);
            told.push_back((now + round_trip, arrived));
            while let Some((_, bytes)) = told.front().copied().filter(|(at, _)| *at <= now) {
                told.pop_front();
                if bytes < window.consumed + TELL_AFTER {
                    continue;
                }
                window.on_consumed(bytes).expect("was sent");
            }
            if now == milliseconds / 2 {
                half = arrived;
            }
            if now > milliseconds / 2 {
                most = most.max(window.sent - arrived);
            }
            advance(Duration::from_millis(1)).await;
        }
        (arrived - half, most)
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_kept_busy_whatever_its_round_trip_and_little_more_is_on_the_way() {
        // The last runs are so long that the round trip is measured anew several times.
        let runs =
            [(100_000, 60, 4000), (100_000, 1, 4000), (10_000, 200, 4000), (500_000, 10, 4000), (10_000, 20, 90_000)];
        for (rate, round_trip, milliseconds) in runs {
            let (read, most) = run(rate, round_trip, milliseconds).await;
            let full = rate * milliseconds / 2;
            assert!(read * 10 >= full * 8, "{read} of {full} with {rate} a ms and {round_trip} ms");
            let product = rate * round_trip;
            assert!(most <= SMALLEST + 2 * product, "{most} on the way with {rate} a ms and {round_trip} ms");
        }
    }

    #[test]
    fn more_than_was_sent_or_less_than_was_told_cannot_have_been_read() {
        let mut window = Window::default();
        window.on_sent(1000);
        assert_eq!(window.on_consumed(500), Ok(()));
        for bytes in [499, 500, 1001, u64::MAX] {
            let error = window.on_consumed(bytes).expect_err("is wrong");
            assert!(error.contains("had read") && error.contains("bytes of chunks"), "{error}");
        }
        assert_eq!(window.on_consumed(1000), Ok(()));
    }
}
