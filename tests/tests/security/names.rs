//! Names, labels and methods that a node claims: what its credential and its own words do not bear out is refused.

use std::collections::BTreeSet;

use distribution::{Access, Error, Master, Node, NodeEvent, PrincipalKind, Token, error::GoneReason};
use distribution_tests::{
    ProbeClient, ProbeServer, Prober,
    impostor::{Impostor, Shown, registration, registration_that_shows},
    log::Log,
    soon,
    trust::{Authority, Joiner, Purpose, TokenContents},
};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{SecureMaster, node, refusal, tells};

const ADD: (&str, &str) = ("add", "fn(i64, i64) -> i64");

#[tokio::test]
async fn a_node_that_shows_other_methods_than_it_would_be_called_by() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let own = Shown::of_probe(ADD.0, ADD.1);
    let harmless = |shown: Shown| Shown { service: "Harmless".to_owned(), ..shown };
    // With the id of `Probe.add`, and with another's types to meet it by.
    for shown in [harmless(own.clone()), harmless(Shown { types: own.types ^ 1, ..own.clone() })] {
        let registration = registration_that_shows(1 << 50, "x", 1, &[("zone", "trusted")], &[shown]);
        let why = Impostor::register(master.local_addr(), registration).await.expect_err("is refused");
        assert!(why.contains("the id of Harmless.add is not that of its name"), "{why}");
    }
    assert!(master.nodes().is_empty());
    let registration = registration_that_shows(1 << 50, "x", 1, &[], &[own]);
    Impostor::register(master.local_addr(), registration).await.expect("shows what it is called by");
}

#[tokio::test]
async fn keys_of_affinity_stay_where_they_are_when_a_node_of_the_same_name_comes() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let named =
        |name: &str| Node::builder().serve(ProbeServer::new(Prober)).name(name).slots(1).spawn(master.local_addr());
    let _nodes = [named("a").await.expect("registers"), named("b").await.expect("registers")];
    let probe = ProbeClient::new(&master);
    let places = async || {
        let mut places = Vec::new();
        for key in 0..41 {
            places.push(probe.add(1, 1).affinity(&key).answer().await.expect("is answered").node.id);
        }
        places
    };
    let before = places().await;
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 2);
    let _newcomers = [named("a").await.expect("registers"), named("b").await.expect("registers")];
    assert_eq!(places().await, before);
    // Nor if it serves other methods as well, and so stands elsewhere in the books.
    let shown = [Shown::of_probe(ADD.0, ADD.1)];
    for name in ["a", "b"] {
        let registration = registration_that_shows(rand::random::<u64>() | 1 << 40, name, 9, &[], &shown);
        std::mem::forget(Impostor::register(master.local_addr(), registration).await.expect("registers"));
    }
    assert_eq!(soon("the calls", places()).await, before);
}

