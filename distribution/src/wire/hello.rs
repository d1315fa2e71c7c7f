//! How a connection opens: a preface of fixed size from each side, then, where they are to prove who they are, what
//! [`authenticator`](super::authenticator) says; then the node's registration and the master's verdict on it.
//!
//! The preface is 32 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic, `\x89DISTRIB` (the first byte keeps it apart from any text protocol) |
//! | 2 | protocol version, little endian |
//! | 1 | role: 1 master, 2 node, 3 caller, 4 administrator |
//! | 1 | security: 0 open, 1 join token, 2 certificates |
//! | 8 | codec, by name and major version |
//! | 12 | zero, kept for later versions |
//!
//! Registration and verdict are each four bytes of length, little endian, and a bincode body of at
//! most [`REGISTRATION_LIMIT`] bytes.

use std::{
    collections::{HashMap, HashSet},
    io,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    codec::{CODEC_NAME, decode_payload, encode_payload},
    payload::Payload,
};
use crate::{
    config::to_micros,
    error::CodecError,
    hash::method_id,
    security::Access,
    text::{LONGEST, check_node_name, in_one_line, is_plain},
};

/// Changes with everything that an older peer would misread.
pub(crate) const PROTOCOL_VERSION: u16 = 1;

/// Room for all that a node may say of itself.
pub(crate) const REGISTRATION_LIMIT: usize = 1024 * 1024;

/// How long the structure of one method may be, in bytes.
pub(crate) const STRUCTURE_LIMIT: usize = 8 * 1024;

/// How long those of all methods of a node may be, which leaves room for the rest of the registration.
pub(crate) const STRUCTURES_LIMIT: usize = 256 * 1024;

/// How many methods a node may serve.
const MOST_METHODS: usize = 1024;

/// How many versions and signatures of one method.
const MOST_VERSIONS: usize = 16;

/// How long its labels may be together, in bytes.
const LABELS_LIMIT: usize = 4 * 1024;

/// How long the texts of all its methods may be: names, signatures and structures, in bytes.
const TEXTS_LIMIT: usize = 2 * STRUCTURES_LIMIT;

/// How long a node may take over the hello, where nothing else is said.
pub(crate) const HELLO_TIME: Duration = Duration::from_secs(5);

/// How long a node waits for each half of the hello: the master may be slow to answer under load, so a
/// node is more patient than a master.
pub(super) const NODE_TIME: Duration = Duration::from_secs(10);

const MAGIC: [u8; 8] = *b"\x89DISTRIB";
const PREFACE: usize = 32;

/// What the two ends have to prove to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Security {
    Open = 0,
    #[cfg(feature = "tls")]
    Token = 1,
    #[cfg(feature = "tls")]
    Certificates = 2,
}

fn security_name(security: u8) -> String {
    match security {
        0 => "no security".to_owned(),
        1 => "a join token".to_owned(),
        2 => "certificates".to_owned(),
        other => format!("security mode {other}"),
    }
}

/// Whether a master takes in who has come as far as to prove itself.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Admission {
    Admitted = 0,
    /// None of the master's tokens made the proof.
    Unproven = 1,
    /// The credential is for another role.
    WrongAccess = 2,
    /// The certificate is for another name than the master asks for.
    WrongName = 3,
    /// What a later release may say.
    Unknown = 255,
}

#[cfg(feature = "tls")]
impl Admission {
    pub(crate) fn from_byte(byte: u8) -> Self {
        let known = [Self::Admitted, Self::Unproven, Self::WrongAccess, Self::WrongName];
        known.into_iter().find(|admission| *admission as u8 == byte).unwrap_or(Self::Unknown)
    }
}

