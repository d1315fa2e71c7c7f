//! Calls over a cluster in one process: every way in which one can end.

use std::time::Duration;

use distribution::prelude::*;
use distribution::{
    CallError, LocalCluster, Master, NodeEvent,
    error::{CallStage, Execution, Part},
};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober, failure, meeting::Meeting, over_tcp_tls_and_from_elsewhere, soon,
    transport::Transport, until,
};
use futures::{StreamExt, future::join_all};

over_tcp_tls_and_from_elsewhere! {
    values_and_errors_of_both_kinds_of_methods_come_back,
    an_answer_names_its_node_and_attempts,
    a_panic_comes_back_with_its_message_and_the_node_goes_on,
    nothing_is_sent_until_a_call_is_awaited_or_spawned,
    compute_calls_take_slots_and_async_calls_do_not,
    the_least_loaded_node_gets_the_call,
    a_node_that_joins_late_gets_the_waiting_calls_at_once,
    a_timeout_ends_a_call_wherever_it_is,
    dropping_a_call_cancels_it,
    a_cancelled_compute_call_keeps_its_slot_until_it_returns,
    a_detached_call_runs_to_its_end,
    an_error_names_its_call,
    an_option_that_may_repeat_a_call_is_refused_where_the_method_is_not_idempotent,
    a_handle_has_the_calls_number_and_tells_whether_it_has_ended,
    waiting_for_a_call_blocks_the_thread_until_it_has_ended,
    what_is_too_large_fails_that_call_only,
    a_node_with_a_smaller_limit_gets_nothing_larger,
    large_values_travel_whole,
    without_a_node_a_call_waits_and_then_says_what_is_missing,
    a_call_goes_only_to_nodes_with_its_signature,
    several_services_live_on_one_node_and_none_is_served_twice,
    a_full_queue_says_so_at_once,
    a_call_on_a_node_that_is_not_there_says_so,
    a_shutdown_lets_calls_in_flight_end_and_turns_others_away,
    a_dropped_master_ends_its_calls,
    a_drained_node_finishes_what_it_has,
    a_handler_knows_its_call,
    an_async_handler_that_blocks_costs_no_heartbeat,
}

async fn cluster(transport: &Transport, nodes: usize, slots: usize) -> (LocalCluster, ProbeClient) {
    let cluster = LocalCluster::builder()
        .nodes(nodes)
        .slots(slots)
        .master(transport.master())
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await;
    let cluster = cluster.expect("starts");
    let probe = ProbeClient::new(&*transport.caller(cluster.master()).await);
    (cluster, probe)
}

/// Waits until the master has no call anywhere.
async fn quiet(master: &Master) {
    until("all calls have ended on the nodes", || master.stats().in_flight + master.stats().queued == 0).await;
}

async fn values_and_errors_of_both_kinds_of_methods_come_back(transport: &Transport) {
    let (_cluster, probe) = cluster(transport, 2, 1).await;
    assert_eq!(probe.add(2, 3).await, Ok(5));
    assert_eq!(probe.add_async(2, 3).await, Ok(5));
    assert_eq!(probe.divide(6, 3).await, Ok(2));
    assert_eq!(probe.divide_async(6, 3).await, Ok(2));
    let error = CallError::Handler("1 / 0 has no value".to_owned());
    assert_eq!(error.execution(), Execution::Ran);
    assert_eq!(probe.divide(1, 0).await, Err(error.clone()));
    assert_eq!(probe.divide_async(1, 0).await, Err(error));
}

async fn an_answer_names_its_node_and_attempts(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 3, 1).await;
    for node in cluster.nodes() {
        let answer = probe.add(1, 1).on(node.id()).answer().await.expect("answers");
        assert_eq!(answer.value, 2);
        assert_eq!(answer.node, node.id());
        assert_eq!(&*answer.node.name, node.name());
        assert_eq!(answer.attempts, 1);
        assert!(answer.run <= answer.elapsed);
    }
}

