//! Many calls at once: `.distribute()` and `.broadcast()`, over nodes in this process and in others.

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use distribution::{CallError, LocalCluster, Master, Node, error::Execution, prelude::*};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober,
    meeting::{self, Meeting},
    over_tcp_tls_and_from_elsewhere,
    process::Process,
    soon,
    transport::Transport,
    until,
};
use futures::StreamExt;

over_tcp_tls_and_from_elsewhere! {
    results_come_in_the_order_of_the_calls_for_any_batch_size,
    a_failed_call_does_not_affect_the_others,
    the_stream_pulls_no_more_calls_than_in_flight_allows,
    dropping_the_stream_cancels_its_calls,
    calls_of_a_stream_are_sent_before_the_next_one_arrives,
    results_of_several_methods_and_of_calls_that_cannot_be_sent_come_in_order,
    each_call_of_a_batch_has_its_own_id,
    a_batch_whose_values_are_large_together_is_answered,
    a_value_that_fits_alone_is_answered_behind_others_in_a_batch,
    calls_that_wait_behind_a_long_call_of_their_batch_run_on_another_node,
    only_the_call_that_takes_too_long_ends_at_the_timeout_of_the_master,
    hedging_sends_a_late_call_to_an_idle_node_as_well,
    calls_that_are_lost_with_a_node_are_repeated_only_if_they_are_idempotent,
    a_call_that_kills_its_nodes_does_not_affect_the_others,
    without_a_node_each_call_ends_as_no_node,
    a_broadcast_runs_once_on_each_node,
    calls_with_a_label_run_only_on_nodes_with_that_label,
    keys_stay_on_their_nodes_when_another_node_leaves,
    async_calls_that_were_queued_as_batches_are_answered,
    a_node_that_joins_gets_calls_of_a_run_in_progress,
    the_number_of_large_results_that_wait_is_bounded,
    an_input_of_the_largest_length_does_not_overflow,
    calls_that_wait_for_a_node_do_not_delay_the_others_of_their_stream,
}

/// A service that counts how often its handlers run.
#[distribution::service]
trait Tally {
    /// Doubles.
    fn double(&self, number: u64) -> u64;
    /// Doubles, and may be repeated.
    #[rpc(idempotent)]
    fn double_again(&self, number: u64) -> u64;
    /// Doubles a number that is not divisible by ten, panics if it is divisible by a hundred, and fails otherwise.
    fn picky(&self, number: u64) -> Result<u64, String>;
    /// Doubles without a slot.
    async fn double_async(&self, number: u64) -> u64;
    /// The name of the node it runs on.
    fn place(&self) -> String;
    /// This many bytes.
    fn bytes(&self, count: u64) -> Vec<u8>;
    /// The id of the call.
    fn id(&self) -> String;
    /// Doubles; the call for the number `held` waits until the test releases it.
    #[rpc(idempotent)]
    fn held_at(&self, number: u64, held: u64, at: SocketAddr) -> u64;
    /// Doubles; the call for the number `deadly` ends the process.
    #[rpc(idempotent)]
    fn deadly_at(&self, number: u64, deadly: u64) -> u64;
}

#[derive(Clone, Default)]
struct Counter {
    name: String,
    runs: Arc<AtomicU64>,
}

impl Counter {
    fn count(&self, number: u64) -> u64 {
        self.runs.fetch_add(1, Ordering::Relaxed);
        number * 2
    }
}

impl Tally for Counter {
    fn double(&self, number: u64) -> u64 {
        self.count(number)
    }

    fn double_again(&self, number: u64) -> u64 {
        self.count(number)
    }

    fn picky(&self, number: u64) -> Result<u64, String> {
        match number {
            _ if number % 100 == 0 => panic!("{number} is too round"),
            _ if number % 10 == 0 => Err(format!("{number} is round")),
            _ => Ok(self.count(number)),
        }
    }

    async fn double_async(&self, number: u64) -> u64 {
        self.count(number)
    }

    fn place(&self) -> String {
        self.name.clone()
    }

    fn bytes(&self, count: u64) -> Vec<u8> {
        vec![1; count as usize]
    }

    fn id(&self) -> String {
        distribution::current().id().to_string()
    }

