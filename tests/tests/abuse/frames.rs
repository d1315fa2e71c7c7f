//! Peers that begin messages and keep the master's memory and time by them.

use std::{fs, path::Path, time::Duration};

use distribution::{Master, Node, error::GoneReason};
use distribution_tests::{
    LONG, ProbeClient, ProbeServer, Prober,
    impostor::{self, Impostor, chunks, heartbeat, kind},
    process::Process,
    soon,
};
use futures::future::join_all;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::gone;

const MIB: usize = 1 << 20;

/// Registers, and begins a response of this length with this much of it, once it is accepted.
async fn begin(master: &Master, name: &str, length: usize, begun: usize) -> Impostor {
    let mut peer = Impostor::node(master.local_addr(), name, &[]).await.expect("is taken in");
    peer.send(&impostor::begin(0, length as u64)).await;
    peer.receive(kind::ACCEPT).await;
    peer.send(&chunks(0, &vec![0; begun])).await;
    peer
}

/// Sends a byte now and then, until the connection is closed.
async fn drip(mut peer: Impostor) {
    while peer.stream.write_all(&chunks(0, &[0])).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a process may write to, in KiB, be it in use or not.
fn reserved(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("reads");
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).expect("is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn messages_that_are_announced_and_do_not_come_take_no_memory() {
    let mut master = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["master", "127.0.0.1:0", "60000"]);
    let line = master.line_with("listening ").await;
    let addr = line.trim_start_matches("listening ").parse().expect("an address");
    let before = reserved(master.id());
    let mut peers = Vec::new();
    for number in 0..40 {
        let name = format!("begins-{number}");
        let mut peer = Impostor::node(addr, &name, &[]).await.expect("is taken in");
        peer.send(&[heartbeat([0; 5]), impostor::begin(0, 64 * MIB as u64)].concat()).await;
        for byte in 0..10 {
            peer.send(&chunks(0, &[byte])).await;
        }
        peers.push(peer);
    }
    // All of it was read, and all tasks have gone on, when one more has come and gone.
    let mut last = Impostor::node(addr, "last", &[]).await.expect("is taken in");
    last.send(&[0, 0, 0, 0, 77]).await;
    while !master.line_with("node last").await.contains("gone") {}
    let grown = reserved(master.id()).saturating_sub(before) / 1024;
    // Some of it for threads.
    assert!(grown < 500, "{grown} MiB for 40 messages of 64 MiB of which a few bytes came");
}

#[tokio::test]
async fn forty_messages_that_drip_end_their_connections_and_hold_nobody_up() {
    let master = Master::builder().read_timeout(Duration::from_millis(500)).bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let mut events = master.events();
    let mut drips = Vec::new();
    for number in 0..40 {
        let peer = begin(&master, &format!("drips-{number}"), 64 * MIB - 1, 2 * MIB).await;
        drips.push(tokio::spawn(drip(peer)));
    }
    let ends = async {
        for _ in 0..40 {
            let reason = gone(&mut events).await;
            assert!(matches!(&reason, GoneReason::Violation(what) if what.contains("neither finishes it")), "{reason}");
        }
    };
    let calls = async {
        loop {
            assert_eq!(probe.add(1, 1).await, Ok(2));
            assert_eq!(probe.bytes(500_000).await.map(|bytes| bytes.len()), Ok(500_000));
        }
    };
    tokio::select! {
        () = ends => {}
        () = calls => {}
    }
    for drip in drips {
        soon("the peer to notice", drip).await.expect("runs");
    }
}

#[tokio::test]
async fn a_large_value_comes_through_beside_those_that_keep_memory() {
    let master =
        Master::builder().max_message_size(64 * MIB).max_in_flight_bytes(80 * MIB).heartbeat(LONG).bind("127.0.0.1:0");
    let master = master.await.expect("binds");
    let probe = ProbeClient::new(&master);
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let _hoarder = begin(&master, "hoards", 64 * MIB - 1, 2 * MIB).await;
    for _ in 0..5 {
        assert_eq!(soon("the call", probe.bytes(15 << 20)).await.map(|bytes| bytes.len()), Ok(15 << 20));
    }
}