async fn a_panic_comes_back_with_its_message_and_the_node_goes_on(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    for call in [probe.panic("out of cheese".to_owned()), probe.panic_async("out of cheese".to_owned())] {
        let error = failure(soon("the panic to come back", call.into_future()).await);
        let CallError::Panicked { message, node, .. } = &error else { panic!("{error:?}") };
        assert_eq!((message.as_str(), node.id), ("out of cheese", cluster.nodes()[0].id()));
        assert_eq!(error.execution(), Execution::Ran);
        assert_eq!(probe.add(1, 1).await, Ok(2));
    }
    // A message that would not fit into a frame's header is cut.
    let error = failure(probe.panic("x".repeat(1_000_000)).await);
    assert!(error.to_string().len() < 10_000);
    assert_eq!(probe.add(1, 1).await, Ok(2));
}

use std::future::IntoFuture;

async fn nothing_is_sent_until_a_call_is_awaited_or_spawned(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    let call = probe.hold(meeting.addr(), "later".to_owned());
    assert_eq!(probe.add(1, 1).await, Ok(2));
    assert!(meeting.is_empty());
    assert_eq!(cluster.master().nodes()[0].answered, 1);
    let pending = call.send();
    meeting.guest("later").await.release().await;
    assert_eq!(pending.await, Ok(Held::Released));
}

async fn compute_calls_take_slots_and_async_calls_do_not(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 2).await;
    let mut meeting = Meeting::new().await;
    let holding: Vec<_> = (0..4).map(|at| probe.hold(meeting.addr(), format!("hold {at}")).send()).collect();
    let first = [meeting.next().await, meeting.next().await];
    // Both slots are taken: two calls wait at the master, and not on the node.
    assert_eq!(cluster.master().stats().queued, 2);
    assert_eq!(cluster.master().nodes()[0].in_flight, 2);
    let waiting: Vec<_> = (0..8).map(|at| probe.wait(meeting.addr(), format!("wait {at}")).send()).collect();
    for at in 0..8 {
        meeting.guest(&format!("wait {at}")).await.release().await;
    }
    for waited in waiting {
        assert_eq!(waited.await, Ok(Held::Released));
    }
    for guest in first {
        guest.release().await;
    }
    for _ in 0..2 {
        meeting.next().await.release().await;
    }
    for held in holding {
        assert_eq!(held.await, Ok(Held::Released));
    }
}

async fn the_least_loaded_node_gets_the_call(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 4, 2).await;
    let mut meeting = Meeting::new().await;
    let calls: Vec<_> = (0..8).map(|at| probe.hold(meeting.addr(), at.to_string()).send()).collect();
    let mut guests = Vec::new();
    for _ in 0..4 {
        guests.push(meeting.next().await);
    }
    assert!(cluster.master().nodes().iter().all(|node| node.in_flight == 2), "{:?}", cluster.master().nodes());
    for _ in 4..8 {
        guests.push(meeting.next().await);
    }
    for guest in guests {
        guest.release().await;
    }
    for call in calls {
        assert_eq!(call.await, Ok(Held::Released));
    }
}

async fn a_node_that_joins_late_gets_the_waiting_calls_at_once(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let node =
        |name: &str| transport.node().serve(ProbeServer::new(Prober)).name(name).slots(1).spawn(master.local_addr());
    let mut meeting = Meeting::new().await;
    let early = node("early").await.expect("registers");
    let calls = [0, 1].map(|at| probe.hold(meeting.addr(), at.to_string()).answer());
    let calls = calls.map(|call| tokio::spawn(call));
    let first = meeting.next().await;
    let late = node("late").await.expect("registers");
    let second = meeting.next().await;
    second.release().await;
    first.release().await;
    let mut nodes: Vec<_> =
        join_all(calls).await.into_iter().map(|call| call.expect("runs").expect("ends").node.id).collect();
    nodes.sort();
    let mut expected = vec![early.id(), late.id()];
    expected.sort();
    assert_eq!(nodes, expected);
}

async fn a_timeout_ends_a_call_wherever_it_is(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    let holding = probe.hold(meeting.addr(), "holding".to_owned()).send();
    let guest = meeting.guest("holding").await;
    let error = failure(probe.add(1, 1).timeout(Duration::from_millis(50)).await);
    assert!(matches!(error, CallError::TimedOut { stage: CallStage::Queued, .. }), "{error}");
    assert!(error.id().is_some(), "it was submitted: {error}");
    assert_eq!(error.execution(), Execution::NotRun);
    guest.release().await;
    assert_eq!(holding.await, Ok(Held::Released));
    // Time enough to get to its handler on a machine that is busy.
    let running = probe.hold(meeting.addr(), "running".to_owned()).timeout(Duration::from_secs(2)).send();
    let guest = meeting.guest("running").await;
    let error = failure(running.await);
    assert!(matches!(error, CallError::TimedOut { stage: CallStage::Sent(_), .. }), "{error}");
    assert_eq!(error.execution(), Execution::MayHaveRun);
    // The handler hears of it, and only its return frees the slot.
    guest.gone().await;
    quiet(cluster.master()).await;
    assert_eq!(probe.add(1, 1).timeout(Duration::MAX).await, Ok(2));
}

