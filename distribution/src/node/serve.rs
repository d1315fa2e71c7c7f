//! One connection to the master: takes requests, sends heartbeats, and closes in order.

use std::{
    pin::{Pin, pin},
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use futures::SinkExt;
use tarpc::server::{self, BaseChannel, Channel};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    log_sending::SendingLogs,
    profiler,
    register::Registered,
    requests::Requests,
    session::Session,
    state::{DesiredState, NodeShared},
    vitals::VitalsMeter,
};
use crate::{
    config::{PeerTimeouts, ValueLimits},
    wire::{
        CloseReason, Control, channel,
        confirmations::Unconfirmed,
        connection_state::ConnectionState,
        frame::layout::BODY_HEADER_LIMIT,
        incoming_memory::IncomingMemory,
        repoller::Repoller,
        transport::{IncomingRequest, NodeTransport, OutgoingReply},
    },
};

/// Replies that handlers may leave for the connection before they wait for it.
const REPLY_BUFFER: usize = 1024;

/// How long the last frames may take to be written before the connection is closed without them.
const GRACEFUL_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a master may read nothing. Its heartbeats show that it is alive.
const WRITE_TIMEOUT: Duration = Duration::from_secs(600);

/// How a connection ended.
pub(super) enum ServeOutcome {
    /// The owner wanted the node to end.
    Left,
    /// The connection was lost.
    Lost {
        reason: String,
        /// The session that the next connection resumes, if the master waits for the node.
        session: Option<Session>,
        /// Whether the master said that it shuts down.
        master_shut_down: bool,
        /// From the registration until the master was last heard.
        lasted: Duration,
    },
}

type ServerRequests = server::Requests<BaseChannel<IncomingRequest, OutgoingReply, NodeTransport<channel::Channel>>>;

