//! `.distribute()`: calls in, results out, as many under way as nodes can use.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};

use super::{
    flight::{Flight, Race},
    outlet::Outlet,
    pace::Pace,
    parcel::{Address, Parcel},
    progress::{Out, Progress, Tracker},
    unserved::Unserved,
};
use crate::{
    error::CallError,
    service::{Call, caller::Role},
};

/// With this many bytes of arguments under way no more calls are pulled, unless a slot would be left free; nor
/// with this many bytes of results that wait for the consumer or are expected, unless nothing is under way.
const BYTES_MOST: usize = 64 * 1024 * 1024;

/// How many results are yielded before it is looked again whether batches have come back meanwhile.
const LOOK_EVERY: u32 = 256;

/// Behind a result of this many bytes it is looked at once: few of them are there, and they keep others back.
const LARGE: usize = 4096;

/// Distributes the calls of an iterator.
pub trait DistributeIterator: Iterator + Sized {
    /// Makes the calls over all nodes, and yields what becomes of each: see [`Distributed`].
    fn distribute<T, E>(self) -> Distributed<stream::Iter<Self>, T, E>
    where
        Self: Iterator<Item = Call<T, E>>,
    {
        Distributed::new(stream::iter(self))
    }
}

impl<I: Iterator> DistributeIterator for I {}

/// Distributes the calls of a stream.
pub trait DistributeStream: Stream + Sized {
    /// Makes the calls over all nodes, and yields what becomes of each: see [`Distributed`].
    fn distribute<T, E>(self) -> Distributed<Self, T, E>
    where
        Self: Stream<Item = Call<T, E>>,
    {
        Distributed::new(self)
    }
}

impl<S: Stream> DistributeStream for S {}

/// A stream of what becomes of many calls, one `Result` for each.
///
/// Made by `.distribute()` on an iterator or a stream of calls, which
/// `distribution::prelude` brings. Nothing happens until it is polled. Then it pulls calls as nodes have use for them and not
/// before, so that an endless iterator and a slow consumer cost a bounded amount of memory. Results come in
/// the order of the calls, unless [`unordered`](Self::unordered) is asked for.
///
/// Compute calls of the same method and options travel in batches, of a size that takes a node about ten
/// milliseconds, as measured: tiny calls cost little, and long ones travel alone. A batch that takes far
/// longer than it was made for is cut, and its end goes to other nodes. None of this shows in the results:
/// a call that fails fails by itself, and one whose node is lost is repeated or reported by the same rules
/// as a call made by itself. What remains is this: a value is here once its batch is, and is lost with it if
/// the node is lost before, together with some milliseconds of calls that the node was allowed to start; and
/// calls of this kind are never [`Overloaded`](CallError::Overloaded), because the stream waits instead. Calls
/// with a timeout travel alone.
///
/// Once a call has ended as [`NoNode`](CallError::NoNode) or [`Incompatible`](CallError::Incompatible) because
/// no node came that serves its method, those that follow to the same method (and labels) end so at once,
/// until nodes come or go.
///
/// Dropping it cancels the calls that are under way: take what you need, and drop it.
///
/// The items of the input are calls, neither futures (`async {}`) nor answers (`.answer()`). To gather the
/// values use `try_collect`, which ends at the first error, or `collect::<Vec<_>>`; to go through them,
/// `while let Some(result) = results.next().await`.
///
/// ```
/// # use distribution::{LocalCluster, service};
/// # #[service]
/// # pub trait Arith { fn square(&self, number: u64) -> u64; }
/// # struct Calculator;
/// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
/// use distribution::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
/// let arith = ArithClient::new(&cluster);
/// let squares: Vec<u64> = (0..1000).map(|number| arith.square(number)).distribute().try_collect().await?;
/// assert_eq!(squares[999], 998_001);
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing unless polled"]
pub struct Distributed<S, T, E = Infallible> {
    /// `None` once it has ended.
    input: Option<Pin<Box<S>>>,
    /// Calls pulled so far.
    pulled: u64,
    /// Calls pulled and not yielded yet.
    pending: usize,
    /// The call that did not fit into the parcel before.
    next: Option<Call<T, E>>,
    /// What has to be sent before anything new is pulled.
    pub(super) again: VecDeque<(Parcel<T, E>, Role)>,
    /// Calls in `again`.
    pub(super) again_calls: usize,
    /// Where the newest parcel went.
    last: Option<Address<T, E>>,
    /// Ready when nodes have come or gone.
    news: Option<BoxFuture<'static, ()>>,
    pub(super) flights: FuturesUnordered<Flight<T, E>>,
    /// Bytes of arguments in flight.
    pub(super) bytes: usize,
    /// Results, each with the bytes it came in.
    pub(super) outlet: Outlet<(Result<T, CallError<E>>, usize)>,
    /// Bytes of results that are not yielded yet.
    pub(super) held: usize,
    pub(super) pace: Pace,
    pub(super) hedge: bool,
    /// When to look for items that take long.
    pub(super) look_again: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Results that may be yielded before the next look at the flights.
    unlooked: u32,
    /// What no node serves.
    pub(super) unserved: Unserved,
    /// Tells how far it has come, where somebody asked for that.
    pub(super) tracker: Option<Box<Tracker>>,
}

