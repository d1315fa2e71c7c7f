//! Pulls calls from the input of a [`Distributed`] and sends them in batches.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use futures::Stream;

use super::{
    batch::Batch,
    distributable::{Distributable, Keys, Yields},
    distributed::Distributed,
};
use crate::{
    error::CallError,
    service::{Call, options::SubmitOptions},
};

/// While this many bytes of arguments are in flight, no more calls are pulled, unless a slot is free. While this many
/// bytes of results wait for the consumer or are expected, none are pulled either, unless nothing is in flight.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The most calls that are pulled and refused before the others, and other tasks, get a turn.
const MOST_REFUSED: u32 = 1024;

type CallOf<C> = Call<<C as Distributable>::Value, <C as Distributable>::Error>;
type BatchOf<C> = Batch<<C as Distributable>::Value, <C as Distributable>::Error>;

impl<S: Stream<Item: Distributable>, Y: Yields> Distributed<S, Y> {
    /// How many calls the input has left, if it knows.
    fn left_in_input(&self) -> Option<usize> {
        self.input.as_ref().map_or(Some(0), |input| match input.size_hint() {
            (low, Some(high)) if low == high => Some(low),
            _ => None,
        })
    }

    /// How many calls there are in all, if the input knows.
    pub(super) fn total(&self) -> Option<u64> {
        // A call that was pulled may not have a number yet.
        let pulled = self.state.pulled + u64::from(self.state.next.is_some());
        self.left_in_input().and_then(|left| pulled.checked_add(left as u64))
    }

    /// How many calls are still to be sent, if the input knows.
    fn left_to_send(&self) -> Option<usize> {
        self.left_in_input().map(|left| left.saturating_add(self.state.again_calls))
    }

    /// Sends as many batches as may be in flight now.
    pub(super) fn send(&mut self, cx: &mut Context<'_>) {
        let state = &mut self.state;
        if let Some(last) = &state.last {
            state.sizing.select(&last.method, &last.options.labels, Instant::now(), || last.capacity());
        }
        loop {
            let state = &self.state;
            let (batches, capacity) = (state.in_flight.len(), state.sizing.capacity());
            if batches >= state.sizing.max_batches() && batches > 0 {
                return;
            }
            if state.refusals.must_wait(batches) {
                return;
            }
            let has_free_slot = batches < capacity.slots.max(1) && capacity.free > 0;
            if state.bytes >= MAX_BYTES && !(has_free_slot || batches == 0) {
                return;
            }
            let next = match self.state.again.pop_front() {
                Some((batch, submit_options)) => Some(self.cut_to_size(batch, submit_options)),
                None => self.next_batch(cx).map(|batch| (batch, SubmitOptions::default())),
            };
            let Some((batch, submit_options)) = next else { return };
            self.state.send_batch(batch, submit_options, None);
        }
    }

    /// Splits a batch that is sent again if it is too large by now, and keeps the rest for later.
    fn cut_to_size(
        &mut self,
        mut batch: BatchOf<S::Item>,
        submit_options: SubmitOptions,
    ) -> (BatchOf<S::Item>, SubmitOptions) {
        self.state.again_calls -= batch.count as usize;
        let left = self.left_to_send().unwrap_or(0).saturating_add(batch.count as usize);
        let state = &mut self.state;
        let destination = &batch.destination;
        state
            .sizing
            .select(&destination.method, &destination.options.labels, Instant::now(), || destination.capacity());
        let size = state.sizing.batch_size(Some(left), destination.timeout());
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if batch.count > size {
            let head = batch.split(size);
            state.again_calls += batch.count as usize;
            state.again.push_front((batch, submit_options.clone()));
            batch = head;
        }
        (batch, submit_options)
    }

