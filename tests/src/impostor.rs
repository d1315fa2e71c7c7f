//! Peers that speak the wire by hand, so that they can break its rules.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use distribution::fuzzing;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{ProbeServer, Prober, soon};

/// Kinds of frames, as the wire numbers them.
pub mod kind {
    #![allow(missing_docs, reason = "the names say it")]
    pub const REQUEST: u8 = 1;
    pub const RESPONSE: u8 = 2;
    pub const CANCEL: u8 = 3;
    pub const HEARTBEAT: u8 = 4;
    pub const MASTER_HEARTBEAT: u8 = 5;
    pub const DRAIN: u8 = 6;
    pub const GOODBYE: u8 = 8;
    pub const GIVE_BACK: u8 = 10;
    pub const REQUEST_GRANT: u8 = 11;
    pub const GRANT: u8 = 12;
    pub const BEGIN: u8 = 26;
    pub const ACCEPT: u8 = 27;
    pub const ABANDON: u8 = 28;
    pub const CHUNK: u8 = 29;
    pub const CONSUMED: u8 = 30;
    pub const ITEMS: u8 = 31;
    pub const GRANT_ITEMS: u8 = 32;
    pub const END_ITEMS: u8 = 33;
    pub const STOP_ITEMS: u8 = 34;
    pub const LOGS: u8 = 130;
    /// Optional, and of no release yet.
    pub const UNKNOWN_OPTIONAL: u8 = 200;
}

/// How a call ended on a node, as the wire numbers it, without what follows.
pub mod outcome {
    #![allow(missing_docs, reason = "the names say it")]
    pub const VALUE: &[u8] = &[0];
    pub const PANICKED: &[u8] = &[2];
    pub const REFUSED_BUSY: &[u8] = &[3, 1];
}

/// An unsigned number as bincode 2 writes it.
pub fn number(value: u64) -> Vec<u8> {
    match value {
        0..=250 => vec![value as u8],
        251..=0xffff => [&[251], &(value as u16).to_le_bytes()[..]].concat(),
        0x1_0000..=0xffff_ffff => [&[252], &(value as u32).to_le_bytes()[..]].concat(),
        _ => [&[253], &value.to_le_bytes()[..]].concat(),
    }
}

/// A signed number as bincode 2 writes it.
pub fn signed(value: i64) -> Vec<u8> {
    number(((value << 1) ^ (value >> 63)) as u64)
}

/// A text as bincode 2 writes it.
pub fn text(value: &str) -> Vec<u8> {
    [number(value.len() as u64), value.as_bytes().to_vec()].concat()
}

/// An IPv4 address and port as serde and bincode write them, without the variant.
///
/// # Panics
///
/// If it is an IPv6 address.
pub fn addr_bytes(addr: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(addr) = addr else { panic!("loopback is IPv4 here") };
    [addr.ip().octets().to_vec(), number(addr.port().into())].concat()
}

/// Takes an unsigned number off the front.
///
/// # Panics
///
/// If there is none.
pub fn take_number(bytes: &mut &[u8]) -> u64 {
    let width = match bytes[0] {
        251 => 2,
        252 => 4,
        253 => 8,
        small => {
            *bytes = &bytes[1..];
            return small.into();
        }
    };
    let mut value = [0; 8];
    value[..width].copy_from_slice(&bytes[1..=width]);
    *bytes = &bytes[1 + width..];
    u64::from_le_bytes(value)
}

/// A frame with this body.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &[kind], body].concat()
}

/// A frame that begins a large message with a body of this length.
pub fn begin(message: u32, length: u64) -> Vec<u8> {
    let waits = u8::from(length > 1 << 20);
    frame(kind::BEGIN, &[&number(message.into())[..], &number(length), &[waits]].concat())
}

/// The next bytes of a large message, in chunks.
pub fn chunks(message: u32, bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(1 << 16).flat_map(|chunk| frame(kind::CHUNK, &[&message.to_le_bytes()[..], chunk].concat())).collect()
}

/// A response to a request.
pub fn response(request: u64, run: u64, outcome: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(kind::RESPONSE, &[&number(request)[..], &number(run), &[1, 0], outcome, payload].concat())
}

