//! One connection to the master: takes requests, has them run, sends heartbeats, and leaves in order.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::SinkExt;
use tarpc::server::{self, BaseChannel, Channel, InFlightRequest};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    Setup, Wish,
    batch::{self, Batches, GIVE_BACK_AFTER},
    compute::Turn,
    current::CurrentCall,
    register::Registered,
    runner::Job,
    running::{Phase, Running},
};
use crate::{
    config::{PeerTimeouts, ValueLimits},
    id::CallId,
    service::router::{Arguments, ComputeHandler, Handler},
    wire::{
        Control, Outcome, Refusal, Reply,
        again::Again,
        channel,
        codec::Encoder,
        frame::BODY_HEADER_LIMIT,
        side::Side,
        transport::{Incoming, NodeTransport},
    },
};

/// Replies that handlers may leave for the connection before they wait for it.
const REPLY_BUFFER: usize = 1024;

/// Compute calls that may wait here although each slot has one; a master sends fewer ahead.
const AHEAD_MOST: u32 = 1024;

/// How long the last frames may take to go out before the connection is simply closed.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// How long a master may read nothing. One that has no room for a large reply reads on when it has; that it lives is
/// known from its heartbeats.
const WRITE_TIMEOUT: Duration = Duration::from_secs(600);

/// How a connection ended.
pub(super) enum End {
    /// As the owner wished.
    Left,
    /// For this reason; another may do better.
    Lost(String),
}

type Requests = server::Requests<BaseChannel<Incoming, Reply, NodeTransport<channel::Channel>>>;

