//! How far a stream of calls has come, for the person or the program that waits for it.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use super::ticker::Ticker;
use crate::id::{NodeId, NodeIdentity};

/// How often a hook is called and a bar is drawn.
const EVERY: Duration = Duration::from_millis(200);

/// Nodes that are named in a line; the others are counted.
const NODES_NAMED: usize = 8;

/// How far a [`Distributed`](crate::Distributed) has come: what
/// [`on_progress`](crate::Distributed::on_progress) is told.
///
/// A call counts as done once it has ended, also if its result is yet to be yielded. [`Display`](fmt::Display)
/// makes one line of it, as [`progress`](crate::Distributed::progress) shows it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Calls that have ended, with a value or an error.
    pub done: u64,
    /// Those of them that ended with an error.
    pub failed: u64,
    /// Calls that a node has: they run, or wait there for a slot. One whose node was lost, or gave it back, counts until
    /// another has it.
    pub running: u64,
    /// Calls that wait at the master for a node.
    pub waiting: u64,
    /// How long ago the oldest of those that run or wait was made.
    pub oldest: Option<Duration>,
    /// How many calls there are in all, if the input tells or has ended.
    pub total: Option<u64>,
    /// Since the first call was pulled from the input.
    pub elapsed: Duration,
    /// Calls done a second, since then.
    pub rate: f64,
    /// What the rest is expected to take at this rate; `None` while the total or the rate is unknown.
    pub time_left: Option<Duration>,
    /// The nodes that have answered calls, and how many each, in the order of their registration. Some may have gone.
    pub nodes: Vec<(NodeIdentity, u64)>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            Some(total) => write!(f, "{} of {total} calls", self.done)?,
            None => write!(f, "{} calls", self.done)?,
        }
        write!(f, " in {} ({:.0}/s)", Time(self.elapsed), self.rate)?;
        if let Some(left) = self.time_left.filter(|left| !left.is_zero()) {
            write!(f, ", {} left", Time(left))?;
        }
        if self.running > 0 {
            write!(f, ", {} running", self.running)?;
        }
        if self.waiting > 0 {
            write!(f, ", {} waiting", self.waiting)?;
        }
        if let Some(oldest) = self.oldest {
            write!(f, " (oldest {})", Time(oldest))?;
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
    /// The line at the end, which names the nodes.
    #[cfg_attr(not(feature = "progress"), allow(dead_code, reason = "there is nothing to show"))]
    pub(super) fn summary(&self) -> String {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        let named = nodes.iter().take(NODES_NAMED).map(|(node, calls)| format!("{} {calls}", node.name));
        let mut named: Vec<String> = named.collect();
        match nodes.get(NODES_NAMED..) {
            Some(others) if !others.is_empty() => {
                let calls: u64 = others.iter().map(|(_, calls)| calls).sum();
                named.push(format!("{} others {calls}", others.len()));
            }
            _ => {}
        }
        if named.is_empty() { self.to_string() } else { format!("{self}: {}", named.join(", ")) }
    }
}

/// "3 m 12 s"
struct Time(Duration);

impl fmt::Display for Time {
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

type Hook = Box<dyn FnMut(&Progress) + Send>;

/// The calls that were made and have not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Out {
    pub(super) running: u64,
    pub(super) waiting: u64,
    /// When the oldest was made.
    pub(super) oldest: Option<Instant>,
}

/// Takes part in a stream's run and tells of it.
pub(super) struct Tracker {
    started: Instant,
    done: u64,
    failed: u64,
    nodes: BTreeMap<NodeId, (NodeIdentity, u64)>,
    /// Started with the first call.
    ticker: Option<Ticker>,
    hooks: Vec<Hook>,
    #[cfg(feature = "progress")]
    bar: Option<super::bar::Bar>,
}

