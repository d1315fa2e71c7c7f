//! Who is let in, and who is not: each refusal over a real connection, with an error on the refused side that says what
//! to do, and with nothing of a registration looked at.

#![allow(clippy::print_stdout, reason = "what people are told is to be read, with `--nocapture`")]

mod files;
mod names;
mod revocation;
mod rights;
mod roles;

use std::{
    fs,
    future::IntoFuture,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use distribution::{
    Access, Certificates, Error, LocalCluster, Master, Node, NodeBuilder, NodeEvent, Token, error::GoneReason,
};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober,
    impostor::{self, Impostor, number, outcome, signed},
    log::Log,
    meeting::Meeting,
    process::{Process, example},
    soon,
    trust::{Authority, Joiner, Purpose, TokenContents, dial, proof, server_of},
};
use futures::StreamExt;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Mutex,
};
use tokio_rustls::TlsAcceptor;

/// A master with security: only peers with a token or a certificate of its cluster can register.
struct SecureMaster {
    master: Master,
    /// Its token file; none with certificates.
    file: PathBuf,
    _folder: Option<TempDir>,
}

impl SecureMaster {
    async fn with_token() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cluster.token");
        Token::issue(&file, Access::Nodes).expect("writes");
        let master = Master::builder().max_handshake_failures(1000).token_file(&file).bind("127.0.0.1:0").await;
        Self { master: master.expect("binds"), file, _folder: Some(folder) }
    }

    async fn with_certificates(certificates: Certificates) -> Self {
        let master = Master::builder().certificates(certificates).bind("localhost:0").await.expect("binds");
        Self { master, file: PathBuf::new(), _folder: None }
    }

    fn addr(&self) -> SocketAddr {
        self.master.local_addr()
    }

    /// The address by the name that its certificate is for.
    fn host(&self) -> String {
        format!("localhost:{}", self.addr().port())
    }

    fn token(&self) -> Token {
        self.master.token().expect("has one")
    }

    fn contents(&self) -> TokenContents {
        TokenContents::of(self.token().expose())
    }

    /// Waits until this many peers were turned away; no byte of their registrations may have been decoded.
    async fn assert_turned_away(&self, peers: u64) {
        soon("all to be turned away", async {
            while self.master.stats().turned_away < peers {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let stats = self.master.stats();
        assert_eq!((stats.turned_away, stats.registration_bytes), (peers, 0));
        assert!(self.master.nodes().is_empty());
    }
}

fn node() -> NodeBuilder {
    Node::builder().serve(ProbeServer::new(Prober))
}

/// Why a node is refused.
async fn refusal(node: NodeBuilder, master: impl std::fmt::Display) -> String {
    let error = soon("a refusal", node.spawn(master)).await.expect_err("must not be let in");
    let text = error.to_string();
    println!("{text}");
    text
}

/// The text must contain all these parts.
#[track_caller]
fn tells(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

// With tokens.

#[tokio::test]
async fn nodes_with_the_right_token_are_let_in_and_their_registrations_counted() {
    let secure = SecureMaster::with_token().await;
    for node in [
        node().token(secure.token().expose()),
        node().token(format!("DISTRIBUTION_TOKEN={}\n", secure.token().expose())),
        node().token_file(&secure.file),
    ] {
        let node = soon("the node", node.spawn(secure.addr())).await.expect("is let in");
        assert_eq!(ProbeClient::new(&secure.master).add(2, 3).on(node.id()).await, Ok(5));
    }
    let stats = secure.master.stats();
    assert!(stats.registration_bytes > 300 && stats.turned_away == 0, "{stats:?}");
}

#[tokio::test]
async fn a_node_without_a_token_that_speaks_plain_text_to_a_tls_port_is_told_to_use_one() {
    let secure = SecureMaster::with_token().await;
    let text = refusal(node(), secure.addr()).await;
    tells(&text, &["it speaks TLS", "DISTRIBUTION_TOKEN", ".token_file(..)", "printed at its first start"]);
    secure.assert_turned_away(1).await;
}

#[tokio::test]
async fn peers_that_speak_other_protocols_to_a_tls_port_are_turned_away() {
    let secure = SecureMaster::with_token().await;
    let plain = [impostor::preface(2, 0), impostor::registration("plain", &[])].concat();
    for bytes in [&plain[..], &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 64], b"\x16\x03\x01\xff\xff"] {
        let mut stream = TcpStream::connect(secure.addr()).await.expect("connects");
        stream.write_all(bytes).await.expect("sends");
        stream.shutdown().await.expect("sends");
        let mut answer = Vec::new();
        soon("the end", stream.read_to_end(&mut answer)).await.expect("reads");
        assert!(answer.len() < 16, "an alert at most: {answer:?}");
    }
    secure.assert_turned_away(4).await;
}

#[tokio::test]
async fn a_node_with_a_wrong_token_is_refused() {
    let secure = SecureMaster::with_token().await;
    let wrong = TokenContents { secret: [1; 32], ..secure.contents() };
    let text = refusal(node().token(wrong.token("node")), secure.addr()).await;
    tells(
        &text,
        &[
            "refused this node",
            "the master does not know the token",
            "another cluster, or was rotated out",
            "token file",
        ],
    );
    secure.assert_turned_away(1).await;
}

#[tokio::test]
async fn a_node_with_a_truncated_token_does_not_start_and_half_a_proof_is_refused() {
    let secure = SecureMaster::with_token().await;
    let token = secure.token();
    for end in [20, 60, token.expose().len() - 1] {
        let text = refusal(node().token(&token.expose()[..end]), secure.addr()).await;
        tells(&text, &["`.token(..)`", "it is not whole", "Take the line that the master printed"]);
    }
    // And one who sends the proof of half a secret, or half a proof.
    let secret = secure.contents().secret;
    let mut joiner = Joiner::greet(secure.addr()).await;
    let challenge = joiner.challenge().await;
    let proof = joiner.proof(&secret[..16], challenge, [3; 32]);
    assert_eq!(joiner.show(&[&[3; 32], &proof[..]].concat()).await, 1);
    let mut joiner = Joiner::greet(secure.addr()).await;
    let challenge = joiner.challenge().await;
    let proof = joiner.proof(&secret, challenge, [3; 32]);
    joiner.stream.write_all(&[&[3; 32], &proof[..31]].concat()).await.expect("sends");
    joiner.stream.shutdown().await.expect("sends");
    let mut answer = Vec::new();
    let _ = soon("the end", joiner.stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{answer:?}");
    secure.assert_turned_away(2).await;
}

#[tokio::test]
async fn a_node_with_a_token_that_was_rotated_out_is_refused() {
    let secure = SecureMaster::with_token().await;
    let first = secure.token();
    let second = Token::issue(&secure.file, Access::Nodes).expect("writes");
    // Two are valid at once.
    for token in [&first, &second] {
        let node = soon("the node", node().token(token.expose()).spawn(secure.addr())).await.expect("is let in");
        node.drain().await;
    }
    let decoded = secure.master.stats().registration_bytes;
    assert_eq!(secure.token().id(), second.id());
    Token::issue(&secure.file, Access::Nodes).expect("writes");
    let text = refusal(node().token(first.expose()), secure.addr()).await;
    tells(&text, &["was rotated out", "The valid tokens are in the master's token file"]);
    assert_eq!(secure.master.stats().registration_bytes, decoded);
    drop(soon("the node", node().token(second.expose()).spawn(secure.addr())).await.expect("is let in"));
}

#[tokio::test]
async fn a_node_with_a_token_for_callers_is_refused() {
    let secure = SecureMaster::with_token().await;
    let caller = Token::issue(&secure.file, Access::Callers).expect("writes");
    let text = refusal(node().token(caller.expose()), secure.addr()).await;
    tells(&text, &["`.token(..)`", "for callers", "a token for nodes is needed here"]);
    // One that says of itself that it is for nodes: what it is for is for the master to know.
    let forged = TokenContents::of(caller.expose()).token("node");
    let text = refusal(node().token(forged), secure.addr()).await;
    tells(&text, &["for another role", "A token is for the role that it was issued for (`Token::issue`)"]);
    secure.assert_turned_away(1).await;
}

#[tokio::test]
async fn a_peer_that_replays_a_hello_is_refused() {
    let secure = SecureMaster::with_token().await;
    let secret = secure.contents().secret;
    let mut member = Joiner::greet(secure.addr()).await;
    let challenge = member.challenge().await;
    let recorded = [&[7; 32], &member.proof(&secret, challenge, [7; 32])[..]].concat();
    assert_eq!(member.show(&recorded).await, 0, "the first time it is good");
    soon("it to be registered", secure.master.wait_for_nodes(1)).await;
    drop(member);
    let decoded = secure.master.stats().registration_bytes;
    assert!(decoded > 20, "the counter counts: {decoded}");
    let mut replayer = Joiner::greet(secure.addr()).await;
    replayer.challenge().await;
    assert_eq!(replayer.show(&recorded).await, 1);
    let stats = secure.master.stats();
    assert_eq!((stats.turned_away, stats.registration_bytes), (1, decoded));
}

#[tokio::test]
async fn a_peer_that_replays_a_whole_connection_is_turned_away() {
    let secure = SecureMaster::with_token().await;
    let relay = Relay::to(secure.addr()).await;
    let member = node().token(secure.token().expose()).spawn(relay.addr).await.expect("is let in");
    member.drain().await;
    let decoded = secure.master.stats().registration_bytes;
    let recorded = relay.to_master.lock().await.clone();
    let mut replayer = TcpStream::connect(secure.addr()).await.expect("connects");
    replayer.write_all(&recorded).await.expect("sends");
    replayer.shutdown().await.expect("sends");
    let _ = soon("the end", replayer.read_to_end(&mut Vec::new())).await;
    soon("it to be turned away", async {
        while secure.master.stats().turned_away == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(secure.master.stats().registration_bytes, decoded);
    assert!(secure.master.nodes().is_empty());
}

#[tokio::test]
async fn a_peer_that_reflects_the_masters_challenge_is_refused() {
    let secure = SecureMaster::with_token().await;
    let mut reflector = Joiner::greet(secure.addr()).await;
    let challenge = reflector.challenge().await;
    assert_eq!(reflector.show(&[challenge, challenge].concat()).await, 1);
    // A proof of the right secret, but made as the master makes its own.
    let mut reflector = Joiner::greet(secure.addr()).await;
    let challenge = reflector.challenge().await;
    let label = b"EXPORTER-distribution-proof";
    let binding = reflector.stream.get_ref().1.export_keying_material([0; 32], label, None).expect("exports");
    let masters_own = proof(&secure.contents().secret, 1, binding, challenge, challenge);
    assert_eq!(reflector.show(&[&challenge[..], &masters_own].concat()).await, 1);
    secure.assert_turned_away(2).await;
}

#[tokio::test]
async fn a_master_that_reflects_the_nodes_proof_is_not_believed() {
    // It has the master's key, but not the secret.
    let secure = SecureMaster::with_token().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("is bound");
    let acceptor = TlsAcceptor::from(server_of(&secure.file, &TLS13));
    let thief = async {
        let (stream, _) = listener.accept().await.expect("accepts");
        let mut stream = acceptor.accept(stream).await.expect("speaks TLS");
        stream.read_exact(&mut [0; 32]).await.expect("reads");
        stream.write_all(&[&impostor::preface(1, 1)[..], &[9; 32]].concat()).await.expect("sends");
        let mut answer = [0; 64];
        stream.read_exact(&mut answer).await.expect("reads");
        stream.write_all(&[&[0], &answer[32..]].concat()).await.expect("sends");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "the node must say no more: {rest:?}");
    };
    let (text, ()) = tokio::join!(refusal(node().token(secure.token().expose()), addr), thief);
    tells(&text, &["has not proven", "does not know the secret"]);
}

#[tokio::test]
async fn a_master_with_another_fingerprint_is_not_believed() {
    let (secure, other) = (SecureMaster::with_token().await, SecureMaster::with_token().await);
    let token = TokenContents { fingerprint: other.contents().fingerprint, ..secure.contents() };
    let text = refusal(node().token(token.token("node")), secure.addr()).await;
    tells(&text, &["has not proven", "not the one that the token was made for", "take the token from there"]);
    secure.assert_turned_away(1).await;
}

#[tokio::test]
async fn peers_that_speak_tls_1_2_are_refused() {
    let secure = SecureMaster::with_token().await;
    let error = dial(secure.addr(), &TLS12).await.expect_err("is refused").to_string();
    tells(&error, &["ProtocolVersion"]);
    secure.assert_turned_away(1).await;
    // Nor does a node take a master that knows no better.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("is bound");
    let acceptor = TlsAcceptor::from(server_of(&secure.file, &TLS12));
    let old = async {
        let (stream, _) = listener.accept().await.expect("accepts");
        acceptor.accept(stream).await.expect_err("is refused")
    };
    let (text, _) = tokio::join!(refusal(node().token(secure.token().expose()), addr), old);
    tells(&text, &["no TLS 1.3 in common"]);
}

#[tokio::test]
async fn a_node_that_speaks_tls_to_a_plain_port_is_told_what_to_do() {
    let secure = SecureMaster::with_token().await;
    let open = Master::bind("127.0.0.1:0").await.expect("binds");
    let text = refusal(node().token(secure.token().expose()), open.local_addr()).await;
    tells(&text, &["does not speak TLS", "Start the master with .token_file(..)", "is DISTRIBUTION_TOKEN set?"]);
    let stats = open.stats();
    assert_eq!((stats.registration_bytes, open.nodes().len()), (0, 0));
}

// With certificates.

#[tokio::test]
async fn a_node_with_a_certificate_of_the_masters_authority_is_let_in() {
    let authority = Authority::new("ours");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let certificates = authority.issue("node", Purpose::Client, &["node.test"]);
    let _node = soon("the node", node().certificates(certificates).spawn(secure.host())).await.expect("is let in");
    assert_eq!(ProbeClient::new(&secure.master).add(2, 3).await, Ok(5));
}

#[tokio::test]
async fn nodes_and_masters_with_a_certificate_of_another_authority_are_refused() {
    // The second calls itself as the first does, so that only its signature tells them apart.
    for name in ["theirs", "ours"] {
        let (ours, theirs) = (Authority::new("ours"), Authority::new(name));
        let secure = SecureMaster::with_certificates(ours.issue("master", Purpose::Server, &["localhost"])).await;
        // The node trusts the right authority and is of another.
        theirs.issue("node", Purpose::Client, &["node.test"]);
        let mixed = Certificates::new(ours.file(), theirs.path("node", "pem"), theirs.path("node", "key"));
        let text = refusal(node().certificates(mixed), secure.host()).await;
        tells(&text, &["does not know the authority of this node's certificate", "Give master and node the same one"]);
        // The node is of the right authority and trusts another.
        ours.issue("node", Purpose::Client, &["node.test"]);
        let mixed = Certificates::new(theirs.file(), ours.path("node", "pem"), ours.path("node", "key"));
        let text = refusal(node().certificates(mixed), secure.host()).await;
        tells(&text, &["has not proven", "not from the authority that this node trusts"]);
        secure.assert_turned_away(2).await;
    }
}

#[tokio::test]
async fn nodes_and_masters_with_an_expired_certificate_are_refused() {
    let authority = Authority::new("ours");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let expired = authority.issue_until("node", Purpose::Client, &["node.test"], 2001);
    let text = refusal(node().certificates(expired), secure.host()).await;
    tells(&text, &["this node's certificate has expired", "Put a new one in its place"]);
    secure.assert_turned_away(1).await;
    let old =
        SecureMaster::with_certificates(authority.issue_until("old", Purpose::Server, &["localhost"], 2001)).await;
    let good = authority.issue("node", Purpose::Client, &["node.test"]);
    let text = refusal(node().certificates(good), old.host()).await;
    tells(&text, &["has not proven", "expired", "Give the master a new one"]);
    old.assert_turned_away(1).await;
}

#[tokio::test]
async fn nodes_and_masters_with_a_certificate_for_another_name_are_refused() {
    let authority = Authority::new("ours");
    let demanding = authority.issue("master", Purpose::Server, &["localhost"]).peer_name("node.test");
    let secure = SecureMaster::with_certificates(demanding).await;
    let other = authority.issue("other", Purpose::Client, &["other.test"]);
    let text = refusal(node().certificates(other), secure.host()).await;
    tells(&text, &["refused this node", "for another name than the master's `Certificates::peer_name`"]);
    secure.assert_turned_away(1).await;
    let good = authority.issue("node", Purpose::Client, &["node.test"]);
    // The same master, dialled by a name that it has no certificate for.
    let text = refusal(node().certificates(good.clone()), secure.addr()).await;
    tells(&text, &["has not proven", "not valid for", "Certificates::peer_name"]);
    secure.assert_turned_away(2).await;
    let named = node().certificates(good.peer_name("localhost"));
    drop(soon("the node", named.spawn(secure.addr())).await.expect("is let in"));
}

#[tokio::test]
async fn a_node_with_a_certificate_for_servers_is_refused() {
    let authority = Authority::new("ours");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let servers = authority.issue("server", Purpose::Server, &["node.test"]);
    let text = refusal(node().certificates(servers), secure.host()).await;
    tells(&text, &["not good for clients", "clientAuth"]);
    secure.assert_turned_away(1).await;
}

#[tokio::test]
async fn a_peer_without_a_client_certificate_is_refused() {
    let authority = Authority::new("ours");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let mut stream = dial(secure.addr(), &TLS13).await.expect("the client's part of the handshake ends first");
    let hello = [impostor::preface(2, 2), impostor::registration("bare", &[])].concat();
    // It may have been closed by now.
    let _ = stream.write_all(&hello).await;
    let error = soon("an answer", stream.read(&mut [0; 1])).await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    tells(&error.to_string(), &["CertificateRequired"]);
    secure.assert_turned_away(1).await;
    // A node with a token has none either, and does not know this master.
    let token = SecureMaster::with_token().await.token();
    let text = refusal(node().token(token.expose()), secure.host()).await;
    tells(&text, &["has not proven", "not the one that the token was made for", ".certificates(..)"]);
    secure.assert_turned_away(2).await;
}

#[tokio::test]
async fn a_node_that_speaks_plain_text_to_a_port_that_wants_certificates_is_told_what_to_do() {
    let authority = Authority::new("ours");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let text = refusal(node(), secure.host()).await;
    tells(&text, &["it speaks TLS", ".certificates(..)"]);
    secure.assert_turned_away(1).await;
}

#[tokio::test]
async fn certificates_are_renewed_under_a_running_cluster() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let certificates = first.issue("master", Purpose::Server, &["localhost"]);
    let secure = SecureMaster::with_certificates(certificates).await;
    let old = first.issue("node", Purpose::Client, &["node.test"]);
    let stays = node().certificates(old.clone()).name("stays").spawn(secure.host()).await.expect("is let in");
    let id = stays.id();
    // All three files in their places, as a tool that renews them does it.
    second.issue("master", Purpose::Server, &["localhost"]);
    for kind in ["pem", "key"] {
        fs::copy(second.path("master", kind), first.path("master", kind)).expect("copies");
    }
    fs::copy(second.file(), first.file()).expect("copies");
    let new = second.issue("node", Purpose::Client, &["node.test"]);
    let _joins = soon("a node", node().certificates(new).spawn(secure.host())).await.expect("is let in");
    let text = refusal(node().certificates(old), secure.host()).await;
    tells(&text, &["does not know the authority"]);
    assert_eq!((stays.id(), stays.is_registered()), (id, true), "no connection was dropped");
    assert_eq!(ProbeClient::new(&secure.master).add(2, 3).on(id).await, Ok(5));
}

#[tokio::test]
async fn certificates_that_are_replaced_one_by_one_do_no_harm() {
    let authority = Authority::new("ours");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let good = authority.issue("node", Purpose::Client, &["node.test"]);
    let key = fs::read(authority.path("master", "key")).expect("reads");
    authority.issue("master", Purpose::Server, &["localhost"]);
    let new_key = fs::read(authority.path("master", "key")).expect("reads");
    // The new certificate is there, and its key not yet.
    fs::write(authority.path("master", "key"), key).expect("writes");
    let _first = soon("a node", node().certificates(good.clone()).spawn(secure.host())).await.expect("is let in");
    fs::write(authority.path("master", "key"), new_key).expect("writes");
    let _second = soon("a node", node().certificates(good).spawn(secure.host())).await.expect("is let in");
}

#[tokio::test]
async fn a_node_takes_up_the_certificates_that_it_is_given() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let secure = SecureMaster::with_certificates(first.issue("master", Purpose::Server, &["localhost"])).await;
    let certificates = first.issue("node", Purpose::Client, &["node.test"]);
    let member = soon("the node", node().certificates(certificates).spawn(secure.host())).await.expect("is let in");
    let addr = secure.addr();
    second.issue("node", Purpose::Client, &["node.test"]);
    for kind in ["pem", "key"] {
        fs::copy(second.path("node", kind), first.path("node", kind)).expect("copies");
    }
    fs::copy(second.file(), first.file()).expect("copies");
    secure.master.shutdown().await;
    let certificates = second.issue("master", Purpose::Server, &["localhost"]);
    let master = Master::builder().certificates(certificates).bind(addr).await.expect("binds");
    soon("the node to come back", master.wait_for_nodes(1)).await;
    drop(member);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new("ours");
    let good = authority.issue("master", Purpose::Server, &["localhost"]);
    authority.issue("other", Purpose::Server, &["localhost"]);
    let (ca, pem, key) = (authority.file(), authority.path("master", "pem"), authority.path("master", "key"));
    let start = async |certificates: Certificates| {
        let master = Master::builder().certificates(certificates).bind("127.0.0.1:0").await;
        master.expect_err("cannot start").to_string()
    };
    tells(&start(Certificates::new("/nowhere/ca.pem", &pem, &key)).await, &["/nowhere/ca.pem", "no folder /nowhere"]);
    tells(&start(Certificates::new(&ca, &key, &key)).await, &["master.key", "no `BEGIN CERTIFICATE` in it"]);
    tells(&start(Certificates::new(&ca, &pem, authority.path("other", "key"))).await, &["master.pem", "other.key"]);
    let nowhere = Master::builder().token_file("/nowhere/cluster.token").bind("127.0.0.1:0").await;
    let nowhere = nowhere.expect_err("cannot start").to_string();
    tells(&nowhere, &["/nowhere/cluster.token", "there is no folder /nowhere; make the folder first"]);
    tells(&start(good.peer_name("not a name")).await, &["`peer_name`", "`not a name`"]);
    let missing = node().token_file("/nowhere/cluster.token").spawn("127.0.0.1:1").await.expect_err("cannot start");
    tells(&missing.to_string(), &["/nowhere/cluster.token", "no folder /nowhere"]);
}

// What no security means.

#[tokio::test]
async fn masters_and_nodes_do_not_go_beyond_loopback_without_security() {
    for addr in ["0.0.0.0:0", "[::]:0"] {
        let error = Master::bind(addr).await.expect_err("must not");
        assert!(matches!(error, Error::Insecure { .. }), "{error:?}");
        println!("{error}");
        let ways = [addr.trim_end_matches(":0"), "token_file", "certificates", "127.0.0.1", ".insecure()"];
        tells(&error.to_string(), &ways);
    }
    // Before a connection is made.
    let error = node().spawn("0.0.0.0:1").await.expect_err("must not");
    println!("{error}");
    tells(&error.to_string(), &["0.0.0.0:1", "DISTRIBUTION_TOKEN", "certificates", "127.0.0.1", ".insecure()"]);
    let mut twice = Master::builder().insecure();
    twice = twice.token_file("cluster.token");
    tells(
        &twice.bind("127.0.0.1:0").await.expect_err("which?").to_string(),
        &["token_file", "`insecure`", "only one kind of security"],
    );
}

#[tokio::test]
async fn masters_and_nodes_without_security_log_a_warning_at_each_start() {
    let (log, _guard) = Log::gather();
    for start in 1..=2 {
        let master = Master::builder().insecure().bind("0.0.0.0:0").await.expect("binds");
        let node = node().insecure();
        let _node = soon("the node", node.spawn(format!("127.0.0.1:{}", master.local_addr().port()))).await;
        let warnings = log.text().lines().filter(|line| line.contains("WARN") && line.contains(".insecure()")).count();
        assert_eq!(warnings, start * 2, "{}", log.text());
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_shown() {
    let secure = SecureMaster::with_token().await;
    let builder = node().token(secure.token().expose());
    let mut shown = format!("{builder:?} {:?} {:?}", secure.master, secure.token());
    // Processes, so that it is all that any of their threads says.
    let arith = example("arith");
    let wrong = TokenContents { secret: [1; 32], ..secure.contents() }.token("node");
    let run = |token: &str, arguments: &[&str]| {
        let program = arith.to_str().expect("plain");
        let token = format!("DISTRIBUTION_TOKEN={token}");
        Process::start(Path::new("env"), &[&["RUST_LOG=trace", &token, program], arguments].concat())
    };
    let file = secure.file.to_str().expect("plain");
    let free = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut master = run("", &[&["master", "--token-file", file][..], &free].concat());
    let line = master.line_with("Nodes: ").await;
    let addr = line.split(&[' ', ';'][..]).nth(1).expect("an address");
    let mut member = run(secure.token().expose(), &["node", "--master", addr]);
    shown += &member.log_with("registered").await;
    for (token, told) in [(&wrong[..], "rotated out"), (&wrong[..90], "not whole")] {
        let mut refused = run(token, &["node", "--master", addr]);
        assert!(!refused.ended().await.success());
        let log = refused.log().await;
        assert!(log.contains(told), "{log}");
        shown += &log;
    }
    for process in [&mut member, &mut master] {
        process.signal("TERM").await;
        assert!(process.ended().await.success());
        shown += &process.log().await;
    }
    assert!(shown.contains(&secure.token().id()), "it is named by its id: {shown}");
    let key = fs::read_to_string(secure.file.with_extension("token.key")).expect("reads");
    let secret = secure.contents().secret;
    let hex: String = secret[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", &secret[..4]);
    for kept in [&secure.token().expose()[11..31], &wrong[11..31], &key[40..60], &hex, list.trim_end_matches(']')] {
        assert!(!shown.to_lowercase().contains(&kept.to_lowercase()), "{kept} is in: {shown}");
    }
}

/// Copies both ways between a node and a master, and keeps a record.
struct Relay {
    addr: SocketAddr,
    to_master: Arc<Mutex<Vec<u8>>>,
    to_node: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    async fn to(master: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let addr = listener.local_addr().expect("is bound");
        let (to_master, to_node) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let (one, other) = (Arc::clone(&to_master), Arc::clone(&to_node));
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                let Ok(master) = TcpStream::connect(master).await else { return };
                let ((node_read, node_write), (master_read, master_write)) = (node.into_split(), master.into_split());
                tokio::spawn(record(node_read, master_write, Arc::clone(&one)));
                tokio::spawn(record(master_read, node_write, Arc::clone(&other)));
            }
        });
        Self { addr, to_master, to_node }
    }

    async fn recorded(&self) -> Vec<u8> {
        [&self.to_master.lock().await[..], &self.to_node.lock().await[..]].concat()
    }
}

async fn record(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    record: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        record.lock().await.extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn the_traffic_of_a_session_holds_neither_the_secret_nor_an_argument() {
    let argument = b"an argument that nobody else is to read".to_vec();
    let secure = SecureMaster::with_token().await;
    let open = Master::bind("127.0.0.1:0").await.expect("binds");
    let mut traffic = Vec::new();
    for (master, node) in [(&secure.master, node().token(secure.token().expose())), (&open, node())] {
        let relay = Relay::to(master.local_addr()).await;
        let node = soon("the node", node.spawn(relay.addr)).await.expect("is let in");
        let probe = ProbeClient::new(master);
        assert_eq!(probe.length(argument.clone()).await, Ok(argument.len() as u64));
        assert!(probe.panic(String::from_utf8(argument.clone()).expect("text")).await.is_err());
        node.drain().await;
        traffic.push(relay.recorded().await);
    }
    let (secured, open) = (&traffic[0], &traffic[1]);
    assert!(holds(open, &argument) && holds(open, b"Probe"), "the record would show it");
    assert!(secured.len() > open.len(), "all of it was recorded");
    let inside = secure.contents();
    let text = secure.token();
    for kept in [&argument[..], &argument[..12], b"Probe", b"DISTRIB", &inside.secret, &inside.secret[..8]] {
        assert!(!holds(secured, kept), "{kept:?}");
    }
    assert!(!holds(secured, &text.expose().as_bytes()[11..30]));
}

// What becomes of those that are in.

#[tokio::test]
async fn a_node_takes_up_the_token_that_its_file_is_given() {
    let secure = SecureMaster::with_token().await;
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("token");
    fs::copy(&secure.file, &copy).expect("copies");
    let addr = secure.addr();
    let node = soon("the node", node().token_file(&copy).spawn(addr)).await.expect("is let in");
    // The master is restarted with the tokens rotated twice, so that the node's first one is not valid any more.
    secure.master.shutdown().await;
    for _ in 0..2 {
        Token::issue(&secure.file, Access::Nodes).expect("writes");
    }
    fs::copy(&secure.file, &copy).expect("copies");
    let master = Master::builder().token_file(&secure.file).bind(addr).await.expect("binds");
    soon("the node to come back", master.wait_for_nodes(1)).await;
    assert!(soon("the call", ProbeClient::new(&master).add(1, 1).into_future()).await.is_ok());
    drop(node);
}

#[tokio::test]
async fn a_token_that_is_taken_out_of_the_file_is_worth_nothing() {
    let secure = SecureMaster::with_token().await;
    let leaked = secure.token();
    let other = Token::issue(&secure.file, Access::Nodes).expect("writes");
    let text = fs::read_to_string(&secure.file).expect("reads");
    let kept: Vec<_> = text.lines().filter(|line| !line.starts_with(leaked.expose())).collect();
    fs::write(&secure.file, kept.join("\n")).expect("writes");
    tells(&refusal(node().token(leaked.expose()), secure.addr()).await, &["rotated out"]);
    // The last one, so that the file cannot be used: nobody gets in, and nobody is turned away for good either.
    let text = fs::read_to_string(&secure.file).expect("reads");
    fs::write(&secure.file, text.replace(other.expose(), "dtok1_node_damaged")).expect("writes");
    let before = secure.master.stats();
    for _ in 0..2 {
        dial(secure.addr(), &TLS13).await.expect_err("is closed");
    }
    assert!(secure.master.token().is_none());
    let mut waiting = std::pin::pin!(node().token(other.expose()).spawn(secure.addr()));
    soon("a node to try", async {
        while secure.master.stats().turned_away < before.turned_away + 4 {
            tokio::select! {
                ended = &mut waiting => panic!("must not be let in, nor give up: {ended:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert_eq!(secure.master.stats().registration_bytes, before.registration_bytes);
    fs::write(&secure.file, text).expect("writes");
    drop(soon("the node", waiting).await.expect("is let in, once the file is whole"));
}

#[tokio::test]
async fn a_node_that_is_killed_is_noticed_over_tls_as_without() {
    let secure = SecureMaster::with_token().await;
    let mut events = secure.master.events();
    let probe = env!("CARGO_BIN_EXE_probe");
    let token = format!("DISTRIBUTION_TOKEN={}", secure.token().expose());
    let addr = secure.addr().to_string();
    let mut process = Process::start(Path::new("env"), &[&token, probe, "node", &addr, "mortal"]);
    soon("the node", secure.master.wait_for_nodes(1)).await;
    process.kill().await;
    let reason = soon("the node to go", async {
        loop {
            if let Some(NodeEvent::Gone { reason, .. }) = events.next().await {
                return reason;
            }
        }
    })
    .await;
    assert_eq!(reason, GoneReason::Disconnected);
}

#[tokio::test]
async fn the_number_of_pending_handshakes_of_an_address_is_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let token = Token::issue(&file, Access::Nodes).expect("writes");
    let master = Master::builder().token_file(&file).max_handshakes_per_address(3);
    let master = master.handshake_timeout(Duration::from_secs(3600)).bind("127.0.0.1:0").await.expect("binds");
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(master.local_addr()).await.expect("connects"));
    }
    // The two that came last are told to try again later.
    for stream in &mut silent[3..] {
        assert_told_to_try_again(stream).await;
    }
    // A node tries again until the silent connections are overdue.
    let _node = soon("a node", node().token(token.expose()).spawn(master.local_addr())).await.expect("is let in");
    // A peer that is slow in the middle of the handshake is not authenticated either.
    let mut joiner = Joiner::greet(master.local_addr()).await;
    joiner.challenge().await;
    // It is evicted when it is the oldest and others come.
    let mut crowd = Vec::new();
    let gather = async {
        loop {
            crowd.push(TcpStream::connect(master.local_addr()).await.expect("connects"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut byte = [0; 1];
    let ended = tokio::select! {
        ended = soon("the end", joiner.stream.read(&mut byte)) => ended,
        () = gather => unreachable!(),
    };
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert_eq!(master.nodes().len(), 1);
}

/// Expects a TLS alert of the range for private use, and then the end.
async fn assert_told_to_try_again(stream: &mut TcpStream) {
    let mut told = Vec::new();
    soon("the end", stream.read_to_end(&mut told)).await.expect("in order");
    assert!(matches!(told[..], [21, 3, 3, 0, 2, 2, alert] if alert >= 192), "{told:?}");
}

#[tokio::test]
async fn the_number_of_pending_handshakes_is_limited_over_all_addresses() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let token = Token::issue(&file, Access::Nodes).expect("writes");
    let master = Master::builder().token_file(&file).max_handshakes(3).handshake_timeout(Duration::from_secs(3600));
    let master = master.bind("127.0.0.1:0").await.expect("binds");
    let mut silent = Vec::new();
    for last in 2..7 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).expect("is loopback too");
        silent.push(socket.connect(master.local_addr()).await.expect("connects"));
    }
    for stream in &mut silent[3..] {
        assert_told_to_try_again(stream).await;
    }
    drop(soon("a node", node().token(token.expose()).spawn(master.local_addr())).await.expect("is let in"));
}

#[tokio::test]
async fn a_peer_that_does_not_register_in_time_is_disconnected() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    Token::issue(&file, Access::Nodes).expect("writes");
    let master = Master::builder().token_file(&file).handshake_timeout(Duration::from_secs(1));
    let master = master.bind("127.0.0.1:0").await.expect("binds");
    let mut silent = TcpStream::connect(master.local_addr()).await.expect("connects");
    let mut joiner = Joiner::greet(master.local_addr()).await;
    joiner.challenge().await;
    assert_eq!(soon("the end", silent.read(&mut [0; 1])).await.expect("in order"), 0);
    let ended = soon("the end", joiner.stream.read(&mut [0; 1])).await;
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert_eq!(master.stats().registration_bytes, 0);
}

#[tokio::test]
async fn only_its_own_master_can_refuse_a_node_for_good() {
    let secure = SecureMaster::with_token().await;
    let (addr, token) = (secure.addr(), secure.token());
    let member = soon("the node", node().token(token.expose()).spawn(addr)).await.expect("is let in");
    secure.master.shutdown().await;
    // Another master has the port: the node does not believe its refusal, and goes on trying.
    let foreign = SecureMaster::with_token().await;
    let other =
        Master::builder().token_file(&foreign.file).max_handshake_failures(1000).bind(addr).await.expect("binds");
    soon("the node to try", async {
        while other.stats().turned_away == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    other.shutdown().await;
    let again = Master::builder().token_file(&secure.file).bind(addr).await.expect("binds");
    soon("the node to come back", again.wait_for_nodes(1)).await;
    // It believes its own master, which does not have its token any more.
    again.shutdown().await;
    for _ in 0..2 {
        Token::issue(&secure.file, Access::Nodes).expect("writes");
    }
    let _changed = Master::builder().token_file(&secure.file).bind(addr).await.expect("binds");
    let error = soon("the node to give up", member.wait()).await.expect_err("is refused");
    tells(&error.to_string(), &["was rotated out"]);
}

#[tokio::test]
async fn nobody_takes_over_another_nodes_id() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let mut events = master.events();
    let mut meeting = Meeting::new().await;
    let real = node().name("same").slots(1).spawn(master.local_addr()).await.expect("registers");
    let held = probe.hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    // The same name, and whatever it says, it says of itself: it answers the call that the other node has, by every
    // number that call could have.
    let signature = "fn(i64, i64) -> i64";
    let mut impostor = Impostor::node(master.local_addr(), "same", &[("add", signature)]).await.expect("registers");
    for request in 0..64 {
        impostor.send(&impostor::response(request, 0, outcome::VALUE, &signed(0))).await;
    }
    impostor.send(&impostor::frame(10, &[number(1), number(1), number(0)].concat())).await;
    // Nor does its goodbye end the other.
    impostor.send(&impostor::frame(8, &[0, 0])).await;
    drop(impostor);
    let gone = soon("the impostor to go", async {
        loop {
            if let Some(NodeEvent::Gone { node, .. }) = events.next().await {
                return node;
            }
        }
    })
    .await;
    assert_ne!(gone.id, real.id(), "one id for each registration");
    assert!(real.is_registered());
    assert_eq!(master.nodes().iter().map(|node| node.id).collect::<Vec<_>>(), [real.id()]);
    guest.release().await;
    assert_eq!(soon("the call", held).await, Ok(Held::Released));
}

#[tokio::test]
async fn an_address_that_fails_has_to_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let token = Token::issue(&file, Access::Nodes).expect("writes");
    let master =
        Master::builder().max_handshake_failures(2).token_file(&file).bind("127.0.0.1:0").await.expect("binds");
    let wrong = TokenContents { secret: [1; 32], ..TokenContents::of(token.expose()) }.token("node");
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = std::time::Instant::now();
        refusal(node().token(&wrong), master.local_addr()).await;
        times.push(started.elapsed());
    }
    // 100, 200 and 400 ms; a machine that is busy only makes it more.
    let least = [0, 0, 100, 200, 400].map(Duration::from_millis);
    assert!(times.iter().zip(least).all(|(time, least)| *time >= least), "{times:?}");
    drop(
        soon("an honest node", node().token(token.expose()).spawn(master.local_addr()))
            .await
            .expect("waits, and is let in"),
    );
}

#[tokio::test]
async fn the_environment_is_for_nodes_that_dial_and_not_for_a_cluster_in_one_process() {
    let palindromes = example("palindromes");
    let run = |arguments: &[&str]| {
        let program = palindromes.to_str().expect("plain");
        Process::start(Path::new("env"), &[&["DISTRIBUTION_TOKEN=nonsense", program], arguments].concat())
    };
    let mut local = run(&["--up-to", "2000"]);
    local.line_with("Binary palindromes up to 2000: 93").await;
    assert!(local.ended().await.success());
    let mut node = run(&["node", "--master", "127.0.0.1:1"]);
    let told = node.log_with("error").await;
    tells(&told, &["DISTRIBUTION_TOKEN cannot be used as a join token", "begins with `dtok1_`"]);
    assert!(!node.ended().await.success());
}

#[tokio::test]
async fn a_cluster_in_one_process_can_have_a_token_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    Token::issue(&file, Access::Nodes).expect("writes");
    let cluster = LocalCluster::builder()
        .nodes(2)
        .master(Master::builder().token_file(&file))
        .serve(|| ProbeServer::new(Prober))
        .start();
    let cluster = soon("the cluster", cluster).await.expect("starts");
    assert_eq!(ProbeClient::new(&cluster).add(2, 3).await, Ok(5));
}
