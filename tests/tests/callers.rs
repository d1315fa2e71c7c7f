//! Callers in other processes than the master's, over a connection.

use std::time::{Duration, Instant};

use distribution::{
    CallError, Cluster, Error, Master, Node,
    error::{CallStage, Execution},
    prelude::*,
};
use distribution_tests::{
    ProbeClient, ProbeServer, Prober, failure, meeting::Meeting, rogue_caller::rogue_master, soon, until,
};
use tokio::net::TcpListener;

async fn cluster(nodes: usize) -> (Master, Vec<Node>, Cluster) {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let mut started = Vec::new();
    for _ in 0..nodes {
        let node = Node::builder().slots(1).serve(ProbeServer::new(Prober)).spawn(master.local_addr()).await;
        started.push(node.expect("registers"));
    }
    let cluster = Cluster::connect(master.local_addr()).await.expect("connects");
    (master, started, cluster)
}

#[tokio::test]
async fn a_caller_elsewhere_gets_values_errors_and_panics() {
    let (_master, _nodes, cluster) = cluster(2).await;
    let probe = ProbeClient::new(&cluster);
    assert_eq!(probe.add(1, 2).await, Ok(3));
    assert_eq!(probe.divide(1, 0).await, Err(CallError::Handler("1 / 0 has no value".to_owned())));
    let error = failure(probe.panic("oh".to_owned()).await);
    assert!(matches!(&error, CallError::Panicked { message, .. } if message == "oh"), "{error:?}");
    assert!(!error.to_string().contains("127.0.0.1"), "it is not told addresses: {error}");
}

#[tokio::test]
async fn a_distributed_run_of_a_caller_elsewhere_travels_in_batches() {
    let (master, _nodes, cluster) = cluster(2).await;
    let probe = ProbeClient::new(&cluster);
    let sums: Vec<_> = (0..100_000).map(|n| probe.add(n, 1)).distribute().collect().await;
    assert!(sums.into_iter().zip(1..).all(|(sum, expected)| sum == Ok(expected)));
    assert_eq!(master.stats().answered, 100_000);
}

#[tokio::test]
async fn a_master_that_comes_back_gets_the_calls_that_waited() {
    let (master, nodes, cluster) = cluster(1).await;
    let probe = ProbeClient::new(&cluster);
    let addr = master.local_addr();
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    drop(master);
    until("the caller has noticed", || !cluster.is_connected()).await;
    let error = failure(soon("the call that ran", running).await);
    let CallError::Shutdown { execution, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*execution, Execution::MayHaveRun);
    let waiting = probe.add(2, 3).send();
    assert!(!waiting.is_finished());
    let master = Master::bind(addr).await.expect("binds");
    assert_eq!(soon("the call that waited", waiting).await, Ok(5));
    drop((guest, nodes, master));
}

