//! Tests of `.distribute()` over a scripted caller.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, Stream as _, future::BoxFuture};
use tokio::sync::watch;

use super::{DistributeIterator, Distributed, Progress, unserved::Unserved};
use crate::{
    Caller,
    config::ValueLimits,
    error::{CallError, CallStage, Execution},
    id::{CallId, NodeId, NodeIdentity},
    service::{
        Call, Method, RawClient,
        dispatcher::{Capacity, Dispatcher},
        method::MethodInfo,
        options::CallOptions,
        state::{CallFailure, CallState, RawAnswer},
    },
    view::NodeInfo,
};

static METHOD: Method = Method::new("Test", 1, "method", "fn(u64) -> Bytes", false);
static REPEATABLE: Method = Method::new("Test", 1, "repeatable", "fn(u64) -> Bytes", true);

/// A dispatcher that keeps calls until the test answers them.
#[derive(Debug)]
struct Scripted {
    calls: Mutex<Vec<Arc<CallState>>>,
    nodes: AtomicUsize,
    slots: AtomicUsize,
    /// How often it was asked for its capacity.
    looks: AtomicUsize,
    changed: watch::Sender<()>,
}

impl Dispatcher for Scripted {
    fn argument_limits(&self) -> ValueLimits {
        ValueLimits::of_bytes(1 << 20)
    }

    fn default_timeout(&self) -> Option<Duration> {
        None
    }

    fn runtime(&self) -> Option<tokio::runtime::Handle> {
        None
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

    fn capacity(&self, _: &MethodInfo, _: &CallOptions) -> Capacity {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let slots = self.slots.load(Ordering::Relaxed);
        let nodes = self.nodes.load(Ordering::Relaxed);
        Capacity { is_known: true, nodes, slots, free: slots, compute: false }
    }

    fn nodes_changed(&self) -> BoxFuture<'static, ()> {
        let mut changed = self.changed.subscribe();
        async move { changed.changed().await.unwrap_or(()) }.boxed()
    }

    fn detach(&self, _: &CallState) {}

    fn serving(&self, _: &MethodInfo, _: &CallOptions) -> BoxFuture<'static, Vec<NodeInfo>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

impl Scripted {
    fn new(slots: usize) -> Arc<Self> {
        let (nodes, slots, changed) = (AtomicUsize::new(1), AtomicUsize::new(slots), watch::channel(()).0);
        Arc::new(Self { calls: Mutex::default(), nodes, slots, looks: AtomicUsize::new(0), changed })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<CallState>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self) -> usize {
        self.lock().len()
    }

    /// Answers a call, unless it has an answer already.
    fn answer(&self, call: usize, payload: &Bytes) {
        let node = NodeIdentity::new(NodeId::new(1, 1), "a", ([127, 0, 0, 1], 1).into());
        let (payload, run) = (payload.clone(), Duration::from_millis(1));
        let answer = RawAnswer { is_error: false, payload, count: 1, node, attempts: 1, elapsed: run, run };
        self.lock()[call].finish(Ok(answer));
    }

    /// Ends a call with this error.
    fn fail(&self, call: usize, error: CallError) {
        self.lock()[call].finish(Err(CallFailure::after(Vec::new(), error)));
    }
}

struct ScriptedCaller(Arc<Scripted>);

impl Caller for ScriptedCaller {
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.0) as _
    }
}

fn calls<C: Caller>(caller: &C, method: &'static Method, count: u64) -> impl Iterator<Item = Call<Bytes>> + use<C> {
    let client = RawClient::new(caller);
    (0..count).map(move |number| client.call(method, &(number,)))
}

/// The encoding of a value of this many bytes.
fn value(size: usize) -> Bytes {
    let mut encoder = crate::wire::codec::Encoder::new(ValueLimits::of_bytes(usize::MAX));
    encoder.put(&Bytes::from(vec![1; size])).expect("encodes");
    encoder.finish().expect("fits").into_bytes()
}

