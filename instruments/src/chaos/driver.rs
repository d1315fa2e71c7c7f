//! The driver: starts the processes, releases calls, injects faults, and keeps its own record of what it did.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use distribution_tests::proxy::{Proxy, WAYS};
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    Options,
    call_maker::{Order, Said},
    call_plan::keys_for,
    fault_plan::{self, Fault, PlannedFault},
    history::{History, InjectedFault},
    ledger::{self, Reason, now},
    node_process::{Found, NodeProcess},
    post::{Line, Post, Role},
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

/// A reset that does not come at once comes after at most this many bytes: amid a message.
const RESET_WITHIN: u32 = 20_000;

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
    pub(super) caller_kills: u32,
    pub(super) resets: u32,
    /// Freezes that the master took for a death.
    pub(super) silenced: u32,
}

pub(super) async fn run(options: Options) -> io::Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    news(&format!("seed {seed}"));
    if options.callers == 0 && options.caller_kills > 0 {
        return Err(io::Error::other("--caller-kills needs --callers: there is no caller to kill"));
    }
    let started = Instant::now();
    let folder = options.folder.clone();
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join(format!("chaos-{}", std::process::id())));
    std::fs::create_dir_all(&folder)?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut driver = Driver::new(options.clone(), seed, folder.clone()).await?;
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

/// How far the end of the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Calls are released.
    Calling,
    /// All are released, and the callers were told to finish.
    Finishing,
    /// They have, and the master was told.
    Closing,
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
    /// Released to a process that died before it made them.
    returned: Vec<(u64, u64)>,
    faults: std::vec::IntoIter<PlannedFault>,
    next: Option<PlannedFault>,
    master: Post,
    callers: Vec<Post>,
    lines: (UnboundedSender<Line>, UnboundedReceiver<Line>),
    /// What nodes, and then callers, dial in place of the master, if there are to be resets.
    proxies: Vec<Proxy>,
    nodes: Vec<NodeProcess>,
    names: Vec<String>,
    injected: Vec<InjectedFault>,
    violations: Vec<String>,
    count: Count,
    phase: Phase,
    moved: Instant,
}

