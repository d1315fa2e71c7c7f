//! Nodes that want more calls than they run: others have to get them.

use std::time::Duration;

use distribution::{CallError, Error, LocalCluster, Master, MasterBuilder, Node, NodeBuilder, prelude::*};
use distribution_tests::{LONG, ProbeClient, ProbeServer, Prober, failure, impostor::Impostor, soon};
use futures::{StreamExt, stream::FuturesUnordered};

use super::ADD;

/// So long that time gives no node more calls than its answers do.
const SELDOM: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_node_that_claims_a_thousand_slots_and_answers_nothing_holds_a_few_calls() {
    let master = Master::builder().heartbeat(SELDOM).bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let node = |name| Node::builder().serve(ProbeServer::new(Prober)).name(name).slots(2).spawn(master.local_addr());
    let _nodes = [node("a").await.expect("registers"), node("b").await.expect("registers")];
    let why = Impostor::node_with_slots(master.local_addr(), "liar", 65_536, &[ADD]).await.expect_err("is refused");
    assert!(why.contains("it has 65536 slots, and the master's `max_slots_per_node` allows 1024"), "{why}");
    let _liar = Impostor::node_with_slots(master.local_addr(), "liar", 1024, &[ADD]).await.expect("registers");
    let mut calls: FuturesUnordered<_> = (0..1000).map(|_| probe.add(1, 1).send()).collect();
    let held = || {
        let nodes = master.nodes();
        nodes.iter().find(|node| &*node.name == "liar").expect("is there").in_flight
    };
    let mut answered = 0;
    while answered + held() < 1000 {
        let call = soon("a call that the liar has not", calls.next()).await.expect("there are some");
        assert_eq!(call, Ok(2));
        answered += 1;
    }
    assert!((1..=16).contains(&held()), "it holds {} of 1000", held());
}

#[tokio::test]
async fn calls_have_the_timeout_of_their_master_unless_they_have_their_own() {
    let master = MasterBuilder::default().default_timeout(Duration::from_millis(50));
    let cluster = LocalCluster::builder().master(master).nodes(0).start().await.expect("starts");
    let probe = ProbeClient::new(&cluster);
    let _liar = Impostor::node(cluster.master().local_addr(), "liar", &[ADD]).await.expect("registers");
    let patient = probe.add(1, 1).timeout(LONG).send();
    for call in [probe.add(1, 1).send(), probe.add(1, 1).send()] {
        let error = failure(soon("the call", call).await);
        let CallError::TimedOut { timeout, .. } = error else { panic!("{error:?}") };
        assert_eq!(timeout, Duration::from_millis(50));
    }
    let mut calls = (0..40).map(|_| probe.add(1, 1)).distribute();
    while let Some(end) = soon("a call", calls.next()).await {
        assert!(matches!(failure(end), CallError::TimedOut { .. }));
    }
    drop(cluster);
    let error = failure(soon("the call", patient).await);
    assert!(matches!(error, CallError::Shutdown { .. }), "it has its own: {error:?}");
}

#[tokio::test]
async fn no_more_nodes_are_registered_than_the_master_takes() {
    let master = Master::builder().max_nodes(2).bind("127.0.0.1:0").await.expect("binds");
    let node = |instance, name| Impostor::node_of_process(master.local_addr(), instance, name, &[ADD]);
    let _first = node(1, "a").await.expect("registers");
    let second = node(2, "b").await.expect("registers");
    let why = node(3, "c").await.expect_err("is refused");
    assert!(why.contains("2 nodes are registered") && why.contains("`max_nodes`"), "{why}");
    // One that comes again takes its own place.
    let again = node(2, "b").await.expect("registers");
    drop((second, again));
    soon("a place", async {
        while node(3, "c").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_errors_that_name_them() {
    let refused = async |name: &str, builder: MasterBuilder| {
        let error = builder.bind("127.0.0.1:0").await.expect_err("cannot be set").to_string();
        assert!(error.contains(name), "{error}");
    };
    refused("max_nodes", Master::builder().max_nodes(0)).await;
    refused("max_nodes_per_credential", Master::builder().max_nodes_per_credential(0)).await;
    for slots in [0, 65_537] {
        refused("max_slots_per_node", Master::builder().max_slots_per_node(slots)).await;
    }
    for (key, value) in [("", "a"), ("zone ", "a"), ("zo\nne", "a"), ("zone", ""), ("zone", &"x".repeat(129))] {
        refused(
            "restrict_label",
            Master::builder().restrict_label("fine", "a", ["n1"]).restrict_label(key, value, ["n1"]),
        )
        .await;
    }
    let error = Master::builder().restrict_label("zo\nne", "eu", ["n1"]).bind("127.0.0.1:0").await.expect_err("no key");
    assert!(error.to_string().contains(r"`zo\nne=eu`"), "{error}");
    for timeout in [Duration::ZERO, Duration::MAX] {
        refused("default_timeout", Master::builder().default_timeout(timeout)).await;
    }
}

#[tokio::test]
async fn master_and_node_say_the_same_of_the_same_rule() {
    let reason = |error: Error| match error {
        Error::Setting { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let master = async |builder: MasterBuilder| reason(builder.bind("127.0.0.1:0").await.expect_err("cannot be set"));
    let node = async |builder: NodeBuilder| reason(builder.spawn("127.0.0.1:1").await.expect_err("cannot be set"));
    let slots = master(Master::builder().max_slots_per_node(0)).await;
    assert_eq!(slots, "it must be from 1 to 65,536");
    assert_eq!(node(Node::builder().slots(0)).await, slots);
    let depth = master(Master::builder().max_depth(0)).await;
    assert_eq!(node(Node::builder().max_depth(0)).await, depth);
    let size = master(Master::builder().max_message_size(1)).await;
    assert_eq!(node(Node::builder().max_message_size(1)).await, size);
    let long = Duration::from_secs(366 * 24 * 3600);
    for reason in [
        slots,
        depth,
        size,
        master(Master::builder().heartbeat(long)).await,
        master(Master::builder().shutdown_timeout(long)).await,
        node(Node::builder().drain_timeout(long)).await,
        node(Node::builder().connect_timeout(long)).await,
        node(Node::builder().async_limit(0)).await,
    ] {
        assert!(reason.starts_with("it must be from ") || reason.contains("at most 365 days"), "{reason}");
    }
}
