//! What control frames carry, apart from plain numbers: a node's load, how its process does, and why a connection is closed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{administration::Vitals, text::in_one_line};

/// What a node says about its work with each heartbeat. The master acts on `stale` and `blocked` only, and a false value
/// harms nothing but the node's own share of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Compute handlers that are running.
    pub(crate) computing: u32,
    /// Compute calls that wait for a slot on the node.
    pub(crate) waiting: u32,
    /// Async handlers that are running.
    pub(crate) asynchronous: u32,
    /// Compute handlers that still run for an earlier connection, and hold slots.
    pub(crate) stale: u32,
    /// How often an async handler was seen to block its thread since the node was started.
    pub(crate) blocked: u32,
}

/// How far a run of many calls has come, as its caller tells it. The master shows it, and decides nothing by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// Tells the runs of a caller apart. Drawn at random.
    pub(crate) run: u64,
    pub(crate) name: String,
    /// Calls that have ended.
    pub(crate) done: u64,
    /// Those of them that ended with an error.
    pub(crate) failed: u64,
    /// Calls that a node has.
    pub(crate) running: u64,
    /// Calls that wait for a node.
    pub(crate) waiting: u64,
    /// All calls of the run, if that is known.
    pub(crate) total: Option<u64>,
    /// Time since it began, in microseconds.
    pub(crate) elapsed: u64,
    /// Whether it has ended.
    pub(crate) is_over: bool,
    /// The calls and batches of it that have not ended and were sent first, by their ids.
    pub(crate) oldest: Vec<u64>,
}

/// How the process of a node does, as it measures itself. The master shows it, and decides nothing by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VitalsReport {
    /// Processor time since the last report, in thousandths of a core.
    pub(crate) cpu: Option<u32>,
    /// Bytes of memory that it holds.
    pub(crate) memory: Option<u64>,
    pub(crate) threads: Option<u32>,
    /// How long a task had to wait for the runtime of the async handlers, in microseconds.
    pub(crate) lag: u64,
    /// Compute handlers that run.
    pub(crate) busy_slots: u32,
    /// Compute calls that wait for a slot on the node.
    pub(crate) waiting: u32,
    /// Async handlers that run.
    pub(crate) asynchronous: u32,
    /// The time by the node's clock: microseconds since the beginning of 1970 (UTC).
    pub(crate) time: u64,
}

impl VitalsReport {
    /// As administrators see it. `now` is the time by this process's clock.
    pub(crate) fn shown(&self, now: Duration) -> Vitals {
        Vitals {
            cpu: self.cpu.map(|cpu| f64::from(cpu) / 1e3),
            memory: self.memory,
            threads: self.threads,
            lag: Duration::from_micros(self.lag),
            busy_slots: self.busy_slots,
            waiting: self.waiting,
            asynchronous: self.asynchronous,
            clock_skew: Duration::from_micros(self.time).as_secs_f64() - now.as_secs_f64(),
        }
    }
}

/// How many calls of a method can run, as a master tells it to a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WatchedCapacity {
    /// Nodes that serve the method.
    pub(crate) nodes: u32,
    /// Calls of it that these can run at once.
    pub(crate) slots: u32,
    /// How many of these slots are free.
    pub(crate) free: u32,
    /// Whether it is a compute method on all of them.
    pub(crate) compute: bool,
}

/// Why an end closes the connection, in a sentence for people. Empty if it does not say.
///
/// It is a text and not an enum, so that a peer of an older release can show the reasons of a newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloseReason(String);

impl CloseReason {
    /// The most bytes of it that are sent and shown.
    const LONGEST: usize = 256;

    pub(crate) fn new(text: impl std::fmt::Display) -> Self {
        Self(in_one_line(&text.to_string(), Self::LONGEST))
    }

    /// What a log may show of it; `None` if the peer gave no reason. The peer may have sent anything.
    pub(crate) fn shown(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| in_one_line(&self.0, Self::LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_reason_is_shown_escaped_and_cut() {
        assert_eq!(CloseReason::default().shown(), None);
        assert_eq!(CloseReason("put\nout\x1b[2J".to_owned()).shown().as_deref(), Some("put\\nout\\u{1b}[2J"));
        let long = CloseReason("x".repeat(10_000)).shown().expect("a reason");
        assert!(long.len() < CloseReason::LONGEST + 10, "{}", long.len());
        assert_eq!(CloseReason::new("it was disconnected").shown().as_deref(), Some("it was disconnected"));
    }
}
