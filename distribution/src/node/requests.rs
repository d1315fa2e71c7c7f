//! Starts the call of each request that a connection brings.

use std::{sync::Arc, time::Instant};

use super::{
    active_calls::{ActiveCalls, AskOutcome, Phase},
    answer::{NodeRequest, answer},
    batch::{self, Batches, GIVE_BACK_AFTER},
    compute::JobAction,
    current::{CurrentCall, Nesting},
    current_connection::CurrentConnection,
    handler_streams::HandlerStreams,
    runner::AsyncCall,
    state::NodeShared,
};
use crate::{
    config::ValueLimits,
    id::CallId,
    service::{
        metadata,
        router::{Arguments, ComputeHandler, Handler},
        spans::HandlerSpan,
    },
    wire::{Control, Outcome, Refusal, Reply, codec::Encoder, handshake::StreamShape},
};

/// Compute calls that may wait for a slot, besides one for each slot. A master sends fewer ahead.
const MAX_WAITING: u32 = 1024;

/// What the requests of a connection need.
pub(super) struct Requests<'a> {
    pub(super) node: &'a NodeShared,
    pub(super) active: Arc<ActiveCalls>,
    pub(super) batches: Arc<Batches>,
    pub(super) nesting: Arc<dyn Nesting>,
    pub(super) connection: Arc<CurrentConnection>,
    /// The limits of a reply; arguments may be nested as deeply.
    pub(super) reply_limits: ValueLimits,
}

impl Requests<'_> {
    pub(super) fn run(&self, request: NodeRequest) {
        let limits = self.reply_limits;
        let message = &request.get().message;
        if message.count == 0 {
            return self.ask_again(request);
        }
        let (count, granted, payload) = (message.count, message.granted, message.take_payload());
        let (id, nesting) = (CallId(message.call), Some(Arc::clone(&self.nesting)));
        // A correct master has checked it.
        let Ok(metadata) = metadata::from_wire(&message.metadata) else {
            let reason = "the metadata of the call breaks its limits".to_owned();
            tokio::spawn(answer(request, Reply::refused(Refusal::Decode(reason))));
            return;
        };
        let timeout = message.timeout.map(|left| left.saturating_sub(message.took));
        let route = self.node.router.route(message.method);
        let method = route.map(|route| Arc::clone(&route.method));
        let call = CurrentCall::new(id, message.attempt, timeout, metadata, method, nesting);
        let shape = route.map(|route| route.method.streams()).unwrap_or_default();
        if shape != StreamShape::default() && count > 1 {
            let reason = "calls with streams do not travel in batches".to_owned();
            tokio::spawn(answer(request, Reply::refused(Refusal::Decode(reason))));
            return;
        }
        let (key, trace) = ((id, message.attempt, count), message.trace.as_deref().copied());
        let span =
            route.and_then(|route| HandlerSpan::of(route.method.name(), key, &self.node.registration.name, trace));
        match route.map(|route| (route.method.name(), route.handler.clone())) {
            None => {
                tokio::spawn(answer(request, Reply::refused(Refusal::UnknownMethod)));
            }
            Some((_, Handler::Compute(handler))) => {
                let guard = match self.active.waiting() < max_waiting(self.node.registration.slots) {
                    true => self.active.enter(call.clone(), Phase::Waiting),
                    false => None,
                };
                let Some(mut guard) = guard else { return refuse(request) };
                let (node_runtime, connection) = (tokio::runtime::Handle::current(), Arc::clone(&self.connection));
                let batches = Arc::clone(&self.batches);
                let streams = HandlerStreams::open(shape, &call, &self.connection);
                self.node.compute_pool.run(move |action| {
                    let reply = match action {
                        JobAction::GiveBack => Reply::refused(Refusal::Returned),
                        JobAction::Run if call.is_cancelled() => Reply::refused(Refusal::Stopped),
                        // Nothing of the call has been run.
                        JobAction::Run if streams.as_ref().is_some_and(HandlerStreams::are_broken) => {
                            Reply::refused(Refusal::Returned)
                        }
                        JobAction::Run => {
                            guard.set_phase(Phase::Computing);
                            if let Some(streams) = &streams {
                                streams.end_with(&call, &node_runtime);
                            }
                            HandlerSpan::run(span, || match count {
                                0 | 1 => {
                                    let of_call = streams.as_ref().map(HandlerStreams::streams).unwrap_or_default();
                                    compute(&call, &handler, Arguments::Whole(payload, of_call), limits)
                                }
                                count => {
                                    let batch = batches.enter(call.key(), count, granted, &connection);
                                    let late = node_runtime.spawn(give_back_late(batches, connection, call.key()));
                                    let reply = batch::run(&call, &batch, &handler, &payload, limits);
                                    late.abort();
                                    reply
                                }
                            })
                        }
                    };
                    drop(streams);
                    (guard.end(request, &reply), reply)
                });
            }
            Some((_, Handler::Async(..))) if count > 1 => {
                let reason = "async calls do not travel in batches".to_owned();
                tokio::spawn(answer(request, Reply::refused(Refusal::Decode(reason))));
            }
            Some((method, Handler::Async(handler, first_poll))) => {
                let guard = match self.active.asynchronous() < self.node.registration.async_limit {
                    true => self.active.enter(call.clone(), Phase::Asynchronous),
                    false => None,
                };
                let Some(guard) = guard else { return refuse(request) };
                let streams = HandlerStreams::open(shape, &call, &self.connection);
                let of_call = streams.as_ref().map(HandlerStreams::streams).unwrap_or_default();
                let handler = HandlerSpan::wrap(span, handler(payload, of_call, limits));
                self.node.runner.push(AsyncCall {
                    request,
                    call,
                    guard,
                    handler,
                    streams,
                    method: method.clone(),
                    first_poll,
                });
            }
        }
    }
}

