//! What viewers of the page cost a master of many nodes and methods, and its callers. Instruments, which print figures:
//!
//! ```sh
//! cargo test --release -p distribution-cli --test load -- --ignored --nocapture --test-threads 1
//! ```
//!
//! The master is a process of its own, and everything is on loopback. Each ends by itself within two minutes.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "an instrument tells its figures")]

mod cluster;
mod viewers;

use std::time::{Duration, Instant};

use distribution::{Cluster, Node};
use distribution_tests::{ProbeClient, ProbeServer, Prober, soon};

use self::{
    cluster::{LightNodes, Master, Usage},
    viewers::Viewers,
};

/// How long each reading takes.
const TIME: Duration = Duration::from_secs(8);

/// Calls that callers have at a time.
const AT_A_TIME: usize = 4;

/// How long calls took while something was so, and what the master used.
struct Reading {
    latencies: Vec<Duration>,
    usage: Usage,
}

impl Reading {
    /// Makes calls for some time.
    async fn take(master: &Master, probe: &ProbeClient) -> Self {
        let (before, end) = (master.usage(), Instant::now() + TIME);
        let call = async || {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let began = Instant::now();
                probe.add_async(1, 2).await.expect("answers");
                latencies.push(began.elapsed());
            }
            latencies
        };
        let all: Vec<_> = futures::future::join_all((0..AT_A_TIME).map(|_| call())).await;
        let mut latencies: Vec<Duration> = all.into_iter().flatten().collect();
        latencies.sort_unstable();
        Self { latencies, usage: master.usage().since(&before) }
    }

    fn quantile(&self, part: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * part) as usize]
    }

    fn print(&self, what: &str) {
        let millis = |part| self.quantile(part).as_secs_f64() * 1e3;
        println!(
            "{what:<24} {:>8.0} calls/s   p50 {:>7.3} ms   p99 {:>7.3} ms   p99.9 {:>7.3} ms   master: {:.2} cores, {} MiB",
            self.latencies.len() as f64 / TIME.as_secs_f64(),
            millis(0.5),
            millis(0.99),
            millis(0.999),
            self.usage.cpu.as_secs_f64() / TIME.as_secs_f64(),
            self.usage.memory >> 20
        );
    }
}

/// A node that answers, and a client of a caller elsewhere.
async fn answering(master: &Master) -> (Node, Cluster, ProbeClient) {
    let node = Node::builder().serve(ProbeServer::new(Prober)).slots(2).name("answers");
    let node = soon("the node", node.spawn(&master.addr)).await.expect("registers");
    let cluster = Cluster::connect(&master.addr).await.expect("connects");
    let probe = ProbeClient::new(&cluster);
    (node, cluster, probe)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an instrument: it takes half a minute, and the whole machine"]
async fn fifty_viewers_hold_no_caller_up_beside_200_nodes_with_10_000_methods() {
    let master = Master::start().await;
    let nodes = LightNodes::register(&master.addr, 200, 10, 1000).await;
    let (_node, _cluster, probe) = answering(&master).await;
    Reading::take(&master, &probe).await;
    let without = Reading::take(&master, &probe).await;
    without.print("no viewer");
    let viewers = Viewers::open(master.page(), 50).await;
    viewers.wait_for_updates(2).await;
    let (before, began) = (viewers.bytes(), Instant::now());
    let with = Reading::take(&master, &probe).await;
    with.print("50 viewers");
    let rate = (viewers.bytes() - before) as f64 / began.elapsed().as_secs_f64() / 50.0;
    println!("each viewer gets {:.0} KiB/s", rate / 1024.0);
    viewers.print_sizes();
    drop(viewers);
    nodes.are_there();
    let (without, with) = (without.quantile(0.99), with.quantile(0.99));
    // A time below a millisecond is that of the machine.
    assert!(
        with <= without.max(Duration::from_millis(1)) * 2,
        "p99 {without:?} without viewers, and {with:?} with them"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an instrument: it takes half a minute, and the whole machine"]
async fn an_update_of_a_page_of_1000_nodes_is_small() {
    let master = Master::start().await;
    let nodes = LightNodes::register(&master.addr, 1000, 10, 10).await;
    let before = master.usage();
    let idle = {
        tokio::time::sleep(TIME).await;
        master.usage().since(&before)
    };
    let viewers = Viewers::open(master.page(), 1).await;
    viewers.wait_for_updates(2).await;
    let (before, updates) = (master.usage(), viewers.updates());
    tokio::time::sleep(TIME).await;
    let usage = master.usage().since(&before);
    let updates = viewers.updates() - updates;
    println!("1000 nodes, idle: {:.3} cores; with a viewer: {:.3} cores", cores(&idle), cores(&usage));
    let each = usage.cpu.saturating_sub(idle.cpu).as_secs_f64() * 1e3 / updates.max(1) as f64;
    println!("{updates} updates in {} s, each takes {each:.1} ms of processor", TIME.as_secs());
    viewers.print_sizes();
    nodes.are_there();
    assert!(updates > 0, "the page is brought up to date");
}

fn cores(usage: &Usage) -> f64 {
    usage.cpu.as_secs_f64() / TIME.as_secs_f64()
}