impl Driver {
    async fn new(options: Options, seed: u64, folder: PathBuf) -> io::Result<Self> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let keys = keys_for(options.all_calls());
        let mut faults = fault_plan::draw(&options, keys, &mut rng).into_iter();
        let next = faults.next();
        let addr = free_address()?;
        let mut proxies = Vec::new();
        if options.resets > 0 {
            for _ in 0..options.nodes + options.callers {
                proxies.push(Proxy::to(addr).await);
            }
        }
        Ok(Self {
            addr: addr.to_string(),
            nodes: (0..options.nodes).map(NodeProcess::new).collect(),
            callers: (0..options.callers as usize).map(|number| Post::new(Role::Caller(number))).collect(),
            options,
            seed,
            folder,
            rng,
            keys,
            released: 0,
            returned: Vec::new(),
            faults,
            next,
            master: Post::new(Role::Master),
            lines: unbounded_channel(),
            proxies,
            names: Vec::new(),
            injected: Vec::new(),
            violations: Vec::new(),
            count: Count::default(),
            phase: Phase::Calling,
            moved: Instant::now(),
        })
    }

    /// Runs until all calls have ended, or nothing moves any more.
    async fn run(&mut self) -> io::Result<()> {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = Instant::now();
        loop {
            tokio::select! {
                Some(line) = self.lines.1.recv() => self.on_line(line).await?,
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
            if self.finish().await? {
                return Ok(());
            }
        }
    }

    /// Once all calls are released and all faults injected, has first the callers finish, then the master.
    /// Says whether all is over.
    async fn finish(&mut self) -> io::Result<bool> {
        let is_released = self.next.is_none() && self.released == self.keys && self.all_well();
        match self.phase {
            Phase::Calling if is_released => {
                self.phase = Phase::Finishing;
                for caller in &mut self.callers {
                    caller.order(&Order::Finish).await?;
                }
            }
            Phase::Finishing if self.callers.iter().all(Post::is_quiet) => {
                self.phase = Phase::Closing;
                for caller in &mut self.callers {
                    self.violations.extend(caller.end().await?);
                }
                self.master.order(&Order::Finish).await?;
            }
            Phase::Closing if self.master.is_quiet() => {
                self.violations.extend(self.master.end().await?);
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.options.heartbeat_ms)
    }

    fn all_well(&mut self) -> bool {
        self.returned.is_empty()
            && self.master.is_ready()
            && self.callers.iter().all(Post::is_ready)
            && self.nodes.iter_mut().all(NodeProcess::is_well)
    }

    /// Where calls are made: by the callers, or without any by the master.
    fn makers(&mut self) -> &mut [Post] {
        if self.callers.is_empty() { std::slice::from_mut(&mut self.master) } else { &mut self.callers }
    }

    /// How many calls have ended, those that died with their caller included.
    fn ended(&self) -> u64 {
        self.callers.iter().chain([&self.master]).map(Post::ended).sum()
    }

    fn tell(&self) {
        let Count { kills, freezes, terminates, master_kills, caller_kills, resets, .. } = self.count;
        let all = &self.options;
        news(&format!(
            "{} of {} calls ended; {kills} of {} kills, {freezes} of {} freezes, {terminates} of {} terminates, \
             {master_kills} of {} master kills, {caller_kills} of {} caller kills, {resets} of {} resets",
            self.ended(),
            self.keys,
            all.kills,
            all.freezes,
            all.terminates,
            all.master_kills,
            all.caller_kills,
            all.resets,
        ));
    }

    fn post(&mut self, role: Role) -> &mut Post {
        match role {
            Role::Master => &mut self.master,
            Role::Caller(number) => &mut self.callers[number],
        }
    }

    async fn on_line(&mut self, Line { role, start, text }: Line) -> io::Result<()> {
        if !self.post(role).heeds(start) {
            return Ok(());
        }
        self.moved = Instant::now();
        let Some(text) = text else {
            self.violations.push(format!("{role:?} ended by itself"));
            let folder = self.folder.clone();
            let returned = self.post(role).collect(None, VACANT, &folder).await?;
            self.on_ended(role, returned);
            return Ok(());
        };
        let said = serde_json::from_str(&text).map_err(|error| io::Error::other(format!("{error}: {text}")))?;
        match said {
            Said::Ready => self.post(role).on_ready(),
            Said::Progress { ended } => self.post(role).on_progress(ended),
            Said::Quiet { queued, in_flight } => {
                self.post(role).on_quiet();
                if (queued, in_flight) != (0, 0) {
                    let left = format!("{queued} calls queued and {in_flight} in flight");
                    self.violations.push(format!("when all had ended, the master's books showed {left}"));
                }
            }
            Said::Joined { name } => self.set_registered(&name, true),
            Said::Gone { name, reason } => {
                self.count.silenced += u32::from(reason == Reason::Silent);
                self.set_registered(&name, false);
            }
        }
        Ok(())
    }

    /// The process in a post has ended, with these keys not called.
    fn on_ended(&mut self, role: Role, returned: Vec<(u64, u64)>) {
        self.returned.extend(returned);
        if role == Role::Master {
            for node in &mut self.nodes {
                node.set_registered(false);
            }
        }
        self.moved = Instant::now();
    }

    fn set_registered(&mut self, name: &str, registered: bool) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name() == name) {
            node.set_registered(registered);
        }
    }

    /// What the node, or (counted behind them) the caller, with this number dials.
    fn dialled(&self, number: usize) -> String {
        self.proxies.get(number).map_or_else(|| self.addr.clone(), |proxy| proxy.addr().to_string())
    }

    /// Does what is due.
    async fn look(&mut self) -> io::Result<()> {
        for number in 0..self.nodes.len() {
            let dialled = self.dialled(number);
            let node = &mut self.nodes[number];
            let name = node.name();
            match node.look(&dialled, self.options.slots, &self.folder).await? {
                Found::Nothing => continue,
                Found::Started(name) => self.names.push(name),
                Found::Thawed => {
                    let mut injected = self.injected.iter_mut().rev();
                    if let Some(injected) =
                        injected.find(|injected| injected.name == name && injected.fault == Fault::Freeze)
                    {
                        injected.until = Some(now());
                    }
                }
                Found::Left => {}
                Found::Wrong(what) => self.violations.push(what),
            }
            self.moved = Instant::now();
        }
        let addresses = (0..self.callers.len()).map(|number| self.dialled(self.nodes.len() + number));
        let addresses: Vec<String> = [self.addr.clone()].into_iter().chain(addresses).collect();
        for (post, addr) in [&mut self.master].into_iter().chain(&mut self.callers).zip(addresses) {
            if post.start_if_due(&self.options, self.seed, &addr, &self.folder, &self.lines.0)? {
                self.moved = Instant::now();
            }
        }
        if self.phase != Phase::Calling || !self.makers().iter().any(|maker| maker.is_ready()) {
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

    /// Divides these keys among all that can make calls at the moment.
    async fn give(&mut self, from: u64, to: u64) -> io::Result<()> {
        let ready: Vec<&mut Post> = self.makers().iter_mut().filter(|maker| maker.is_ready()).collect();
        let parts = ready.len() as u64;
        for (maker, part) in ready.into_iter().zip(0..) {
            let until = |part: u64| from + (to - from) * part / parts;
            if until(part) < until(part + 1) {
                maker.give(until(part), until(part + 1)).await?;
            }
        }
        Ok(())
    }

    /// Injects a fault, if there is a process for it that is alive and registered, and enough others are left. Says whether it did.
    async fn inject(&mut self, fault: Fault) -> io::Result<bool> {
        let well: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_well()).collect();
        let spares = well.len() as u32 > SPARED.min(self.options.nodes - 1);
        let heartbeat = self.heartbeat();
        match fault {
            Fault::KillMaster => {
                if !spares || !self.master.is_ready() {
                    return Ok(false);
                }
                let empty = VACANT.mul_f64(self.rng.random_range(0.0..2.0));
                let returned = self.master.kill(empty, &self.folder).await?;
                self.on_ended(Role::Master, returned);
                self.count.master_kills += 1;
                return Ok(true);
            }
            Fault::KillCaller => {
                let ready: Vec<usize> = (0..self.callers.len()).filter(|at| self.callers[*at].is_ready()).collect();
                let Some(at) = ready.choose(&mut self.rng).copied() else { return Ok(false) };
                let empty = VACANT.mul_f64(self.rng.random_range(0.0..2.0));
                let returned = self.callers[at].kill(empty, &self.folder).await?;
                self.on_ended(Role::Caller(at), returned);
                self.count.caller_kills += 1;
                return Ok(true);
            }
            Fault::Reset => return Ok(self.reset(well)),
            Fault::Kill | Fault::Freeze | Fault::Terminate => {}
        }
        let Some(node) = well.choose(&mut self.rng).filter(|_| spares).map(|node| &mut self.nodes[*node]) else {
            return Ok(false);
        };
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
            Fault::KillMaster | Fault::KillCaller | Fault::Reset => {}
        }
        Ok(true)
    }

    /// Resets the connection of a node or a caller that has one: at once, or amid a message that comes. Says whether it did.
    fn reset(&mut self, well: Vec<usize>) -> bool {
        let ready = (0..self.callers.len()).filter(|number| self.callers[*number].is_ready());
        let places: Vec<usize> = well.into_iter().chain(ready.map(|number| self.nodes.len() + number)).collect();
        let Some(place) = places.choose(&mut self.rng).copied() else { return false };
        let at_once = self.rng.random_bool(0.5);
        let name = match self.nodes.get(place) {
            Some(node) => node.name(),
            None => self.callers[place - self.nodes.len()].name(),
        };
        let from = now();
        self.injected.push(InjectedFault { name, fault: Fault::Reset, from, until: at_once.then_some(from) });
        match WAYS.choose(&mut self.rng) {
            Some(way) if !at_once => self.proxies[place].cut_after(*way, self.rng.random_range(0..RESET_WITHIN)),
            _ => self.proxies[place].cut(),
        }
        self.count.resets += 1;
        true
    }

    /// Ends all processes.
    async fn clear(&mut self) {
        for post in self.callers.iter_mut().chain([&mut self.master]) {
            post.clear().await;
        }
        for node in &mut self.nodes {
            node.clear().await;
        }
    }

    /// What there is to check. For when all processes have ended.
    fn into_history(self) -> io::Result<History> {
        let heartbeat = self.heartbeat();
        let folder: &Path = &self.folder;
        let nodes = self.names.into_iter().map(|name| Ok((ledger::read(folder, &name)?, name)));
        let callers: Vec<_> =
            self.callers.into_iter().map(|post| post.into_generations(folder)).collect::<io::Result<_>>()?;
        Ok(History {
            seed: self.seed,
            keys: self.keys,
            heartbeat,
            masters: self.master.into_generations(folder)?,
            callers: callers.into_iter().flatten().collect(),
            nodes: nodes.map(|read: io::Result<_>| read.map(|(ran, name)| (name, ran))).collect::<io::Result<_>>()?,
            injected: self.injected,
            violations: self.violations,
        })
    }
}

fn free_address() -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let addr = SocketAddr::from(([127, 0, 0, 1], rand::rng().random_range(PORTS)));
        match TcpListener::bind(addr) {
            Ok(_) => return Ok(addr),
            Err(error) => last = error,
        }
    }
    Err(last)
}