pub(super) async fn serve(setup: &Setup, registered: Registered, wishes: &mut watch::Receiver<Wish>) -> End {
    let Registered { channel, heartbeat, silence, reply_limit, .. } = registered;
    let side = Side::new(peer_timeouts(silence), None);
    let running = Running::new(Arc::clone(&setup.stale));
    let batches = Arc::new(Batches::default());
    let _end_of_calls = EndOfCalls { running: Arc::clone(&running), batches: Arc::clone(&batches) };
    let drained = Arc::new(Notify::new());
    let dismissed = Arc::new(AtomicBool::new(false));
    let on_control = {
        let (running, drained, dismissed) = (Arc::clone(&running), Arc::clone(&drained), Arc::clone(&dismissed));
        let (pool, batches) = (Arc::clone(&setup.pool), Arc::clone(&batches));
        Box::new(move |control| {
            match control {
                Control::Cancel { call, attempt } => {
                    running.cancel(call, attempt);
                    batches.close(call, attempt);
                }
                Control::Granted { call, attempt, upto } => batches.grant(call, attempt, upto),
                Control::HeartbeatSeen => {}
                Control::Retract => pool.give_back(),
                Control::Drained => drained.notify_one(),
                Control::Goodbye => dismissed.store(true, Ordering::Release),
                Control::Heartbeat(_) | Control::Drain | Control::GaveBack { .. } | Control::Wants { .. } => {
                    return Err("a master sent a node's control frame".to_owned());
                }
            }
            Ok(())
        })
    };
    let transport = NodeTransport::new(channel, Arc::clone(&side), setup.max_message_size, on_control);
    let config = server::Config { pending_response_buffer: REPLY_BUFFER };
    let mut requests = pin!(BaseChannel::new(config, transport).requests());
    let connection = Connection {
        setup,
        running: Arc::clone(&running),
        batches: Arc::clone(&batches),
        side: Arc::clone(&side),
        reply_limits: ValueLimits { bytes: reply_limit.saturating_sub(BODY_HEADER_LIMIT), depth: setup.max_depth },
    };

    let mut beats = interval(heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let again = Again::new();
    let mut leave_at: Option<Instant> = None;
    loop {
        tokio::select! {
            request = again.next(requests.as_mut(), || running.is_alone()) => match request {
                Some(Ok(request)) => connection.run(request),
                Some(Err(error)) => break End::Lost(chain(&error)),
                None if dismissed.load(Ordering::Acquire) => break End::Lost("the master said goodbye".to_owned()),
                None => break End::Lost("the master closed the connection".to_owned()),
            },
            _ = beats.tick() => {
                let silent = side.heard().elapsed();
                if let Some(violation) = side.violation(side.opened()) {
                    break End::Lost(format!("the master broke the protocol: {violation}"));
                }
                if silent > silence {
                    break End::Lost(format!("the master was silent for {:.1} s", silent.as_secs_f64()));
                }
                side.send(Control::Heartbeat(running.load(setup.blocked.load(Ordering::Relaxed))));
            }
            wish = wished(wishes, leave_at.is_some()) => match wish {
                Wish::Leave => break farewell(&mut requests, &side).await,
                _ => {
                    leave_at = Some(Instant::now() + setup.drain_timeout);
                    side.send(Control::Drain);
                }
            },
            () = setup.users.ended(), if leave_at.is_none() => {
                tracing::error!(
                    node = setup.registration.name,
                    "the runtime that the async handlers run on has ended; leaving once the other calls have"
                );
                leave_at = Some(Instant::now() + setup.drain_timeout);
                side.send(Control::Drain);
            }
            () = side.ended() => break End::Lost(match dismissed.load(Ordering::Acquire) {
                true => "the master said goodbye".to_owned(),
                false => "the master closed the connection".to_owned(),
            }),
            () = drained.notified(), if leave_at.is_some() => break farewell(&mut requests, &side).await,
            () = sleep_until(leave_at.unwrap_or_else(Instant::now)), if leave_at.is_some() => {
                let left = running.load(0);
                tracing::warn!(
                    node = setup.registration.name,
                    calls = left.computing + left.waiting + left.asynchronous,
                    "the drain limit of {:?} has passed; leaving with calls unanswered",
                    setup.drain_timeout
                );
                break farewell(&mut requests, &side).await;
            }
        }
    }
}

/// Tells all calls of a connection that nobody waits for them any more, however it ends.
struct EndOfCalls {
    running: Arc<Running>,
    batches: Arc<Batches>,
}

impl Drop for EndOfCalls {
    fn drop(&mut self) {
        self.running.end();
        // After the calls were told: a batch that begins meanwhile sees one or the other.
        self.batches.close_all();
    }
}

/// A master that is stalled neither reads nor ends a frame, and is borne with for as long as its silence is.
fn peer_timeouts(silence: Duration) -> PeerTimeouts {
    let PeerTimeouts { read_timeout, .. } = PeerTimeouts::default();
    PeerTimeouts { read_timeout: read_timeout.max(silence), write_timeout: WRITE_TIMEOUT.max(silence) }
}

/// The owner's next wish: to drain (unless that is under way), or to leave.
async fn wished(wishes: &mut watch::Receiver<Wish>, draining: bool) -> Wish {
    let wish = wishes.wait_for(|wish| *wish == Wish::Leave || *wish == Wish::Drain && !draining).await;
    wish.map_or(Wish::Leave, |wish| *wish)
}

async fn farewell(requests: &mut std::pin::Pin<&mut Requests>, side: &Side) -> End {
    side.send(Control::Goodbye);
    // A master that does not read any more will notice the closed connection instead.
    let _ = timeout(FAREWELL_TIME, requests.channel_pin_mut().close()).await;
    End::Left
}

/// An error with its sources, for a log line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What each request of a connection needs.
struct Connection<'a> {
    setup: &'a Setup,
    running: Arc<Running>,
    batches: Arc<Batches>,
    side: Arc<Side>,
    /// What a reply may have; arguments may be nested as deeply.
    reply_limits: ValueLimits,
}

