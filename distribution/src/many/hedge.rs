//! Hedging: late calls are sent to a second node as well, and the first answer counts.

use std::{future::Future as _, sync::Arc, task::Context, time::Duration};

use tokio::time::Instant;

use super::{
    distributable::{Distributable, Yields},
    in_flight::{Hedge, InFlight},
    run_state::RunState,
};
use crate::service::options::SubmitOptions;

/// A call is late when it has taken this many times the mean, and at least [`HEDGE_AFTER`]. By then the node has given
/// back the rest of its batch (see `node/batch.rs`), so that only this call is sent again.
const HEDGE_FACTOR: u32 = 3;
const HEDGE_AFTER: Duration = Duration::from_millis(250);

impl<C: Distributable, Y: Yields> RunState<C, Y> {
    /// Cancels the other attempts of a hedge that is over.
    pub(super) fn cancel_hedge(&mut self, hedge: &Arc<Hedge>) {
        for batch in self.in_flight.iter_mut().filter_map(InFlight::batch_mut).filter(|batch| batch.is_in(hedge)) {
            self.bytes -= batch.state.payload.len();
            let labels = &batch.destination.options.labels;
            self.sizing.note_ended(&batch.destination.method, labels, batch.counted as usize);
            batch.state.wake();
        }
    }

    /// Sends late calls to a second node. Returns whether there are calls that may become late.
    fn hedge_late_calls(&mut self) -> bool {
        let mut late = Vec::new();
        let mut watching = false;
        let now = Instant::now();
        for batch in self.in_flight.iter_mut().filter_map(InFlight::batch_mut) {
            let destination = &batch.destination;
            let options = &destination.options;
            let may_go_elsewhere = options.node.is_none() && options.affinity.is_none();
            if batch.hedge.is_some() || !destination.method.is_idempotent() || !may_go_elsewhere {
                continue;
            }
            watching = true;
            self.sizing.select(&destination.method, &options.labels, now.into_std(), || destination.capacity());
            let free = self.sizing.capacity().free;
            let Some(expected) = self.sizing.expected_run(batch.count as usize) else { continue };
            let taken = now.saturating_duration_since(batch.started);
            if late.len() < free && taken > (expected * HEDGE_FACTOR).max(HEDGE_AFTER) {
                let hedge = Hedge::new(2);
                batch.hedge = Some(Arc::clone(&hedge));
                let submit_options = SubmitOptions { hedge_of: batch.state.id(), ..SubmitOptions::default() };
                let mut copy = batch.copy();
                let options = &mut copy.destination.options;
                options.timeout = options.timeout.map(|timeout| timeout.saturating_sub(taken));
                late.push((copy, submit_options, hedge));
            }
        }
        for (copy, submit_options, hedge) in late {
            self.send_batch(copy, submit_options, Some(hedge));
        }
        watching
    }

    /// Hedges late calls, and wakes this task when it is time to look again.
    pub(super) fn watch_late_calls(&mut self, cx: &mut Context<'_>) {
        loop {
            if !self.hedge_late_calls() {
                self.hedge_timer = None;
                return;
            }
            let timer = self.hedge_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEDGE_AFTER / 5)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.hedge_timer = None;
        }
    }
}
