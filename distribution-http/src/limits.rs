//! What the page may cost: how many requests and viewers at a time, how long, how large.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

/// The most bytes of a request's body.
pub(crate) const BODY: usize = 64 * 1024;

/// How long a request may take that is not the event stream.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(15);

/// How long a report may take: it has much to ask for.
pub(crate) const REPORT_TIME: Duration = Duration::from_secs(60);

/// How long a node may take to look up the names of a profile, and to send it, once it has taken all samples.
pub(crate) const PROFILE_ANSWER_TIME: Duration = Duration::from_secs(35);

/// How long a profile may take.
pub(crate) const PROFILE_TIME: Duration = Duration::from_secs(70);

/// How long it may take to send a report.
pub(crate) const REPORT_SEND_TIME: Duration = Duration::from_secs(300);

/// The bytes of a piece in which a report is sent.
pub(crate) const REPORT_PIECE: usize = 64 * 1024;

/// How many reports may be made or sent at a time. Each reads all that the master remembers, and has up to 40 MiB.
const REPORTS: usize = 2;

/// How many requests may be under way, event streams apart.
const REQUESTS: usize = 128;

/// How many viewers there may be unless set otherwise.
pub(crate) const VIEWERS: usize = 64;

/// Counts what is under way.
#[derive(Debug)]
pub(crate) struct Limits {
    requests: Arc<Semaphore>,
    reports: Arc<Semaphore>,
    viewers: Arc<Semaphore>,
    most_viewers: usize,
}

impl Limits {
    pub(crate) fn new(viewers: usize) -> Self {
        let semaphore = |most| Arc::new(Semaphore::new(most));
        Self {
            requests: semaphore(REQUESTS),
            reports: semaphore(REPORTS),
            viewers: semaphore(viewers),
            most_viewers: viewers,
        }
    }

    /// Counts a request until this is dropped.
    pub(crate) fn request(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            let sentence =
                format!("{REQUESTS} requests are under way already, which is the most. Try again in a second.");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(1)
        })
    }

    /// Counts a report until this is dropped.
    pub(crate) fn report(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.reports).try_acquire_owned().map_err(|_| {
            let sentence =
                format!("{REPORTS} reports are made or sent already, which is the most. Try again in some seconds.");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(5)
        })
    }

    /// Counts a viewer until this is dropped.
    pub(crate) fn viewer(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.viewers).try_acquire_owned().map_err(|_| {
            let sentence = format!(
                "{} viewers have the page open, which is the most (`max_viewers`). Close one, or wait.",
                self.most_viewers
            );
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(10)
        })
    }
}
