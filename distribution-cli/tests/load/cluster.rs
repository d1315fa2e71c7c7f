//! The cluster of the instruments: a master in a process of its own, and light nodes, which only send heartbeats.

use std::{fs, path::Path, time::Duration};

use distribution::fuzzing;
use distribution_tests::process::Process;
use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

/// How often a light node is heard: half of what a master asks for by default.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Connections that register at the same time; a master allows 32 from one address.
const REGISTERING: usize = 16;

/// Ticks of the processor's clock in a second, as the system counts them for programs.
const TICKS: u64 = 100;

/// A master with its page.
pub(crate) struct Master {
    process: Process,
    pub(crate) addr: String,
    page: String,
}

impl Master {
    pub(crate) async fn start() -> Self {
        let arguments = ["master", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn"];
        let mut process = Process::start(Path::new(env!("CARGO_BIN_EXE_distribution")), &arguments);
        let line = process.line_with("listening on ").await;
        let addr = line["listening on ".len()..].to_owned();
        let line = process.line_with("the page: http://").await;
        let page = line["the page: http://".len()..].trim_end_matches('/').to_owned();
        Self { process, addr, page }
    }

    /// Where its page is: an address and a port.
    pub(crate) fn page(&self) -> &str {
        &self.page
    }

    /// What its process has used so far, and holds.
    pub(crate) fn usage(&self) -> Usage {
        let folder = format!("/proc/{}", self.process.id());
        let stat = fs::read_to_string(format!("{folder}/stat")).expect("it runs");
        // The name in parentheses may have blanks.
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("has a name").1.split(' ').collect();
        let ticks = [11, 12].map(|at: usize| fields[at].parse::<u64>().expect("a number")).iter().sum::<u64>();
        let status = fs::read_to_string(format!("{folder}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("is there");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        Usage { cpu: Duration::from_millis(ticks * 1000 / TICKS), memory: kibibytes << 10 }
    }
}

/// What a process has used.
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Bytes that it holds.
    pub(crate) memory: u64,
}

impl Usage {
    pub(crate) fn since(self, before: &Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), memory: self.memory }
    }
}

/// Nodes that only send heartbeats. They end when this is dropped.
pub(crate) struct LightNodes {
    playing: JoinSet<()>,
    count: usize,
}

impl LightNodes {
    /// Registers this many nodes. Each serves this many methods of one of some services.
    pub(crate) async fn register(master: &str, count: usize, services: usize, methods: usize) -> Self {
        // Each handshake is put together in a runtime of its own.
        let handshakes =
            move || (0..count).map(|number| handshake(number, number % services, methods)).collect::<Vec<_>>();
        let handshakes = tokio::task::spawn_blocking(handshakes).await.expect("can be put together");
        let streams: Vec<TcpStream> = stream::iter(handshakes)
            .map(|handshake| register(master, handshake))
            .buffer_unordered(REGISTERING)
            .collect()
            .await;
        let mut playing = JoinSet::new();
        for (number, stream) in (0..).zip(streams) {
            // Spread over the time between two, as those of nodes are that came one by one.
            playing.spawn(play(stream, Instant::now() + HEARTBEAT * number / count.max(1) as u32));
        }
        Self { playing, count }
    }

    /// Fails if one of them has lost its master.
    pub(crate) fn are_there(mut self) {
        let ended = std::iter::from_fn(|| self.playing.try_join_next()).count();
        assert_eq!(ended, 0, "of {} light nodes {ended} have lost their master", self.count);
    }
}

/// All that a light node sends before the master's reply.
fn handshake(number: usize, service: usize, methods: usize) -> Vec<u8> {
    const SIGNATURE: &str = "fn(u64) -> u64";
    let service = format!("Service{service}");
    let offer = |method: usize| {
        let name = format!("method_{method}");
        let id = fuzzing::method_id(&service, 1, &name, SIGNATURE, 7);
        (id, service.clone(), 1, name, SIGNATURE.to_owned(), 7, Vec::new(), [true, false])
    };
    // Slots, busy slots, async calls at once.
    let numbers = [1, 0, 1024];
    let offers = (0..methods).map(offer).collect();
    let registration = fuzzing::Registration::new(format!("light-{number}"), numbers, 64 << 20, Vec::new(), offers);
    // Each plays a process of its own.
    registration.of_process(1 + number as u128).handshake()
}

/// Connects and registers.
async fn register(master: &str, handshake: Vec<u8>) -> TcpStream {
    let mut stream = TcpStream::connect(master).await.expect("connects");
    stream.set_nodelay(true).expect("is set");
    stream.write_all(&handshake).await.expect("is sent");
    let mut preface = [0; 32];
    stream.read_exact(&mut preface).await.expect("a preface");
    let length = stream.read_u32_le().await.expect("a length") as usize;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer.first(), Some(&0), "the master refused a light node: {}", answer.escape_ascii());
    stream
}

/// Sends heartbeats, as long as the master keeps the connection.
async fn play(mut stream: TcpStream, first_beat: Instant) {
    // Nothing runs, waits, is asynchronous, stale or blocked.
    const BEAT: [u8; 10] = [5, 0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut beats = interval_at(first_beat, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ignored = [0; 1024];
    loop {
        tokio::select! {
            read = stream.read(&mut ignored) => {
                if read.unwrap_or(0) == 0 {
                    return;
                }
            }
            _ = beats.tick() => {
                if stream.write_all(&BEAT).await.is_err() {
                    return;
                }
            }
        }
    }
}
