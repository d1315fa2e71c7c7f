//! What happens when a batch has finished: its results are kept, and calls that did not run are sent again or fail.

use std::sync::Arc;

use super::{
    batch::Destination,
    distributable::{Distributable, ReplyInfo, Yields},
    in_flight::{Finished, InFlight, InFlightBatch},
    run_state::RunState,
    unserved::is_unserved,
};
use crate::{
    error::{CallError, CodecError, LimitOf, Part},
    failed_attempt::{Cause, FailedAttempt},
    id::NodeIdentity,
    service::{
        options::SubmitOptions,
        outcome, spans,
        state::{CallFailure, RawAnswer},
    },
    text::{LONGEST, in_lines},
    wire::{Outcome, batch::Outcomes, codec::Decoder},
};

type BatchOf<C> = InFlightBatch<<C as Distributable>::Value, <C as Distributable>::Error>;
type FinishedOf<C> = Finished<<C as Distributable>::Value, <C as Distributable>::Error>;

impl<C: Distributable, Y: Yields> RunState<C, Y> {
    pub(super) fn on_finished(&mut self, finished: FinishedOf<C>) {
        match finished {
            Finished::Taken => {}
            Finished::Superseded(batch) => {
                batch.destination.dispatcher.cancel(&batch.state);
                batch.state.on_abandoned();
                self.release(&batch);
            }
            Finished::Shortened(batch, kept) => self.on_shortened(batch, kept),
            Finished::Ended(batch, ended) => {
                self.release(&batch);
                let ended = match &batch.hedge {
                    Some(hedge) => hedge.end(ended),
                    None => Some(ended),
                };
                if let Some(ended) = ended {
                    self.on_ended(&batch, ended);
                }
            }
        }
    }

    /// The node has given back all calls but the first `kept`.
    fn on_shortened(&mut self, mut batch: BatchOf<C>, kept: u32) {
        self.send_again(&batch, kept, batch.count);
        batch.count = kept;
        let given_back = batch.counted - kept;
        batch.counted = kept;
        self.sizing.note_ended(&batch.destination.method, &batch.destination.options.labels, given_back as usize);
        // Another node may have the same batch. The calls that are sent again are not expected of it any more.
        if let Some(hedge) = &batch.hedge {
            hedge.shorten(kept);
        }
        self.in_flight.push(InFlight::resume(batch));
    }

    fn on_ended(&mut self, batch: &BatchOf<C>, ended: Result<RawAnswer, CallFailure>) {
        if ended.is_ok() {
            self.refusals.on_answered();
        }
        match ended {
            Ok(answer) if batch.state.submit_options.count == 1 => self.on_answer(batch, &answer),
            Ok(answer) => self.on_batch_answer(batch, &answer),
            Err(failed) => self.on_failure(batch, failed),
        }
    }

    /// The answer to a batch of one call.
    fn on_answer(&mut self, batch: &BatchOf<C>, answer: &RawAnswer) {
        let labels = &batch.destination.options.labels;
        self.sizing.note_run(&batch.destination.method, labels, 1, answer.run);
        self.sizing.note_reply(&batch.destination.method, labels, 1, answer.payload.len());
        self.note_node(&answer.node, 1);
        let max_depth = batch.destination.dispatcher.argument_limits().depth;
        let result = decode::<C, Y>(batch, 0, answer, answer.is_error, Decoder::new(&answer.payload, max_depth));
        self.keep(batch.first, result, answer.payload.len());
    }

    /// The answer to a batch of several calls. Calls that it has no result for were not started.
    fn on_batch_answer(&mut self, batch: &BatchOf<C>, answer: &RawAnswer) {
        let (labels, count) = (&batch.destination.options.labels, answer.count as usize);
        self.sizing.note_run(&batch.destination.method, labels, count, answer.run);
        self.sizing.note_reply(&batch.destination.method, labels, count, answer.payload.len());
        let mut next = 0;
        let max_depth = batch.destination.dispatcher.argument_limits().depth;
        // Without the calls that the node gave back before: those were sent again.
        for item in Outcomes::new(&answer.payload, max_depth).take(batch.count as usize) {
            let size = item.as_ref().map_or(0, |(_, value)| value.rest().len());
            if let Some(panicked) = panic_to_retry(batch, answer, &item) {
                self.send_one_again(batch, next, panicked);
                next += 1;
                continue;
            }
            let result = result::<C, Y>(batch, next, answer, item);
            self.keep(batch.first + u64::from(next), result, size);
            next += 1;
        }
        if next == 0 {
            // A correct node never ends a batch like this. Sent again, the batch could go round for ever.
            let source = CodecError::new("the reply to a batch holds no result");
            let call = batch.state.identity();
            self.fail_calls(batch, batch.count, &CallError::Decode { call, part: Part::Reply, source });
            return;
        }
        self.note_node(&answer.node, next.into());
        if next < batch.count {
            self.send_again(batch, next, batch.count);
        }
    }

