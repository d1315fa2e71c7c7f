//! `.distribute()`: calls in, results out, as many under way as nodes can use.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};

use super::{
    flight::{Batch, Flight, Landed, Race},
    outlet::Outlet,
    pace::Pace,
    parcel::{Address, Parcel},
};
use crate::{
    error::{CallError, CodecError, Execution, Part, Setback},
    id::NodeIdentity,
    service::{
        Call,
        caller::{Failed, RawAnswer, Role},
        outcome,
    },
    wire::{Outcome, batch::Outcomes, codec::Decoder},
};

/// With so many bytes of arguments under way no more calls are pulled, unless a slot would be left free.
const BYTES_MOST: usize = 64 * 1024 * 1024;

/// How many results are yielded before it is looked again whether batches have come back meanwhile.
const LOOK_EVERY: u32 = 256;

/// An item is sent to a second node when it has taken so many times what is usual, and so long at least.
/// By then its batch has been cut (see `node/batch.rs`), so that it is about this item alone.
const HEDGE_FACTOR: u32 = 3;
const HEDGE_AFTER: Duration = Duration::from_millis(250);

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
/// the node is lost before; and calls of this kind are never [`Overloaded`](CallError::Overloaded), because
/// the stream waits instead. Calls with a timeout travel alone.
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
    again: VecDeque<(Parcel<T, E>, Role)>,
    /// Calls in `again`.
    again_calls: usize,
    /// Where the newest parcel went.
    last: Option<Address<T, E>>,
    /// Ready when nodes have come or gone.
    news: Option<BoxFuture<'static, ()>>,
    flights: FuturesUnordered<Flight<T, E>>,
    /// Bytes of arguments in flight.
    bytes: usize,
    /// Results, each with the bytes it came in.
    outlet: Outlet<(Result<T, CallError<E>>, usize)>,
    /// Bytes of results that are not yielded yet.
    held: usize,
    pace: Pace,
    hedge: bool,
    /// When to look for items that take long.
    look_again: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Results that may be yielded before the next look at the flights.
    unlooked: u32,
    #[cfg(feature = "progress")]
    progress: Option<super::progress::Progress>,
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
            #[cfg(feature = "progress")]
            progress: None,
        }
    }

    /// Yields results as they come, not in the order of the calls. Nothing waits for a slow call then.
    pub fn unordered(mut self) -> Self {
        self.outlet = Outlet::unordered();
        self
    }

    /// Has at most so many calls pulled and not yielded yet. Unless set it is a number that keeps all slots
    /// busy: some batches for each slot, 262,144 calls at most. Beside it no more are pulled while 64 MiB of
    /// arguments are under way (unless a slot would be left free) or 64 MiB of results wait to be yielded.
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

    /// Shows how far it has come on standard error: a bar with rate, time left, failures and nodes, or
    /// without a terminal a line every few seconds; and a line at the end, also if that is early.
    #[cfg(feature = "progress")]
    pub fn progress(mut self) -> Self
    where
        S: Stream,
    {
        let total = self.input.as_ref().and_then(|input| input.size_hint().1);
        self.progress = Some(super::progress::Progress::new(total));
        self
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
            if self.bytes >= BYTES_MOST && !free {
                return;
            }
            let Some((parcel, role)) = self.parcel(cx) else { return };
            self.fly(parcel, role, None);
        }
    }

    fn fly(&mut self, parcel: Parcel<T, E>, role: Role, race: Option<Arc<Race>>) {
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
        // A consumer that does not keep up is waited for.
        if self.held >= BYTES_MOST {
            return None;
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
                        self.outlet.push(self.pulled, (Err(error.widen()), 0));
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

    fn land(&mut self, landed: Landed<T, E>) {
        match landed {
            Landed::Overtaken => {}
            Landed::Shortened(mut batch, kept) => {
                self.send_again(&batch, kept, batch.count);
                batch.count = kept;
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
                self.bytes -= batch.state.payload.len();
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
        self.pace.note(batch.address.method, &batch.address.options.labels, 1, answer.run);
        self.note_node(&answer.node);
        let method = batch.address.method.name();
        let result = batch.address.decode.decode_one(method, answer.is_error, Decoder::new(&answer.payload));
        self.keep(batch.first, result, answer.payload.len());
    }

    /// Takes the results out of the reply to a batch. Calls that are not in it were not started.
    fn unpack(&mut self, batch: &Batch<T, E>, answer: RawAnswer) {
        self.pace.note(batch.address.method, &batch.address.options.labels, answer.count as usize, answer.run);
        self.note_node(&answer.node);
        let mut next = 0;
        // Those it had given back before are under way already.
        for item in Outcomes::new(&answer.payload).take(batch.count as usize) {
            let size = item.as_ref().map_or(0, |(_, value)| value.rest().len());
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
        if next < batch.count {
            self.send_again(batch, next, batch.count);
        }
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
        let Failed { error, setbacks } = failed;
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
                    self.send_one_by_one(batch, kept, &setbacks);
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
            error => self.fail_all(batch, batch.count, error),
        }
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
    fn send_one_by_one(&mut self, batch: &Batch<T, E>, count: u32, setbacks: &[Setback]) {
        self.again_calls += count as usize;
        for one in batch.singles(count) {
            self.again.push_back((one, Role { setbacks: setbacks.to_vec(), ..Role::default() }));
        }
    }

    /// Puts a result where it is yielded from.
    fn keep(&mut self, call: u64, result: Result<T, CallError<E>>, size: usize) {
        self.held += size;
        self.outlet.push(call, (result, size));
    }

    /// Cancels the others of a race that is over.
    fn call_back(&mut self, race: &Arc<Race>) {
        for batch in self.flights.iter_mut().filter_map(Flight::batch_mut).filter(|batch| batch.is_in(race)) {
            self.bytes -= batch.state.payload.len();
            batch.state.wake();
        }
    }

    /// Sends what takes long to a second node, and says whether there is anything to watch.
    fn hedge_late(&mut self) -> bool {
        let mut late = Vec::new();
        let mut watching = false;
        let now = Instant::now();
        for batch in self.flights.iter_mut().filter_map(Flight::batch_mut) {
            let address = &batch.address;
            let options = &address.options;
            let is_free = options.node.is_none() && options.affinity.is_none();
            if batch.race.is_some() || !address.method.is_idempotent() || !is_free {
                continue;
            }
            watching = true;
            self.pace.turn_to(address.method, &options.labels, now, || address.capacity());
            let free = self.pace.capacity().free;
            let Some(expected) = self.pace.expected(batch.count as usize) else { continue };
            let taken = now.saturating_duration_since(batch.started);
            if late.len() < free && taken > (expected * HEDGE_FACTOR).max(HEDGE_AFTER) {
                let race = Race::new(2);
                batch.race = Some(Arc::clone(&race));
                let role = Role { beside: batch.state.id(), ..Role::default() };
                let mut parcel = batch.parcel();
                let options = &mut parcel.address.options;
                options.timeout = options.timeout.map(|timeout| timeout.saturating_sub(taken));
                late.push((parcel, role, race));
            }
        }
        for (parcel, role, race) in late {
            self.fly(parcel, role, Some(race));
        }
        watching
    }

    /// Wakes this task when it is time to look for late ones again.
    fn watch(&mut self, cx: &mut Context<'_>) {
        loop {
            if !self.hedge_late() {
                self.look_again = None;
                return;
            }
            let timer = self.look_again.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEDGE_AFTER / 5)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.look_again = None;
        }
    }

    #[cfg_attr(not(feature = "progress"), allow(clippy::unused_self, reason = "there is nothing to show"))]
    fn note_node(&mut self, node: &NodeIdentity) {
        #[cfg(feature = "progress")]
        if let Some(progress) = &mut self.progress {
            progress.note_node(node.id);
        }
        #[cfg(not(feature = "progress"))]
        let _ = node;
    }

    fn yield_next(&mut self) -> Option<Result<T, CallError<E>>> {
        let (result, size) = self.outlet.pop()?;
        self.held -= size;
        self.pending -= 1;
        #[cfg(feature = "progress")]
        if let Some(progress) = &mut self.progress {
            progress.note_result(result.is_ok());
        }
        Some(result)
    }
}

impl<S, T, E> Unpin for Distributed<S, T, E> {}

impl<S: Stream<Item = Call<T, E>>, T, E> Stream for Distributed<S, T, E> {
    type Item = Result<T, CallError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
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
            if let Some(result) = this.yield_next() {
                this.unlooked = LOOK_EVERY;
                return Poll::Ready(Some(result));
            }
            if this.flights.len() > before {
                // New ones have to be polled once, to be heard.
                continue;
            }
            if this.input.is_none() && this.next.is_none() && this.again.is_empty() {
                if this.flights.is_empty() {
                    #[cfg(feature = "progress")]
                    drop(this.progress.take());
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
            if let Some(news) = &mut this.news {
                if news.poll_unpin(cx).is_ready() {
                    this.news = this.last.as_ref().map(|address| address.dispatcher.nodes_changed());
                    this.pace.forget_nodes();
                    continue;
                }
            }
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
