//! Batches whose node dies under them: what had not been started is run elsewhere, and a call that ends its
//! nodes takes no other with it. Over real processes, since one of the calls ends them.

use std::{process::Stdio, time::Duration};

use distribution::{CallError, Master, Node, prelude::*};
use distribution_tests::{over_tcp_and_tls, soon, transport::Transport};
use tokio::process::{Child, Command};

over_tcp_and_tls! {
    a_call_that_ends_its_nodes_costs_its_neighbours_nothing,
    of_a_batch_that_is_lost_only_what_its_node_may_have_started_fails,
    a_batch_that_asks_for_all_of_itself_comes_whole,
}

#[distribution::service]
trait Fragile {
    /// Doubles; ends the process at one number in `every`, the third, or never.
    #[rpc(idempotent)]
    fn double(&self, number: u64, every: u64) -> u64;
    /// The same, and must not be repeated.
    fn double_once(&self, number: u64, every: u64) -> u64;
}

struct Glass;

impl Fragile for Glass {
    fn double(&self, number: u64, every: u64) -> u64 {
        if is_deadly(number, every) {
            std::process::abort();
        }
        number * 2
    }

    fn double_once(&self, number: u64, every: u64) -> u64 {
        self.double(number, every)
    }
}

const NEVER: u64 = 0;

fn is_deadly(number: u64, every: u64) -> bool {
    every > 0 && number % every == 2
}

/// Not a test: a node in a process of its own, when it is run for that.
#[tokio::test]
async fn serves_as_a_node() {
    let Ok(place) = std::env::var("FRAGILE_NODE") else { return };
    let (addr, name) = place.split_once(' ').expect("address and name");
    Node::builder().serve(FragileServer::new(Glass)).name(name).slots(1).run(addr).await.expect("serves");
}

fn start(transport: &Transport, master: &Master, name: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "serves_as_a_node", "--nocapture"]);
    command.env("FRAGILE_NODE", format!("{} {name}", master.local_addr()));
    command.env_remove("DISTRIBUTION_TOKEN").envs(transport.environment());
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("starts")
}

/// A node that is started again whenever it dies; gives up when dropped.
async fn keep_alive(transport: &Transport, master: &Master, name: &str) {
    loop {
        start(transport, master, name).wait().await.expect("ends");
    }
}

async fn a_call_that_ends_its_nodes_costs_its_neighbours_nothing(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let fragile = FragileClient::new(&master);
    let run = async {
        soon("the nodes", master.wait_for_nodes(2)).await;
        // Known to be short, so that calls are sent ahead.
        for _ in 0..100 {
            fragile.double(1, NEVER).await.expect("is answered");
        }
        for (every, guilty_ones) in [(50, 4), (200, 1)] {
            let calls = (0..200).map(|number| fragile.double(number, every)).distribute().batch(100);
            let results = soon("the results", calls.collect::<Vec<_>>()).await;
            let is_guilty = |(number, _): &(u64, _)| is_deadly(*number, every);
            let (guilty, innocent): (Vec<_>, Vec<_>) = (0..).zip(results).partition(is_guilty);
            let harmed: Vec<_> = innocent.iter().filter(|(number, result)| *result != Ok(number * 2)).collect();
            assert!(harmed.is_empty(), "{} of {}: {:?}", harmed.len(), innocent.len(), harmed[0]);
            assert_eq!(guilty.len(), guilty_ones);
            for (_, result) in guilty {
                let Err(CallError::Poisoned { nodes, .. }) = result else { panic!("{result:?}") };
                // Once in its batch, unless that was lost before its turn, and three times by itself.
                assert!((3..=4).contains(&nodes.len()), "{nodes:?}");
            }
        }
    };
    tokio::select! {
        () = run => {}
        () = keep_alive(transport, &master, "a") => unreachable!("it goes on for ever"),
        () = keep_alive(transport, &master, "b") => unreachable!("it goes on for ever"),
    }
}

async fn of_a_batch_that_is_lost_only_what_its_node_may_have_started_fails(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let _nodes = [start(transport, &master, "a"), start(transport, &master, "b")];
    soon("the nodes", master.wait_for_nodes(2)).await;
    let fragile = FragileClient::new(&master);
    let calls = (0..200).map(|number| fragile.double_once(number, 200)).distribute().batch(100);
    let results = soon("the results", calls.collect::<Vec<_>>()).await;
    let lost = results.iter().filter(|result| matches!(result, Err(CallError::NodeLost { .. }))).count();
    // The node died at the third call. Of its hundred it was granted a quarter, and had no reason to ask yet; a
    // process that is slow to die may have said where it was.
    assert!((3..=25).contains(&lost), "{lost} calls are lost");
    for (number, result) in (0u64..).zip(results).skip(lost) {
        assert_eq!(result, Ok(number * 2));
    }
    assert_eq!(master.nodes().len(), 1);
}

/// Larger than what the master grants at once, and longer than a question and its answer.
async fn a_batch_that_asks_for_all_of_itself_comes_whole(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let node = transport.node().serve(FragileServer::new(Glass)).slots(1).spawn(master.local_addr());
    let _node = node.await.expect("registers");
    let fragile = FragileClient::new(&master);
    for batch in [2, 3, 5, 8, 1000, 20_000] {
        let calls = (0..20_000).map(|number| fragile.double_once(number, NEVER)).distribute().batch(batch);
        let results = tokio::time::timeout(Duration::from_secs(60), calls.try_collect::<Vec<u64>>()).await;
        assert_eq!(results.expect("it comes to its end").map(|results| results.len()), Ok(20_000), "{batch}");
    }
    assert_eq!(master.stats().answered, 6 * 20_000);
}