    fn on_failure(&mut self, batch: &BatchOf<C>, failed: CallFailure) {
        let CallFailure { error, failed_attempts, was_tried } = failed;
        let many = batch.state.submit_options.count > 1;
        let method = &batch.destination.method;
        match &error {
            CallError::NodeLost { .. } if many => {
                let kept = batch.state.kept().unwrap_or(batch.count).min(batch.count);
                // The calls that the node had given back did not run.
                if kept < batch.count {
                    self.send_again(batch, kept, batch.count);
                }
                if method.is_idempotent() && batch.destination.options.node.is_none() {
                    self.send_one_by_one(batch, kept, &failed_attempts);
                } else {
                    self.fail_calls(batch, kept, &error);
                }
            }
            CallError::Cancelled { .. } if many => {
                // The node may have given calls back of which the batch has not been told yet. They did not run.
                let kept = batch.state.kept().unwrap_or(batch.count).min(batch.count);
                if kept < batch.count {
                    self.send_again(batch, kept, batch.count);
                }
                self.fail_calls(batch, kept, &error);
            }
            // Nothing was started. Arguments that are too large together may be small enough one by one; and a node
            // whose method is async takes no batches.
            CallError::TooLarge { part: Part::Arguments, .. } | CallError::Decode { part: Part::Arguments, .. }
                if many =>
            {
                self.send_one_by_one(batch, batch.count, &[]);
            }
            // The limits of the session or the credential may be used up by what is in flight, here or elsewhere. The stream can
            // wait for its own batches only.
            CallError::Overloaded { limit_of: LimitOf::Session | LimitOf::Credential, .. }
                if many || !self.in_flight.is_empty() =>
            {
                let others = self.in_flight.len();
                self.refusals.on_refused(others);
                match others {
                    0 => {
                        let half = batch.count / 2;
                        self.send_again(batch, 0, half);
                        self.send_again(batch, half, batch.count);
                    }
                    _ => {
                        let submit_options = SubmitOptions { hedge_of: None, ..batch.state.submit_options.clone() };
                        self.again_calls += batch.count as usize;
                        self.again.push_back((batch.copy(), submit_options));
                    }
                }
            }
            error => {
                if let CallError::Panicked { node, .. } = error {
                    self.note_node(node, 1);
                }
                self.fail_calls(batch, batch.count, error);
                if is_unserved(error, &batch.destination.options, was_tried) {
                    self.fail_unserved(batch, error);
                }
            }
        }
    }

    /// No node serves this method: fails the other calls to it that wait for a node.
    fn fail_unserved(&mut self, first: &BatchOf<C>, error: &CallError) {
        let (method, options) = (&first.destination.method, &first.destination.options);
        // A node may have joined since this call ended. The watch tells of a node that joins from here on.
        if first.destination.capacity().nodes > 0 {
            return;
        }
        self.unserved.note(&first.destination.dispatcher, method, options, error.clone());
        let mut others = Vec::new();
        for in_flight in self.in_flight.iter_mut() {
            let waits = in_flight.batch().is_some_and(|batch| {
                let other = &batch.destination;
                let same = Arc::ptr_eq(&other.method, method)
                    && other.options.labels == options.labels
                    && Arc::ptr_eq(&other.dispatcher, &first.destination.dispatcher);
                same && other.options.node.is_none()
                    && batch.hedge.is_none()
                    && other.dispatcher.take_back_unserved(&batch.state)
            });
            if waits {
                others.extend(in_flight.take());
            }
        }
        for batch in others {
            self.release(&batch);
            self.fail_calls(&batch, batch.count, error);
        }
    }

    /// Stops counting a batch whose end is not awaited any more.
    fn release(&mut self, batch: &BatchOf<C>) {
        self.bytes -= batch.state.payload.len();
        let Destination { method, options, .. } = &batch.destination;
        self.sizing.note_ended(method, &options.labels, batch.counted as usize);
    }

