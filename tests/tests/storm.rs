//! Nodes that register all at once, over a line on which a round trip takes 100 ms.

use std::time::Duration;

use distribution::Master;
use distribution_tests::{
    LONG,
    impostor::{preface, take_number},
    soon,
    storm::storm,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

const ROUND_TRIP: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_nodes_at_one_address_all_register_in_a_few_tries() {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::builder().token_file(folder.path().join("token")).bind("127.0.0.1:0").await.expect("binds");
    let token = master.token().expect("there is one").expose().to_owned();
    let storm = storm(&master, Some(&token), 100, ROUND_TRIP, LONG).await;
    assert_eq!((storm.nodes.len(), master.nodes().len()), (100, 100));
    // Each that finds no room is told when there is, and then mostly there is. Without that they try four times.
    assert!(storm.tries < 300, "{} tries", storm.tries);
    let turned_away = master.stats().turned_away;
    assert!((1..200).contains(&turned_away), "the door was full, and {turned_away} were turned away");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_do_they_at_a_master_without_security() {
    let master = Master::builder().max_handshakes_per_address(8).bind("127.0.0.1:0").await.expect("binds");
    let storm = storm(&master, None, 50, ROUND_TRIP, LONG).await;
    assert_eq!((storm.nodes.len(), master.nodes().len()), (50, 50));
    assert!(storm.tries < 300, "{} tries", storm.tries);
}

/// What a master says to one more connection than it has room for.
async fn told(master: &Master) -> Vec<u8> {
    let _silent = TcpStream::connect(master.local_addr()).await.expect("connects");
    let mut newcomer = TcpStream::connect(master.local_addr()).await.expect("connects");
    let mut told = Vec::new();
    soon("to be told", newcomer.read_to_end(&mut told)).await.expect("reads");
    told
}

#[tokio::test]
async fn whoever_finds_no_room_is_told_when_to_come_again() {
    let master = Master::builder().max_handshakes(1).bind("127.0.0.1:0").await.expect("binds");
    let told_openly = told(&master).await;
    let (theirs, verdict) = told_openly.split_at(32);
    assert_eq!(theirs, preface(1, 0));
    let mut verdict = &verdict[4..];
    assert_eq!(take_number(&mut verdict), 2, "busy");
    assert!((100_000..40_000_000).contains(&take_number(&mut verdict)), "a time in microseconds");

    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::builder().max_handshakes(1).token_file(folder.path().join("token"));
    let master = master.bind("127.0.0.1:0").await.expect("binds");
    let alert = told(&master).await;
    assert_eq!(alert[..6], [21, 3, 3, 0, 2, 2], "a TLS alert");
    assert!(alert[6] >= 192, "of those that TLS leaves free");
}
