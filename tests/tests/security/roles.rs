//! Each role with each credential and each kind of security: a peer comes in the role that its credential is for, only nodes
//! register, and only callers make calls.

use std::fs;

use distribution::{Access, CallError, Certificates, Cluster, ClusterBuilder, Error, Master, Token, prelude::*};
use distribution_tests::{
    ProbeClient, failure,
    impostor::{preface, registration},
    log::Log,
    meeting::Meeting,
    rogue_caller::hello,
    soon,
    trust::{Authority, Joiner, Purpose, TokenContents, dial_as},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{SecureMaster, node, tells};

/// The roles as the wire numbers them, and numbers that do not name a role.
const NODE: u8 = 2;
const PEERS: [(u8, Access); 4] =
    [(NODE, Access::Nodes), (3, Access::Callers), (4, Access::Admins), (5, Access::Viewers)];
const OTHERS: [u8; 4] = [0, 1, 6, 255];

/// What a master has a token or a certificate admitted as.
const ADMITTED: u8 = 0;
const WRONG_ROLE: u8 = 2;

/// The master's reply to a registration; `None` if the connection ends without one.
async fn reply(io: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    soon("a reply", io.read_exact(&mut length)).await.ok()?;
    let mut reply = vec![0; u32::from_le_bytes(length) as usize];
    soon("a reply", io.read_exact(&mut reply)).await.expect("is whole");
    Some(reply)
}

/// What a peer in this role says about itself.
fn introduction(role: u8) -> Vec<u8> {
    if role == NODE { registration("peer", &[]) } else { hello("peer") }
}

/// The reply to it.
#[track_caller]
fn assert_accepted(reply: Option<Vec<u8>>) {
    assert_eq!(reply.expect("the peer is told")[0], 0);
}

#[tokio::test]
async fn without_security_a_peer_has_the_rights_of_the_role_it_names() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let dial = async |role, introduction: Vec<u8>| {
        let mut stream = TcpStream::connect(master.local_addr()).await.expect("connects");
        stream.write_all(&[preface(role, 0), introduction].concat()).await.expect("sends");
        let mut theirs = [0; 32];
        soon("the master's preface", stream.read_exact(&mut theirs)).await.expect("reads");
        (reply(&mut stream).await, stream)
    };
    for (role, access) in PEERS {
        let (reply, _stream) = dial(role, introduction(role)).await;
        assert_accepted(reply);
        assert_eq!(master.nodes().len(), usize::from(role == NODE), "{access}");
        let others = if role == NODE { hello("peer") } else { registration("peer", &[]) };
        assert_eq!(dial(role, others).await.0, None, "{access} cannot be the other");
        assert_eq!(master.nodes().len(), usize::from(role == NODE), "{access}");
    }
    let decoded = master.stats().registration_bytes;
    for role in OTHERS {
        assert_eq!(dial(role, registration("peer", &[])).await.0, None, "{role} is not the role of a peer");
    }
    assert_eq!(master.stats().registration_bytes, decoded);
}

