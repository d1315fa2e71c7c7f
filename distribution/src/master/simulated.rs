//! Links without a wire: nodes that answer each call at once with its own arguments.
//!
//! What is left is what the master itself does for a call, whatever the number of nodes: it finds the
//! least loaded one, keeps its books, and hands the call and its answer over.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc::unbounded_channel;

use super::{dispatch::Shared, link::Link};
use crate::{
    core::{AttemptEnd, split_registration},
    security::Principal,
    wire::{
        Outcome, Reply,
        hello::{MethodOffer, Registration},
        unfinished::SendPermit,
    },
};

/// How many answers are brought to the core at once, as a link does with those it has read together.
const TOGETHER: usize = 256;

/// Registers so many nodes and plays them until the master ends.
pub(super) async fn run(shared: Arc<Shared>, offers: Vec<MethodOffer>, count: usize) {
    // One for all, so that nothing here depends on their number.
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
        };
        let link = Link::new(&shared, sender.clone());
        // Nothing comes from it, and it never falls silent.
        link.side.hear_forever();
        let registration = split_registration(registration, Principal::open());
        shared.with_core("a simulated node joined", |core, now, effects| {
            let node = core.new_node_id();
            core.on_node_joined(now, node, registration, SocketAddr::from(([127, 0, 0, 1], 0)), link, effects);
        });
    }
    drop(sender);
    let mut together = Vec::with_capacity(TOGETHER);
    loop {
        let taken = tokio::select! {
            taken = attempts.recv_many(&mut together, TOGETHER) => taken,
            () = shared.closed.cancelled() => return,
        };
        if taken == 0 {
            return;
        }
        shared.with_core("attempts ended", |core, now, effects| {
            for attempt in together.drain(..) {
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
