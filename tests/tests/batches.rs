//! Batches whose node dies: calls that were not started run on another node, and a call that kills its nodes does not
//! affect the others. The nodes are real processes, because one of the calls kills them.

use std::{process::Stdio, time::Duration};

use distribution::{CallError, Master, Node, prelude::*};
use distribution_tests::{over_tcp_and_tls, soon, transport::Transport};
use tokio::process::{Child, Command};

over_tcp_and_tls! {
    a_call_that_kills_its_nodes_does_not_affect_the_other_calls_of_its_batch,
    only_calls_that_a_lost_node_may_have_started_fail,
    a_batch_that_is_granted_in_several_steps_is_answered_completely,
}

#[distribution::service]
trait Fragile {
    /// Doubles. Ends the process for the third of every `interval` numbers; never if that is 0.
    #[rpc(idempotent)]
    fn double(&self, number: u64, interval: u64) -> u64;
    /// The same as a method that must not be repeated.
    fn double_once(&self, number: u64, interval: u64) -> u64;
}

struct Glass;

impl Fragile for Glass {
    fn double(&self, number: u64, interval: u64) -> u64 {
        if is_deadly(number, interval) {
            std::process::abort();
        }
        number * 2
    }

    fn double_once(&self, number: u64, interval: u64) -> u64 {
        self.double(number, interval)
    }
}

const NEVER: u64 = 0;

fn is_deadly(number: u64, interval: u64) -> bool {
    interval > 0 && number % interval == 2
}

/// Not a test, but the node process of the tests below.
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

/// Runs a node, and starts it again whenever it dies.
async fn keep_alive(transport: &Transport, master: &Master, name: &str) {
    loop {
        start(transport, master, name).wait().await.expect("ends");
    }
}

async fn a_call_that_kills_its_nodes_does_not_affect_the_other_calls_of_its_batch(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let fragile = FragileClient::new(&master);
    let run = async {
        soon("the nodes", master.wait_for_nodes(2)).await;
        // Short calls, so that the master sends the next ones ahead.
        for _ in 0..100 {
            fragile.double(1, NEVER).await.expect("is answered");
        }
        for (interval, deadly_calls) in [(50, 4), (200, 1)] {
            let calls = (0..200).map(|number| fragile.double(number, interval)).distribute().batch(100);
            let results = soon("the results", calls.collect::<Vec<_>>()).await;
            let kills_its_node = |(number, _): &(u64, _)| is_deadly(*number, interval);
            let (deadly, others): (Vec<_>, Vec<_>) = (0..).zip(results).partition(kills_its_node);
            let failed: Vec<_> = others.iter().filter(|(number, result)| *result != Ok(number * 2)).collect();
            assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), others.len(), failed[0]);
            assert_eq!(deadly.len(), deadly_calls);
            for (_, result) in deadly {
                let Err(CallError::Poisoned { nodes, .. }) = result else { panic!("{result:?}") };
                // Once in its batch, unless that was lost before, and three times alone.
                assert!((3..=4).contains(&nodes.len()), "{nodes:?}");
            }
        }
    };
    tokio::select! {
        () = run => {}
        () = keep_alive(transport, &master, "a") => unreachable!("it never ends"),
        () = keep_alive(transport, &master, "b") => unreachable!("it never ends"),
    }
}

async fn only_calls_that_a_lost_node_may_have_started_fail(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let _nodes = [start(transport, &master, "a"), start(transport, &master, "b")];
    soon("the nodes", master.wait_for_nodes(2)).await;
    let fragile = FragileClient::new(&master);
    let calls = (0..200).map(|number| fragile.double_once(number, 200)).distribute().batch(100);
    let results = soon("the results", calls.collect::<Vec<_>>()).await;
    let lost = results.iter().filter(|result| matches!(result, Err(CallError::NodeLost { .. }))).count();
    // The node died at the third of its hundred calls. It was granted a quarter of them and had no reason to ask for more
    // yet. If the process was slow to die, it may have told how far it was.
    assert!((3..=25).contains(&lost), "{lost} calls are lost");
    for (number, result) in (0u64..).zip(results).skip(lost) {
        assert_eq!(result, Ok(number * 2));
    }
    assert_eq!(master.nodes().len(), 1);
}

async fn a_batch_that_is_granted_in_several_steps_is_answered_completely(transport: &Transport) {
    let master = transport.master().bind("127.0.0.1:0").await.expect("binds");
    let node = transport.node().serve(FragileServer::new(Glass)).slots(1).spawn(master.local_addr());
    let _node = node.await.expect("registers");
    let fragile = FragileClient::new(&master);
    for batch in [2, 3, 5, 8, 1000, 20_000] {
        let calls = (0..20_000).map(|number| fragile.double_once(number, NEVER)).distribute().batch(batch);
        let results = tokio::time::timeout(Duration::from_secs(60), calls.try_collect::<Vec<u64>>()).await;
        assert_eq!(results.expect("the results come").map(|results| results.len()), Ok(20_000), "{batch}");
    }
    assert_eq!(master.stats().answered, 6 * 20_000);
}