    fn held_at(&self, number: u64, held: u64, at: SocketAddr) -> u64 {
        if number == held {
            meeting::hold(at, "held");
        }
        self.count(number)
    }

    fn deadly_at(&self, number: u64, deadly: u64) -> u64 {
        if number == deadly {
            std::process::abort();
        }
        self.count(number)
    }
}

struct Cluster {
    master: Master,
    nodes: Vec<Node>,
    runs: Arc<AtomicU64>,
    tally: TallyClient,
}

async fn cluster(transport: &Transport, names: &[&str], slots: usize) -> Cluster {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let runs = Arc::new(AtomicU64::new(0));
    let mut nodes = Vec::new();
    for name in names {
        let counter = Counter { name: (*name).to_owned(), runs: Arc::clone(&runs) };
        let node = transport.node().serve(TallyServer::new(counter)).name(*name).slots(slots);
        nodes.push(node.label("name", *name).spawn(master.local_addr()).await.expect("registers"));
    }
    let tally = TallyClient::new(&*transport.caller(&master).await);
    Cluster { master, nodes, runs, tally }
}

async fn results_come_in_the_order_of_the_calls_for_any_batch_size(transport: &Transport) {
    let cluster = cluster(transport, &["a", "b"], 2).await;
    let tally = &cluster.tally;
    let expected: Vec<u64> = (0..5000).map(|number| number * 2).collect();
    let calls = || (0..5000).map(|number| tally.double(number));
    for batch in [None, Some(1), Some(7), Some(10_000)] {
        let mut distributed = calls().distribute();
        if let Some(calls) = batch {
            distributed = distributed.batch(calls);
        }
        let results: Result<Vec<u64>, _> = soon("the results", distributed.try_collect()).await;
        assert_eq!(results.as_ref(), Ok(&expected), "{batch:?}");
    }
    let asynchronous = (0..5000).map(|number| tally.double_async(number)).distribute();
    assert_eq!(soon("the results", asynchronous.try_collect()).await, Ok(expected.clone()));
    let mut unordered: Vec<u64> = calls().distribute().unordered().try_collect().await.expect("all are answered");
    unordered.sort_unstable();
    assert_eq!(unordered, expected);
    assert_eq!(cluster.runs.load(Ordering::Relaxed), 30_000, "each ran once");
    let stats = cluster.master.stats();
    assert_eq!((stats.answered, stats.failed, stats.in_flight, stats.queued), (30_000, 0, 0, 0));
    assert_eq!(cluster.master.nodes().iter().map(|node| node.answered).sum::<u64>(), 30_000);
}

async fn a_failed_call_does_not_affect_the_others(transport: &Transport) {
    let cluster = cluster(transport, &["a"], 1).await;
    for batch in [1, 64] {
        let calls = (1..=300).map(|number| cluster.tally.picky(number));
        let results: Vec<_> = soon("the results", calls.distribute().batch(batch).collect::<Vec<_>>()).await;
        assert_eq!(results.len(), 300);
        for (number, result) in (1..).zip(results) {
            match result {
                Err(CallError::Panicked { message, .. }) => {
                    assert!(number % 100 == 0 && message == format!("{number} is too round"));
                }
                Err(CallError::Handler(reason)) => {
                    assert!(number % 10 == 0 && number % 100 != 0 && reason == format!("{number} is round"));
                }
                other => assert_eq!(other, Ok(number * 2)),
            }
        }
    }
}

async fn the_stream_pulls_no_more_calls_than_in_flight_allows(transport: &Transport) {
    let cluster = cluster(transport, &["a"], 1).await;
    let pulled = AtomicUsize::new(0);
    let endless = (0u64..).inspect(|_| {
        pulled.fetch_add(1, Ordering::Relaxed);
    });
    let mut results = endless.map(|number| cluster.tally.double(number)).distribute().in_flight(100);
    for number in 0..1000 {
        assert_eq!(results.next().await, Some(Ok(number * 2)));
        let ahead = pulled.load(Ordering::Relaxed) as u64 - number;
        assert!(ahead <= 101, "{ahead} calls ahead of their consumer");
    }
    drop(results);
    until("all calls are cancelled", || cluster.master.stats().in_flight + cluster.master.stats().queued == 0).await;
}

