//! The time without a master: how long the node waits between attempts, what it logs, and when it gives up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    connect::RegisterError,
    state::{EndReason, Timeouts},
};
use crate::wire::dial::{Backoff, RetryLog};

/// From the start of the node, or the loss of its master, until it is registered to stay.
///
/// A registration that is lost soon does not end an outage: the time away goes on where it stopped, and so does the backoff.
/// Otherwise a master that registers the node and drops it at once would keep it for ever.
#[derive(Debug)]
pub(super) struct Outage {
    /// When it began, without the time for which the node was registered meanwhile.
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

    fn after_loss(timeouts: &Timeouts, reason: String) -> Self {
        Self::new(false, timeouts.master, reason)
    }

    /// The connection to the master was lost after the node had heard from it for `lasted`. If that is less than `silence`,
    /// this outage goes on.
    pub(super) fn on_loss(&mut self, timeouts: &Timeouts, reason: String, lasted: Duration, silence: Duration) {
        if self.is_first || lasted >= silence {
            *self = Self::after_loss(timeouts, reason);
        } else {
            self.began += lasted;
            self.last_failure = reason;
        }
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
            tracing::warn!(node, master, duration = ?elapsed, %reason, "cannot register yet; trying again");
        } else {
            tracing::debug!(node, master, %reason, "cannot register yet");
        }
        self.last_failure = reason;
        self.backoff.next(match failure {
            RegisterError::Busy(again) => Some(*again),
            _ => None,
        })
    }

    /// The wait before the first attempt after a loss; longer with each registration that was lost soon.
    pub(super) fn next_wait(&mut self) -> Duration {
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

    const SILENCE: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn short_registrations_do_not_restart_the_clock_and_the_time_of_them_does_not_count() {
        let mut outage = Outage::at_start(&TIMEOUTS);
        let lasted = SILENCE - Duration::from_secs(1);
        let mut away = Duration::ZERO;
        // Not registered before, so that the time until then is none of this.
        tokio::time::advance(Duration::from_secs(5)).await;
        outage.on_loss(&TIMEOUTS, "dropped".to_owned(), Duration::ZERO, SILENCE);
        while away < Duration::from_secs(28) {
            tokio::time::advance(Duration::from_secs(2)).await;
            away += Duration::from_secs(2);
            tokio::time::advance(lasted).await;
            outage.on_loss(&TIMEOUTS, "dropped again".to_owned(), lasted, SILENCE);
        }
        let began = Instant::now();
        let expected =
            EndReason::MasterLost { timeout: Duration::from_secs(30), last_failure: "dropped again".to_owned() };
        assert_eq!(outage.expired().await, expected);
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_that_lasted_ends_the_outage() {
        let mut outage = Outage::at_start(&TIMEOUTS);
        outage.on_loss(&TIMEOUTS, String::new(), Duration::ZERO, SILENCE);
        tokio::time::advance(Duration::from_secs(29)).await;
        outage.on_loss(&TIMEOUTS, String::new(), SILENCE, SILENCE);
        let began = Instant::now();
        outage.expired().await;
        assert_eq!(began.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn waits_grow_over_short_registrations() {
        let mut outage = Outage::at_start(&TIMEOUTS);
        let waits: Vec<_> = (0..20)
            .map(|_| {
                outage.on_loss(&TIMEOUTS, String::new(), Duration::ZERO, SILENCE);
                outage.next_wait()
            })
            .collect();
        assert!(waits[0] < Duration::from_secs(1) && waits[19] >= Duration::from_secs(5), "{waits:?}");
        outage.on_loss(&TIMEOUTS, String::new(), SILENCE, SILENCE);
        assert!(outage.next_wait() < Duration::from_secs(1));
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