#[tokio::test]
async fn a_name_that_is_taken_under_another_credential() {
    let secure = SecureMaster::with_token().await;
    let other = secure.token();
    let first = soon("the node", node().token(other.expose()).name("database").spawn(secure.addr())).await;
    let first = first.expect("is let in");
    Token::issue(&secure.file, Access::Nodes).expect("writes");
    let [info] = &secure.master.nodes()[..] else { panic!("one is registered") };
    assert_eq!((info.principal.kind, &*info.principal.credential), (PrincipalKind::Token, &*other.id()));
    // One with another token tries on, and is told why.
    let mut waiting = Box::pin(node().token(secure.token().expose()).name("database").spawn(secure.addr()));
    soon("it to be refused", async {
        while secure.master.stats().turned_away == 0 {
            tokio::select! {
                ended = &mut waiting => panic!("must not be let in, nor give up: {ended:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert_eq!(secure.master.nodes().len(), 1);
    // With the same token a second one is as good as the first, and under another name anybody is.
    drop(soon("a node", node().token(other.expose()).name("database").spawn(secure.addr())).await.expect("is let in"));
    drop(
        soon("a node", node().token(secure.token().expose()).name("other").spawn(secure.addr()))
            .await
            .expect("is let in"),
    );
    first.drain().await;
    drop(soon("the one that waits", waiting).await.expect("is let in once the name is free"));
}

#[tokio::test]
async fn a_token_that_was_issued_for_one_node() {
    let secure = SecureMaster::with_token().await;
    let token = Token::issue_for_node(&secure.file, "worker-1").expect("writes");
    let text = refusal(node().token(token.expose()).name("worker-2"), secure.addr()).await;
    tells(&text, &["was issued for the node `worker-1`", "called `worker-2`", "Give it that name"]);
    drop(
        soon("the node", node().token(token.expose()).name("worker-1").spawn(secure.addr())).await.expect("is let in"),
    );
    // The one before it stays valid, those of others too.
    let second = Token::issue_for_node(&secure.file, "worker-1").expect("writes");
    for token in [&token, &second] {
        drop(
            soon("the node", node().token(token.expose()).name("worker-1").spawn(secure.addr()))
                .await
                .expect("is let in"),
        );
    }
    assert!(Token::issue_for_node(&secure.file, " ").is_err());
    assert_eq!(secure.token().access(), Access::Nodes);
    assert_eq!(secure.token().name(), None, "not the one of a single node");
}

#[tokio::test]
async fn names_that_must_be_bound_to_a_credential() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let shared = Token::issue(&file, Access::Nodes).expect("writes");
    let own = Token::issue_for_node(&file, "n1").expect("writes");
    let master = Master::builder().bind_names().token_file(&file).bind("127.0.0.1:0").await.expect("binds");
    let text = refusal(node().token(shared.expose()).name("n1"), master.local_addr()).await;
    tells(&text, &["requires tokens that were issued for the node", "`Token::issue_for_node`"]);
    drop(soon("the node", node().token(own.expose()).name("n1").spawn(master.local_addr())).await.expect("is let in"));
}

#[tokio::test]
async fn names_of_certificates() {
    let authority = Authority::new("names");
    let certificates = authority.issue("master", Purpose::Server, &["localhost"]);
    let master = Master::builder().bind_names().certificates(certificates).bind("localhost:0").await.expect("binds");
    let host = format!("localhost:{}", master.local_addr().port());
    let own = authority.issue("n1", Purpose::Client, &["n1", "n1.cluster"]);
    let text = refusal(node().certificates(own.clone()).name("n2"), &host).await;
    tells(&text, &["requires certificates that are for the node's name", "is not for `n2`"]);
    let first = soon("the node", node().certificates(own).name("n1.cluster").spawn(&host)).await.expect("is let in");
    let [info] = &master.nodes()[..] else { panic!("one is registered") };
    assert_eq!(
        (info.principal.kind, &info.principal.names[..]),
        (PrincipalKind::Certificate, &["n1", "n1.cluster"].map(str::to_owned)[..])
    );
    // A renewed certificate is for the same names, and so the same node's.
    let renewed = authority.issue("n1", Purpose::Client, &["n1", "n1.cluster"]);
    drop(soon("the node", node().certificates(renewed).name("n1.cluster").spawn(&host)).await.expect("is let in"));
    drop(first);
}

#[tokio::test]
async fn labels_that_only_some_nodes_may_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let shared = Token::issue(&file, Access::Nodes).expect("writes");
    let [trusted, other] = ["n1", "n2"].map(|name| Token::issue_for_node(&file, name).expect("writes"));
    let master = Master::builder().restrict_label("zone", "trusted", ["n1", "n9"]).token_file(&file);
    let master = master.bind("127.0.0.1:0").await.expect("binds");
    let claims = |name: &str, token: &Token| node().name(name).token(token.expose()).label("zone", "trusted");
    for (name, token) in [("n1", &shared), ("n2", &other)] {
        let text = refusal(claims(name, token), master.local_addr()).await;
        tells(&text, &["the label zone=trusted only to nodes", "Start the node without the label"]);
    }
    drop(
        soon("a node", node().token(shared.expose()).label("zone", "other").spawn(master.local_addr()))
            .await
            .expect("is let in"),
    );
    let _trusted = soon("the node", claims("n1", &trusted).spawn(master.local_addr())).await.expect("is let in");
    let probe = ProbeClient::new(&master);
    let answer = probe.add(2, 3).label("zone", "trusted").answer().await.expect("is answered");
    assert_eq!((answer.value, &*answer.node.name), (5, "n1"));
}

#[tokio::test]
async fn more_nodes_than_a_credential_may_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let token = Token::issue(&file, Access::Nodes).expect("writes");
    let master =
        Master::builder().max_nodes_per_credential(2).token_file(&file).bind("127.0.0.1:0").await.expect("binds");
    let spawn = || node().token(token.expose()).spawn(master.local_addr());
    let first = spawn().await.expect("is let in");
    let _second = spawn().await.expect("is let in");
    let mut third = Box::pin(spawn());
    soon("it to be refused", async {
        while master.stats().turned_away == 0 {
            tokio::select! {
                ended = &mut third => panic!("must not be let in, nor give up: {ended:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert_eq!(master.nodes().len(), 2);
    first.drain().await;
    drop(soon("the third", third).await.expect("is let in once there is room"));
}

#[tokio::test]
async fn a_name_that_a_token_was_issued_for_is_kept_for_its_node() {
    let secure = SecureMaster::with_token().await;
    let mut events = secure.master.events();
    let shared = secure.token();
    let squatter = soon("a node", node().token(shared.expose()).name("database").spawn(secure.addr())).await;
    let squatter = squatter.expect("is let in, since the name is nobody's yet");
    let own = Token::issue_for_node(&secure.file, "database").expect("writes");
    assert!(squatter.is_registered(), "the node of the name is not here");
    let first = soon("the node", node().token(own.expose()).name("database").spawn(secure.addr())).await;
    let first = first.expect("is let in");
    soon("the squatter to go", async {
        loop {
            if let NodeEvent::Gone { node, reason, .. } = events.next().await.expect("the master lives") {
                assert_eq!((&*node.name, reason), ("database", GoneReason::Displaced));
                break;
            }
        }
    })
    .await;
    let [info] = &secure.master.nodes()[..] else { panic!("one is registered") };
    assert_eq!(info.id, first.id());
    let error = soon("the squatter's end", squatter.wait()).await.expect_err("is refused").to_string();
    tells(&error, &["a token was issued for the name `database`", "another name"]);
    // Nor while the node is away.
    first.drain().await;
    let text = refusal(node().token(shared.expose()).name("database"), secure.addr()).await;
    tells(&text, &["a token was issued for the name `database`", "Give the node that token"]);
    drop(soon("the node", node().token(own.expose()).name("database").spawn(secure.addr())).await.expect("is let in"));
}

#[tokio::test]
async fn nodes_with_one_file_take_the_tokens_that_are_theirs() {
    let secure = SecureMaster::with_token().await;
    let spawn = |name: &str| node().name(name).token_file(&secure.file).spawn(secure.addr());
    let first = soon("a node", spawn("a")).await.expect("is let in");
    Token::issue_for_node(&secure.file, "database").expect("writes");
    let other = soon("another", spawn("b")).await.expect("is let in");
    // One that was there dials again, and finds the token of another first in the file.
    secure.master.disconnect(first.id());
    let own = soon("the node", spawn("database")).await.expect("is let in");
    soon("all to be there", secure.master.wait_for_nodes(3)).await;
    let bound = |name: &str| {
        let nodes = secure.master.nodes();
        let node = nodes.iter().find(|node| &*node.name == name).expect("is here");
        node.principal.names.to_vec()
    };
    assert_eq!((bound("a"), bound("b"), bound("database")), (vec![], vec![], vec!["database".to_owned()]));
    drop((first, other, own));
}

#[tokio::test]
async fn who_has_a_certificate_for_a_name_takes_it_from_who_has_not() {
    let authority = Authority::new("names");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let mut events = secure.master.events();
    let certificate = |name: &str| authority.issue(name, Purpose::Client, &[name]);
    let spawn = |holder: &str| node().name("database").certificates(certificate(holder)).spawn(secure.host());
    let squatters = [soon("a node", spawn("web")).await.expect("no names are bound")];
    let own = soon("the node", spawn("database")).await.expect("is let in");
    soon("the squatter to go", async {
        loop {
            if let NodeEvent::Gone { reason, .. } = events.next().await.expect("the master lives") {
                assert_eq!(reason, GoneReason::Displaced);
                break;
            }
        }
    })
    .await;
    let before = secure.master.stats().turned_away;
    soon("it to be refused", async {
        while secure.master.stats().turned_away == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let [info] = &secure.master.nodes()[..] else { panic!("one is registered") };
    assert_eq!(info.id, own.id());
    drop(squatters);
}

#[tokio::test]
async fn what_is_told_of_a_name_that_is_taken() {
    let (log, _guard) = Log::gather();
    let secure = SecureMaster::with_token().await;
    let first = secure.token();
    let honest = soon("the node", node().token(first.expose()).name("database").spawn(secure.addr())).await;
    let _honest = honest.expect("is let in");
    let second = Token::issue(&secure.file, Access::Nodes).expect("writes");
    let [info] = &secure.master.nodes()[..] else { panic!("one is registered") };
    let mut insider = Joiner::greet(secure.addr()).await;
    let challenge = insider.challenge().await;
    let proof = insider.proof(&TokenContents::of(second.expose()).secret, challenge, [5; 32]);
    let registration = registration("database", &[("add", "fn(i64, i64) -> i64")]);
    insider.stream.write_all(&[&[5; 32], &proof[..], &registration].concat()).await.expect("sends");
    let mut told = Vec::new();
    let _ = soon("the refusal", insider.stream.read_to_end(&mut told)).await;
    let told = String::from_utf8_lossy(&told);
    tells(&told, &["a node called `database` is registered by another credential"]);
    let secrets = [info.addr.to_string(), first.id()];
    assert!(secrets.iter().all(|secret| !told.contains(secret)), "{told}");
    let text = log.text();
    let line = text.lines().find(|line| line.contains("refused a registration for now")).expect("is logged");
    assert!(secrets.iter().all(|secret| line.contains(secret)), "{line}");
}

#[tokio::test]
async fn names_of_a_label_that_is_restricted_twice_add_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let tokens = ["n1", "n2", "n3"].map(|name| Token::issue_for_node(&file, name).expect("writes"));
    let master = Master::builder().restrict_label("zone", "trusted", ["n1"]).restrict_label("zone", "trusted", ["n2"]);
    let master = master.token_file(&file).bind("127.0.0.1:0").await.expect("binds");
    let claims = |at: usize| {
        let name = format!("n{}", at + 1);
        node().name(name).token(tokens[at].expose()).label("zone", "trusted")
    };
    for at in [0, 1] {
        drop(soon("the node", claims(at).spawn(master.local_addr())).await.expect("is let in"));
    }
    tells(&refusal(claims(2), master.local_addr()).await, &["the label zone=trusted only to nodes"]);
}

#[tokio::test]
async fn tokens_are_issued_for_names_that_nodes_can_have() {
    let secure = SecureMaster::with_token().await;
    for name in ["x".repeat(129), "x".repeat(300), String::new(), " x".to_owned(), "x\u{202e}".to_owned()] {
        let error = Token::issue_for_node(&secure.file, &name).expect_err("no node has it");
        assert!(matches!(error, Error::Setting { name: "name", .. }), "{error}");
    }
    let longest = "x".repeat(128);
    let token = Token::issue_for_node(&secure.file, &longest).expect("writes");
    drop(soon("the node", node().name(&longest).token(token.expose()).spawn(secure.addr())).await.expect("is let in"));
}