#[tokio::test]
async fn a_master_that_stays_away_ends_the_calls_that_wait() {
    let (master, _nodes, first) = cluster(1).await;
    let cluster = Cluster::builder().reconnect_timeout(Duration::ZERO).connect(master.local_addr()).await;
    let cluster = cluster.expect("connects");
    drop(first);
    drop(master);
    until("the caller has noticed", || !cluster.is_connected()).await;
    let error = failure(soon("the call", ProbeClient::new(&cluster).add(1, 2)).await);
    assert!(matches!(&error, CallError::MasterLost { execution: Execution::NotRun, .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_address_ends_the_attempt_to_connect() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = socket.local_addr().expect("has one");
    drop(socket);
    let error = Cluster::builder().connect_timeout(Duration::from_millis(300)).connect(addr).await;
    let error = error.expect_err("nobody is there");
    assert!(matches!(error, Error::ConnectTimeout { .. }), "{error:?}");
    assert!(error.to_string().contains("the caller was not connected to the master"), "{error}");
}

#[tokio::test]
async fn the_calls_of_a_caller_that_leaves_are_cancelled_unless_they_are_detached() {
    let (master, _nodes, cluster) = cluster(2).await;
    let probe = ProbeClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    probe.hold(meeting.addr(), "detached".to_owned()).send().detach();
    let detached = meeting.guest("detached").await;
    let cancelled = probe.hold(meeting.addr(), "cancelled".to_owned()).send();
    let guest = meeting.guest("cancelled").await;
    cluster.close().await;
    let error = failure(soon("the call", cancelled).await);
    assert!(matches!(error, CallError::MasterLost { .. }), "{error:?}");
    soon("the cancelled handler notices", guest.gone()).await;
    detached.release().await;
    until("both have ended", || master.nodes().iter().all(|node| node.in_flight == 0)).await;
}

#[tokio::test]
async fn a_timeout_is_kept_while_the_master_is_away() {
    let (master, _nodes, cluster) = cluster(1).await;
    let probe = ProbeClient::new(&cluster);
    drop(master);
    until("the caller has noticed", || !cluster.is_connected()).await;
    let error = failure(soon("the call", probe.add(1, 2).timeout(Duration::from_millis(50))).await);
    assert!(matches!(&error, CallError::TimedOut { stage: CallStage::Queued, .. }), "{error:?}");
}

#[tokio::test]
async fn calls_that_are_detached_as_the_caller_closes_are_made() {
    let (master, _nodes, _) = cluster(1).await;
    let mut made = 0;
    // One, and more than are written at once.
    for count in [1, 5000, 1, 5000] {
        let cluster = Cluster::connect(master.local_addr()).await.expect("connects");
        let probe = ProbeClient::new(&cluster);
        (0..count).for_each(|n| probe.add(n, 2).send().detach());
        cluster.close().await;
        made += count as u64;
        until("the calls were made", || master.stats().answered == made).await;
    }
}

#[tokio::test]
async fn a_master_that_closes_each_connection_at_once_does_not_keep_connect_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("has one");
    tokio::spawn(async move {
        loop {
            drop(rogue_master(&listener, 7 << 40, Duration::from_secs(60)).await);
        }
    });
    let cluster = soon("the connection", Cluster::connect(addr)).await.expect("was connected once");
    drop(cluster);
}

#[tokio::test]
async fn a_peer_that_never_answers_is_not_waited_for_longer_than_was_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("has one");
    let began = Instant::now();
    let error =
        Cluster::builder().connect_timeout(Duration::from_millis(200)).connect(addr).await.expect_err("is silent");
    assert!(matches!(&error, Error::ConnectTimeout { .. }), "{error:?}");
    // A handshake alone may take ten seconds.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let silent = listener.accept().await.expect("was dialled");
    let connect = Cluster::builder().reconnect_timeout(Duration::from_millis(200)).connect(addr);
    let (cluster, master) = tokio::join!(connect, rogue_master(&listener, 7 << 40, Duration::from_secs(60)));
    let cluster = cluster.expect("connects");
    drop(master);
    until("the caller has noticed", || !cluster.is_connected()).await;
    let began = Instant::now();
    let error = failure(soon("the call", ProbeClient::new(&cluster).add(1, 2)).await);
    assert!(matches!(&error, CallError::MasterLost { execution: Execution::NotRun, .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test]
async fn calls_end_with_the_runtime_of_their_connection() {
    let (master, _nodes, _) = cluster(1).await;
    let mut meeting = Meeting::new().await;
    let addr = master.local_addr();
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("starts");
    let connected = other.spawn(Cluster::connect(addr)).await.expect("runs").expect("connects");
    let probe = ProbeClient::new(&connected);
    let call = probe.hold(meeting.addr(), "held".to_owned()).send();
    let _guest = meeting.guest("held").await;
    other.shutdown_background();
    for call in [call, probe.hold(meeting.addr(), "later".to_owned()).send()] {
        let error = failure(soon("the call", call).await);
        assert!(matches!(&error, CallError::MasterLost { reason, .. } if reason.contains("runtime")), "{error:?}");
    }
}

#[tokio::test]
async fn a_timeout_is_named_as_it_was_set() {
    let (_master, _nodes, cluster) = cluster(1).await;
    let mut meeting = Meeting::new().await;
    let set = Duration::from_millis(200);
    let call = ProbeClient::new(&cluster).hold(meeting.addr(), "held".to_owned()).timeout(set).send();
    let guest = meeting.guest("held").await;
    let error = failure(soon("the call", call).await);
    assert!(
        matches!(&error, CallError::TimedOut { timeout, stage: CallStage::Sent(_), .. } if *timeout == set),
        "{error:?}"
    );
    drop(guest);
}

#[tokio::test]
async fn the_limit_of_a_caller_is_for_each_value_of_a_batch() {
    let (master, _nodes, first) = cluster(1).await;
    drop(first);
    let cluster = Cluster::builder().max_message_size(64 * 1024).connect(master.local_addr()).await.expect("connects");
    let probe = ProbeClient::new(&cluster);
    let sizes = (0..100).map(|n| if n == 50 { 100_000 } else { 10_000 });
    let values: Vec<_> =
        soon("values", sizes.map(|size| probe.bytes(size)).distribute().batch(100).collect::<Vec<_>>()).await;
    for (n, value) in values.into_iter().enumerate() {
        match value {
            Ok(value) => assert_eq!((n != 50, value.len()), (true, 10_000), "{n}"),
            Err(error) => assert!(n == 50 && matches!(error, CallError::TooLarge { .. }), "{n}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn labels_that_no_node_can_have_end_their_call_and_not_the_connection() {
    let (_master, _nodes, cluster) = cluster(1).await;
    let probe = ProbeClient::new(&cluster);
    let many = (0..65).fold(probe.add(1, 2), |call, n| call.label(format!("l{n}"), "x"));
    for call in [many, probe.add(1, 2).label("zone", "x".repeat(5000))] {
        let error = failure(call.await);
        assert!(matches!(&error, CallError::InvalidOption { option, .. } if option == "label"), "{error:?}");
    }
    let long = std::iter::once(probe.add(1, 2).label("zone", "x".repeat(5000)));
    let values: Vec<_> = soon("the run", long.distribute().collect::<Vec<_>>()).await;
    assert!(matches!(&values[..], [Err(CallError::InvalidOption { .. })]), "{values:?}");
    assert!(cluster.is_connected());
    assert_eq!(probe.add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn any_number_of_calls_may_be_made_and_dropped_at_once() {
    let (_master, _nodes, cluster) = cluster(2).await;
    let probe = ProbeClient::new(&cluster);
    for _ in 0..3 {
        let mut calls: Vec<_> = (0..20_000).map(|n| probe.add(n, 1).send()).collect();
        let first = calls[0].id().expect("was sent");
        // Those that were not written yet leave gaps between the numbers of the others.
        let kept: Vec<_> = calls.drain(..).enumerate().filter(|(n, _)| n % 2 == 0).collect();
        for (n, call) in kept {
            assert_eq!(soon("an answer", call).await, Ok(n as i64 + 1));
        }
        let next = probe.add(1, 1).send().id().expect("was sent");
        assert_eq!(next.number(), first.number() + 20_000, "it is the same connection");
    }
}

#[tokio::test]
async fn many_large_results_come_at_once() {
    let (_master, _nodes, cluster) = cluster(3).await;
    let probe = ProbeClient::new(&cluster);
    let calls: Vec<_> = (0..12).map(|_| probe.bytes(30_000_000).send()).collect();
    for call in calls {
        assert_eq!(soon("a large result", call).await.map(|bytes| bytes.len()), Ok(30_000_000));
    }
}

#[tokio::test]
async fn large_calls_may_be_overtaken_by_any_number_of_small_ones() {
    let (_master, _nodes, cluster) = cluster(1).await;
    let probe = ProbeClient::new(&cluster);
    let calls: Vec<_> = (0..4400).map(|_| (probe.length(vec![0; 58_000]).send(), probe.add(1, 1).send())).collect();
    for (large, small) in calls {
        assert_eq!(soon("a large one", large).await, Ok(58_000));
        assert_eq!(soon("a small one", small).await, Ok(2));
    }
}

#[tokio::test]
async fn a_shutdown_lets_large_results_come_to_their_ends() {
    for _ in 0..10 {
        let (master, _nodes, cluster) = cluster(1).await;
        let call = ProbeClient::new(&cluster).bytes(20_000_000).send();
        // It runs, or its result is on the way.
        until("it has begun", || {
            let stats = master.stats();
            stats.in_flight > 0 || stats.answered > 0
        })
        .await;
        let (end, ()) = tokio::join!(soon("the call", call), master.shutdown());
        assert_eq!(end.map(|bytes| bytes.len()), Ok(20_000_000));
    }
}
