//! The connection of a caller in another process: serves its requests until it ends.
//!
//! One task drives tarpc's server and the calls whose ends are awaited. It brings all requests that have come to the core at
//! once, and answers all calls that have ended before it lets tarpc write, so that answers travel together.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{SinkExt, Stream, StreamExt, stream::FuturesUnordered};
use tarpc::server::{self, BaseChannel, Channel as _, InFlightRequest};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    credential_guard::CredentialGuard,
    requests::{Answering, CallerRequests},
};
use crate::{
    config::to_micros,
    core::{GONE_AFTER, SUSPECT_AFTER},
    error::GoneReason,
    master::{
        caller_table::ConnectedCaller, heartbeat_limit::HeartbeatLimit, new_caller::NewConnection, runs::ReportLimit,
        shared::Shared,
    },
    service::state::CallState,
    wire::{
        CloseReason, Control, Load,
        confirmations::Unconfirmed,
        handshake::{CallerWelcome, SessionId, SessionOffer, send_welcome},
        repoller::Repoller,
        transport::{CallerAtMasterTransport, IncomingCallerRequest, OutgoingCallerReply},
    },
};

/// Responses that may wait for the connection.
const REPLY_BUFFER: usize = 1024;

/// How long the last frames, the goodbye among them, may take to be written before the connection is closed anyway.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Calls that are brought to the core at once at most, so that others need not wait for its lock.
const MOST_AT_ONCE: usize = 256;

/// How often a caller with calls under way is told how many slots are free.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// The most bytes of responses that may wait for a caller, unless four of the largest have more. With far fewer nothing more is
/// read of it; these are the responses to the calls that were already under way.
const MOST_RESPONSES: usize = 1024 * 1024 * 1024;

/// The most responses that a caller may leave unconfirmed: more than fit into all buffers between both ends.
const MOST_UNCONFIRMED: usize = 4 * 1024 * 1024;

/// The calls whose ends are awaited.
pub(super) type AwaitedCalls = FuturesUnordered<Answering>;

/// How a connection of a session ended.
pub(super) enum ConnectionEnd {
    /// The session ends with it.
    Over(GoneReason),
    /// The caller may come back.
    Broken(GoneReason),
    /// The caller goes on on this one.
    Replaced(Box<NewConnection>),
}

