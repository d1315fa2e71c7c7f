//! Hedging: late calls are sent to a second node as well, and the first answer counts.

use std::{future::Future as _, sync::Arc, task::Context, time::Duration};

use tokio::time::Instant;

use super::{
    distributable::{Distributable, Yields},
    in_flight::{Hedge, InFlight},
    run_state::RunState,
};
use crate::service::options::{Hedged, SubmitOptions};

/// A call is late when it has taken this many times the mean, and at least [`HEDGE_AFTER`]. By then the node has given
/// back the rest of its batch (see `node/batch.rs`), so that only this call is sent again.
const HEDGE_FACTOR: u32 = 3;
const HEDGE_AFTER: Duration = Duration::from_millis(250);

/// How long after one look for late calls the next one is, at least. The free slots are not known any better.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A look goes through all calls in flight, so the next one is after this many times as long as it took.
const LOOK_SHARE: u32 = 20;

impl<C: Distributable, Y: Yields> RunState<C, Y> {
    /// Sends late calls to a second node.
    fn hedge_late_calls(&mut self, now: Instant) {
        let mut late = Vec::new();
        for batch in self.in_flight.iter_mut().filter_map(InFlight::batch_mut) {
            let destination = &batch.destination;
            let options = &destination.options;
            let may_go_elsewhere = options.node.is_none() && options.affinity.is_none();
            let taken = now.saturating_duration_since(batch.started);
            let may_be_late = taken > HEDGE_AFTER && destination.method.is_idempotent() && may_go_elsewhere;
            if batch.hedge.is_some() || !may_be_late {
                continue;
            }
            self.sizing.select(&destination.method, &options.labels, now.into_std(), || destination.capacity());
            let free = self.sizing.capacity().free;
            let Some(expected) = self.sizing.expected_run(batch.count as usize) else { continue };
            if late.len() < free && taken > expected * HEDGE_FACTOR {
                let hedge = Hedge::of(&batch.state);
                batch.hedge = Some(Arc::clone(&hedge));
                let hedge_of = batch.state.id().map(|id| Hedged { id, elapsed: taken });
                late.push((batch.copy(), SubmitOptions { hedge_of, ..SubmitOptions::default() }, hedge));
            }
        }
        for (copy, submit_options, hedge) in late {
            self.send_batch(copy, submit_options, Some(hedge));
        }
    }

    /// Hedges late calls if it is time to look for them, and wakes this task when it is time again. Not at each poll: with
    /// many calls in flight, each of which wakes this task as it ends, that would be a look at all of them for each of them.
    pub(super) fn watch_late_calls(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.hedge_timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_pending()) {
                return;
            }
            let began = Instant::now();
            self.hedge_late_calls(began);
            let wait = LOOK_AGAIN.max(began.elapsed() * LOOK_SHARE);
            self.hedge_timer = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}
