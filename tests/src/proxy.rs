//! A proxy between peers and a master that breaks connections: at once, or after a number of bytes.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

/// Copies bytes both ways, until it is told to break the connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    master: SocketAddr,
    /// How often all connections were broken. A connection ends when this changes.
    breaks: watch::Sender<usize>,
    /// Bytes that are still passed on, to the master and to the peer; negative: without a limit.
    left: [AtomicI64; 2],
    /// Whether bytes beyond them are dropped, and the connection stays, or it breaks.
    swallows: [AtomicBool; 2],
    /// Bytes that were dropped so, since the last cut.
    swallowed: [AtomicUsize; 2],
    /// Whether new connections are refused.
    refuses: AtomicBool,
    connections: AtomicUsize,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the peer to the master.
    ToMaster,
    /// From the master to the peer.
    ToPeer,
}

/// Both ways.
pub const WAYS: [Way; 2] = [Way::ToMaster, Way::ToPeer];

impl Proxy {
    /// Between peers that dial [`addr`](Self::addr) and the master at this address.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn to(master: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("is bound");
        let shared = Arc::new(Shared {
            master,
            breaks: watch::channel(0).0,
            left: [AtomicI64::new(-1), AtomicI64::new(-1)],
            swallows: Default::default(),
            swallowed: Default::default(),
            refuses: Default::default(),
            connections: AtomicUsize::new(0),
        });
        let of_listener = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                let Some(shared) = of_listener.upgrade() else { return };
                // Before the test, so that `cut_and_refuse` breaks the connection or it is refused.
                let breaks = shared.breaks.subscribe();
                if shared.refuses.load(Ordering::SeqCst) {
                    reset(&peer);
                    continue;
                }
                tokio::spawn(pass(shared, breaks, peer));
            }
        });
        Self { addr, shared }
    }

    /// Where peers dial.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Resets all connections. New ones work.
    pub fn cut(&self) {
        self.shared.breaks.send_modify(|breaks| *breaks += 1);
        for way in WAYS {
            self.shared.left[way as usize].store(-1, Ordering::SeqCst);
            self.shared.swallows[way as usize].store(false, Ordering::SeqCst);
            self.shared.swallowed[way as usize].store(0, Ordering::SeqCst);
        }
    }

    /// Resets all connections and refuses new ones.
    pub fn cut_and_refuse(&self) {
        self.refuse(true);
        self.cut();
    }

    /// Resets the connection once this many more bytes have gone this way. New connections work.
    pub fn cut_after(&self, way: Way, bytes: u32) {
        self.shared.swallows[way as usize].store(false, Ordering::SeqCst);
        self.shared.left[way as usize].store(bytes.into(), Ordering::SeqCst);
    }

    /// From now on, what goes this way is dropped, until the connections are [cut](Self::cut).
    pub fn swallow(&self, way: Way) {
        self.shared.swallows[way as usize].store(true, Ordering::SeqCst);
        self.shared.left[way as usize].store(0, Ordering::SeqCst);
    }

    /// How many bytes that went this way were [swallowed](Self::swallow), since the last cut.
    pub fn swallowed(&self, way: Way) -> usize {
        self.shared.swallowed[way as usize].load(Ordering::SeqCst)
    }

    /// Refuses new connections from now on, or accepts them again.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    /// How many connections have been passed on.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

async fn pass(shared: Arc<Shared>, mut breaks: watch::Receiver<usize>, mut peer: TcpStream) {
    let Ok(mut master) = TcpStream::connect(shared.master).await else { return reset(&peer) };
    shared.connections.fetch_add(1, Ordering::SeqCst);
    for stream in [&peer, &master] {
        let _ = stream.set_nodelay(true);
    }
    {
        let ((peer_read, peer_write), (master_read, master_write)) = (peer.split(), master.split());
        let both = async {
            tokio::try_join!(
                copy(&shared, Way::ToMaster, peer_read, master_write),
                copy(&shared, Way::ToPeer, master_read, peer_write)
            )
        };
        tokio::select! {
            ended = both => {
                if ended.is_ok() {
                    // Each end has closed it in order.
                    return;
                }
            }
            _ = breaks.changed() => {}
        }
    }
    reset(&peer);
    reset(&master);
}

/// Has the connection reset when it is dropped.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().expect("a socket can be reset");
}

/// Copies until the end, which it passes on.
///
/// # Errors
///
/// If the connection is to break, or has broken.
async fn copy(shared: &Shared, way: Way, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let left = &shared.left[way as usize];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let before = left.load(Ordering::SeqCst);
        let passed = if before < 0 { count } else { count.min(usize::try_from(before).unwrap_or(0)) };
        to.write_all(&buffer[..passed]).await?;
        if before >= 0 {
            left.fetch_sub(i64::try_from(passed).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
        if passed < count {
            if !shared.swallows[way as usize].load(Ordering::SeqCst) {
                left.store(-1, Ordering::SeqCst);
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            shared.swallowed[way as usize].fetch_add(count - passed, Ordering::SeqCst);
        }
    }
}
