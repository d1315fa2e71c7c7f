//! The driver: starts the processes, releases calls, injects faults, and keeps its own record of what it did.

use std::{
    collections::HashSet,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::ChildStdout,
    signal::unix::{SignalKind, signal},
};

use super::{
    Options,
    call_plan::keys_for,
    child::Child,
    fault_plan::{self, Fault, PlannedFault},
    history::{Generation, History, InjectedFault},
    ledger::{self, MasterEntry, MasterEvent, Reason, now},
    master::{Order, Said},
    node_process::{Found, NodeProcess},
    report,
    rules::longest_life,
};

/// How often the driver looks at its processes.
const LOOK: Duration = Duration::from_millis(5);

/// How often a line says how far the run is.
const NEWS: Duration = Duration::from_secs(5);

/// A freeze in heartbeats: from just over the silence limit, which is six, to beyond the second window
/// that the master waits when most nodes fall silent together.
const FREEZE: std::ops::Range<f64> = 6.5..16.0;

/// The longest that it takes until a killed process is replaced.
const VACANT: Duration = Duration::from_millis(200);

/// Nodes that are left alone, so that a call always has somewhere to go.
const SPARED: u32 = 2;

/// Ports from which one is chosen. Not where the system takes those of outgoing connections from: while
/// the master is down, a node that dials could be given the master's own port, and would keep it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What was done, as it was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) kills: u32,
    pub(super) freezes: u32,
    pub(super) terminates: u32,
    pub(super) master_kills: u32,
    /// Freezes that the master took for a death.
    pub(super) silenced: u32,
}