#[tokio::test]
async fn a_large_value_waits_for_memory_and_nothing_else_on_its_connection_does() {
    let master = Master::builder()
        .max_message_size(16 * MIB)
        .max_in_flight_bytes(32 * MIB)
        // It is silent for far longer than this allows.
        .heartbeat(Duration::from_millis(200))
        .read_timeout(Duration::from_secs(6))
        .bind("127.0.0.1:0")
        .await
        .expect("binds");
    let probe = ProbeClient::new(&master);
    let node = Node::builder().serve(ProbeServer::new(Prober)).slots(2).spawn(master.local_addr());
    let node = node.await.expect("registers");
    let mut events = master.events();
    let mut drips = Vec::new();
    for number in 0..2 {
        let peer = begin(&master, &format!("hoards-{number}"), 15 * MIB, 2 * MIB).await;
        drips.push(tokio::spawn(drip(peer)));
    }
    let large = probe.bytes(12 << 20).on(node.id()).answer();
    let small = async {
        loop {
            // Over the same connection.
            assert_eq!(probe.add(1, 1).on(node.id()).await, Ok(2));
            assert_eq!(probe.bytes(900_000).on(node.id()).await.map(|bytes| bytes.len()), Ok(900_000));
        }
    };
    let answer = tokio::select! {
        answer = soon("the call", large) => answer.expect("answers"),
        () = small => unreachable!("it goes on and on"),
    };
    assert_eq!((answer.value.len(), answer.node.id, answer.attempts), (12 << 20, node.id(), 1));
    let reason = gone(&mut events).await;
    assert!(matches!(&reason, GoneReason::Violation(what) if what.contains("while others wait")), "{reason}");
    for drip in drips {
        soon("the peer to notice", drip).await.expect("runs");
    }
    assert!(master.nodes().iter().any(|it| it.id == node.id()), "it waited for us");
}

#[tokio::test]
async fn messages_beyond_the_budget_are_not_accepted_until_others_are_complete() {
    const PEERS: usize = 8;
    const LENGTH: usize = 24 * MIB;
    let master = Master::builder()
        .max_message_size(LENGTH)
        .max_in_flight_bytes(2 * LENGTH)
        .read_timeout(LONG)
        .heartbeat(LONG)
        .bind("127.0.0.1:0")
        .await
        .expect("binds");
    let probe = ProbeClient::new(&master);
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let (sent, mut has_sent) = mpsc::unbounded_channel();
    let mut peers = Vec::new();
    for number in 0..PEERS {
        let mut peer = Impostor::node(master.local_addr(), &format!("large-{number}"), &[]).await.expect("is taken in");
        peer.send(&impostor::begin(0, LENGTH as u64)).await;
        let sent = sent.clone();
        peers.push(tokio::spawn(async move {
            peer.receive(kind::ACCEPT).await;
            // All but the last byte.
            peer.send(&chunks(0, &vec![0; LENGTH - 1])).await;
            let (finish, go_on) = tokio::sync::oneshot::channel();
            sent.send((number, finish)).expect("the test goes on");
            go_on.await.expect("the test goes on");
            // All zeros, which is an answer to a request that nobody made.
            peer.send(&chunks(0, &[0])).await;
        }));
    }
    let mut kept = Vec::new();
    for begun in 0..PEERS {
        kept.push(soon("a message to be accepted", has_sent.recv()).await.expect("they go on"));
        if kept.len() == 2 || begun == PEERS - 1 {
            // Time for others, if they were let in.
            for _ in 0..50 {
                assert_eq!(probe.add(1, 1).await, Ok(2));
            }
            assert!(has_sent.try_recv().is_err(), "a third was accepted while two are not complete");
            let (_, finish) = kept.remove(0);
            finish.send(()).expect("it waits");
        }
    }
    let (_, finish) = kept.remove(0);
    finish.send(()).expect("it waits");
    for peer in join_all(peers).await {
        peer.expect("runs");
    }
}

#[tokio::test]
async fn the_budget_must_have_room_for_any_message() {
    let error =
        Master::builder().max_in_flight_bytes(1000).bind("127.0.0.1:0").await.expect_err("cannot be").to_string();
    assert!(error.contains("max_in_flight_bytes") && error.contains("max_message_size"), "{error}");
    let just_enough = Master::builder().max_message_size(32 * MIB).max_in_flight_bytes(32 * MIB);
    drop(just_enough.bind("127.0.0.1:0").await.expect("can be"));
}
