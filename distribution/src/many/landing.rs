//! What becomes of a batch that has come back: results, calls that are to be sent again, and calls that fail.

use std::sync::{Arc, atomic::Ordering};

use futures::Stream;

use super::{
    distribute::Distributed,
    flight::{Batch, Flight, Landed},
    parcel::Address,
    unserved::is_unserved,
};
use crate::{
    error::{CallError, Cause, CodecError, Execution, FailedAttempt, Part},
    id::NodeIdentity,
    service::{
        Call,
        caller::{Failed, RawAnswer, Role},
        outcome,
    },
    text::{LONGEST, in_lines},
    wire::{Outcome, batch::Outcomes, codec::Decoder},
};

impl<S: Stream<Item = Call<T, E>>, T, E> Distributed<S, T, E> {
    pub(super) fn land(&mut self, landed: Landed<T, E>) {
        match landed {
            Landed::Overtaken => {}
            Landed::Shortened(mut batch, kept) => {
                self.send_again(&batch, kept, batch.count);
                batch.count = kept;
                let gone = batch.out - kept;
                batch.out = kept;
                self.pace.note_back(batch.address.method, &batch.address.options.labels, gone as usize);
                // It may be on two nodes: what goes its own way from here is not awaited of the other.
                if let Some(race) = &batch.race {
                    let others = self.flights.iter_mut().filter_map(Flight::batch_mut);
                    for other in others.filter(|other| other.is_in(race)) {
                        other.count = other.count.min(kept);
                    }
                }
                self.flights.push(Flight::resume(batch));
            }
            Landed::Ended(batch, ended) => {
                self.release(&batch);
                if let Some(race) = &batch.race {
                    let others = race.runners.fetch_sub(1, Ordering::AcqRel) > 1;
                    let ended = match ended {
                        Err(failed) if others => return race.note(failed),
                        // What is not sure to have not run there may have run here.
                        Err(failed) if failed.error.execution() == Execution::NotRun => Err(race.worst(failed)),
                        ended => ended,
                    };
                    race.is_over.store(true, Ordering::Release);
                    self.call_back(race);
                    return self.end(&batch, ended);
                }
                self.end(&batch, ended);
            }
        }
    }

    fn end(&mut self, batch: &Batch<T, E>, ended: Result<RawAnswer, Failed>) {
        match ended {
            Ok(answer) if batch.state.role.count == 1 => self.answered(batch, answer),
            Ok(answer) => self.unpack(batch, answer),
            Err(failed) => self.failed(batch, failed),
        }
    }

    fn answered(&mut self, batch: &Batch<T, E>, answer: RawAnswer) {
        let labels = &batch.address.options.labels;
        self.pace.note(batch.address.method, labels, 1, answer.run);
        self.pace.note_reply(batch.address.method, labels, 1, answer.payload.len());
        self.note_node(&answer.node, 1);
        let method = batch.address.method.name();
        let max_depth = batch.address.dispatcher.argument_limits().depth;
        let result = batch.address.decode.decode_one(method, answer.is_error, Decoder::new(&answer.payload, max_depth));
        self.keep(batch.first, result, answer.payload.len());
    }

    /// Takes the results out of the reply to a batch. Calls that are not in it were not started.
    fn unpack(&mut self, batch: &Batch<T, E>, answer: RawAnswer) {
        let (labels, count) = (&batch.address.options.labels, answer.count as usize);
        self.pace.note(batch.address.method, labels, count, answer.run);
        self.pace.note_reply(batch.address.method, labels, count, answer.payload.len());
        let mut next = 0;
        // Those it had given back before are under way already.
        let max_depth = batch.address.dispatcher.argument_limits().depth;
        for item in Outcomes::new(&answer.payload, max_depth).take(batch.count as usize) {
            let size = item.as_ref().map_or(0, |(_, value)| value.rest().len());
            if let Some(panicked) = self.to_try_elsewhere(batch, &answer, &item) {
                self.send_one_again(batch, next, panicked);
                next += 1;
                continue;
            }
            let result = self.outcome(batch, &answer.node, item);
            self.keep(batch.first + u64::from(next), result, size);
            next += 1;
        }
        if next == 0 {
            // No honest node ends a batch like this; it would be sent round for ever.
            let method = batch.address.method.name();
            let source = CodecError::new("the reply to a batch holds no result");
            self.fail_all(batch, batch.count, &CallError::Decode { method, part: Part::Reply, source });
            return;
        }
        self.note_node(&answer.node, next.into());
        if next < batch.count {
            self.send_again(batch, next, batch.count);
        }
    }