/// Serves the calls of one connection until it ends, or the owner wants the node to end.
pub(super) async fn serve(
    node: &NodeShared,
    registered: Registered,
    before: Option<Session>,
    desired: &mut watch::Receiver<DesiredState>,
) -> ServeOutcome {
    let connection = ConnectionState::new(
        peer_timeouts(registered.silence),
        Some(IncomingMemory::of_connection(node.max_message_size)),
    );
    let session = Session::of_connection(before, node, &registered, &connection);
    let Registered { channel, heartbeat, silence, reply_limit, session: offer, .. } = registered;
    let (active, batches) = (Arc::clone(&session.active), Arc::clone(&session.batches));
    let unconfirmed = offer.map(|_| Arc::new(Unconfirmed::default()));
    let drained = Arc::new(Notify::new());
    let goodbye = Arc::new(OnceLock::new());
    let on_control = {
        let (active, drained, goodbye) = (Arc::clone(&active), Arc::clone(&drained), Arc::clone(&goodbye));
        let (compute_pool, batches) = (Arc::clone(&node.compute_pool), Arc::clone(&batches));
        let (drain_requested, unconfirmed) = (Arc::clone(&node.drain_requested), unconfirmed.clone());
        let outgoing = Arc::clone(&connection);
        Box::new(move |control| {
            match control {
                Control::Cancel { call, attempt } => {
                    active.cancel(call, attempt);
                    batches.close(call, attempt);
                }
                Control::Grant { call, attempt, upto } => batches.grant(call, attempt, upto),
                Control::Received { responses } => match &unconfirmed {
                    Some(unconfirmed) => active.on_confirmed(unconfirmed.confirm(responses)?),
                    None => return Err("it confirmed responses without a session".to_owned()),
                },
                Control::AskedAgain => active.forget_others(),
                Control::MasterHeartbeat => {}
                Control::Retract => compute_pool.give_back(),
                Control::RequestDrain => drain_requested.set(),
                Control::TakeProfile { profile, milliseconds } => {
                    profiler::begin(&outgoing, profile, Duration::from_millis(milliseconds.into()));
                }
                Control::Drained => drained.notify_one(),
                // The first one counts.
                Control::Goodbye { reason, is_shutdown } => _ = goodbye.set((reason, is_shutdown)),
                other => return Err(other.unhandled()),
            }
            Ok(())
        })
    };
    let transport =
        NodeTransport::new(channel, Arc::clone(&connection), node.max_message_size, unconfirmed, on_control);
    let config = server::Config { pending_response_buffer: REPLY_BUFFER };
    let mut server = pin!(BaseChannel::new(config, transport).requests());
    let requests = Requests {
        node,
        active: Arc::clone(&active),
        batches: Arc::clone(&batches),
        nesting: session.nesting.clone(),
        connection: Arc::clone(&session.connection),
        reply_limits: ValueLimits { bytes: reply_limit.saturating_sub(BODY_HEADER_LIMIT), depth: node.max_depth },
    };
    // A master that says goodbye does not wait for the node.
    let lost = |reason: String| Lost {
        reason,
        is_broken: goodbye.get().is_none(),
        master_shut_down: goodbye.get().is_some_and(|(_, is_shutdown)| *is_shutdown),
        lasted: connection.heard().saturating_duration_since(connection.opened()),
    };
    let closed = || lost(why_closed(goodbye.get().map(|(reason, _)| reason)));

    let sending_logs = SendingLogs::start(&node.logs, &connection);
    let mut beats = interval(heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let repoller = Repoller::new();
    let mut vitals = VitalsMeter::default();
    let mut drain_deadline: Option<Instant> = None;
    let lost = loop {
        tokio::select! {
            request = repoller.next(server.as_mut(), || active.is_alone()) => match request {
                Some(Ok(request)) => requests.run(request),
                // A master that has said goodbye does not go on with what it has begun.
                Some(Err(_)) if goodbye.get().is_some() => break closed(),
                Some(Err(error)) => break lost(with_sources(&error)),
                None => break closed(),
            },
            _ = beats.tick() => {
                let silent = connection.heard().elapsed();
                if let Some(violation) = connection.violation(connection.opened()) {
                    break lost(format!("the master broke the protocol: {violation}"));
                }
                if silent > silence {
                    break lost(format!("the master was silent for {:.1} s", silent.as_secs_f64()));
                }
                connection.send(Control::Heartbeat { load: active.load(node.blocked.load(Ordering::Relaxed)) });
                if let Some(vitals) = vitals.measure(node, &active) {
                    connection.send(Control::Vitals { vitals });
                }
            }
            desired = next_desired(desired, drain_deadline.is_some()) => match desired {
                DesiredState::Stop => return close(&mut server, &connection, node, sending_logs).await,
                _ => drain_deadline = Some(begin_drain(node, &connection)),
            },
            () = node.handler_runtime.ended(), if drain_deadline.is_none() => {
                tracing::error!(
                    node = node.registration.name,
                    "the runtime that the async handlers run on has ended; the node drains and ends"
                );
                drain_deadline = Some(begin_drain(node, &connection));
            }
            () = node.drain_requested.wait(), if drain_deadline.is_none() => {
                tracing::info!(
                    node = node.registration.name,
                    "the master asks the node to drain: it finishes its calls and ends"
                );
                drain_deadline = Some(begin_drain(node, &connection));
            }
            () = connection.peer_closed() => break closed(),
            () = drained.notified(), if drain_deadline.is_some() => {
                return close(&mut server, &connection, node, sending_logs).await;
            }
            () = sleep_until(drain_deadline.unwrap_or_else(Instant::now)), if drain_deadline.is_some() => {
                let left = active.load(0);
                let calls = left.computing + left.waiting + left.asynchronous;
                if calls > 0 {
                    tracing::warn!(
                        node = node.registration.name,
                        calls,
                        timeout = ?node.timeouts.drain,
                        "the drain timeout has passed; the node ends with calls unanswered"
                    );
                }
                return close(&mut server, &connection, node, sending_logs).await;
            }
        }
    };
    let Lost { reason, is_broken, master_shut_down, lasted } = lost;
    let session = if is_broken { session.on_broken() } else { None };
    ServeOutcome::Lost { reason, session, master_shut_down, lasted }
}

/// How a connection was lost.
struct Lost {
    reason: String,
    /// Whether neither end has closed it on purpose.
    is_broken: bool,
    master_shut_down: bool,
    lasted: Duration,
}

/// A master that is stalled neither reads nor ends a frame, and is tolerated for as long as it may be silent.
fn peer_timeouts(silence: Duration) -> PeerTimeouts {
    let PeerTimeouts { read_timeout, .. } = PeerTimeouts::default();
    PeerTimeouts { read_timeout: read_timeout.max(silence), write_timeout: WRITE_TIMEOUT.max(silence) }
}

/// The next state that the owner wants: `Drain` (unless the node drains already), or `Stop`.
async fn next_desired(desired: &mut watch::Receiver<DesiredState>, draining: bool) -> DesiredState {
    let changed =
        desired.wait_for(|desired| *desired == DesiredState::Stop || *desired == DesiredState::Drain && !draining);
    changed.await.map_or(DesiredState::Stop, |desired| *desired)
}

/// Asks the master for no more calls, and returns when the node ends at the latest.
fn begin_drain(node: &NodeShared, connection: &ConnectionState) -> Instant {
    connection.send(Control::Drain);
    node.drain_deadline()
}

/// Says goodbye and closes the connection.
async fn close(
    server: &mut Pin<&mut ServerRequests>,
    connection: &ConnectionState,
    node: &NodeShared,
    sending_logs: SendingLogs,
) -> ServeOutcome {
    sending_logs.send_rest(&node.logs, connection).await;
    connection.send(Control::Goodbye { reason: CloseReason::default(), is_shutdown: false });
    // A master that reads nothing any more will notice the closed connection instead.
    let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, server.channel_pin_mut().close()).await;
    ServeOutcome::Left
}

/// Why the master closed the connection, for a log line.
fn why_closed(goodbye: Option<&CloseReason>) -> String {
    match goodbye.map(CloseReason::shown) {
        Some(Some(reason)) => format!("the master closed the connection: {reason}"),
        Some(None) => "the master said goodbye, without a reason".to_owned(),
        None => "the master closed the connection without a goodbye".to_owned(),
    }
}

/// An error with its sources, for a log line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_why_the_master_closed_the_connection() {
        for (goodbye, expected) in [
            (None, "without a goodbye"),
            (Some(CloseReason::default()), "said goodbye, without a reason"),
            (Some(CloseReason::new("the node was\nrevoked")), ": the node was\\nrevoked"),
        ] {
            let reason = why_closed(goodbye.as_ref());
            assert!(reason.ends_with(expected), "{reason}");
        }
    }

    #[test]
    fn a_master_may_stall_for_as_long_as_it_may_be_silent() {
        for seconds in [1, 15, 3600] {
            let silence = Duration::from_secs(seconds);
            let PeerTimeouts { read_timeout, write_timeout } = peer_timeouts(silence);
            assert!(read_timeout >= silence && write_timeout >= silence);
        }
    }
}
