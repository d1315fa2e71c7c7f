//! Decides which failed attempts to register are logged as warnings: soon, then less and less often, and never none.

use std::time::Duration;

/// A master that is not up yet is expected: nodes and master often start together.
const FIRST_WARNING: Duration = Duration::from_secs(5);

/// The second warning.
const SECOND_WARNING: Duration = Duration::from_secs(30);

/// From then on.
const WARNING_INTERVAL: Duration = Duration::from_secs(120);

/// The warnings of one outage, which begins when the node starts or loses its master.
#[derive(Debug)]
pub(crate) struct RetryLog {
    next: Duration,
    /// The newest warning, and its time since the outage began.
    last: Option<(String, Duration)>,
}

impl Default for RetryLog {
    fn default() -> Self {
        Self { next: FIRST_WARNING, last: None }
    }
}

impl RetryLog {
    /// Whether to warn of a failure that happened this long after the outage began. A master that does not answer is
    /// given some time first; a failure after it has `answered` is worth a warning at once, and so is a new reason, but
    /// not more than one each few seconds.
    pub(crate) fn should_warn(&mut self, elapsed: Duration, reason: &str, answered: bool) -> bool {
        let is_due = elapsed >= self.next;
        let is_new = match &self.last {
            None => answered,
            Some((said, at)) => said != reason && elapsed.saturating_sub(*at) >= FIRST_WARNING,
        };
        if !is_due && !is_new {
            return false;
        }
        if is_due {
            self.next = if elapsed < SECOND_WARNING { SECOND_WARNING } else { elapsed + WARNING_INTERVAL };
        }
        self.last = Some((reason.to_owned(), elapsed));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "cannot connect: Connection refused";

    /// The seconds at which warnings come, if an attempt fails each second.
    fn warnings(seconds: u64, failure: impl Fn(u64) -> (&'static str, bool)) -> Vec<u64> {
        let mut log = RetryLog::default();
        let warns = |second: &u64| {
            let (reason, answered) = failure(*second);
            log.should_warn(Duration::from_secs(*second), reason, answered)
        };
        (0..seconds).filter(warns).collect()
    }

    #[test]
    fn warnings_of_an_absent_master_become_rarer_and_never_end() {
        assert_eq!(warnings(600, |_| (REFUSED, false)), [5, 30, 150, 270, 390, 510]);
    }

    #[test]
    fn a_warning_comes_at_once_if_the_master_answered() {
        assert_eq!(warnings(100, |_| ("the master is full", true)), [0, 5, 30]);
    }

    #[test]
    fn a_new_reason_is_warned_of_within_seconds() {
        let failure = |second| if second < 50 { (REFUSED, false) } else { ("no route to host", false) };
        assert_eq!(warnings(100, failure), [5, 30, 50]);
        let alternating = |second| if second % 2 == 0 { (REFUSED, false) } else { ("no route to host", false) };
        assert!(warnings(100, alternating).len() <= 20);
    }
}
