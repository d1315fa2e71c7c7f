//! What a caller may do, by its token or the name of its certificate: each right and each limit, over real connections.

use std::{fs, time::Duration};

use distribution::{
    CallError, CallerRights, Cluster, Error, Node, Token, current,
    error::{Execution, LimitOf, QueueUnit},
    prelude::*,
    service,
};
use distribution_tests::{
    ProbeClient, ProbeServer, Prober, failure,
    log::Log,
    meeting::Meeting,
    soon,
    trust::{Authority, Purpose},
    until,
};

use super::{SecureMaster, node, tells};

#[service]
trait Outer {
    /// Adds by a nested call of another service.
    async fn add(&self, a: i64, b: i64) -> Result<i64, String>;
}

struct Nesting;

impl Outer for Nesting {
    async fn add(&self, a: i64, b: i64) -> Result<i64, String> {
        ProbeClient::new(&current()).add(a, b).await.map_err(|error| error.to_string())
    }
}

/// A master with a token file, and nodes of two slots each with a label.
async fn served(nodes: usize) -> (SecureMaster, Vec<Node>) {
    let secure = SecureMaster::with_token().await;
    let mut started = Vec::new();
    for _ in 0..nodes {
        let node = node().serve(OuterServer::new(Nesting)).slots(2).label("zone", "eu").token(secure.token().expose());
        started.push(soon("a node", node.spawn(secure.addr())).await.expect("is let in"));
    }
    (secure, started)
}

async fn connect(secure: &SecureMaster, token: &Token) -> Cluster {
    soon("a caller", Cluster::builder().token(token.expose()).connect(secure.addr())).await.expect("is let in")
}

/// A caller with these rights.
async fn caller(secure: &SecureMaster, rights: CallerRights) -> Cluster {
    let token = Token::issue_for_caller(&secure.file, rights).expect("writes");
    connect(secure, &token).await
}

