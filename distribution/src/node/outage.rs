//! The time without a master: how long the node waits between attempts, what it logs, and when it gives up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    connect::RegisterError,
    state::{EndReason, Timeouts},
};
use crate::wire::dial::{Backoff, RetryLog};

/// From the start of the node, or the loss of its master, until it is registered.
#[derive(Debug)]
pub(super) struct Outage {
    began: Instant,
    /// Whether the node has not been registered before.
    is_first: bool,
    /// How long it may last.
    timeout: Option<Duration>,
    last_failure: String,
    backoff: Backoff,
    log: RetryLog,
}

impl Outage {
    /// The node starts.
    pub(super) fn at_start(timeouts: &Timeouts) -> Self {
        Self::new(true, timeouts.connect, "the first connection attempt had no answer".to_owned())
    }

    /// The connection to the master was lost.
    pub(super) fn after_loss(timeouts: &Timeouts, reason: String) -> Self {
        Self::new(false, timeouts.master, reason)
    }

    fn new(is_first: bool, timeout: Option<Duration>, last_failure: String) -> Self {
        Self {
            began: Instant::now(),
            is_first,
            timeout,
            last_failure,
            backoff: Backoff::default(),
            log: RetryLog::default(),
        }
    }

    /// Whether this failure ends the node.
    pub(super) fn is_permanent(&self, failure: &RegisterError) -> bool {
        matches!(failure, RegisterError::Permanent { first_only, .. } if self.is_first || !first_only)
    }

    /// Notes a failed attempt, and returns how long to wait until the next.
    pub(super) fn failed(&mut self, failure: &RegisterError, node: &str, master: &str) -> Duration {
        let reason = failure.to_string();
        let elapsed = self.began.elapsed();
        if self.log.should_warn(elapsed, &reason, !matches!(failure, RegisterError::NoAnswer(_))) {
            tracing::warn!(node, master, %reason, "cannot register yet after {:.0} s; trying again", elapsed.as_secs_f64());
        } else {
            tracing::debug!(node, master, %reason, "cannot register yet");
        }
        self.last_failure = reason;
        self.backoff.next(match failure {
            RegisterError::Busy(again) => Some(*again),
            _ => None,
        })
    }

    /// The wait before the first attempt after a loss.
    pub(super) fn first_wait(&mut self) -> Duration {
        self.backoff.next(None)
    }

    /// Waits until the outage has lasted for too long, and returns why the node ends.
    pub(super) async fn expired(&self) -> EndReason {
        let Some(timeout) = self.timeout else { return std::future::pending().await };
        sleep_until(self.began + timeout).await;
        let last_failure = self.last_failure.clone();
        match self.is_first {
            true => EndReason::ConnectTimeout { timeout, last_failure },
            false => EndReason::MasterLost { timeout, last_failure },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Some(Duration::from_secs(10)),
        master: Some(Duration::from_secs(30)),
        drain: Duration::from_secs(30),
    };

    fn no_answer() -> RegisterError {
        RegisterError::NoAnswer("cannot connect: Connection refused".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_expires_after_the_timeout_for_its_kind_and_tells_the_last_failure() {
        let mut outage = Outage::at_start(&TIMEOUTS);
        outage.failed(&no_answer(), "n", "a:1");
        let last_failure = "cannot connect: Connection refused".to_owned();
        let timeout = Duration::from_secs(10);
        let began = Instant::now();
        assert_eq!(outage.expired().await, EndReason::ConnectTimeout { timeout, last_failure });
        assert_eq!(began.elapsed(), timeout);

        let outage = Outage::after_loss(&TIMEOUTS, "the master was silent".to_owned());
        let (timeout, last_failure) = (Duration::from_secs(30), "the master was silent".to_owned());
        let began = Instant::now();
        assert_eq!(outage.expired().await, EndReason::MasterLost { timeout, last_failure });
        assert_eq!(began.elapsed(), timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_without_a_timeout_does_not_expire() {
        let timeouts = Timeouts { connect: None, master: None, ..TIMEOUTS };
        for outage in [Outage::at_start(&timeouts), Outage::after_loss(&timeouts, String::new())] {
            let year = Duration::from_secs(365 * 24 * 3600);
            assert!(tokio::time::timeout(year, outage.expired()).await.is_err());
        }
    }

    #[test]
    fn what_only_an_unregistered_node_takes_as_permanent_does_not_end_one_that_was_registered() {
        let permanent = |first_only| RegisterError::Permanent { reason: EndReason::RuntimeEnded, first_only };
        let lost = Outage::after_loss(&TIMEOUTS, String::new());
        assert!(Outage::at_start(&TIMEOUTS).is_permanent(&permanent(true)));
        assert!(!lost.is_permanent(&permanent(true)) && lost.is_permanent(&permanent(false)));
        assert!(!lost.is_permanent(&no_answer()));
    }
}
