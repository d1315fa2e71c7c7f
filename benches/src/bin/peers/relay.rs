//! A long way between two processes: a relay that passes on what it reads after a while, at any rate or at that of a line.
//!
//! What is on the way waits in memory, so that neither end sees more of the delay than a long line would show it: a write
//! ends at once, and what was written comes later.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use crate::{
    failure::{During, Failure},
    process::{ServerProcess, announce},
};

/// How long each byte is on the way, in either direction: half of a round trip of 60 ms.
const DELAY: Duration = Duration::from_millis(30);

/// The way between two processes, in either direction.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Way {
    /// Takes any number of bytes at once.
    Wide,
    /// A line of 1 Gbit/s.
    Line,
}

impl Way {
    /// Bytes that are on the way at most.
    fn room(self) -> usize {
        match self {
            // More than any window.
            Self::Wide => 256 * 1024 * 1024,
            // What is on the line for 60 ms, and as much in front of it.
            Self::Line => 15 * 1024 * 1024,
        }
    }

    /// How long bytes keep others waiting.
    fn takes(self, bytes: usize) -> Duration {
        match self {
            Self::Wide => Duration::ZERO,
            Self::Line => Duration::from_nanos(8 * bytes as u64),
        }
    }
}

/// What a read asks for.
const READ_CHUNK: usize = 64 * 1024;

/// Starts a relay to this address, and returns it with the address to connect to.
pub(crate) async fn start(to: SocketAddr, way: Way) -> Result<(ServerProcess, SocketAddr), Failure> {
    let way = way.to_possible_value().map(|way| way.get_name().to_owned()).unwrap_or_default();
    let mut relay = ServerProcess::start(&["relay", "--to", &to.to_string(), "--way", &way])?;
    let addr = relay.announced().await?.parse().during("a relay told no address")?;
    Ok((relay, addr))
}

/// Relays to this address until the process ends.
pub(crate) async fn serve(to: SocketAddr, way: Way) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.during("the relay cannot listen")?;
    announce(listener.local_addr().during("the relay has no address")?)?;
    loop {
        let (near, _) = listener.accept().await.during("the relay cannot accept")?;
        let far = TcpStream::connect(to).await.during("the relay cannot connect on")?;
        for stream in [&near, &far] {
            stream.set_nodelay(true).during("the relay cannot set a connection up")?;
        }
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        pass_on(from_near, to_far, way);
        pass_on(from_far, to_near, way);
    }
}

/// What was read at once, and when it has arrived.
struct Delayed {
    bytes: Bytes,
    due: Instant,
    /// Given back when the bytes were written.
    _room: OwnedSemaphorePermit,
}

/// Moves bytes one way until an end closes its connection.
fn pass_on(from: OwnedReadHalf, to: OwnedWriteHalf, way: Way) {
    let (sender, queue) = mpsc::unbounded_channel();
    // An end that goes away shows as a closed connection at the other one.
    tokio::spawn(read(from, sender, way));
    tokio::spawn(write(queue, to));
}

async fn read(mut from: OwnedReadHalf, queue: mpsc::UnboundedSender<Delayed>, way: Way) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(way.room()));
    let mut is_free_at = Instant::now();
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_CHUNK);
        let count = from.read_buf(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        is_free_at = is_free_at.max(Instant::now()) + way.takes(count);
        let (bytes, due) = (buffer.split().freeze(), is_free_at + DELAY);
        let permits = u32::try_from(count).map_err(io::Error::other)?;
        let permit = Arc::clone(&room).acquire_many_owned(permits).await.map_err(io::Error::other)?;
        queue.send(Delayed { bytes, due, _room: permit }).map_err(io::Error::other)?;
    }
}

async fn write(mut queue: mpsc::UnboundedReceiver<Delayed>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some(Delayed { bytes, due, .. }) = queue.recv().await {
        // A timer costs something also if it has run out.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        to.write_all(&bytes).await?;
    }
    to.shutdown().await
}
