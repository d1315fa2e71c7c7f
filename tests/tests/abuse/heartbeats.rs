//! Nodes that send heartbeats as fast as they can.

use distribution::{Node, error::GoneReason};
use distribution_tests::{
    ProbeServer, Prober,
    impostor::{Impostor, heartbeat, kind},
    soon,
};
use tokio::io::AsyncWriteExt;

use super::{ADD, gone, master};

#[tokio::test]
async fn a_node_that_floods_heartbeats_is_disconnected_and_calls_go_on() {
    let (master, probe) = master().await;
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let mut events = master.events();
    let mut peer = Impostor::node(master.local_addr(), "flood", &[ADD]).await.expect("is taken in");
    // As many heartbeats as come together while a master is stalled are accepted.
    let beats = |count: u64| (0..count).flat_map(|number| heartbeat([0, 0, 0, number % 2, 0])).collect::<Vec<u8>>();
    peer.send(&beats(30)).await;
    peer.receive(kind::MASTER_HEARTBEAT).await;
    let flood = beats(1000);
    let flood = async {
        // Until the master closes.
        while peer.stream.write_all(&flood).await.is_ok() {}
    };
    let calls = async {
        let reason = gone(&mut events).await;
        let GoneReason::Violation(why) = &reason else { panic!("{reason:?}") };
        assert!(why.contains("it sent heartbeats more often"), "{why}");
        for number in 0..100 {
            assert_eq!(probe.add(number, 1).await, Ok(number + 1));
        }
    };
    soon("the calls", async { tokio::join!(flood, calls) }).await;
    assert_eq!(master.nodes().len(), 1);
}
