//! Where one process after another is the master, or one of the callers.

use std::{
    collections::HashSet,
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::mpsc::UnboundedSender,
};

use super::{
    Options,
    call_maker::Order,
    child::Child,
    history::Generation,
    ledger::{self, MasterEntry, MasterEvent, now},
};

/// Which post it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Caller(usize),
}

/// What a process has printed; `None` at the end of its output.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) role: Role,
    /// Which process in this post it was, from 1.
    pub(super) start: usize,
    pub(super) text: Option<String>,
}

/// A post. Each process in it has a name and a ledger of its own.
#[derive(Debug)]
pub(super) struct Post {
    role: Role,
    process: Option<Process>,
    pub(super) generations: Vec<Generation>,
    /// When to start a process, while there is none.
    restart_at: Instant,
    /// Calls that were made by processes that are dead.
    ended_before: u64,
}

#[derive(Debug)]
struct Process {
    child: Child,
    is_ready: bool,
    /// The keys it was ordered to call.
    given: Vec<(u64, u64)>,
    ended: u64,
    is_quiet: bool,
}

impl Post {
    pub(super) fn new(role: Role) -> Self {
        Self { role, process: None, generations: Vec::new(), restart_at: Instant::now(), ended_before: 0 }
    }

    /// Starts a process if it is due, and says whether it did.
    pub(super) fn start_if_due(
        &mut self,
        options: &Options,
        seed: u64,
        addr: &str,
        folder: &Path,
        lines: &UnboundedSender<Line>,
    ) -> io::Result<bool> {
        if self.process.is_some() || Instant::now() < self.restart_at {
            return Ok(false);
        }
        let start = self.generations.len() + 1;
        let (name, addr_option) = match self.role {
            Role::Master => (format!("master-{start}"), "--listen"),
            Role::Caller(number) => (format!("caller-{number}.{start}"), "--master"),
        };
        let (seed, window, heartbeat) =
            (seed.to_string(), options.window.to_string(), options.heartbeat_ms.to_string());
        let folder_name = folder.display().to_string();
        let kind = if self.role == Role::Master { "master" } else { "caller" };
        let mut arguments = vec![kind, addr_option, addr, "--name", &name, "--seed", &seed, "--window", &window];
        arguments.extend(["--folder", &folder_name]);
        if self.role == Role::Master {
            arguments.extend(["--heartbeat-ms", &heartbeat]);
        }
        let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let mut child = Child::start(&arguments, log)?;
        let stdout = child.take_stdout().ok_or_else(|| io::Error::other("a child has an output"))?;
        let (role, lines) = (self.role, lines.clone());
        // Ends with the output that it reads.
        tokio::spawn(async move {
            let mut said = BufReader::new(stdout).lines();
            while let Ok(Some(text)) = said.next_line().await {
                let _ = lines.send(Line { role, start, text: Some(text) });
            }
            let _ = lines.send(Line { role, start, text: None });
        });
        self.process = Some(Process { child, is_ready: false, given: Vec::new(), ended: 0, is_quiet: false });
        let is_caller = self.role != Role::Master;
        self.generations.push(Generation { name, is_caller, entries: Vec::new(), killed: None });
        Ok(true)
    }

    /// Whether this is the newest process, and it has not said yet that it is through.
    pub(super) fn heeds(&self, start: usize) -> bool {
        start == self.generations.len() && self.process.as_ref().is_some_and(|process| !process.is_quiet)
    }

    pub(super) fn on_ready(&mut self) {
        self.process.as_mut().into_iter().for_each(|process| process.is_ready = true);
    }

    pub(super) fn on_progress(&mut self, ended: u64) {
        self.process.as_mut().into_iter().for_each(|process| process.ended = ended);
    }

    pub(super) fn on_quiet(&mut self) {
        self.process.as_mut().into_iter().for_each(|process| process.is_quiet = true);
    }

    /// The name of the newest process.
    pub(super) fn name(&self) -> String {
        self.generations.last().map_or_else(String::new, |generation| generation.name.clone())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.is_ready)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.is_quiet)
    }

    /// How many of its calls have ended, those that died with a process included.
    pub(super) fn ended(&self) -> u64 {
        self.ended_before + self.process.as_ref().map_or(0, |process| process.ended)
    }

    /// Has its process make the calls with these keys.
    pub(super) async fn give(&mut self, from: u64, to: u64) -> io::Result<()> {
        if let Some(process) = &mut self.process {
            process.given.push((from, to));
        }
        self.order(&Order::Go { from, to }).await
    }

    pub(super) async fn order(&mut self, order: &Order) -> io::Result<()> {
        let Some(stdin) = self.process.as_mut().and_then(|process| process.child.stdin()) else { return Ok(()) };
        let line = serde_json::to_string(order).map_err(io::Error::other)? + "\n";
        // A process that has ended by itself shows at its output.
        match stdin.write_all(line.as_bytes()).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until the process has ended in order, and says what is wrong with its end.
    pub(super) async fn end(&mut self) -> io::Result<Option<String>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.child.wait().await?;
        let name = self.generations.last().map_or("", |generation| &generation.name);
        Ok((!status.success()).then(|| format!("{name} ended with {status}")))
    }

    /// Kills the process, starts none for a while, and returns the keys that it was given and has not called.
    pub(super) async fn kill(&mut self, empty: Duration, folder: &Path) -> io::Result<Vec<(u64, u64)>> {
        self.collect(Some(now()), empty, folder).await
    }

    /// Reads what a process that has ended has made, and returns the keys that it has not.
    pub(super) async fn collect(
        &mut self,
        killed: Option<u64>,
        empty: Duration,
        folder: &Path,
    ) -> io::Result<Vec<(u64, u64)>> {
        let Some(mut process) = self.process.take() else { return Ok(Vec::new()) };
        process.child.kill().await?;
        self.restart_at = Instant::now() + empty;
        let Some(generation) = self.generations.last_mut() else { return Ok(Vec::new()) };
        generation.entries = ledger::read(folder, &generation.name)?;
        generation.killed = killed;
        let made: HashSet<u64> = generation.entries.iter().filter_map(submitted).collect();
        self.ended_before += made.len() as u64;
        let mut returned: Vec<(u64, u64)> = Vec::new();
        for key in process.given.into_iter().flat_map(|(from, to)| from..to).filter(|key| !made.contains(key)) {
            match returned.last_mut() {
                Some((_, to)) if *to == key => *to += 1,
                _ => returned.push((key, key + 1)),
            }
        }
        Ok(returned)
    }

    /// Ends whatever is here.
    pub(super) async fn clear(&mut self) {
        if let Some(process) = &mut self.process {
            // One that cannot be killed has ended.
            let _ = process.child.kill().await;
        }
    }

    /// All processes with their ledgers. For when they have ended.
    pub(super) fn into_generations(self, folder: &Path) -> io::Result<Vec<Generation>> {
        let read = |mut generation: Generation| {
            if generation.entries.is_empty() {
                generation.entries = ledger::read(folder, &generation.name)?;
            }
            Ok(generation)
        };
        self.generations.into_iter().map(read).collect()
    }
}

fn submitted(entry: &MasterEntry) -> Option<u64> {
    match entry.what {
        MasterEvent::Submit { key } => Some(key),
        _ => None,
    }
}
