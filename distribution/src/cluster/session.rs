//! Keeps a caller connected: dials the master, drives the connection, and begins again when it is lost.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    connection::{self, Accepted},
    shared::ClusterShared,
    status::{EndReason, Status},
};
use crate::{
    config::from_micros,
    text::{LONGEST, in_one_line},
    wire::{
        channel::Channel,
        dial::{Backoff, DialError, RetryLog, dial},
        handshake::{CallerWelcome, ErrorSubject, Purpose, greet},
    },
};

/// Runs until the caller ends.
pub(super) async fn run(shared: Arc<ClusterShared>) {
    let end = tokio::select! {
        end = live(&shared) => Some(end),
        () = expire(&shared) => None,
        // A connection that is open says goodbye first.
        () = closed_while_away(&shared) => None,
    };
    let reason = match &end {
        Some(reason) => reason.to_string(),
        None => "the program dropped its `Cluster`".to_owned(),
    };
    if let Some(reason) = &end {
        tracing::error!(caller = shared.hello.name, master = shared.master, %reason, "the caller has ended");
    }
    shared.give_up(&reason, true);
    shared.status.send_replace(Status::Ended(end));
}

/// Waits until the caller is to end, and is not connected.
async fn closed_while_away(shared: &ClusterShared) {
    shared.closed.cancelled().await;
    let mut status = shared.status.subscribe();
    let _ = status.wait_for(|status| !matches!(status, Status::Connected)).await;
}

/// Ends calls whose time is up.
async fn expire(shared: &ClusterShared) {
    loop {
        let next = shared.expire();
        tokio::select! {
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = shared.deadline_set.notified() => {}
        }
    }
}

/// Keeps the caller connected, and returns why it must end.
async fn live(shared: &Arc<ClusterShared>) -> EndReason {
    let (name, master) = (shared.hello.name.as_str(), shared.master.as_str());
    let mut is_first = true;
    loop {
        let began = Instant::now();
        let mut backoff = Backoff::default();
        let mut log = RetryLog::default();
        if !is_first {
            sleep(backoff.next(None)).await;
        }
        let (channel, accepted) = loop {
            let failure = match connect(shared).await {
                Ok(connected) => break connected,
                Err(failure) => failure,
            };
            if let Some(reason) = EndReason::of_failure(&failure, is_first) {
                return reason;
            }
            let (reason, elapsed) = (failure.to_string(), began.elapsed());
            if log.should_warn(elapsed, &reason, !matches!(failure, DialError::NoAnswer(_))) {
                tracing::warn!(caller = name, master, %reason, "cannot connect yet after {:.0} s; trying again", elapsed.as_secs_f64());
            } else {
                tracing::debug!(caller = name, master, %reason, "cannot connect yet");
            }
            let wait = backoff.next(match failure {
                DialError::Busy(again) => Some(again),
                _ => None,
            });
            if let Err(reason) = pause(shared, wait, began, is_first, reason).await {
                return reason;
            }
        };
        tracing::info!(caller = name, master, "connected");
        is_first = false;
        let reason = connection::run(shared, channel, &accepted).await;
        shared.on_disconnected(&reason);
        if !shared.closed.is_cancelled() {
            tracing::warn!(caller = name, master, %reason, "lost the master; dialling again");
        }
    }
}

/// Waits before the next attempt. An error ends the caller. If the master has been away for too long, the calls that wait
/// for it end.
async fn pause(
    shared: &ClusterShared,
    wait: Duration,
    began: Instant,
    is_first: bool,
    reason: String,
) -> Result<(), EndReason> {
    shared.on_still_away(&reason);
    let next = Instant::now() + wait;
    let calls_end = shared.away_since().unwrap_or(began) + shared.reconnect_timeout;
    if calls_end <= next {
        sleep_until(calls_end).await;
        shared.give_up(&format!("it was away for longer than {:?}: {reason}", shared.reconnect_timeout), false);
    }
    let timeout = shared.connect_timeout;
    if is_first && began + timeout <= next {
        sleep_until(began + timeout).await;
        return Err(EndReason::ConnectTimeout { timeout, last_failure: reason });
    }
    sleep_until(next).await;
    Ok(())
}

/// Dials the master and says hello.
async fn connect(shared: &ClusterShared) -> Result<(Channel, Accepted), DialError> {
    let authenticator = &shared.authenticator;
    let mut channel = match &shared.connector {
        Some(connector) => connector.connect(Purpose::NestedCalls),
        None => dial(authenticator, &shared.master).await?,
    };
    let welcome = greet(&mut channel, &shared.hello).await;
    let welcome = welcome.map_err(|error| DialError::of_handshake(&error, authenticator))?;
    match welcome {
        CallerWelcome::Refused { reason, for_good: true } => Err(DialError::Permanent {
            subject: ErrorSubject::Credential,
            text: in_one_line(&reason, LONGEST),
            first_only: !authenticator.knows_master() || authenticator.may_change(),
        }),
        CallerWelcome::Refused { reason, for_good: false } => {
            Err(DialError::Passing(format!("the master says: {}", in_one_line(&reason, LONGEST))))
        }
        CallerWelcome::Busy { retry_after } => Err(DialError::Busy(from_micros(retry_after))),
        accepted @ CallerWelcome::Accepted { .. } => {
            let accepted = Accepted::new(&accepted, shared.hello.max_message_size);
            accepted.map(|accepted| (channel, accepted)).ok_or(DialError::Passing("it did not answer".to_owned()))
        }
    }
}