/// A request for the first version of a method of `Probe`.
pub fn request(id: u64, call: u64, timeout: Option<u64>, (name, signature): (&str, &str), arguments: &[u8]) -> Vec<u8> {
    let timeout = timeout.map_or_else(|| vec![0], |micros| [vec![1], number(micros)].concat());
    let method = number(method_id(name, signature));
    frame(kind::REQUEST, &[&number(id)[..], &method, &number(call), &[1, 1, 1], &timeout, &[0, 0], arguments].concat())
}

/// The same with metadata.
pub fn request_with_metadata(
    id: u64,
    call: u64,
    (name, signature): (&str, &str),
    metadata: &[(&str, &str)],
    arguments: &[u8],
) -> Vec<u8> {
    let entries: Vec<u8> = metadata.iter().flat_map(|(key, value)| [text(key), text(value)].concat()).collect();
    let head = [number(id), number(method_id(name, signature)), number(call), vec![1, 1, 1, 0]].concat();
    frame(kind::REQUEST, &[&head[..], &number(metadata.len() as u64), &entries, &[0], arguments].concat())
}

/// A batch of calls with these arguments to the first version of a method of `Probe`, of which this many may
/// be started.
pub fn batch(id: u64, call: u64, granted: u64, (name, signature): (&str, &str), arguments: &[Vec<u8>]) -> Vec<u8> {
    let method = number(method_id(name, signature));
    let count = number(arguments.len() as u64);
    let head = [&number(id)[..], &method, &number(call), &[1], &count, &number(granted), &[0, 0, 0]].concat();
    let each = |arguments: &Vec<u8>| [&(arguments.len() as u32).to_le_bytes()[..], arguments].concat();
    frame(kind::REQUEST, &[head, arguments.iter().flat_map(each).collect()].concat())
}

/// A request for a grant or a grant: how many calls of a batch may be started.
pub fn extent(kind: u8, call: u64, attempt: u64, upto: u64) -> Vec<u8> {
    frame(kind, &[number(call), number(attempt), number(upto)].concat())
}

/// A heartbeat with these loads: computing, waiting, asynchronous, stale, blocked.
pub fn heartbeat(loads: [u64; 5]) -> Vec<u8> {
    frame(kind::HEARTBEAT, &loads.map(number).concat())
}

/// The id of the first version of a method of `Probe`, which need not have the method.
///
/// # Panics
///
/// Never: `Probe` has no method twice.
pub fn method_id(name: &str, signature: &str) -> u64 {
    fuzzing::method_id("Probe", 1, name, signature, types(name, signature))
}

/// The hash of a method's types; 0 of one that `Probe` does not have.
fn types(name: &str, signature: &str) -> u64 {
    static METHODS: LazyLock<Vec<fuzzing::MethodKey>> =
        LazyLock::new(|| fuzzing::method_ids(ProbeServer::new(Prober)).expect("each method is there once"));
    let known = METHODS.iter().find(|method| method.name == name && method.signature == signature);
    known.map_or(0, |method| method.types)
}

/// The preface of an end with this role and this security.
pub fn preface(role: u8, security: u8) -> Vec<u8> {
    let version = fuzzing::PROTOCOL_VERSION.to_le_bytes();
    let mut bytes = [&b"\x89DISTRIB"[..], &version, &[role, security], b"bincode2"].concat();
    bytes.resize(32, 0);
    bytes
}

/// The registration, with its length, of a node of this name with one slot that serves these methods of `Probe`, by name
/// and signature, all of them compute.
pub fn registration(name: &str, methods: &[(&str, &str)]) -> Vec<u8> {
    // Each is a process of its own.
    registration_of(rand::random::<u64>() | 1 << 40, name, 1, methods)
}

fn registration_of(instance: u64, name: &str, slots: u64, methods: &[(&str, &str)]) -> Vec<u8> {
    let shown: Vec<_> = methods.iter().map(|(name, signature)| Shown::of_probe(name, signature)).collect();
    registration_that_shows(instance, name, slots, &[], &shown)
}

/// A method as a node shows it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Shown {
    pub id: u64,
    pub service: String,
    pub name: String,
    pub signature: String,
    pub types: u64,
    /// Whether it returns a stream, and whether its last argument is one.
    pub streams: [u8; 2],
}

