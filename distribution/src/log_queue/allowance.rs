//! A token bucket: it says how much passes at once, and how much each second from then on.

use std::time::Instant;

/// How much may still pass.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: f64,
    each_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    /// `most` at once, and `each_second` from then on.
    pub(crate) fn new(most: u32, each_second: u32, now: Instant) -> Self {
        Self { most: most.into(), each_second: each_second.into(), left: most.into(), at: now }
    }

    /// Whether this much may pass now. If so, it is taken.
    pub(crate) fn take(&mut self, amount: usize, now: Instant) -> bool {
        let has = self.has(amount, now);
        if has {
            self.left -= amount as f64;
        }
        has
    }

    /// Whether this much may pass now.
    pub(crate) fn has(&mut self, amount: usize, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * self.each_second).min(self.most);
        self.at = self.at.max(now);
        amount as f64 <= self.left
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_used_up_and_comes_back_with_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(3, 2, start);
        assert_eq!([2, 2, 1, 1].map(|amount| allowance.take(amount, start)), [true, false, true, false]);
        assert!(!allowance.take(1, start + Duration::from_millis(400)));
        assert!(allowance.take(1, start + Duration::from_millis(500)));
        assert!(!allowance.has(4, start + Duration::from_secs(3600)), "it is never more than at the beginning");
        assert!(allowance.take(3, start + Duration::from_secs(3600)));
    }
}