/// Serves a session on one connection until that ends.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    caller: &Arc<ConnectedCaller>,
    requests: &Arc<CallerRequests>,
    awaited: &mut AwaitedCalls,
    guard: &mut CredentialGuard,
    connection: NewConnection,
) -> ConnectionEnd {
    let NewConnection { mut channel, credential, hello, peer, session, is_resumed } = connection;
    let _registered = shared.admission.on_registered(peer.ip());
    guard.watch(shared, caller, credential);
    let silence = shared.heartbeat * (GONE_AFTER * 2 + SUSPECT_AFTER);
    let welcome = CallerWelcome::Accepted {
        first_call: caller.first_call().0,
        heartbeat: to_micros(shared.heartbeat / 2),
        silence: to_micros(silence),
        max_message_size: shared.max_message_size as u64,
        max_depth: shared.limits.max_depth,
        default_timeout: shared.limits.default_timeout.map(to_micros),
        session: session.map(|id| SessionOffer::new(id, shared.limits.resume_timeout, is_resumed)),
    };
    if let Err(error) = send_welcome(&mut channel, &welcome).await {
        tracing::debug!(address = %peer, reason = %error, "a caller left before it was accepted");
        return ConnectionEnd::Broken(GoneReason::Broken(error.to_string().into()));
    }
    let (name, principal) = (&*caller.name, &caller.principal);
    match is_resumed {
        true => {
            tracing::info!(caller = name, address = %peer, %principal, "a caller has connected again, and goes on with its calls")
        }
        false => tracing::info!(caller = name, address = %peer, %principal, "a caller has connected"),
    }
    let state = shared.new_connection_state();
    requests.on_connected(&state, hello.max_message_size, session.is_some());
    let unconfirmed = session.map(|_| Arc::new(Unconfirmed::default()));
    let goodbye = Arc::new(std::sync::OnceLock::new());
    let heartbeats = Mutex::new(HeartbeatLimit::new(shared.heartbeat / 2));
    let on_control = {
        let (requests, state, goodbye) = (Arc::clone(requests), Arc::clone(&state), Arc::clone(&goodbye));
        let (unconfirmed, shared, caller) = (unconfirmed.clone(), Arc::clone(shared), Arc::clone(caller));
        let digest = session.map(SessionId::digest);
        let mut was_heard = false;
        let mut reports = ReportLimit::new();
        Box::new(move |control| match control {
            Control::Received { responses } => {
                let Some(unconfirmed) = &unconfirmed else {
                    return Err("it confirmed responses without a session".to_owned());
                };
                requests.on_confirmed(unconfirmed.confirm(responses)?);
                Ok(())
            }
            Control::CallerHeartbeat => {
                if !std::mem::replace(&mut was_heard, true) {
                    shared.callers.on_heard(&caller, digest);
                }
                let mut heartbeats = heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
                heartbeats.on_heartbeat(Load::default(), state.paused_for())
            }
            Control::Goodbye { .. } => {
                let _ = goodbye.set(());
                Ok(())
            }
            Control::Run { report } => {
                reports.on_report(state.paused_for())?;
                shared.runs.on_report(caller.id, Some(&caller.name), report, shared.origin.elapsed());
                Ok(())
            }
            other => requests.on_control(other),
        })
    };
    let transport = CallerAtMasterTransport::new(
        channel,
        Arc::clone(&state),
        shared.max_message_size,
        unconfirmed.clone(),
        on_control,
    );
    let config = server::Config { pending_response_buffer: REPLY_BUFFER };
    let mut server = pin!(BaseChannel::new(config, transport).requests());
    let mut driver = Driver { requests, awaited, calls: Vec::new() };
    let mut beats = interval(shared.heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch_ticks = interval(WATCH_INTERVAL);
    watch_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Whether the ticks are awaited, so that a caller without calls costs nothing.
    let mut is_watching = false;
    let mut alive = shared.alive();
    let repoller = Repoller::new();
    let mut last_beat = Instant::now();
    // Silence counts from here, because this process read nothing before.
    let mut awake_since = Instant::now();
    let closed = || match goodbye.get() {
        Some(()) => GoneReason::Left,
        None => GoneReason::Disconnected,
    };
    let reason = loop {
        let most_responses = MOST_RESPONSES.max(shared.max_message_size.saturating_mul(4));
        if state.waiting_responses() > most_responses {
            let reason =
                format!("more than {most_responses} bytes of responses wait for it, because it reads them too slowly");
            break GoneReason::Violation(reason.into());
        }
        if state.has_too_many_controls() {
            break GoneReason::Violation("it makes the master send control frames and does not read them".into());
        }
        if unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed.len() > MOST_UNCONFIRMED) {
            break GoneReason::Violation("it does not confirm the responses that it has received".into());
        }
        let polled = std::future::poll_fn(|cx| {
            repoller.poll(cx, |cx| {
                let polled = driver.poll(cx, server.as_mut());
                let polled = match polled.is_pending() && !is_watching && !driver.awaited.is_empty() {
                    true => Poll::Ready(Driven::Began),
                    false => polled,
                };
                (polled, driver.awaited.len() <= 1)
            })
        });
        tokio::select! {
            driven = polled => match driven {
                Driven::Began => is_watching = true,
                // A caller that has said goodbye may close while something is unread, which looks like a reset.
                Driven::Failed(_) if goodbye.get().is_some() => break closed(),
                Driven::Failed(reason) => break reason,
                Driven::Ended => break closed(),
            },
            _ = beats.tick() => {
                if last_beat.elapsed() > shared.heartbeat * 2 {
                    awake_since = Instant::now();
                }
                last_beat = Instant::now();
                let heard = state.heard().max(awake_since);
                if let Some(violation) = state.violation(awake_since) {
                    break GoneReason::Violation(violation.into());
                }
                if heard.elapsed() > shared.heartbeat * GONE_AFTER {
                    break GoneReason::Silent(heard.elapsed());
                }
                state.send(Control::MasterHeartbeat);
            }
            _ = watch_ticks.tick(), if is_watching => {
                requests.tell_watches();
                is_watching = !driver.awaited.is_empty();
            }
            Ok(()) = alive.changed() => requests.tell_watches(),
            () = state.peer_closed() => break closed(),
            connection = caller.next_connection() => return ConnectionEnd::Replaced(connection),
            reason = caller.closed() => {
                let is_shutdown = matches!(reason, GoneReason::Shutdown);
                if is_shutdown {
                    // All calls have ended, and are answered first.
                    let all_answered = std::future::poll_fn(|cx| {
                        driver.answer(cx);
                        // What this writes was left to tarpc before. New requests are not answered any more.
                        while let Poll::Ready(Some(Ok(_))) = server.as_mut().poll_next(cx) {}
                        // Large ones are written in parts.
                        let is_done = driver.awaited.is_empty() && state.waiting_responses() == 0;
                        if is_done { Poll::Ready(()) } else { Poll::Pending }
                    });
                    let _ = state.while_it_reads(all_answered).await;
                }
                break reason;
            }
        }
    };
    match reason {
        GoneReason::Disconnected | GoneReason::Broken(_) | GoneReason::Silent(_) => {
            return ConnectionEnd::Broken(reason);
        }
        GoneReason::Left => {}
        _ => {
            requests.on_gone();
            let text = CloseReason::new(format_args!("the caller {reason}"));
            let is_shutdown = matches!(reason, GoneReason::Shutdown);
            state.send(Control::Goodbye { reason: text, is_shutdown });
            let mut channel = server.channel_pin_mut();
            match is_shutdown {
                true => drop(state.while_it_reads(channel.close()).await),
                // What it has not read need not arrive.
                false => drop(timeout(GOODBYE_TIMEOUT, channel.flush()).await),
            }
        }
    }
    ConnectionEnd::Over(reason)
}

