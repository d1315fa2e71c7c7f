//! How two ends prove to each other that they have the same secret, without sending it.
//!
//! Inside TLS, after the prefaces:
//!
//! | from | bytes | what |
//! |---|---|---|
//! | master | 32 | a nonce |
//! | peer | 32 + 32 | a nonce, and its proof |
//! | master | 1 + 32 | [result](AuthenticationResult), and its proof, or zeros if it refuses the peer |
//!
//! A proof is HMAC-SHA256 by the secret over a label, the role of the end that proves, what binds it to this TLS
//! session (RFC 5705 exported keying material) and both nonces. So one that is replayed, reflected, or carried over from another
//! connection is none. All of it has a fixed size, and nothing else of a peer is looked at before.

use hmac::{Hmac, KeyInit, Mac};
use rand::{TryRng, rngs::SysRng};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::handshake::{
    HandshakeError,
    codes::{AuthenticationResult, Role},
    message::read_exact,
};
use crate::security::{Access, Secret, Token};

/// Binds a proof to one TLS session.
pub(crate) type Binding = [u8; 32];

/// The label by which keying material is exported; it must be the same at both ends.
pub(crate) const BINDING_LABEL: &[u8] = b"EXPORTER-distribution-proof";

const LABEL: &[u8] = b"distribution proof 1";
const NONCE: usize = 32;
const PROOF: usize = 32;

type Nonce = [u8; NONCE];

fn nonce() -> Result<Nonce, HandshakeError> {
    let mut nonce = [0; NONCE];
    SysRng.try_fill_bytes(&mut nonce).map_err(|error| HandshakeError::Io(error.into()))?;
    Ok(nonce)
}

/// The message authentication code that a proof is. The caller finishes it, or compares it with a proof in constant time.
fn mac(secret: &Secret, role: Role, binding: &Binding, masters: &Nonce, nodes: &Nonce) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.bytes()) else { unreachable!("HMAC refused a key") };
    mac.chain_update(LABEL).chain_update([role.byte()]).chain_update(binding).chain_update(masters).chain_update(nodes)
}

/// Proves the secret to a master, as a peer in this role, and has the master prove it too.
pub(crate) async fn prove<Io>(
    io: &mut Io,
    access: Access,
    secret: &Secret,
    binding: &Binding,
) -> Result<(), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut masters = [0; NONCE];
    read_exact(io, &mut masters, "challenge").await?;
    let nodes = nonce()?;
    let mut answer = [0; NONCE + PROOF];
    answer[..NONCE].copy_from_slice(&nodes);
    answer[NONCE..]
        .copy_from_slice(&mac(secret, Role::Peer(access), binding, &masters, &nodes).finalize().into_bytes());
    io.write_all(&answer).await.map_err(HandshakeError::Io)?;
    io.flush().await.map_err(HandshakeError::Io)?;
    let mut reply = [0; 1 + PROOF];
    read_exact(io, &mut reply, "reply to the proof").await?;
    match AuthenticationResult::from_byte(reply[0]) {
        AuthenticationResult::Accepted => mac(secret, Role::Master, binding, &masters, &nodes)
            .verify_slice(&reply[1..])
            .map_err(|_| HandshakeError::MasterUnproven),
        refused => Err(HandshakeError::NotAuthenticated(refused)),
    }
}

