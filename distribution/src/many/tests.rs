//! Streams of calls over a caller that does what the test says, and over a master without nodes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use tokio::sync::watch;

use super::{DistributeIterator, Distributed, Progress};
use crate::{
    Caller, Master,
    config::ValueLimits,
    error::CallError,
    id::{CallId, NodeId, NodeIdentity},
    service::{
        Call, Method, RawClient,
        caller::{CallOptions, CallState, Capacity, Dispatcher, RawAnswer},
    },
    view::NodeInfo,
};

static METHOD: Method = Method::new("Test", 1, "method", "fn(u64) -> Bytes", false);
static OTHER: Method = Method::new("Test", 1, "other", "fn(u64) -> Bytes", false);

/// Takes calls and keeps them until the test ends them.
#[derive(Debug)]
struct Scripted {
    calls: Mutex<Vec<Arc<CallState>>>,
    slots: AtomicUsize,
    changed: watch::Sender<()>,
}

impl Dispatcher for Scripted {
    fn argument_limits(&self) -> ValueLimits {
        ValueLimits::of_bytes(1 << 20)
    }

    fn submit(&self, call: Arc<CallState>) {
        let mut calls = self.lock();
        call.set_id(CallId(calls.len() as u64));
        calls.push(call);
    }

    fn cancel(&self, _: &CallState) {}

    fn take_back_unserved(&self, _: &CallState) -> bool {
        false
    }

    fn capacity(&self, _: &'static Method, _: &CallOptions) -> Capacity {
        let slots = self.slots.load(Ordering::Relaxed);
        Capacity { nodes: 1, slots, free: slots, compute: false }
    }

    fn nodes_changed(&self) -> BoxFuture<'static, ()> {
        let mut changed = self.changed.subscribe();
        async move { changed.changed().await.unwrap_or(()) }.boxed()
    }

    fn serving(&self, _: &'static Method, _: &CallOptions) -> Vec<NodeInfo> {
        Vec::new()
    }
}

impl Scripted {
    fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { calls: Mutex::default(), slots: AtomicUsize::new(slots), changed: watch::channel(()).0 })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<CallState>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self) -> usize {
        self.lock().len()
    }

    /// Answers a call with this, unless it has an answer.
    fn answer(&self, call: usize, payload: &Bytes) {
        let node = NodeIdentity::new(NodeId::new(1, 1), "a", ([127, 0, 0, 1], 1).into());
        let (payload, run) = (payload.clone(), Duration::from_millis(1));
        let answer = RawAnswer { is_error: false, payload, count: 1, node, attempts: 1, elapsed: run, run };
        self.lock()[call].finish(Ok(answer));
    }
}

struct Through(Arc<Scripted>);

impl Caller for Through {
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.0) as _
    }
}

fn calls<C: Caller>(caller: &C, method: &'static Method, count: u64) -> impl Iterator<Item = Call<Bytes>> + use<C> {
    let stub = RawClient::new(caller);
    (0..count).map(move |number| stub.call(method, &(number,)))
}

/// A value of this many bytes, as it travels.
fn value(size: usize) -> Bytes {
    let mut encoder = crate::wire::codec::Encoder::new(ValueLimits::of_bytes(usize::MAX));
    encoder.put(&Bytes::from(vec![1; size])).expect("encodes");
    encoder.finish().expect("fits").into_bytes()
}

fn is_pending<S: futures::Stream + Unpin>(stream: &mut S) -> bool {
    stream.next().now_or_never().is_none()
}

/// Polls a stream without a tokio runtime, and woken by nothing but itself, until its hook has been told this.
fn told<I>(
    mut stream: Distributed<futures::stream::Iter<I>, Bytes>,
    wanted: impl Fn(&[Progress]) -> bool,
) -> Vec<Progress>
where
    I: Iterator<Item = Call<Bytes>>,
{
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    stream = stream.on_progress(move |progress| told.lock().expect("lives").push(progress.clone()));
    futures::executor::block_on(std::future::poll_fn(|cx| {
        assert!(stream.poll_next_unpin(cx).is_pending());
        if wanted(&seen.lock().expect("lives")) { Poll::Ready(()) } else { Poll::Pending }
    }));
    drop(stream);
    Arc::into_inner(seen).expect("the stream is gone").into_inner().expect("lives")
}

