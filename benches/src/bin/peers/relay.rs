//! A long way between two processes: a relay that passes on what it reads after a while, and does not limit the rate
//! otherwise.
//!
//! What is on the way waits in memory, so that neither end sees more of the delay than a long line would show it: a write
//! ends at once, and what was written comes later.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
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

/// Bytes that are on the way at most, in either direction: more than any window.
const MOST_ON_THE_WAY: usize = 256 * 1024 * 1024;

/// What a read asks for.
const READ_CHUNK: usize = 64 * 1024;

/// Starts a relay to this address, and returns it with the address to connect to.
pub(crate) async fn start(to: SocketAddr) -> Result<(ServerProcess, SocketAddr), Failure> {
    let mut relay = ServerProcess::start(&["relay", "--to", &to.to_string()])?;
    let addr = relay.announced().await?.parse().during("a relay told no address")?;
    Ok((relay, addr))
}

/// Relays to this address until the process ends.
pub(crate) async fn serve(to: SocketAddr) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.during("the relay cannot listen")?;
    announce(listener.local_addr().during("the relay has no address")?)?;
    loop {
        let (near, _) = listener.accept().await.during("the relay cannot accept")?;
        let far = TcpStream::connect(to).await.during("the relay cannot connect on")?;
        for stream in [&near, &far] {
            stream.set_nodelay(true).during("the relay cannot set a connection up")?;
        }
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        pass_on(from_near, to_far);
        pass_on(from_far, to_near);
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
fn pass_on(from: OwnedReadHalf, to: OwnedWriteHalf) {
    let (sender, queue) = mpsc::unbounded_channel();
    // An end that goes away shows as a closed connection at the other one.
    tokio::spawn(read(from, sender));
    tokio::spawn(write(queue, to));
}

async fn read(mut from: OwnedReadHalf, queue: mpsc::UnboundedSender<Delayed>) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MOST_ON_THE_WAY));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_CHUNK);
        let count = from.read_buf(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let (bytes, due) = (buffer.split().freeze(), Instant::now() + DELAY);
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
