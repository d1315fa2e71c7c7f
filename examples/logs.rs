//! Follows files on several nodes as one stream. Shows streams that have no end: each node yields the lines of its file
//! and then those that are appended, the program merges the streams of all nodes, and when it drops them, the nodes stop.
//! An error of a node is an item as any other: the file is not there yet, or was cut, and the stream goes on.
//!
//! `cargo run --release --example logs` makes files, appends lines to them and follows them, in one process. Over
//! several, each of which follows the file of its own machine:
//!
//! ```text
//! logs /var/log/syslog master --listen 127.0.0.1:3000 --wait 2
//! logs node --master 127.0.0.1:3000                    # twice
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{
    error::Error,
    fmt,
    fs::Metadata,
    io::{self, ErrorKind, SeekFrom},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use clap::{Args, Parser};
use distribution::{Master, StreamCall};
use distribution_examples::Place;
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
    time::sleep,
};

/// What the nodes do. They read any file that a caller names, so serve this only to callers that may see all files.
#[distribution::service(idempotent)]
pub trait Logs {
    /// The lines of a file, and then each line that is appended to it. It has no end: after an error it goes on when it
    /// can.
    fn follow(&self, path: String) -> impl Stream<Item = Result<Line, Problem>> + Send;
}

/// A line of a file, or a part of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Without its end. What is not UTF-8 is replaced.
    text: String,
    /// The next item may be of the same line: it is too long for one item, or its end was not written for a while.
    goes_on: bool,
}

impl Line {
    fn new(bytes: &[u8], goes_on: bool) -> Self {
        Self { text: String::from_utf8_lossy(bytes).into_owned(), goes_on }
    }
}

/// Why there are no lines now, or which of them are missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Problem {
    /// There is no such file.
    Missing(String),
    /// It is a folder, or a pipe, or the like.
    NotAFile(String),
    /// It cannot be read, for this reason.
    Unreadable(String, String),
    /// It has become shorter, or it is another file now.
    BegunAgain(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "there is no file {path} here; its lines follow when it is created"),
            Self::NotAFile(path) => write!(f, "{path} is not a file; name one, or put one in its place"),
            Self::Unreadable(path, reason) => {
                write!(f, "{path} cannot be read: {reason}; its lines follow when that is mended")
            }
            Self::BegunAgain(path) => write!(f, "{path} was cut or replaced; its lines follow from the first one"),
        }
    }
}

impl Error for Problem {}

/// How often a file is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// After this many pauses a line without an end is shown.
const PAUSES_FOR_END: u32 = 10;

/// The most bytes of a line in one item.
const LONGEST: usize = 16 * 1024;

/// How many bytes are read at a time.
const CHUNK: usize = 64 * 1024;

struct Reader;

impl Logs for Reader {
    fn follow(&self, path: String) -> impl Stream<Item = Result<Line, Problem>> + Send {
        let follower =
            Follower { path, file: None, position: 0, unread: BytesMut::new(), pauses: 0, told: None, news: None };
        stream::unfold(follower, |mut follower| async {
            let item = follower.next().await;
            Some((item, follower))
        })
    }
}

struct Follower {
    path: String,
    file: Option<File>,
    /// Up to where it was read.
    position: u64,
    /// What was read and is not in an item yet.
    unread: BytesMut,
    /// Since something was read.
    pauses: u32,
    /// The newest problem, as long as it lasts, so that it is told once; and whether it is still to be told.
    told: Option<Problem>,
    news: Option<Problem>,
}

impl Follower {
    /// The next item. Waits for it as long as it takes.
    async fn next(&mut self) -> Result<Line, Problem> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            if let Some(problem) = self.news.take() {
                return Err(problem);
            }
            match self.read().await {
                Ok(0) => {
                    self.told = None;
                    self.pauses += 1;
                    if self.pauses >= PAUSES_FOR_END && !self.unread.is_empty() {
                        return Ok(Line::new(&self.unread.split(), true));
                    }
                    sleep(PAUSE).await;
                }
                Ok(_) => (self.told, self.pauses) = (None, 0),
                Err(problem) if self.told.as_ref() == Some(&problem) => sleep(PAUSE).await,
                Err(problem) => {
                    // No end comes for the line that was begun.
                    if !self.unread.is_empty() {
                        self.unread.put_u8(b'\n');
                    }
                    (self.told, self.news) = (Some(problem.clone()), Some(problem));
                }
            }
        }
    }

    /// Takes a line out of what was read, or the beginning of a long one.
    fn take_line(&mut self) -> Option<Line> {
        let mut bytes = self.unread.iter().take(LONGEST + 1);
        if let Some(end) = bytes.position(|byte| *byte == b'\n') {
            let line = self.unread.split_to(end + 1);
            let line = &line[..end];
            return Some(Line::new(line.strip_suffix(b"\r").unwrap_or(line), false));
        }
        (self.unread.len() > LONGEST).then(|| {
            // Not within a character, which has four bytes at most.
            let begins_character = |at: &usize| self.unread[*at] & 0b1100_0000 != 0b1000_0000;
            let end = (LONGEST - 3..=LONGEST).rev().find(begins_character).unwrap_or(LONGEST);
            Line::new(&self.unread.split_to(end), true)
        })
    }

    /// Reads on, and says how many bytes that were.
    async fn read(&mut self) -> Result<usize, Problem> {
        let about = match fs::metadata(&self.path).await {
            Ok(about) if about.is_file() => about,
            Ok(_) => {
                self.begin_again();
                return Err(Problem::NotAFile(self.path.clone()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.begin_again();
                return Err(Problem::Missing(self.path.clone()));
            }
            Err(error) => return Err(self.unreadable(&error)),
        };
        match self.read_open(&about).await {
            Ok(Some(read)) => Ok(read),
            Ok(None) => {
                self.begin_again();
                Err(Problem::BegunAgain(self.path.clone()))
            }
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    /// Reads on in the open file, or opens it first. `None` if its end was reached, and by now the path leads to another
    /// file, or to a shorter one. A file that was cut, and has grown beyond its old length since, cannot be told from one
    /// that was not cut.
    async fn read_open(&mut self, about: &Metadata) -> io::Result<Option<usize>> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut file = File::open(&self.path).await?;
                file.seek(SeekFrom::Start(self.position)).await?;
                self.file.insert(file)
            }
        };
        self.unread.reserve(CHUNK);
        let read = file.read_buf(&mut self.unread).await?;
        self.position += read as u64;
        let is_same = read > 0 || (is_same(about, &file.metadata().await?) && about.len() >= self.position);
        Ok(is_same.then_some(read))
    }

    fn begin_again(&mut self) {
        (self.file, self.position) = (None, 0);
    }

    fn unreadable(&mut self, error: &io::Error) -> Problem {
        // It goes on at the same position.
        self.file = None;
        Problem::Unreadable(self.path.clone(), error.to_string())
    }
}

