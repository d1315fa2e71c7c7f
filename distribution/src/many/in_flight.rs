//! An in-flight batch: one that was sent and whose end is awaited. It may hold a single call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::batch::{Batch, Destination};
use crate::{
    error::{CallError, Execution},
    service::state::{CallFailure, CallState, RawAnswer},
    wire::batch,
};

/// A future for the end of a batch that was sent. Dropping it cancels the batch.
pub(super) struct InFlight<T, E> {
    /// `None` once the future has ended, or its batch was taken.
    batch: Option<InFlightBatch<T, E>>,
}

/// A batch that was sent.
pub(super) struct InFlightBatch<T, E> {
    pub(super) destination: Destination<T, E>,
    pub(super) state: Arc<CallState>,
    /// The number of the first call in the input; the others follow it.
    pub(super) first: u64,
    /// How many of its calls are still to be answered by it.
    pub(super) count: u32,
    /// How many of its calls the batch sizing still counts as sent.
    pub(super) counted: u32,
    pub(super) started: Instant,
    /// Shared with the same batch on another node.
    pub(super) hedge: Option<Arc<Hedge>>,
}

impl<T, E> InFlightBatch<T, E> {
    /// The calls that it is still to answer, to be sent again.
    pub(super) fn copy(&self) -> Batch<T, E> {
        match self.state.submit_options.count {
            1 => Batch::resend_one(self.destination.clone(), self.first, self.state.payload.clone()),
            _ => self.slice(0, self.count),
        }
    }

    /// The first calls of a batch of several, each as a batch of its own.
    pub(super) fn singles(&self, count: u32) -> Vec<Batch<T, E>> {
        let content = self.state.payload.clone().into_bytes();
        let mut at = 0;
        let one = |place: u32| {
            let end = at + batch::skip(&content[at..], 1);
            let first = self.first + u64::from(place);
            let single = Batch::resend(self.destination.clone(), first, 1, content.slice(at..end));
            at = end;
            single
        };
        (0..count).map(one).collect()
    }

    /// Some calls of a batch of several, to be sent again.
    pub(super) fn slice(&self, from: u32, to: u32) -> Batch<T, E> {
        let content = self.state.payload.clone().into_bytes();
        let (start, end) = (batch::skip(&content, from), batch::skip(&content, to));
        let first = self.first + u64::from(from);
        Batch::resend(self.destination.clone(), first, to - from, content.slice(start..end))
    }
}

/// What the attempts of one batch on several nodes share: the first that succeeds counts.
#[derive(Debug)]
pub(super) struct Hedge {
    is_over: AtomicBool,
    /// How many calls of the batch are expected of it; the others were given back, and were sent again.
    count: AtomicU32,
    attempts: Mutex<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    /// All of them.
    states: Vec<Arc<CallState>>,
    /// How many have ended.
    ended: usize,
    /// How one failed while others had not ended.
    failed: Option<CallFailure>,
}

impl Hedge {
    /// A hedge with this attempt.
    pub(super) fn of(first: &Arc<CallState>) -> Arc<Self> {
        let attempts = Attempts { states: vec![Arc::clone(first)], ..Attempts::default() };
        Arc::new(Self {
            is_over: AtomicBool::new(false),
            count: AtomicU32::new(u32::MAX),
            attempts: Mutex::new(attempts),
        })
    }

    /// Adds an attempt.
    fn add(&self, state: &Arc<CallState>) {
        self.lock().states.push(Arc::clone(state));
    }

    /// A node has given back all calls but the first `kept`.
    pub(super) fn shorten(&self, kept: u32) {
        self.count.fetch_min(kept, Ordering::AcqRel);
    }

