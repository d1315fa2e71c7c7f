//! The state of a `Distributed`, apart from its input.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture, stream::FuturesUnordered};

use super::{
    batch::{Batch, Destination},
    distributable::{Distributable, Keys, Yields},
    in_flight::{Hedge, InFlight},
    node_watch::NodeWatches,
    progress::Progress,
    refusals::Refusals,
    reorder::ReorderBuffer,
    sizing::Sizing,
    tracker::{Outstanding, Tracker},
    unserved::Unserved,
};
use crate::{
    error::CallError,
    service::{options::SubmitOptions, spans},
};

/// A result of at least this many bytes is large: few of them are held, and they stop more calls from being pulled.
const LARGE: usize = 4096;

/// The calls and batches that the master is told of, because they were sent first and have not ended.
const STRAGGLERS: usize = 5;

/// The end of a run waits no longer than this for a master that does not answer.
const LONGEST_TELLING: Duration = Duration::from_secs(1);

/// What is yielded for a call.
pub(super) type Item<C, Y> = <C as Distributable>::Item<<Y as Yields>::Of<<C as Distributable>::Value>>;

/// Calls on their way from the input to the consumer.
pub(super) struct RunState<C: Distributable, Y: Yields> {
    /// Calls pulled so far.
    pub(super) pulled: u64,
    /// Calls pulled and not yielded yet.
    pub(super) pending: usize,
    /// A call that was pulled and did not fit into the batch before. It has no number yet.
    pub(super) next: Option<Call<C>>,
    /// The keys of pending calls that have not ended.
    pub(super) keys: C::Keys,
    /// Batches to send again, before anything new is pulled.
    pub(super) again: VecDeque<Again<C>>,
    /// Calls in `again`.
    pub(super) again_calls: usize,
    /// Where the newest batch was sent.
    pub(super) last: Option<Destination<C::Value, C::Error>>,
    /// Ready when the master has heard how the run ended.
    pub(super) told: Option<BoxFuture<'static, ()>>,
    pub(super) node_watches: NodeWatches,
    pub(super) in_flight: FuturesUnordered<InFlight<C::Value, C::Error>>,
    /// Bytes of arguments in flight.
    pub(super) bytes: usize,
    /// Items to yield, each with the bytes of its reply.
    pub(super) results: ReorderBuffer<(Item<C, Y>, usize)>,
    /// Bytes of replies whose items are not yielded yet.
    pub(super) held: usize,
    pub(super) sizing: Sizing,
    pub(super) refusals: Refusals,
    pub(super) hedge: bool,
    /// When to look for late calls again.
    pub(super) hedge_timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// How many items may be yielded before the in-flight batches are polled again.
    pub(super) unpolled: u32,
    /// How many items were yielded since the task that polls has last waited.
    pub(super) in_a_row: u32,
    /// Methods that no node serves.
    pub(super) unserved: Unserved,
    /// The span of the run, once a batch was sent. Those of its batches are below it.
    pub(super) span: Option<spans::RunSpan>,
    /// Measures progress, if the user has asked for it.
    pub(super) tracker: Option<Box<Tracker>>,
}

/// A batch to send again, with what is known of its earlier attempts.
type Again<C> = (Batch<<C as Distributable>::Value, <C as Distributable>::Error>, SubmitOptions);

type Call<C> = crate::service::Call<<C as Distributable>::Value, <C as Distributable>::Error>;

impl<C: Distributable, Y: Yields> RunState<C, Y> {
    pub(super) fn new() -> Self {
        Self {
            pulled: 0,
            pending: 0,
            next: None,
            keys: C::Keys::default(),
            again: VecDeque::new(),
            again_calls: 0,
            last: None,
            told: None,
            node_watches: NodeWatches::default(),
            in_flight: FuturesUnordered::new(),
            bytes: 0,
            results: ReorderBuffer::ordered(),
            held: 0,
            sizing: Sizing::default(),
            refusals: Refusals::default(),
            hedge: false,
            hedge_timer: None,
            unpolled: 0,
            in_a_row: 0,
            unserved: Unserved::default(),
            span: None,
            tracker: None,
        }
    }

    /// Sends a batch.
    pub(super) fn send_batch(
        &mut self,
        batch: Batch<C::Value, C::Error>,
        submit_options: SubmitOptions,
        hedge: Option<Arc<Hedge>>,
    ) {
        let (method, labels) = (&batch.destination.method, &batch.destination.options.labels);
        self.sizing.note_sent(method, labels, batch.count as usize);
        let span = self.span.get_or_insert_with(spans::of_run);
        let (destination, first, state) = span.in_scope(|| batch.into_state(submit_options));
        self.bytes += state.payload.len();
        self.in_flight.push(InFlight::send(destination, first, state, hedge));
    }

