//! What the promises say about queues, fairness and restarts, where one process or a short run can show it.

use std::time::Duration;

use distribution::{
    CallError, LocalCluster, Master, Node, NodeEvent,
    error::{Execution, QueueUnit},
};
use distribution_tests::{Held, ProbeClient, ProbeServer, Prober, failure, meeting::Meeting, soon};
use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{io::AsyncReadExt, net::TcpStream, runtime::Runtime};

/// A second service, to compete with `Probe`.
#[distribution::service]
trait Rival {
    /// Adds.
    fn add(&self, a: i64, b: i64) -> i64;
}

impl Rival for Prober {
    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

#[tokio::test]
async fn a_service_with_a_long_queue_does_not_starve_another() {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .slots(1)
        .serve(|| ProbeServer::new(Prober))
        .serve(|| RivalServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let (probe, rival) = (ProbeClient::new(&cluster), RivalClient::new(&cluster));
    let mut meeting = Meeting::new().await;
    let mut calls: Vec<_> = (0..50).map(|at| probe.hold(meeting.addr(), at.to_string()).send()).collect();
    let first = meeting.next().await;
    let other = rival.add(1, 2).send();
    first.release().await;
    // It is next although 49 calls were there before it: the handlers after it are still held.
    assert_eq!(soon("the other service's call", other).await, Ok(3));
    assert_eq!(cluster.master().stats().answered, 2);
    calls.truncate(1);
    assert_eq!(calls.remove(0).await, Ok(Held::Released));
}

#[tokio::test]
async fn short_calls_that_are_stuck_behind_a_long_one_are_run_elsewhere() {
    let master = Master::builder().heartbeat(Duration::from_millis(100)).bind("127.0.0.1:0").await.expect("binds");
    let node =
        |name: &str| Node::builder().serve(ProbeServer::new(Prober)).name(name).slots(1).spawn(master.local_addr());
    let _slow = node("slow").await.expect("registers");
    let probe = ProbeClient::new(&master);
    let mut meeting = Meeting::new().await;
    // `hold` is known to be short by what it has been so far, and then is not.
    for _ in 0..40 {
        let call = probe.hold(meeting.addr(), "short".to_owned()).send();
        meeting.guest("short").await.release().await;
        assert_eq!(call.await, Ok(Held::Released));
    }
    for _ in 0..40 {
        assert_eq!(probe.add(1, 1).await, Ok(2));
    }
    let long = probe.hold(meeting.addr(), "long".to_owned()).send();
    let guest = meeting.guest("long").await;
    let stuck: Vec<_> = (0..5).map(|number| probe.add(number, 1).send()).collect();
    let _quick = node("quick").await.expect("registers");
    assert_eq!(soon("the calls behind the long one", join_all(stuck)).await, [1, 2, 3, 4, 5].map(Ok));
    guest.release().await;
    assert_eq!(long.await, Ok(Held::Released));
}

#[tokio::test]
async fn async_handlers_that_block_hold_up_no_others() {
    let master = Master::builder().heartbeat(Duration::from_millis(100)).bind("127.0.0.1:0").await.expect("binds");
    let (theirs, node) = node_of_its_own(&master).await;
    let probe = ProbeClient::new(&master);
    let mut meeting = Meeting::new().await;
    let mut events = master.events();
    assert!(matches!(events.next().await, Some(NodeEvent::Present { .. })));
    let mut blocked = Vec::new();
    // Each blocks a thread, the first of them one of the connection's own. As many as leave the node's runtime some.
    for number in 0..4 {
        let call = probe.block(meeting.addr(), number.to_string()).send();
        blocked.push((call, meeting.guest(&number.to_string()).await));
        let others = join_all((0..50).map(|number| probe.add_async(number, 1).send()));
        for (number, result) in (0..).zip(soon("the others", others).await) {
            assert_eq!(result, Ok(number + 1));
        }
        assert_eq!(soon("a compute call", probe.add(1, 1)).await, Ok(2));
    }
    for (call, guest) in blocked {
        guest.release().await;
        assert_eq!(soon("a blocked call", call).await, Ok(Held::Released));
    }
    assert_eq!(master.nodes().first().map(|info| info.id), Some(node.id()));
    assert!(events.next().now_or_never().is_none(), "the node was never suspect");
    theirs.shutdown_background();
}

#[tokio::test]
async fn an_async_handler_that_blocks_keeps_no_other_answer_back() {
    // A new node each time: of a method that has blocked once it knows.
    for _ in 0..10 {
        let master = Master::builder().heartbeat(Duration::from_millis(100)).bind("127.0.0.1:0").await.expect("binds");
        let (theirs, _node) = node_of_its_own(&master).await;
        let probe = ProbeClient::new(&master);
        let mut meeting = Meeting::new().await;
        let mut events = master.events();
        assert!(matches!(events.next().await, Some(NodeEvent::Present { .. })));
        // Made together, so that they arrive together: one that waits, many that are done at once, and one
        // that blocks behind them.
        let waiting = probe.wait(meeting.addr(), "waits".to_owned()).send();
        let quick: Vec<_> = (0..100).map(|number| probe.add_async(number, 1).send()).collect();
        let blocked = probe.block(meeting.addr(), "blocks".to_owned()).send();
        let guest = meeting.guest("blocks").await;
        for (number, result) in (0..).zip(soon("the quick ones", join_all(quick)).await) {
            assert_eq!(result, Ok(number + 1));
        }
        meeting.guest("waits").await.release().await;
        assert_eq!(soon("the one that waits", waiting).await, Ok(Held::Released));
        guest.release().await;
        assert_eq!(soon("the one that blocks", blocked).await, Ok(Held::Released));
        assert!(events.next().now_or_never().is_none(), "the node was never suspect");
        theirs.shutdown_background();
    }
}

/// A node whose handlers run on a runtime of their own, as in a process of its own: one that blocks a thread
/// of the master's runtime may hold up the master.
async fn node_of_its_own(master: &Master) -> (Runtime, Node) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(6).enable_all().build().expect("starts");
    let addr = master.local_addr();
    let node = runtime.spawn(async move { Node::spawn(addr, ProbeServer::new(Prober)).await });
    let node = node.await.expect("runs").expect("registers");
    (runtime, node)
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes_too() {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .slots(1)
        .master(Master::builder().max_queued_bytes(10_000))
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let probe = ProbeClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let queued = probe.length(vec![0; 9_000]).send();
    let error = failure(probe.length(vec![0; 2_000]).await);
    assert!(matches!(error, CallError::Overloaded { unit: QueueUnit::Bytes, limit: 10_000, .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::NotRun);
    guest.release().await;
    assert_eq!(running.await, Ok(Held::Released));
    assert_eq!(queued.await, Ok(9_000));
}

#[tokio::test]
async fn unauthenticated_connections_keep_no_node_from_registering() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let mut connections = Vec::new();
    for _ in 0..300 {
        connections.push(TcpStream::connect(master.local_addr()).await.expect("connects"));
    }
    let node = soon("a node", Node::spawn(master.local_addr(), ProbeServer::new(Prober))).await.expect("registers");
    assert_eq!(ProbeClient::new(&master).add(1, 1).answer().await.expect("answers").node, node.id());
    // All but those that have the places of one address were told to come again, and closed.
    let closed = connections.into_iter().map(|mut connection| async move {
        let _ = connection.read_to_end(&mut Vec::new()).await;
    });
    let closed = closed.collect::<FuturesUnordered<_>>().take(268).count();
    assert_eq!(soon("the others to be closed", closed).await, 268);
}

#[tokio::test]
async fn ten_thousand_calls_to_a_busy_master_cost_their_callers_and_nobody_else() {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .slots(1)
        .master(Master::builder().max_queued_calls(100))
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let probe = ProbeClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let pending: Vec<_> = (0..10_000).map(|number| probe.add(number, 1).send()).collect();
    assert_eq!(cluster.master().stats().queued, 100);
    guest.release().await;
    assert_eq!(running.await, Ok(Held::Released));
    let results = soon("all calls to end", join_all(pending)).await;
    let answered = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(answered, 100);
    assert!(
        results
            .iter()
            .flat_map(|result| result.as_ref().err())
            .all(|error| matches!(error, CallError::Overloaded { .. }))
    );
}