#[cfg(feature = "tls")]
impl std::fmt::Display for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admitted => "it was admitted",
            Self::Unproven => {
                "the token is none of the master's: it is of another cluster, or was rotated out. The valid ones are in \
                 the master's token file"
            }
            Self::WrongAccess => {
                "the credential is for another role. `Token::issue` makes a token for nodes, in the master's token file"
            }
            Self::WrongName => {
                "the node's certificate is for another name than the master's `Certificates::peer_name`"
            }
            Self::Unknown => "the master gave a reason that this release does not know",
        })
    }
}

/// Which end of a connection a peer says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Master,
    /// One that comes to a master for this.
    Peer(Access),
}

impl Role {
    const ALL: [Self; 4] =
        [Self::Master, Self::Peer(Access::Nodes), Self::Peer(Access::Callers), Self::Peer(Access::Admins)];

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Master => 1,
            Self::Peer(Access::Nodes) => 2,
            Self::Peer(Access::Callers) => 3,
            Self::Peer(Access::Admins) => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.byte() == byte)
    }
}

fn role_name(role: u8) -> String {
    match Role::from_byte(role) {
        Some(Role::Master) => "a master".to_owned(),
        Some(Role::Peer(access)) => format!("a peer in the role of {access}"),
        None => format!("in the unknown role {role}"),
    }
}