async fn dropping_the_stream_cancels_its_calls(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let node = transport.node().serve(ProbeServer::new(Prober)).slots(2).spawn(master.local_addr());
    let _node = node.await.expect("registers");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let mut meeting = Meeting::new().await;
    let addr = meeting.addr();
    let mut results = (0..10).map(|number| probe.hold(addr, number.to_string())).distribute();
    assert!(futures::poll!(results.next()).is_pending());
    let both = async { (meeting.next().await, meeting.next().await) };
    let (first, second) = match transport.is_in_process() {
        true => both.await,
        // A caller elsewhere asks for the nodes first, and then has to be polled again.
        false => tokio::select! {
            guests = both => guests,
            result = results.next() => panic!("nothing was released: {result:?}"),
        },
    };
    drop(results);
    // The handlers see that their calls are cancelled.
    first.gone().await;
    second.gone().await;
    assert_eq!(probe.add(1, 1).await, Ok(2));
    assert!(meeting.is_empty(), "the others were never started");
}

async fn calls_of_a_stream_are_sent_before_the_next_one_arrives(transport: &Transport) {
    let cluster = cluster(transport, &["a"], 1).await;
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let tally = cluster.tally.clone();
    let mut results = receiver.map(move |number: u64| tally.double(number)).distribute();
    for number in 0..10 {
        sender.unbounded_send(number).expect("is received");
        // Although it is not known whether more calls follow.
        assert_eq!(soon("a result", results.next()).await, Some(Ok(number * 2)));
    }
    assert!(matches!(futures::poll!(results.next()), Poll::Pending));
    drop(sender);
    assert_eq!(soon("the end", results.next()).await, None);
}

async fn results_of_several_methods_and_of_calls_that_cannot_be_sent_come_in_order(transport: &Transport) {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .master(transport.master().max_message_size(20_000))
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let probe = ProbeClient::new(&*transport.caller(cluster.master()).await);
    let calls = (0..100).map(|number| match number % 3 {
        0 => probe.length(vec![0; number]),
        1 => probe.length(vec![0; 30_000]),
        _ => probe.length(vec![0; number]).timeout(Duration::from_secs(60)),
    });
    let results: Vec<_> = soon("the results", calls.distribute().collect::<Vec<_>>()).await;
    for (number, result) in results.into_iter().enumerate() {
        match number % 3 {
            1 => assert!(matches!(result, Err(CallError::TooLarge { .. })), "{number}: {result:?}"),
            _ => assert_eq!(result, Ok(number as u64)),
        }
    }
}

async fn each_call_of_a_batch_has_its_own_id(transport: &Transport) {
    let cluster = cluster(transport, &["a"], 1).await;
    let ids: Vec<String> =
        (0..500).map(|_| cluster.tally.id()).distribute().batch(50).try_collect().await.expect("all are answered");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 500);
}

async fn a_batch_whose_values_are_large_together_is_answered(transport: &Transport) {
    let cluster = cluster(transport, &["a"], 1).await;
    // Forty megabytes in one batch. They would fit into one message, but a node ends a batch long before.
    let calls = (0..40).map(|_| cluster.tally.bytes(1_000_000));
    let results: Vec<Vec<u8>> = soon("the results", calls.distribute().batch(40).try_collect()).await.expect("come");
    assert!(results.len() == 40 && results.iter().all(|bytes| bytes.len() == 1_000_000));
}

async fn a_value_that_fits_alone_is_answered_behind_others_in_a_batch(transport: &Transport) {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .master(transport.master().max_message_size(65_536))
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let probe = ProbeClient::new(&cluster);
    // The limit is 55,296 bytes for a value. Together, those that fit do not.
    let calls = [25_000, 55_000, 25_000, 55_293, 25_000, 55_294].map(|count| probe.bytes(count));
    let results = soon("the results", calls.into_iter().distribute().batch(2).collect::<Vec<_>>()).await;
    let lengths: Vec<_> = results.iter().map(|result| result.as_ref().map(Vec::len).ok()).collect();
    assert_eq!(lengths, [Some(25_000), Some(55_000), Some(25_000), Some(55_293), Some(25_000), None]);
    let Some(Err(CallError::TooLarge { size, limit, .. })) = results.last() else { panic!("{results:?}") };
    assert_eq!((*size, *limit), (55_297, 55_296), "it is too large by itself");
    // Arguments that do not fit together.
    let calls = [30_000, 40_000, 55_000].map(|count| probe.length(vec![0; count]));
    let lengths = soon("the results", calls.into_iter().distribute().batch(3).try_collect::<Vec<_>>()).await;
    assert_eq!(lengths, Ok(vec![30_000, 40_000, 55_000]));
}

