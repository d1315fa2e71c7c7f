//! Many idle nodes in one process: it opens many connections to a master, registers on each, and sends heartbeats.
//!
//! So the figures are those of the master, and not of many node processes that compete for the cores.

use std::{io, time::Duration};

use distribution::fuzzing;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    failure::{During, Failure},
    ours::{EchoServer, Parrot},
    process::announce,
};

/// How often each node is heard: half of what a master asks for by default.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Connections that register at the same time; a master allows 32 from one address.
const REGISTERING: usize = 16;

const SERVICE: &str = "Echo";
const METHOD: &str = "asynchronous";

/// Registers this many nodes and plays them until the first of them is turned away.
pub(crate) async fn serve(master: &str, count: usize) -> Result<(), Failure> {
    let method = method()?;
    // Each handshake is put together in a runtime of its own.
    let handshakes = move || (0..count).map(|number| handshake(number, &method)).collect::<Vec<_>>();
    let handshakes = tokio::task::spawn_blocking(handshakes).await.during("handshakes cannot be put together")?;
    let streams: Vec<TcpStream> = stream::iter(handshakes)
        .map(|handshake| register(master, handshake))
        .buffer_unordered(REGISTERING)
        .try_collect()
        .await?;
    let mut nodes = tokio::task::JoinSet::new();
    for (number, stream) in (0..).zip(streams) {
        // Spread over the time between two, as those of nodes are that came one by one.
        nodes.spawn(play(stream, Instant::now() + HEARTBEAT * number / count.max(1) as u32));
    }
    announce(count)?;
    match nodes.join_next().await {
        Some(ended) => {
            ended.during("a light node's task broke")?.during("a light node lost its connection to the master")
        }
        None => Ok(()),
    }
}

/// The method that light nodes have.
fn method() -> Result<fuzzing::MethodKey, Failure> {
    const MISSING: &str = "light nodes have no method";
    let methods = fuzzing::method_ids(EchoServer::new(Parrot::default())).during(MISSING)?;
    let found = methods.into_iter().find(|method| method.name == METHOD);
    found.ok_or_else(|| Failure::new(format!("{MISSING} `{METHOD}`")))
}

/// All that a light node sends before the master's reply.
fn handshake(number: usize, method: &fuzzing::MethodKey) -> Vec<u8> {
    let fuzzing::MethodKey { name, signature, types, id } = method.clone();
    let offer = (id, SERVICE.to_owned(), 1, name, signature, types, Vec::new(), [false, false]);
    // Slots, busy slots, async calls at once.
    let numbers = [1, 0, 1024];
    let name = format!("light-{number}");
    let registration = fuzzing::Registration::new(name, numbers, 64 << 20, Vec::new(), vec![offer]);
    // Each plays a process of its own.
    registration.of_process(1 + number as u128).handshake()
}

/// Connects and registers.
async fn register(master: &str, handshake: Vec<u8>) -> Result<TcpStream, Failure> {
    const REACHED: &str = "a light node cannot register";
    let mut stream = TcpStream::connect(master).await.during(REACHED)?;
    stream.set_nodelay(true).during(REACHED)?;
    stream.write_all(&handshake).await.during(REACHED)?;
    let mut preface = [0; 32];
    stream.read_exact(&mut preface).await.during(REACHED)?;
    let length = stream.read_u32_le().await.during(REACHED)? as usize;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.during(REACHED)?;
    match answer.first() {
        Some(0) => Ok(stream),
        _ => Err(Failure::new(format!(
            "the master refused a light node: {}; bring light_nodes.rs up to date with distribution/src/wire/",
            answer.escape_ascii()
        ))),
    }
}

/// Sends heartbeats, as long as the master keeps the connection.
async fn play(mut stream: TcpStream, first_beat: Instant) -> io::Result<()> {
    // Nothing runs, waits, is asynchronous, stale or blocked.
    const BEAT: [u8; 10] = [5, 0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut beats = interval_at(first_beat, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ignored = [0; 1024];
    loop {
        tokio::select! {
            read = stream.read(&mut ignored) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            _ = beats.tick() => stream.write_all(&BEAT).await?,
        }
    }
}
