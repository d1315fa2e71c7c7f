//! The service that a master itself serves: who may call it, from where, and what it does.

use std::path::PathBuf;

use distribution::{
    Access, AdminClient, CallError, CallFilter, Cluster, LocalCluster, Master, Node, NodeEvent, NodeId, Token,
    administration::*, error::AdminError, prelude::*,
};
use distribution_tests::{ProbeClient, ProbeServer, Prober, log::Log, meeting::Meeting, soon, until};
use futures::{FutureExt as _, TryStreamExt};
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;

/// A master with a token file, and a node.
struct Secure {
    file: PathBuf,
    caller: Token,
    admin: Token,
    master: Master,
    node: Node,
    _folder: TempDir,
}

impl Secure {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cluster.token");
        let [_, caller, admin] =
            [Access::Nodes, Access::Callers, Access::Admins].map(|access| Token::issue(&file, access).expect("writes"));
        let master = Master::builder().token_file(&file).bind("127.0.0.1:0").await.expect("binds");
        let node = Node::builder().slots(1).serve(ProbeServer::new(Prober)).serve(MeddlerServer::new(Meddling));
        let node = node.token_file(&file).spawn(master.local_addr()).await.expect("registers");
        Self { file, caller, admin, master, node, _folder: folder }
    }

    async fn caller(&self) -> Cluster {
        let builder = Cluster::builder().token(self.caller.expose());
        builder.connect(self.master.local_addr()).await.expect("connects")
    }

    async fn admin(&self) -> Cluster {
        let builder = Cluster::builder().token_file(&self.file).admin().name("ops");
        builder.connect(self.master.local_addr()).await.expect("connects")
    }
}

/// A service whose handler tries to administer.
#[distribution::service]
trait Meddler {
    async fn look(&self) -> Result<usize, String>;
}

struct Meddling;

impl Meddler for Meddling {
    async fn look(&self) -> Result<usize, String> {
        let nodes = AdminClient::new(&distribution::current()).nodes().await;
        nodes.map(|nodes| nodes.len()).map_err(|error| error.to_string())
    }
}

/// What an older or newer version may have.
mod other {
    #[distribution::service(name = "distribution.Admin")]
    pub(crate) trait Other {
        fn nodes(&self) -> u64;
    }

    pub(crate) struct Otherwise;

    impl Other for Otherwise {
        fn nodes(&self) -> u64 {
            7
        }
    }
}

async fn open(nodes: usize) -> (LocalCluster, Cluster) {
    let local = LocalCluster::builder().nodes(nodes).slots(1).serve(|| ProbeServer::new(Prober)).start().await;
    let local = local.expect("starts");
    let cluster = Cluster::builder().name("ops").connect(local.master().local_addr()).await.expect("connects");
    (local, cluster)
}

#[track_caller]
fn failure<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, CallError<E>>) -> CallError<E> {
    result.expect_err("a call that must fail")
}

#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).expect("can be written");
    assert_eq!(&serde_json::from_str::<T>(&json).expect("can be read"), value);
}

