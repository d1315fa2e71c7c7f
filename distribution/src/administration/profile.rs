//! Where the process of a node spends its processor time, and what its handlers are doing.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{CallId, NodeId},
    seconds,
};

/// What [`Master::profile`](crate::Master::profile) has seen of a node's process.
///
/// Only processor time is in [`stacks`](Self::stacks): a handler that waits for a lock or a socket uses none, and is found in
/// [`handlers`](Self::handlers). The process is profiled as a whole, so other nodes in the same process are in it too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Profile {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// How long samples were taken.
    #[serde(with = "seconds")]
    pub length: Duration,
    /// Samples for each second of processor time that the process uses.
    pub frequency: u32,
    /// Samples in all.
    pub samples: u64,
    /// Samples of stacks that had no room in the answer, the rarest.
    pub left_out: u64,
    /// Samples that the processor time should have given, and that were not taken: no stack can be read safely while a thread is in
    /// the C library, or asks for the time. Many mean that the stacks do not show where the time goes.
    #[serde(default)]
    pub missed: u64,
    /// Which code ran, the most frequent first.
    pub stacks: Vec<ProfileStack>,
    /// What the handlers that have a thread were doing at the end, the longest running first.
    pub handlers: Vec<HandlerStack>,
}

/// A stack of calls that samples have found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProfileStack {
    /// The name of the thread, and then of each function, the outermost first.
    pub frames: Vec<String>,
    /// How many samples have found it.
    pub samples: u64,
}

/// What a handler was doing that has a thread to itself: a compute handler, or an async one before its first `await`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HandlerStack {
    /// The call that it handles.
    pub call: CallId,
    /// The attempt at the call.
    pub attempt: u32,
    /// The method, as `Service.method`.
    pub method: String,
    /// The thread's name.
    pub thread: String,
    /// How long it has run.
    #[serde(with = "seconds")]
    pub running: Duration,
    /// Whether its thread was running or waited for something.
    pub state: ThreadState,
    /// Processor time that its thread used while samples were taken: 1 is one core. `None` if it began later, or the system
    /// does not say.
    pub cpu: Option<f64>,
    /// Its functions, the outermost first. Empty if none could be seen: its thread was in the C library whenever it ran, or its call began
    /// when the last samples were taken.
    pub frames: Vec<String>,
}

/// What a thread is doing, as the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ThreadState {
    /// It runs, or waits for a processor.
    Running,
    /// It waits for a lock, a timer, a socket, or another thread.
    Sleeping,
    /// It waits for a disk or another device.
    Disk,
    /// A debugger or a signal has stopped it.
    Stopped,
    /// The system does not say.
    Unknown,
}

impl fmt::Display for ThreadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Disk => "waiting for a device",
            Self::Stopped => "stopped",
            Self::Unknown => "in an unknown state",
        })
    }
}

impl Profile {
    /// The stacks in the format that flame graph programs read: a line for each, with its functions divided by `;`, and its
    /// samples.
    ///
    /// ```
    /// # use distribution::administration::Profile;
    /// # fn example(profile: &Profile) -> std::io::Result<()> {
    /// std::fs::write("node.folded", profile.folded())
    /// # }
    /// ```
    pub fn folded(&self) -> String {
        let lines = self.stacks.iter().map(|stack| {
            let frames: Vec<_> = stack.frames.iter().map(|frame| frame.replace(';', ":").replace('\n', " ")).collect();
            format!("{} {}\n", frames.join(";"), stack.samples)
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_stacks_have_one_line_each() {
        let stack = |frames: &[&str], samples| ProfileStack {
            frames: frames.iter().map(ToString::to_string).collect(),
            samples,
        };
        let profile = Profile {
            node: NodeId::new(1, 1),
            name: "a".into(),
            length: Duration::from_secs(5),
            frequency: 99,
            samples: 43,
            left_out: 0,
            missed: 0,
            stacks: vec![stack(&["worker", "main", "[u8; 4]::sum"], 42), stack(&["worker"], 1)],
            handlers: Vec::new(),
        };
        assert_eq!(profile.folded(), "worker;main;[u8: 4]::sum 42\nworker 1\n");
    }
}
