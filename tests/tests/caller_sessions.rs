//! Connections of callers that break while both processes live: calls go on, and no result is lost or made twice.

use std::{net::SocketAddr, time::Duration};

use distribution::{Access, CallError, Cluster, ClusterBuilder, Master, Node, Token, error::Execution, prelude::*};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober, failure,
    ledger::{Clerk, LedgerClient, LedgerServer},
    meeting::Meeting,
    proxy::{Proxy, WAYS, Way},
    soon, until,
};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(3600);

/// Tokens of a master; without them it is open.
struct Tokens {
    folder: TempDir,
    nodes: Token,
    callers: Token,
}

impl Tokens {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [nodes, callers] = [Access::Nodes, Access::Callers]
            .map(|access| Token::issue(folder.path().join("t"), access).expect("writes"));
        Self { folder, nodes, callers }
    }

    fn cluster(this: Option<&Self>) -> ClusterBuilder {
        match this {
            Some(tokens) => Cluster::builder().token(tokens.callers.expose()),
            None => Cluster::builder(),
        }
    }
}

/// A master with a node, and a caller that connects through a proxy.
struct Elsewhere {
    master: Master,
    _node: Node,
    clerk: Clerk,
    proxy: Proxy,
    cluster: Cluster,
    tokens: Option<Tokens>,
}

impl Elsewhere {
    async fn start(tokens: Option<Tokens>, resume: Duration) -> Self {
        let mut builder = Master::builder().resume_timeout(resume);
        if let Some(tokens) = &tokens {
            builder = builder.token_file(tokens.folder.path().join("t"));
        }
        let master = builder.bind("127.0.0.1:0").await.expect("binds");
        let clerk = Clerk::default();
        let mut node = Node::builder().serve(LedgerServer::new(clerk.clone())).serve(ProbeServer::new(Prober)).slots(2);
        if let Some(tokens) = &tokens {
            node = node.token(tokens.nodes.expose());
        }
        let node = node.spawn(master.local_addr()).await.expect("registers");
        let proxy = Proxy::to(master.local_addr()).await;
        let builder = Tokens::cluster(tokens.as_ref()).reconnect_timeout(LONG);
        let cluster = builder.connect(proxy.addr()).await.expect("connects");
        Self { master, _node: node, clerk, proxy, cluster, tokens }
    }

    fn ledger(&self) -> LedgerClient {
        LedgerClient::new(&self.cluster)
    }

    fn probe(&self) -> ProbeClient {
        ProbeClient::new(&self.cluster)
    }

    /// Breaks the caller's connection for as long as the test wants.
    async fn break_connection(&self) {
        self.proxy.cut_and_refuse();
        until("the caller has noticed", || !self.cluster.is_connected()).await;
    }
}

