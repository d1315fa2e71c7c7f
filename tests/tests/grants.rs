//! Peers that misuse the frames which say how many calls of a batch may be started: they cost a bounded amount of work,
//! and affect no other calls.

use std::{net::SocketAddr, time::Duration};

use distribution::{CallError, Master, Node, prelude::*};
use distribution_tests::{
    ProbeClient, ProbeServer, Prober,
    impostor::{Impostor, batch, extent, frame, heartbeat, kind, number, outcome, request, signed, take_number},
    soon,
};
use futures::StreamExt;
use tokio::{io::AsyncReadExt, net::TcpListener};

const ADD: (&str, &str) = ("add", "fn(i64, i64) -> i64");

/// The numbers of a frame's body.
fn numbers<const N: usize>(body: &[u8]) -> [u64; N] {
    let mut rest = body;
    std::array::from_fn(|_| take_number(&mut rest))
}

#[tokio::test]
async fn a_node_that_asks_for_grants_again_and_again_is_answered_a_few_times() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let mut peer = Impostor::node(master.local_addr(), "greedy", &[ADD]).await.expect("registers");
    let run = tokio::spawn((0..8).map(move |number| probe.add(number, 1)).distribute().batch(8).collect::<Vec<_>>());
    let [_, _, call, attempt, count, granted] = numbers(&peer.receive(kind::REQUEST).await);
    assert_eq!((attempt, count, granted), (1, 8, 2), "a quarter is granted");
    // Requests for other calls, for another attempt, and for less than it has are not answered.
    for (call, attempt, upto) in [(call + 1, 1, 8), (u64::MAX, 1, 8), (call, 2, 8), (call, 0, 8)] {
        peer.send(&extent(kind::REQUEST_GRANT, call, attempt, upto)).await;
    }
    peer.send(&extent(kind::REQUEST_GRANT, call, attempt, 0)).await;
    assert_eq!(
        numbers(&peer.receive(kind::GRANT).await),
        [call, attempt, 4],
        "a quarter more, however much it asked for"
    );
    // All calls of the batch are granted, once.
    peer.send(&extent(kind::REQUEST_GRANT, call, attempt, u64::from(u32::MAX)).repeat(20)).await;
    peer.send(&heartbeat([0; 5])).await;
    assert_eq!(numbers(&peer.receive(kind::GRANT).await), [call, attempt, 8]);
    // It leaves with all eight calls, which may have run.
    peer.send(&frame(6, &[])).await;
    drop(peer);
    let results = soon("the results", run).await.expect("ends");
    assert!(results.iter().all(|result| matches!(result, Err(CallError::NodeLost { .. }))), "{results:?}");
}

#[tokio::test]
async fn a_node_cannot_keep_more_calls_than_it_was_granted() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let mut peer = Impostor::node(master.local_addr(), "liar", &[ADD]).await.expect("registers");
    let run = tokio::spawn((0..8).map(move |number| probe.add(number, 1)).distribute().batch(8).collect::<Vec<_>>());
    let [_, _, call, attempt, _, granted] = numbers(&peer.receive(kind::REQUEST).await);
    peer.send(&extent(kind::GIVE_BACK, call, attempt, 5)).await;
    drop(peer);
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let results = soon("the results", run).await.expect("ends");
    let lost = results.iter().filter(|result| matches!(result, Err(CallError::NodeLost { .. }))).count();
    assert_eq!((lost, granted), (2, 2));
    assert_eq!(results[2..], (2..8).map(|number| Ok(number + 1)).collect::<Vec<_>>());
}

/// A node, and the test as its master.
async fn node() -> (Node, Impostor) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr: SocketAddr = listener.local_addr().expect("has one");
    let node = Node::builder().serve(ProbeServer::new(Prober)).slots(1);
    let (node, peer) =
        tokio::join!(node.spawn(addr), Impostor::master(&listener, Duration::from_secs(1), Duration::from_secs(60)));
    (node.expect("registers"), peer)
}