/// The call was denied without being run, with a sentence that has these parts.
#[track_caller]
fn assert_denied<T: std::fmt::Debug>(result: Result<T, CallError>, parts: &[&str]) {
    let error = failure(result);
    assert!(matches!(&error, CallError::Denied { .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::NotRun);
    println!("{error}");
    tells(&error.to_string(), parts);
}

/// The call was refused without being run, because of this limit of the credential.
#[track_caller]
fn assert_overloaded<T: std::fmt::Debug>(result: Result<T, CallError>, expected: (usize, usize, QueueUnit)) {
    let error = failure(result);
    println!("{error}");
    let CallError::Overloaded { limit_of: LimitOf::Credential, queued, limit, unit, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*queued, *limit, *unit), expected);
    assert_eq!(error.execution(), Execution::NotRun);
    tells(&error.to_string(), &["credential allows no more", "are under way", "call again later"]);
}

#[tokio::test]
async fn a_caller_calls_the_services_and_methods_that_it_may_and_no_others() {
    let (log, _guard) = Log::gather();
    let (secure, _nodes) = served(1).await;
    let token = Token::issue_for_caller(&secure.file, CallerRights::new().service("Outer").method("Probe", "add"));
    let token = token.expect("writes");
    let cluster = connect(&secure, &token).await;
    let probe = ProbeClient::new(&cluster);
    assert_eq!(probe.add(1, 2).await, Ok(3));
    let who = format!("token {} may not call it, and may call Outer, Probe.add", token.id());
    assert_denied(probe.length(vec![1]).await, &["Probe.length", &who, "use a credential that is for it"]);
    let denied: Vec<_> = soon("calls", (0..10).map(|_| probe.length(vec![1])).distribute().collect::<Vec<_>>()).await;
    assert!(denied.len() == 10 && denied.iter().all(|end| matches!(end, Err(CallError::Denied { .. }))), "{denied:?}");
    assert_eq!(probe.add(1, 2).await, Ok(3), "the caller goes on");
    tells(&log.text(), &["denied a call", "Probe.length"]);
    assert!(secure.master.metrics().refused_calls.denied >= 11, "{:?}", secure.master.metrics().refused_calls);
}

#[tokio::test]
async fn nested_calls_are_those_of_the_node_and_not_of_the_caller() {
    let (secure, _nodes) = served(1).await;
    let cluster = caller(&secure, CallerRights::new().service("Outer").max_calls(1)).await;
    assert_denied(ProbeClient::new(&cluster).add(1, 2).await, &["Probe.add"]);
    assert_eq!(soon("a call", OuterClient::new(&cluster).add(1, 2)).await, Ok(3));
}

#[tokio::test]
async fn each_option_that_chooses_nodes_is_a_right() {
    let (secure, nodes) = served(2).await;
    for (rights, may_on, may_label, may_broadcast) in [
        (CallerRights::new(), true, true, true),
        (CallerRights::new().deny_on(), false, true, false),
        (CallerRights::new().deny_label(), true, false, true),
        (CallerRights::new().deny_broadcast(), true, true, false),
    ] {
        let cluster = caller(&secure, rights).await;
        let probe = ProbeClient::new(&cluster);
        assert_eq!(probe.add(1, 2).await, Ok(3));
        match (may_on, probe.add(1, 2).on(nodes[0].id()).await) {
            (true, end) => assert_eq!(end, Ok(3)),
            (false, end) => assert_denied(end, &["may not use `.on(..)`", "leave it out"]),
        }
        match (may_label, probe.add(1, 2).label("zone", "eu").await) {
            (true, end) => assert_eq!(end, Ok(3)),
            (false, end) => assert_denied(end, &["may not use `.label(..)`", "leave it out"]),
        }
        let ends = soon("a broadcast", probe.add(1, 2).broadcast()).await;
        assert_eq!(ends.len(), 2);
        for (_, end) in ends {
            match may_broadcast {
                true => assert_eq!(end, Ok(3)),
                false => assert_denied(end, &["may not use `.broadcast()`"]),
            }
        }
    }
}

#[tokio::test]
async fn a_timeout_is_at_most_as_long_as_the_credential_says() {
    let (secure, _nodes) = served(1).await;
    let cluster = caller(&secure, CallerRights::new().max_timeout(Duration::from_secs(600))).await;
    let probe = ProbeClient::new(&cluster);
    let seconds = Duration::from_secs;
    assert_eq!(probe.add(1, 2).timeout(seconds(600)).await, Ok(3));
    assert_denied(
        probe.add(1, 2).timeout(seconds(601)).await,
        &["its timeout is 601s", "600s at most", "set `.timeout("],
    );
    assert_denied(probe.add(1, 2).await, &["it has no timeout", "600s at most", "set `.timeout("]);
}

#[tokio::test]
async fn calls_are_counted_over_all_connections_of_a_token() {
    let (secure, _nodes) = served(2).await;
    let token = Token::issue_for_caller(&secure.file, CallerRights::new().max_calls(2)).expect("writes");
    let clusters = [connect(&secure, &token).await, connect(&secure, &token).await];
    let [first, second] = [0, 1].map(|at| ProbeClient::new(&clusters[at]));
    let other = caller(&secure, CallerRights::new().max_calls(3)).await;
    let mut meeting = Meeting::new().await;
    let one = first.hold(meeting.addr(), "one".to_owned()).send();
    let two = second.hold(meeting.addr(), "two".to_owned()).send();
    let (guest, other_guest) = (meeting.guest("one").await, meeting.guest("two").await);
    for probe in [&first, &second] {
        assert_overloaded(probe.add(1, 2).await, (2, 2, QueueUnit::Calls));
    }
    assert_eq!(ProbeClient::new(&other).add(1, 2).await, Ok(3), "another token has limits of its own");
    guest.release().await;
    soon("the call", one).await.expect("was let go");
    // The end of a call is told after it is counted as ended.
    for number in 0..100 {
        assert_eq!(second.add(number, 1).await, Ok(number + 1));
    }
    other_guest.release().await;
    soon("the call", two).await.expect("was let go");
}

#[tokio::test]
async fn a_cancelled_call_counts_until_its_handler_has_returned() {
    let (secure, _nodes) = served(1).await;
    let cluster = caller(&secure, CallerRights::new().max_calls(1)).await;
    let probe = ProbeClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let stubborn = probe.ignore(meeting.addr()).send();
    let guest = meeting.next().await;
    stubborn.cancel();
    until("the master has cancelled it", || secure.master.stats().cancelled == 1).await;
    assert_overloaded(probe.add(1, 2).await, (1, 1, QueueUnit::Calls));
    guest.release().await;
    let again = async { while probe.add(1, 2).await.is_err() {} };
    soon("a call after the handler has returned", again).await;
}

#[tokio::test]
async fn a_detached_call_counts_after_its_caller_has_left() {
    let (secure, _nodes) = served(1).await;
    let token = Token::issue_for_caller(&secure.file, CallerRights::new().max_calls(1)).expect("writes");
    let cluster = connect(&secure, &token).await;
    let mut meeting = Meeting::new().await;
    ProbeClient::new(&cluster).hold(meeting.addr(), "held".to_owned()).send().detach();
    let guest = meeting.guest("held").await;
    cluster.close().await;
    let cluster = connect(&secure, &token).await;
    let probe = ProbeClient::new(&cluster);
    assert_overloaded(probe.add(1, 2).await, (1, 1, QueueUnit::Calls));
    guest.release().await;
    let again = async { while probe.add(1, 2).await.is_err() {} };
    soon("a call after the detached one has ended", again).await;
}

#[tokio::test]
async fn bytes_of_arguments_are_counted_while_their_calls_are_under_way() {
    let (secure, _nodes) = served(2).await;
    let cluster = caller(&secure, CallerRights::new().max_bytes(1000)).await;
    let probe = ProbeClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let held = probe.keep("x".repeat(900), meeting.addr()).send();
    let guest = meeting.next().await;
    let error = failure(probe.length(vec![0; 200]).await);
    let CallError::Overloaded { queued, limit: 1000, unit: QueueUnit::Bytes, .. } = error else { panic!("{error:?}") };
    assert_overloaded(probe.length(vec![0; 200]).await, (queued, 1000, QueueUnit::Bytes));
    assert!((900..1000).contains(&queued), "{queued}");
    assert_eq!(probe.length(vec![0; 10]).await, Ok(10));
    guest.release().await;
    soon("the call", held).await.expect("was let go");
    assert_eq!(probe.length(vec![0; 900]).await, Ok(900));
    assert_denied(probe.length(vec![0; 1001]).await, &["may have 1000", "send less in one call"]);
}

#[tokio::test]
async fn a_distributed_run_keeps_within_the_limits_by_itself() {
    let (secure, _nodes) = served(2).await;
    for rights in [
        CallerRights::new().max_calls(1),
        CallerRights::new().max_calls(3),
        CallerRights::new().max_bytes(64),
        CallerRights::new().max_calls(2).max_bytes(300),
    ] {
        let cluster = caller(&secure, rights.clone()).await;
        let probe = ProbeClient::new(&cluster);
        let sums = (0..3_000).map(|n| probe.add(n, 1)).distribute().collect::<Vec<_>>();
        let sums = soon("a run", sums).await;
        let wrong = sums.iter().zip(1..).find(|(sum, expected)| **sum != Ok(*expected));
        assert!(wrong.is_none() && sums.len() == 3_000, "{rights}: {wrong:?}");
        // Alone and with a deadline each.
        let sums = (0..200).map(|n| probe.add_async(n, 1).timeout(Duration::from_secs(600)));
        let sums: Vec<_> = soon("a run", sums.distribute().unordered().collect::<Vec<_>>()).await;
        assert!(sums.len() == 200 && sums.iter().all(Result::is_ok), "{rights}: {sums:?}");
    }
}

#[tokio::test]
async fn a_connection_too_many_is_refused_for_now_and_let_in_when_another_ends() {
    let (log, _guard) = Log::gather();
    let (secure, _nodes) = served(1).await;
    let token = Token::issue_for_caller(&secure.file, CallerRights::new().max_connections(1)).expect("writes");
    let first = connect(&secure, &token).await;
    let error = Cluster::builder().token(token.expose()).connect_timeout(Duration::from_millis(300));
    let error = error.connect(secure.addr()).await.expect_err("there is one already");
    assert!(matches!(&error, Error::ConnectTimeout { .. }), "{error:?}");
    tells(
        &error.to_string(),
        &["1 callers are connected with its credential", "`max_connections` is 1", "end one of them"],
    );
    tells(&log.text(), &["refused a caller", "`max_connections` is 1"]);
    let waiting = tokio::spawn({
        let (builder, addr) = (Cluster::builder().token(token.expose()), secure.addr());
        async move { builder.connect(addr).await }
    });
    first.close().await;
    let second = soon("the one that waits", waiting).await.expect("does not panic").expect("is let in");
    assert_eq!(ProbeClient::new(&second).add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn rights_that_are_changed_in_the_file_count_within_a_heartbeat() {
    let (secure, _nodes) = served(1).await;
    let token = Token::issue_for_caller(&secure.file, CallerRights::new().service("Outer")).expect("writes");
    let cluster = connect(&secure, &token).await;
    let probe = ProbeClient::new(&cluster);
    assert_denied(probe.add(1, 2).await, &["may call Outer"]);
    let text = fs::read_to_string(&secure.file).expect("reads");
    assert!(text.contains(&format!("id={} services=Outer\n", token.id())), "{text}");
    fs::write(&secure.file, text.replace("services=Outer", "services=Outer,Probe")).expect("writes");
    let allowed = async {
        loop {
            match probe.add(1, 2).await {
                Ok(sum) => return sum,
                // Its connection ended while the call was under way, or the rights have not changed yet.
                Err(CallError::MasterLost { .. } | CallError::Denied { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(soon("the new rights", allowed).await, 3);
}

#[tokio::test]
async fn a_token_file_with_rights_that_cannot_be_lets_nobody_new_in() {
    let (secure, _nodes) = served(1).await;
    let token = Token::issue_for_caller(&secure.file, CallerRights::new().max_calls(5)).expect("writes");
    let cluster = connect(&secure, &token).await;
    let text = fs::read_to_string(&secure.file).expect("reads");
    fs::write(&secure.file, text.replace("max_calls=5", "max_cals=5")).expect("writes");
    let newcomer = Cluster::builder().token(token.expose()).connect_timeout(Duration::from_millis(300));
    newcomer.connect(secure.addr()).await.expect_err("nobody knows what it may do");
    assert_eq!(ProbeClient::new(&cluster).add(1, 2).await, Ok(3), "those that are there stay");
    let error = Token::list(&secure.file).expect_err("is damaged").to_string();
    tells(&error, &["line ", "`max_cals` is unknown", "max_calls="]);
}

#[tokio::test]
async fn the_names_of_certificates_say_what_callers_may_do() {
    let authority = Authority::new("rights");
    let rights = CallerRights::new().method("Probe", "add").method("Probe", "hold").max_calls(1).deny_on();
    let own = authority
        .issue("master", Purpose::Server, &["localhost"])
        .callers("*.callers.internal")
        .callers_with("web.callers.internal", rights);
    let secure = SecureMaster::with_certificates(own).await;
    let nodes = authority.issue("n1", Purpose::Client, &["n1"]);
    let node = Node::builder().serve(ProbeServer::new(Prober)).slots(4).certificates(nodes).spawn(secure.host());
    let node = soon("a node", node).await.expect("is let in");
    let connect = async |file: &str, name: &str| {
        let certificates = authority.issue(file, Purpose::Client, &[name]);
        let caller = Cluster::builder().certificates(certificates).connect(secure.host());
        soon("a caller", caller).await.expect("is let in")
    };
    let any = connect("any", "any.callers.internal").await;
    // Two certificates for one name, each with a key of its own.
    let web = [connect("web1", "web.callers.internal").await, connect("web2", "web.callers.internal").await];
    assert_eq!(ProbeClient::new(&any).length(vec![1]).on(node.id()).await, Ok(1));
    let [first, second] = [0, 1].map(|at| ProbeClient::new(&web[at]));
    assert_eq!(second.add(1, 2).await, Ok(3));
    assert_denied(first.length(vec![1]).await, &["certificate ", "may call Probe.add, Probe.hold"]);
    assert_denied(first.add(1, 2).on(node.id()).await, &["may not use `.on(..)`"]);
    let mut meeting = Meeting::new().await;
    let held = first.hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    assert_overloaded(second.add(1, 2).await, (1, 1, QueueUnit::Calls));
    assert_eq!(ProbeClient::new(&any).add(1, 2).await, Ok(3), "other names have limits of their own");
    guest.release().await;
    soon("the call", held).await.expect("was let go");
    assert_eq!(second.add(1, 2).await, Ok(3));
}