    /// Makes a batch of new calls, if any may be pulled.
    fn next_batch(&mut self, cx: &mut Context<'_>) -> Option<BatchOf<S::Item>> {
        // A slow consumer is waited for before the replies that are still to come take too much memory. Batches that
        // are sent again do not wait: they were counted when they were sent first.
        let expected = if self.state.in_flight.is_empty() { 0 } else { self.state.sizing.expected_bytes() };
        if self.state.held.saturating_add(expected) >= MAX_BYTES {
            return None;
        }
        if !self.state.unserved.is_empty() {
            self.state.poll_nodes_changed(cx);
        }
        let left = self.left_to_send();
        let sizing = &self.state.sizing;
        // Waits until there is room for a whole batch, unless a slot is idle. Otherwise a full window would be refilled
        // by one call at a time.
        let room = sizing.window().saturating_sub(self.state.pending);
        let wanted = sizing.batch_size(left, None).min(sizing.window().div_ceil(4));
        let all_busy = self.state.in_flight.len() >= sizing.capacity().slots.max(1);
        if room < wanted && self.state.next.is_none() && all_busy {
            return None;
        }
        let mut batch: Option<BatchOf<S::Item>> = None;
        let mut size = 0;
        let mut refused = 0;
        while self.state.next.is_some() || self.state.pending < self.state.sizing.window() {
            if refused >= MOST_REFUSED {
                // Nothing else may wake this task to pull the next ones.
                cx.waker().wake_by_ref();
                break;
            }
            let Some(call) = self.pull(cx) else { break };
            let state = &mut self.state;
            if let Some(error) = state.cannot_be_sent(&call) {
                if batch.is_some() {
                    // The calls of a batch follow each other, so this one has to wait.
                    state.next = Some(call);
                    break;
                }
                state.keep(state.pulled, Err(error.widen()), 0);
                state.pulled += 1;
                refused += 1;
                continue;
            }
            if batch.is_none() && !state.knows_nodes_for(&call) {
                state.next = Some(call);
                break;
            }
            match &mut batch {
                None => match Batch::new(call, state.pulled) {
                    Ok(new) => {
                        size = state.sizing.batch_size(left, new.destination.timeout());
                        batch = Some(new);
                        state.pulled += 1;
                    }
                    Err(error) => {
                        state.keep(state.pulled, Err(error.widen()), 0);
                        state.pulled += 1;
                        refused += 1;
                        continue;
                    }
                },
                Some(batch) => match batch.add(call) {
                    None => state.pulled += 1,
                    Some(call) => {
                        state.next = Some(call);
                        break;
                    }
                },
            }
            if batch.as_ref().is_some_and(|batch| batch.count as usize >= size) {
                break;
            }
        }
        let batch = batch?;
        self.state.last = Some(batch.destination.clone());
        Some(batch)
    }

    /// The next call of the input.
    fn pull(&mut self, cx: &mut Context<'_>) -> Option<CallOf<S::Item>> {
        if let Some(call) = self.state.next.take() {
            return Some(call);
        }
        match self.input.as_mut()?.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => {
                let (key, call) = item.into_parts();
                self.state.pending += 1;
                // The number that the call will have: no other call waits for one.
                self.state.keys.insert(self.state.pulled, key);
                Some(call)
            }
            Poll::Ready(None) => {
                self.input = None;
                None
            }
            Poll::Pending => None,
        }
    }
}

impl<C: Distributable, Y: Yields> super::run_state::RunState<C, Y> {
    /// Whether it is known how many of this call and its like can run at once. If not, this task is woken when it is.
    fn knows_nodes_for(&mut self, call: &CallOf<C>) -> bool {
        // Before the look, so that no change is missed.
        self.node_watches.watch(&call.dispatcher);
        let capacity = || call.dispatcher.capacity(&call.method, &call.options);
        self.sizing.select(&call.method, &call.options.labels, Instant::now(), capacity);
        let is_known = self.sizing.capacity().is_known;
        if !is_known {
            self.sizing.forget_nodes();
        }
        is_known
    }

    /// Why a call is not sent at all: it may not be hedged, or no node serves its method.
    fn cannot_be_sent(&self, call: &CallOf<C>) -> Option<CallError> {
        // An error that the call already carries says more.
        if call.payload.is_err() {
            return None;
        }
        if self.hedge && !call.method.is_idempotent() {
            return Some(CallError::NotIdempotent { call: call.method.name().into(), option: "hedge".into() });
        }
        self.unserved.find(&call.dispatcher, &call.method, &call.options).map(|error| error.clone().with_id(None))
    }
}