impl Requests<'_> {
    /// Answers a request that asks again for the reply to an attempt, now or once its handler has returned.
    fn ask_again(&self, request: NodeRequest) {
        let (call, attempt) = request.get().message.key();
        // The frames that said so may have been lost with the earlier connection.
        let tell = |is_lent| match is_lent {
            true => self.connection.send(Control::Lend { call, attempt }),
            false => self.connection.send(Control::Resume { call, attempt }),
        };
        match self.active.ask_again(request, tell) {
            AskOutcome::Answer(completed) => {
                let (request, reply) = *completed;
                tokio::spawn(answer(request, reply));
            }
            AskOutcome::Runs => {
                if let Some(kept) = self.batches.kept((call, attempt)) {
                    self.connection.send(Control::GiveBack { call, attempt, kept });
                }
            }
        }
    }
}

/// Gives back the calls that a batch has not started in time.
async fn give_back_late(batches: Arc<Batches>, connection: Arc<CurrentConnection>, (call, attempt): (u64, u32)) {
    loop {
        tokio::time::sleep(GIVE_BACK_AFTER).await;
        // There is nothing to give back before the first call is started, or after the last one is.
        if let Some(kept) = batches.cut((call, attempt)) {
            connection.send(Control::GiveBack { call, attempt, kept });
            return;
        }
    }
}

/// Runs one compute call.
fn compute(call: &CurrentCall, handler: &ComputeHandler, arguments: Arguments<'_>, limits: ValueLimits) -> Reply {
    let started = Instant::now();
    let mut value = Encoder::new(limits);
    let outcome = call.compute(|| handler(arguments, &mut value));
    call.log_panic(&outcome);
    // A handler that sees that its deadline has passed returns any value, and on the master's clock it may not have passed.
    match call.is_late() {
        true => Reply::without_payload(Outcome::Stopped, started.elapsed()),
        false => Reply::new(outcome, started.elapsed(), value),
    }
}

/// How many compute calls may wait here: all that a master sends at once, before the first has a slot.
fn max_waiting(slots: u32) -> u32 {
    slots.saturating_add(MAX_WAITING)
}

/// Refuses a call that a master would not have sent if it counted its calls right.
fn refuse(request: NodeRequest) {
    tokio::spawn(answer(request, Reply::refused(Refusal::Busy)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_that_a_master_sends_ahead_find_room_with_any_number_of_slots() {
        // One for each slot, and 512 more.
        for slots in [1, 2, 512, 513, 1000, 65_536] {
            assert!(max_waiting(slots) >= slots + 512);
        }
    }
}
