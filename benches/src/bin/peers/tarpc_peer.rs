//! The peer tarpc: its own service macro, its own transport over TCP with bincode, and its defaults, except that frames
//! and deadlines are made large enough for the work and that small packets are not held back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::StreamExt;
use tarpc::{
    client, context,
    serde_transport::{self, Transport},
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    failure::{During, Failure},
    load::Echoes,
    process::announce,
};

/// Room for the largest payload and its header.
const MAX_MESSAGE_SIZE: usize = 64 * 1024 * 1024;

/// The default of 10 s might end a large call on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The echoes as tarpc's macro takes them.
#[tarpc::service]
trait TarpcEcho {
    /// Gives the number back.
    async fn number(number: u64) -> u64;
    /// Gives the bytes back.
    async fn bytes(bytes: Vec<u8>) -> Vec<u8>;
}

#[derive(Clone)]
struct Parrot;

impl TarpcEcho for Parrot {
    async fn number(self, _: context::Context, number: u64) -> u64 {
        number
    }

    async fn bytes(self, _: context::Context, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}

fn transport<Item, SinkItem>(
    stream: TcpStream,
) -> Result<Transport<TcpStream, Item, SinkItem, Bincode<Item, SinkItem>>, Failure>
where
    Item: for<'de> tarpc::serde::Deserialize<'de>,
    SinkItem: tarpc::serde::Serialize,
{
    stream.set_nodelay(true).during("tarpc's connection cannot be set up")?;
    let framed = LengthDelimitedCodec::builder().max_frame_length(MAX_MESSAGE_SIZE).new_framed(stream);
    Ok(serde_transport::new(framed, Bincode::default()))
}

/// Serves echoes until the process ends.
pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.during("the tarpc server cannot listen")?;
    announce(listener.local_addr().during("the tarpc server has no address")?)?;
    loop {
        let (stream, _) = listener.accept().await.during("the tarpc server cannot accept")?;
        let requests = BaseChannel::with_defaults(transport(stream)?).execute(Parrot.serve());
        tokio::spawn(requests.for_each(|request| async move {
            tokio::spawn(request);
        }));
    }
}

/// One connection to the server, for any number of callers.
#[derive(Clone)]
pub(crate) struct Client(TarpcEchoClient);

impl Client {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await.during("the tarpc server cannot be reached")?;
        Ok(Self(TarpcEchoClient::new(client::Config::default(), transport(stream)?).spawn()))
    }
}

fn patient() -> context::Context {
    let mut context = context::current();
    context.deadline = Instant::now() + DEADLINE;
    context
}

impl Echoes<u64> for Client {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        self.0.number(patient(), payload).await.during("a call over tarpc failed")
    }
}

impl Echoes<Vec<u8>> for Client {
    async fn echo(&mut self, payload: Vec<u8>) -> Result<Vec<u8>, Failure> {
        self.0.bytes(patient(), payload).await.during("a large call over tarpc failed")
    }
}
