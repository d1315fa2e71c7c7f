//! A line on which every message takes a while.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::unbounded_channel,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// A line to somewhere: what is sent arrives after half of the round trip.
#[derive(Debug)]
pub struct Line {
    addr: SocketAddr,
    // Ends with it.
    _carriers: JoinSet<()>,
}

impl Line {
    /// Makes one to this address.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub async fn to(target: SocketAddr, round_trip: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let mut carriers = JoinSet::new();
        carriers.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            connections.spawn(carry(stream, target, round_trip));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { addr, _carriers: carriers }
    }

    /// What to dial.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Carries one connection.
async fn carry(near: TcpStream, target: SocketAddr, round_trip: Duration) {
    let delay = round_trip / 2;
    // The request for a connection is on its way, and then its confirmation.
    sleep(delay).await;
    let Ok(far) = TcpStream::connect(target).await else { return };
    sleep(delay).await;
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::join!(forward(near_read, far_write, delay), forward(far_read, near_write, delay));
}

/// Carries one direction, its end included.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut receiver) = unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = [0; 4096];
        loop {
            // An error ends it as well.
            let count = from.read(&mut buffer).await.unwrap_or(0);
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() || count == 0 {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
