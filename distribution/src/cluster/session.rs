//! Keeps a caller connected: dials the master, drives the connection, and begins again when it is lost.

use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    accepted::Accepted,
    connection,
    shared::ClusterShared,
    status::{EndReason, Status},
};
use crate::{
    config::from_micros,
    text::{LONGEST, in_one_line},
    wire::{
        channel::Channel,
        dial::{Backoff, DialError, RetryLog, dial},
        handshake::{CallerHello, CallerWelcome, ErrorSubject, Purpose, greet},
    },
};

/// Runs until the caller ends.
pub(super) async fn run(shared: Arc<ClusterShared>) {
    let mut end = EndOnDrop { shared: &shared, reason: None };
    let ended = tokio::select! {
        reason = live(&shared) => Some(reason),
        () = expire(&shared) => None,
        () = give_up_absent(&shared) => None,
        () = give_up_session(&shared) => None,
        // A connection that is open says goodbye first.
        () = closed_while_away(&shared) => None,
    };
    if let Some(reason) = &ended {
        tracing::error!(caller = shared.hello.name, master = shared.master, %reason, "the caller has ended");
    }
    end.reason = Some(ended);
}

/// Ends the caller with its task, however the task ends: nobody else would end its calls.
struct EndOnDrop<'a> {
    shared: &'a ClusterShared,
    /// Why it has ended: `None` within if its owner ended it, and `None` if the task was dropped.
    reason: Option<Option<EndReason>>,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        let reason = match &self.reason {
            Some(Some(reason)) => reason.to_string(),
            Some(None) => "the program dropped its `Cluster`".to_owned(),
            None if std::thread::panicking() => "the task of its connection panicked".to_owned(),
            None => "the runtime on which the program had connected it has ended".to_owned(),
        };
        self.shared.end(&reason, self.reason.take().flatten());
    }
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

/// Ends the calls that wait when the master has been away for too long, also while an attempt to reach it is under way.
async fn give_up_absent(shared: &ClusterShared) {
    let mut status = shared.status.subscribe();
    loop {
        // Nested calls may also wait for the first connection.
        let is_away = matches!(*status.borrow_and_update(), Status::Away | Status::Connecting);
        let end = shared.away_since().filter(|_| is_away).map(|since| since + shared.reconnect_timeout);
        tokio::select! {
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                shared.give_up_absent();
                // Calls that are made from now on end at once, until there has been another connection.
                let _ = status.changed().await;
            }
            _ = status.changed() => {}
        }
    }
}

/// Ends the calls that were sent when the master does not wait for this caller any more.
async fn give_up_session(shared: &ClusterShared) {
    let mut status = shared.status.subscribe();
    loop {
        let is_away = matches!(*status.borrow_and_update(), Status::Away);
        let end = shared.session_ends().filter(|_| is_away);
        tokio::select! {
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => shared.give_up_session(),
            _ = status.changed() => {}
        }
    }
}

/// Keeps the caller connected, and returns why it must end.
async fn live(shared: &Arc<ClusterShared>) -> EndReason {
    let (name, master) = (shared.hello.name.as_str(), shared.master.as_str());
    let limit = shared.connect_timeout;
    let first = timeout(limit, reach(shared, true)).await;
    let mut reached = first
        .unwrap_or_else(|_| Err(EndReason::ConnectTimeout { timeout: limit, last_failure: shared.last_failure() }));
    loop {
        let (channel, accepted) = match reached {
            Ok(connected) => connected,
            Err(reason) => return reason,
        };
        tracing::info!(caller = name, master, "connected");
        let (reason, is_broken) = connection::run(shared, channel, &accepted).await;
        shared.on_disconnected(&reason, accepted.session.filter(|_| is_broken), accepted.silence);
        if !shared.closed.is_cancelled() {
            tracing::warn!(caller = name, master, %reason, "lost the master; dialling again");
        }
        reached = reach(shared, false).await;
    }
}

/// Dials the master until it accepts the caller, or until there is a reason why the caller must end.
async fn reach(shared: &Arc<ClusterShared>, is_first: bool) -> Result<(Channel, Accepted), EndReason> {
    let (name, master) = (shared.hello.name.as_str(), shared.master.as_str());
    let began = Instant::now();
    let mut backoff = Backoff::default();
    let mut log = RetryLog::default();
    if !is_first {
        sleep(backoff.next(None)).await;
    }
    loop {
        let failure = match connect(shared).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => failure,
        };
        if let Some(reason) = EndReason::of_failure(&failure, is_first) {
            return Err(reason);
        }
        let (reason, elapsed) = (failure.to_string(), began.elapsed());
        if log.should_warn(elapsed, &reason, !matches!(failure, DialError::NoAnswer(_))) {
            tracing::warn!(caller = name, master, duration = ?elapsed, %reason, "cannot connect yet; trying again");
        } else {
            tracing::debug!(caller = name, master, %reason, "cannot connect yet");
        }
        shared.on_still_away(&reason);
        let wait = backoff.next(match failure {
            DialError::Busy(again) => Some(again),
            _ => None,
        });
        sleep(wait).await;
    }
}

/// Dials the master and says hello.
async fn connect(shared: &ClusterShared) -> Result<(Channel, Accepted), DialError> {
    let authenticator = &shared.authenticator;
    let mut channel = match &shared.connector {
        Some(connector) => connector.connect(Purpose::NestedCalls),
        None => dial(authenticator, &shared.master).await?,
    };
    let hello = CallerHello { session: shared.session(), ..shared.hello.clone() };
    let welcome = greet(&mut channel, &hello).await;
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