/// Has a peer in this role prove a secret, and proves it to the peer too. Returns the token that the peer has.
pub(crate) async fn demand<'a, Io>(
    io: &mut Io,
    access: Access,
    tokens: &'a [Token],
    binding: &Binding,
) -> Result<&'a Token, HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let masters = nonce()?;
    io.write_all(&masters).await.map_err(HandshakeError::Io)?;
    io.flush().await.map_err(HandshakeError::Io)?;
    let mut answer = [0; NONCE + PROOF];
    read_exact(io, &mut answer, "proof").await?;
    let mut nodes = [0; NONCE];
    nodes.copy_from_slice(&answer[..NONCE]);
    let mut proven = None;
    // All are tried, so that the time does not tell which one it was.
    for token in tokens {
        let expected = mac(token.secret(), Role::Peer(access), binding, &masters, &nodes);
        if expected.verify_slice(&answer[NONCE..]).is_ok() {
            proven = Some(token);
        }
    }
    let result = match proven {
        Some(token) if token.access() == access => AuthenticationResult::Accepted,
        Some(_) => AuthenticationResult::WrongRole,
        None => AuthenticationResult::UnknownToken,
    };
    let mut reply = [0; 1 + PROOF];
    reply[0] = result as u8;
    if let (AuthenticationResult::Accepted, Some(token)) = (result, proven) {
        let proof = mac(token.secret(), Role::Master, binding, &masters, &nodes).finalize().into_bytes();
        reply[1..].copy_from_slice(&proof);
    }
    io.write_all(&reply).await.map_err(HandshakeError::Io)?;
    io.flush().await.map_err(HandshakeError::Io)?;
    match proven {
        Some(token) if result == AuthenticationResult::Accepted => Ok(token),
        _ => Err(HandshakeError::NotAuthenticated(result)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::security::Access;

    const HERE: Binding = [1; 32];
    const ELSEWHERE: Binding = [2; 32];

    fn token(access: Access) -> Token {
        Token::new(access, [0; 32]).expect("random bytes")
    }

    /// The results of both ends.
    async fn meet(node: &Token, nodes: Binding, tokens: &[Token]) -> (Result<(), String>, Result<String, String>) {
        meet_as(Access::Nodes, node, nodes, tokens).await
    }

    async fn meet_as(
        access: Access,
        node: &Token,
        nodes: Binding,
        tokens: &[Token],
    ) -> (Result<(), String>, Result<String, String>) {
        let (mut at_node, mut at_master) = duplex(256);
        let (node, master) = tokio::join!(
            prove(&mut at_node, access, node.secret(), &nodes),
            demand(&mut at_master, access, tokens, &HERE)
        );
        (node.map_err(|error| error.to_string()), master.map(Token::id).map_err(|error| error.to_string()))
    }

    #[tokio::test]
    async fn any_of_the_masters_tokens_is_taken() {
        let tokens = [token(Access::Nodes), token(Access::Callers), token(Access::Nodes)];
        for token in [&tokens[0], &tokens[2]] {
            assert_eq!(meet(token, HERE, &tokens).await, (Ok(()), Ok(token.id())));
        }
    }

    #[tokio::test]
    async fn a_token_is_for_its_own_role_alone() {
        let tokens = Access::ALL.map(token);
        for access in Access::ALL {
            for token in &tokens {
                let (peer, master) = meet_as(access, token, HERE, &tokens).await;
                match token.access() == access {
                    true => assert_eq!((peer, master), (Ok(()), Ok(token.id()))),
                    false => assert!(peer.is_err_and(|why| why.contains("for another role")) && master.is_err()),
                }
            }
        }
    }

    #[tokio::test]
    async fn no_other_token_is_taken() {
        let tokens = [token(Access::Nodes), token(Access::Callers)];
        let (node, master) = meet(&token(Access::Nodes), HERE, &tokens).await;
        assert!(node.expect_err("is refused").contains("rotated out"));
        assert!(master.expect_err("is unproven").contains("rotated out"));
        let (node, _) = meet(&tokens[1], HERE, &tokens).await;
        assert!(node.expect_err("is refused").contains("for another role"));
    }

    #[tokio::test]
    async fn a_proof_holds_on_its_own_channel_only() {
        let tokens = [token(Access::Nodes)];
        let (node, master) = meet(&tokens[0], ELSEWHERE, &tokens).await;
        assert!(node.is_err() && master.is_err(), "{node:?} {master:?}");
    }

    async fn read<const COUNT: usize>(io: &mut DuplexStream) -> [u8; COUNT] {
        let mut bytes = [0; COUNT];
        io.read_exact(&mut bytes).await.expect("comes");
        bytes
    }

    #[tokio::test]
    async fn a_challenge_that_is_reflected_is_not_a_proof() {
        // The reflector lets a real node answer the master's challenge as if it were a master itself, gets the
        // node's proof, and gives it back to the node as the master's.
        let token = token(Access::Nodes);
        let (mut at_node, mut reflector) = duplex(256);
        let reflect = async {
            reflector.write_all(&[9; 32]).await.expect("takes");
            let answer: [u8; 64] = read(&mut reflector).await;
            reflector
                .write_all(&[&[AuthenticationResult::Accepted as u8], &answer[32..]].concat())
                .await
                .expect("takes");
        };
        let (node, ()) = tokio::join!(prove(&mut at_node, Access::Nodes, token.secret(), &HERE), reflect);
        assert!(matches!(node, Err(HandshakeError::MasterUnproven)), "{node:?}");
    }

    #[tokio::test]
    async fn a_proof_that_is_replayed_is_none() {
        let tokens = [token(Access::Nodes)];
        let mut recorded = None;
        for replays in [false, true] {
            let (mut peer, mut at_master) = duplex(256);
            let replay = async {
                let masters: Nonce = read(&mut peer).await;
                let proof = mac(tokens[0].secret(), Role::Peer(Access::Nodes), &HERE, &masters, &[5; 32])
                    .finalize()
                    .into_bytes();
                let answer = recorded.get_or_insert([&[5; 32][..], &proof[..]].concat()).clone();
                peer.write_all(&answer).await.expect("takes");
            };
            let (master, ()) = tokio::join!(demand(&mut at_master, Access::Nodes, &tokens, &HERE), replay);
            assert_eq!(master.is_err(), replays);
        }
    }

    #[test]
    fn a_proof_has_these_bytes() {
        // By Python: hmac.new(bytes([7]*32), b"distribution proof 1" + b"\x02" + b"\x01"*32 + b"\x03"*32 + b"\x04"*32,
        // "sha256").hexdigest()
        let secret = Secret::from_bytes([7; 32]);
        let proof = mac(&secret, Role::Peer(Access::Nodes), &HERE, &[3; 32], &[4; 32]).finalize().into_bytes();
        let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "93ab5f17ac56faf822b6579439cef608c6cd34b90b35d8ec7adabd6d39f8cafe");
    }
}
