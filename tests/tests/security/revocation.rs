//! Credentials that are taken back: the nodes that came by one are disconnected.

use std::{fs, path::Path, time::Duration};

use distribution::{Access, CallError, Events, Master, NodeEvent, Token, error::GoneReason};
use distribution_tests::{
    ProbeClient,
    impostor::{preface, registration},
    log::Log,
    process::{Process, example},
    soon,
    trust::{Authority, Purpose, dial_as},
};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{SecureMaster, node, refusal, tells};

async fn gone(events: &mut Events) -> (String, GoneReason) {
    soon("a node to go", async {
        loop {
            if let NodeEvent::Gone { node, reason, .. } = events.next().await.expect("the master lives") {
                return (node.name.to_string(), reason);
            }
        }
    })
    .await
}

#[tokio::test]
async fn nodes_are_disconnected_when_their_token_is_rotated_out() {
    let (log, _guard) = Log::gather();
    let secure = SecureMaster::with_token().await;
    let first = secure.token();
    let mut events = secure.master.events();
    let thief =
        soon("the thief", node().name("thief").token(first.expose()).spawn(secure.addr())).await.expect("is let in");
    let second = Token::issue(&secure.file, Access::Nodes).expect("writes");
    let honest =
        soon("a node", node().name("honest").token(second.expose()).spawn(secure.addr())).await.expect("is let in");
    let probe = ProbeClient::new(&secure.master);
    assert_eq!(probe.add(1, 2).on(thief.id()).await, Ok(3));
    Token::issue(&secure.file, Access::Nodes).expect("writes");
    assert_eq!(gone(&mut events).await, ("thief".to_owned(), GoneReason::Revoked));
    let error = soon("the thief's end", thief.wait()).await.expect_err("is not let in again").to_string();
    assert!(error.contains("was rotated out"), "{error}");
    assert_eq!(probe.add(1, 2).await, Ok(3), "the honest node goes on");
    assert_eq!(secure.master.nodes().len(), 1);
    let text = log.text();
    for (node, token) in [("thief", &first), ("honest", &second)] {
        let (node, principal) = (format!("node=\"{node}\""), format!("principal=token {}", token.id()));
        let line = text.lines().find(|line| line.contains("a node has registered") && line.contains(&node));
        assert!(line.is_some_and(|line| line.contains(&principal)), "{text}");
    }
    assert!(text.contains("disconnecting nodes and callers: their credential was revoked"), "{text}");
    drop(honest);
}

