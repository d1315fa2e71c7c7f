//! Removes a network's namespaces however the process that made them ends, be it by a panic or `kill -9`.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// Waits for its standard input to end, which the system brings about when the process that holds the other end
/// does; then removes. The same way serves an orderly end, so it is the one that every test takes.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r _
rm -f "/dev/$0"-*
for namespace in "$@"; do ip netns delete "$0-$namespace"; done
"#;

/// A process that outlives this one just long enough to clean up.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Starts it, before there is anything to remove.
    pub(super) fn new(network: &str, nodes: usize) -> io::Result<Self> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT, network, "master", "wires"])
            .args((0..nodes).map(|number| format!("node{number}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Apart, so that ctrl-c at a terminal ends this process and not the guard.
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Waiting closes its standard input first.
        let _ = self.0.wait();
    }
}
