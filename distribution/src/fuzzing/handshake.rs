//! The handshake at both ends: preface, registration, reply.

use std::fmt;

use tokio::runtime::{Builder, Runtime};

use super::{
    SPLITS, assert_fit_for_a_log,
    memory::Memory,
    payload::{decode, round_trip},
};
use crate::{
    administration::MethodKind,
    error::CodecError,
    security::Access,
    text::is_plain,
    wire::handshake::{
        self, Definition, HandshakeError, MethodOffer, Purpose, Security, SessionId, SessionOfNode, StreamShape,
        codes::Role,
        preface::{answer_preface, send_preface},
    },
};

/// The preface of a master without security.
fn master_preface() -> [u8; 32] {
    handshake::preface::preface(Role::Master, Security::Open)
}

/// A node's registration.
#[derive(Clone, PartialEq, Eq)]
pub struct Registration(handshake::Registration);

/// What a service's methods are named by on the wire: name, signature, and id.
///
/// # Errors
///
/// [`Error::ServedTwice`](crate::Error::ServedTwice), as for a node.
pub fn method_ids(service: impl crate::Service) -> Result<Vec<MethodKey>, crate::Error> {
    let router = crate::service::router::Router::new([service.routes()])?;
    let key = |MethodOffer { name, signature, types, id, .. }| MethodKey { name, signature, types, id };
    Ok(router.offers().into_iter().map(key).collect())
}

/// What tells a method of a service from the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodKey {
    /// Its name.
    pub name: String,
    /// Its signature.
    pub signature: String,
    /// Hash of the structure of its types.
    pub types: u64,
    /// What calls name it by.
    pub id: u64,
}

/// What calls name a method by that has this service, version, name, signature, and hash of its types.
pub fn method_id(service: &str, version: u32, name: &str, signature: &str, types: u64) -> u64 {
    crate::hash::method_id(service, version, name, signature, types)
}

/// The id of a method, its service, version, name and signature, the hash of its types, their names and texts, and
/// whether it is compute and idempotent.
pub type Offer = (u64, String, u32, String, String, u64, Vec<(String, String)>, [bool; 2]);

impl Registration {
    /// Puts one together, unchecked. The three numbers are slots, those that are taken, and the async limit.
    pub fn new(
        name: String,
        [slots, busy, async_limit]: [u32; 3],
        max_message_size: u64,
        labels: Vec<(String, String)>,
        offers: Vec<Offer>,
    ) -> Self {
        let methods = offers
            .into_iter()
            .map(|(id, service, version, name, signature, types, structure, [compute, idempotent])| MethodOffer {
                id,
                service,
                version,
                name,
                signature,
                types,
                structure: structure.into_iter().map(|(name, text)| Definition { name, text }).collect(),
                kind: if compute { MethodKind::Compute } else { MethodKind::Async },
                idempotent,
                streams: StreamShape::default(),
            })
            .collect();
        let session = (busy % 2 == 1)
            .then(|| SessionOfNode { id: SessionId::new(u128::from(max_message_size)), computing: async_limit });
        Self(handshake::Registration {
            name,
            instance: 0,
            slots,
            busy,
            async_limit,
            max_message_size,
            labels,
            methods,
            session,
        })
    }

    /// The same of a process with this number. Two processes must not have the same.
    #[must_use]
    pub fn of_process(mut self, instance: u128) -> Self {
        self.0.instance = instance;
        self
    }

