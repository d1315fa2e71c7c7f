//! Each role with each credential and each kind of security: a peer comes in the role that its credential is for, and only
//! nodes register.

use distribution::{Access, Master, Token};
use distribution_tests::{
    impostor::{preface, registration},
    soon,
    trust::{Authority, Joiner, Purpose, TokenContents, dial_as},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::SecureMaster;

/// The roles as the wire numbers them, and numbers that do not name a role.
const NODE: u8 = 2;
const PEERS: [(u8, Access); 3] = [(NODE, Access::Nodes), (3, Access::Callers), (4, Access::Admins)];
const OTHERS: [u8; 5] = [0, 1, 5, 6, 255];

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

/// Only a node is welcome; other peers are told that they are not served, for good.
fn assert_only_nodes_register(role: u8, access: Access, reply: Option<Vec<u8>>) {
    let reply = reply.expect("the peer is told");
    if role == NODE {
        return assert_eq!(reply[0], 0, "a node is welcome");
    }
    let told = String::from_utf8_lossy(&reply[2..]).into_owned();
    assert_eq!((reply[0], reply.last()), (1, Some(&1)), "{told}");
    assert!(told.contains(&format!("as a {access}")), "{told}");
}

#[tokio::test]
async fn without_security_a_peer_has_the_rights_of_the_role_it_names() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let dial = async |role| {
        let mut stream = TcpStream::connect(master.local_addr()).await.expect("connects");
        stream.write_all(&[preface(role, 0), registration("peer", &[])].concat()).await.expect("sends");
        let mut theirs = [0; 32];
        soon("the master's preface", stream.read_exact(&mut theirs)).await.expect("reads");
        (reply(&mut stream).await, stream)
    };
    for (role, access) in PEERS {
        let (reply, _stream) = dial(role).await;
        assert_only_nodes_register(role, access, reply);
        assert_eq!(master.nodes().len(), usize::from(role == NODE));
    }
    let decoded = master.stats().registration_bytes;
    for role in OTHERS {
        assert_eq!(dial(role).await.0, None, "{role} is not the role of a peer");
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
            let admission = peer.show(&[&[5; 32], &proof[..]].concat()).await;
            match token.access() == access {
                true => {
                    assert_eq!(admission, ADMITTED, "{access} with its own token");
                    assert_only_nodes_register(role, access, reply(&mut peer.stream).await);
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
async fn a_certificate_is_for_nodes() {
    let authority = Authority::new("roles");
    let secure = SecureMaster::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    authority.issue("peer", Purpose::Client, &["peer"]);
    for (role, access) in PEERS {
        let mut stream = dial_as("peer", &authority, secure.addr()).await;
        stream.write_all(&[preface(role, 2), registration("peer", &[])].concat()).await.expect("sends");
        let mut answer = [0; 33];
        soon("preface and admission", stream.read_exact(&mut answer)).await.expect("reads");
        if role == NODE {
            assert_eq!(answer[32], ADMITTED);
            assert_only_nodes_register(role, access, reply(&mut stream).await);
        } else {
            assert_eq!(answer[32], WRONG_ROLE);
            assert_eq!(reply(&mut stream).await, None);
        }
    }
}
