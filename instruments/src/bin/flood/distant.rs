//! A node at a distance that registers while others keep the master's port busy: how long does it take?

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use distribution::{Master, Node};
use distribution_tests::{ProbeServer, Prober, line::Line, process::Process, trust::client_hello};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{interval, sleep, timeout},
};

/// What the master is flooded with, and what it must do all the same.
#[derive(Args)]
pub(crate) struct Options {
    /// Connections a second, from all addresses together.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,

    /// Addresses that they come from; of IPv6 each has a /64 of its own.
    #[arg(long, default_value_t = 8)]
    addresses: u8,

    /// Milliseconds of a round trip between node and master.
    #[arg(long, default_value_t = 120)]
    round_trip_ms: u64,

    /// Seconds within which the node must be registered.
    #[arg(long, default_value_t = 3)]
    within: u64,

    /// How often each flood is tried.
    #[arg(long, default_value_t = 3)]
    trials: u32,

    /// In a network namespace that has the addresses of IPv6.
    #[arg(long, hide = true)]
    inside: bool,
}

/// What a connection of the flood does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Nothing.
    Silent,
    /// It sends a ClientHello, and closes once the master has done its part.
    Handshake,
}

/// Where the addresses are.
#[derive(Clone, Copy, Debug)]
enum Spread {
    /// In one network, a /24 or a /48.
    OneNetwork,
    /// In a network each.
    Networks,
}

