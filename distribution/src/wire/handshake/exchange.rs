//! How a node and a master exchange the registration and the reply to it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    codes::{Role, Security},
    error::HandshakeError,
    limits::{NODE_TIMEOUT, REGISTRATION_LIMIT, REPLY_TIMEOUT},
    message::{read_message, within, write_message},
    preface::preface,
    registration::{Registration, RegistrationReply},
};
use crate::{
    config::to_micros,
    wire::{codec::encode_payload, payload::Payload},
};

/// Sends a node's registration and reads the master's reply. The master may send calls right behind the reply.
pub(crate) async fn register<Io>(io: &mut Io, registration: &Registration) -> Result<RegistrationReply, HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    within(NODE_TIMEOUT, "reply to the registration", async {
        write_message(io, "registration", registration).await?;
        read_message(io, "reply to the registration", |_| ()).await
    })
    .await
}

/// Reads the registration of a node that has authenticated itself. `decoding` is told its size before it is decoded.
pub(crate) async fn read_registration<Io>(
    io: &mut Io,
    decoding: impl FnOnce(usize),
) -> Result<Registration, HandshakeError>
where
    Io: AsyncRead + Unpin,
{
    read_message(io, "registration", decoding).await
}

/// Sends the master's reply to a registration.
pub(crate) async fn send_reply<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    reply: &RegistrationReply,
) -> Result<(), HandshakeError> {
    within(REPLY_TIMEOUT, "reading of the reply", write_message(io, "reply to the registration", reply)).await
}

/// What a master without security sends to a node that has to come again later, without reading what the node sends:
/// preface and reply.
pub(crate) fn busy(after: Duration) -> Vec<u8> {
    let reply = RegistrationReply::Busy { retry_after: to_micros(after) };
    let mut bytes = preface(Role::Master, Security::Open).to_vec();
    // A plain enum, whose encoding cannot fail. Without the reply the node would see the connection close.
    if let Ok(body) = encode_payload(&reply, REGISTRATION_LIMIT).map(Payload::into_bytes) {
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::{
        security::Access,
        wire::handshake::{
            codes::Purpose,
            preface::{answer_preface, send_preface},
            registration::tests::registration,
        },
    };

    /// The master's side without proofs.
    async fn receive(io: &mut tokio::io::DuplexStream) -> Result<Registration, HandshakeError> {
        within(REPLY_TIMEOUT, "hello", async {
            answer_preface(io, Security::Open).await?;
            read_registration(io, |_| ()).await
        })
        .await
    }

    #[tokio::test]
    async fn a_node_registers_and_reads_the_reply() {
        let (mut node, mut master) = tokio::io::duplex(64);
        let reply = RegistrationReply::Refused { reason: "full".to_owned(), for_good: false };
        let told = registration();
        let (heard, received) = tokio::join!(
            async {
                send_preface(&mut node, Access::Nodes, Purpose::OfRole, Security::Open)
                    .await
                    .expect("exchanges prefaces");
                register(&mut node, &told).await
            },
            async {
                let received = receive(&mut master).await;
                send_reply(&mut master, &reply).await.expect("answers");
                received
            }
        );
        assert_eq!(received.expect("registers"), registration());
        assert_eq!(heard.expect("hears"), reply);
    }

    #[tokio::test(start_paused = true)]
    async fn peers_that_cannot_register_are_described() {
        async fn send(bytes: &[u8]) -> String {
            let (mut peer, mut master) = tokio::io::duplex(4096);
            peer.write_all(bytes).await.expect("fits");
            receive(&mut master).await.expect_err("cannot register").to_string()
        }
        let changed = |at: usize, byte: u8| {
            let mut bytes = preface(Role::Peer(Access::Nodes), Security::Open);
            bytes[at] = byte;
            bytes
        };
        assert!(send(b"GET / HTTP/1.1\r\n\r\n").await.contains("looks like HTTP"));
        assert!(send(&[0x16, 0x03, 0x01, 0x02]).await.contains("speaks TLS, and this master has no security"));
        assert!(send(b"xyz").await.contains("began with \"xyz\""));
        assert!(send(&changed(8, 9)).await.contains("protocol version 9"));
        assert!(
            send(&preface(Role::Master, Security::Open))
                .await
                .contains("says it is a master, and this end expects a node")
        );
        assert!(send(&changed(11, 3)).await.contains("security mode 3"));
        assert!(send(&changed(12, b'X')).await.contains("Xincode2"));
        let mut huge = preface(Role::Peer(Access::Nodes), Security::Open).to_vec();
        huge.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(send(&huge).await.contains("claims 4294967295 bytes"));
        let mut rubbish = preface(Role::Peer(Access::Nodes), Security::Open).to_vec();
        rubbish.extend_from_slice(&[3, 0, 0, 0, 255, 255, 255]);
        assert!(send(&rubbish).await.contains("cannot be decoded"));
        // Nothing more comes, and the connection stays open: the clock ends it.
        assert!(send(b"\x89DISTRIB").await.contains("not complete within"));
        assert!(send(b"").await.contains("not complete within"));
    }
}
