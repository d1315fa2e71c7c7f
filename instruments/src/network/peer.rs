//! A process in a namespace: told and asked in lines, and never left behind.

use std::{
    collections::VecDeque,
    fmt::Write,
    io,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use super::{Asked, Line};

/// How much of a process's log is kept.
const LOG_LINES: usize = 40;

/// A process in a namespace. Killed when dropped; should this process be killed, it notices the end of its input.
#[derive(Debug)]
pub struct Peer {
    name: String,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    log: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
    _child: Child,
}

impl Peer {
    /// Starts a program in a namespace.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(namespace: &str, program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let piped = || io::Error::other("a process without its pipes");
        let stdin = child.stdin.take().ok_or_else(piped)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(piped)?).lines();
        let stderr = BufReader::new(child.stderr.take().ok_or_else(piped)?).lines();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let reader = tokio::spawn(keep(stderr, Arc::clone(&log)));
        Ok(Self { name: arguments.join(" "), stdin, stdout, log, reader, _child: child })
    }

    /// Asks it something.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn ask(&mut self, asked: &Asked) -> io::Result<()> {
        let line = serde_json::to_string(asked)? + "\n";
        self.stdin.write_all(line.as_bytes()).await?;
        self.stdin.flush().await
    }

    /// The next thing it tells.
    ///
    /// # Errors
    ///
    /// If it has ended, or prints another line.
    ///
    /// # Cancel safety
    ///
    /// No line is lost.
    pub async fn told(&mut self) -> io::Result<Line> {
        let line = self.stdout.next_line().await?;
        let line = line.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the process has ended"))?;
        Ok(serde_json::from_str(&line)?)
    }

    /// The end of its log, for a person to read.
    pub fn log(&self) -> String {
        let mut text = format!("-- log of `{}`\n", self.name);
        for line in &*self.log.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Reads a log, so that the process never waits for a reader, and keeps the end of it.
async fn keep(mut lines: Lines<BufReader<ChildStderr>>, log: Arc<Mutex<VecDeque<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }
}
