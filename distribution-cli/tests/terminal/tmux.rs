//! A real terminal that a test types into and reads: tmux, with a server of its own.

use std::process::Stdio;

use distribution_tests::soon;
use tempfile::TempDir;
use tokio::process::Command;

/// Whether there is tmux. In CI there has to be.
#[allow(clippy::print_stdout, reason = "a test that did nothing says so")]
pub(crate) fn is_there() -> bool {
    let found =
        std::process::Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok_and(|it| it.success());
    let forced = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(found || !forced, "CI has no tmux");
    if !found {
        println!("skipped: there is no tmux");
    }
    found
}

/// A terminal in which a program runs.
pub(crate) struct Terminal {
    /// Has the socket of its server.
    folder: TempDir,
}

impl Terminal {
    /// Opens a terminal of this size, and runs a shell's command in it. Its exit code is shown when it has ended.
    pub(crate) async fn open(columns: u16, lines: u16, command: &str) -> Self {
        let terminal = Self { folder: tempfile::tempdir().expect("a folder") };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let command = format!("{command}; echo ended with $?; exec cat");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines, &command]).await;
        terminal
    }

    /// Presses keys, as tmux names them: `2`, `Down`, `C-c`.
    pub(crate) async fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat()).await;
    }

    /// Makes it larger or smaller.
    pub(crate) async fn resize(&self, columns: u16, lines: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]).await;
    }

    /// What it shows.
    pub(crate) async fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).await
    }

    /// Whether a line was too long for it, so that it goes on in the next one.
    pub(crate) async fn has_broken_lines(&self) -> bool {
        let joined = self.tmux(&["capture-pane", "-p", "-J"]).await;
        joined.lines().count() != self.screen().await.lines().count()
    }

    /// What it shows once that is so.
    pub(crate) async fn shows(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let looks = async {
            loop {
                last = self.screen().await;
                if is_so(&last) {
                    return;
                }
            }
        };
        if tokio::time::timeout(distribution_tests::LONG, looks).await.is_err() {
            panic!("it does not show {what}:\n{last}");
        }
        last
    }

    /// What it shows once all these texts are there.
    pub(crate) async fn shows_all(&self, parts: &[&str]) -> String {
        self.shows(&format!("{parts:?}"), |screen| parts.iter().all(|part| screen.contains(part))).await
    }

    async fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket")).args(arguments).env_remove("TMUX").kill_on_drop(true);
        for name in ["DISTRIBUTION_TOKEN", "DISTRIBUTION_TOKEN_FILE", "DISTRIBUTION_MASTER", "NO_COLOR"] {
            command.env_remove(name);
        }
        let output = soon("tmux", command.output()).await.expect("starts");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.folder.path().join("socket");
        let _ = std::process::Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
    }
}