impl Connection<'_> {
    fn run(&self, request: InFlightRequest<Incoming, Reply>) {
        let limits = self.reply_limits;
        let message = &request.get().message;
        let (count, granted, payload) = (message.count, message.granted, message.take_payload());
        let call = CurrentCall::new(CallId(message.call), message.attempt, message.timeout);
        let route = self.setup.router.route(message.method);
        match route.map(|route| (route.method.name(), route.handler.clone())) {
            None => {
                tokio::spawn(answer(request, Reply::refused(Refusal::UnknownMethod)));
            }
            Some((_, Handler::Compute(handler))) => {
                let guard = match self.running.waiting() < waiting_most(self.setup.registration.slots) {
                    true => self.running.enter(call.clone(), Phase::Waiting),
                    false => None,
                };
                let Some(mut guard) = guard else { return refuse(request) };
                let (link, side) = (tokio::runtime::Handle::current(), Arc::clone(&self.side));
                let batches = Arc::clone(&self.batches);
                self.setup.pool.run(move |turn| {
                    let reply = match turn {
                        Turn::GiveBack => Reply::refused(Refusal::Returned),
                        Turn::Run if call.is_cancelled() => Reply::refused(Refusal::Stopped),
                        Turn::Run => {
                            guard.set_phase(Phase::Computing);
                            match count {
                                0 | 1 => compute(&call, &handler, payload, limits),
                                count => {
                                    let batch = batches.enter(call.key(), count, granted, &side);
                                    let late = link.spawn(give_back_late(batches, side, call.key()));
                                    let reply = batch::run(&call, &batch, &handler, &payload, limits);
                                    late.abort();
                                    reply
                                }
                            }
                        }
                    };
                    drop(guard);
                    (request, reply)
                });
            }
            Some((_, Handler::Async(..))) if count > 1 => {
                let reason = "async calls do not travel in batches".to_owned();
                tokio::spawn(answer(request, Reply::refused(Refusal::Decode(reason))));
            }
            Some((method, Handler::Async(handler, pace))) => {
                let guard = match self.running.asynchronous() < self.setup.registration.async_limit {
                    true => self.running.enter(call.clone(), Phase::Asynchronous),
                    false => None,
                };
                let Some(guard) = guard else { return refuse(request) };
                let handler = handler(payload, limits);
                self.setup.runner.push(Job { request, call, guard, handler, method, pace });
            }
        }
    }
}

/// Gives the end of a batch back that is not done in time.
async fn give_back_late(batches: Arc<Batches>, side: Arc<Side>, (call, attempt): (u64, u32)) {
    loop {
        tokio::time::sleep(GIVE_BACK_AFTER).await;
        // There is nothing to give back while nothing is started, or once all is.
        if let Some(kept) = batches.cut((call, attempt)) {
            side.send(Control::GaveBack { call, attempt, kept });
            return;
        }
    }
}

/// Runs one compute call.
fn compute(call: &CurrentCall, handler: &ComputeHandler, arguments: Bytes, limits: ValueLimits) -> Reply {
    let started = std::time::Instant::now();
    let mut value = Encoder::new(limits);
    let outcome = call.compute(|| handler(Arguments::Whole(arguments), &mut value));
    // A handler that sees that its time is over returns anything at all, and the master's clock may not have got there.
    match call.is_late() {
        true => Reply::without_payload(Outcome::Stopped, started.elapsed()),
        false => Reply::new(outcome, started.elapsed(), value),
    }
}

/// How many compute calls may wait here: before the first has been given to a slot, all that a master sends at once.
fn waiting_most(slots: u32) -> u32 {
    slots.saturating_add(AHEAD_MOST)
}

/// Turns away what a master that keeps its books would not have sent.
fn refuse(request: InFlightRequest<Incoming, Reply>) {
    tokio::spawn(answer(request, Reply::refused(Refusal::Busy)));
}

pub(super) async fn answer(request: InFlightRequest<Incoming, Reply>, reply: Reply) {
    request.execute(server::serve(|_, _| std::future::ready(Ok(reply)))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_is_silent_for_as_long_as_it_may_be_is_borne_with() {
        for seconds in [1, 15, 3600] {
            let silence = Duration::from_secs(seconds);
            let PeerTimeouts { read_timeout, write_timeout } = peer_timeouts(silence);
            assert!(read_timeout >= silence && write_timeout >= silence);
        }
    }

    #[test]
    fn what_a_master_sends_ahead_has_its_place_with_any_number_of_slots() {
        // One for each slot, and 512 more.
        for slots in [1, 2, 512, 513, 1000, 65_536] {
            assert!(waiting_most(slots) >= slots + 512);
        }
    }
}