#[tokio::test]
async fn a_token_is_for_one_role() {
    let secure = SecureMaster::with_token().await;
    let tokens = PEERS.map(|(_, access)| Token::issue(&secure.file, access).expect("writes"));
    for (role, access) in PEERS {
        for token in &tokens {
            let mut peer = Joiner::greet_as(role, secure.addr()).await;
            let challenge = peer.challenge().await;
            let proof = peer.proof(&TokenContents::of(token.expose()).secret, challenge, [5; 32]);
            let admission = peer.show_with(&[&[5; 32], &proof[..]].concat(), &introduction(role)).await;
            match token.access() == access {
                true => {
                    assert_eq!(admission, ADMITTED, "{access} with its own token");
                    assert_accepted(reply(&mut peer.stream).await);
                }
                false => {
                    assert_eq!(admission, WRONG_ROLE, "{access} with a token for {}", token.access());
                    assert_eq!(reply(&mut peer.stream).await, None);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_proof_for_one_role_is_none_for_another() {
    let secure = SecureMaster::with_token().await;
    let caller = Token::issue(&secure.file, Access::Callers).expect("writes");
    let secret = TokenContents::of(caller.expose()).secret;
    let mut peer = Joiner::greet_as(3, secure.addr()).await;
    let challenge = peer.challenge().await;
    let as_node = peer.proof_as(2, &secret, challenge, [5; 32]);
    assert_eq!(peer.show(&[&[5; 32], &as_node[..]].concat()).await, 1, "it proves nothing");
}

#[tokio::test]
async fn a_certificate_is_for_the_role_that_the_master_lists_its_name_for() {
    let authority = Authority::new("roles");
    let own = authority.issue("master", Purpose::Server, &["localhost"]).callers("*.callers.internal").admins("boss");
    let own = own.viewers("watch");
    let secure = SecureMaster::with_certificates(own).await;
    let names = ["n1", "c1.callers.internal", "boss", "watch"];
    for name in names {
        authority.issue(name, Purpose::Client, &[name]);
    }
    for (role, access) in PEERS {
        for (name, (own_role, _)) in names.into_iter().zip(PEERS) {
            let mut stream = dial_as(name, &authority, secure.addr()).await;
            stream.write_all(&[preface(role, 2), introduction(role)].concat()).await.expect("sends");
            let mut answer = [0; 33];
            soon("preface and admission", stream.read_exact(&mut answer)).await.expect("reads");
            if role == own_role {
                assert_eq!(answer[32], ADMITTED, "{name} as a {access}");
                assert_accepted(reply(&mut stream).await);
            } else {
                assert_eq!(answer[32], WRONG_ROLE, "{name} as a {access}");
                assert_eq!(reply(&mut stream).await, None);
            }
        }
    }
}

/// A caller makes calls, and an administrator is denied them.
async fn assert_only_callers_call(caller: ClusterBuilder, admin: ClusterBuilder, master: &str) {
    let caller = soon("a caller", caller.connect(master)).await.expect("is let in");
    assert_eq!(ProbeClient::new(&caller).add(1, 2).await, Ok(3));
    let admin = soon("an administrator", admin.connect(master)).await.expect("is let in");
    let calls = ProbeClient::new(&admin);
    let error = calls.add(1, 2).await.expect_err("is denied");
    assert!(matches!(&error, CallError::Denied { reason, .. } if reason.contains("is for admins")), "{error:?}");
    assert!(error.to_string().contains("Probe.add"), "{error}");
    let denied: Vec<_> = soon("calls", (0..10).map(|n| calls.add(n, 1)).distribute().collect::<Vec<_>>()).await;
    assert!(denied.iter().all(|error| matches!(error, Err(CallError::Denied { .. }))), "{denied:?}");
    assert_eq!(ProbeClient::new(&caller).add(1, 2).await, Ok(3), "the caller goes on");
}

#[tokio::test]
async fn with_tokens_nodes_serve_and_callers_call() {
    let secure = SecureMaster::with_token().await;
    let [nodes, callers, admins, viewers] =
        PEERS.map(|(_, access)| Token::issue(&secure.file, access).expect("writes"));
    let by = |token: &Token| Cluster::builder().token(token.expose());
    let _node = soon("a node", node().token(nodes.expose()).spawn(secure.addr())).await.expect("is let in");
    assert_only_callers_call(by(&callers), by(&admins).admin(), &secure.addr().to_string()).await;
    // Each notices by itself that its token is for another role.
    let error = by(&nodes).connect(secure.addr()).await.expect_err("cannot call");
    assert!(matches!(&error, Error::Token { .. }), "{error:?}");
    for token in [&callers, &admins, &viewers] {
        let error = node().token(token.expose()).spawn(secure.addr()).await.expect_err("cannot register");
        assert!(matches!(&error, Error::Token { .. }), "{error:?}");
    }
    assert_eq!(secure.master.nodes().len(), 1);
}

#[tokio::test]
async fn with_certificates_nodes_serve_and_callers_call() {
    let authority = Authority::new("roles");
    let own = authority.issue("master", Purpose::Server, &["localhost"]).callers("c1").admins("boss");
    let secure = SecureMaster::with_certificates(own).await;
    let [nodes, callers, admins] = ["n1", "c1", "boss"].map(|name| authority.issue(name, Purpose::Client, &[name]));
    let by = |certificates: &Certificates| Cluster::builder().certificates(certificates.clone());
    let _node = soon("a node", node().name("n1").certificates(nodes.clone()).spawn(secure.host())).await;
    assert_only_callers_call(by(&callers), by(&admins).admin(), &secure.host()).await;
    for (what, builder) in [
        ("a node", by(&nodes)),
        ("an administrator as a caller", by(&admins)),
        ("a caller as one", by(&callers).admin()),
    ] {
        let error = soon(what, builder.connect(secure.host())).await.expect_err(what);
        assert!(matches!(&error, Error::Refused { .. }), "{what}: {error:?}");
    }
    for certificates in [&callers, &admins] {
        let error = soon("a refusal", node().certificates(certificates.clone()).spawn(secure.host())).await;
        let error = error.expect_err("cannot register");
        assert!(matches!(&error, Error::Refused { .. }), "{error:?}");
    }
    assert_eq!(secure.master.nodes().len(), 1);
}

#[tokio::test]
async fn a_callers_token_that_is_removed_disconnects_the_caller() {
    let (log, _guard) = Log::gather();
    let secure = SecureMaster::with_token().await;
    let token = Token::issue(&secure.file, Access::Callers).expect("writes");
    let other = Token::issue(&secure.file, Access::Callers).expect("writes");
    let _node = soon("a node", node().token(secure.token().expose()).spawn(secure.addr())).await.expect("is let in");
    let connect = async |token: &Token| {
        soon("a caller", Cluster::builder().token(token.expose()).connect(secure.addr())).await.expect("is let in")
    };
    let (thief, honest) = (connect(&token).await, connect(&other).await);
    let mut meeting = Meeting::new().await;
    let running = ProbeClient::new(&thief).hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    let text = fs::read_to_string(&secure.file).expect("reads");
    let left: String =
        text.lines().filter(|line| !line.contains(token.expose())).map(|line| format!("{line}\n")).collect();
    fs::write(&secure.file, left).expect("writes");
    let error = failure(soon("the call", running).await);
    assert!(
        matches!(&error, CallError::MasterLost { reason, .. } if reason.contains("credential was revoked")),
        "{error:?}"
    );
    soon("the handler notices", guest.gone()).await;
    let ended = async {
        loop {
            let error = failure(ProbeClient::new(&thief).add(1, 2).await);
            if error.to_string().contains("token") {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(matches!(soon("the refusal", ended).await, CallError::MasterLost { .. }));
    assert_eq!(ProbeClient::new(&honest).add(1, 2).await, Ok(3), "others go on");
    tells(&log.text(), &["disconnecting nodes and callers: their credential was revoked", "the caller has ended"]);
}