/// Why a connection did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("it does not speak this protocol: it began with {0}")]
    Stranger(String),
    #[error(
        "it speaks protocol version {theirs} and this end speaks {PROTOCOL_VERSION}; run the same release of `distribution` on both ends"
    )]
    Version { theirs: u16 },
    #[error("it says it is {}, where {expected} belongs", role_name(*.theirs))]
    Role { theirs: u8, expected: &'static str },
    #[error(
        "it wants {}, and this end has {}; set up the same on both",
        security_name(*.theirs), security_name(*.ours as u8)
    )]
    Security { theirs: u8, ours: Security },
    /// At a node; what answers may be a master with a token, or something else altogether.
    #[error(
        "it speaks TLS. If it is the master, it wants a join token or a certificate, and this node has none: give it the line \
         that the master printed at its first start (DISTRIBUTION_TOKEN, .token(..) or .token_file(..)), or .certificates(..). \
         If not, the address is another server's"
    )]
    MasterSpeaksTls,
    /// At a master without security.
    #[error(
        "it speaks TLS, and this master has no security; give the master .token_file(..) or .certificates(..), or start the \
         node without"
    )]
    NodeSpeaksTls,
    /// At a node with a token or certificates.
    #[cfg(feature = "tls")]
    #[error(
        "it does not speak TLS, so it has no security or is no master. Start the master with .token_file(..) or \
         .certificates(..), or this node without a token (is DISTRIBUTION_TOKEN set?)"
    )]
    NoTls,
    #[cfg(feature = "tls")]
    #[error("{}", in_one_line(.0, LONGEST))]
    Untrusted(String),
    /// At a node: the other end did not like what this end showed.
    #[cfg(feature = "tls")]
    #[error("it refused the TLS handshake: {0}")]
    TlsRefused(String),
    /// At a node.
    #[cfg(feature = "tls")]
    #[error("too many others register at the moment; it asks to try again after {0:?}")]
    Busy(Duration),
    /// At a node.
    #[cfg(feature = "tls")]
    #[error(
        "it closed the connection before the TLS handshake was complete; look at the master's log (its token file or \
         certificates may be unusable)"
    )]
    NoHandshake,
    #[cfg(feature = "tls")]
    #[error("the TLS handshake failed: {}", in_one_line(.0, LONGEST))]
    Tls(String),
    #[cfg(feature = "tls")]
    #[error("{0}")]
    NotAdmitted(Admission),
    /// At a master. (A node goes on with what its files held before.)
    #[cfg(feature = "tls")]
    #[error("this master's files cannot be used: {0}")]
    NotReady(String),
    #[cfg(feature = "tls")]
    #[error("it has the master's key and does not know the secret: somebody has taken the key. Make new token files")]
    MasterUnproven,
    /// At a master.
    #[error("it comes as a {0}, and this release of the master takes nodes alone")]
    NotServed(Access),
    #[error("it encodes values with `{theirs}` and this end with `{}`", CODEC_NAME.escape_ascii())]
    Codec { theirs: String },
    #[error("its {what} claims {size} bytes, and {REGISTRATION_LIMIT} is the limit")]
    TooLong { what: &'static str, size: usize },
    #[error("its {what} cannot be decoded: {source}")]
    Malformed { what: &'static str, source: CodecError },
    #[error("it closed the connection before its {0} was complete")]
    Closed(&'static str),
    #[error("its {what} was not complete within {time:?}")]
    Late { what: &'static str, time: Duration },
    #[error("reading or writing failed: {}", in_one_line(&.0.to_string(), LONGEST))]
    Io(io::Error),
}

/// Whether a node that meets an error should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finality {
    /// Something may change by itself.
    Passing,
    /// Only somebody can change something. But anybody on the way could make it look so, and a node that has been
    /// registered knows that there is a master: it goes on trying.
    AtFirst,
    /// The same two programs can never do better.
    Ever,
}

impl HelloError {
    /// What is no peer at all may pass: something else may have the port while a master restarts.
    pub(crate) fn finality(&self) -> Finality {
        match self {
            Self::Version { .. } | Self::Role { .. } | Self::Security { .. } | Self::Codec { .. } => Finality::Ever,
            // Said within TLS, by who has the master's certificate.
            #[cfg(feature = "tls")]
            Self::NotAdmitted(admission) if *admission != Admission::Unknown => Finality::Ever,
            #[cfg(feature = "tls")]
            Self::NotAdmitted(_) | Self::NoTls | Self::Untrusted(_) | Self::TlsRefused(_) | Self::MasterUnproven => {
                Finality::AtFirst
            }
            Self::MasterSpeaksTls => Finality::AtFirst,
            _ => Finality::Passing,
        }
    }

    /// Whether a peer that means well, and a connection that is cut, never show it.
    pub(crate) fn is_failure_to_prove(&self) -> bool {
        #[cfg(feature = "tls")]
        if matches!(self, Self::NotReady(_)) {
            return false;
        }
        !matches!(self, Self::Closed(_) | Self::Late { .. } | Self::Io(_))
    }

    /// What somebody has to look at.
    pub(crate) fn is_about(&self) -> Concern {
        match self {
            #[cfg(feature = "tls")]
            Self::Untrusted(_) | Self::MasterUnproven | Self::NoTls => Concern::Trust,
            #[cfg(feature = "tls")]
            Self::NotAdmitted(_) | Self::TlsRefused(_) => Concern::Admission,
            _ => Concern::Protocol,
        }
    }
}

/// What an error is about, for the node that meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// Whether the other end is the master.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is proven then"))]
    Trust,
    /// Whether the master takes the node.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is proven then"))]
    Admission,
    /// What the two speak.
    Protocol,
}

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) name: String,
    /// Drawn at random by each node as it starts, and kept over its connections.
    pub(crate) instance: u128,
    /// Compute handlers it runs at once.
    pub(crate) slots: u32,
    /// Slots that are taken by handlers of an earlier connection.
    pub(crate) busy: u32,
    /// Async handlers it runs at once.
    pub(crate) async_limit: u32,
    /// Largest frame body it takes, in bytes.
    pub(crate) max_message_size: u64,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) methods: Vec<MethodOffer>,
}

/// One method that a node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MethodOffer {
    /// What calls name the method by: [`method_id`] of what follows, which the master checks.
    pub(crate) id: u64,
    pub(crate) service: String,
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) signature: String,
    /// Hash of the structure of its types.
    pub(crate) types: u64,
    /// The structure of its types, for people: what decides is the id. The first one is nameless and says what goes in
    /// and comes out, then each named type in it. Bounded by [`STRUCTURE_LIMIT`].
    pub(crate) structure: Vec<Definition>,
    /// Whether it takes a slot while it runs.
    pub(crate) compute: bool,
}