async fn calls_that_wait_behind_a_long_call_of_their_batch_run_on_another_node(transport: &Transport) {
    let cluster = cluster(transport, &["a", "b"], 1).await;
    let mut meeting = Meeting::new().await;
    let at = meeting.addr();
    let mut results = (0..64).map(|number| cluster.tally.held_at(number, 3, at)).distribute().batch(64).unordered();
    let mut behind = Vec::new();
    // The calls behind it are given back and end while it is held; those before it end with it.
    while behind.len() < 60 {
        behind.push(soon("a result", results.next()).await.expect("a result").expect("is answered") / 2);
    }
    assert!(behind.iter().all(|number| *number > 3), "{behind:?}");
    meeting.guest("held").await.release().await;
    let rest: Vec<u64> = soon("the rest", results.try_collect()).await.expect("are answered");
    assert_eq!(rest, [0, 2, 4, 6]);
    assert_eq!(cluster.runs.load(Ordering::Relaxed), 64, "each ran once");
}

async fn only_the_call_that_takes_too_long_ends_at_the_timeout_of_the_master(transport: &Transport) {
    let counter = Counter::default();
    let cluster = LocalCluster::builder()
        .nodes(2)
        .master(transport.master().default_timeout(Duration::from_secs(2)))
        .serve(move || TallyServer::new(counter.clone()))
        .start()
        .await
        .expect("starts");
    let tally = TallyClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let at = meeting.addr();
    let calls = (0..8).map(|number| tally.held_at(number, 3, at)).distribute().batch(8);
    let results = soon("the results", calls.collect::<Vec<_>>()).await;
    let _held = meeting.guest("held").await;
    for (number, result) in (0..).zip(results) {
        match number {
            3 => assert!(matches!(result, Err(CallError::TimedOut { .. })), "{result:?}"),
            _ => assert_eq!(result, Ok(number * 2), "it had ended long before"),
        }
    }
}

async fn hedging_sends_a_late_call_to_an_idle_node_as_well(transport: &Transport) {
    let cluster = cluster(transport, &["a", "b"], 1).await;
    let slow = AtomicU64::new(0);
    let mut meeting = Meeting::new().await;
    let master = &cluster.master;
    let mut probes = Vec::new();
    for name in ["c", "d"] {
        let node = transport.node().serve(ProbeServer::new(Prober)).name(name).slots(1).spawn(master.local_addr());
        probes.push(node.await.expect("registers"));
    }
    let probe = ProbeClient::new(&*transport.caller(master).await);
    let addr = meeting.addr();
    let run = async {
        let calls = (0..3).map(|number| probe.hold_again(addr, number.to_string()));
        calls.distribute().hedge().try_collect::<Vec<_>>().await
    };
    let meet = async {
        meeting.guest("0").await.release().await;
        meeting.guest("1").await.release().await;
        let first = meeting.guest("2").await;
        let second = meeting.guest("2").await;
        second.release().await;
        slow.fetch_add(1, Ordering::Relaxed);
        // The first attempt is cancelled.
        first.gone().await;
    };
    let (results, ()) = soon("the results", async { tokio::join!(run, meet) }).await;
    assert_eq!(results, Ok(vec![Held::Released; 3]));
    assert_eq!(slow.into_inner(), 1);
}