    /// The record of a call that panicked and is to be tried on another node.
    fn to_try_elsewhere(
        &self,
        batch: &Batch<T, E>,
        answer: &RawAnswer,
        item: &Result<(Outcome, Decoder<'_>), CodecError>,
    ) -> Option<FailedAttempt> {
        let Address { method, options, .. } = &batch.address;
        let may_be = options.retry_panics && method.is_idempotent() && options.node.is_none();
        match item {
            Ok((Outcome::Panicked(message), _)) if may_be => {
                let cause = Cause::Panicked(in_lines(message, LONGEST).into());
                Some(FailedAttempt { attempt: answer.attempts, node: answer.node.clone(), source: None, cause })
            }
            _ => None,
        }
    }

    /// Sends one call of a batch again by itself, with what has befallen it.
    fn send_one_again(&mut self, batch: &Batch<T, E>, place: u32, failed_attempt: FailedAttempt) {
        self.again_calls += 1;
        let one = batch.slice(place, place + 1);
        self.again.push_back((one, Role { failed_attempts: vec![failed_attempt], ..Role::default() }));
    }

    fn outcome(
        &self,
        batch: &Batch<T, E>,
        node: &NodeIdentity,
        item: Result<(Outcome, Decoder<'_>), CodecError>,
    ) -> Result<T, CallError<E>> {
        let method = batch.address.method.name();
        let senseless = |source| CallError::Decode { method, part: Part::Reply, source };
        let (outcome, payload) = item.map_err(senseless)?;
        match outcome {
            Outcome::Value => batch.address.decode.decode_one(method, false, payload),
            Outcome::Error => batch.address.decode.decode_one(method, true, payload),
            other => Err(outcome::failure(method, node, &other).map_or_else(
                || senseless(CodecError::new("a call of a batch ended as only a whole request can")),
                CallError::widen,
            )),
        }
    }

    fn failed(&mut self, batch: &Batch<T, E>, failed: Failed) {
        let Failed { error, failed_attempts } = failed;
        let many = batch.state.role.count > 1;
        let method = batch.address.method;
        match &error {
            CallError::NodeLost { .. } if many => {
                let kept = batch.state.kept().unwrap_or(batch.count).min(batch.count);
                // What the node had given back did not run.
                if kept < batch.count {
                    self.send_again(batch, kept, batch.count);
                }
                if method.is_idempotent() && batch.address.options.node.is_none() {
                    self.send_one_by_one(batch, kept, &failed_attempts);
                } else {
                    self.fail_all(batch, kept, &error);
                }
            }
            // Nothing was started: too much together may be little enough one by one, and a node whose
            // method is async takes no batches.
            CallError::TooLarge { part: Part::Arguments, .. } | CallError::Decode { part: Part::Arguments, .. }
                if many =>
            {
                self.send_one_by_one(batch, batch.count, &[]);
            }
            error => {
                if let CallError::Panicked { node, .. } = error {
                    self.note_node(node, 1);
                }
                self.fail_all(batch, batch.count, error);
                if is_unserved(error, &batch.address.options, !failed_attempts.is_empty()) {
                    self.fail_others(batch, error);
                }
            }
        }
    }

    /// No node serves this method: ends the others of its calls that wait for one.
    fn fail_others(&mut self, first: &Batch<T, E>, error: &CallError) {
        let (method, options) = (first.address.method, &first.address.options);
        // A node may have come since this call ended. One that comes from here on is told by `nodes_changed`.
        if first.address.capacity().nodes > 0 {
            return;
        }
        self.unserved.note(&first.address.dispatcher, method, options, error.clone());
        let mut others = Vec::new();
        for flight in self.flights.iter_mut() {
            let waits = flight.batch().is_some_and(|batch| {
                let other = &batch.address;
                let same = std::ptr::eq(other.method, method)
                    && other.options.labels == options.labels
                    && Arc::ptr_eq(&other.dispatcher, &first.address.dispatcher);
                same && other.options.node.is_none()
                    && batch.race.is_none()
                    && other.dispatcher.take_back_unserved(&batch.state)
            });
            if waits {
                others.extend(flight.overtake());
            }
        }
        for batch in others {
            self.release(&batch);
            self.fail_all(&batch, batch.count, error);
        }
    }

    /// Takes a batch that is not awaited any more out of the books.
    fn release(&mut self, batch: &Batch<T, E>) {
        self.bytes -= batch.state.payload.len();
        self.pace.note_back(batch.address.method, &batch.address.options.labels, batch.out as usize);
    }

    fn fail_all(&mut self, batch: &Batch<T, E>, count: u32, error: &CallError) {
        for place in 0..count {
            self.keep(batch.first + u64::from(place), Err(error.clone().widen()), 0);
        }
    }

    /// Sends calls of a batch again that were not started.
    fn send_again(&mut self, batch: &Batch<T, E>, from: u32, to: u32) {
        let parcel = batch.slice(from, to);
        self.again_calls += parcel.count as usize;
        self.again.push_back((parcel, Role::default()));
    }

    /// Sends the first calls of a batch again, each by itself and with what has befallen it.
    fn send_one_by_one(&mut self, batch: &Batch<T, E>, count: u32, failed_attempts: &[FailedAttempt]) {
        self.again_calls += count as usize;
        for one in batch.singles(count) {
            self.again.push_back((one, Role { failed_attempts: failed_attempts.to_vec(), ..Role::default() }));
        }
    }

    fn note_node(&mut self, node: &NodeIdentity, calls: u64) {
        if let Some(tracker) = &mut self.tracker {
            tracker.note_node(node, calls);
        }
    }

    /// Puts a result where it is yielded from.
    pub(super) fn keep(&mut self, call: u64, result: Result<T, CallError<E>>, size: usize) {
        if let Some(tracker) = &mut self.tracker {
            tracker.note_result(result.is_ok());
        }
        self.held += size;
        self.outlet.push(call, (result, size));
    }
}