    /// Adds the result of a call to those that are to be yielded. `size` is the size of its reply in bytes.
    pub(super) fn keep(&mut self, call: u64, result: Result<Y::Of<C::Value>, CallError<C::Error>>, size: usize) {
        if let Some(tracker) = &mut self.tracker {
            tracker.note_result(result.is_ok());
        }
        // Each call has its key until its one result is here.
        let Some(key) = self.keys.remove(call) else { return };
        self.held += size;
        self.results.push(call, (C::item(key, result), size));
    }

    /// The next item to yield, if it is there.
    pub(super) fn take_item(&mut self) -> Option<Item<C, Y>> {
        let (item, size) = self.results.pop()?;
        self.held -= size;
        self.pending -= 1;
        if size >= LARGE {
            self.unpolled = 0;
        }
        Some(item)
    }

    /// Whether nodes of any master have joined or left since the last look. What is known of the nodes of that master is
    /// then forgotten.
    pub(super) fn poll_nodes_changed(&mut self, cx: &mut Context<'_>) -> bool {
        let (sizing, unserved) = (&mut self.sizing, &mut self.unserved);
        let mut changed = false;
        self.node_watches.poll(cx, |dispatcher| {
            changed = true;
            sizing.forget_nodes();
            unserved.forget(dispatcher);
        });
        changed
    }

    /// The progress at this moment, for this many calls in all.
    pub(super) fn progress(&self, tracker: &Tracker, total: Option<u64>) -> Progress {
        let mut outstanding = Outstanding::default();
        for batch in self.in_flight.iter().filter_map(InFlight::batch) {
            let is_sent = batch.state.attempt.is_out();
            let calls = if is_sent { &mut outstanding.running } else { &mut outstanding.waiting };
            *calls += u64::from(batch.counted);
            let started = batch.started.into_std();
            let oldest = outstanding.oldest.map_or(started, |oldest: Instant| oldest.min(started));
            outstanding.oldest = Some(oldest);
        }
        tracker.progress(Instant::now(), outstanding, total)
    }

    /// Reports progress to the hooks and the bar.
    pub(super) fn report_progress(&mut self, total: Option<u64>) {
        let Some(mut tracker) = self.tracker.take() else { return };
        let progress = self.progress(&tracker, total);
        tracker.report(&progress);
        self.tell_master(&mut tracker, &progress, false);
        self.tracker = Some(tracker);
    }

    /// Tells the master of a run that has a name.
    fn tell_master(&self, tracker: &mut Tracker, progress: &Progress, is_over: bool) {
        let now = Instant::now();
        // Before anything was sent there is nobody to tell.
        let Some(last) = self.last.as_ref().filter(|_| tracker.is_master_due(now, is_over)) else { return };
        let mut oldest: Vec<_> = match is_over {
            true => Vec::new(),
            false => self.in_flight.iter().filter_map(InFlight::batch).collect(),
        };
        if oldest.len() > STRAGGLERS {
            oldest.select_nth_unstable_by_key(STRAGGLERS, |batch| batch.started);
            oldest.truncate(STRAGGLERS);
        }
        oldest.sort_unstable_by_key(|batch| batch.started);
        let oldest = oldest.into_iter().filter_map(|batch| batch.state.id()).map(|id| id.0).collect();
        if let Some(report) = tracker.run_report(now, progress, oldest, is_over) {
            last.dispatcher.report_run(report);
        }
    }

    /// Waits until the master has heard of what it was told, if this run has a name: a program that ends now would take the last
    /// report with it, and the master would list a run that has finished as lost.
    pub(super) fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(told) = &mut self.told else { return Poll::Ready(()) };
        ready!(told.poll_unpin(cx));
        self.told = None;
        Poll::Ready(())
    }

    /// Stops measuring progress. The bar is replaced by a line that says how far the run came, and the master is told.
    pub(super) fn end_progress(&mut self, total: Option<u64>) {
        let Some(mut tracker) = self.tracker.take() else { return };
        let progress = self.progress(&tracker, total);
        self.tell_master(&mut tracker, &progress, true);
        if let Some(last) = self.last.as_ref().filter(|_| tracker.is_named()) {
            // What the master is told travels ahead of a question, and so it has come when the answer is here.
            let asked = last.dispatcher.serving(&last.method, &last.options);
            let told = async { _ = tokio::time::timeout(LONGEST_TELLING, asked).await };
            self.told = Some(Box::pin(told));
        }
        #[cfg(feature = "progress")]
        tracker.end(&progress);
    }
}