impl<S, T, E> Distributed<S, T, E> {
    fn new(input: S) -> Self {
        Self {
            input: Some(Box::pin(input)),
            pulled: 0,
            pending: 0,
            next: None,
            again: VecDeque::new(),
            again_calls: 0,
            last: None,
            news: None,
            flights: FuturesUnordered::new(),
            bytes: 0,
            outlet: Outlet::ordered(),
            held: 0,
            pace: Pace::default(),
            hedge: false,
            look_again: None,
            unlooked: 0,
            unserved: Unserved::default(),
            tracker: None,
        }
    }

    /// Yields results as they come, not in the order of the calls. Nothing waits for a slow call then.
    pub fn unordered(mut self) -> Self {
        self.outlet = Outlet::unordered();
        self
    }

    /// Has at most this many calls pulled and not yielded yet. Unless set it is a number that keeps all slots
    /// busy: some batches for each slot, 262,144 calls at most. Beside it no more are pulled while 64 MiB of
    /// arguments are under way (unless a slot is free) or 64 MiB of results wait to be yielded or are expected
    /// of the calls under way, by the size of those before (unless nothing is under way). So a consumer that
    /// stops finds about that much when it goes on, and one batch more.
    ///
    /// What waits at the master does not count against its queue. The stream bounds it: for each method and set of
    /// labels two batches for each slot and two more, or 256 calls while no node serves them, and the 64 MiB of
    /// arguments. Calls behind those are not pulled before some have ended, so calls for few nodes are best a stream of
    /// their own.
    pub fn in_flight(mut self, calls: usize) -> Self {
        self.pace.set_in_flight(calls);
        self
    }

    /// Sends calls in batches of this size, not in one that is measured. 1 sends each by itself.
    pub fn batch(mut self, calls: usize) -> Self {
        self.pace.set_batch(calls);
        self
    }

    /// Once all calls are sent, also sends those that take far longer than the rest (three times the mean,
    /// and 250 ms) to a second node with a free slot; the first answer counts. For idempotent methods;
    /// others are left alone. Needs a tokio runtime with time.
    pub fn hedge(mut self) -> Self {
        self.hedge = true;
        self
    }

    /// Calls `hook` with how far the run has come, about five times a second while it is polled, and once at the
    /// end; not if it is dropped before. May be given several times.
    ///
    /// The hook runs where the stream is polled, so it should be quick. It needs no tokio runtime.
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # use distribution::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
    /// # let arith = ArithClient::new(&cluster);
    /// let (progress, seen) = std::sync::mpsc::channel();
    /// let squares = (0..1000).map(|number| arith.square(number)).distribute();
    /// let squares: Vec<u64> = squares.on_progress(move |now| _ = progress.send(now.clone())).try_collect().await?;
    /// assert_eq!(seen.try_iter().last().map(|end| end.done), Some(1000));
    /// # Ok(()) }
    /// ```
    pub fn on_progress(mut self, hook: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.tracker.get_or_insert_with(|| Box::new(Tracker::new())).add_hook(hook);
        self
    }

    /// Shows how far it has come on standard error: a bar with rate, time left, failures and nodes, or
    /// without a terminal a line every few seconds; and a line at the end that names the nodes, also if that
    /// is early. Log lines that go through [`LogWriter`](crate::many::LogWriter) do not meet the bar.
    #[cfg(feature = "progress")]
    pub fn progress(mut self) -> Self
    where
        S: Stream,
    {
        self.tracker.get_or_insert_with(|| Box::new(Tracker::new())).show();
        self
    }

    /// How far it has come, for a total of this many calls.
    fn look(&self, tracker: &Tracker, total: Option<u64>) -> Progress {
        let mut out = Out::default();
        for batch in self.flights.iter().filter_map(Flight::batch) {
            let calls = if batch.state.attempt.is_out() { &mut out.running } else { &mut out.waiting };
            *calls += u64::from(batch.out);
            out.oldest = Some(out.oldest.map_or(batch.started, |oldest: Instant| oldest.min(batch.started)));
        }
        tracker.look(Instant::now(), out, total)
    }
}