async fn dropping_a_call_cancels_it(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "compute".to_owned()).send();
    let compute = meeting.guest("compute").await;
    let waiting = probe.wait(meeting.addr(), "async".to_owned()).send();
    let asynchronous = meeting.guest("async").await;
    let queued = probe.hold(meeting.addr(), "never".to_owned()).send();
    until("the third call waits", || cluster.master().stats().queued == 1).await;
    drop(queued);
    until("it is cancelled", || cluster.master().stats().queued == 0).await;
    drop(waiting);
    asynchronous.gone().await;
    drop(running);
    compute.gone().await;
    quiet(cluster.master()).await;
    assert_eq!(cluster.master().stats().cancelled, 3);
    assert_eq!(probe.add(1, 1).await, Ok(2));
    assert!(meeting.is_empty());
}

async fn a_cancelled_compute_call_keeps_its_slot_until_it_returns(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    // `block` is async to the node, but the point is the same for a handler that does not look up.
    let running = probe.hold(meeting.addr(), "first".to_owned()).send();
    let first = meeting.guest("first").await;
    let second = probe.hold(meeting.addr(), "second".to_owned()).send();
    drop(running);
    first.gone().await;
    let second_guest = meeting.guest("second").await;
    assert_eq!(cluster.master().nodes()[0].in_flight, 1);
    second_guest.release().await;
    assert_eq!(second.await, Ok(Held::Released));
}

async fn a_detached_call_runs_to_its_end(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    probe.hold(meeting.addr(), "detached".to_owned()).send().detach();
    meeting.guest("detached").await.release().await;
    quiet(cluster.master()).await;
    assert_eq!(cluster.master().stats().answered, 1);
}

async fn an_error_names_its_call(transport: &Transport) {
    let (_cluster, probe) = cluster(transport, 1, 1).await;
    let mut handle = probe.panic("out of cheese".to_owned()).send();
    let id = handle.id().expect("was submitted");
    let error = failure(soon("the panic to come back", &mut handle).await);
    assert_eq!((error.id(), handle.id()), (Some(id), Some(id)));
    assert_eq!(error.method().map(ToString::to_string).as_deref(), Some("Probe.panic"));
    assert!(error.to_string().starts_with(&format!("call {id} of Probe.panic panicked on node ")), "{error}");
    // Each call of a batch has a number of its own.
    let calls = (0..3).map(|_| probe.panic("of a batch".to_owned()));
    let mut ids: Vec<_> = calls.distribute().batch(3).map(|result| failure(result).id().expect("sent")).collect().await;
    ids.push(id);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
    // Only a call that was never submitted has none.
    let handle = probe.length(vec![0; (1 << 30) + 1]).send();
    assert_eq!((handle.id(), handle.is_finished()), (None, true));
    let error = failure(handle.await);
    assert_eq!(error.id(), None);
    assert!(error.to_string().starts_with("the argument list of the call of Probe.length is too large"), "{error}");
}

async fn an_option_that_may_repeat_a_call_is_refused_where_the_method_is_not_idempotent(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    for (call, option) in [(probe.add(1, 1).attempts(2), "attempts"), (probe.add(1, 1).retry_panics(), "retry_panics")]
    {
        let error = failure(call.await);
        let CallError::NotIdempotent { option: named, .. } = &error else { panic!("{error:?}") };
        assert_eq!((&**named, error.execution()), (option, Execution::NotRun));
        assert!(error.to_string().contains("#[rpc(idempotent)]"), "{error}");
    }
    let mut meeting = Meeting::new().await;
    let held = probe.hold_again(meeting.addr(), "again".to_owned()).attempts(2).retry_panics().send();
    meeting.guest("again").await.release().await;
    assert_eq!(held.await, Ok(Held::Released));
    let error = failure(probe.hold_again(meeting.addr(), "never".to_owned()).attempts(0).await);
    assert!(matches!(error, CallError::InvalidOption { ref option, .. } if option == "attempts"), "{error:?}");
    assert_eq!(error.execution(), Execution::NotRun);
    assert_eq!(cluster.master().stats().answered, 1, "the others were not sent");
}