async fn calls_that_are_lost_with_a_node_are_repeated_only_if_they_are_idempotent(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let addr = master.local_addr().to_string();
    let program = Path::new(env!("CARGO_BIN_EXE_probe"));
    let start = |name: &str| Process::start_over(transport, program, &["node", &addr, name, "1"]);
    let mut nodes = vec![start("a"), start("b")];
    soon("the nodes", master.wait_for_nodes(2)).await;
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let mut meeting = Meeting::new().await;
    let at = meeting.addr();

    // Two batches, each of which runs its first call when its node is killed.
    let calls = (0..8).map(|number| probe.hold(at, number.to_string())).distribute().batch(4);
    let run = calls.collect::<Vec<_>>();
    let kill = async {
        // Kept, because dropping a guest releases its handler.
        let _guests = [meeting.guest("0").await, meeting.guest("4").await];
        for node in &mut nodes {
            node.kill().await;
        }
    };
    let (results, ()) = soon("the results", async { tokio::join!(run, kill) }).await;
    assert_eq!(results.len(), 8);
    for result in results {
        let error = result.expect_err("nothing was released");
        assert!(matches!(error, CallError::NodeLost { .. } | CallError::NoNode { .. }), "{error:?}");
    }

    let mut nodes = vec![start("c"), start("d")];
    soon("the nodes", master.wait_for_nodes(2)).await;
    let calls = (0..8).map(|number| probe.hold_again(at, number.to_string())).distribute().batch(4);
    let run = calls.collect::<Vec<_>>();
    let kill = async {
        let first = meeting.guest("0").await;
        nodes[0].kill().await;
        nodes[1].kill().await;
        first.gone().await;
        nodes = vec![start("e"), start("f")];
        // Handlers of the killed nodes may be among them.
        loop {
            meeting.next().await.release_if_there().await;
        }
    };
    let results = soon("the results", async {
        tokio::select! {
            results = run => results,
            () = kill => unreachable!("it never ends"),
        }
    })
    .await;
    assert_eq!(results.into_iter().collect::<Result<Vec<_>, _>>(), Ok(vec![Held::Released; 8]));
}

async fn a_call_that_kills_its_nodes_does_not_affect_the_others(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let addr = master.local_addr().to_string();
    let program = std::env::current_exe().expect("this test");
    let start = |number: usize| {
        let mut command = tokio::process::Command::new(&program);
        command.args(["--exact", "serves_as_a_node", "--nocapture"]).env("TALLY_NODE", format!("{addr} n{number}"));
        command.env_remove("DISTRIBUTION_TOKEN").envs(transport.environment());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.kill_on_drop(true).spawn().expect("starts")
    };
    let mut nodes: Vec<_> = (0..6).map(start).collect();
    soon("the nodes", master.wait_for_nodes(6)).await;
    let tally = TallyClient::new(&*transport.caller(&master).await);
    let calls = (0..100).map(|number| tally.deadly_at(number, 42)).distribute().batch(20);
    let results: Vec<_> = soon("the results", calls.collect::<Vec<_>>()).await;
    for (number, result) in results.into_iter().enumerate() {
        match (number, result) {
            (42, Err(CallError::Poisoned { nodes, .. })) => {
                assert_eq!(nodes.len(), 4, "the node of its batch, and three that ran it alone")
            }
            (number, result) => assert_eq!(result, Ok(2 * number as u64)),
        }
    }
    assert!((2..=3).contains(&master.nodes().len()), "three or four of six died");
    for node in &mut nodes {
        let _ = node.kill().await;
    }
}

/// Not a test, but the node process of the test above.
#[tokio::test]
async fn serves_as_a_node() {
    let Ok(place) = std::env::var("TALLY_NODE") else { return };
    let (addr, name) = place.split_once(' ').expect("address and name");
    let node = Node::builder().serve(TallyServer::new(Counter::default())).name(name).slots(1);
    node.run(addr).await.expect("serves");
}

