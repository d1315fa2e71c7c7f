//! [`Distributed`], the stream that `.distribute()` returns: its settings, and how it is polled.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream};

use super::{
    distributable::{Answers, Distributable, Values, Yields},
    progress::Progress,
    run_state::{Item, RunState},
    tracker::Tracker,
};

/// How many items are yielded at most before the in-flight batches are polled again.
const POLL_EVERY: u32 = 256;

/// After this many items in a row the stream lets other tasks run once. With calls that fail at once, it would have an item at
/// each poll for as long as its input lasts.
const YIELD_EVERY: u32 = 1024;

/// Brings `.distribute()` to iterators.
pub trait DistributeIterator: Iterator + Sized {
    /// Makes the calls on all nodes and yields their results: see [`Distributed`].
    fn distribute(self) -> Distributed<stream::Iter<Self>>
    where
        Self::Item: Distributable,
    {
        Distributed::new(stream::iter(self))
    }
}

impl<I: Iterator> DistributeIterator for I {}

/// Brings `.distribute()` to streams.
pub trait DistributeStream: Stream + Sized {
    /// Makes the calls on all nodes and yields their results: see [`Distributed`].
    fn distribute(self) -> Distributed<Self>
    where
        Self::Item: Distributable,
    {
        Distributed::new(self)
    }
}

impl<S: Stream> DistributeStream for S {}

/// The results of many calls: a stream that yields one `Result` for each call, in the order of the calls.
///
/// It is returned by `.distribute()`, which `use distribution::prelude::*` brings to iterators and streams of calls. `S`
/// is the stream of calls. It does nothing until it is polled. It then pulls calls as nodes have room for them, so that
/// an endless iterator or a slow consumer costs a bounded amount of memory. Dropping it cancels the calls that have not
/// ended.
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
///
/// # Keys
///
/// The items may be pairs of a key and a call. Each result then comes with the key of its call, which is most useful
/// with [`unordered`](Self::unordered). `try_collect` and the like then fail with a
/// [`KeyedError`](crate::error::KeyedError), which has the key of the call that failed.
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
/// let sides = [("table", 3), ("room", 20)];
/// let mut areas = sides.into_iter().map(|(name, side)| (name, arith.square(side))).distribute().unordered();
/// while let Some((name, area)) = areas.next().await {
///     println!("{name}: {} square metres", area?);
/// }
/// # Ok(()) }
/// ```
///
/// # How calls are sent
///
/// Compute calls of the same method with the same options are sent in batches. The size of a batch is measured: it is to
/// take a node about ten milliseconds. So short calls cost little, and long calls are sent alone. If a batch takes far
/// longer than expected, the calls that it has not started go to other nodes. Calls with a timeout are sent alone, so that
/// each has a deadline of its own; so are all calls of a master with a
/// [`default_timeout`](crate::MasterBuilder::default_timeout), which makes short ones slower.
///
/// Batches do not change the results: a call that fails does not affect the others, and a call whose node is lost is
/// repeated or reported by the same rules as a single call. There are two differences. A result arrives when its batch
/// ends, so that a node which is lost takes some milliseconds of finished calls with it. And these calls do not end as
/// [`Overloaded`](crate::CallError::Overloaded), because the stream waits instead; unless other calls use up what the
/// caller's credential allows at a time ([`CallerRights::max_calls`](crate::CallerRights::max_calls)), so that the stream can
/// have nothing under way.
///
/// If a call ends as [`NoNode`](crate::CallError::NoNode) or [`Incompatible`](crate::CallError::Incompatible) because no
/// node that serves its method came in time, the next calls of this method (with the same labels) end the same way at
/// once, until a node joins or leaves.
#[must_use = "it does nothing until it is polled, and dropping it cancels its calls"]
pub struct Distributed<S, Y = Values>
where
    S: Stream<Item: Distributable>,
    Y: Yields,
{
    /// `None` once it has ended.
    pub(super) input: Option<Pin<Box<S>>>,
    pub(super) state: RunState<S::Item, Y>,
}

impl<S: Stream<Item: Distributable>> Distributed<S> {
    fn new(input: S) -> Self {
        Self { input: Some(Box::pin(input)), state: RunState::new() }
    }