impl Shown {
    /// The first version of a method of `Probe`, as it is.
    pub fn of_probe(name: &str, signature: &str) -> Self {
        let [service, name, signature] = ["Probe", name, signature].map(str::to_owned);
        Self {
            id: method_id(&name, &signature),
            types: types(&name, &signature),
            service,
            name,
            signature,
            streams: [0; 2],
        }
    }
}

/// A registration, with its length, that shows these labels and methods, all of them compute.
pub fn registration_that_shows(
    instance: u64,
    name: &str,
    slots: u64,
    labels: &[(&str, &str)],
    methods: &[Shown],
) -> Vec<u8> {
    let mut registration =
        [text(name), number(instance), number(slots), number(0), number(1), number(64 << 20)].concat();
    registration.extend(number(labels.len() as u64));
    registration.extend(labels.iter().flat_map(|(key, value)| [text(key), text(value)].concat()));
    registration.extend(number(methods.len() as u64));
    for Shown { id, service, name, signature, types, streams } in methods {
        registration.extend([number(*id), text(service), number(1), text(name), text(signature)].concat());
        // No structure for people, compute, and not idempotent.
        registration.extend([number(*types), number(0), number(0), vec![0], streams.to_vec()].concat());
    }
    // No session.
    registration.push(0);
    let length = (registration.len() as u32).to_le_bytes().to_vec();
    [length, registration].concat()
}

/// A connection whose end here is ours.
#[derive(Debug)]
pub struct Impostor {
    /// For what no method here does.
    pub stream: TcpStream,
}

impl Impostor {
    /// Registers as a node of this name with one slot that serves these methods of `Probe`, by name and
    /// signature, all of them compute.
    ///
    /// # Errors
    ///
    /// The reason, where the master refuses.
    ///
    /// # Panics
    ///
    /// If the master does not answer.
    pub async fn node(master: SocketAddr, name: &str, methods: &[(&str, &str)]) -> Result<Self, String> {
        Self::node_with_slots(master, name, 1, methods).await
    }

    /// The same with this many slots.
    ///
    /// # Errors
    ///
    /// The reason, where the master refuses.
    ///
    /// # Panics
    ///
    /// If the master does not answer.
    pub async fn node_with_slots(
        master: SocketAddr,
        name: &str,
        slots: u64,
        methods: &[(&str, &str)],
    ) -> Result<Self, String> {
        Self::register(master, registration_of(rand::random::<u64>() | 1 << 40, name, slots, methods)).await
    }

    /// The same with one slot, as a process that draws this number.
    ///
    /// # Errors
    ///
    /// The reason, where the master refuses.
    ///
    /// # Panics
    ///
    /// If the master does not answer.
    pub async fn node_of_process(
        master: SocketAddr,
        instance: u64,
        name: &str,
        methods: &[(&str, &str)],
    ) -> Result<Self, String> {
        Self::register(master, registration_of(instance, name, 1, methods)).await
    }

    /// Registers by these bytes.
    ///
    /// # Errors
    ///
    /// The reason, where the master refuses.
    ///
    /// # Panics
    ///
    /// If the master does not answer.
    pub async fn register(master: SocketAddr, registration: Vec<u8>) -> Result<Self, String> {
        let stream = TcpStream::connect(master).await.expect("connects");
        Self::register_over(stream, registration).await
    }

    /// The same over a connection that exists already.
    ///
    /// # Errors
    ///
    /// The reason, where the master refuses.
    ///
    /// # Panics
    ///
    /// If the master does not answer.
    pub async fn register_over(mut stream: TcpStream, registration: Vec<u8>) -> Result<Self, String> {
        stream.write_all(&[preface(2, 0), registration].concat()).await.expect("sends");
        let mut theirs = [0; 32];
        soon("the master's preface", stream.read_exact(&mut theirs)).await.expect("reads");
        assert_eq!(theirs, *preface(1, 0));
        let mut length = [0; 4];
        soon("the answer", stream.read_exact(&mut length)).await.expect("reads");
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        soon("the answer", stream.read_exact(&mut answer)).await.expect("reads");
        match answer[0] {
            0 => Ok(Self { stream }),
            _ => Err(String::from_utf8_lossy(&answer[2..]).into_owned()),
        }
    }

