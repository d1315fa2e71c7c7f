//! What an operator does with a running cluster: lists and cancels calls, and cordons, drains and kicks nodes.

use std::str::FromStr;

use distribution::{
    CallError, CallFilter, CallId, LocalCluster, Master, Node, NodeEvent, NodeId,
    administration::{CallPage, CallStatus, MethodKind, MethodSummary, WaitReason, WarningKind},
    error::{AdminError, Execution, GoneReason},
    prelude::*,
};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober, failure, impostor::Impostor, meeting::Meeting, soon, until,
};
use futures::StreamExt;

async fn cluster(nodes: usize) -> (LocalCluster, ProbeClient) {
    let cluster = LocalCluster::builder().nodes(nodes).slots(1).serve(|| ProbeServer::new(Prober)).start().await;
    let cluster = cluster.expect("starts");
    let probe = ProbeClient::new(&cluster);
    (cluster, probe)
}

async fn node(master: &Master) -> Node {
    Node::builder().serve(ProbeServer::new(Prober)).slots(1).spawn(master.local_addr()).await.expect("registers")
}

/// The next departure.
async fn gone(events: &mut distribution::Events) -> (NodeId, GoneReason) {
    soon("a node to go", async {
        loop {
            if let NodeEvent::Gone { node, reason, .. } = events.next().await.expect("the master lives") {
                return (node.id, reason);
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_cordoned_node_keeps_its_call_and_its_registration_and_gets_no_other() {
    let (cluster, probe) = cluster(2).await;
    let (master, cordoned) = (cluster.master(), cluster.nodes()[0].id());
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).on(cordoned).send();
    let guest = meeting.guest("running").await;

    master.cordon(cordoned).expect("is registered");
    let cordoned_ones =
        || master.nodes().iter().filter(|node| node.is_cordoned).map(|node| node.id).collect::<Vec<_>>();
    assert_eq!(cordoned_ones(), [cordoned]);
    guest.release().await;
    assert_eq!(running.await, Ok(Held::Released));
    for _ in 0..5 {
        assert_eq!(probe.add(1, 1).answer().await.expect("answers").node, cluster.nodes()[1].id());
    }
    let spread = probe.add(1, 1).broadcast().await;
    assert_eq!(spread.len(), 1, "a broadcast leaves it out");

    let waiting = probe.add(1, 2).on(cordoned).send();
    master.uncordon(cordoned).expect("is registered");
    assert_eq!(soon("the call", waiting).await, Ok(3));
    assert!(cordoned_ones().is_empty());
}

#[tokio::test]
async fn a_process_that_registers_again_is_still_cordoned() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = node(&master).await;
    let before = node.id();
    master.cordon(before).expect("is registered");
    assert!(master.disconnect(before));
    until("it registers again", || node.id() != before && master.nodes().len() == 1).await;
    assert!(master.nodes()[0].is_cordoned);
    let call = ProbeClient::new(&master).add(1, 2).send();
    master.uncordon(node.id()).expect("is registered");
    assert_eq!(soon("the call", call).await, Ok(3));
}

#[tokio::test]
async fn a_node_that_the_master_drains_finishes_its_call_and_ends_in_order() {
    let (cluster, probe) = cluster(2).await;
    let node = &cluster.nodes()[0];
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).on(node.id()).send();
    let guest = meeting.guest("running").await;
    let mut events = cluster.master().events();
    cluster.master().drain(node.id()).expect("is registered");
    for _ in 0..5 {
        assert_eq!(probe.add(1, 1).answer().await.expect("answers").node, cluster.nodes()[1].id());
    }
    guest.release().await;
    assert_eq!(running.await, Ok(Held::Released));
    soon("the node", node.wait()).await.expect("ends in order");
    assert_eq!(gone(&mut events).await, (node.id(), GoneReason::Left));
}

#[tokio::test]
async fn a_program_that_runs_a_node_ends_when_the_master_drains_it() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = Node::builder().serve(ProbeServer::new(Prober)).run(master.local_addr().to_string());
    let node = tokio::spawn(node);
    soon("the node", master.wait_for_nodes(1)).await;
    master.drain(&master.nodes()[0]).expect("is registered");
    soon("the program", node).await.expect("runs").expect("ends in order");
}

#[tokio::test]
async fn a_kicked_node_loses_its_call_and_may_register_again() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = node(&master).await;
    let mut events = master.events();
    let mut meeting = Meeting::new().await;
    let running = ProbeClient::new(&master).hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let kicked = node.id();
    master.kick(kicked).expect("is registered");
    match failure(soon("the call", running).await) {
        CallError::NodeLost { node, reason, .. } => assert_eq!((node.id, reason), (kicked, GoneReason::Kicked)),
        error => panic!("{error:?}"),
    }
    assert_eq!(gone(&mut events).await, (kicked, GoneReason::Kicked));
    // The handler notices that nobody waits for it.
    guest.gone().await;
    soon("it to come again", master.wait_for_nodes(1)).await;
    assert_eq!(soon("a call", ProbeClient::new(&master).add(1, 2)).await, Ok(3));
    let error = master.kick(kicked).expect_err("its id is not used again");
    assert!(matches!(error, AdminError::UnknownNode { node, .. } if node == kicked), "{error}");
}