#[test]
fn one_stuck_call_of_an_ordered_stream_hides_none_of_those_that_are_done() {
    let scripted = Scripted::new(200);
    let mut stream = calls(&Through(Arc::clone(&scripted)), &METHOD, 200).distribute();
    assert!(is_pending(&mut stream));
    assert_eq!(scripted.sent(), 200);
    (1..200).for_each(|call| scripted.answer(call, &value(1)));
    let last = told(stream, |seen| !seen.is_empty()).pop().expect("was told");
    assert_eq!((last.done, last.running, last.waiting, last.total, last.failed), (199, 0, 1, Some(200), 0));
    assert!(last.oldest.is_some() && last.time_left.is_some());
    let nodes: Vec<_> = last.nodes.iter().map(|(node, calls)| (&*node.name, *calls)).collect();
    assert_eq!(nodes, [("a", 199)]);
}

#[test]
fn it_is_told_again_while_nothing_ends() {
    let scripted = Scripted::new(4);
    let mut stream = calls(&Through(Arc::clone(&scripted)), &METHOD, 10).distribute();
    assert!(is_pending(&mut stream));
    scripted.lock()[2].attempt.open(1);
    let seen = told(stream, |seen| seen.len() == 3);
    assert!(seen.iter().all(|progress| progress.waiting == 3), "one is with a node: {seen:?}");
    assert!(seen.iter().all(|progress| progress.done == 0 && progress.running == 1 && progress.time_left.is_none()));
    assert!(seen.is_sorted_by(|before, after| before.oldest < after.oldest), "{seen:?}");
}

#[test]
fn a_consumer_that_stops_finds_no_more_than_it_was_promised() {
    const MIB: usize = 1024 * 1024;
    let scripted = Scripted::new(1);
    let mut stream = calls(&Through(Arc::clone(&scripted)), &METHOD, 10_000).distribute().unordered();
    assert!(is_pending(&mut stream));
    // The first tells how large they are. Then there is room for a thousand at once.
    let value = value(4 * MIB);
    scripted.slots.store(1000, Ordering::Relaxed);
    scripted.changed.send_replace(());
    scripted.answer(0, &value);
    assert!(stream.next().now_or_never().is_some());
    assert!(is_pending(&mut stream));
    let mut answered = 1;
    for _ in 0..10 {
        // All that is under way comes back while the consumer is away, and it takes one of them.
        (answered..scripted.sent()).for_each(|call| scripted.answer(call, &value));
        answered = scripted.sent();
        assert!(stream.next().now_or_never().is_some());
        assert!(stream.held <= (64 + 4) * MIB, "{} MiB wait", stream.held / MIB);
    }
    assert!(answered > 16, "it went on all the same");
}

/// Ends all calls of a method that no node serves in about the time that one waits for a node.
#[tokio::test(start_paused = true)]
async fn what_no_node_serves_ends_at_once_when_one_has_waited() {
    const WAIT: Duration = Duration::from_secs(5);
    let master = Master::builder().no_node_timeout(WAIT).bind("127.0.0.1:0").await.expect("binds");
    let began = tokio::time::Instant::now();
    let mut of_two = calls(&master, &METHOD, 1000).zip(calls(&master, &OTHER, 1000));
    let mixed = std::iter::from_fn(|| of_two.next()).flat_map(|(one, other)| [one, other]);
    let results: Vec<_> = mixed.distribute().collect().await;
    assert_eq!(results.len(), 2000);
    for result in results {
        assert!(matches!(result, Err(CallError::NoNode { .. })), "{result:?}");
    }
    let took = began.elapsed();
    assert!(took < WAIT * 2, "2,000 calls to two methods took {took:?}");
    let stats = master.stats();
    assert_eq!((stats.queued, stats.in_flight), (0, 0));
}
