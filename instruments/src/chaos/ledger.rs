//! The lines that processes write down, so that it outlives them: one line each, appended by one `write`.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Microseconds since 1970: a clock that all processes share.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// Where a process's ledger is.
pub(super) fn path(folder: &Path, process: &str) -> PathBuf {
    folder.join(format!("{process}.ledger"))
}

/// A line of a node's ledger: what became of one attempt at a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeEntry {
    pub(super) key: u64,
    /// The call's id at its master: a call that is sent to another master has another one there.
    pub(super) id: String,
    pub(super) attempt: u32,
    pub(super) step: Step,
    pub(super) at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    Start,
    /// The handler is about to return or to panic, as it was to.
    End,
    /// The async handler was dropped before its end.
    Cut,
}

/// A line of a master's or a caller's ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MasterEntry {
    pub(super) at: u64,
    pub(super) what: MasterEvent,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum MasterEvent {
    /// The call is about to be made.
    Submit {
        key: u64,
    },
    /// Its caller has its end, after this many microseconds.
    End {
        key: u64,
        elapsed: u64,
        outcome: Outcome,
    },
    /// Its caller has dropped it.
    GivenUp {
        key: u64,
    },
    /// This process has not run for this many microseconds until now, because its machine was busy.
    StoodStill {
        micros: u64,
    },
    Joined {
        node: Registration,
    },
    Leaving {
        node: Registration,
    },
    /// Its connection had broken, and it is back with its calls.
    Resumed {
        node: Registration,
    },
    /// It had this many calls.
    Gone {
        node: Registration,
        reason: Reason,
        in_flight: usize,
    },
}

/// A registration of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Registration {
    pub(super) name: String,
    pub(super) id: String,
}

/// Why a node is gone, as far as rules tell reasons apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reason {
    /// Its connection ended or broke.
    Cut,
    Silent,
    Left,
    Shutdown,
    Other,
}

/// How a call ended, as its caller was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// With a value, of which this is the digest.
    Value {
        digest: u64,
        node: Registration,
        attempts: u32,
    },
    /// With the handler's own error.
    Declined {
        value: u64,
    },
    Error {
        kind: Kind,
        execution: Execution,
        text: String,
    },
}

/// Which error it was, with what rules ask of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Panicked { node: Registration },
    NoNode { waited: u64 },
    TimedOut,
    NodeLost { node: Registration, attempts: u32 },
    Poisoned { nodes: Vec<Registration> },
    MasterLost,
    Other,
}

/// What the error says of whether the handler ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Execution {
    NotRun,
    MayHaveRun,
    Ran,
}

/// A ledger that is written.
#[derive(Debug)]
pub(super) struct Ledger(File);

/// Whose ledger a process writes, and where.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LedgerOptions {
    #[arg(long)]
    pub(super) name: String,
    #[arg(long)]
    folder: PathBuf,
}

impl LedgerOptions {
    /// Starts the ledger.
    pub(super) fn create(&self) -> io::Result<Arc<Ledger>> {
        let path = path(&self.folder, &self.name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let ledger = file.map(|file| Arc::new(Ledger(file)));
        ledger.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

impl Ledger {
    /// Appends a line. When this returns, no kill can undo it.
    ///
    /// # Panics
    ///
    /// If it cannot be written: going on would let a run pass that nobody has watched.
    pub(super) fn write(&self, entry: &impl Serialize) {
        let mut line = serde_json::to_vec(entry).expect("entries are plain data");
        line.push(b'\n');
        (&self.0).write_all(&line).expect("a ledger must be written");
    }
}

/// Reads a ledger whose process has ended. None was begun if the process was killed before that.
pub(super) fn read<T: DeserializeOwned>(folder: &Path, process: &str) -> io::Result<Vec<T>> {
    let path = path(folder, process);
    let wrong = |line: usize, what: &str| io::Error::other(format!("{}, line {line}: {what}", path.display()));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(0, &error.to_string())),
    };
    let mut reader = BufReader::new(file);
    let mut entries = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        // A line that the kill has cut off counts as not written.
        if line.last() != Some(&b'\n') {
            return Ok(entries);
        }
        let entry = serde_json::from_slice(&line).map_err(|error| wrong(entries.len() + 1, &error.to_string()))?;
        entries.push(entry);
    }
}
