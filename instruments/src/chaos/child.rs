//! Child processes that never outlive their parent, however that ends.
//!
//! One that is dropped is killed. One whose parent was killed finds its standard input closed and ends
//! itself ([`end_with_parent`]). One that is frozen at that moment cannot look; but it has a process
//! group of its own, and when the parent of such a group dies, the system sends the frozen in it SIGHUP
//! and SIGCONT, so it ends as well.

use std::{
    io::{self, BufRead},
    process::{ExitStatus, Stdio},
};

use tokio::process::{ChildStdin, ChildStdout, Command};

/// A process of the same program as this one.
#[derive(Debug)]
pub struct Child {
    child: tokio::process::Child,
    id: u32,
    /// Kept apart, because waiting for a child would close the one that it holds.
    stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts this very program with other arguments. What it logs goes to `log`.
    ///
    /// # Errors
    ///
    /// Those of starting a process.
    pub fn start(arguments: &[String], log: impl Into<Stdio>) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().ok_or_else(|| io::Error::other("a process ended as it started"))?;
        let stdin = child.stdin.take();
        Ok(Self { child, id, stdin })
    }

    /// Its process id, which the system gives to no other as long as this value exists and has not
    /// reported the end.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it prints; once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Where its orders go.
    pub fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.stdin.as_mut()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// Those of asking the system.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// Those of asking the system.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends SIGKILL and waits for the end. Nothing happens to one that has ended.
    ///
    /// # Errors
    ///
    /// Those of asking the system.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Sends a signal by name, as `kill` knows it: `TERM`, `STOP`, `CONT`.
    ///
    /// # Errors
    ///
    /// If it has ended, or there is no such signal.
    pub async fn signal(&mut self, name: &str) -> io::Result<()> {
        if let Some(status) = self.ended()? {
            return Err(io::Error::other(format!("process {} has ended: {status}", self.id)));
        }
        // Not reaped before the signal is sent, so the number cannot mean another process.
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id.to_string()).status().await?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name} {} failed", self.id))) }
    }
}

/// Reads what the parent says, line by line, on a thread of its own; ends the process when the parent is
/// gone or has closed the pipe.
pub fn end_with_parent(mut on_line: impl FnMut(String) + Send + 'static) {
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            match line {
                Ok(line) => on_line(line),
                Err(_) => break,
            }
        }
        std::process::exit(3);
    });
}
