//! Measures how far a run of many calls has come, and reports it to hooks and the progress bar.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use super::progress_timer::ProgressTimer;
use crate::id::{NodeId, NodeIdentity};

/// How often progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

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

type Hook = Box<dyn FnMut(&Progress) + Send>;

/// The calls that were pulled and have not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outstanding {
    pub(super) running: u64,
    pub(super) waiting: u64,
    /// When the oldest was sent.
    pub(super) oldest: Option<Instant>,
}

/// Counts what happens in a run, and reports it.
pub(super) struct Tracker {
    started: Instant,
    done: u64,
    failed: u64,
    nodes: BTreeMap<NodeId, (NodeIdentity, u64)>,
    /// Started when the stream is polled first.
    timer: Option<ProgressTimer>,
    hooks: Vec<Hook>,
    #[cfg(feature = "progress")]
    bar: Option<super::progress_bar::Bar>,
}

impl Tracker {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            done: 0,
            failed: 0,
            nodes: BTreeMap::new(),
            timer: None,
            hooks: Vec::new(),
            #[cfg(feature = "progress")]
            bar: None,
        }
    }

    pub(super) fn add_hook(&mut self, hook: impl FnMut(&Progress) + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    #[cfg(feature = "progress")]
    pub(super) fn show_bar(&mut self) {
        self.bar = Some(super::progress_bar::Bar::new());
    }

    /// This node has answered this many calls.
    pub(super) fn note_node(&mut self, node: &NodeIdentity, calls: u64) {
        self.nodes.entry(node.id).or_insert_with(|| (node.clone(), 0)).1 += calls;
    }

    /// A call has ended.
    pub(super) fn note_result(&mut self, is_ok: bool) {
        self.done += 1;
        self.failed += u64::from(!is_ok);
    }

    /// Whether it is time to report. The first question starts the clock.
    pub(super) fn is_due(&mut self) -> bool {
        match &mut self.timer {
            Some(timer) => timer.take_due(),
            None => {
                self.started = Instant::now();
                self.timer = Some(ProgressTimer::new(REPORT_INTERVAL));
                false
            }
        }
    }

    /// Wakes this task when it is time to report.
    pub(super) fn wake_later(&self, task: &std::task::Waker) {
        if let Some(timer) = &self.timer {
            timer.wake_later(task);
        }
    }

    /// The progress at this moment, with these calls outstanding.
    pub(super) fn progress(&self, now: Instant, outstanding: Outstanding, total: Option<u64>) -> Progress {
        let elapsed = now.saturating_duration_since(self.started);
        let rate = if self.done == 0 { 0.0 } else { self.done as f64 / elapsed.as_secs_f64().max(1e-9) };
        let left = total.map(|total| total.saturating_sub(self.done)).filter(|_| rate > 0.0);
        Progress {
            done: self.done,
            failed: self.failed,
            running: outstanding.running,
            waiting: outstanding.waiting,
            oldest: outstanding.oldest.map(|oldest| now.saturating_duration_since(oldest)),
            total,
            elapsed,
            rate,
            // At most a year, as a `Duration` cannot hold every number.
            time_left: left.map(|left| Duration::from_secs_f64((left as f64 / rate).min(31_536_000.0))),
            nodes: self.nodes.values().cloned().collect(),
        }
    }

    pub(super) fn report(&mut self, progress: &Progress) {
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
    /// Replaces the bar by a line that names the nodes. The run has ended, or was dropped.
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
    fn the_time_left_follows_from_the_calls_that_have_ended() {
        let mut tracker = Tracker::new();
        let started = tracker.started;
        let node = |number, name: &str| NodeIdentity::new(NodeId::new(1, number), name, ([127, 0, 0, 1], 1).into());
        assert_eq!(
            tracker.progress(started, Outstanding::default(), Some(200)).time_left,
            None,
            "no call has ended yet"
        );
        for number in 0..199 {
            tracker.note_result(number % 100 != 7);
        }
        tracker.note_node(&node(1, "a"), 100);
        tracker.note_node(&node(2, "b"), 98);
        tracker.note_node(&node(2, "b"), 1);
        let now = started + Duration::from_secs(100);
        let outstanding = Outstanding { running: 1, waiting: 0, oldest: Some(started + Duration::from_secs(28)) };
        let progress = tracker.progress(now, outstanding, Some(200));
        assert_eq!((progress.done, progress.failed, progress.rate), (199, 2, 1.99));
        assert_eq!(
            progress.to_string(),
            "199 of 200 calls in 1 m 40 s (2/s), 0.5 s left, 1 running (oldest 1 m 12 s), 2 failed, answered by 2 nodes"
        );
        assert!(progress.summary().ends_with("answered by 2 nodes: a 100, b 99"), "{}", progress.summary());
        let progress = tracker.progress(now, Outstanding { waiting: 3, ..outstanding }, Some(200)).to_string();
        assert!(progress.contains(", 1 running, 3 waiting (oldest 1 m 12 s)"), "{progress}");
    }

    #[test]
    fn the_last_line_names_the_nodes_with_most_calls_and_counts_the_others() {
        let mut tracker = Tracker::new();
        for number in 1..=12 {
            let node = NodeIdentity::new(NodeId::new(1, number), &format!("n{number}"), ([127, 0, 0, 1], 1).into());
            tracker.note_node(&node, u64::from(number));
        }
        let summary = tracker.progress(tracker.started, Outstanding::default(), None).summary();
        assert!(summary.ends_with(": n12 12, n11 11, n10 10, n9 9, n8 8, n7 7, n6 6, n5 5, 4 others 10"), "{summary}");
    }
}