/// What a type looks like: `Params`, `{ rate: f64, l2: f64 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl MethodOffer {
    /// What its texts take, in bytes.
    pub(crate) fn size(&self) -> usize {
        let structure: usize = self.structure.iter().map(Definition::size).sum();
        self.service.len() + self.name.len() + self.signature.len() + structure
    }
}

impl Definition {
    /// In bytes.
    pub(crate) fn size(&self) -> usize {
        self.name.len() + self.text.len()
    }

    /// What stands in the place of all, where the registration would be too long.
    pub(crate) fn left_out() -> Self {
        Self { name: String::new(), text: "left out, for there are too many methods".to_owned() }
    }
}

impl Registration {
    /// Refuses what a well-meant node never says.
    pub(crate) fn check(&self) -> Result<(), String> {
        const LONGEST_NAME: usize = 128;
        const LONGEST_SIGNATURE: usize = 8 * 1024;
        const MOST_LABELS: usize = 64;
        const MOST_TYPES: usize = 1024;
        let short = |what: &str, text: &str, most: usize| {
            if text.is_empty() || text.len() > most || !is_plain(text) || text.trim() != text {
                let shown = in_one_line(text, 40);
                return Err(format!(
                    "the {what} `{shown}` must have 1 to {most} bytes, no blank at its ends, and no control characters or \
                     invisible ones"
                ));
            }
            Ok(())
        };
        check_node_name(&self.name)
            .map_err(|reason| format!("the node name `{}` {reason}", in_one_line(&self.name, 40)))?;
        if self.slots == 0 || self.slots > 65_536 {
            return Err(format!("{} slots: a node has 1 to 65536", self.slots));
        }
        if self.async_limit == 0 {
            return Err("an async limit of 0: at least one call must fit".to_owned());
        }
        if self.max_message_size < crate::config::SMALLEST_MESSAGE_LIMIT as u64 {
            return Err(format!("a frame limit of {} bytes is too small to work with", self.max_message_size));
        }
        if self.labels.len() > MOST_LABELS || self.methods.len() > MOST_METHODS {
            return Err(format!("more than {MOST_LABELS} labels or {MOST_METHODS} methods"));
        }
        let labels: usize = self.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        if labels > LABELS_LIMIT {
            return Err(format!("{labels} bytes of labels, and {LABELS_LIMIT} is the limit"));
        }
        for (key, value) in &self.labels {
            short("label", key, LONGEST_NAME)?;
            short("label value", value, LONGEST_NAME)?;
        }
        let texts: usize = self.methods.iter().map(MethodOffer::size).sum();
        if texts > TEXTS_LIMIT {
            return Err(format!(
                "{texts} bytes of names, signatures and types of methods, and {TEXTS_LIMIT} is the limit"
            ));
        }
        let mut ids = HashSet::new();
        let mut versions = HashMap::<_, usize>::new();
        for method in &self.methods {
            let count = versions.entry((&method.service, &method.name)).or_default();
            *count += 1;
            if !ids.insert(method.id) || *count > MOST_VERSIONS {
                let (service, name) = (in_one_line(&method.service, 40), in_one_line(&method.name, 40));
                return Err(format!("{service}.{name} is there twice, or in more than {MOST_VERSIONS} versions"));
            }
            short("service name", &method.service, LONGEST_NAME)?;
            short("method name", &method.name, LONGEST_NAME * 2)?;
            short("signature", &method.signature, LONGEST_SIGNATURE)?;
            let MethodOffer { id, service, version, name, signature, types, .. } = method;
            if method_id(service, *version, name, signature, *types) != *id {
                return Err(format!(
                    "the id of {service}.{name} is not that of its name, version, signature and types; calls would reach \
                     another method than the node shows"
                ));
            }
            if method.structure.iter().map(Definition::size).sum::<usize>() > STRUCTURE_LIMIT
                || method.structure.len() > MOST_TYPES
            {
                return Err(format!("a structure of more than {STRUCTURE_LIMIT} bytes or {MOST_TYPES} types"));
            }
            for definition in &method.structure {
                if !definition.name.is_empty() {
                    short("type's name", &definition.name, STRUCTURE_LIMIT)?;
                }
                short("type's structure", &definition.text, STRUCTURE_LIMIT)?;
            }
        }
        Ok(())
    }
}