#[tokio::test]
async fn a_handler_that_outlives_a_kick_is_seen_as_a_slot_that_is_held() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = node(&master).await;
    let mut meeting = Meeting::new().await;
    let running = ProbeClient::new(&master).ignore(meeting.addr()).send();
    let guest = meeting.next().await;
    let kicked = node.id();
    assert_eq!(master.nodes()[0].held_slots, 0);
    master.kick(kicked).expect("is registered");
    failure(soon("the call", running).await);
    until("it registers again", || node.id() != kicked && master.nodes().len() == 1).await;
    assert_eq!((master.nodes()[0].held_slots, master.metrics().nodes[0].held_slots), (1, 1));
    let is_told = || master.warnings().into_iter().find(|warning| warning.kind == WarningKind::SlotsHeld);
    until("it is warned of", || is_told().is_some()).await;
    let text = is_told().expect("as before").text;
    assert!(text.contains("is without 1 slot: a handler holds it") && text.contains("restart it"), "{text}");
    guest.release().await;
    until("the slot is free", || master.nodes()[0].held_slots == 0).await;
}

#[tokio::test]
async fn a_lost_node_is_told_of_until_one_of_its_name_is_back() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let lost = Impostor::node_with_slots(master.local_addr(), "blue", 1, &[("add", "fn(i64, i64) -> i64")]).await;
    drop(lost.expect("is taken in"));
    until("it is lost", || master.nodes().is_empty()).await;
    let told = || master.warnings().into_iter().find(|warning| warning.kind == WarningKind::NodeLost);
    until("it is told", || told().is_some()).await;
    let warning = told().expect("as before");
    assert!(warning.text.starts_with("node blue was lost ") && warning.node_name.as_deref() == Some("blue"));
    let past = master.past_events(1000);
    assert!(matches!(past[0].event, NodeEvent::Joined { .. }), "{past:?}");
    assert!(matches!(past.last().expect("some").event, NodeEvent::Gone { .. }), "{past:?}");
    let back = Node::builder().serve(ProbeServer::new(Prober)).name("blue").spawn(master.local_addr()).await;
    until("it is back", || told().is_none()).await;
    drop(back);
    assert_eq!(master.past_events(2).len(), 2);
}

