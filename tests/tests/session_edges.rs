//! Sessions in special situations: what happens to a node or a caller while it is away.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use distribution::{
    Access, CallError, Cluster, Events, Master, Node, NodeEvent, Token, error::GoneReason, prelude::*, service,
};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober, event, failure,
    ledger::{Clerk, LedgerClient, LedgerServer},
    meeting::Meeting,
    proxy::{Proxy, Way},
    soon, until,
};

const LONG: Duration = Duration::from_secs(3600);

#[service]
trait Work {
    /// Takes no time, apart from the entry of the gate.
    fn pass(&self, entry: u64) -> u64;
}

#[derive(Clone, Default)]
struct Worker(Arc<State>);

#[derive(Default)]
struct State {
    times: Mutex<HashMap<u64, u32>>,
    /// The entry that waits here.
    gated: AtomicU64,
    is_at_gate: Mutex<bool>,
    open: Mutex<bool>,
    changed: Condvar,
}

impl Work for Worker {
    fn pass(&self, entry: u64) -> u64 {
        if entry == self.0.gated.load(Ordering::SeqCst) {
            *self.0.is_at_gate.lock().expect("is whole") = true;
            let mut open = self.0.open.lock().expect("is whole");
            while !*open {
                open = self.0.changed.wait(open).expect("is whole");
            }
        }
        *self.0.times.lock().expect("is whole").entry(entry).or_default() += 1;
        entry
    }
}

/// Breaks a node's connection for as long as the test wants, and waits until the master has noticed.
async fn break_connection(proxy: &Proxy, events: &mut Events) {
    proxy.cut_and_refuse();
    event(events, "the break", |event| matches!(event, NodeEvent::Disconnected { .. })).await;
}

/// A replica of the same name joins (or: re-joins, because it had no calls) while another one is away.
async fn same_name(rejoins: bool) {
    let master = Master::builder().reconnect_grace(LONG).bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let proxies = [Proxy::to(master.local_addr()).await, Proxy::to(master.local_addr()).await];
    let node =
        |at: usize| Node::builder().name("worker").slots(1).serve(ProbeServer::new(Prober)).spawn(proxies[at].addr());
    let busy = node(0).await.expect("registers");
    let (mut meeting, probe) = (Meeting::new().await, ProbeClient::new(&master));
    let held = probe.hold(meeting.addr(), "a".to_owned()).on(busy.id()).send();
    let guest = meeting.guest("a").await;
    let mut other = None;
    if rejoins {
        other = Some(node(1).await.expect("registers"));
    }
    break_connection(&proxies[0], &mut events).await;
    if rejoins {
        // The same break of the network: it had no calls, so it is gone and joins again.
        proxies[1].cut();
        event(&mut events, "the other one goes", |event| matches!(event, NodeEvent::Gone { .. })).await;
    } else {
        other = Some(node(1).await.expect("registers"));
    }
    event(&mut events, "the other one joins", |event| matches!(event, NodeEvent::Joined { .. })).await;
    proxies[0].refuse(false);
    guest.release().await;
    assert_eq!(soon("the result", held).await, Ok(Held::Released));
    drop(other);
}

#[tokio::test]
async fn a_replica_of_the_same_name_that_joins_does_not_end_the_session_of_another() {
    same_name(false).await;
}

#[tokio::test]
async fn a_replica_of_the_same_name_that_comes_back_first_does_not_end_the_session_of_another() {
    same_name(true).await;
}

#[tokio::test]
async fn a_node_that_is_away_is_gone_when_its_token_is_revoked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("t");
    let _keep = Token::issue(&file, Access::Callers).expect("writes");
    let token = Token::issue(&file, Access::Nodes).expect("writes");
    let master = Master::builder()
        .reconnect_grace(LONG)
        .heartbeat(Duration::from_millis(100))
        .token_file(&file)
        .bind("127.0.0.1:0")
        .await
        .expect("binds");
    let mut events = master.events();
    let proxy = Proxy::to(master.local_addr()).await;
    let _node = Node::builder()
        .slots(1)
        .token(token.expose())
        .serve(ProbeServer::new(Prober))
        .spawn(proxy.addr())
        .await
        .expect("registers");
    let (mut meeting, probe) = (Meeting::new().await, ProbeClient::new(&master));
    let held = probe.hold(meeting.addr(), "a".to_owned()).send();
    let _guest = meeting.guest("a").await;
    break_connection(&proxy, &mut events).await;
    assert!(Token::revoke(&file, &token.id()).is_ok());
    let error = failure(soon("the end of the call", held).await);
    assert!(matches!(&error, CallError::NodeLost { reason: GoneReason::Revoked, .. }), "{error:?}");
    event(&mut events, "the end", |event| matches!(event, NodeEvent::Gone { reason: GoneReason::Revoked, .. })).await;
}