    /// Yields [`Answer`](crate::Answer)s instead of values: each says which node ran the call, how often it was sent, and
    /// how long it took. For calls that were sent as one batch, [`run`](crate::Answer::run) is the mean of the batch.
    ///
    /// # Panics
    ///
    /// If a call was pulled from the input already. So set it before the stream is polled.
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
    /// let mut answers = (0..3).map(|number| arith.square(number)).distribute().answers();
    /// while let Some(answer) = answers.try_next().await? {
    ///     println!("{} was computed on {} in {:?}", answer.value, answer.node, answer.run);
    /// }
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn answers(mut self) -> Distributed<S, Answers> {
        assert!(self.state.pulled == 0 && self.state.next.is_none(), "`answers` is called after the stream was polled");
        let state = RunState {
            sizing: std::mem::take(&mut self.state.sizing),
            hedge: self.state.hedge,
            tracker: self.state.tracker.take(),
            ..RunState::new()
        };
        let is_ordered = self.state.results.is_ordered();
        let mut answers = Distributed { input: self.input.take(), state };
        if !is_ordered {
            answers.state.results.stop_ordering();
        }
        answers
    }
}

impl<S: Stream<Item: Distributable>, Y: Yields> Distributed<S, Y> {
    /// Yields results as they arrive, not in the order of the calls, so that no result waits for a slow call.
    pub fn unordered(mut self) -> Self {
        self.state.results.stop_ordering();
        self
    }

    /// The most calls that are pulled and not yielded yet, at least 1. By default the stream chooses a number that keeps
    /// all slots busy: some batches for each slot, and at most 262,144 calls.
    ///
    /// Two limits hold in any case. No calls are pulled while 64 MiB of arguments are in flight, unless a slot is free.
    /// And none are pulled while 64 MiB of results wait to be yielded or are expected (by the size of earlier results),
    /// unless nothing is in flight. So if the consumer stops, about that much and one batch wait for it.
    ///
    /// These calls do not count against the master's queue; the stream limits them instead. For each method and set of
    /// labels it sends at most two batches for each slot and two more, or 256 calls while no node serves the method.
    /// Calls behind those are not pulled before some have ended. So calls that only few nodes serve are best given a
    /// stream of their own.
    ///
    /// # Panics
    ///
    /// If `calls` is 0, as no call could be sent.
    #[track_caller]
    pub fn in_flight(mut self, calls: usize) -> Self {
        assert!(calls > 0, "the setting `in_flight` cannot be 0: no call could be sent; it must be at least 1");
        self.state.sizing.set_in_flight(calls);
        self
    }

    /// Sends calls in batches of this size, instead of a size that is measured. 1 sends each call alone. A batch never
    /// has more calls than [`in_flight`](Self::in_flight) allows.
    ///
    /// # Panics
    ///
    /// If `calls` is 0, as [`chunks`](slice::chunks) does.
    #[track_caller]
    pub fn batch(mut self, calls: usize) -> Self {
        assert!(calls > 0, "the setting `batch` cannot be 0: a batch has at least 1 call");
        self.state.sizing.set_batch(calls);
        self
    }

    /// Sends late calls to a second node as well, and takes the first answer. A call is late if all calls are sent, it
    /// has taken three times the mean and at least 250 ms, and a slot is free on a node that serves its method. The copy
    /// does not go to the node that has the call, unless no other node serves the method. If those other nodes have no
    /// free slot, it waits for one. Needs a tokio runtime with time.
    ///
    /// Only calls of idempotent methods may run twice. A call of any other method ends as
    /// [`CallError::NotIdempotent`](crate::CallError::NotIdempotent) and is not sent.
    pub fn hedge(mut self) -> Self {
        self.state.hedge = true;
        self
    }