    /// Notes the end of an attempt. Returns how the call ends, and cancels the other attempts; `None` if the attempt has
    /// failed and others have not ended.
    pub(super) fn end(&self, ended: Result<RawAnswer, CallFailure>) -> Option<Result<RawAnswer, CallFailure>> {
        let mut attempts = self.lock();
        attempts.ended += 1;
        let result = match ended {
            Ok(answer) => Ok(answer),
            // An administrator who cancels one attempt means the call. Hedged calls were sent before.
            Err(CallFailure { error: CallError::Cancelled { call, by, .. }, failed_attempts, was_tried }) => {
                let error = CallError::Cancelled { call, by, execution: Execution::MayHaveRun };
                Err(CallFailure { error, failed_attempts, was_tried })
            }
            Err(failed) => {
                let failed = match attempts.failed.take() {
                    Some(earlier) => more_telling(earlier, failed),
                    None => failed,
                };
                if attempts.ended < attempts.states.len() {
                    attempts.failed = Some(failed);
                    return None;
                }
                Err(failed)
            }
        };
        self.is_over.store(true, Ordering::Release);
        let states = std::mem::take(&mut attempts.states);
        drop(attempts);
        // Each then sees that its result does not count any more.
        states.iter().for_each(|state| state.wake());
        Some(result)
    }

    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of two failed attempts at one call, the one that says more of what ran: the call has run if one of them has, and may have
/// run if one of them may have. The later one if both say the same.
fn more_telling(earlier: CallFailure, later: CallFailure) -> CallFailure {
    let rank = |failed: &CallFailure| match failed.error.execution() {
        Execution::NotRun => 0,
        Execution::MayHaveRun => 1,
        Execution::Ran => 2,
    };
    if rank(&earlier) > rank(&later) { earlier } else { later }
}

/// What an [`InFlight`] resolves to.
pub(super) enum Finished<T, E> {
    /// The batch has ended.
    Ended(InFlightBatch<T, E>, Result<RawAnswer, CallFailure>),
    /// The node starts only this many of its calls. The batch is still to end with these.
    Shortened(InFlightBatch<T, E>, u32),
    /// Its result does not count any more, because another attempt has ended first.
    Superseded(InFlightBatch<T, E>),
    /// The batch was taken.
    Taken,
}

impl<T, E> InFlight<T, E> {
    /// Sends the batch.
    pub(super) fn send(
        destination: Destination<T, E>,
        first: u64,
        state: Arc<CallState>,
        hedge: Option<Arc<Hedge>>,
    ) -> Self {
        let started = Instant::now();
        destination.dispatcher.submit(Arc::clone(&state));
        if let Some(hedge) = &hedge {
            hedge.add(&state);
        }
        let count = state.submit_options.count;
        Self { batch: Some(InFlightBatch { destination, state, first, count, counted: count, started, hedge }) }
    }

    /// Awaits a batch that was shortened.
    pub(super) fn resume(batch: InFlightBatch<T, E>) -> Self {
        Self { batch: Some(batch) }
    }

    pub(super) fn batch(&self) -> Option<&InFlightBatch<T, E>> {
        self.batch.as_ref()
    }

    pub(super) fn batch_mut(&mut self) -> Option<&mut InFlightBatch<T, E>> {
        self.batch.as_mut()
    }

    /// Takes the batch; this future then resolves to [`Finished::Taken`].
    pub(super) fn take(&mut self) -> Option<InFlightBatch<T, E>> {
        let batch = self.batch.take()?;
        batch.state.wake();
        Some(batch)
    }
}

impl<T, E> Future for InFlight<T, E> {
    type Output = Finished<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished<T, E>> {
        let Some(batch) = &mut self.batch else { return Poll::Ready(Finished::Taken) };
        if let Some(hedge) = &batch.hedge {
            if hedge.is_over.load(Ordering::Acquire) {
                return Poll::Ready(self.batch.take().map_or(Finished::Taken, Finished::Superseded));
            }
            batch.count = batch.count.min(hedge.count.load(Ordering::Acquire));
        }
        let ended = batch.state.poll_end(cx);
        if ended.is_pending() {
            if let Some(kept) = batch.state.kept().filter(|kept| *kept < batch.count) {
                if let Some(batch) = self.batch.take() {
                    return Poll::Ready(Finished::Shortened(batch, kept));
                }
            }
        }
        let ended = ready!(ended);
        Poll::Ready(self.batch.take().map_or(Finished::Taken, |batch| Finished::Ended(batch, ended)))
    }
}

impl<T, E> Drop for InFlight<T, E> {
    fn drop(&mut self) {
        if let Some(batch) = &self.batch {
            batch.destination.dispatcher.cancel(&batch.state);
            batch.state.on_abandoned();
        }
    }
}

impl<T, E> Unpin for InFlight<T, E> {}

impl<T, E> fmt::Debug for InFlight<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InFlight")
    }
}
