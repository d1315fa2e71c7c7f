//! Server processes: this program started again in another role, and ended with the one that started it.

use std::{
    fs,
    io::{self, Read, Write},
    process::Stdio,
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::failure::{During, Failure};

/// How long a server may take until it says something that is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a server's lines of standard output begin with.
const WORD: &str = "ready";

/// A child process in another role. Killed when dropped.
pub(crate) struct ServerProcess {
    child: Child,
    role: String,
    lines: Lines<BufReader<ChildStdout>>,
    /// Its end tells the child that this process is gone, also when that was killed.
    _alive: Option<ChildStdin>,
}

impl ServerProcess {
    /// Starts this program with these arguments, the first of which is the role.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let role = arguments.first().copied().unwrap_or_default().to_owned();
        let program = std::env::current_exe().during("this program's own path cannot be found")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .during(&format!("the process `{role}` cannot be started"))?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new("a child has no standard output"))?;
        let alive = child.stdin.take();
        Ok(Self { child, role, lines: BufReader::new(stdout).lines(), _alive: alive })
    }

    /// Waits for the next [`announce`] of the process and returns its text.
    pub(crate) async fn announced(&mut self) -> Result<String, Failure> {
        let line = timeout(ANSWER_TIMEOUT, self.lines.next_line())
            .await
            .map_err(|_| Failure::new(format!("`{}` said nothing for {ANSWER_TIMEOUT:?}", self.role)))?
            .during(&format!("the output of `{}` cannot be read", self.role))?;
        line.as_deref()
            .and_then(|line| line.strip_prefix(WORD))
            .map(|text| text.trim().to_owned())
            .ok_or_else(|| Failure::new(format!("the process `{}` ended early; its reason is above", self.role)))
    }

    /// Resident memory in KiB, as the system counts it.
    pub(crate) fn resident(&self) -> Result<f64, Failure> {
        let id = self.child.id().ok_or_else(|| Failure::new(format!("the process `{}` has ended", self.role)))?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))
            .during("the memory of a process is read from /proc, which only Linux has")?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .ok_or_else(|| Failure::new(format!("/proc/{id}/status names no VmRSS")))
    }

    /// Kills the process and waits until it is gone, so that it takes no time from what is measured next.
    pub(crate) async fn end(mut self) {
        // Only that it is gone matters, and a process that cannot be killed is.
        let _ = self.child.kill().await;
    }
}

/// In a child: tells the parent something that [`ServerProcess::announced`] waits for.
pub(crate) fn announce(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{WORD} {text}").and_then(|()| stdout.flush()).during("the parent cannot be told")
}

/// In a child: ends this process as soon as its parent is gone.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        // Nothing is ever sent, so this returns when the parent's end of the pipe is closed.
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// Raises the limit on open files as far as the system allows, and says how many that is; `None` is any number.
#[cfg(unix)]
pub(crate) fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// There is nothing to raise.
#[cfg(not(unix))]
pub(crate) fn raise_open_files() -> Option<u64> {
    None
}