#[tokio::test]
async fn a_damaged_token_file_disconnects_nobody() {
    let secure = SecureMaster::with_token().await;
    let _node = soon("a node", node().token(secure.token().expose()).spawn(secure.addr())).await.expect("is let in");
    let text = fs::read_to_string(&secure.file).expect("reads");
    fs::write(&secure.file, "dtok1_node_damaged\n").expect("writes");
    let refused = secure.master.stats().turned_away;
    let token = text.lines().find(|line| line.starts_with("dtok1_node_")).expect("one for nodes");
    let mut other = Box::pin(node().token(token).spawn(secure.addr()));
    soon("the damage to be seen", async {
        while secure.master.stats().turned_away < refused + 2 {
            tokio::select! {
                ended = &mut other => panic!("must not be let in: {ended:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert_eq!(secure.master.nodes().len(), 1);
    fs::write(&secure.file, text).expect("writes");
    drop(soon("the other", other).await.expect("is let in"));
    assert_eq!(secure.master.nodes().len(), 2);
}

#[tokio::test]
async fn both_ends_tell_of_a_file_that_cannot_be_used() {
    let (log, _guard) = Log::gather();
    let secure = SecureMaster::with_token().await;
    let token = format!("DISTRIBUTION_TOKEN={}", secure.token().expose());
    fs::write(&secure.file, "dtok1_node_damaged\n").expect("writes");
    let (program, address) = (example("arith"), secure.addr().to_string());
    let program = program.to_str().expect("plain");
    let mut node = Process::start(Path::new("env"), &[&token, program, "node", "--master", &address]);
    let told = node.log_with("closed the connection before the TLS handshake").await;
    tells(&told, &["look at the master's log"]);
    tells(&log.text(), &["this master's files cannot be used: the token file"]);
}

#[tokio::test]
async fn nodes_are_disconnected_when_their_authority_is_replaced() {
    let authority = Authority::new("old");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let mut events = secure.master.events();
    let own = authority.issue("n1", Purpose::Client, &["n1"]);
    let _node = soon("the node", node().name("n1").certificates(own).spawn(secure.host())).await.expect("is let in");
    let other = Authority::new("new");
    other.issue("master", Purpose::Server, &["localhost"]);
    for kind in ["key", "pem"] {
        fs::copy(other.path("master", kind), authority.path("master", kind)).expect("copies");
    }
    fs::copy(other.file(), authority.file()).expect("copies");
    assert_eq!(gone(&mut events).await, ("n1".to_owned(), GoneReason::Revoked));
}

#[tokio::test]
async fn a_node_that_the_program_disconnects_may_come_again() {
    let secure = SecureMaster::with_token().await;
    let mut events = secure.master.events();
    let node =
        soon("a node", node().name("n").token(secure.token().expose()).spawn(secure.addr())).await.expect("is let in");
    let id = node.id();
    assert!(secure.master.disconnect(id));
    assert_eq!(gone(&mut events).await, ("n".to_owned(), GoneReason::DisconnectedByMaster));
    assert!(!secure.master.disconnect(id), "it is not there any more");
    soon("it to come again", secure.master.wait_for_nodes(1)).await;
    assert_eq!(ProbeClient::new(&secure.master).add(1, 2).await, Ok(3));
    let error = ProbeClient::new(&secure.master).add(1, 2).on(id).await.expect_err("an id is given once");
    assert!(matches!(error, CallError::NoNode { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_that_is_disconnected_logs_the_reason() {
    let hold = SecureMaster::with_token().await;
    let token = format!("DISTRIBUTION_TOKEN={}", hold.token().expose());
    let (program, address) = (example("arith"), hold.addr().to_string());
    let program = program.to_str().expect("plain");
    let mut node = Process::start(Path::new("env"), &[&token, program, "node", "--master", &address]);
    soon("a node", hold.master.wait_for_nodes(1)).await;
    assert!(hold.master.disconnect(hold.master.nodes()[0].id));
    let line = node.log_with("closed the connection").await;
    tells(
        &line,
        &[
            "lost the master",
            &format!("the master closed the connection: the node {}", GoneReason::DisconnectedByMaster),
        ],
    );
}

/// Waits until the master has turned this many away in all.
async fn turned_away(master: &Master, count: u64) {
    soon("them to be turned away", async {
        while master.stats().turned_away < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_token_can_be_taken_back() {
    let (log, _guard) = Log::gather();
    let secure = SecureMaster::with_token().await;
    let mut events = secure.master.events();
    let token = secure.token();
    let spawn = |name: &str| node().name(name).token(token.expose()).spawn(secure.addr());
    let _thieves = [spawn("a").await.expect("is let in"), spawn("b").await.expect("is let in")];
    fs::write(&secure.file, "# All are taken out.\n").expect("writes");
    for _ in 0..2 {
        assert_eq!(gone(&mut events).await.1, GoneReason::Revoked);
    }
    assert!(secure.master.token().is_none());
    // They dial again, and nobody hears them.
    let before = secure.master.stats();
    turned_away(&secure.master, before.turned_away + 2).await;
    assert_eq!(secure.master.stats().registration_bytes, before.registration_bytes);
    let text = log.text();
    tells(&text, &["the token file has no token any more", &format!("principal=token {} peers=2", token.id())]);
    assert_eq!(text.matches("disconnecting nodes and callers").count(), 1, "{text}");
    // No master starts so; the one that runs goes on with the next token.
    let error = Master::builder().token_file(&secure.file).bind("127.0.0.1:0").await.expect_err("nobody could join");
    tells(&error.to_string(), &["there is no token in it"]);
    let next = Token::issue(&secure.file, Access::Nodes).expect("writes");
    drop(soon("a node", node().token(next.expose()).spawn(secure.addr())).await.expect("is let in"));
}

#[tokio::test]
async fn a_node_whose_file_is_renewed_later_than_the_masters_comes_back() {
    let secure = SecureMaster::with_token().await;
    let mut events = secure.master.events();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("token");
    fs::copy(&secure.file, &copy).expect("copies");
    let node = soon("the node", node().name("n1").token_file(&copy).spawn(secure.addr())).await.expect("is let in");
    for _ in 0..2 {
        Token::issue(&secure.file, Access::Nodes).expect("writes");
    }
    assert_eq!(gone(&mut events).await, ("n1".to_owned(), GoneReason::Revoked));
    // It dials with the old token and is refused.
    let before = secure.master.stats().turned_away;
    turned_away(&secure.master, before + 1).await;
    // One that was never in ends with an error by the same file.
    tells(&refusal(super::node().token_file(&copy), secure.addr()).await, &["was rotated out"]);
    fs::copy(&secure.file, &copy).expect("copies");
    soon("it to come back", secure.master.wait_for_nodes(1)).await;
    drop(node);
}

/// Whether the master lets a node in that shows the certificate of this holder, and believes whatever answers.
async fn lets_in(holder: &str, authority: &Authority, master: &Master) -> bool {
    let mut stream = dial_as(holder, authority, master.local_addr()).await;
    let hello = [preface(2, 2), registration(holder, &[("add", "fn(i64, i64) -> i64")])].concat();
    // With TLS 1.3 the handshake is over for the client before the server has seen its certificate.
    let mut answer = [0; 33];
    let heard = async {
        stream.write_all(&hello).await?;
        stream.read_exact(&mut answer).await
    };
    soon("an answer", heard).await.is_ok() && answer[32] == 0
}

#[tokio::test]
async fn an_authority_that_is_replaced_counts_whatever_becomes_of_the_masters_own_certificate() {
    let (authority, other) = (Authority::new("old"), Authority::new("new"));
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    authority.issue("n1", Purpose::Client, &["n1"]);
    other.issue("n2", Purpose::Client, &["n2"]);
    let mut events = secure.master.events();
    assert!(lets_in("n1", &authority, &secure.master).await);
    // It has been in, and is no more.
    assert_eq!(gone(&mut events).await.0, "n1");
    // The new authority, a certificate of it, and the old key still.
    other.issue("master", Purpose::Server, &["localhost"]);
    fs::copy(other.path("master", "pem"), authority.path("master", "pem")).expect("copies");
    fs::copy(other.file(), authority.file()).expect("copies");
    assert!(!lets_in("n1", &authority, &secure.master).await, "it is the old authority's");
    assert!(lets_in("n2", &other, &secure.master).await, "it is the new one's");
    // While the authority itself is damaged, nobody is let in and nobody is disconnected.
    assert_eq!(gone(&mut events).await.0, "n2");
    fs::copy(other.path("master", "key"), authority.path("master", "key")).expect("copies");
    let own = other.issue("n3", Purpose::Client, &["n3"]);
    let _node = soon("a node", node().name("n3").certificates(own).spawn(secure.host())).await.expect("is let in");
    fs::write(authority.file(), &other.pem()[..100]).expect("writes");
    let before = secure.master.stats().turned_away;
    let newcomer = other.issue("n4", Purpose::Client, &["n4"]);
    let mut waiting = Box::pin(node().certificates(newcomer).spawn(secure.host()));
    soon("a node to try", async {
        while secure.master.stats().turned_away < before + 3 {
            tokio::select! {
                ended = &mut waiting => panic!("must not be let in, nor give up: {ended:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert_eq!(secure.master.nodes().len(), 1);
    fs::copy(other.file(), authority.file()).expect("copies");
    drop(soon("the other", waiting).await.expect("is let in once the file is whole"));
}

#[tokio::test]
async fn a_node_is_disconnected_when_its_certificate_expires() {
    let (log, _guard) = Log::gather();
    let authority = Authority::new("ours");
    let certificates = authority.issue("master", Purpose::Server, &["localhost"]);
    let master = Master::builder().heartbeat(Duration::from_millis(50)).certificates(certificates);
    let master = master.bind("localhost:0").await.expect("binds");
    let host = format!("localhost:{}", master.local_addr().port());
    let lasting = authority.issue("lasting", Purpose::Client, &["lasting"]);
    let _lasting = soon("a node", node().name("lasting").certificates(lasting).spawn(&host)).await.expect("is let in");
    let mut events = master.events();
    // On a busy machine a node may take longer to come than its certificate is good for.
    for seconds in [4, 8, 16, 32, 64] {
        let own = authority.issue_for("short", Purpose::Client, &["short"], Duration::from_secs(seconds));
        if let Ok(_short) = soon("a node", node().name("short").certificates(own).spawn(&host)).await {
            assert_eq!(gone(&mut events).await, ("short".to_owned(), GoneReason::Expired));
            assert_eq!(master.nodes().len(), 1);
            tells(&log.text(), &["disconnecting nodes and callers: their certificate has expired"]);
            return;
        }
    }
    panic!("no certificate was good for long enough");
}