pub(super) async fn run(options: Options) -> io::Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    news(&format!("seed {seed}"));
    let started = Instant::now();
    let folder = options.folder.clone();
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join(format!("chaos-{}", std::process::id())));
    std::fs::create_dir_all(&folder)?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut driver = Driver::new(options.clone(), seed, folder.clone())?;
    let ended = tokio::select! {
        ended = driver.run() => ended.map(|()| true),
        _ = tokio::signal::ctrl_c() => Ok(false),
        _ = terminate.recv() => Ok(false),
        _ = hang_up.recv() => Ok(false),
    };
    driver.clear().await;
    if !ended? {
        news("interrupted; nothing was checked");
        if options.folder.is_none() {
            std::fs::remove_dir_all(&folder)?;
        }
        return Ok(ExitCode::from(130));
    }
    let count = driver.count;
    let findings = driver.into_history()?.check();
    for (what, findings) in [
        ("lost", &findings.lost),
        ("unexpected", &findings.unexpected),
        ("started more than once", &findings.duplicates),
    ] {
        for finding in findings.iter().take(20) {
            news(&format!("{what}: {finding}"));
        }
    }
    if options.folder.is_none() && findings.is_clean() {
        std::fs::remove_dir_all(&folder)?;
    } else {
        news(&format!("ledgers and logs are in {}", folder.display()));
    }
    report::print(&options, seed, count, &findings, started.elapsed());
    Ok(if findings.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[allow(clippy::print_stderr, reason = "a person watches")]
fn news(text: &str) {
    eprintln!("chaos: {text}");
}

/// A master process with the pipes to it.
#[derive(Debug)]
struct Master {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    listens: bool,
    /// The keys it was ordered to call.
    given: Vec<(u64, u64)>,
    ended: u64,
    quiet: bool,
}

#[derive(Debug)]
struct Driver {
    options: Options,
    seed: u64,
    folder: PathBuf,
    rng: SmallRng,
    addr: String,
    keys: u64,
    released: u64,
    /// Released to a master that died before it made them.
    returned: Vec<(u64, u64)>,
    faults: std::vec::IntoIter<PlannedFault>,
    next: Option<PlannedFault>,
    master: Option<Master>,
    generations: Vec<Generation>,
    /// When to start a master, while there is none.
    restart_master_at: Instant,
    /// Calls that were made by masters that are dead.
    ended_before: u64,
    nodes: Vec<NodeProcess>,
    names: Vec<String>,
    injected: Vec<InjectedFault>,
    violations: Vec<String>,
    count: Count,
    moved: Instant,
}

impl Driver {
    fn new(options: Options, seed: u64, folder: PathBuf) -> io::Result<Self> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let keys = keys_for(options.calls);
        let mut faults = fault_plan::draw(&options, keys, &mut rng).into_iter();
        let next = faults.next();
        Ok(Self {
            addr: free_address()?,
            nodes: (0..options.nodes).map(NodeProcess::new).collect(),
            options,
            seed,
            folder,
            rng,
            keys,
            released: 0,
            returned: Vec::new(),
            faults,
            next,
            master: None,
            generations: Vec::new(),
            restart_master_at: Instant::now(),
            ended_before: 0,
            names: Vec::new(),
            injected: Vec::new(),
            violations: Vec::new(),
            count: Count::default(),
            moved: Instant::now(),
        })
    }

    /// Runs until all calls have ended, or nothing moves any more.
    async fn run(&mut self) -> io::Result<()> {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = Instant::now();
        let mut finishing = false;
        loop {
            tokio::select! {
                line = next_line(&mut self.master) => self.on_line(line?).await?,
                _ = looks.tick() => self.look().await?,
            }
            if told.elapsed() >= NEWS {
                told = Instant::now();
                self.tell();
            }
            // Nothing at all has happened for longer than any call may take.
            if self.moved.elapsed() > longest_life(self.heartbeat()) {
                self.violations.push(format!("the run stood still for {:?}", self.moved.elapsed()));
                return Ok(());
            }
            let Some(master) = self.master.as_mut().filter(|master| master.listens) else { continue };
            if master.quiet {
                let status = master.child.wait().await?;
                if !status.success() {
                    self.violations.push(format!("the last master ended with {status}"));
                }
                return Ok(());
            }
            if !finishing && self.next.is_none() && self.released == self.keys && self.all_well() {
                finishing = true;
                self.order(&Order::Finish).await?;
            }
        }
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.options.heartbeat_ms)
    }

    fn all_well(&mut self) -> bool {
        self.nodes.iter_mut().all(NodeProcess::is_well)
    }

    /// How many calls have ended, those that died with their master included.
    fn ended(&self) -> u64 {
        self.ended_before + self.master.as_ref().map_or(0, |master| master.ended)
    }

    fn tell(&self) {
        let Count { kills, freezes, terminates, master_kills, .. } = self.count;
        let Options { kills: all_kills, freezes: all_freezes, terminates: all_terminates, .. } = self.options;
        news(&format!(
            "{} of {} calls ended; {kills} of {all_kills} kills, {freezes} of {all_freezes} freezes, \
             {terminates} of {all_terminates} terminates, {master_kills} of {} master kills",
            self.ended(),
            self.keys,
            self.options.master_kills,
        ));
    }

    async fn on_line(&mut self, line: Option<String>) -> io::Result<()> {
        let Some(line) = line else {
            self.violations.push("the master ended by itself".to_owned());
            return self.collect_master(None).await;
        };
        self.moved = Instant::now();
        let said = serde_json::from_str(&line).map_err(|error| io::Error::other(format!("{error}: {line}")))?;
        let Some(master) = &mut self.master else { return Ok(()) };
        match said {
            Said::Listening => master.listens = true,
            Said::Progress { ended } => master.ended = ended,
            Said::Quiet { queued: 0, in_flight: 0 } => master.quiet = true,
            Said::Quiet { queued, in_flight } => {
                master.quiet = true;
                let left = format!("{queued} calls queued and {in_flight} in flight");
                self.violations.push(format!("when all had ended, the master's books showed {left}"));
            }
            Said::Joined { name } => self.set_registered(&name, true),
            Said::Gone { name, reason } => {
                self.count.silenced += u32::from(reason == Reason::Silent);
                self.set_registered(&name, false);
            }
        }
        Ok(())
    }

    fn set_registered(&mut self, name: &str, registered: bool) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name() == name) {
            node.set_registered(registered);
        }
    }

    /// Does what is due.
    async fn look(&mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            let name = node.name();
            match node.look(&self.addr, self.options.slots, &self.folder).await? {
                Found::Nothing => continue,
                Found::Started(name) => self.names.push(name),
                Found::Thawed => {
                    if let Some(injected) = self.injected.iter_mut().rev().find(|injected| injected.name == name) {
                        injected.until = Some(now());
                    }
                }
                Found::Left => {}
                Found::Wrong(what) => self.violations.push(what),
            }
            self.moved = Instant::now();
        }
        let Some(master) = &self.master else {
            if self.restart_master_at <= Instant::now() {
                self.start_master()?;
            }
            return Ok(());
        };
        if !master.listens {
            return Ok(());
        }
        for (from, to) in std::mem::take(&mut self.returned) {
            self.give(from, to).await?;
        }
        let until = self.next.map_or(self.keys, |planned| planned.released);
        if self.released < until {
            let from = std::mem::replace(&mut self.released, until);
            self.give(from, until).await?;
        }
        if let Some(planned) = self.next {
            if self.ended() >= planned.ended && self.inject(planned.fault).await? {
                self.next = self.faults.next();
                self.moved = Instant::now();
            }
        }
        Ok(())
    }

    fn start_master(&mut self) -> io::Result<()> {
        let name = format!("master-{}", self.generations.len());
        let log = std::fs::File::create(self.folder.join(format!("{name}.log")))?;
        let arguments = [
            "master",
            "--listen",
            &self.addr,
            "--name",
            &name,
            "--seed",
            &self.seed.to_string(),
            "--window",
            &self.options.window.to_string(),
            "--heartbeat-ms",
            &self.options.heartbeat_ms.to_string(),
            "--folder",
        ];
        let arguments = arguments.into_iter().map(str::to_owned).chain([self.folder.display().to_string()]);
        let mut child = Child::start(&arguments.collect::<Vec<_>>(), log)?;
        let stdout = child.take_stdout().ok_or_else(|| io::Error::other("a child has an output"))?;
        let said = BufReader::new(stdout).lines();
        self.master = Some(Master { child, said, listens: false, given: Vec::new(), ended: 0, quiet: false });
        self.generations.push(Generation { name, entries: Vec::new(), killed: None });
        self.moved = Instant::now();
        Ok(())
    }

    async fn order(&mut self, order: &Order) -> io::Result<()> {
        let Some(stdin) = self.master.as_mut().and_then(|master| master.child.stdin()) else { return Ok(()) };
        let line = serde_json::to_string(order).map_err(io::Error::other)? + "\n";
        // A master that has ended by itself shows at its output.
        match stdin.write_all(line.as_bytes()).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    async fn give(&mut self, from: u64, to: u64) -> io::Result<()> {
        if let Some(master) = &mut self.master {
            master.given.push((from, to));
        }
        self.order(&Order::Go { from, to }).await
    }

    /// Injects a fault, if there is a process for it that is alive and registered, and enough others are left. Says whether it did.
    async fn inject(&mut self, fault: Fault) -> io::Result<bool> {
        let well: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_well()).collect();
        if well.len() as u32 <= SPARED.min(self.options.nodes - 1) {
            return Ok(false);
        }
        if fault == Fault::KillMaster {
            return self.kill_master().await.map(|()| true);
        }
        let heartbeat = self.heartbeat();
        let Some(node) = well.choose(&mut self.rng).map(|node| &mut self.nodes[*node]) else { return Ok(false) };
        self.injected.push(InjectedFault { name: node.name(), fault, from: now(), until: None });
        match fault {
            Fault::Kill => {
                node.kill(VACANT.mul_f64(self.rng.random_range(0.0..1.0))).await?;
                self.count.kills += 1;
            }
            Fault::Freeze => {
                node.freeze(heartbeat.mul_f64(self.rng.random_range(FREEZE))).await?;
                self.count.freezes += 1;
            }
            Fault::Terminate => {
                node.terminate().await?;
                self.count.terminates += 1;
            }
            Fault::KillMaster => {}
        }
        Ok(true)
    }

    async fn kill_master(&mut self) -> io::Result<()> {
        let killed = now();
        if let Some(master) = &mut self.master {
            master.child.kill().await?;
        }
        self.count.master_kills += 1;
        self.collect_master(Some(killed)).await
    }

    /// Reads what a dead master has made, and takes back what it had not yet.
    async fn collect_master(&mut self, killed: Option<u64>) -> io::Result<()> {
        let Some(mut master) = self.master.take() else { return Ok(()) };
        master.child.kill().await?;
        let Some(generation) = self.generations.last_mut() else { return Ok(()) };
        generation.entries = ledger::read(&self.folder, &generation.name)?;
        generation.killed = killed;
        let made: HashSet<u64> = generation.entries.iter().filter_map(submitted).collect();
        self.ended_before += made.len() as u64;
        for key in master.given.into_iter().flat_map(|(from, to)| from..to).filter(|key| !made.contains(key)) {
            match self.returned.last_mut() {
                Some((_, to)) if *to == key => *to += 1,
                _ => self.returned.push((key, key + 1)),
            }
        }
        for node in &mut self.nodes {
            node.set_registered(false);
        }
        self.restart_master_at = Instant::now() + VACANT.mul_f64(self.rng.random_range(0.0..2.0));
        self.moved = Instant::now();
        Ok(())
    }

    /// Ends all processes.
    async fn clear(&mut self) {
        if let Some(master) = &mut self.master {
            // One that cannot be killed has ended.
            let _ = master.child.kill().await;
        }
        for node in &mut self.nodes {
            node.clear().await;
        }
    }

    /// What there is to check. For when all processes have ended.
    fn into_history(self) -> io::Result<History> {
        let heartbeat = self.heartbeat();
        let read = |mut generation: Generation| {
            if generation.entries.is_empty() {
                generation.entries = ledger::read(&self.folder, &generation.name)?;
            }
            Ok(generation)
        };
        let folder: &Path = &self.folder;
        let nodes = self.names.into_iter().map(|name| Ok((ledger::read(folder, &name)?, name)));
        Ok(History {
            seed: self.seed,
            keys: self.keys,
            heartbeat,
            masters: self.generations.into_iter().map(read).collect::<io::Result<_>>()?,
            nodes: nodes.map(|read: io::Result<_>| read.map(|(ran, name)| (name, ran))).collect::<io::Result<_>>()?,
            injected: self.injected,
            violations: self.violations,
        })
    }
}

fn submitted(entry: &MasterEntry) -> Option<u64> {
    match entry.what {
        MasterEvent::Submit { key } => Some(key),
        _ => None,
    }
}

/// What the master says next; `None` when it has ended. Waits for ever while there is none.
async fn next_line(master: &mut Option<Master>) -> io::Result<Option<String>> {
    match master {
        Some(master) if !master.quiet => master.said.next_line().await,
        _ => std::future::pending().await,
    }
}

fn free_address() -> io::Result<String> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let addr = format!("127.0.0.1:{}", rand::rng().random_range(PORTS));
        match TcpListener::bind(&addr) {
            Ok(_) => return Ok(addr),
            Err(error) => last = error,
        }
    }
    Err(last)
}
