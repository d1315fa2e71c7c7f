//! The preface: 32 bytes from each end, which say what it speaks and who it is.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic, `\x89DISTRIB` (the first byte tells it from any text protocol) |
//! | 2 | protocol version, little endian |
//! | 1 | role: 1 master, 2 node, 3 caller, 4 administrator |
//! | 1 | security: 0 open, 1 join token, 2 certificates |
//! | 8 | codec, by name and major version |
//! | 1 | what the connection is for: 0 what the role says, 1 the nested calls of a node |
//! | 6 | the release that the peer was built with: three numbers, little endian; zero from the master |
//! | 5 | zero, reserved for later versions |

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    codes::{PROTOCOL_VERSION, Purpose, Role, Security},
    error::HandshakeError,
    message::read_exact,
    release::Release,
};
use crate::{security::Access, wire::codec::CODEC_NAME};

const MAGIC: [u8; 8] = *b"\x89DISTRIB";
const PREFACE: usize = 32;

/// The place of the byte that says what the connection is for.
const PURPOSE: usize = 20;

/// The place of the numbers of the release.
const RELEASE: usize = 21;

/// What a peer comes for, and what it was built with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) purpose: Purpose,
    pub(crate) release: Release,
}

/// Exchanges prefaces with a master, as a peer that comes in this role and for this.
pub(crate) async fn send_preface<Io>(
    io: &mut Io,
    access: Access,
    purpose: Purpose,
    security: Security,
) -> Result<(), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut own = preface(Role::Peer(access), security);
    own[PURPOSE] = purpose as u8;
    own[RELEASE..RELEASE + Release::SIZE].copy_from_slice(&Release::own().to_bytes());
    io.write_all(&own).await.map_err(HandshakeError::Io)?;
    io.flush().await.map_err(HandshakeError::Io)?;
    read_preface(io, false, security).await.map(drop)
}

/// Exchanges prefaces with a peer, as the master, and returns the role of the peer and what it comes for and with.
///
/// The master sends its preface also if the peer's does not match, so that the peer can report the mismatch too. It sends
/// nothing if the other end does not speak this protocol.
pub(crate) async fn answer_preface<Io>(io: &mut Io, security: Security) -> Result<(Access, Arrival), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let read = read_preface(io, true, security).await;
    if !matches!(read, Err(HandshakeError::OtherProtocol(_) | HandshakeError::Closed(_) | HandshakeError::Io(_))) {
        io.write_all(&preface(Role::Master, security)).await.map_err(HandshakeError::Io)?;
        io.flush().await.map_err(HandshakeError::Io)?;
    }
    match read? {
        (Role::Peer(access), arrival) => Ok((access, arrival)),
        (Role::Master, _) => Err(HandshakeError::Role { theirs: Role::Master.byte(), expected: "a node" }),
    }
}

/// The preface of an end with this role and this security.
pub(crate) fn preface(role: Role, security: Security) -> [u8; PREFACE] {
    let mut bytes = [0; PREFACE];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    bytes[10] = role.byte();
    bytes[11] = security as u8;
    bytes[12..20].copy_from_slice(&CODEC_NAME);
    bytes
}

async fn read_preface<Io: AsyncRead + Unpin>(
    io: &mut Io,
    at_master: bool,
    security: Security,
) -> Result<(Role, Arrival), HandshakeError> {
    let mut magic = [0; 8];
    let mut filled = 0;
    // Checked as the bytes come, so that an end that sends three wrong bytes and waits is refused at once, and not when the
    // time is up.
    while filled < magic.len() {
        let read = io.read(&mut magic[filled..]).await.map_err(HandshakeError::Io)?;
        if read == 0 {
            return Err(HandshakeError::Closed("preface"));
        }
        filled += read;
        if magic[..filled] != MAGIC[..filled] {
            return Err(match magic[..filled] {
                // A record of a handshake, or an alert.
                [0x15 | 0x16, 0x03, ..] if !at_master => HandshakeError::MasterSpeaksTls,
                [0x16, 0x03, ..] => HandshakeError::NodeSpeaksTls,
                // The next byte decides whether it is TLS.
                [0x15 | 0x16] => continue,
                _ => HandshakeError::OtherProtocol(describe(&magic[..filled])),
            });
        }
    }
    let mut rest = [0; PREFACE - 8];
    read_exact(io, &mut rest, "preface").await?;
    let theirs = u16::from_le_bytes([rest[0], rest[1]]);
    if theirs != PROTOCOL_VERSION {
        return Err(HandshakeError::Version { theirs });
    }
    let role = match Role::from_byte(rest[2]) {
        Some(role) if (role != Role::Master) == at_master => role,
        _ => {
            let expected = if at_master { "a node" } else { "a master" };
            return Err(HandshakeError::Role { theirs: rest[2], expected });
        }
    };
    if rest[3] != security as u8 {
        return Err(HandshakeError::Security { theirs: rest[3], ours: security });
    }
    if rest[4..12] != CODEC_NAME {
        return Err(HandshakeError::Codec { theirs: rest[4..12].escape_ascii().to_string() });
    }
    // A purpose of a later release is that of the role: the master cannot serve what it does not know.
    let purpose = Purpose::from_byte(rest[PURPOSE - 8]).unwrap_or(Purpose::OfRole);
    let mut release = [0; Release::SIZE];
    release.copy_from_slice(&rest[RELEASE - 8..RELEASE - 8 + Release::SIZE]);
    Ok((role, Arrival { purpose, release: Release::from_bytes(release) }))
}

/// The first bytes of an end that speaks another protocol, for people.
fn describe(bytes: &[u8]) -> String {
    const METHODS: [&[u8]; 6] = [b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"PRI "];
    let shown = bytes.escape_ascii();
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        format!("\"{shown}\", which looks like HTTP")
    } else {
        format!("\"{shown}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_preface_has_these_bytes() {
        assert_eq!(
            hex(&preface(Role::Peer(Access::Nodes), Security::Open)),
            "8944495354524942020002006269_6e636f646532000000000000000000000000".replace('_', "")
        );
        assert_eq!(hex(&preface(Role::Master, Security::Open))[20..22], *"01");
    }
}