fn sums(count: i64) -> Vec<Vec<u8>> {
    (0..count).map(|number| [signed(number), signed(1)].concat()).collect()
}

/// The first numbers of the next response: request, outcome and count of calls.
async fn answered(peer: &mut Impostor) -> [u64; 3] {
    numbers(&peer.receive(kind::RESPONSE).await)
}

#[tokio::test]
async fn a_node_starts_no_more_calls_than_it_was_granted() {
    let (_node, mut peer) = node().await;
    peer.send(&batch(1, 10, 2, ADD, &sums(8))).await;
    let [call, attempt, upto] = numbers(&peer.receive(kind::REQUEST_GRANT).await);
    assert_eq!((call, attempt), (10, 1));
    assert!((3..=8).contains(&upto), "it asks for {upto}");
    // Grants that it did not ask for, for calls that it does not have, and for less than before.
    for (call, attempt, upto) in [(11, 1, 8), (10, 2, 8), (10, 1, 0), (10, 1, 1), (u64::MAX, 0, u64::from(u32::MAX))] {
        peer.send(&extent(kind::GRANT, call, attempt, upto)).await;
    }
    // No grant comes, so it gives back the calls that it may not start, and its slot is free. Two threads send the two
    // frames, so they come in any order.
    for _ in 0..2 {
        let (kind, body) = peer.receive_one_of(&[kind::GIVE_BACK, kind::RESPONSE]).await;
        match numbers::<3>(&body) {
            told if kind == kind::GIVE_BACK => assert_eq!(told, [10, 1, 2]),
            [request, _, count] => assert_eq!((request, count), (1, 2)),
        }
    }
    // A grant of more calls than the batch has, at once or later, is a grant of all.
    peer.send(&batch(2, 20, u64::from(u32::MAX), ADD, &sums(8))).await;
    let [request, _, count] = answered(&mut peer).await;
    assert_eq!((request, count), (2, 8));
    peer.send(&batch(3, 30, 1, ADD, &sums(8))).await;
    peer.receive(kind::REQUEST_GRANT).await;
    peer.send(&extent(kind::GRANT, 30, 1, u64::from(u32::MAX))).await;
    let [request, _, count] = answered(&mut peer).await;
    assert_eq!((request, count), (3, 8));
}

#[tokio::test]
async fn a_batch_that_waits_for_a_grant_can_be_cancelled() {
    let (_node, mut peer) = node().await;
    let mut stopped = 0;
    // One call of each batch is granted, so that it waits at once.
    for id in 1..=20 {
        peer.send(&batch(id, id * 10, 1, ADD, &sums(3))).await;
        peer.receive(kind::REQUEST_GRANT).await;
        peer.send(&frame(kind::CANCEL, &[number(id * 10), number(1)].concat())).await;
        let body = peer.receive(kind::RESPONSE).await;
        assert_eq!(u64::from(body[0]), id);
        stopped += usize::from(body[body.len() - 1] == 6);
    }
    // On a slow machine, the node may have given back its calls before the cancel arrived.
    assert!(stopped > 0);
    peer.send(&request(99, 9000, None, ADD, &[signed(20), signed(22)].concat())).await;
    assert_eq!(peer.receive_response().await, (99, [outcome::VALUE, &signed(42)].concat()));
}

#[tokio::test]
async fn a_grant_is_sent_by_masters_only_and_a_request_for_it_by_nodes_only() {
    let (_node, mut peer) = node().await;
    peer.send(&extent(kind::REQUEST_GRANT, 1, 1, 1)).await;
    soon("the node to leave", peer.stream.read_to_end(&mut Vec::new())).await.expect("it closes");

    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let mut peer = Impostor::node(master.local_addr(), "confused", &[ADD]).await.expect("registers");
    peer.send(&extent(kind::GRANT, 1, 1, 1)).await;
    let gone = soon("the node to be disconnected", async {
        loop {
            let event = events.next().await.expect("the master lives").to_string();
            if event.contains("a `grant` frame, which its end") {
                return event;
            }
        }
    });
    gone.await;
}
