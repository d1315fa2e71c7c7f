//! Nodes that are cut off from their master by the network, in namespaces: noticed, and at work again once it heals.
//! `cargo run --release -p distribution-instruments --bin partitions` does the same at length and with the default heartbeat.

use std::{path::Path, time::Duration};

use distribution_instruments::network::{self, Kind, Network, Outcome, Plan};

/// So that a test takes seconds.
const HEARTBEAT: Duration = Duration::from_millis(200);

const PROGRAM: &str = env!("CARGO_BIN_EXE_partitions");

/// Cuts one node off and heals it again.
async fn part(kind: Kind, nodes: usize) -> Option<Outcome> {
    let network = Network::for_test(nodes).await?;
    let plan = Plan { kind, nodes, heartbeat: HEARTBEAT, phase: 0.5, hold: Duration::ZERO };
    let outcome = network::trial(&network, Path::new(PROGRAM), plan).await.unwrap_or_else(|what| panic!("{what}"));
    // Seven heartbeats, and what a machine under load adds.
    assert!(outcome.noticed < HEARTBEAT * 7 + Duration::from_secs(2), "{outcome:?}");
    assert!(outcome.recovered < Duration::from_secs(15), "{outcome:?}");
    Some(outcome)
}

#[tokio::test]
async fn a_node_that_is_cut_off_is_noticed_by_its_silence_and_comes_back() {
    let Some(outcome) = part(Kind::Both, 3).await else { return };
    assert!(outcome.silent, "{outcome:?}");
    assert!(outcome.noticed > HEARTBEAT * 4, "{outcome:?}");
}

#[tokio::test]
async fn a_node_that_is_not_heard_but_hears_is_noticed_by_its_silence_and_comes_back() {
    let Some(outcome) = part(Kind::ToMaster, 1).await else { return };
    assert!(outcome.silent, "{outcome:?}");
}

#[tokio::test]
async fn a_node_that_does_not_hear_but_is_heard_is_noticed_and_comes_back() {
    // By its silence, since TCP stops sending what is not acknowledged; or because it hangs up by itself.
    part(Kind::ToNode, 1).await;
}

#[tokio::test]
async fn a_connection_that_is_reset_is_noticed_at_once_and_made_anew() {
    let Some(outcome) = part(Kind::Reset, 1).await else { return };
    assert!(!outcome.silent, "{outcome:?}");
    assert!(outcome.noticed < HEARTBEAT * 5, "{outcome:?}");
}

#[tokio::test]
async fn five_percent_loss_and_delay_cost_no_node_and_no_answer() {
    let Some(network) = Network::for_test(2).await else { return };
    let lossy = network::lossy(&network, 2, Path::new(PROGRAM), 5).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(lossy.is_well(), "{lossy:?}");
    assert!((0.01..0.12).contains(&lossy.loss), "the wires are not what they should be: {lossy:?}");
}

#[tokio::test]
async fn a_network_leaves_nothing_behind() {
    let Some(network) = Network::for_test(2).await else { return };
    let name = network.name().to_owned();
    let left = || {
        let there = |folder: &str| {
            let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("an entry").file_name());
            files.filter(|file| file.to_string_lossy().starts_with(&format!("{name}-"))).count()
        };
        (there("/run/netns"), there("/dev"))
    };
    assert_eq!(left(), (4, 0));
    drop(network);
    assert_eq!(left(), (0, 0));
}
