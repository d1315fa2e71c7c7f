//! Connections of nodes that break while both processes live: handlers go on, and no result is lost or made twice.

use std::time::Duration;

use distribution::{
    CallError, Events, Master, Node, NodeBuilder, NodeEvent,
    error::{Execution, GoneReason},
    prelude::*,
};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober, event,
    ledger::{Clerk, LedgerClient, LedgerServer},
    meeting::Meeting,
    over_tcp_and_tls,
    proxy::{Proxy, WAYS, Way},
    soon,
    transport::Transport,
    until,
};

/// A master, and a node that connects through a proxy.
struct Cluster {
    master: Master,
    proxy: Proxy,
    clerk: Clerk,
    events: Events,
    /// `None` once a test has taken it.
    node: Option<Node>,
}

impl Cluster {
    async fn start(transport: &Transport, grace: Duration) -> Self {
        Self::start_with(transport, grace, |node| node).await
    }

    async fn start_with(
        transport: &Transport,
        grace: Duration,
        change: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Self {
        let master = transport.master().reconnect_grace(grace).bind("127.0.0.1:0").await.expect("binds");
        let proxy = Proxy::to(master.local_addr()).await;
        let clerk = Clerk::default();
        let events = master.events();
        let node = transport
            .node()
            .serve(LedgerServer::new(clerk.clone()))
            .serve(ProbeServer::new(Prober))
            .slots(2)
            .name("behind");
        let node = change(node).spawn(proxy.addr()).await.expect("registers");
        Self { master, proxy, clerk, events, node: Some(node) }
    }

    fn probe(&self) -> ProbeClient {
        ProbeClient::new(&self.master)
    }

    fn ledger(&self) -> LedgerClient {
        LedgerClient::new(&self.master)
    }

    /// Waits for an event of this kind.
    async fn event(&mut self, is_it: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
        event(&mut self.events, "an event", is_it).await
    }

    /// Breaks the connection for as long as the test wants, and returns what the master says of it.
    async fn break_connection(&mut self) -> NodeEvent {
        self.proxy.cut_and_refuse();
        self.event(|event| matches!(event, NodeEvent::Disconnected { .. })).await
    }

    async fn resumed(&mut self) {
        self.event(|event| matches!(event, NodeEvent::Resumed { .. })).await;
    }
}

const LONG: Duration = Duration::from_secs(3600);

async fn a_handler_goes_on_while_its_connection_is_broken(transport: &Transport) {
    let mut cluster = Cluster::start(transport, LONG).await;
    let (mut meeting, probe) = (Meeting::new().await, cluster.probe());
    let calls = [probe.hold(meeting.addr(), "a".to_owned()).send(), probe.wait(meeting.addr(), "b".to_owned()).send()];
    let guests = [meeting.guest("a").await, meeting.guest("b").await];
    let id = cluster.master.nodes()[0].id;
    let lost = cluster.break_connection().await;
    assert!(matches!(&lost, NodeEvent::Disconnected { in_flight: 2, .. }), "{lost:?}");
    let info = &cluster.master.nodes()[0];
    assert_eq!((info.state, info.in_flight), (distribution::NodeState::Disconnected, 2));
    // One of them ends before the node is back.
    let [one, other] = guests;
    one.release().await;
    cluster.proxy.refuse(false);
    cluster.resumed().await;
    other.release().await;
    for call in calls {
        let answer = soon("the result", call.answer()).await.expect("is answered");
        assert_eq!((answer.value, answer.attempts, answer.node.id), (Held::Released, 1, id));
    }
    let info = &cluster.master.nodes()[0];
    assert_eq!((info.state, info.id), (distribution::NodeState::Alive, id));
    assert_eq!(soon("a call", cluster.probe().add(1, 2)).await, Ok(3));
}

async fn a_result_that_was_sent_and_never_arrived_is_delivered(transport: &Transport) {
    const SIZE: u64 = 10_000;
    let mut cluster = Cluster::start(transport, LONG).await;
    let ledger = cluster.ledger();
    for entry in 0..2 {
        cluster.proxy.swallow(Way::ToMaster);
        let call = match entry {
            0 => ledger.enter_large(entry, SIZE).send(),
            _ => ledger.enter_large_async(entry, SIZE).send(),
        };
        // Heartbeats are much smaller.
        until("the result was written", || cluster.proxy.swallowed(Way::ToMaster) as u64 > SIZE).await;
        cluster.proxy.cut();
        cluster.resumed().await;
        assert_eq!(soon("the result", call).await, Ok(vec![entry as u8; SIZE as usize]));
        assert_eq!(cluster.clerk.times(entry), 1);
    }
}

async fn a_request_that_never_arrived_is_sent_again(transport: &Transport) {
    let cluster = Cluster::start(transport, LONG).await;
    let ledger = cluster.ledger();
    cluster.proxy.swallow(Way::ToPeer);
    let calls: Vec<_> = (0..10)
        .map(|entry| if entry % 2 == 0 { ledger.enter(entry).send() } else { ledger.enter_async(entry).send() })
        .collect();
    // Heartbeats are too small and too rare for that.
    until("requests were written", || cluster.proxy.swallowed(Way::ToPeer) > 100).await;
    cluster.proxy.cut();
    for (entry, call) in (0..).zip(calls) {
        assert_eq!(soon("the result", call).await, Ok(entry));
        assert_eq!(cluster.clerk.times(entry), 1);
    }
}

async fn a_call_that_is_cut_at_any_byte_runs_once_and_is_answered(transport: &Transport) {
    let cluster = Cluster::start(transport, LONG).await;
    let ledger = cluster.ledger();
    let mut entry = 0;
    for way in WAYS {
        // Beyond that, heartbeats follow the frames of the call.
        for bytes in 0..90 {
            entry += 1;
            cluster.proxy.cut_after(way, bytes);
            let call = if bytes % 2 == 0 { ledger.enter(entry).send() } else { ledger.enter_async(entry).send() };
            assert_eq!(soon("the result", call).await, Ok(entry), "{bytes} bytes {way:?}");
            assert_eq!(cluster.clerk.times(entry), 1, "{bytes} bytes {way:?}");
            // The next call meets a connection that works.
            cluster.proxy.cut_after(way, u32::MAX);
            soon("a connection", cluster.master.wait_for_nodes(1)).await;
        }
    }
    assert!(cluster.proxy.connections() > 20, "{}", cluster.proxy.connections());
}

async fn a_call_that_is_cancelled_meanwhile_is_cancelled_when_the_node_is_back(transport: &Transport) {
    let mut cluster = Cluster::start(transport, LONG).await;
    let (mut meeting, probe) = (Meeting::new().await, cluster.probe());
    let call = probe.hold(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    cluster.break_connection().await;
    drop(call);
    cluster.proxy.refuse(false);
    cluster.resumed().await;
    soon("the handler", guest.gone()).await;
    until("its slot is free", || cluster.master.stats().in_flight == 0).await;
}

async fn a_node_that_does_not_come_back_in_time_has_lost_its_calls(transport: &Transport) {
    let mut cluster = Cluster::start(transport, Duration::from_millis(50)).await;
    let (mut meeting, probe) = (Meeting::new().await, cluster.probe());
    let call = probe.hold(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    cluster.proxy.cut_and_refuse();
    match soon("the call", call).await {
        Err(CallError::NodeLost { reason: GoneReason::Disconnected | GoneReason::Broken(_), .. }) => {}
        other => panic!("{other:?}"),
    }
    cluster.event(|event| matches!(event, NodeEvent::Gone { in_flight: 1, .. })).await;
    cluster.proxy.refuse(false);
    // It registers anew, and is told that nobody waits for its handler.
    cluster.event(|event| matches!(event, NodeEvent::Joined { .. })).await;
    soon("the handler", guest.gone()).await;
}

async fn without_a_grace_a_node_is_gone_at_once(transport: &Transport) {
    let mut cluster = Cluster::start(transport, Duration::ZERO).await;
    let (mut meeting, probe) = (Meeting::new().await, cluster.probe());
    let call = probe.hold(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    cluster.proxy.cut();
    let error = soon("the call", call).await.expect_err("is lost");
    assert_eq!(error.execution(), Execution::MayHaveRun);
    soon("the handler", guest.gone()).await;
    cluster.event(|event| matches!(event, NodeEvent::Gone { .. })).await;
}

async fn a_node_without_calls_is_gone_at_once(transport: &Transport) {
    let mut cluster = Cluster::start(transport, LONG).await;
    assert_eq!(soon("a call", cluster.probe().add(1, 2)).await, Ok(3));
    cluster.proxy.cut();
    cluster.event(|event| matches!(event, NodeEvent::Gone { in_flight: 0, .. })).await;
    cluster.event(|event| matches!(event, NodeEvent::Joined { .. })).await;
}

async fn a_handler_that_waits_for_a_nested_call_goes_on(transport: &Transport) {
    let mut cluster = Cluster::start(transport, LONG).await;
    let (mut meeting, ledger) = (Meeting::new().await, cluster.ledger());
    let call = ledger.enter_later(7, meeting.addr()).send();
    let guest = meeting.guest("7").await;
    cluster.proxy.cut();
    cluster.resumed().await;
    // The handler that waits has lent its slot, and the one that it waits for has the other.
    assert_eq!(soon("a call in the lent slot", cluster.probe().add(1, 2)).await, Ok(3));
    guest.release().await;
    assert_eq!(soon("the result", call).await, Ok(7));
    assert_eq!(cluster.clerk.times(7), 1);
}

async fn a_node_that_drains_delivers_what_it_has_when_it_is_back(transport: &Transport) {
    let mut cluster = Cluster::start(transport, LONG).await;
    let (mut meeting, probe) = (Meeting::new().await, cluster.probe());
    let call = probe.hold(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    cluster.break_connection().await;
    let node = cluster.node.take().expect("it has not ended");
    let drained = tokio::spawn(async move { node.drain().await });
    guest.release().await;
    cluster.proxy.refuse(false);
    assert_eq!(soon("the result", call).await, Ok(Held::Released));
    cluster.event(|event| matches!(event, NodeEvent::Gone { in_flight: 0, reason: GoneReason::Left, .. })).await;
    soon("the end of the node", drained).await.expect("does not panic");
}

async fn a_drain_takes_no_longer_because_connections_break(transport: &Transport) {
    for comes_back in [false, true] {
        let drain = Duration::from_secs(2);
        let mut cluster = Cluster::start_with(transport, LONG, |node| node.drain_timeout(drain)).await;
        let (mut meeting, probe) = (Meeting::new().await, cluster.probe());
        let call = probe.hold(meeting.addr(), "a".to_owned()).send();
        let _guest = meeting.guest("a").await;
        if !comes_back {
            cluster.break_connection().await;
        }
        let node = cluster.node.take().expect("it has not ended");
        let mut drained = tokio::spawn(async move { node.drain().await });
        soon("the end of the node", async {
            loop {
                if comes_back {
                    cluster.proxy.cut();
                }
                tokio::select! {
                    ended = &mut drained => return ended,
                    () = cluster.resumed() => {}
                }
            }
        })
        .await
        .expect("does not panic");
        assert!(!call.is_finished() || comes_back, "the master waits for the node");
    }
}

async fn batches_survive_connections_that_break_all_the_time(transport: &Transport) {
    const CALLS: u64 = 200_000;
    let cluster = Cluster::start(transport, LONG).await;
    let ledger = cluster.ledger();
    // A cut may come while there is no connection. Calls go on until enough of them have broken one.
    let go_on = |entry: &u64| *entry < CALLS || (*entry < 10 * CALLS && cluster.proxy.connections() <= 10);
    let mut results = (0..).take_while(go_on).map(|entry| ledger.enter(entry)).distribute();
    let mut next = 0;
    while let Some(result) = soon("a result", results.next()).await {
        assert_eq!(result, Ok(next));
        next += 1;
        if next % (CALLS / 20) == 0 {
            cluster.proxy.cut();
        }
    }
    assert!(next >= CALLS);
    for entry in 0..next {
        assert_eq!(cluster.clerk.times(entry), 1, "{entry}");
    }
    assert!(cluster.proxy.connections() > 10, "{}", cluster.proxy.connections());
}

over_tcp_and_tls!(
    a_handler_goes_on_while_its_connection_is_broken,
    a_result_that_was_sent_and_never_arrived_is_delivered,
    a_request_that_never_arrived_is_sent_again,
    a_call_that_is_cut_at_any_byte_runs_once_and_is_answered,
    a_call_that_is_cancelled_meanwhile_is_cancelled_when_the_node_is_back,
    a_node_that_does_not_come_back_in_time_has_lost_its_calls,
    without_a_grace_a_node_is_gone_at_once,
    a_node_without_calls_is_gone_at_once,
    a_handler_that_waits_for_a_nested_call_goes_on,
    a_node_that_drains_delivers_what_it_has_when_it_is_back,
    a_drain_takes_no_longer_because_connections_break,
    batches_survive_connections_that_break_all_the_time,
);