fn is_pending<S: futures::Stream + Unpin>(stream: &mut S) -> bool {
    futures::StreamExt::next(stream).now_or_never().is_none()
}

/// Polls a stream until the reports to its hook are as wanted. There is no tokio runtime, and only the stream itself
/// wakes the task.
fn reports<I>(mut stream: Distributed<futures::stream::Iter<I>>, wanted: impl Fn(&[Progress]) -> bool) -> Vec<Progress>
where
    I: Iterator<Item = Call<Bytes>>,
{
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&seen);
    stream = stream.on_progress(move |progress| reported.lock().expect("lives").push(progress.clone()));
    futures::executor::block_on(std::future::poll_fn(|cx| {
        assert!(Pin::new(&mut stream).poll_next(cx).is_pending());
        if wanted(&seen.lock().expect("lives")) { Poll::Ready(()) } else { Poll::Pending }
    }));
    drop(stream);
    Arc::into_inner(seen).expect("the stream is gone").into_inner().expect("lives")
}

#[test]
fn progress_counts_calls_whose_results_wait_behind_a_stuck_call() {
    let scripted = Scripted::new(200);
    let mut stream = calls(&ScriptedCaller(Arc::clone(&scripted)), &METHOD, 200).distribute();
    assert!(is_pending(&mut stream));
    assert_eq!(scripted.sent(), 200);
    (1..200).for_each(|call| scripted.answer(call, &value(1)));
    let last = reports(stream, |seen| !seen.is_empty()).pop().expect("a report");
    assert_eq!((last.done, last.running, last.waiting, last.total, last.failed), (199, 0, 1, Some(200), 0));
    assert!(last.oldest.is_some() && last.time_left.is_some());
    let nodes: Vec<_> = last.nodes.iter().map(|(node, calls)| (&*node.name, *calls)).collect();
    assert_eq!(nodes, [("a", 199)]);
}

#[test]
fn progress_is_reported_while_no_call_ends() {
    let scripted = Scripted::new(4);
    let mut stream = calls(&ScriptedCaller(Arc::clone(&scripted)), &METHOD, 10).distribute();
    assert!(is_pending(&mut stream));
    scripted.lock()[2].attempt.open(1);
    let seen = reports(stream, |seen| seen.len() == 3);
    assert!(seen.iter().all(|progress| progress.waiting == 3), "a node has the fourth: {seen:?}");
    assert!(seen.iter().all(|progress| progress.done == 0 && progress.running == 1 && progress.time_left.is_none()));
    assert!(seen.is_sorted_by(|before, after| before.oldest < after.oldest), "{seen:?}");
}

#[test]
fn a_consumer_that_stops_holds_at_most_the_documented_bytes() {
    const MIB: usize = 1024 * 1024;
    let scripted = Scripted::new(1);
    let mut stream = calls(&ScriptedCaller(Arc::clone(&scripted)), &METHOD, 10_000).distribute().unordered();
    assert!(is_pending(&mut stream));
    // The first result shows how large results are. Then a thousand slots become free.
    let value = value(4 * MIB);
    scripted.slots.store(1000, Ordering::Relaxed);
    scripted.changed.send_replace(());
    scripted.answer(0, &value);
    assert!(stream.next().now_or_never().is_some());
    assert!(is_pending(&mut stream));
    let mut answered = 1;
    for _ in 0..10 {
        // All calls in flight are answered while the consumer is away; then it takes one result.
        (answered..scripted.sent()).for_each(|call| scripted.answer(call, &value));
        answered = scripted.sent();
        assert!(stream.next().now_or_never().is_some());
        assert!(stream.state.held <= (64 + 4) * MIB, "{} MiB wait", stream.state.held / MIB);
    }
    assert!(answered > 16, "the stream goes on");
}