/// What stops a driver for a moment or for good.
enum Driven {
    /// Calls are under way.
    Began,
    /// The connection must end.
    Failed(GoneReason),
    /// The caller has closed the connection.
    Ended,
}

/// Moves requests to the core, and the ends of calls to tarpc's server.
struct Driver<'a> {
    requests: &'a Arc<CallerRequests>,
    awaited: &'a mut AwaitedCalls,
    /// Calls that have come and that the core was not given. Kept between polls for its memory.
    calls: Vec<Arc<CallState>>,
}

impl Driver<'_> {
    /// Moves everything that can move; ready when the connection is to end.
    fn poll<S, E>(&mut self, cx: &mut Context<'_>, server: Pin<&mut S>) -> Poll<Driven>
    where
        S: Stream<Item = Result<InFlightRequest<IncomingCallerRequest, OutgoingCallerReply>, E>>,
        E: std::error::Error + 'static,
    {
        // Before tarpc's server is polled, so that it finds all answers at once and writes them together.
        self.answer(cx);
        let polled = self.read(cx, server);
        // However the connection goes on: a call that was detached before the caller left is made.
        self.requests.submit(&mut self.calls);
        // So that what has been started wakes this task.
        self.answer(cx);
        polled
    }

    fn answer(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = self.awaited.poll_next_unpin(cx) {}
    }

    fn read<S, E>(&mut self, cx: &mut Context<'_>, mut server: Pin<&mut S>) -> Poll<Driven>
    where
        S: Stream<Item = Result<InFlightRequest<IncomingCallerRequest, OutgoingCallerReply>, E>>,
        E: std::error::Error + 'static,
    {
        loop {
            match server.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => match self.requests.start(request, &mut self.calls) {
                    Ok(awaited) => self.awaited.extend(awaited),
                    Err(violation) => return Poll::Ready(Driven::Failed(GoneReason::Violation(violation.into()))),
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Driven::Failed(reason_of(&error))),
                Poll::Ready(None) => return Poll::Ready(Driven::Ended),
                Poll::Pending => return Poll::Pending,
            }
            if self.calls.len() >= MOST_AT_ONCE {
                self.requests.submit(&mut self.calls);
            }
        }
    }
}

/// Why a caller is gone whose connection failed with this error.
fn reason_of(error: &(dyn std::error::Error + 'static)) -> GoneReason {
    let mut source = Some(error);
    while let Some(error) = source {
        // tarpc shares the errors of a transport.
        let shared = error.downcast_ref::<Arc<std::io::Error>>().map(|error| &**error);
        if let Some(error) = shared.or_else(|| error.downcast_ref::<std::io::Error>()) {
            return match error.kind() {
                std::io::ErrorKind::InvalidData => GoneReason::Violation(error.to_string().into()),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => GoneReason::Disconnected,
                _ => GoneReason::Broken(error.to_string().into()),
            };
        }
        source = error.source();
    }
    GoneReason::Broken(error.to_string().into())
}