async fn without_a_node_each_call_ends_as_no_node(transport: &Transport) {
    let master = transport.master().no_node_timeout(Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    let tally = TallyClient::new(&*transport.caller(&master).await);
    let results: Vec<_> = (0..1000).map(|number| tally.double(number)).distribute().collect().await;
    assert_eq!(results.len(), 1000);
    assert!(results.iter().all(|result| matches!(result, Err(CallError::NoNode { .. }))));
}

async fn a_broadcast_runs_once_on_each_node(transport: &Transport) {
    let cluster = cluster(transport, &["a", "b", "c"], 1).await;
    let results = soon("the results", cluster.tally.place().broadcast()).await;
    let names: Vec<_> = results.into_iter().map(|(node, result)| (node.name.to_string(), result)).collect();
    assert_eq!(names, ["a", "b", "c"].map(|name| (name.to_owned(), Ok(name.to_owned()))));
    let some = soon("the results", cluster.tally.place().label("name", "b").broadcast()).await;
    assert_eq!(some.len(), 1);
    assert!(soon("nothing", cluster.tally.place().label("name", "x").broadcast()).await.is_empty());
}

async fn calls_with_a_label_run_only_on_nodes_with_that_label(transport: &Transport) {
    let master =
        transport.master().no_node_timeout(Duration::from_millis(50)).bind("127.0.0.1:0").await.expect("binds");
    let start = |name: &'static str, zone: &'static str| {
        let counter = Counter { name: name.to_owned(), ..Counter::default() };
        let node =
            transport.node().serve(TallyServer::new(counter)).name(name).label("zone", zone).label("disk", "ssd");
        node.spawn(master.local_addr())
    };
    let _nodes = [start("a", "eu").await.expect("registers"), start("b", "us").await.expect("registers")];
    let tally = TallyClient::new(&*transport.caller(&master).await);
    for _ in 0..20 {
        assert_eq!(tally.place().label("zone", "us").await, Ok("b".to_owned()));
        assert_eq!(tally.place().label("zone", "eu").label("disk", "ssd").await, Ok("a".to_owned()));
    }
    let many = (0..50).map(|_| tally.place().label("zone", "eu")).distribute();
    assert_eq!(many.try_collect::<Vec<_>>().await, Ok(vec!["a".to_owned(); 50]));
    let error = tally.place().label("zone", "mars").await.expect_err("there is none");
    assert_eq!(error.execution(), Execution::NotRun);
    let text = error.to_string();
    assert!(text.contains("none of the 2 nodes that serve it has the label zone=mars"), "{text}");
}

async fn keys_stay_on_their_nodes_when_another_node_leaves(transport: &Transport) {
    let mut cluster = cluster(transport, &["a", "b", "c", "d"], 1).await;
    let place = |tally: TallyClient| async move {
        let calls = (0..200).map(|key| tally.place().affinity(&key));
        calls.distribute().batch(10).try_collect::<Vec<String>>().await.expect("all are answered")
    };
    let before = place(cluster.tally.clone()).await;
    assert_eq!(place(cluster.tally.clone()).await, before);
    for name in ["a", "b", "c", "d"] {
        let keys = before.iter().filter(|other| *other == name).count();
        assert!((20..90).contains(&keys), "{name} has {keys} of 200 keys");
    }
    let gone = cluster.nodes.remove(0);
    gone.drain().await;
    let after = place(cluster.tally.clone()).await;
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "a", "a key moved from {before}, which is still registered, to {after}");
    }
    assert!(!after.contains(&"a".to_owned()));
}

async fn async_calls_that_were_queued_as_batches_are_answered(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let tally = TallyClient::new(&*transport.caller(&master).await);
    let calls = (0..500).map(|number| tally.double_async(number)).distribute().batch(100);
    let late = async {
        // Some are queued by now, before it is known that the method is async.
        until("calls are queued", || master.stats().queued > 0).await;
        let node = transport.node().serve(TallyServer::new(Counter::default()));
        node.spawn(master.local_addr()).await.expect("registers")
    };
    let (results, _node) = soon("the results", async { tokio::join!(calls.try_collect::<Vec<_>>(), late) }).await;
    assert_eq!(results, Ok((0..500).map(|number| number * 2).collect::<Vec<u64>>()));
}

async fn a_node_that_joins_gets_calls_of_a_run_in_progress(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let node = |slots| transport.node().serve(ProbeServer::new(Prober)).slots(slots).spawn(master.local_addr());
    let _first = node(1).await.expect("registers");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let mut meeting = Meeting::new().await;
    let addr = meeting.addr();
    let run = (0..40).map(|number| probe.hold(addr, number.to_string())).distribute().try_collect::<Vec<_>>();
    let join = async {
        let mut guests = vec![meeting.next().await];
        let second = node(20).await.expect("registers");
        // Far more calls than were in flight for the first node, and none of them has ended.
        while guests.len() < 21 {
            guests.push(meeting.next().await);
        }
        for guest in guests {
            guest.release().await;
        }
        for _ in 21..40 {
            meeting.next().await.release().await;
        }
        second
    };
    let (results, _second) = soon("the results", async { tokio::join!(run, join) }).await;
    assert_eq!(results, Ok(vec![Held::Released; 40]));
}

