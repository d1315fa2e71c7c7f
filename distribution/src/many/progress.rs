//! How far a run of many calls has come, as hooks and people see it.

use std::{fmt, time::Duration};

use crate::id::NodeIdentity;

/// The most nodes that the last line names; the others are counted.
const MAX_NAMED: usize = 8;

/// How far a [`Distributed`](crate::Distributed) has come: the argument of the hooks that
/// [`on_progress`](crate::Distributed::on_progress) adds.
///
/// A call is done once it has ended, even if its result is not yielded yet. [`Display`](fmt::Display) formats it as the
/// line that [`progress`](crate::Distributed::progress) shows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Calls that have ended, with a value or an error.
    pub done: u64,
    /// Calls of `done` that ended with an error.
    pub failed: u64,
    /// Calls that were sent to a node: they run, or wait there for a slot. A call that has to be sent to another node, because
    /// the first was lost or gave it back, still counts.
    pub running: u64,
    /// Calls that wait at the master for a node.
    pub waiting: u64,
    /// The age of the oldest call that runs or waits.
    pub oldest: Option<Duration>,
    /// How many calls there are in all, if the input knows its length or has ended.
    pub total: Option<u64>,
    /// Time since the stream was polled first.
    pub elapsed: Duration,
    /// Calls done per second, on average.
    pub rate: f64,
    /// How long the other calls will take at this rate; `None` while the total or the rate is unknown.
    pub time_left: Option<Duration>,
    /// The nodes that have answered calls, each with the number of calls, in the order of their registration. Nodes that have
    /// left since are included.
    pub nodes: Vec<(NodeIdentity, u64)>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            Some(total) => write!(f, "{} of {total} calls", self.done)?,
            None => write!(f, "{} calls", self.done)?,
        }
        write!(f, " in {} ({:.0}/s)", HumanDuration(self.elapsed), self.rate)?;
        if let Some(left) = self.time_left.filter(|left| !left.is_zero()) {
            write!(f, ", {} left", HumanDuration(left))?;
        }
        if self.running > 0 {
            write!(f, ", {} running", self.running)?;
        }
        if self.waiting > 0 {
            write!(f, ", {} waiting", self.waiting)?;
        }
        if let Some(oldest) = self.oldest {
            write!(f, " (oldest {})", HumanDuration(oldest))?;
        }
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        match self.nodes.len() {
            0 => Ok(()),
            1 => f.write_str(", answered by 1 node"),
            nodes => write!(f, ", answered by {nodes} nodes"),
        }
    }
}

impl Progress {
    /// The last line, which names the nodes.
    #[cfg_attr(not(feature = "progress"), allow(dead_code, reason = "only the bar shows it"))]
    pub(super) fn summary(&self) -> String {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        let named = nodes.iter().take(MAX_NAMED).map(|(node, calls)| format!("{} {calls}", node.name));
        let mut named: Vec<String> = named.collect();
        match nodes.get(MAX_NAMED..) {
            Some(others) if !others.is_empty() => {
                let calls: u64 = others.iter().map(|(_, calls)| calls).sum();
                named.push(format!("{} others {calls}", others.len()));
            }
            _ => {}
        }
        if named.is_empty() { self.to_string() } else { format!("{self}: {}", named.join(", ")) }
    }
}

/// Formats a duration as "3 m 12 s".
struct HumanDuration(Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} m {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {} m", seconds / 3600, seconds / 60 % 60),
        }
    }
}