#[test]
fn results_that_arrive_in_any_order_keep_the_keys_of_their_calls() {
    let scripted = Scripted::new(100);
    let keyed = calls(&ScriptedCaller(Arc::clone(&scripted)), &METHOD, 100).enumerate();
    let mut results = keyed.map(|(number, call)| (format!("key {number}"), call)).distribute().unordered();
    assert!(is_pending(&mut results));
    let mut keys = Vec::new();
    for call in (0..100).rev() {
        scripted.answer(call, &value(call));
        let (key, result) = results.next().now_or_never().flatten().expect("is there");
        assert_eq!(result.map(|bytes| bytes.len()), Ok(call));
        keys.push(key);
    }
    assert_eq!(keys, (0..100).rev().map(|number| format!("key {number}")).collect::<Vec<_>>());
    assert!(results.state.keys.is_empty(), "no key is kept longer than its call");
    assert_eq!(results.next().now_or_never(), Some(None));
}

#[test]
fn the_error_of_a_keyed_call_has_its_key() {
    let scripted = Scripted::new(10);
    let keyed = calls(&ScriptedCaller(Arc::clone(&scripted)), &METHOD, 2).zip(["a", "b"]);
    let mut results = keyed.map(|(call, key)| (key, call)).distribute();
    assert!(is_pending(&mut results));
    scripted.answer(0, &value(1));
    assert_eq!(results.try_next().now_or_never(), Some(Ok(Some(("a", Bytes::from_static(&[1]))))));
    scripted.answer(1, &Bytes::new());
    let error = results.try_next().now_or_never().expect("is there").expect_err("cannot be decoded");
    assert!(matches!(error.error, CallError::Decode { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the call with key \"b\": the reply of call 000000-1 of Test.method could not be decoded"
    );
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(error.key, "b");
}

#[test]
fn answers_say_how_values_came_about() {
    let scripted = Scripted::new(10);
    let keyed = calls(&ScriptedCaller(Arc::clone(&scripted)), &METHOD, 2).enumerate();
    // Settings that were made before are kept.
    let mut answers = keyed.distribute().unordered().in_flight(2).answers();
    assert!(is_pending(&mut answers));
    scripted.answer(1, &value(1));
    let (key, answer) = answers.next().now_or_never().flatten().expect("is there");
    let answer = answer.expect("a value");
    assert_eq!((key, answer.value.len(), &*answer.node.name, answer.attempts), (1, 1, "a", 1));
    assert_eq!(answer.run, Duration::from_millis(1));
}

#[tokio::test]
async fn a_hedged_call_of_a_method_that_is_not_idempotent_fails_and_is_not_sent() {
    let scripted = Scripted::new(10);
    let caller = ScriptedCaller(Arc::clone(&scripted));
    let both = calls(&caller, &METHOD, 2).zip(calls(&caller, &REPEATABLE, 2)).flat_map(|(one, other)| [one, other]);
    let mut results = both.distribute().hedge().unordered();
    for _ in 0..2 {
        let error = results.next().now_or_never().flatten().expect("at once").expect_err("is refused");
        let CallError::NotIdempotent { option, .. } = &error else { panic!("{error:?}") };
        assert_eq!((&**option, error.execution()), ("hedge", Execution::NotRun));
    }
    assert!(is_pending(&mut results));
    assert_eq!(scripted.sent(), 2);
    assert!(scripted.lock().iter().all(|call| call.method.name() == REPEATABLE.info().name()));
}

#[test]
fn what_a_master_does_not_serve_is_known_until_its_own_nodes_change() {
    let [one, other] = [(); 2].map(|()| Scripted::new(1));
    other.nodes.store(0, Ordering::Relaxed);
    let calls_of = |scripted, count| calls(&ScriptedCaller(Arc::clone(scripted)), &METHOD, count);
    // One call after the other: the first at one master, the rest at the other.
    let mut results = calls_of(&one, 1).chain(calls_of(&other, 4)).distribute().in_flight(1);
    assert!(is_pending(&mut results));
    one.answer(0, &value(0));
    assert_eq!(results.next().now_or_never(), Some(Some(Ok(Bytes::new()))));
    assert!(is_pending(&mut results));
    let error =
        CallError::NoNode { call: METHOD.info().name().into(), wanted: "none".to_owned(), waited: Duration::ZERO };
    other.fail(0, error);
    assert!(matches!(results.next().now_or_never(), Some(Some(Err(CallError::NoNode { .. })))));
    assert!(matches!(results.next().now_or_never(), Some(Some(Err(CallError::NoNode { .. })))), "at once");
    one.changed.send_replace(());
    assert!(matches!(results.next().now_or_never(), Some(Some(Err(CallError::NoNode { .. })))), "of another master");
    assert_eq!(other.sent(), 1, "the others were not sent");
    other.changed.send_replace(());
    assert!(is_pending(&mut results));
    assert_eq!(other.sent(), 2, "the new nodes may serve it");
}

#[test]
fn labels_that_no_node_has_are_forgotten_once_there_are_too_many() {
    let dispatcher: Arc<dyn Dispatcher> = Scripted::new(1);
    let labelled = |number: usize| CallOptions {
        labels: Some([("job".to_owned(), number.to_string())].into()),
        ..CallOptions::default()
    };
    let method = METHOD.info();
    let error = || CallError::NoNode { call: method.name().into(), wanted: "none".to_owned(), waited: Duration::ZERO };
    let mut unserved = Unserved::default();
    (0..1000).for_each(|number| unserved.note(&dispatcher, method, &labelled(number), error()));
    let known: Vec<_> =
        (0..1000).filter(|number| unserved.find(&dispatcher, method, &labelled(*number)).is_some()).collect();
    assert_eq!(known, (1000 - 256..1000).collect::<Vec<_>>(), "the newest");
}

/// Calls that fail at once, without end, and how many of them were pulled.
fn refused(pulled: &AtomicUsize) -> impl Iterator<Item = Call<Bytes>> + use<'_> {
    let call = calls(&ScriptedCaller(Scripted::new(1)), &METHOD, 1).next().expect("one").attempts(2);
    std::iter::repeat_with(move || {
        pulled.fetch_add(1, Ordering::Relaxed);
        call.again()
    })
}

#[tokio::test]
async fn calls_that_fail_at_once_let_other_tasks_run() {
    let pulled = AtomicUsize::new(0);
    let mut results = refused(&pulled).distribute();
    let other = tokio::spawn(async {});
    for _ in 0..10_000 {
        let result = results.next().await;
        assert!(matches!(result, Some(Err(CallError::NotIdempotent { .. }))), "{result:?}");
    }
    assert!(other.is_finished());
}

#[test]
fn a_poll_pulls_a_bounded_number_of_calls_that_fail_at_once() {
    let pulled = AtomicUsize::new(0);
    let mut results = refused(&pulled).distribute().in_flight(1_000_000);
    assert!(matches!(results.next().now_or_never(), Some(Some(Err(_)))));
    assert!(pulled.load(Ordering::Relaxed) <= 2048, "{} were pulled", pulled.load(Ordering::Relaxed));
}

/// The timeout of hedged calls.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A hedged stream whose first call is answered, and whose second has just been sent a second time, as the third call.
async fn hedged(scripted: &Arc<Scripted>) -> Distributed<impl futures::Stream<Item = Call<Bytes>> + use<>> {
    let calls = calls(&ScriptedCaller(Arc::clone(scripted)), &REPEATABLE, 2).map(|call| call.timeout(TIMEOUT));
    let mut results = calls.distribute().hedge();
    assert!(is_pending(&mut results));
    scripted.answer(0, &value(0));
    assert_eq!(results.next().await, Some(Ok(Bytes::new())));
    tokio::time::timeout(Duration::from_millis(400), results.next()).await.expect_err("nothing has ended");
    assert_eq!(scripted.sent(), 3, "the second call is late");
    results
}

#[tokio::test(start_paused = true)]
async fn a_hedge_has_the_timeout_of_the_call_that_it_hedges_and_knows_how_long_that_has_taken() {
    let scripted = Scripted::new(10);
    let began = tokio::time::Instant::now();
    let results = hedged(&scripted).await;
    let second = Arc::clone(&scripted.lock()[2]);
    let hedged = second.submit_options.hedge_of.expect("is a hedge");
    assert_eq!((hedged.id, second.options.timeout), (CallId(1), Some(TIMEOUT)));
    assert!(hedged.elapsed > Duration::from_millis(250) && hedged.elapsed <= began.elapsed(), "{hedged:?}");
    drop(results);
}

#[tokio::test(start_paused = true)]
async fn a_hedged_call_that_fails_says_what_its_attempts_ran() {
    let call = || REPEATABLE.info().name().into();
    let node = || NodeIdentity::new(NodeId::new(1, 1), "a", ([127, 0, 0, 1], 1).into());
    let timed_out = |stage| CallError::TimedOut { call: call(), timeout: Duration::from_secs(1), stage };
    let waited = || timed_out(CallStage::Queued);
    let sent = || timed_out(CallStage::Sent(node()));
    let panicked = || CallError::Panicked { call: call(), node: node(), message: "oh".to_owned() };
    let no_node = || CallError::NoNode { call: call(), wanted: "none".to_owned(), waited: Duration::ZERO };
    for (first, second, reported) in [
        (sent(), waited(), sent()),
        (waited(), sent(), sent()),
        (panicked(), sent(), panicked()),
        (sent(), panicked(), panicked()),
        (no_node(), waited(), waited()),
    ] {
        let scripted = Scripted::new(10);
        let mut results = hedged(&scripted).await;
        scripted.fail(1, first.clone());
        assert!(is_pending(&mut results), "the other attempt goes on");
        scripted.fail(2, second.clone());
        let error = results.next().await.expect("ends").expect_err("failed");
        assert_eq!(error.with_id(None), reported.with_id(None), "after {first:?} and {second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn late_calls_are_not_looked_for_each_time_a_call_ends() {
    const CALLS: usize = 200;
    let scripted = Scripted::new(CALLS);
    // Each has its own label, so that a look at one is seen at the dispatcher once the nodes have changed.
    let calls = calls(&ScriptedCaller(Arc::clone(&scripted)), &REPEATABLE, CALLS as u64).enumerate();
    let calls = calls.map(|(number, call)| call.label("job", number.to_string()));
    let mut results = calls.distribute().hedge().unordered();
    assert!(is_pending(&mut results));
    assert_eq!(scripted.sent(), CALLS, "all are in flight");
    tokio::time::advance(Duration::from_secs(1)).await;
    let before = scripted.looks.load(Ordering::Relaxed);
    for call in 0..CALLS {
        scripted.changed.send_replace(());
        scripted.answer(call, &value(0));
        assert_eq!(results.next().now_or_never(), Some(Some(Ok(Bytes::new()))));
        assert!(call + 1 == CALLS || is_pending(&mut results));
        tokio::task::yield_now().await;
    }
    let looks = scripted.looks.load(Ordering::Relaxed) - before;
    assert!((CALLS..CALLS * 10).contains(&looks), "{looks} looks at the nodes for {CALLS} calls");
}

#[test]
#[should_panic(expected = "`in_flight` cannot be 0")]
fn in_flight_of_zero_panics() {
    let _ = std::iter::empty::<Call<Bytes>>().distribute().in_flight(0);
}

#[test]
#[should_panic(expected = "`batch` cannot be 0")]
fn batch_of_zero_panics() {
    let _ = std::iter::empty::<Call<Bytes>>().distribute().batch(0);
}

#[test]
#[should_panic(expected = "after the stream was polled")]
fn answers_of_a_stream_that_was_polled_panics() {
    let mut stream = calls(&ScriptedCaller(Scripted::new(1)), &METHOD, 2).distribute();
    assert!(is_pending(&mut stream));
    let _ = stream.answers();
}
