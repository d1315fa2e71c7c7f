//! Nodes that ask for grants, give calls back, or drain as fast as they can.

use distribution::{Node, error::GoneReason, prelude::*};
use distribution_tests::{
    ProbeServer, Prober,
    impostor::{Impostor, extent, frame, kind, take_number},
    soon,
};
use tokio::io::AsyncWriteExt;

use super::{ADD, gone, master};

/// Registers a peer that serves `add` and sends this again and again. It is disconnected, and calls go on.
async fn is_disconnected(flood: &[u8]) {
    let (master, probe) = master().await;
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let mut events = master.events();
    let mut peer = Impostor::node(master.local_addr(), "flood", &[ADD]).await.expect("is taken in");
    // As many as a release that does not know better may send.
    peer.send(&flood.repeat(50)).await;
    peer.receive(kind::MASTER_HEARTBEAT).await;
    peer.receive(kind::MASTER_HEARTBEAT).await;
    let flood = flood.repeat(10_000);
    let floods = async {
        // Until the master closes.
        while peer.stream.write_all(&flood).await.is_ok() {}
    };
    let calls = async {
        let reason = gone(&mut events).await;
        let GoneReason::Violation(why) = &reason else { panic!("{reason:?}") };
        assert!(why.contains("`request grant`, `give back` and `drain` frames"), "{why}");
        for number in 0..100 {
            assert_eq!(probe.add(number, 1).await, Ok(number + 1));
        }
    };
    soon("the calls", async { tokio::join!(floods, calls) }).await;
    assert_eq!(master.nodes().len(), 1);
}

#[tokio::test]
async fn a_node_that_floods_requests_for_grants_is_disconnected_and_calls_go_on() {
    is_disconnected(&extent(kind::REQUEST_GRANT, 1, 1, 8)).await;
}

#[tokio::test]
async fn a_node_that_gives_calls_back_without_end_is_disconnected_and_calls_go_on() {
    is_disconnected(&extent(kind::GIVE_BACK, 1, 1, 1)).await;
}

#[tokio::test]
async fn a_node_that_drains_without_end_is_disconnected_and_calls_go_on() {
    is_disconnected(&frame(kind::DRAIN, &[])).await;
}

#[tokio::test]
async fn a_batch_does_not_allow_its_node_frames_without_end() {
    let (master, probe) = master().await;
    let mut events = master.events();
    let mut peer = Impostor::node(master.local_addr(), "greedy", &[ADD]).await.expect("is taken in");
    let run = tokio::spawn((0..8).map(move |number| probe.add(number, 1)).distribute().batch(8).collect::<Vec<_>>());
    let body = peer.receive(kind::REQUEST).await;
    let mut rest = &body[..];
    let [_, _, call, attempt, ..] = [(); 6].map(|()| take_number(&mut rest));
    let flood = extent(kind::REQUEST_GRANT, call, attempt, 8).repeat(10_000);
    let floods = async { while peer.stream.write_all(&flood).await.is_ok() {} };
    let (reason, ()) = soon("the end", async { tokio::join!(gone(&mut events), floods) }).await;
    let GoneReason::Violation(why) = &reason else { panic!("{reason:?}") };
    assert!(why.contains("`request grant`"), "{why}");
    let results = soon("the results", run).await.expect("ends");
    assert!(results.iter().all(Result::is_err), "all of it was granted, so it may have run: {results:?}");
}