    /// Calls `hook` with the progress, about five times a second while the stream is polled, and once when it has
    /// yielded its last result. The hook is not called when the stream is dropped before. May be called several times,
    /// to add several hooks.
    ///
    /// The hook runs in the task that polls the stream, so it should be quick. It needs no tokio runtime.
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
        self.state.tracker.get_or_insert_with(|| Box::new(Tracker::new())).add_hook(hook);
        self
    }

    /// Lets the master list this run by a name, with its progress: see [`Master::runs`](crate::Master::runs) and `distribution
    /// runs`. Several runs may have the same name; of a name of more than 200 bytes the end is cut off.
    ///
    /// The master is told about once a second while the stream is polled, and when the stream ends or is dropped. Runs of calls
    /// to an [`InProcess`](crate::InProcess) are not listed.
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
    /// let squares = (0..1000).map(|number| arith.square(number)).distribute().name("sweep");
    /// let squares: Vec<u64> = squares.try_collect().await?;
    /// # assert_eq!(cluster.master().runs()[0].name, "sweep");
    /// # Ok(()) }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.state.tracker.get_or_insert_with(|| Box::new(Tracker::new())).set_name(name.into());
        self
    }

    /// Shows the progress on standard error. On a terminal this is a bar with rate, time left, failures and nodes;
    /// elsewhere it is a line every few seconds. At the end, also if the stream is dropped before, it is replaced by a
    /// line that names the nodes. Write log lines through [`LogWriter`](crate::progress::LogWriter), so that they and the
    /// bar do not overwrite each other.
    #[cfg(feature = "progress")]
    pub fn progress(mut self) -> Self {
        self.state.tracker.get_or_insert_with(|| Box::new(Tracker::new())).show_bar();
        self
    }
}

impl<S: Stream<Item: Distributable>, Y: Yields> Drop for Distributed<S, Y> {
    fn drop(&mut self) {
        let total = self.input.is_none().then_some(self.state.pulled);
        self.state.end_progress(total);
    }
}

impl<S: Stream<Item: Distributable>, Y: Yields> Unpin for Distributed<S, Y> {}

impl<S: Stream<Item: Distributable>, Y: Yields> Stream for Distributed<S, Y> {
    type Item = Item<S::Item, Y>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.state.in_a_row >= YIELD_EVERY {
            self.state.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.poll_item(cx);
        self.state.in_a_row = if polled.is_ready() { self.state.in_a_row + 1 } else { 0 };
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self.input.as_ref().map_or((0, Some(0)), |input| input.size_hint());
        let pending = self.state.pending;
        (low.saturating_add(pending), high.and_then(|high| high.checked_add(pending)))
    }
}

impl<S: Stream<Item: Distributable>, Y: Yields> Distributed<S, Y> {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item<S::Item, Y>>> {
        let this = self;
        if this.state.tracker.as_mut().is_some_and(|tracker| tracker.is_due()) {
            this.state.report_progress(this.total());
        }
        if this.state.unpolled > 0 {
            this.state.unpolled -= 1;
            if let Some(item) = this.state.take_item() {
                return Poll::Ready(Some(item));
            }
        }
        loop {
            // Batches that have ended make room, and the room is filled before anything is yielded. Otherwise nodes
            // would wait for a consumer that has a thousand results to go through.
            while let Poll::Ready(Some(finished)) = this.state.in_flight.poll_next_unpin(cx) {
                this.state.on_finished(finished);
            }
            let before = this.state.in_flight.len();
            this.send(cx);
            this.state.unpolled = POLL_EVERY;
            if let Some(item) = this.state.take_item() {
                return Poll::Ready(Some(item));
            }
            if this.state.in_flight.len() > before {
                // New ones must be polled once, or they would not wake this task.
                continue;
            }
            if this.input.is_none() && this.state.next.is_none() && this.state.again.is_empty() {
                if this.state.in_flight.is_empty() {
                    let total = this.total();
                    this.state.report_progress(total);
                    this.state.end_progress(total);
                    // It has ended, whenever this is dropped.
                    this.state.span = None;
                    return this.state.poll_told(cx).map(|()| None);
                }
                if this.state.hedge {
                    let before = this.state.in_flight.len();
                    this.state.watch_late_calls(cx);
                    if this.state.in_flight.len() > before {
                        continue;
                    }
                }
            }
            if this.state.poll_nodes_changed(cx) {
                continue;
            }
            if let Some(tracker) = &this.state.tracker {
                tracker.wake_later(cx.waker());
            }
            this.state.unpolled = 0;
            return Poll::Pending;
        }
    }
}

impl<S: Stream<Item: Distributable>, Y: Yields> fmt::Debug for Distributed<S, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distributed")
            .field("pulled", &self.state.pulled)
            .field("pending", &self.state.pending)
            .field("batches_in_flight", &self.state.in_flight.len())
            .finish_non_exhaustive()
    }
}