impl<S: Stream<Item = Call<T, E>>, T, E> Distributed<S, T, E> {
    /// How many calls are yet to be sent, if the input tells.
    fn left(&self) -> Option<usize> {
        let waiting = self.again_calls;
        match &self.input {
            None => Some(waiting),
            Some(input) => match input.size_hint() {
                (low, Some(high)) if low == high => Some(waiting.saturating_add(low)),
                _ => None,
            },
        }
    }

    /// Sends as much as may be sent now.
    fn send(&mut self, cx: &mut Context<'_>) {
        if let Some(address) = &self.last {
            self.pace.turn_to(address.method, &address.options.labels, Instant::now(), || address.capacity());
        }
        loop {
            let free = self.flights.len() < self.pace.capacity().slots.max(1);
            if self.flights.len() >= self.pace.flights() && !self.flights.is_empty() {
                return;
            }
            if self.bytes >= BYTES_MOST && !(free && self.pace.capacity().free > 0 || self.flights.is_empty()) {
                return;
            }
            let Some((parcel, role)) = self.parcel(cx) else { return };
            self.fly(parcel, role, None);
        }
    }

    pub(super) fn fly(&mut self, parcel: Parcel<T, E>, role: Role, race: Option<Arc<Race>>) {
        let (method, labels) = (parcel.address.method, &parcel.address.options.labels);
        self.pace.note_sent(method, labels, parcel.count as usize);
        let (address, first, state) = parcel.pack(role);
        self.bytes += state.payload.len();
        let flight = Flight::start(address, first, state, race);
        self.flights.push(flight);
    }

    /// The next parcel: what was sent before, or new calls.
    fn parcel(&mut self, cx: &mut Context<'_>) -> Option<(Parcel<T, E>, Role)> {
        if let Some((mut parcel, role)) = self.again.pop_front() {
            self.again_calls -= parcel.count as usize;
            let address = &parcel.address;
            self.pace.turn_to(address.method, &address.options.labels, Instant::now(), || address.capacity());
            let left = self.left().unwrap_or(0).saturating_add(parcel.count as usize);
            let size = self.pace.batch(Some(left), address.options.timeout);
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            if parcel.count > size {
                let head = parcel.split(size);
                self.again_calls += parcel.count as usize;
                self.again.push_front((parcel, role.clone()));
                parcel = head;
            }
            return Some((parcel, role));
        }
        let mut parcel: Option<Parcel<T, E>> = None;
        let mut size = 0;
        // A consumer that does not keep up is waited for, before the replies that are still to come are too much.
        // What is sent again was counted when it was sent first, and is not held up by this.
        let expected = if self.flights.is_empty() { 0 } else { self.pace.expected_bytes() };
        if self.held.saturating_add(expected) >= BYTES_MOST {
            return None;
        }
        if !self.unserved.is_empty() {
            self.look_for_nodes(cx);
        }
        let left = self.left();
        // Room for a batch is waited for, as long as no slot is: a window that is full would else be
        // refilled by one call at a time.
        let room = self.pace.window().saturating_sub(self.pending);
        let wanted = self.pace.batch(left, None).min(self.pace.window().div_ceil(4));
        if room < wanted && self.next.is_none() && self.flights.len() >= self.pace.capacity().slots.max(1) {
            return None;
        }
        while self.next.is_some() || self.pending < self.pace.window() {
            let Some(call) = self.pull(cx) else { break };
            let known =
                self.unserved.find(&call.dispatcher, call.method, &call.options).filter(|_| call.payload.is_ok());
            if let Some(error) = known.cloned() {
                if parcel.is_some() {
                    // The calls of a parcel follow each other.
                    self.next = Some(call);
                    break;
                }
                self.keep(self.pulled, Err(error.widen()), 0);
                self.pulled += 1;
                continue;
            }
            match &mut parcel {
                None => match Parcel::new(call, self.pulled) {
                    Ok(begun) => {
                        let address = &begun.address;
                        let labels = &address.options.labels;
                        self.pace.turn_to(address.method, labels, Instant::now(), || address.capacity());
                        if self.news.is_none() {
                            self.news = Some(address.dispatcher.nodes_changed());
                        }
                        size = self.pace.batch(left, address.options.timeout);
                        parcel = Some(begun);
                        self.pulled += 1;
                    }
                    Err(error) => {
                        self.keep(self.pulled, Err(error.widen()), 0);
                        self.pulled += 1;
                        continue;
                    }
                },
                Some(parcel) => match parcel.add(call) {
                    None => self.pulled += 1,
                    Some(call) => {
                        self.next = Some(call);
                        break;
                    }
                },
            }
            if parcel.as_ref().is_some_and(|parcel| parcel.count as usize >= size) {
                break;
            }
        }
        let parcel = parcel?;
        self.last = Some(parcel.address.clone());
        Some((parcel, Role::default()))
    }

