//! How far a distribution has come, for the person who waits for it.

use std::{
    collections::HashSet,
    fmt,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::id::NodeId;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How many results may pass between two looks at the clock.
const LOOK_EVERY: u64 = 256;

/// A bar on a terminal, plain lines elsewhere.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: Option<u64>,
    done: u64,
    failed: u64,
    nodes: HashSet<NodeId>,
    started: Instant,
    shown: Instant,
    unlooked: u64,
}

impl Progress {
    pub(super) fn new(total: Option<usize>) -> Self {
        let total = total.map(|total| total as u64);
        let bar = std::io::stderr().is_terminal().then(|| bar(total));
        let now = Instant::now();
        Self { bar, total, done: 0, failed: 0, nodes: HashSet::new(), started: now, shown: now, unlooked: 0 }
    }

    pub(super) fn note_node(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }

    pub(super) fn note_result(&mut self, is_ok: bool) {
        self.done += 1;
        self.failed += u64::from(!is_ok);
        self.unlooked += 1;
        // A clock is cheap, but not so cheap as a call of a batch.
        let often = self.done < LOOK_EVERY || self.unlooked >= LOOK_EVERY;
        if often {
            self.unlooked = 0;
            self.look();
        }
    }

    fn look(&mut self) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done);
                bar.set_message(self.company());
            }
            None if self.shown.elapsed() >= LINE_EVERY => {
                self.shown = Instant::now();
                self.print();
            }
            None => {}
        }
    }

    /// Failures and nodes.
    fn company(&self) -> String {
        let nodes = self.nodes.len();
        let nodes = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
        match self.failed {
            0 => nodes,
            failed => format!("{nodes}, {failed} failed"),
        }
    }

    #[allow(clippy::print_stderr, reason = "this is what was asked for")]
    fn print(&self) {
        eprintln!("{self}");
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elapsed = self.started.elapsed();
        let rate = self.done as f64 / elapsed.as_secs_f64().max(1e-9);
        match self.total {
            Some(total) => write!(f, "{} of {total} calls", self.done)?,
            None => write!(f, "{} calls", self.done)?,
        }
        write!(f, " in {:.1} s ({rate:.0} a second), {}", elapsed.as_secs_f64(), self.company())?;
        match self.total.and_then(|total| total.checked_sub(self.done)) {
            Some(left) if left > 0 && rate > 0.0 => {
                let time = Duration::from_secs_f64((left as f64 / rate).min(1e9));
                write!(f, ", {} left", HumanDuration(time))
            }
            _ => Ok(()),
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = match total {
        Some(_) => "{bar:30} {pos}/{len} calls, {rate}, {eta} left, {msg}",
        None => "{spinner} {pos} calls, {rate}, {elapsed}, {msg}",
    };
    // The templates are ours and well formed; a plain bar is good enough otherwise.
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
            // Where it goes cannot fail.
            let _ = write!(text, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate));
    }
    bar
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress({self})")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        // However it ended: all done, enough had, or given up.
        self.print();
    }
}
