//! Simulated nodes without connections, which answer each call at once with its own arguments.
//!
//! They show what the master itself costs for each call, for any number of nodes: it chooses the least loaded node, counts
//! the call, and hands over the call and its answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc::unbounded_channel;

use super::{link::NodeRequest, shared::Shared};
use crate::{
    core::{AttemptEnd, split_registration},
    security::Principal,
    wire::{
        Outcome, Reply,
        handshake::{MethodOffer, Registration},
        transport::SendPermit,
    },
};

/// How many answers the core is told at once, as a connection tells it those that it has read together.
const BATCH: usize = 256;

/// Registers this many nodes and answers for them until the master ends.
pub(super) async fn run(shared: Arc<Shared>, offers: Vec<MethodOffer>, count: usize) {
    // One channel for all nodes, so that nothing here depends on their number.
    let (sender, mut attempts) = unbounded_channel();
    for number in 0..count {
        let registration = Registration {
            name: format!("simulated-{number}"),
            instance: number as u128,
            slots: 1,
            busy: 0,
            async_limit: 1024,
            max_message_size: shared.max_message_size as u64,
            labels: Vec::new(),
            methods: offers.clone(),
            session: None,
        };
        let link = shared.new_link(sender.clone());
        // It sends nothing, and must not count as silent.
        link.state.hear_forever();
        let registration = split_registration(registration, Principal::open());
        shared.with_core("a simulated node joined", |core, now, effects| {
            let node = core.new_node_id();
            core.on_node_joined(now, node, registration, SocketAddr::from(([127, 0, 0, 1], 0)), link, effects);
        });
    }
    drop(sender);
    let mut together = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            taken = attempts.recv_many(&mut together, BATCH) => taken,
            () = shared.closed.cancelled() => return,
        };
        if taken == 0 {
            return;
        }
        shared.with_core("attempts ended", |core, now, effects| {
            for request in together.drain(..) {
                let NodeRequest::Attempt(attempt) = request else { continue };
                let Some(node) = core.node_of(attempt.id) else { continue };
                let attempted = match attempt.call.begin(attempt.attempt) && attempt.call.complete(attempt.attempt) {
                    true => AttemptEnd::Replied(Reply {
                        payload: attempt.call.payload.clone(),
                        ..Reply::without_payload(Outcome::Value, Duration::ZERO)
                    }),
                    false => AttemptEnd::NotSent,
                };
                core.on_attempt_finished(now, node, attempt.id, attempt.attempt, attempted, effects);
            }
        });
    }
}