async fn a_handle_has_the_calls_number_and_tells_whether_it_has_ended(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    let held = probe.hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    assert!(!held.is_finished());
    guest.release().await;
    until("the call has ended", || held.is_finished()).await;
    assert_eq!(held.answer().await.map(|answer| answer.attempts), Ok(1));
    let mut current = probe.current().send();
    let (number, ..) = soon("the call's own number", &mut current).await.expect("answers");
    assert_eq!(current.id().map(|id| id.number()), Some(number));

    let cancelled = probe.hold(meeting.addr(), "cancelled".to_owned()).send();
    let guest = meeting.guest("cancelled").await;
    cancelled.cancel();
    guest.gone().await;
    quiet(cluster.master()).await;
    assert_eq!(cluster.master().stats().cancelled, 1);
}

async fn waiting_for_a_call_blocks_the_thread_until_it_has_ended(transport: &Transport) {
    let (_cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    let held = probe.hold(meeting.addr(), "held".to_owned()).send();
    let waiting = tokio::task::spawn_blocking(move || held.wait());
    meeting.guest("held").await.release().await;
    assert_eq!(soon("the thread to go on", waiting).await.expect("does not panic"), Ok(Held::Released));
    let plain = std::thread::spawn(move || probe.divide(1, 0).wait());
    until("the thread has ended", || plain.is_finished()).await;
    let error = CallError::Handler("1 / 0 has no value".to_owned());
    assert_eq!(plain.join().expect("does not panic"), Err(error));
}

async fn what_is_too_large_fails_that_call_only(transport: &Transport) {
    const LIMIT: usize = 1024 * 1024;
    let cluster = LocalCluster::builder()
        .nodes(1)
        .master(transport.master().max_message_size(LIMIT))
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let probe = ProbeClient::new(&*transport.caller(cluster.master()).await);
    let node = cluster.nodes()[0].id();
    let error = failure(probe.length(vec![0; LIMIT]).await);
    let CallError::TooLarge { part: Part::Arguments, size, limit, .. } = error else { panic!("{error:?}") };
    assert!(size > limit && limit < LIMIT as u64, "{size} {limit}");
    assert_eq!(error.execution(), Execution::NotRun);
    let error = failure(probe.bytes(LIMIT as u64).await);
    assert!(matches!(error, CallError::TooLarge { part: Part::Reply, .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::Ran);
    // What just fits passes, and the connection is the same.
    let most = usize::try_from(limit).expect("small") - 8;
    assert_eq!(probe.length(vec![0; most]).await, Ok(most as u64));
    assert_eq!(probe.bytes(most as u64).await.map(|bytes| bytes.len()), Ok(most));
    assert_eq!(cluster.nodes()[0].id(), node);
}

async fn a_node_with_a_smaller_limit_gets_nothing_larger(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let node = transport.node().serve(ProbeServer::new(Prober)).max_message_size(64 * 1024);
    let _node = node.spawn(master.local_addr()).await.expect("registers");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let error = failure(probe.length(vec![0; 100_000]).await);
    assert!(matches!(error, CallError::TooLarge { part: Part::Arguments, limit: 55_296, .. }), "{error:?}");
    assert_eq!(probe.length(vec![0; 1000]).await, Ok(1000));
}

async fn large_values_travel_whole(transport: &Transport) {
    let (_cluster, probe) = cluster(transport, 2, 1).await;
    let calls = (1..=6u64).map(|size| {
        let probe = &probe;
        async move {
            let count = size * 500_000;
            assert_eq!(probe.length(vec![1; count as usize]).await, Ok(count));
            let bytes = probe.bytes(count).await.expect("fits");
            assert!(bytes.len() as u64 == count && bytes.iter().all(|byte| *byte == 7));
        }
    });
    join_all(calls).await;
}

async fn without_a_node_a_call_waits_and_then_says_what_is_missing(transport: &Transport) {
    let master = transport.master().no_node_timeout(Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let error = failure(probe.add(1, 1).await);
    assert!(matches!(error, CallError::NoNode { .. }), "{error:?}");
    assert!(error.to_string().contains("no node is registered"), "{error}");
    assert_eq!(error.execution(), Execution::NotRun);
    drop(master);

    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let waiting = probe.add(1, 1).send();
    let _node = transport.node().serve(ProbeServer::new(Prober)).spawn(master.local_addr()).await.expect("registers");
    assert_eq!(waiting.await, Ok(2));
}

mod other {
    //! The same service by name, with another signature.

    /// Not the `Probe` of the others.
    #[distribution::service(version = 2)]
    pub(crate) trait Probe {
        /// Takes three.
        fn add(&self, a: i64, b: i64, c: i64) -> i64;
    }

    /// Adds three.
    pub(crate) struct Other;

    impl Probe for Other {
        fn add(&self, a: i64, b: i64, c: i64) -> i64 {
            a + b + c
        }
    }
}

async fn a_call_goes_only_to_nodes_with_its_signature(transport: &Transport) {
    let master = transport.master().no_node_timeout(Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    let _other = transport
        .node()
        .serve(other::ProbeServer::new(other::Other))
        .spawn(master.local_addr())
        .await
        .expect("registers");
    let (probe, others) = (
        ProbeClient::new(&*transport.caller(&master).await),
        other::ProbeClient::new(&*transport.caller(&master).await),
    );
    let error = failure(probe.add(1, 1).await);
    let CallError::Incompatible { expected, found, difference, .. } = &error else { panic!("{error:?}") };
    assert!(
        difference.starts_with("`fn(i64, i64) -> i64` here, `fn(i64, i64, i64) -> i64 (version 2)` on "),
        "{error}"
    );
    assert_eq!(expected, "fn(i64, i64) -> i64");
    assert_eq!(found, "fn(i64, i64, i64) -> i64 (version 2)");
    let node = transport.node().serve(ProbeServer::new(Prober)).spawn(master.local_addr()).await.expect("registers");
    for _ in 0..10 {
        assert_eq!(probe.add(1, 1).answer().await.expect("answers").node, node.id());
        assert_eq!(others.add(1, 1, 1).await, Ok(3));
    }
}

async fn several_services_live_on_one_node_and_none_is_served_twice(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let twice = transport.node().serve(ProbeServer::new(Prober)).serve(ProbeServer::new(Prober));
    let error = twice.spawn(master.local_addr()).await.expect_err("served twice");
    assert!(error.to_string().contains("serves `Probe` twice"), "{error}");

    /// Another one.
    #[distribution::service]
    trait Greeter {
        /// Greets.
        async fn greet(&self, name: String) -> String;
    }
    impl Greeter for Prober {
        async fn greet(&self, name: String) -> String {
            format!("Hello, {name}")
        }
    }
    let node = transport.node().serve(ProbeServer::new(Prober)).serve(GreeterServer::new(Prober)).name("both");
    let _node = node.label("zone", "eu").spawn(master.local_addr()).await.expect("registers");
    assert_eq!(
        GreeterClient::new(&*transport.caller(&master).await).greet("you".to_owned()).await,
        Ok("Hello, you".to_owned())
    );
    assert_eq!(ProbeClient::new(&*transport.caller(&master).await).add(1, 2).await, Ok(3));
    let info = &master.nodes()[0];
    let services: Vec<_> = info.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!((&*info.name, services), ("both", vec!["Greeter", "Probe"]));
    assert_eq!(info.labels.get("zone").map(String::as_str), Some("eu"));
}

async fn a_full_queue_says_so_at_once(transport: &Transport) {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .slots(1)
        .master(transport.master().max_queued_calls(2).max_queued_calls_per_caller(2))
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let probe = ProbeClient::new(&*transport.caller(cluster.master()).await);
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let queued = [probe.add(1, 1).send(), probe.add(2, 2).send()];
    let error = failure(probe.add(3, 3).await);
    assert!(matches!(error, CallError::Overloaded { queued: 2, limit: 2, .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::NotRun);
    guest.release().await;
    assert_eq!(running.await, Ok(Held::Released));
    assert_eq!(join_all(queued).await, [Ok(2), Ok(4)]);
}

async fn a_call_on_a_node_that_is_not_there_says_so(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 2, 1).await;
    let gone = cluster.nodes()[0].id();
    cluster.nodes()[0].drain().await;
    let mut events = cluster.master().events();
    while cluster.master().nodes().iter().any(|node| node.id == gone) {
        events.next().await;
    }
    let error = failure(soon("the call to end", probe.add(1, 1).on(gone).into_future()).await);
    assert!(matches!(error, CallError::NoNode { .. }), "{error:?}");
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
    assert_eq!(probe.add(1, 1).on(cluster.nodes()[1].id()).await, Ok(2));
}

async fn a_shutdown_lets_calls_in_flight_end_and_turns_others_away(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 1, 1).await;
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let queued = probe.add(1, 1).send();
    let master = cluster.master().clone();
    let shutdown = tokio::spawn(async move { master.shutdown().await });
    let error = failure(queued.await);
    assert!(matches!(error, CallError::Shutdown { execution: Execution::NotRun, .. }), "{error:?}");
    let error = failure(probe.add(1, 1).await);
    assert!(matches!(error, CallError::Shutdown { execution: Execution::NotRun, .. }), "{error:?}");
    guest.release().await;
    assert_eq!(running.await, Ok(Held::Released));
    soon("the shutdown", shutdown).await.expect("shuts down");
    assert!(cluster.master().nodes().is_empty());
}

async fn a_dropped_master_ends_its_calls(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let _node = transport.node().serve(ProbeServer::new(Prober)).spawn(master.local_addr()).await.expect("registers");
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    drop(master);
    let error = failure(soon("the call to end", running).await);
    assert!(matches!(error, CallError::Shutdown { execution: Execution::MayHaveRun, .. }), "{error:?}");
    // The node has lost its master, and so the handler everybody who waited.
    guest.gone().await;
}

async fn a_drained_node_finishes_what_it_has(transport: &Transport) {
    let (cluster, probe) = cluster(transport, 2, 1).await;
    let mut events = cluster.master().events();
    let mut meeting = Meeting::new().await;
    let node = &cluster.nodes()[0];
    let running = probe.hold(meeting.addr(), "running".to_owned()).on(node.id()).send();
    let guest = meeting.guest("running").await;
    let (_, ()) = tokio::join!(node.drain(), async {
        loop {
            if let Some(NodeEvent::Draining { .. }) = events.next().await {
                break;
            }
        }
        for _ in 0..5 {
            assert_eq!(probe.add(1, 1).answer().await.expect("answers").node, cluster.nodes()[1].id());
        }
        guest.release().await;
    });
    assert_eq!(running.await, Ok(Held::Released));
    node.wait().await.expect("ended in order");
}

async fn a_handler_knows_its_call(transport: &Transport) {
    let (_cluster, probe) = cluster(transport, 1, 1).await;
    let (first, attempt, deadline) = probe.current().await.expect("answers");
    assert_eq!((attempt, deadline), (1, false));
    let (second, _, deadline) = probe.current().timeout(Duration::from_secs(60)).await.expect("answers");
    assert!(second > first && deadline);
}

async fn an_async_handler_that_blocks_costs_no_heartbeat(transport: &Transport) {
    // The node's own runtime has one thread, which the handler blocks for many windows of silence.
    let master = transport.master().heartbeat(Duration::from_millis(50)).bind("127.0.0.1:0").await.expect("binds");
    let addr = master.local_addr();
    let node = transport.node().serve(ProbeServer::new(Prober));
    let mut events = master.events();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let node = node.spawn(addr).await.expect("registers");
            let _ = stopped.await;
            node.drain().await;
        });
    });
    master.wait_for_nodes(1).await;
    let probe = ProbeClient::new(&*transport.caller(&master).await);
    let mut meeting = Meeting::new().await;
    let blocking = probe.block(meeting.addr(), "blocking".to_owned()).send();
    let guest = meeting.guest("blocking").await;
    // Heartbeats are seen to come for three times as long as silence may last.
    let began = master.nodes()[0].registered_for;
    until("heartbeats have come for that long", || {
        let node = &master.nodes()[0];
        assert!(node.silent_for < Duration::from_millis(300));
        node.registered_for >= began + Duration::from_millis(900)
    })
    .await;
    assert_eq!(probe.add(1, 1).await, Ok(2));
    guest.release().await;
    assert_eq!(blocking.await, Ok(Held::Released));
    let _ = stop.send(());
    thread.join().expect("the node ends");
    while let Some(event) = events.next().await {
        match event {
            NodeEvent::Suspect { .. } => panic!("{event}"),
            NodeEvent::Gone { .. } => break,
            _ => {}
        }
    }
}