    fn fail_calls(&mut self, batch: &BatchOf<C>, count: u32, error: &CallError) {
        for place in 0..count {
            self.keep(batch.first + u64::from(place), Err(error.clone().with_id(batch.state.id_at(place)).widen()), 0);
        }
    }

    /// Sends calls of a batch again that were not started.
    fn send_again(&mut self, batch: &BatchOf<C>, from: u32, to: u32) {
        let batch = batch.slice(from, to);
        self.again_calls += batch.count as usize;
        self.again.push_back((batch, SubmitOptions::default()));
    }

    /// Sends one call of a batch again, with a record of its failed attempt.
    fn send_one_again(&mut self, batch: &BatchOf<C>, place: u32, failed_attempt: FailedAttempt) {
        if let Some(span) = &self.span {
            spans::on_attempt_in_batch_failed(span, &failed_attempt);
        }
        self.again_calls += 1;
        let one = batch.slice(place, place + 1);
        self.again
            .push_back((one, SubmitOptions { failed_attempts: vec![failed_attempt], ..SubmitOptions::default() }));
    }

    /// Sends the first calls of a batch again, each alone and with a record of the failed attempts.
    fn send_one_by_one(&mut self, batch: &BatchOf<C>, count: u32, failed_attempts: &[FailedAttempt]) {
        self.again_calls += count as usize;
        for (place, one) in (0..).zip(batch.singles(count)) {
            let continues = batch.state.id_at(place);
            let failed_attempts = failed_attempts.to_vec();
            self.again.push_back((one, SubmitOptions { failed_attempts, continues, ..SubmitOptions::default() }));
        }
    }

    fn note_node(&mut self, node: &NodeIdentity, calls: u64) {
        if let Some(tracker) = &mut self.tracker {
            tracker.note_node(node, calls);
        }
    }
}

type ResultOf<C, Y> = Result<<Y as Yields>::Of<<C as Distributable>::Value>, CallError<<C as Distributable>::Error>>;

/// Decodes the value of a call, or its method's own error.
fn decode<C: Distributable, Y: Yields>(
    batch: &BatchOf<C>,
    place: u32,
    answer: &RawAnswer,
    is_error: bool,
    payload: Decoder<'_>,
) -> ResultOf<C, Y> {
    let RawAnswer { node, attempts, elapsed, run, count, .. } = answer;
    let value = batch.destination.decode.decode_one(|| batch.state.identity_at(place), is_error, payload)?;
    Ok(Y::of(value, ReplyInfo { node, attempts: *attempts, elapsed: *elapsed, run: *run / (*count).max(1) }))
}

/// The result of one call of a batch.
fn result<C: Distributable, Y: Yields>(
    batch: &BatchOf<C>,
    place: u32,
    answer: &RawAnswer,
    item: Result<(Outcome, Decoder<'_>), CodecError>,
) -> ResultOf<C, Y> {
    let method = batch.destination.method.name();
    let undecodable = |source| CallError::Decode { call: batch.state.identity_at(place), part: Part::Reply, source };
    let (outcome, payload) = item.map_err(undecodable)?;
    match outcome {
        Outcome::Value => decode::<C, Y>(batch, place, answer, false, payload),
        Outcome::Error => decode::<C, Y>(batch, place, answer, true, payload),
        other => Err(outcome::failure(method, &answer.node, &other).map_or_else(
            || undecodable(CodecError::new("a call of a batch ended in a way that only a whole request can")),
            |error| error.with_id(batch.state.id_at(place)).widen(),
        )),
    }
}

/// The record of the failed attempt, if a call of a batch panicked and is to be tried on another node.
fn panic_to_retry<T, E>(
    batch: &InFlightBatch<T, E>,
    answer: &RawAnswer,
    item: &Result<(Outcome, Decoder<'_>), CodecError>,
) -> Option<FailedAttempt> {
    let Destination { method, options, .. } = &batch.destination;
    let may_retry = options.retry_panics && method.is_idempotent() && options.node.is_none();
    match item {
        Ok((Outcome::Panicked(message), _)) if may_retry => {
            let cause = Cause::Panicked(in_lines(message, LONGEST).into());
            Some(FailedAttempt { attempt: answer.attempts, node: answer.node.clone(), source: None, cause })
        }
        _ => None,
    }
}
