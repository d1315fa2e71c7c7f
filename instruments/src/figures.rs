//! Times that an instrument has measured, and what it prints of them.

use std::time::Duration;

/// Measured times, in order.
#[derive(Clone, Debug)]
pub struct Figures(Vec<Duration>);

impl Figures {
    /// Of these times.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that this part of all, between 0 and 1, do not exceed; zero if there is none.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = (self.0.len() as f64 * part).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or_default()
    }

    /// The longest; zero if there is none.
    pub fn worst(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// A time in milliseconds, for a report.
pub fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_time_that_that_many_do_not_exceed() {
        let figures = Figures::new((1..=100).rev().map(Duration::from_millis).collect());
        let quantiles = [0.0, 0.5, 0.99, 1.0].map(|part| figures.quantile(part).as_millis());
        assert_eq!((quantiles, figures.worst().as_millis()), ([1, 50, 99, 100], 100));
        assert_eq!(Figures::new(Vec::new()).quantile(0.5), Duration::ZERO);
    }
}