/// The master's answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Welcome {
        node: u64,
        /// How often the master wants to hear of the node, in microseconds.
        heartbeat: u64,
        /// How long either side may be silent before it is given up, in microseconds.
        silence: u64,
        /// Largest frame body the master takes, in bytes.
        max_message_size: u64,
    },
    /// Not now, or not ever, and why.
    Refused { reason: String, for_good: bool },
    /// Too many others register at the moment; there is room again after this many microseconds.
    Busy { retry_after: u64 },
}

fn preface(role: Role, security: Security) -> [u8; PREFACE] {
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
) -> Result<Role, HelloError> {
    let mut magic = [0; 8];
    let mut filled = 0;
    // Byte by byte as they come: a stranger that sends three wrong bytes and waits is told apart from
    // a peer at once, not when the time is up.
    while filled < magic.len() {
        let read = io.read(&mut magic[filled..]).await.map_err(HelloError::Io)?;
        if read == 0 {
            return Err(HelloError::Closed("preface"));
        }
        filled += read;
        if magic[..filled] != MAGIC[..filled] {
            return Err(match magic[..filled] {
                // A record of a handshake, or an alert.
                [0x15 | 0x16, 0x03, ..] if !at_master => HelloError::MasterSpeaksTls,
                [0x16, 0x03, ..] => HelloError::NodeSpeaksTls,
                // It may still become that.
                [0x15 | 0x16] => continue,
                _ => HelloError::Stranger(describe(&magic[..filled])),
            });
        }
    }
    let mut rest = [0; PREFACE - 8];
    read_exact(io, &mut rest, "preface").await?;
    let theirs = u16::from_le_bytes([rest[0], rest[1]]);
    if theirs != PROTOCOL_VERSION {
        return Err(HelloError::Version { theirs });
    }
    let role = match Role::from_byte(rest[2]) {
        Some(role) if (role != Role::Master) == at_master => role,
        _ => {
            let expected = if at_master { "a node" } else { "a master" };
            return Err(HelloError::Role { theirs: rest[2], expected });
        }
    };
    if rest[3] != security as u8 {
        return Err(HelloError::Security { theirs: rest[3], ours: security });
    }
    if rest[4..12] != CODEC_NAME {
        return Err(HelloError::Codec { theirs: rest[4..12].escape_ascii().to_string() });
    }
    Ok(role)
}

/// What the first bytes of a stranger look like, for a person to act on.
fn describe(bytes: &[u8]) -> String {
    const METHODS: [&[u8]; 6] = [b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"PRI "];
    let shown = bytes.escape_ascii();
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        format!("\"{shown}\", which looks like HTTP")
    } else {
        format!("\"{shown}\"")
    }
}

pub(super) async fn read_exact<Io: AsyncRead + Unpin>(
    io: &mut Io,
    buffer: &mut [u8],
    what: &'static str,
) -> Result<(), HelloError> {
    match io.read_exact(buffer).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(HelloError::Closed(what)),
        Err(error) => Err(HelloError::Io(error)),
    }
}

