//! Nodes that register all at once, over a line on which a round trip takes 100 ms.

use std::time::Duration;

use distribution::Master;
use distribution_instruments::storm::storm;
use distribution_tests::LONG;

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
    assert!((1..200).contains(&turned_away), "there was no place for all, and {turned_away} were turned away");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_nodes_at_one_address_all_register_at_a_master_without_security() {
    let master = Master::builder().max_handshakes_per_address(8).bind("127.0.0.1:0").await.expect("binds");
    let storm = storm(&master, None, 50, ROUND_TRIP, LONG).await;
    assert_eq!((storm.nodes.len(), master.nodes().len()), (50, 50));
    assert!(storm.tries < 300, "{} tries", storm.tries);
}
