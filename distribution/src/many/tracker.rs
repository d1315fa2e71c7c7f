//! Measures the progress of a run of many calls, and reports it to hooks and the progress bar.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

#[cfg(feature = "progress")]
use super::progress_bar::Bar;
use super::{progress::Progress, progress_timer::ProgressTimer};
use crate::{
    config::to_micros,
    id::{NodeId, NodeIdentity},
    wire::RunReport,
};

/// How often progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// How often the master is told. Reports are looked at five times a second, so it may be a fifth of a second later.
const MASTER_INTERVAL: Duration = Duration::from_millis(900);

type Hook = Box<dyn FnMut(&Progress) + Send>;

/// The calls that were pulled and have not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outstanding {
    pub(super) running: u64,
    pub(super) waiting: u64,
    /// When the oldest was sent.
    pub(super) oldest: Option<Instant>,
}

/// What a master is told of a run that has a name.
struct Named {
    name: String,
    /// Tells the runs of this caller apart.
    run: u64,
    /// When the master was told last.
    told: Option<Instant>,
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
    named: Option<Named>,
    #[cfg(feature = "progress")]
    bar: Option<Bar>,
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
            named: None,
            #[cfg(feature = "progress")]
            bar: None,
        }
    }

    pub(super) fn add_hook(&mut self, hook: impl FnMut(&Progress) + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    /// Has the master told of the run, by this name.
    pub(super) fn set_name(&mut self, name: String) {
        self.named = Some(Named { name, run: rand::random(), told: None });
    }

    /// Whether the master is told of the run.
    pub(super) fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Whether the master is to be told now. At the end it is told in any case.
    pub(super) fn is_master_due(&self, now: Instant, is_over: bool) -> bool {
        let is_due = |told: Instant| now.saturating_duration_since(told) >= MASTER_INTERVAL;
        self.named.as_ref().is_some_and(|named| is_over || named.told.is_none_or(is_due))
    }

    /// What the master is told. `oldest` are the ids of the calls and batches that were sent first and have not ended.
    pub(super) fn run_report(
        &mut self,
        now: Instant,
        progress: &Progress,
        oldest: Vec<u64>,
        is_over: bool,
    ) -> Option<RunReport> {
        let named = self.named.as_mut()?;
        named.told = Some(now);
        Some(RunReport {
            run: named.run,
            name: named.name.clone(),
            done: progress.done,
            failed: progress.failed,
            running: progress.running,
            waiting: progress.waiting,
            total: progress.total,
            elapsed: to_micros(progress.elapsed),
            is_over,
            oldest,
        })
    }

    #[cfg(feature = "progress")]
    pub(super) fn show_bar(&mut self) {
        self.bar = Some(Bar::new());
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