async fn read_message<Io, T>(io: &mut Io, what: &'static str, decoding: impl FnOnce(usize)) -> Result<T, HelloError>
where
    Io: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let mut length = [0; 4];
    read_exact(io, &mut length, what).await?;
    let size = u32::from_le_bytes(length) as usize;
    if size > REGISTRATION_LIMIT {
        return Err(HelloError::TooLong { what, size });
    }
    let mut body = Vec::new();
    io.take(size as u64).read_to_end(&mut body).await.map_err(HelloError::Io)?;
    if body.len() < size {
        return Err(HelloError::Closed(what));
    }
    decoding(size);
    decode_payload(&body).map_err(|source| HelloError::Malformed { what, source })
}

async fn write_message<Io, T>(io: &mut Io, what: &'static str, message: &T) -> Result<(), HelloError>
where
    Io: AsyncWrite + Unpin,
    T: Serialize + 'static,
{
    use super::codec::EncodePayloadError::{Codec, TooLarge};
    let body = encode_payload(message, REGISTRATION_LIMIT).map(Payload::into_bytes).map_err(|error| match error {
        TooLarge(size) => HelloError::TooLong { what, size: usize::try_from(size).unwrap_or(usize::MAX) },
        Codec(source) => HelloError::Malformed { what, source },
    })?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    io.write_all(&bytes).await.map_err(HelloError::Io)?;
    io.flush().await.map_err(HelloError::Io)
}

/// The side of a peer that comes in this role, first half: the prefaces. Till its end it can go as if it had never come.
pub(crate) async fn greet<Io>(io: &mut Io, access: Access, security: Security) -> Result<(), HelloError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(&preface(Role::Peer(access), security)).await.map_err(HelloError::Io)?;
    io.flush().await.map_err(HelloError::Io)?;
    read_preface(io, false, security).await.map(drop)
}

/// Second half: the registration and the verdict. The master may send calls right behind that.
pub(crate) async fn introduce<Io>(io: &mut Io, registration: &Registration) -> Result<Verdict, HelloError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    within(NODE_TIME, "verdict", async {
        write_message(io, "registration", registration).await?;
        read_message(io, "verdict", |_| ()).await
    })
    .await
}

/// Gives an exchange up when it takes too long.
pub(crate) async fn within<T>(
    time: Duration,
    what: &'static str,
    exchange: impl Future<Output = Result<T, HelloError>>,
) -> Result<T, HelloError> {
    tokio::time::timeout(time, exchange).await.unwrap_or(Err(HelloError::Late { what, time }))
}

/// The master's side of the prefaces; returns the role of the peer.
///
/// The master sends its own preface even if the peer's does not fit, so that the peer can report the mismatch too. It
/// sends nothing if the other end does not speak this protocol at all.
pub(crate) async fn welcome<Io>(io: &mut Io, security: Security) -> Result<Access, HelloError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let read = read_preface(io, true, security).await;
    if !matches!(read, Err(HelloError::Stranger(_) | HelloError::Closed(_) | HelloError::Io(_))) {
        io.write_all(&preface(Role::Master, security)).await.map_err(HelloError::Io)?;
        io.flush().await.map_err(HelloError::Io)?;
    }
    match read? {
        Role::Peer(access) => Ok(access),
        Role::Master => Err(HelloError::Role { theirs: Role::Master.byte(), expected: "a node" }),
    }
}

/// What an open master says to a node that it has no room for, instead of hearing it: preface and verdict.
pub(super) fn busy(after: Duration) -> Vec<u8> {
    let verdict = Verdict::Busy { retry_after: to_micros(after) };
    let mut bytes = preface(Role::Master, Security::Open).to_vec();
    // A plain enum, whose encoding cannot fail; without it the node would find the connection closed.
    if let Ok(body) = encode_payload(&verdict, REGISTRATION_LIMIT).map(Payload::into_bytes) {
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
    }
    bytes
}

/// The registration of a node that has proven what it has to. Says how many bytes it has before it looks at them.
pub(crate) async fn read_registration<Io>(io: &mut Io, decoding: impl FnOnce(usize)) -> Result<Registration, HelloError>
where
    Io: AsyncRead + Unpin,
{
    read_message(io, "registration", decoding).await
}