/// Runs all floods: of IPv4 here, of IPv6 in a network namespace where one can be made.
pub(crate) async fn run(options: Options) -> ExitCode {
    let mut holds = true;
    for spread in [Spread::OneNetwork, Spread::Networks] {
        for kind in [Kind::Silent, Kind::Handshake] {
            holds &= flood(&options, kind, spread).await;
        }
    }
    if !options.inside {
        holds &= over_ipv6(&options).await;
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The address that the flood has this number of.
fn source(options: &Options, spread: Spread, number: u8) -> IpAddr {
    match (options.inside, spread) {
        (false, Spread::OneNetwork) => [127, 1, 0, number + 1].into(),
        (false, Spread::Networks) => [127, 1, number + 1, 1].into(),
        (true, Spread::OneNetwork) => [0xfd00, 0, 0xffff, u16::from(number) + 1, 0, 0, 0, 1].into(),
        (true, Spread::Networks) => [0xfd00, 0, u16::from(number) + 1, 0, 0, 0, 0, 1].into(),
    }
}

/// Runs the floods again where there are addresses of IPv6. Says whether they held; a machine where this cannot be is
/// told so.
async fn over_ipv6(options: &Options) -> bool {
    let inside = Options { inside: true, ..*options };
    let mut script = "ip link set lo up\n".to_owned();
    for spread in [Spread::OneNetwork, Spread::Networks] {
        for number in 0..options.addresses {
            script += &format!("ip -6 addr add {}/64 dev lo nodad\n", source(&inside, spread, number));
        }
    }
    let Options { rate, addresses, round_trip_ms, within, trials, .. } = inside;
    script += &format!(
        "echo ready\nexec \"$0\" distant --inside --rate {rate} --addresses {addresses} --round-trip-ms {round_trip_ms} \
         --within {within} --trials {trials}\n"
    );
    let program = std::env::current_exe().expect("a program has a path");
    let program = program.to_str().expect("a path in UTF-8");
    let mut process = Process::start(Path::new("unshare"), &["--net", "sh", "-e", "-c", &script, program]);
    let mut is_ready = false;
    while let Some(line) = process.line().await {
        is_ready |= line == "ready";
        if line.starts_with('{') {
            println!("{line}");
        }
    }
    if !is_ready {
        println!("no flood over IPv6: this needs root and network namespaces: {}", process.log().await.trim());
        return true;
    }
    process.ended().await.success()
}

/// Has a node register under one flood, a few times. Prints how it went, and says whether that is well.
async fn flood(options: &Options, kind: Kind, spread: Spread) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = if options.inside { "[::1]:0" } else { "127.0.0.1:0" };
    let mut times = Vec::new();
    let (mut turned_away, mut served, mut lines, mut lasted) = (0, 0, 0, 0.0);
    for trial in 0..options.trials {
        let began = (Instant::now(), lines_of_log());
        if options.inside {
            // For the one outside, who takes silence for a hang.
            println!("trial {trial}");
        }
        let master = Master::builder().token_file(folder.path().join(format!("token-{trial}"))).bind(listen).await;
        let master = master.expect("binds");
        let token = master.token().expect("there is one").expose().to_owned();
        let line = Line::to(master.local_addr(), Duration::from_millis(options.round_trip_ms)).await;
        let mut process = start(options, kind, spread, master.local_addr());
        // Until all places are taken.
        sleep(Duration::from_secs(2)).await;
        let dialled = Instant::now();
        let node = Node::builder().serve(ProbeServer::new(Prober)).token(token).spawn(line.addr());
        let registered = timeout(Duration::from_secs(30), node).await;
        times.push(registered.map_or(f64::INFINITY, |node| {
            drop(node.expect("registers"));
            dialled.elapsed().as_secs_f64()
        }));
        sleep(Duration::from_secs(2)).await;
        process.kill().await;
        let counts = process.rest().await;
        served += counts.iter().rev().find_map(|count| count.parse::<u64>().ok()).unwrap_or(0);
        turned_away += master.stats().turned_away;
        lines += lines_of_log() - began.1;
        lasted += began.0.elapsed().as_secs_f64();
    }
    let version = if options.inside { "IPv6" } else { "IPv4" };
    let holds = times.iter().all(|time| *time <= options.within as f64);
    println!(
        "{{\"flood\": \"{kind:?} {version} {spread:?}\", \"registered_s\": {times:.2?}, \"served_handshakes_per_s\": {:.0}, \
         \"turned_away_per_s\": {:.0}, \"warnings\": {lines}, \"holds\": {holds}}}",
        served as f64 / lasted,
        turned_away as f64 / lasted,
    );
    holds
}

fn start(options: &Options, kind: Kind, spread: Spread, master: SocketAddr) -> Process {
    let program = std::env::current_exe().expect("a program has a path");
    let kind = kind.to_possible_value().expect("none is skipped");
    let (master, rate) = (master.to_string(), options.rate.to_string());
    let sources: Vec<_> = (0..options.addresses).map(|number| source(options, spread, number).to_string()).collect();
    let mut arguments = vec!["attackers", &master, kind.get_name(), &rate];
    arguments.extend(sources.iter().map(String::as_str));
    Process::start(&program, &arguments)
}

/// Warnings that were logged so far in this process.
static LINES: AtomicU64 = AtomicU64::new(0);

fn lines_of_log() -> u64 {
    LINES.load(Ordering::Relaxed)
}

/// Counts warnings from now on.
pub(crate) fn count_warnings() {
    /// Counts lines and drops them.
    struct Count;
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LINES.fetch_add(1, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(|| Count)
        .init();
}

/// Connects from these addresses in turn until killed, and prints each 100 ms how many handshakes the master has done its
/// part of.
pub(crate) async fn attack(master: SocketAddr, kind: Kind, rate: u32, sources: Vec<IpAddr>) {
    let served = Arc::new(AtomicU64::new(0));
    let hello: Arc<[u8]> = client_hello().into();
    let mut connections = JoinSet::new();
    let mut ticks = interval(Duration::from_millis(1));
    let (began, mut count) = (Instant::now(), 0_u64);
    let mut printed = Instant::now();
    loop {
        ticks.tick().await;
        while (count as f64) < began.elapsed().as_secs_f64() * f64::from(rate) {
            let source = sources[count as usize % sources.len()];
            connections.spawn(connection(source, master, kind, Arc::clone(&hello), Arc::clone(&served)));
            count += 1;
        }
        while connections.try_join_next().is_some() {}
        if printed.elapsed() > Duration::from_millis(100) {
            println!("{}", served.load(Ordering::Relaxed));
            printed = Instant::now();
        }
    }
}

async fn connection(source: IpAddr, master: SocketAddr, kind: Kind, hello: Arc<[u8]>, served: Arc<AtomicU64>) {
    let connected: std::io::Result<TcpStream> = async {
        let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind((source, 0).into())?;
        socket.connect(master).await
    }
    .await;
    let Ok(mut stream) = connected else { return };
    match kind {
        Kind::Silent => drop(stream.read_to_end(&mut Vec::new()).await),
        Kind::Handshake => {
            let mut first = [0];
            let answered = stream.write_all(&hello).await.is_ok() && stream.read_exact(&mut first).await.is_ok();
            // A record of the handshake, and no alert.
            if answered && first[0] == 22 {
                served.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