async fn the_number_of_large_results_that_wait_is_bounded(transport: &Transport) {
    let cluster = cluster(transport, &["a"], 2).await;
    let pulled = AtomicUsize::new(0);
    let endless = (0u64..).inspect(|_| {
        pulled.fetch_add(1, Ordering::Relaxed);
    });
    let mut results = endless.map(|_| cluster.tally.bytes(1_000_000)).distribute().unordered();
    for taken in 1..=100 {
        assert_eq!(results.next().await.map(|result| result.map(|bytes| bytes.len())), Some(Ok(1_000_000)));
        let ahead = pulled.load(Ordering::Relaxed) - taken;
        assert!(ahead < 200, "{ahead} results of a megabyte each ahead of their consumer");
    }
}

async fn an_input_of_the_largest_length_does_not_overflow(transport: &Transport) {
    let cluster = cluster(transport, &["a", "b"], 1).await;
    let tally = &cluster.tally;
    let mut meeting = Meeting::new().await;
    let at = meeting.addr();
    // Its length is exactly usize::MAX, and the end of one batch is given back.
    let mut results = (0..u64::MAX).map(|number| tally.held_at(number, 3, at)).distribute().batch(64);
    let take = async {
        for number in 0..1000 {
            assert_eq!(soon("a result", results.next()).await, Some(Ok(number * 2)));
        }
    };
    let release = async {
        let guest = meeting.guest("held").await;
        // More than the three calls before it and the whole batch of the other node: the end of its batch was given back.
        until("the other node has run them", || cluster.runs.load(Ordering::Relaxed) >= 128).await;
        guest.release().await;
    };
    soon("the results", async { tokio::join!(take, release) }).await;
}

async fn calls_that_wait_for_a_node_do_not_delay_the_others_of_their_stream(transport: &Transport) {
    let master =
        transport.master().no_node_timeout(Duration::from_secs(3600)).bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let node = transport.node().serve(ProbeServer::new(Prober)).spawn(master.local_addr());
    let _node = node.await.expect("registers");
    let calls = (0..400).map(|number| {
        let call = probe.add(number, 1);
        if number % 10 == 0 { call.label("tpu", "yes") } else { call }
    });
    let mut results = calls.distribute().unordered();
    for _ in 0..360 {
        soon("a result", results.next()).await.expect("the stream goes on").expect("answers");
    }
    assert!(futures::FutureExt::now_or_never(results.next()).is_none(), "the others wait for a node");
    let tpu = transport.node().serve(ProbeServer::new(Prober)).label("tpu", "yes").spawn(master.local_addr());
    let _tpu = tpu.await.expect("registers");
    let rest = soon("the rest", results.collect::<Vec<_>>()).await;
    assert!(rest.len() == 40 && rest.iter().all(Result::is_ok), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_no_node_serves_fail_together_after_one_wait() {
    const NO_NODE_TIMEOUT: Duration = Duration::from_secs(5);
    let master = Master::builder().no_node_timeout(NO_NODE_TIMEOUT).bind("127.0.0.1:0").await.expect("binds");
    let tally = TallyClient::new(&master);
    let started = tokio::time::Instant::now();
    let calls = (0..1000).flat_map(|number| [tally.double(number), tally.double_again(number)]);
    let results: Vec<_> = calls.distribute().collect().await;
    assert_eq!(results.len(), 2000);
    for result in results {
        assert!(matches!(result, Err(CallError::NoNode { .. })), "{result:?}");
    }
    // In paused time, so that this does not depend on the speed of the machine.
    assert!(started.elapsed() < NO_NODE_TIMEOUT * 2, "2,000 calls to two methods took {:?}", started.elapsed());
    let stats = master.stats();
    assert_eq!((stats.queued, stats.in_flight), (0, 0));
}