    /// Reads the registration of the next node that dials this port, as its master.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn master_that_hears(listener: &TcpListener) -> Self {
        let (mut stream, _) = soon("a node to dial", listener.accept()).await.expect("accepts");
        let mut theirs = [0; 32];
        soon("its preface", stream.read_exact(&mut theirs)).await.expect("reads");
        stream.write_all(&preface(1, 0)).await.expect("sends");
        let mut length = [0; 4];
        soon("its registration", stream.read_exact(&mut length)).await.expect("reads");
        let mut registration = vec![0; u32::from_le_bytes(length) as usize];
        soon("its registration", stream.read_exact(&mut registration)).await.expect("reads");
        Self { stream }
    }

    /// Registers the next node that dials this port, as its master, with this interval of heartbeats and this limit of
    /// silence.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn master(listener: &TcpListener, heartbeat: Duration, silence: Duration) -> Self {
        let mut master = Self::master_that_hears(listener).await;
        let micros = |time: Duration| number(time.as_micros() as u64);
        let answer = [number(0), number(7), micros(heartbeat), micros(silence), number(1 << 20), number(0)].concat();
        master.send_answer(&answer).await;
        master
    }

    /// Sends the answer to a registration, with its length.
    ///
    /// # Panics
    ///
    /// If the node is gone.
    pub async fn send_answer(&mut self, answer: &[u8]) {
        self.send(&[&(answer.len() as u32).to_le_bytes()[..], answer].concat()).await;
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// If the connection is closed.
    pub async fn send(&mut self, bytes: &[u8]) {
        soon("bytes to be taken", self.stream.write_all(bytes)).await.expect("the peer is there");
    }

    /// The body of the next frame of this kind; others are skipped.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn receive(&mut self, wanted: u8) -> Vec<u8> {
        self.receive_one_of(&[wanted]).await.1
    }

    /// The kind and the body of the next frame of one of these kinds; others are skipped.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn receive_one_of(&mut self, wanted: &[u8]) -> (u8, Vec<u8>) {
        loop {
            let (kind, body) = self.receive_any().await;
            if wanted.contains(&kind) {
                return (kind, body);
            }
        }
    }

    /// The kind and the body of the next frame.
    async fn receive_any(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 5];
        soon("a frame", self.stream.read_exact(&mut header)).await.expect("the peer is there");
        let mut body = vec![0; u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize];
        soon("its body", self.stream.read_exact(&mut body)).await.expect("the peer is there");
        (header[4], body)
    }

    /// Waits until a large message has begun, accepts it, and reads this much of its body, or all of it. Returns its number and
    /// the bytes. Other frames are skipped.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub async fn receive_large(&mut self, most: usize) -> (u32, Vec<u8>) {
        let begin = self.receive(kind::BEGIN).await;
        let mut rest = &begin[..];
        let (message, length) = (take_number(&mut rest) as u32, take_number(&mut rest) as usize);
        self.send(&frame(kind::ACCEPT, &number(message.into()))).await;
        let mut bytes = Vec::new();
        while bytes.len() < length.min(most) {
            // As late as a reader does that the sender does not wait for.
            if bytes.len() >= 1 << 18 {
                self.send(&frame(kind::CONSUMED, &number(bytes.len() as u64))).await;
            }
            let chunk = self.receive(kind::CHUNK).await;
            assert_eq!(chunk[..4], message.to_le_bytes());
            bytes.extend_from_slice(&chunk[4..]);
        }
        (message, bytes)
    }

    /// The number of the next request.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn receive_request(&mut self) -> u64 {
        take_number(&mut &self.receive(kind::REQUEST).await[..])
    }

    /// The next response: the request's number, and how it ended with the payload behind it.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn receive_response(&mut self) -> (u64, Vec<u8>) {
        let body = self.receive(kind::RESPONSE).await;
        let mut rest = &body[..];
        let request = take_number(&mut rest);
        let _run_count_and_panicked = [(); 3].map(|()| take_number(&mut rest));
        (request, rest.to_vec())
    }
}