impl Tracker {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            done: 0,
            failed: 0,
            nodes: BTreeMap::new(),
            ticker: None,
            hooks: Vec::new(),
            #[cfg(feature = "progress")]
            bar: None,
        }
    }

    pub(super) fn add_hook(&mut self, hook: impl FnMut(&Progress) + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    #[cfg(feature = "progress")]
    pub(super) fn show(&mut self) {
        self.bar = Some(super::bar::Bar::new());
    }

    /// Calls have ended on this node.
    pub(super) fn note_node(&mut self, node: &NodeIdentity, calls: u64) {
        self.nodes.entry(node.id).or_insert_with(|| (node.clone(), 0)).1 += calls;
    }

    /// A call has ended.
    pub(super) fn note_result(&mut self, is_ok: bool) {
        self.done += 1;
        self.failed += u64::from(!is_ok);
    }

    /// Whether it is time to tell again. The first time it is asked the clock starts.
    pub(super) fn is_due(&mut self) -> bool {
        match &mut self.ticker {
            Some(ticker) => ticker.take_due(),
            None => {
                self.started = Instant::now();
                self.ticker = Some(Ticker::new(EVERY));
                false
            }
        }
    }

    /// This task is to be woken when it is time to tell.
    pub(super) fn wake_later(&self, task: &std::task::Waker) {
        if let Some(ticker) = &self.ticker {
            ticker.wake_later(task);
        }
    }

    /// How far it has come at this moment, by what the stream knows.
    pub(super) fn look(&self, now: Instant, out: Out, total: Option<u64>) -> Progress {
        let elapsed = now.saturating_duration_since(self.started);
        let rate = if self.done == 0 { 0.0 } else { self.done as f64 / elapsed.as_secs_f64().max(1e-9) };
        let left = total.map(|total| total.saturating_sub(self.done)).filter(|_| rate > 0.0);
        Progress {
            done: self.done,
            failed: self.failed,
            running: out.running,
            waiting: out.waiting,
            oldest: out.oldest.map(|oldest| now.saturating_duration_since(oldest)),
            total,
            elapsed,
            rate,
            // A year is as good as for ever.
            time_left: left.map(|left| Duration::from_secs_f64((left as f64 / rate).min(31_536_000.0))),
            nodes: self.nodes.values().cloned().collect(),
        }
    }

    pub(super) fn tell(&mut self, progress: &Progress) {
        for hook in &mut self.hooks {
            hook(progress);
        }
        #[cfg(feature = "progress")]
        if let Some(bar) = &mut self.bar {
            bar.draw(progress);
        }
    }
}

#[cfg(feature = "progress")]
impl Tracker {
    /// However it ended: all done, enough had, or given up.
    pub(super) fn end(&mut self, progress: &Progress) {
        if let Some(bar) = self.bar.take() {
            bar.end(progress);
        }
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker").field("done", &self.done).field("failed", &self.failed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_what_has_ended() {
        let mut tracker = Tracker::new();
        let began = tracker.started;
        let node = |number, name: &str| NodeIdentity::new(NodeId::new(1, number), name, ([127, 0, 0, 1], 1).into());
        assert_eq!(tracker.look(began, Out::default(), Some(200)).time_left, None, "nothing has ended yet");
        for number in 0..199 {
            tracker.note_result(number % 100 != 7);
        }
        tracker.note_node(&node(1, "a"), 100);
        tracker.note_node(&node(2, "b"), 98);
        tracker.note_node(&node(2, "b"), 1);
        let now = began + Duration::from_secs(100);
        let out = Out { running: 1, waiting: 0, oldest: Some(began + Duration::from_secs(28)) };
        let progress = tracker.look(now, out, Some(200));
        assert_eq!((progress.done, progress.failed, progress.rate), (199, 2, 1.99));
        assert_eq!(
            progress.to_string(),
            "199 of 200 calls in 1 m 40 s (2/s), 0.5 s left, 1 running (oldest 1 m 12 s), 2 failed, answered by 2 nodes"
        );
        assert!(progress.summary().ends_with("answered by 2 nodes: a 100, b 99"), "{}", progress.summary());
        let progress = tracker.look(now, Out { waiting: 3, ..out }, Some(200)).to_string();
        assert!(progress.contains(", 1 running, 3 waiting (oldest 1 m 12 s)"), "{progress}");
    }

    #[test]
    fn many_nodes_are_counted_behind_those_with_most_calls() {
        let mut tracker = Tracker::new();
        for number in 1..=12 {
            let node = NodeIdentity::new(NodeId::new(1, number), &format!("n{number}"), ([127, 0, 0, 1], 1).into());
            tracker.note_node(&node, u64::from(number));
        }
        let summary = tracker.look(tracker.started, Out::default(), None).summary();
        assert!(summary.ends_with(": n12 12, n11 11, n10 10, n9 9, n8 8, n7 7, n6 6, n5 5, 4 others 10"), "{summary}");
    }
}