#[tokio::test]
async fn a_node_that_is_away_drains_when_it_is_back() {
    let master = Master::builder().reconnect_grace(LONG).bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let proxy = Proxy::to(master.local_addr()).await;
    let node = Node::builder().slots(1).serve(ProbeServer::new(Prober)).spawn(proxy.addr()).await.expect("registers");
    let (mut meeting, probe) = (Meeting::new().await, ProbeClient::new(&master));
    let held = probe.hold(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    break_connection(&proxy, &mut events).await;
    master.drain(node.id()).expect("is registered");
    proxy.refuse(false);
    event(&mut events, "the return", |event| matches!(event, NodeEvent::Resumed { .. })).await;
    guest.release().await;
    assert_eq!(soon("the result", held).await, Ok(Held::Released));
    soon("the end of the node", node.wait()).await.expect("ends in order");
}

#[tokio::test]
async fn a_call_that_never_arrived_is_sent_again_behind_many_gaps() {
    let master = Master::builder().resume_timeout(LONG).bind("127.0.0.1:0").await.expect("binds");
    let clerk = Clerk::default();
    let node = Node::builder().slots(2).serve(LedgerServer::new(clerk.clone())).spawn(master.local_addr());
    let _node = node.await.expect("registers");
    let proxy = Proxy::to(master.local_addr()).await;
    let cluster = Cluster::builder().reconnect_timeout(LONG).connect(proxy.addr()).await.expect("connects");
    let ledger = LedgerClient::new(&cluster);
    assert_eq!(soon("a call", ledger.enter(0)).await, Ok(0));
    proxy.swallow(Way::ToMaster);
    // Larger than heartbeats, so that it is seen to be written.
    let call = ledger.enter(1).metadata("reason", "x".repeat(1_000)).send();
    until("it was written", || proxy.swallowed(Way::ToMaster) > 1_000).await;
    proxy.cut_and_refuse();
    until("the caller has noticed", || !cluster.is_connected()).await;
    // Made meanwhile; every other one is dropped again.
    let kept: Vec<_> = (0..12_000u64)
        .map(|entry| (100 + entry, ledger.enter(100 + entry).send()))
        .filter(|(entry, _)| entry % 2 == 1)
        .collect();
    proxy.refuse(false);
    assert_eq!(soon("the first one", call).await, Ok(1));
    for (entry, call) in kept {
        assert_eq!(soon("another", call).await, Ok(entry));
    }
    assert_eq!(clerk.times(1), 1);
}

#[tokio::test]
async fn what_a_batch_gives_back_while_the_connection_is_broken_runs_elsewhere() {
    let master = Master::builder().reconnect_grace(LONG).bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let proxy = Proxy::to(master.local_addr()).await;
    let worker = Worker::default();
    let node =
        Node::builder().slots(2).serve(WorkServer::new(worker.clone())).spawn(proxy.addr()).await.expect("registers");
    let work = WorkClient::new(&master);
    worker.0.gated.store(u64::MAX, Ordering::SeqCst);
    // So that batches are long.
    let first: Vec<_> = (0..50_000u64).map(|entry| work.pass(entry)).distribute().collect::<Vec<_>>().await;
    assert_eq!(first.len(), 50_000);
    // Results come in order, so those behind the gate wait in the run's window. That has room for a few thousand calls where they
    // are slow, as in a debug build on a busy machine, and has to have room for all that follow.
    worker.0.gated.store(120_000, Ordering::SeqCst);
    const CALLS: u64 = 50_000;
    let results = (0..CALLS).map(move |entry| work.pass(75_001 + entry)).distribute().collect::<Vec<_>>();
    let all = tokio::spawn(results);
    until("the gate is reached", || *worker.0.is_at_gate.lock().expect("is whole")).await;
    break_connection(&proxy, &mut events).await;
    // The node gives the rest of a batch back when it has run for 100 ms, and nobody outside the node sees that while there is
    // no connection. If this is too short on a busy machine, the rest is given back later, and the same must hold.
    tokio::time::sleep(Duration::from_millis(400)).await;
    proxy.refuse(false);
    event(&mut events, "the return", |event| matches!(event, NodeEvent::Resumed { .. })).await;
    let count = || worker.0.times.lock().expect("is whole").len() as u64;
    until("all others have run in the free slot", || count() == 50_000 + CALLS - 1).await;
    *worker.0.open.lock().expect("is whole") = true;
    worker.0.changed.notify_all();
    for (at, result) in (0..).zip(soon("all", all).await.expect("does not panic")) {
        assert_eq!(result, Ok(75_001 + at));
    }
    assert!(worker.0.times.lock().expect("is whole").values().all(|times| *times == 1));
    drop(node);
}
