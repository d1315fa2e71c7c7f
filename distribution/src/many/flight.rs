//! A batch under way, which may be of one call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use super::parcel::{Address, Parcel};
use crate::{
    service::caller::{CallState, Failed, RawAnswer},
    wire::batch,
};

/// A future for what becomes of a batch. Dropping it cancels the batch.
pub(super) struct Flight<T, E> {
    /// `None` once it has landed.
    batch: Option<Batch<T, E>>,
}

pub(super) struct Batch<T, E> {
    pub(super) address: Address<T, E>,
    pub(super) state: Arc<CallState>,
    /// Which call the first is, as they came in; the others follow it.
    pub(super) first: u64,
    /// How many of them this is still about.
    pub(super) count: u32,
    /// How many of them are expected to come back with it, in the books of the stream's pace.
    pub(super) out: u32,
    pub(super) started: Instant,
    /// What it shares with the same batch on another node.
    pub(super) race: Option<Arc<Race>>,
}

impl<T, E> Batch<T, E> {
    /// Whether it is in this race.
    pub(super) fn is_in(&self, race: &Arc<Race>) -> bool {
        self.race.as_ref().is_some_and(|own| Arc::ptr_eq(own, race))
    }

    /// What it is still about, once more.
    pub(super) fn parcel(&self) -> Parcel<T, E> {
        match self.state.role.count {
            1 => Parcel::one(self.address.clone(), self.first, self.state.payload.clone()),
            _ => self.slice(0, self.count),
        }
    }

    /// The first calls of a batch of several, one by one.
    pub(super) fn singles(&self, count: u32) -> Vec<Parcel<T, E>> {
        let content = self.state.payload.clone().into_bytes();
        let mut at = 0;
        let one = |place: u32| {
            let end = at + batch::skip(&content[at..], 1);
            let parcel = Parcel::again(self.address.clone(), self.first + u64::from(place), 1, content.slice(at..end));
            at = end;
            parcel
        };
        (0..count).map(one).collect()
    }

    /// Some calls of a batch of several, to be sent again.
    pub(super) fn slice(&self, from: u32, to: u32) -> Parcel<T, E> {
        let content = self.state.payload.clone().into_bytes();
        let (start, end) = (batch::skip(&content, from), batch::skip(&content, to));
        let first = self.first + u64::from(from);
        Parcel::again(self.address.clone(), first, to - from, content.slice(start..end))
    }
}

/// The same batch on several nodes: the first to come back is taken.
#[derive(Debug)]
pub(super) struct Race {
    pub(super) is_over: AtomicBool,
    /// How many are still out.
    pub(super) runners: AtomicU32,
    /// How one failed while others were out.
    failed: Mutex<Option<Failed>>,
}

impl Race {
    pub(super) fn new(runners: u32) -> Arc<Self> {
        Arc::new(Self { is_over: AtomicBool::new(false), runners: AtomicU32::new(runners), failed: Mutex::default() })
    }

    /// One has failed, and others are out.
    pub(super) fn note(&self, failed: Failed) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }

    /// The failure to be told, where the last one did not run.
    pub(super) fn worst(&self, last: Failed) -> Failed {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(last)
    }
}

/// News of a flight.
pub(super) enum Landed<T, E> {
    /// It has ended.
    Ended(Batch<T, E>, Result<RawAnswer, Failed>),
    /// Its node starts only so many of its calls; it is still to come back with these.
    Shortened(Batch<T, E>, u32),
    /// Another has come back in its place.
    Overtaken,
}

impl<T, E> Flight<T, E> {
    /// Sends the batch.
    pub(super) fn start(address: Address<T, E>, first: u64, state: Arc<CallState>, race: Option<Arc<Race>>) -> Self {
        address.dispatcher.submit(Arc::clone(&state));
        let count = state.role.count;
        Self { batch: Some(Batch { address, state, first, count, out: count, started: Instant::now(), race }) }
    }

    /// Goes on with one that was shortened.
    pub(super) fn resume(batch: Batch<T, E>) -> Self {
        Self { batch: Some(batch) }
    }

    pub(super) fn batch(&self) -> Option<&Batch<T, E>> {
        self.batch.as_ref()
    }

    /// Takes it, and leaves a flight that says that it was overtaken, once it is polled.
    pub(super) fn overtake(&mut self) -> Option<Batch<T, E>> {
        let batch = self.batch.take()?;
        batch.state.wake();
        Some(batch)
    }

    pub(super) fn batch_mut(&mut self) -> Option<&mut Batch<T, E>> {
        self.batch.as_mut()
    }
}

impl<T, E> Future for Flight<T, E> {
    type Output = Landed<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Landed<T, E>> {
        let Some(batch) = &mut self.batch else { return Poll::Ready(Landed::Overtaken) };
        if batch.race.as_ref().is_some_and(|race| race.is_over.load(Ordering::Acquire)) {
            return Poll::Ready(Landed::Overtaken);
        }
        let ended = batch.state.poll_end(cx);
        if ended.is_pending() {
            if let Some(kept) = batch.state.kept().filter(|kept| *kept < batch.count) {
                if let Some(batch) = self.batch.take() {
                    return Poll::Ready(Landed::Shortened(batch, kept));
                }
            }
        }
        let ended = ready!(ended);
        Poll::Ready(self.batch.take().map_or(Landed::Overtaken, |batch| Landed::Ended(batch, ended)))
    }
}

impl<T, E> Drop for Flight<T, E> {
    fn drop(&mut self) {
        if let Some(batch) = &self.batch {
            batch.address.dispatcher.cancel(&batch.state);
        }
    }
}

impl<T, E> Unpin for Flight<T, E> {}

impl<T, E> fmt::Debug for Flight<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flight")
    }
}