/// Two tests of each function: over plain TCP, and with tokens.
macro_rules! open_and_with_tokens {
    ($($name:ident),* $(,)?) => {
        mod open {
            $(#[tokio::test] async fn $name() { super::$name(None).await; })*
        }

        mod tokens {
            $(#[tokio::test] async fn $name() { super::$name(Some(super::Tokens::new())).await; })*
        }
    };
}

open_and_with_tokens!(
    calls_go_on_while_the_connection_is_broken,
    a_call_that_is_cut_at_any_byte_runs_once_and_is_answered,
    a_call_that_was_cancelled_meanwhile_is_cancelled_when_the_caller_is_back,
    a_caller_that_does_not_come_back_has_its_calls_cancelled_but_for_detached_ones,
    streams_survive_connections_that_break_all_the_time,
);

async fn calls_go_on_while_the_connection_is_broken(tokens: Option<Tokens>) {
    let elsewhere = Elsewhere::start(tokens, LONG).await;
    let (mut meeting, probe) = (Meeting::new().await, elsewhere.probe());
    let calls = [probe.hold(meeting.addr(), "a".to_owned()).send(), probe.wait(meeting.addr(), "b".to_owned()).send()];
    let ids = [calls[0].id(), calls[1].id()];
    let [one, other] = [meeting.guest("a").await, meeting.guest("b").await];
    elsewhere.break_connection().await;
    until("the master says so", || !elsewhere.master.callers()[0].is_connected).await;
    // One ends before the caller is back, and one call is made meanwhile.
    one.release().await;
    until("one has ended", || elsewhere.master.stats().answered == 1).await;
    let meanwhile = elsewhere.ledger().enter(1).send();
    elsewhere.proxy.refuse(false);
    assert_eq!(soon("the call that was made meanwhile", meanwhile).await, Ok(1));
    other.release().await;
    for (call, id) in calls.into_iter().zip(ids) {
        assert_eq!(call.id(), id, "it has its id");
        let answer = soon("the result", call.answer()).await.expect("is answered");
        assert_eq!((answer.value, answer.attempts), (Held::Released, 1));
    }
    assert_eq!(elsewhere.clerk.times(1), 1);
    assert!(elsewhere.master.callers()[0].is_connected);
}

async fn a_call_that_is_cut_at_any_byte_runs_once_and_is_answered(tokens: Option<Tokens>) {
    let elsewhere = Elsewhere::start(tokens, LONG).await;
    let ledger = elsewhere.ledger();
    let mut entry = 0;
    for way in WAYS {
        for bytes in (0..90).chain([150, 250]) {
            entry += 1;
            elsewhere.proxy.cut_after(way, bytes);
            let call = if bytes % 2 == 0 { ledger.enter(entry).send() } else { ledger.enter_async(entry).send() };
            assert_eq!(soon("the result", call).await, Ok(entry), "{bytes} bytes {way:?}");
            assert_eq!(elsewhere.clerk.times(entry), 1, "{bytes} bytes {way:?}");
            elsewhere.proxy.cut_after(way, u32::MAX);
        }
    }
    assert!(elsewhere.proxy.connections() > 20, "{}", elsewhere.proxy.connections());
}

async fn a_call_that_was_cancelled_meanwhile_is_cancelled_when_the_caller_is_back(tokens: Option<Tokens>) {
    let elsewhere = Elsewhere::start(tokens, LONG).await;
    let (mut meeting, probe) = (Meeting::new().await, elsewhere.probe());
    let calls = [probe.hold(meeting.addr(), "a".to_owned()).send(), probe.hold(meeting.addr(), "b".to_owned()).send()];
    let [one, other] = [meeting.guest("a").await, meeting.guest("b").await];
    let [first, second] = calls;
    elsewhere.break_connection().await;
    drop(first);
    second.detach();
    elsewhere.proxy.refuse(false);
    soon("the handler", one.gone()).await;
    other.release().await;
    until("the other one has ended", || elsewhere.master.stats().answered == 1).await;
}

async fn a_caller_that_does_not_come_back_has_its_calls_cancelled_but_for_detached_ones(tokens: Option<Tokens>) {
    let elsewhere = Elsewhere::start(tokens, Duration::from_millis(50)).await;
    let (mut meeting, probe) = (Meeting::new().await, elsewhere.probe());
    let call = probe.hold(meeting.addr(), "a".to_owned()).send();
    let one = meeting.guest("a").await;
    probe.hold(meeting.addr(), "b".to_owned()).send().detach();
    let other = meeting.guest("b").await;
    elsewhere.proxy.cut_and_refuse();
    soon("the handler", one.gone()).await;
    other.release().await;
    until("the detached one has ended", || elsewhere.master.stats().answered == 1).await;
    elsewhere.proxy.refuse(false);
    // Its session is over, and nobody knows whether the call ran.
    let error = failure(soon("the call", call).await);
    assert!(matches!(&error, CallError::MasterLost { execution: Execution::MayHaveRun, .. }), "{error:?}");
    assert_eq!(soon("a call", probe.add(1, 2)).await, Ok(3));
}

async fn streams_survive_connections_that_break_all_the_time(tokens: Option<Tokens>) {
    const CALLS: u64 = 100_000;
    let elsewhere = Elsewhere::start(tokens, LONG).await;
    let ledger = elsewhere.ledger();
    // A cut may come while there is no connection. Calls go on until enough of them have broken one.
    let go_on = |entry: &u64| *entry < CALLS || (*entry < 10 * CALLS && elsewhere.proxy.connections() <= 5);
    let mut results = (0..).take_while(go_on).map(|entry| ledger.enter(entry)).distribute();
    let mut next = 0;
    while let Some(result) = soon("a result", results.next()).await {
        assert_eq!(result, Ok(next));
        next += 1;
        if next % (CALLS / 10) == 0 {
            elsewhere.proxy.cut();
        }
    }
    assert!(next >= CALLS);
    assert!((0..next).all(|entry| elsewhere.clerk.times(entry) == 1));
    assert!(elsewhere.proxy.connections() > 5, "{}", elsewhere.proxy.connections());
}

#[tokio::test]
async fn results_that_were_sent_and_never_arrived_are_delivered() {
    let elsewhere = Elsewhere::start(None, LONG).await;
    let ledger = elsewhere.ledger();
    elsewhere.proxy.swallow(Way::ToPeer);
    let calls: Vec<_> = (0..300).map(|entry| ledger.enter_large(entry, 1000).send()).collect();
    until("all were answered", || elsewhere.master.stats().answered == 300).await;
    elsewhere.proxy.cut();
    for (entry, call) in (0..).zip(calls) {
        assert_eq!(soon("the result", call).await, Ok(vec![entry as u8; 1000]));
        assert_eq!(elsewhere.clerk.times(entry), 1);
    }
}

#[tokio::test]
async fn results_that_take_too_much_memory_are_lost_with_the_connection_and_the_error_says_so() {
    let elsewhere = Elsewhere::start(None, LONG).await;
    let (ledger, probe) = (elsewhere.ledger(), elsewhere.probe());
    let mut meeting = Meeting::new().await;
    let held = probe.wait(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    elsewhere.proxy.swallow(Way::ToPeer);
    let calls: Vec<_> = (0..4).map(|entry| ledger.enter_large(entry, 30 << 20).send()).collect();
    until("all were answered", || elsewhere.master.stats().answered == 4).await;
    elsewhere.proxy.cut();
    let mut lost = 0;
    for call in calls {
        match soon("the result", call).await {
            Ok(value) => assert_eq!(value.len(), 30 << 20),
            Err(CallError::MasterLost { reason, execution: Execution::MayHaveRun, .. }) => {
                assert!(reason.contains("too many bytes of results waited"), "{reason}");
                lost += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(lost, 2, "64 MiB are kept");
    guest.release().await;
    assert_eq!(soon("the small one", held).await, Ok(Held::Released));
}

#[tokio::test]
async fn a_session_is_over_with_its_master() {
    let mut elsewhere = Elsewhere::start(None, LONG).await;
    let (mut meeting, probe) = (Meeting::new().await, elsewhere.probe());
    let once = probe.hold(meeting.addr(), "a".to_owned()).send();
    let again = probe.hold_again(meeting.addr(), "b".to_owned()).send();
    let [one, other] = [meeting.guest("a").await, meeting.guest("b").await];
    // Another master at the same address: the caller is told that its session is unknown.
    let addr: SocketAddr = elsewhere.master.local_addr();
    elsewhere.break_connection().await;
    drop(std::mem::replace(&mut elsewhere.master, Master::bind("127.0.0.1:0").await.expect("binds")));
    let master = soon("the port", async {
        loop {
            if let Ok(master) = Master::bind(addr).await {
                return master;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    elsewhere.proxy.refuse(false);
    let error = failure(soon("the call", once).await);
    assert!(matches!(&error, CallError::MasterLost { execution: Execution::MayHaveRun, .. }), "{error:?}");
    soon("the first handlers", one.gone()).await;
    soon("the first handlers", other.gone()).await;
    // The node registers at the new master, and the call that may be repeated is.
    let repeated = meeting.guest("b").await;
    repeated.release().await;
    assert_eq!(soon("the repeated call", again).await, Ok(Held::Released));
    drop(master);
}

#[tokio::test]
async fn a_caller_whose_token_is_revoked_loses_its_session() {
    let elsewhere = Elsewhere::start(Some(Tokens::new()), LONG).await;
    let (mut meeting, probe) = (Meeting::new().await, elsewhere.probe());
    let call = probe.hold(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    elsewhere.break_connection().await;
    let tokens = elsewhere.tokens.as_ref().expect("has tokens");
    assert!(Token::revoke(tokens.folder.path().join("t"), &tokens.callers.id()).is_ok());
    // Also while there is no connection.
    soon("the handler", guest.gone()).await;
    elsewhere.proxy.refuse(false);
    let error = failure(soon("the call", call).await);
    assert_eq!(error.execution(), Execution::MayHaveRun, "{error:?}");
}

#[tokio::test]
async fn a_thousand_callers_whose_connections_break_at_once_come_back_to_their_calls() {
    const CALLERS: u64 = 1000;
    let elsewhere = Elsewhere::start(None, LONG).await;
    let mut meeting = Meeting::new().await;
    let held = elsewhere.probe().wait(meeting.addr(), "a".to_owned()).send();
    let guest = meeting.guest("a").await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let cluster = Cluster::builder().reconnect_timeout(LONG).connect(elsewhere.proxy.addr());
        callers.push(soon("a caller", cluster).await.expect("connects"));
    }
    let calls: Vec<_> = (0..CALLERS)
        .zip(&callers)
        .map(|(tag, cluster)| ProbeClient::new(cluster).wait(meeting.addr(), tag.to_string()).send())
        .collect();
    let mut guests = Vec::new();
    for tag in 0..CALLERS {
        guests.push(meeting.guest(&tag.to_string()).await);
    }
    elsewhere.proxy.cut();
    for guest in guests {
        guest.release().await;
    }
    for call in calls {
        assert_eq!(soon("the result", call).await, Ok(Held::Released));
    }
    guest.release().await;
    assert_eq!(soon("the result", held).await, Ok(Held::Released));
    until("all came back", || elsewhere.proxy.connections() >= 2 * (CALLERS as usize + 1)).await;
}