    /// Decodes the body of a registration.
    ///
    /// # Errors
    ///
    /// [`CodecError`] where the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes).map(Self)
    }

    /// Checks it as the master does.
    ///
    /// # Errors
    ///
    /// What the master would tell the node.
    pub fn check(&self) -> Result<(), String> {
        self.0.check()
    }

    /// Everything that a node with this registration sends before the master's reply.
    pub fn handshake(&self) -> Vec<u8> {
        let preface = master_preface();
        let mut master = Memory::new(&preface, &[]);
        let missed = run(open(&mut master, &self.0));
        assert!(matches!(missed, Err(HandshakeError::Closed("reply to the registration"))), "{missed:?}");
        master.written
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The registration that a master reads from the bytes of an unauthenticated peer, and what it writes to the peer.
///
/// # Errors
///
/// Why the peer is refused, as the log says it.
pub fn receive(bytes: &[u8], pieces: &[usize]) -> (Result<Registration, String>, Vec<u8>) {
    let mut peer = Memory::new(bytes, pieces);
    let received = run(async {
        answer_preface(&mut peer, Security::Open).await?;
        handshake::read_registration(&mut peer, |_| ()).await
    });
    let received = received.map(Registration).map_err(explain);
    (received, peer.written)
}

/// The reply that a node reads from the bytes of what should be its master, as text.
///
/// # Errors
///
/// Why the node tries again or gives up, as the log says it.
pub fn introduce(bytes: &[u8], pieces: &[usize]) -> Result<String, String> {
    let own = Registration::new("n1".to_owned(), [1, 0, 1], 65_536, Vec::new(), Vec::new());
    let mut peer = Memory::new(bytes, pieces);
    let reply = run(open(&mut peer, &own.0)).map_err(explain)?;
    assert_eq!(round_trip(&reply, bytes.len()), reply);
    Ok(format!("{reply:?}"))
}

/// What a caller says about itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello(handshake::CallerHello);

impl Hello {
    /// Puts one together, unchecked.
    pub fn new(name: String, max_message_size: u64) -> Self {
        Self(handshake::CallerHello {
            name,
            max_message_size,
            node: None,
            session: (max_message_size % 2 == 1).then(|| SessionId::new(u128::from(max_message_size))),
        })
    }

    /// Checks it as the master does.
    ///
    /// # Errors
    ///
    /// What the master would tell the caller.
    pub fn check(&self) -> Result<(), String> {
        self.0.check()
    }

    /// Everything that a caller sends before the master's reply.
    pub fn handshake(&self) -> Vec<u8> {
        let preface = master_preface();
        let mut master = Memory::new(&preface, &[]);
        let missed = run(greet(&mut master, &self.0));
        assert!(matches!(missed, Err(HandshakeError::Closed("reply to the caller"))), "{missed:?}");
        master.written
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hello that a master reads from the bytes of what should be a caller, and what it writes to it.
///
/// # Errors
///
/// Why the peer is refused, as the log says it.
pub fn receive_caller(bytes: &[u8], pieces: &[usize]) -> (Result<Hello, String>, Vec<u8>) {
    let mut peer = Memory::new(bytes, pieces);
    let received = run(async {
        answer_preface(&mut peer, Security::Open).await?;
        handshake::read_hello(&mut peer, |_| ()).await
    });
    (received.map(Hello).map_err(explain), peer.written)
}

/// The reply that a caller reads from the bytes of what should be its master, as text.
///
/// # Errors
///
/// Why the caller tries again or gives up, as the log says it.
pub fn introduce_caller(bytes: &[u8], pieces: &[usize]) -> Result<String, String> {
    let mut peer = Memory::new(bytes, pieces);
    let welcome = run(greet(&mut peer, &Hello::new("c1".to_owned(), 65_536).0)).map_err(explain)?;
    assert_eq!(round_trip(&welcome, bytes.len()), welcome);
    Ok(format!("{welcome:?}"))
}

/// The caller's end of the handshake.
async fn greet(
    master: &mut Memory<'_>,
    hello: &handshake::CallerHello,
) -> Result<handshake::CallerWelcome, HandshakeError> {
    send_preface(master, Access::Callers, Purpose::OfRole, Security::Open).await?;
    handshake::greet(master, hello).await
}

/// The law for any bytes in place of a caller's handshake: at both ends they are a hello, a reply or an error; how they are cut
/// up makes no difference; and what passes the check can be shown to people.
fn caller(bytes: &[u8]) {
    let (received, written) = receive_caller(bytes, SPLITS[0]);
    let heard = introduce_caller(bytes, SPLITS[0]);
    for pieces in &SPLITS[1..] {
        let (again, written_again) = receive_caller(bytes, pieces);
        assert_eq!((again.map_err(kind), &written_again), (received.clone().map_err(kind), &written));
        assert_eq!(introduce_caller(bytes, pieces).map_err(kind), heard.clone().map_err(kind));
    }
    let Ok(hello) = received else { return };
    assert_eq!(round_trip(&hello.0, bytes.len()), hello.0);
    match hello.check() {
        Ok(()) => assert!(!hello.0.name.is_empty() && is_plain(&hello.0.name), "{:?}", hello.0.name),
        Err(reason) => assert_fit_for_a_log(&reason),
    }
}

/// The law for any bytes in place of a handshake: at both ends they are a registration, a reply or an error, and how they
/// are cut up makes no difference. And the same of a caller.
pub fn preface(bytes: &[u8]) {
    caller(bytes);
    let (received, written) = receive(bytes, SPLITS[0]);
    let heard = introduce(bytes, SPLITS[0]);
    for pieces in &SPLITS[1..] {
        let (again, written_again) = receive(bytes, pieces);
        assert_eq!((again.map_err(kind), &written_again), (received.clone().map_err(kind), &written));
        assert_eq!(introduce(bytes, pieces).map_err(kind), heard.clone().map_err(kind));
    }
    let speaks_ours = bytes.len() >= master_preface().len() && bytes.starts_with(b"\x89DISTRIB");
    let speaks_tls = bytes.starts_with(b"\x16\x03");
    assert_eq!(
        written,
        if speaks_ours || speaks_tls { master_preface().to_vec() } else { Vec::new() },
        "only ends that speak another protocol are told nothing"
    );
    assert!(received.is_err() || heard.is_err(), "an end is not both a node and a master");
}

/// The law for any bytes as a registration: what is decoded survives another handshake, and what passes the
/// check can be shown to people.
pub fn registration(bytes: &[u8]) {
    let Ok(registration) = Registration::decode(bytes) else { return };
    let told = &registration.0;
    assert_eq!(&round_trip(told, bytes.len()), told);
    let (received, written) = receive(&registration.handshake(), SPLITS[0]);
    assert_eq!((received.as_ref(), &written[..]), (Ok(&registration), &master_preface()[..]));
    match registration.check() {
        Ok(()) => {
            let labels = told.labels.iter().flat_map(|(key, value)| [key, value]);
            let methods = told.methods.iter().flat_map(|method| [&method.service, &method.name, &method.signature]);
            let types = told.methods.iter().flat_map(|method| &method.structure).map(|definition| &definition.text);
            for text in labels.chain(methods).chain(types).chain([&told.name]) {
                assert!(!text.is_empty() && is_plain(text), "{text:?}");
            }
            assert!(told.slots > 0 && told.async_limit > 0);
        }
        Err(reason) => assert_fit_for_a_log(&reason),
    }
}

/// The node's end of the handshake.
async fn open(
    master: &mut Memory<'_>,
    registration: &handshake::Registration,
) -> Result<handshake::RegistrationReply, HandshakeError> {
    send_preface(master, Access::Nodes, Purpose::OfRole, Security::Open).await?;
    handshake::register(master, registration).await
}

fn explain(error: HandshakeError) -> String {
    assert!(!matches!(error, HandshakeError::Late { .. }), "nothing here waits");
    let text = error.to_string();
    assert_fit_for_a_log(&text);
    text
}

/// The reason without the peer's first bytes: how many are shown depends on how they came.
fn kind(mut reason: String) -> String {
    if let Some(at) = reason.find(": it began with") {
        reason.truncate(at);
    }
    reason
}

/// Runs a handshake, whose time limit needs a clock.
fn run<T>(handshake: impl Future<Output = T>) -> T {
    thread_local! {
        // Kept, because making one takes a hundred times longer than a handshake.
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("takes nothing scarce");
    }
    RUNTIME.with(|runtime| runtime.block_on(handshake))
}
