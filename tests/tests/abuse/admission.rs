//! Peers that never come as far as to prove who they are, and make the master work or keep others out.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use distribution::{Master, MasterBuilder, Node};
use distribution_tests::{ProbeServer, Prober, line::Line, log::Log, soon, trust::client_hello};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Barrier,
    task::JoinSet,
};

/// A master with a token.
struct TokenMaster {
    master: Master,
    token: String,
    _folder: TempDir,
}

impl TokenMaster {
    async fn new(master: MasterBuilder) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let master = master.token_file(folder.path().join("token")).bind("127.0.0.1:0").await.expect("binds");
        let token = master.token().expect("has one").expose().to_owned();
        Self { master, token, _folder: folder }
    }

    fn addr(&self) -> SocketAddr {
        self.master.local_addr()
    }

    async fn let_a_node_in(&self, via: SocketAddr) -> Node {
        let node = Node::builder().serve(ProbeServer::new(Prober)).token(self.token.as_str());
        soon("a node", node.spawn(via)).await.expect("is let in")
    }
}

/// Connects from an address of loopback.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("is loopback too");
    socket.connect(to).await.expect("connects")
}

/// Has the master do its part of a TLS handshake, and then closes. Returns the first byte that the master sent, if any.
async fn begin_and_close(from: Ipv4Addr, to: SocketAddr) -> Option<u8> {
    let mut stream = connect(from, to).await;
    stream.write_all(&client_hello()).await.ok()?;
    let mut kind = [0];
    soon("the master's part", stream.read_exact(&mut kind)).await.ok()?;
    Some(kind[0])
}

/// The first byte of a TLS record that continues a handshake.
const HANDSHAKE: u8 = 22;

const OWN: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[tokio::test]
async fn a_peer_that_has_the_master_sign_and_closes_has_to_wait() {
    let secure = TokenMaster::new(Master::builder().max_handshake_failures(2)).await;
    let mut times = Vec::new();
    for number in 1..=5 {
        let started = Instant::now();
        assert_eq!(begin_and_close(OWN, secure.addr()).await, Some(HANDSHAKE));
        times.push(started.elapsed());
        soon("it to be noticed", async {
            while secure.master.stats().turned_away < number {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // 100, 200 and 400 ms; a machine that is busy only makes it more.
    let least = [0, 0, 100, 200, 400].map(Duration::from_millis);
    assert!(times.iter().zip(least).all(|(time, least)| *time >= least), "{times:?}");
    // With them a node waits that has the same address, and then it is in.
    let _node = secure.let_a_node_in(secure.addr()).await;
}

#[tokio::test]
async fn a_connection_that_sends_nothing_causes_no_delay() {
    let secure = TokenMaster::new(Master::builder().max_handshake_failures(0)).await;
    // As a load balancer does that looks whether the port is open.
    for number in 1..=20 {
        drop(connect(OWN, secure.addr()).await);
        soon("it to be noticed", async {
            while secure.master.stats().turned_away < number {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let started = Instant::now();
    assert_eq!(begin_and_close(OWN, secure.addr()).await, Some(HANDSHAKE));
    // Each that counted would have made it wait, these all together for 5 s.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn many_failed_handshakes_are_worth_a_few_lines() {
    let (log, _guard) = Log::gather();
    let secure = TokenMaster::new(Master::builder().max_handshake_failures(10_000)).await;
    for _ in 0..100 {
        assert_eq!(begin_and_close(OWN, secure.addr()).await, Some(HANDSHAKE));
    }
    for _ in 0..100 {
        let mut stream = connect(OWN, secure.addr()).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sends");
        let _ = soon("the end", stream.read_to_end(&mut Vec::new())).await;
    }
    soon("all to be turned away", async {
        while secure.master.stats().turned_away < 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let text = log.text();
    let lines: Vec<_> =
        text.lines().filter(|line| line.contains("WARN") && line.contains("closed a connection")).collect();
    let about = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    // Five of each kind, and one more for each ten seconds that this takes.
    assert!(about("does not speak TLS") >= 5 && lines.len() >= 10 && lines.len() < 40, "{lines:#?}");
}

#[tokio::test]
async fn the_rate_of_handshakes_is_limited_over_all_addresses_and_a_part_is_reserved_for_known_ones() {
    const PER_SECOND: u32 = 8;
    const UNKNOWN: u8 = 60;
    let secure = TokenMaster::new(
        Master::builder().max_handshakes_per_second(PER_SECOND).handshake_timeout(Duration::from_secs(60)),
    )
    .await;
    // From now on its address is known.
    drop(secure.let_a_node_in(secure.addr()).await);
    let all_wait = Arc::new(Barrier::new(usize::from(UNKNOWN) + 1));
    let started = Instant::now();
    let mut unknown = JoinSet::new();
    for number in 0..UNKNOWN {
        let (addr, all_wait) = (secure.addr(), Arc::clone(&all_wait));
        unknown.spawn(async move {
            let mut stream = connect(Ipv4Addr::new(127, 0, 1, number + 1), addr).await;
            stream.write_all(&client_hello()).await.expect("sends");
            all_wait.wait().await;
            let mut kind = [0];
            soon("the master's part", stream.read_exact(&mut kind)).await.expect("comes");
            // Kept open, so that it is not a failure that makes it late.
            (stream, kind[0])
        });
    }
    all_wait.wait().await;
    let _node = secure.let_a_node_in(secure.addr()).await;
    let mut served = 0;
    while let Some(peer) = unknown.try_join_next() {
        assert_eq!(peer.expect("runs").1, HANDSHAKE);
        served += 1;
    }
    assert!(served < usize::from(UNKNOWN), "the node did not have to wait for all of them");
    while let Some(peer) = unknown.join_next().await {
        assert_eq!(peer.expect("runs").1, HANDSHAKE);
    }
    // Addresses that are not known have six a second, and a burst of six.
    assert!(started.elapsed() >= Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn silent_connections_keep_no_distant_node_out() {
    // Few, so that it is full soon; the node needs some 0.6 s.
    let master =
        Master::builder().max_handshakes(16).max_handshakes_per_address(4).handshake_timeout(Duration::from_secs(60));
    let secure = TokenMaster::new(master).await;
    let line = Line::to(secure.addr(), Duration::from_millis(120)).await;
    let mut flood = JoinSet::new();
    for attacker in 2..10 {
        let addr = secure.addr();
        flood.spawn(async move {
            let mut held = Vec::new();
            for stream in 0.. {
                held.push(connect(Ipv4Addr::new(127, 0, 0, attacker), addr).await);
                if stream % 5 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // Those of the beginning were refused or evicted long ago.
                held.drain(..held.len().saturating_sub(8));
            }
        });
    }
    soon("the flood to be refused", async {
        while secure.master.stats().turned_away < 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let _node = secure.let_a_node_in(line.addr()).await;
    assert!(!flood.is_empty() && secure.master.stats().turned_away > 100);
    flood.shutdown().await;
}

#[tokio::test]
async fn a_limit_of_zero_is_an_error() {
    let refused = async |master: MasterBuilder, name: &str| {
        let error = master.bind("127.0.0.1:0").await.expect_err("cannot be").to_string();
        assert!(error.contains(name) && error.contains("at least 1"), "{error}");
    };
    refused(Master::builder().max_handshakes(0), "max_handshakes").await;
    refused(Master::builder().max_handshakes_per_address(0), "max_handshakes_per_address").await;
    refused(Master::builder().max_handshakes_per_second(0), "max_handshakes_per_second").await;
}