/// Sends the verdict.
pub(crate) async fn answer<Io: AsyncWrite + Unpin>(io: &mut Io, verdict: &Verdict) -> Result<(), HelloError> {
    within(HELLO_TIME, "reading of the verdict", write_message(io, "verdict", verdict)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration {
            name: "n1".to_owned(),
            instance: 7,
            slots: 2,
            busy: 0,
            async_limit: 1000,
            max_message_size: 65_536,
            labels: vec![("zone".to_owned(), "eu".to_owned())],
            methods: vec![MethodOffer {
                id: method_id("Arith", 1, "sum", "fn(Vec<i64>) -> i64", 7),
                service: "Arith".to_owned(),
                version: 1,
                name: "sum".to_owned(),
                signature: "fn(Vec<i64>) -> i64".to_owned(),
                types: 7,
                structure: vec![Definition { name: String::new(), text: "fn([i64]) -> i64".to_owned() }],
                compute: true,
            }],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_preface_has_these_bytes() {
        assert_eq!(
            hex(&preface(Role::Peer(Access::Nodes), Security::Open)),
            "8944495354524942010002006269_6e636f646532000000000000000000000000".replace('_', "")
        );
        assert_eq!(hex(&preface(Role::Master, Security::Open))[20..22], *"01");
    }

    #[test]
    fn registration_and_verdict_have_these_bytes() {
        // The id by Python: sha256(b"Arith\xffsum\xfffn(Vec<i64>) -> i64\xff" + pack("<IQ", 1, 7)).digest()[:8],
        // the other way round.
        let bytes = encode_payload(&registration(), 1000).expect("encodes").into_bytes();
        assert_eq!(
            hex(&bytes),
            "026e31070200fbe803fc0000010001047a6f6e6502657501fdbb22ed75b5106d8e05417269746801\
             0373756d13666e285665633c6936343e29202d3e2069363407010010666e285b6936345d29202d3e2069363401"
        );
        let welcome = Verdict::Welcome { node: 5, heartbeat: 1_000_000, silence: 6_000_000, max_message_size: 300 };
        assert_eq!(
            hex(&encode_payload(&welcome, 1000).expect("encodes").into_bytes()),
            "0005fc40420f00fc808d5b00fb2c01"
        );
        let refused = Verdict::Refused { reason: "no".to_owned(), for_good: true };
        assert_eq!(hex(&encode_payload(&refused, 1000).expect("encodes").into_bytes()), "01026e6f01");
        let busy = Verdict::Busy { retry_after: 300 };
        assert_eq!(hex(&encode_payload(&busy, 1000).expect("encodes").into_bytes()), "02fb2c01");
    }

    /// The master's side without proofs.
    async fn receive(io: &mut tokio::io::DuplexStream) -> Result<Registration, HelloError> {
        within(HELLO_TIME, "hello", async {
            welcome(io, Security::Open).await?;
            read_registration(io, |_| ()).await
        })
        .await
    }

    #[tokio::test]
    async fn a_node_introduces_itself_and_hears_the_verdict() {
        let (mut node, mut master) = tokio::io::duplex(64);
        let verdict = Verdict::Refused { reason: "full".to_owned(), for_good: false };
        let told = registration();
        let (heard, received) = tokio::join!(
            async {
                greet(&mut node, Access::Nodes, Security::Open).await.expect("is greeted");
                introduce(&mut node, &told).await
            },
            async {
                let received = receive(&mut master).await;
                answer(&mut master, &verdict).await.expect("answers");
                received
            }
        );
        assert_eq!(received.expect("registers"), registration());
        assert_eq!(heard.expect("hears"), verdict);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_are_told_apart_and_described() {
        async fn send(bytes: &[u8]) -> String {
            let (mut stranger, mut master) = tokio::io::duplex(4096);
            stranger.write_all(bytes).await.expect("fits");
            receive(&mut master).await.expect_err("a stranger").to_string()
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
            send(&preface(Role::Master, Security::Open)).await.contains("says it is a master, where a node belongs")
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
        assert!(send(&MAGIC).await.contains("not complete within"));
        assert!(send(b"").await.contains("not complete within"));
    }

    fn method(signature: &str) -> MethodOffer {
        let [method] = &registration().methods[..] else { panic!("it serves one") };
        let MethodOffer { service, version, name, types, .. } = method;
        let signature = if signature.is_empty() { &method.signature } else { signature };
        let id = method_id(service, *version, name, signature, *types);
        MethodOffer { id, signature: signature.to_owned(), ..method.clone() }
    }

    /// Methods of these many names, with signatures of this length.
    fn named(count: usize, length: usize) -> Vec<MethodOffer> {
        let signature = "x".repeat(length);
        let one = |number: usize| {
            let name = format!("m{number}");
            let id = method_id("Arith", 1, &name, &signature, 7);
            MethodOffer { id, name, signature: signature.clone(), ..method("") }
        };
        (0..count).map(one).collect()
    }

    fn versions(count: u32) -> Vec<MethodOffer> {
        let one = |version: u32| {
            let MethodOffer { service, name, signature, types, .. } = method("");
            MethodOffer { id: method_id(&service, version, &name, &signature, types), version, ..method("") }
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn a_registration_that_lies_is_refused() {
        let bad = [
            Registration { name: "a\nforged log line".to_owned(), ..registration() },
            Registration { name: String::new(), ..registration() },
            Registration { name: "x".repeat(200), ..registration() },
            Registration { slots: 0, ..registration() },
            Registration { slots: u32::MAX, ..registration() },
            Registration { async_limit: 0, ..registration() },
            Registration { max_message_size: 3, ..registration() },
            Registration { labels: vec![("a".to_owned(), "b".to_owned()); 65], ..registration() },
            Registration { name: "abc\u{202e}fed".to_owned(), ..registration() },
            Registration { labels: vec![("zone".to_owned(), "a\u{2028}b".to_owned())], ..registration() },
            Registration { methods: vec![method(""); 2], ..registration() },
            Registration { methods: named(MOST_METHODS + 1, 10), ..registration() },
            Registration { methods: named(70, 8000), ..registration() },
            Registration { methods: versions(MOST_VERSIONS as u32 + 1), ..registration() },
            Registration { name: "node-1 joined by token 1a2b3c4d".to_owned(), ..registration() },
            Registration { labels: vec![("zone".to_owned(), " eu".to_owned())], ..registration() },
            Registration { labels: vec![("a".repeat(100), "b".repeat(100)); 21], ..registration() },
            Registration { methods: vec![method(&"x".repeat(STRUCTURE_LIMIT + 1))], ..registration() },
        ];
        for registration in bad {
            assert!(registration.check().is_err(), "{registration:?}");
        }
        let definition = |name: &str, text: &str| Definition { name: name.to_owned(), text: text.to_owned() };
        let bad = [
            vec![definition("A\nforged log line", "()")],
            vec![definition("A", "forged\x1b[31m")],
            vec![definition("A", "")],
            vec![definition("A", &"x".repeat(STRUCTURE_LIMIT))],
            vec![definition("A", "()"); STRUCTURE_LIMIT / 3 + 1],
        ];
        for structure in bad {
            let methods = vec![MethodOffer { structure, ..registration().methods[0].clone() }];
            assert!(Registration { methods, ..registration() }.check().is_err());
        }
        assert_eq!(registration().check(), Ok(()));
        assert_eq!(Registration { methods: named(MOST_METHODS, 10), ..registration() }.check(), Ok(()));
        assert_eq!(Registration { methods: versions(MOST_VERSIONS as u32), ..registration() }.check(), Ok(()));
    }
}