/// Whether two descriptions are of one file.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }
    #[cfg(not(unix))]
    {
        // A file that was replaced is noticed here if it is shorter.
        let _ = (one, other);
        true
    }
}

/// Follows files on nodes as one stream, and prints their lines.
///
/// Without a path it makes a file for each node, appends lines to them, prints them as they arrive, and ends. Without a
/// command it starts a local cluster.
#[derive(Parser)]
#[command(version, subcommand_precedence_over_arg = true)]
struct Options {
    #[command(flatten)]
    job: Job,

    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Job {
    /// Files to follow on each node until ctrl-c. They come before the command, if there is one. Write `./node` for a
    /// file called `node`. A relative path begins at the folder that a node was started in.
    paths: Vec<String>,
    /// Ends after this many lines.
    #[arg(long, global = true)]
    lines: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Options { job, place } = Options::parse();
    distribution_examples::run(
        place,
        || LogsServer::new(Reader),
        async |master| {
            if job.paths.is_empty() { demonstrate(master, &job).await } else { follow(master, &job).await }
        },
    )
    .await
}

/// A stream of lines, and what is printed before each.
type Followed = (String, StreamCall<Line, Problem>);

/// Follows the files on each node.
async fn follow(master: &Master, job: &Job) -> Result<(), Box<dyn Error>> {
    let client = LogsClient::new(master);
    let mut followed: Vec<Followed> = Vec::new();
    for node in master.nodes() {
        for path in &job.paths {
            let name = if job.paths.len() == 1 { node.name.to_string() } else { format!("{} {path}", node.name) };
            followed.push((name, client.follow(path.clone()).on(&node)));
        }
    }
    print(followed, job.lines.unwrap_or(u64::MAX)).await
}

/// Prints the lines of all streams as they come, up to this many.
#[allow(clippy::print_stderr, reason = "messages that are not part of the result")]
async fn print(followed: Vec<Followed>, most: u64) -> Result<(), Box<dyn Error>> {
    let named = followed.into_iter().map(|(name, lines)| lines.map(move |line| (name.clone(), line)));
    let mut merged = stream::select_all(named).take_until(Box::pin(tokio::signal::ctrl_c()));
    let mut left = most;
    while left > 0 {
        match merged.next().await {
            Some((name, Ok(Line { text, goes_on }))) => {
                println!("{name}: {text}{}", if goes_on { " .." } else { "" });
                left -= 1;
            }
            // If this is not a problem of the handler, the stream has ended, and the others go on.
            Some((name, Err(error))) => eprintln!("{name}: {error}"),
            None if merged.take_result().is_some() => break,
            None => {
                return Err(
                    "all streams have ended, as said above; start the nodes that are missing, and this again".into()
                );
            }
        }
    }
    // Dropping the streams ends their handlers.
    Ok(())
}

/// How many lines the demonstration appends to each file.
const ROUNDS: u64 = 5;

/// Makes a file for each node and follows it on that node, while lines are appended to all of them.
async fn demonstrate(master: &Master, job: &Job) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let client = LogsClient::new(master);
    let mut files = Vec::new();
    let mut followed: Vec<Followed> = Vec::new();
    for node in master.nodes() {
        let file = folder.path().join(format!("{}.log", node.name));
        let path = file.display().to_string();
        // The nodes find these files on this machine only; elsewhere they would wait for ever.
        followed.push((node.name.to_string(), client.follow(path).on(&node).timeout(Duration::from_secs(10))));
        files.push(file);
    }
    let lines = job.lines.unwrap_or(files.len() as u64 * ROUNDS);
    tokio::try_join!(append(&files), print(followed, lines))?;
    Ok(())
}

/// Appends lines to all files, which are not there at first.
async fn append(files: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    for round in 1..=ROUNDS {
        sleep(3 * PAUSE).await;
        for file in files {
            let line = format!("line {round} of {ROUNDS}\n");
            append_line(file, &line).await.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
    }
    Ok(())
}

async fn append_line(file: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(file).await?;
    file.write_all(line.as_bytes()).await?;
    // Otherwise it may be written later.
    file.flush().await
}