    /// The next call of the input.
    fn pull(&mut self, cx: &mut Context<'_>) -> Option<Call<T, E>> {
        if let Some(call) = self.next.take() {
            return Some(call);
        }
        match self.input.as_mut()?.as_mut().poll_next(cx) {
            Poll::Ready(Some(call)) => {
                self.pending += 1;
                Some(call)
            }
            Poll::Ready(None) => {
                self.input = None;
                None
            }
            Poll::Pending => None,
        }
    }

    fn yield_next(&mut self) -> Option<Result<T, CallError<E>>> {
        let (result, size) = self.outlet.pop()?;
        self.held -= size;
        self.pending -= 1;
        if size >= LARGE {
            self.unlooked = 0;
        }
        Some(result)
    }

    /// Whether nodes have come or gone since it was asked last. Then nothing is taken for unserved any more.
    fn look_for_nodes(&mut self, cx: &mut Context<'_>) -> bool {
        let changed = self.news.as_mut().is_some_and(|news| news.poll_unpin(cx).is_ready());
        if changed {
            self.news = self.last.as_ref().map(|address| address.dispatcher.nodes_changed());
            self.pace.forget_nodes();
            self.unserved.forget();
        }
        changed
    }

    /// Tells how far it has come.
    fn tell(&mut self) {
        let left = self.input.as_ref().map_or(Some(0), |input| match input.size_hint() {
            (low, Some(high)) if low == high => Some(low as u64),
            _ => None,
        });
        // One that was pulled may not have a number yet.
        let pulled = self.pulled + u64::from(self.next.is_some());
        let Some(mut tracker) = self.tracker.take() else { return };
        let progress = self.look(&tracker, left.and_then(|left| pulled.checked_add(left)));
        tracker.tell(&progress);
        self.tracker = Some(tracker);
    }
}

impl<S, T, E> Distributed<S, T, E> {
    /// Nothing more is told. What is shown says how far it came, however it ended.
    fn end_tracker(&mut self) {
        #[cfg(feature = "progress")]
        if let Some(mut tracker) = self.tracker.take() {
            let total = self.input.is_none().then_some(self.pulled);
            let progress = self.look(&tracker, total);
            tracker.end(&progress);
        }
        self.tracker = None;
    }
}

impl<S, T, E> Drop for Distributed<S, T, E> {
    fn drop(&mut self) {
        self.end_tracker();
    }
}

impl<S, T, E> Unpin for Distributed<S, T, E> {}

impl<S: Stream<Item = Call<T, E>>, T, E> Stream for Distributed<S, T, E> {
    type Item = Result<T, CallError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.tracker.as_mut().is_some_and(|tracker| tracker.is_due()) {
            this.tell();
        }
        if this.unlooked > 0 {
            this.unlooked -= 1;
            if let Some(result) = this.yield_next() {
                return Poll::Ready(Some(result));
            }
        }
        loop {
            // What has come back makes room, which is filled before anything is yielded: nodes shall not
            // wait for a consumer that has a thousand results to go through.
            while let Poll::Ready(Some(landed)) = this.flights.poll_next_unpin(cx) {
                this.land(landed);
            }
            let before = this.flights.len();
            this.send(cx);
            this.unlooked = LOOK_EVERY;
            if let Some(result) = this.yield_next() {
                return Poll::Ready(Some(result));
            }
            if this.flights.len() > before {
                // New ones have to be polled once, to be heard.
                continue;
            }
            if this.input.is_none() && this.next.is_none() && this.again.is_empty() {
                if this.flights.is_empty() {
                    this.tell();
                    this.end_tracker();
                    return Poll::Ready(None);
                }
                if this.hedge {
                    let before = this.flights.len();
                    this.watch(cx);
                    if this.flights.len() > before {
                        continue;
                    }
                }
            }
            if this.look_for_nodes(cx) {
                continue;
            }
            if let Some(tracker) = &this.tracker {
                tracker.wake_later(cx.waker());
            }
            this.unlooked = 0;
            return Poll::Pending;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self.input.as_ref().map_or((0, Some(0)), |input| input.size_hint());
        (low.saturating_add(self.pending), high.and_then(|high| high.checked_add(self.pending)))
    }
}

impl<S, T, E> fmt::Debug for Distributed<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distributed")
            .field("pulled", &self.pulled)
            .field("pending", &self.pending)
            .field("flights", &self.flights.len())
            .finish_non_exhaustive()
    }
}
