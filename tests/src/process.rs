//! Real processes: started, read line by line, signalled, and never left behind.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::LazyLock,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};

use crate::{soon, sources::workspace, transport::Transport};

/// A child process whose output the test reads. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    id: u32,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Option<Lines<BufReader<ChildStderr>>>,
}

impl Process {
    /// Starts a program.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        Self::start_over(&Transport::tcp(), program, arguments)
    }

    /// Starts a program whose node connects over this transport.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start_over(transport: &Transport, program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("DISTRIBUTION_TOKEN_FILE")
            .env_remove("DISTRIBUTION_TOKEN")
            .envs(transport.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        let id = child.id().expect("just started");
        Self { child, id, stdout, stderr: Some(stderr) }
    }

    /// The system's number of it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The next line of standard output; `None` at its end.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn line(&mut self) -> Option<String> {
        soon("a line of output", self.stdout.next_line()).await.expect("reads")
    }

    /// Reads standard output up to the line that contains this, and returns that.
    ///
    /// # Panics
    ///
    /// If it ends before.
    pub async fn line_with(&mut self, text: &str) -> String {
        while let Some(line) = self.line().await {
            if line.contains(text) {
                return line;
            }
        }
        panic!("the output ended before a line with `{text}`");
    }

    /// Reads standard error up to the line that contains this, and returns that.
    ///
    /// # Panics
    ///
    /// If it ends before, or has been set to drain.
    pub async fn log_with(&mut self, text: &str) -> String {
        let stderr = self.stderr.as_mut().expect("not drained");
        let mut log = String::new();
        while let Some(line) = soon("a line of log", stderr.next_line()).await.expect("reads") {
            if line.contains(text) {
                return line;
            }
            log = log + &line + "\n";
        }
        panic!("the log ended before a line with `{text}`:\n{log}");
    }

    /// The rest of standard error, after the process has ended.
    ///
    /// # Panics
    ///
    /// If it cannot be read, or has been set to drain.
    pub async fn log(&mut self) -> String {
        let stderr = self.stderr.as_mut().expect("not drained");
        let mut log = String::new();
        while let Some(line) = soon("a line of log", stderr.next_line()).await.expect("reads") {
            log = log + &line + "\n";
        }
        log
    }

    /// The rest of standard output, after the process has ended.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }

    /// Ends it the hard way.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Sends it a signal by name, as `kill` knows it: `TERM`, `STOP`, `CONT`.
    ///
    /// # Panics
    ///
    /// If there is no such process or signal.
    pub async fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id.to_string()).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {}", self.id);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn ended(&mut self) -> ExitStatus {
        soon("a process to end", self.child.wait()).await.expect("waits")
    }
}

/// Builds the examples, unless they are built, and says where this one is.
///
/// All of the workspace's examples, so that their dependencies have the features that they have when the whole
/// workspace is tested: then this finds nothing to do, and takes a fraction of a second.
///
/// # Panics
///
/// If it cannot be built, or there is no such example.
pub fn example(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(build_examples);
    let path = FOLDER.join(name);
    assert!(path.is_file(), "there is no example {}", path.display());
    path
}

/// Builds them with the profile and in the folder of the test that this is.
fn build_examples() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // `target/debug/deps/test-0123456789abcdef`
    let profile_folder = test.ancestors().nth(2).expect("a folder of a profile");
    let profile = match profile_folder.file_name().and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} names no profile", profile_folder.display()),
    };
    let built = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--workspace", "--examples", "--quiet", "--locked", "--profile", profile])
        .arg("--target-dir")
        .arg(profile_folder.parent().expect("a folder of builds"))
        .current_dir(workspace())
        .output()
        .expect("cargo starts");
    assert!(built.status.success(), "the examples do not build: {}", String::from_utf8_lossy(&built.stderr));
    profile_folder.join("examples")
}