#[tokio::test]
async fn a_call_does_not_eat_one_node_after_another_if_each_is_kicked() {
    let (cluster, probe) = cluster(4).await;
    let mut meeting = Meeting::new().await;
    let call = probe.hold_again(meeting.addr(), "greedy".to_owned()).attempts(10).send();
    let mut kicked = Vec::new();
    for _ in 0..3 {
        let _guest = meeting.guest("greedy").await;
        let node = cluster.master().nodes().into_iter().find(|node| node.in_flight > 0).expect("a node runs it");
        cluster.master().kick(&node).expect("is registered");
        kicked.push(node.id);
    }
    match failure(soon("the call", call).await) {
        CallError::Poisoned { nodes, .. } => {
            assert_eq!(nodes.iter().map(|node| node.id).collect::<Vec<_>>(), kicked);
        }
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn calls_are_listed_with_what_they_do_and_can_be_cancelled_by_anybody() {
    let (cluster, probe) = cluster(1).await;
    let master = cluster.master();
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let waiting = probe.add(1, 1).send();

    let page = master.calls(CallFilter::default());
    assert_eq!(page.next, None);
    let seen: Vec<_> = page.calls.iter().map(|call| (Some(call.id), call.method.as_str())).collect();
    assert_eq!(seen, [(running.id(), "Probe.hold"), (waiting.id(), "Probe.add")]);
    assert!(matches!(&page.calls[0].status, CallStatus::Running { attempt: 1, .. }), "{page:?}");
    assert!(matches!(&page.calls[1].status, CallStatus::Waiting { why: WaitReason::AllBusy { nodes: 1, .. }, .. }));
    let json = serde_json::to_string(&page).expect("can be written");
    assert_eq!(serde_json::from_str::<CallPage>(&json).expect("can be read"), page);

    let first = master.calls(CallFilter::default().limit(1));
    assert_eq!(first.calls.len(), 1);
    let rest = master.calls(CallFilter::default().limit(1).after(first.next.expect("there are more")));
    assert_eq!(rest.calls[0].id, page.calls[1].id);

    master.cancel(page.calls[1].id).expect("waits");
    match failure(soon("the call", waiting).await) {
        CallError::Cancelled { by, execution, .. } => {
            assert_eq!((&*by, execution), ("an administrator at the master", Execution::NotRun));
        }
        error => panic!("{error:?}"),
    }
    master.cancel(page.calls[0].id).expect("runs");
    let error = failure(soon("the call", running).await);
    assert!(matches!(error, CallError::Cancelled { execution: Execution::MayHaveRun, .. }), "{error:?}");
    guest.gone().await;
    until("its handler is stopped", || master.calls(CallFilter::default()).calls.is_empty()).await;
    let error = master.cancel(page.calls[0].id).expect_err("has ended");
    assert!(matches!(error, AdminError::UnknownCall { .. }), "{error}");
}

#[tokio::test]
async fn a_handler_that_goes_on_after_its_call_was_cancelled_is_listed_as_stopping() {
    let (cluster, probe) = cluster(1).await;
    let master = cluster.master();
    let mut meeting = Meeting::new().await;
    let stubborn = probe.ignore(meeting.addr()).send();
    let id = stubborn.id().expect("was submitted");
    let guest = meeting.next().await;
    drop(stubborn);
    let page = master.calls(CallFilter::default());
    assert!(matches!(&page.calls[..], [call] if matches!(call.status, CallStatus::Stopping { .. })), "{page:?}");
    let error = master.cancel(id).expect_err("has ended");
    assert!(matches!(error, AdminError::AlreadyEnded { .. }), "{error}");
    guest.release().await;
    until("it has ended", || master.calls(CallFilter::default()).calls.is_empty()).await;
}

#[tokio::test]
async fn the_calls_of_a_batch_are_cancelled_together_and_others_of_the_stream_go_on() {
    let (cluster, probe) = cluster(1).await;
    let master = cluster.master();
    let mut meeting = Meeting::new().await;
    let blocker = probe.hold(meeting.addr(), "blocker".to_owned()).send();
    let guest = meeting.guest("blocker").await;
    let mut sums = (0..8).map(move |number| probe.add(number, 0)).distribute().batch(4);
    let results = tokio::spawn(async move {
        let mut results = Vec::new();
        while let Some(result) = sums.next().await {
            results.push(result);
        }
        results
    });
    until("both batches wait", || master.calls(CallFilter::default()).calls.len() == 3).await;
    let batch = master.calls(CallFilter::default()).calls.remove(1);
    assert_eq!(batch.count, 4);
    let within = CallId::from_str(&format!(
        "{}-{}",
        batch.id.to_string().split('-').next().expect("an epoch"),
        batch.id.number() + 1
    ));
    let error = master.cancel(within.expect("an id")).expect_err("is within a batch");
    assert!(matches!(error, AdminError::InBatch { batch: of, count: 4, .. } if of == batch.id), "{error}");
    master.cancel(batch.id).expect("waits");
    guest.release().await;
    assert_eq!(soon("the blocker", blocker).await, Ok(Held::Released));
    let results = soon("the stream", results).await.expect("runs");
    for (number, result) in results.into_iter().enumerate() {
        match result {
            Ok(sum) => assert!(number >= 4 && sum == number as i64, "{number}: {sum}"),
            Err(error) => assert!(number < 4 && matches!(error, CallError::Cancelled { .. }), "{number}: {error}"),
        }
    }
}

#[tokio::test]
async fn methods_are_listed_with_the_nodes_that_serve_them_and_their_calls() {
    let (cluster, probe) = cluster(2).await;
    let mut meeting = Meeting::new().await;
    let running: Vec<_> = (0..3).map(|_| probe.hold(meeting.addr(), "running".to_owned()).send()).collect();
    let guests = [meeting.guest("running").await, meeting.guest("running").await];
    let methods = cluster.master().methods();
    let hold = methods.iter().find(|method| method.name == "hold").expect("is served");
    assert_eq!((&*hold.service, hold.version, hold.kind), ("Probe", 1, MethodKind::Compute));
    assert_eq!((hold.nodes, hold.running, hold.waiting), (2, 2, 1));
    assert!(hold.signature.starts_with("fn(SocketAddr, String)"), "{}", hold.signature);
    let wait = methods.iter().find(|method| method.name == "wait").expect("is served");
    assert_eq!((wait.kind, wait.nodes, wait.running, wait.waiting), (MethodKind::Async, 2, 0, 0));
    let json = serde_json::to_string(&methods).expect("can be written");
    assert_eq!(serde_json::from_str::<Vec<MethodSummary>>(&json).expect("can be read"), methods);
    for guest in guests {
        guest.release().await;
    }
    meeting.guest("running").await.release().await;
    for call in running {
        assert_eq!(soon("a call", call).await, Ok(Held::Released));
    }
}