#[tokio::test]
async fn a_method_that_no_node_serves_is_listed_as_its_caller_declares_it() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let cluster = Cluster::connect(master.local_addr()).await.expect("connects");
    let (meeting, probe) = (Meeting::new().await, ProbeClient::new(&cluster));
    let _waiting = probe.wait(meeting.addr(), "nobody comes".to_owned()).send();
    let _again = probe.hold_again(meeting.addr(), "nobody comes".to_owned()).send();
    until("both are listed", || master.methods().len() == 2).await;
    let listed = master.methods().into_iter().map(|method| (method.name, method.kind, method.idempotent, method.nodes));
    let expected =
        [("hold_again".to_owned(), MethodKind::Compute, true, 0), ("wait".to_owned(), MethodKind::Async, false, 0)];
    assert_eq!(listed.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_program_elsewhere_sees_what_the_master_sees() {
    let (local, cluster) = open(2).await;
    let (master, admin) = (local.master(), AdminClient::new(&cluster));
    let mut meeting = Meeting::new().await;
    let running = ProbeClient::new(&local).hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;

    let nodes = admin.nodes().await.expect("answers");
    let seen: Vec<_> = nodes.iter().map(|node| (node.id, node.addr, node.in_flight)).collect();
    let here: Vec<_> = master.nodes().iter().map(|node| (node.id, node.addr, node.in_flight)).collect();
    assert_eq!(seen, here, "with the addresses");
    let page = admin.calls(CallFilter::default().method("Probe.hold")).await.expect("answers");
    assert_eq!(page.calls.iter().map(|call| Some(call.id)).collect::<Vec<_>>(), [running.id()]);
    assert!(matches!(page.calls[0].status, CallStatus::Running { .. }), "{page:?}");
    assert_eq!(admin.methods().await.as_ref(), Ok(&master.methods()));
    let services = admin.services().await.expect("answers");
    assert_eq!(services, master.services());
    let [probe] = &services[..] else { panic!("{services:?}") };
    assert_eq!((&*probe.name, probe.version, probe.nodes, probe.running), ("Probe", 1, 2, 1));
    assert!(probe.methods.iter().any(|method| method == "add: fn(i64, i64) -> i64"), "{probe:?}");
    assert_eq!(admin.stats().await, Ok(master.stats()));
    let answer = admin.status().answer().await.expect("answers");
    let status = answer.value;
    assert_eq!((status.addr, status.nodes, status.alive, status.callers), (master.local_addr(), 2, 2, 1));
    assert_eq!((status.security, status.is_shutting_down), (MasterSecurity::None, false));
    assert_eq!((&*answer.node.name, answer.attempts), ("master", 1));
    round_trip(&status);
    round_trip(&services);
    guest.release().await;
    assert!(soon("the call", running).await.is_ok());
}

#[tokio::test]
async fn callers_and_nodes_are_listed_with_the_token_that_they_came_with() {
    let secure = Secure::start().await;
    let master = &secure.master;
    let (caller, ops) = (secure.caller().await, secure.admin().await);
    let admin = AdminClient::new(&ops);
    let mut meeting = Meeting::new().await;
    let probe = ProbeClient::new(&caller);
    let held = probe.hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    let waiting = probe.add(1, 2).send();
    until("both calls are there", || master.callers()[0].calls == 2).await;

    let callers = admin.callers().await.expect("answers");
    let [first, second] = &callers[..] else { panic!("{callers:?}") };
    assert_eq!((&*first.name, first.access), (caller.name(), Access::Callers));
    assert_eq!((&*second.name, second.access, second.calls), ("ops", Access::Admins, 1), "the call that asks");
    let tokens = [first, second].map(|caller| caller.principal.to_string());
    assert_eq!(tokens, [&secure.caller, &secure.admin].map(|token| format!("token {}", token.id())));
    let page = admin.calls(CallFilter::default().method("Probe")).await.expect("answers");
    let prefix = |id: distribution::CallId| id.to_string().split_once('-').map(|(prefix, _)| prefix.to_owned());
    assert!(page.calls.iter().all(|call| prefix(call.id) == prefix(first.first_call)), "{page:?}");
    round_trip(&callers);

    // The old token is valid beside the new one, and the list shows when nobody uses it any more.
    let renewed = Token::issue(&secure.file, Access::Callers).expect("writes");
    let late = Cluster::builder().token(renewed.expose()).connect(master.local_addr()).await.expect("connects");
    let uses = |token: &Token| {
        let callers = master.callers();
        callers.iter().filter(|caller| *caller.principal.credential == *token.id()).count()
    };
    assert_eq!((uses(&secure.caller), uses(&renewed)), (1, 1));
    guest.release().await;
    assert!(held.await.is_ok() && waiting.await.is_ok());
    until("they are answered", || master.callers()[0].calls == 0).await;
    caller.close().await;
    until("the old token is not in use any more", || uses(&secure.caller) == 0).await;
    drop(late);
    let nodes = admin.nodes().await.expect("answers");
    let node_token =
        Token::list(&secure.file).expect("reads").into_iter().find(|token| token.access() == Access::Nodes);
    assert_eq!(*nodes[0].principal.credential, *node_token.expect("was issued").id());
}

#[tokio::test]
async fn a_program_elsewhere_follows_what_happens_to_nodes() {
    let (local, cluster) = open(1).await;
    let admin = AdminClient::new(&cluster);
    for (admin, name) in [(&admin, "late"), (&AdminClient::new(local.master()), "later")] {
        let mut events = admin.events();
        let mut next = async || soon("an event", events.try_next()).await.expect("answers").expect("goes on");
        let first = next().await;
        assert!(matches!(&first.event, NodeEvent::Present { node, .. } if &*node.name == "local-1"), "{first:?}");
        round_trip(&first);
        let node = Node::builder().serve(ProbeServer::new(Prober)).name(name).spawn(local.master().local_addr());
        let node = node.await.expect("registers");
        let joined = next().await;
        assert!(matches!(&joined.event, NodeEvent::Joined { node, .. } if &*node.name == name), "{joined:?}");
        assert!(joined.at >= first.at);
        admin.cordon(node.id()).await.expect("is registered");
        assert!(matches!(next().await.event, NodeEvent::Cordoned { .. }));
        node.drain().await;
        assert!(matches!(next().await.event, NodeEvent::Draining { .. }));
        assert!(matches!(next().await.event, NodeEvent::Gone { .. }));
    }
}

async fn first_page(admin: &AdminClient) -> EventPage {
    admin.event_pages(None).try_next().await.expect("answers").expect("there is one")
}

#[tokio::test]
async fn those_that_wait_for_events_hold_nothing_up_and_end_with_their_call_or_the_master() {
    let (local, cluster) = open(0).await;
    for admin in [AdminClient::new(&cluster), AdminClient::new(local.master())] {
        let begin = first_page(&admin).await.next;
        let mut waiting: Vec<_> = (0..100).map(|_| admin.event_pages(Some(begin)).send()).collect();
        assert!(admin.nodes().await.expect("answers").is_empty());
        assert!(waiting.iter_mut().all(|pages| pages.next().now_or_never().is_none()));
        let mut pages = admin.event_pages(Some(begin)).timeout(std::time::Duration::from_millis(1));
        let error = failure(pages.try_next().await);
        assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
        drop(waiting);
    }
    until("the cancelled calls are gone", || local.master().callers()[0].calls == 0).await;
    let begin = first_page(&AdminClient::new(&cluster)).await.next;
    let last = [AdminClient::new(&cluster), AdminClient::new(local.master())]
        .map(|admin| admin.event_pages(Some(begin)).send());
    until("one has arrived", || local.master().callers()[0].calls == 1).await;
    local.master().shutdown().await;
    for mut pages in last {
        let error = failure(soon("the call", pages.try_next()).await);
        assert!(matches!(error, CallError::Shutdown { .. } | CallError::MasterLost { .. }), "{error:?}");
    }
}

#[test]
fn a_thread_outside_of_a_runtime_waits_for_events_too() {
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let master = runtime.block_on(async { Master::bind("127.0.0.1:0").await.expect("binds") });
    let admin = AdminClient::new(&master);
    let mut pages = admin.event_pages(None).iter();
    pages.next().expect("there is one").expect("answers");
    // The runtime of the master ends, and with it what waits.
    runtime.shutdown_background();
    let error = failure(pages.next().expect("is not the end"));
    assert!(matches!(error, CallError::Shutdown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_program_elsewhere_acts_on_nodes_and_calls() {
    let (local, cluster) = open(2).await;
    let admin = AdminClient::new(&cluster);
    let [first, second] = local.nodes() else { panic!("two nodes") };
    admin.cordon(first.id()).await.expect("is registered");
    let is_cordoned = || local.master().nodes().iter().any(|node| node.id == first.id() && node.is_cordoned);
    assert!(is_cordoned());
    let waiting = ProbeClient::new(&local).add(1, 2).on(first.id()).send();
    let call = waiting.id().expect("was submitted");
    admin.cancel(call).await.expect("waits");
    match failure(soon("the call", waiting).await) {
        CallError::Cancelled { by, .. } => assert_eq!(&*by, "an administrator (caller ops)"),
        error => panic!("{error:?}"),
    }
    match failure(admin.cancel(call).await) {
        CallError::Handler(AdminError::UnknownCall { call: unknown, .. }) => assert_eq!(unknown, call),
        error => panic!("{error:?}"),
    }
    admin.uncordon(first.id()).await.expect("is registered");
    assert!(!is_cordoned());
    admin.drain(first.id()).await.expect("is registered");
    soon("the node", first.wait()).await.expect("ends in order");
    let kicked = second.id();
    admin.kick(kicked).await.expect("is registered");
    until("it registers again", || second.id() != kicked).await;
    for failed in [admin.kick(kicked).await, admin.drain(kicked).await, admin.cordon(kicked).await] {
        match failure(failed) {
            CallError::Handler(AdminError::UnknownNode { node, .. }) => assert_eq!(node, kicked),
            error => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_program_in_the_masters_process_calls_the_same_service() {
    let (local, _) = open(2).await;
    for admin in [AdminClient::new(local.master()), AdminClient::new(&local)] {
        assert_eq!(admin.nodes().await.expect("answers").len(), 2);
        let call = admin.stats().send();
        assert!(call.id().is_some(), "it has a number as any call has");
        assert_eq!(call.await.expect("answers").failed, 0);
    }
    soon("the service", local.master().wait_for_service::<AdminClient>(1)).await;
    local.master().shutdown().await;
    let error = failure(AdminClient::new(local.master()).nodes().await);
    assert!(matches!(error, CallError::Shutdown { .. }), "{error:?}");
}

#[tokio::test]
async fn many_calls_of_it_are_made_at_once() {
    let (local, cluster) = open(8).await;
    let ids: Vec<NodeId> = local.nodes().iter().map(Node::id).collect();
    for admin in [AdminClient::new(&cluster), AdminClient::new(&local)] {
        for is_cordoned in [true, false] {
            let calls = ids.iter().map(|id| if is_cordoned { admin.cordon(*id) } else { admin.uncordon(*id) });
            let results: Vec<_> = soon("the calls", calls.distribute().collect()).await;
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            assert!(local.master().nodes().iter().all(|node| node.is_cordoned == is_cordoned));
        }
    }
}

#[tokio::test]
async fn only_admins_may_call_it_where_there_are_tokens() {
    let secure = Secure::start().await;
    let (log, _guard) = Log::gather();
    let (caller, ops) = (secure.caller().await, secure.admin().await);
    match failure(AdminClient::new(&caller).kick(secure.node.id()).await) {
        CallError::Denied { reason, .. } => {
            assert!(reason.contains("is for callers, and the admin service is for admins"), "{reason}");
        }
        error => panic!("{error:?}"),
    }
    let refusal = log.text();
    let refusal = refusal.lines().find(|line| line.contains("distribution::audit")).expect("is in the audit log");
    for part in ["WARN", "principal=token ", "caller=", "distribution.Admin.kick", "may not administer"] {
        assert!(refusal.contains(part), "`{part}` is not in: {refusal}");
    }
    assert_eq!(AdminClient::new(&ops).nodes().await.expect("answers").len(), 1);
    let error = failure(ProbeClient::new(&ops).add(1, 2).await);
    assert!(matches!(error, CallError::Denied { .. }), "admins make no other calls: {error:?}");
    assert_eq!(ProbeClient::new(&caller).add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn a_cancelled_call_names_the_credential_of_the_administrator() {
    let secure = Secure::start().await;
    let (caller, ops) = (secure.caller().await, secure.admin().await);
    let mut meeting = Meeting::new().await;
    let held = ProbeClient::new(&caller).hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    let admin = AdminClient::new(&ops);
    let page = admin.calls(CallFilter::default()).await.expect("answers");
    assert_eq!(page.calls[0].caller.as_deref(), Some(caller.name()));
    admin.cancel(page.calls[0].id).await.expect("runs");
    match failure(soon("the call", held).await) {
        CallError::Cancelled { by, .. } => {
            assert_eq!(*by, format!("an administrator with token {}", secure.admin.id()))
        }
        error => panic!("{error:?}"),
    }
    guest.gone().await;
}

#[tokio::test]
async fn a_handler_does_not_administer_where_there_are_tokens() {
    let secure = Secure::start().await;
    let caller = secure.caller().await;
    match failure(soon("the call", MeddlerClient::new(&caller).look()).await) {
        CallError::Handler(denied) => assert!(denied.contains("is for nodes, and the admin service"), "{denied}"),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn nobody_administers_an_open_master_that_other_machines_reach() {
    let master = Master::builder().insecure().bind("0.0.0.0:0").await.expect("binds");
    let addr = format!("127.0.0.1:{}", master.local_addr().port());
    for builder in [Cluster::builder(), Cluster::builder().admin()] {
        let cluster = builder.connect(&addr).await.expect("connects");
        match failure(AdminClient::new(&cluster).nodes().await) {
            CallError::Denied { reason, .. } => assert!(reason.contains("listens beyond loopback"), "{reason}"),
            error => panic!("{error:?}"),
        }
    }
    assert!(AdminClient::new(&master).nodes().await.is_ok(), "its own process may");
}

#[tokio::test]
async fn no_node_serves_it_and_another_version_of_it_goes_to_no_node() {
    let (local, cluster) = open(1).await;
    let node = Node::builder().serve(other::OtherServer::new(other::Otherwise));
    let error = soon("a refusal", node.spawn(local.master().local_addr())).await.expect_err("is refused");
    assert!(error.to_string().contains("the service of the master itself"), "{error}");
    for other in [other::OtherClient::new(&cluster), other::OtherClient::new(&local)] {
        match failure(soon("the call", other.nodes()).await) {
            CallError::Incompatible { difference, .. } => {
                assert!(difference.contains("its admin service has no `nodes`"), "{difference}");
            }
            error => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn what_the_owner_of_the_master_does_is_in_the_audit_log_too() {
    let (log, _guard) = Log::gather();
    let (local, _) = open(1).await;
    let id = local.nodes()[0].id();
    local.master().cordon(id).expect("is registered");
    AdminClient::new(&local).kick(id).await.expect("is registered");
    let error = local.master().drain(id);
    assert!(error.is_err(), "its id is not used again");
    let log = log.text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("distribution::audit")).collect();
    let id = format!("on={id}");
    for (line, parts) in lines.iter().zip([["INFO", "action=\"cordon\""], ["INFO", "\"kick\""], ["WARN", "\"drain\""]])
    {
        for part in parts.into_iter().chain([&*id, "the master's own process"]) {
            assert!(line.contains(part), "`{part}` is not in: {line}");
        }
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[tokio::test]
async fn a_viewer_looks_and_changes_nothing() {
    let secure = Secure::start().await;
    let viewer = Token::issue(&secure.file, Access::Viewers).expect("writes");
    let builder = Cluster::builder().token(viewer.expose());
    let cluster = builder.connect(secure.master.local_addr()).await.expect("connects");
    let admin = AdminClient::new(&cluster);
    let nodes = admin.nodes().await.expect("may look");
    assert_eq!(nodes.len(), 1);
    admin.calls(CallFilter::default()).await.expect("may look");
    admin.metrics().await.expect("may look");
    admin.past_events(10).await.expect("may look");
    let refused = |error: String| assert!(error.contains("is for viewers, who may look and change nothing"), "{error}");
    let id = nodes[0].id;
    refused(admin.cordon(id).await.expect_err("changes something").to_string());
    refused(admin.drain(id).await.expect_err("changes something").to_string());
    refused(admin.kick(id).await.expect_err("changes something").to_string());
    refused(admin.profile(id, std::time::Duration::from_secs(1)).await.expect_err("interrupts the node").to_string());
    refused(admin.cancel("1-0".parse().expect("an id")).await.expect_err("changes something").to_string());
    assert!(!secure.master.nodes()[0].is_cordoned);
    let error = ProbeClient::new(&cluster).add(1, 2).await.expect_err("makes no calls").to_string();
    assert!(error.contains("is for viewers"), "{error}");
    // In a file with both, the token that may do more counts.
    let both = secure.admin().await;
    AdminClient::new(&both).cordon(id).await.expect("may change");
}
