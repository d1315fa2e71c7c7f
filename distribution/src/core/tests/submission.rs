//! Calls that tests submit.

use std::time::Duration;

use crate::{
    core::Demand,
    failed_attempt::FailedAttempt,
    id::{CallId, CallerId},
    service::{method::Method, options::Hedged},
};

/// A call to submit.
#[derive(Clone)]
pub(super) struct Submission {
    pub(super) method: &'static Method,
    pub(super) demand: Demand,
    pub(super) on: Option<&'static str>,
    pub(super) failed_attempts: Vec<FailedAttempt>,
}

pub(super) fn call(method: &'static Method) -> Submission {
    let demand = Demand { size: 10, ..Demand::default() };
    Submission { method, demand, on: None, failed_attempts: Vec::new() }
}

impl Submission {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Demand)) -> Self {
        change(&mut self.demand);
        self
    }

    pub(super) fn by(self, caller: u64) -> Self {
        self.with(|demand| demand.caller = CallerId(caller))
    }

    pub(super) fn in_handler_of(self, parent: CallId) -> Self {
        self.with(|demand| demand.parent = Some(parent))
    }

    pub(super) fn on(self, node: &'static str) -> Self {
        Self { on: Some(node), ..self }
    }

    pub(super) fn label(self, key: &str, value: &str) -> Self {
        self.with(|demand| demand.labels = Some([(key.to_owned(), value.to_owned())].into()))
    }

    pub(super) fn affinity(self, key: u64) -> Self {
        self.with(|demand| demand.affinity = Some(key))
    }

    /// The call is a hedge of this one, which was made this long ago.
    pub(super) fn hedge_of(self, id: CallId, elapsed: Duration) -> Self {
        self.with(|demand| demand.hedge_of = Some(Hedged { id, elapsed }))
    }

    pub(super) fn batch(self, count: u32) -> Self {
        self.with(|demand| demand.count = count)
    }

    pub(super) fn timeout(self, timeout: Duration) -> Self {
        self.with(|demand| demand.timeout = Some(timeout))
    }

    pub(super) fn exempt_from_limits(self) -> Self {
        self.with(|demand| demand.exempt_from_limits = true)
    }

    pub(super) fn size(self, size: usize) -> Self {
        self.with(|demand| demand.size = size)
    }

    pub(super) fn attempts(self, attempts: u32) -> Self {
        self.with(|demand| demand.attempts = Some(attempts))
    }

    pub(super) fn retry_panics(self) -> Self {
        self.with(|demand| demand.retry_panics = true)
    }
}
