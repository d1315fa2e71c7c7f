//! The runs of many calls that have a name, as their callers tell of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    administration::{CallInfo, RunInfo, RunStatus},
    config::from_micros,
    id::{CallId, CallerId},
    text::in_one_line,
    wire::RunReport,
};

/// Runs under way that are listed of one caller.
const MOST_OF_A_CALLER: usize = 64;

/// Runs under way that are listed in all.
const MOST: usize = 4_096;

/// Runs that have ended, the newest ones.
const MOST_ENDED: usize = 100;

/// Bytes of a name. The rest is cut off.
const LONGEST_NAME: usize = 200;

/// Calls of a run that are shown.
const MOST_STRAGGLERS: usize = 5;

/// A run of which no call has ended for less than this is not stalled.
const STALLED: Duration = Duration::from_secs(10);

/// At most a year, as a `Duration` cannot hold every number.
const LONGEST_TIME_LEFT: f64 = 31_536_000.0;

/// What is known of runs.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Runs under way, by their caller and their number at it.
    live: BTreeMap<(CallerId, u64), Run>,
    /// Runs that have ended, the newest last, each with its number.
    ended: VecDeque<(u64, Run)>,
}

/// A run, as its caller has told of it last.
#[derive(Clone, Debug)]
pub(super) struct Run {
    caller: Option<Arc<str>>,
    report: RunReport,
    status: RunStatus,
    /// When its caller has told of it last, since the start of the master.
    told: Duration,
    /// When its caller has told last that calls of it have ended, and how long one took on average until then.
    progressed: (Duration, Duration),
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A caller tells of a run. What is too much is not listed.
    pub(super) fn on_report(&self, id: CallerId, caller: Option<&str>, mut report: RunReport, now: Duration) {
        report.name = in_one_line(&report.name, LONGEST_NAME);
        // A call of another caller is none of this run's.
        report.oldest.retain(|call| id == CallerId::MASTER || CallId(*call).is_of(id));
        report.oldest.truncate(MOST_STRAGGLERS);
        report.oldest.shrink_to_fit();
        let (number, is_over) = (report.run, report.is_over);
        let status = match report.total {
            _ if !is_over => RunStatus::Running,
            Some(total) if total == report.done => RunStatus::Finished,
            _ => RunStatus::Stopped,
        };
        let mut known = self.lock();
        let of_each = from_micros(report.elapsed) / u32::try_from(report.done.max(1)).unwrap_or(u32::MAX);
        let mut progressed = (now, of_each);
        let caller = match known.live.get(&(id, number)) {
            Some(run) => {
                if run.report.done == report.done {
                    progressed = run.progressed;
                }
                run.caller.clone()
            }
            // Its caller has connected again, as another one.
            None => {
                known.ended.retain(|(ended, run)| *ended != number || run.status != RunStatus::Lost);
                caller.map(Arc::from)
            }
        };
        let run = Run { caller, report, status, told: now, progressed };
        if is_over {
            known.live.remove(&(id, number));
            known.end(number, run);
        } else if known.live.contains_key(&(id, number)) || known.has_room(id) {
            known.live.insert((id, number), run);
        }
    }

    /// A caller is gone, and so are its runs.
    pub(super) fn on_caller_gone(&self, id: CallerId) {
        let mut known = self.lock();
        let lost: Vec<u64> = known.live.range((id, 0)..=(id, u64::MAX)).map(|((_, number), _)| *number).collect();
        for number in lost {
            if let Some(run) = known.live.remove(&(id, number)) {
                known.end(number, Run { status: RunStatus::Lost, ..run });
            }
        }
    }

    /// Those under way, the oldest first, and then those that have ended, the newest first.
    pub(super) fn list(&self) -> Vec<Run> {
        let known = self.lock();
        let mut runs: Vec<Run> = known.live.values().cloned().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.report.elapsed));
        runs.extend(known.ended.iter().rev().map(|(_, run)| run.clone()));
        runs
    }
}

impl Known {
    fn has_room(&self, id: CallerId) -> bool {
        self.live.len() < MOST && self.live.range((id, 0)..=(id, u64::MAX)).count() < MOST_OF_A_CALLER
    }

    fn end(&mut self, number: u64, run: Run) {
        self.ended.push_back((number, run));
        if self.ended.len() > MOST_ENDED {
            self.ended.pop_front();
        }
    }
}

impl Run {
    /// The calls that its end may wait for, by their ids.
    pub(super) fn oldest(&self) -> &[u64] {
        match self.status {
            RunStatus::Running => &self.report.oldest,
            _ => &[],
        }
    }

    /// As administrators see it.
    pub(super) fn info(self, now: Duration, stragglers: Vec<CallInfo>) -> RunInfo {
        let Self { caller, report, status, told, progressed } = self;
        let elapsed = from_micros(report.elapsed);
        let seconds = elapsed.as_secs_f64();
        let rate = if report.done == 0 || seconds == 0.0 { 0.0 } else { report.done as f64 / seconds };
        let is_running = status == RunStatus::Running;
        let (progressed, of_each) = progressed;
        let stalled = STALLED.max(of_each.saturating_mul(10));
        let stalled_for = Some(now.saturating_sub(progressed)).filter(|idle| is_running && *idle > stalled);
        let left = report.total.map(|total| total.saturating_sub(report.done));
        let left = left.filter(|_| rate > 0.0 && is_running && stalled_for.is_none());
        RunInfo {
            number: report.run,
            name: report.name,
            caller,
            status,
            done: report.done,
            failed: report.failed,
            running: if is_running { report.running } else { 0 },
            waiting: if is_running { report.waiting } else { 0 },
            total: report.total,
            rate,
            time_left: left.map(|left| Duration::from_secs_f64((left as f64 / rate).min(LONGEST_TIME_LEFT))),
            stalled_for,
            elapsed,
            told_for: now.saturating_sub(told),
            stragglers,
        }
    }
}

/// How many reports a connection may send.
#[derive(Debug)]
pub(super) struct ReportLimit {
    /// When the reports that have come so far would be due at the highest rate that is allowed.
    due: Instant,
}

impl ReportLimit {
    /// Between two reports, on average. A caller sends no more than a quarter of this.
    const EACH: Duration = Duration::from_millis(4);

    /// After a stall of the master there may be many to read.
    const BURST: u32 = 4_096;

    pub(super) fn new() -> Self {
        Self { due: Instant::now() }
    }

    /// A report has come. `not_read` is for how long in all the connection was not read.
    ///
    /// # Errors
    ///
    /// If they come too often: the reason why the connection is closed.
    pub(super) fn on_report(&mut self, not_read: Duration) -> Result<(), String> {
        let now = Instant::now();
        self.due = self.due.max(now) + Self::EACH;
        match self.due > now + Self::EACH * Self::BURST + not_read {
            true => Err(format!("it sent reports of runs more often than one every {:?}", Self::EACH)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(run: u64) -> RunReport {
        RunReport { run, name: format!("run {run}"), total: Some(10), ..RunReport::default() }
    }

    fn names(runs: &Runs) -> Vec<(String, RunStatus)> {
        runs.list().into_iter().map(|run| (run.report.name, run.status)).collect()
    }

    #[test]
    fn a_run_is_listed_until_a_hundred_others_have_ended() {
        let (runs, caller) = (Runs::default(), CallerId(7));
        runs.on_report(caller, Some("c"), report(1), Duration::ZERO);
        assert_eq!(names(&runs), [("run 1".to_owned(), RunStatus::Running)]);
        runs.on_report(caller, Some("c"), RunReport { is_over: true, done: 10, ..report(1) }, Duration::ZERO);
        assert_eq!(names(&runs), [("run 1".to_owned(), RunStatus::Finished)]);
        for number in 2..=200 {
            runs.on_report(caller, Some("c"), RunReport { is_over: true, done: 9, ..report(number) }, Duration::ZERO);
        }
        let ended = names(&runs);
        assert_eq!(ended.len(), MOST_ENDED);
        assert_eq!(ended[0], ("run 200".to_owned(), RunStatus::Stopped), "the newest first");
    }

    #[test]
    fn a_run_of_which_no_call_ends_is_stalled_and_has_no_time_left() {
        let (runs, caller, seconds) = (Runs::default(), CallerId(7), Duration::from_secs);
        let told = |done, at: u64| {
            let report = RunReport { done, elapsed: at * 1_000_000, ..report(1) };
            runs.on_report(caller, None, report, seconds(at));
            let run = runs.list().remove(0).info(seconds(at), Vec::new());
            (run.stalled_for, run.time_left.is_some())
        };
        assert_eq!(told(0, 1), (None, false));
        assert_eq!(told(5, 5), (None, true));
        assert_eq!(told(5, 15), (None, true), "one takes a second or more");
        assert_eq!(told(5, 40), (Some(seconds(35)), false), "ten times as long");
        assert_eq!(told(6, 41), (None, true));
    }

    #[test]
    fn the_runs_of_a_caller_that_is_gone_are_lost_until_it_tells_of_them_again() {
        let runs = Runs::default();
        for (caller, run) in [(7, 1), (8, 2), (8, 3), (9, 4)] {
            runs.on_report(CallerId(caller), None, report(run), Duration::ZERO);
        }
        runs.on_caller_gone(CallerId(8));
        let lost = |runs: &Runs| -> Vec<String> {
            names(runs).into_iter().filter(|(_, status)| *status == RunStatus::Lost).map(|(name, _)| name).collect()
        };
        assert_eq!(lost(&runs), ["run 3", "run 2"]);
        runs.on_report(CallerId(10), None, report(2), Duration::ZERO);
        assert_eq!(lost(&runs), ["run 3"]);
        assert_eq!(names(&runs).len(), 4);
    }

    #[test]
    fn what_one_caller_tells_is_bounded() {
        let runs = Runs::default();
        for number in 0..1000 {
            let oldest = (0..1000).collect();
            let name = "long\u{1b}".repeat(1000);
            runs.on_report(CallerId(7), None, RunReport { name, oldest, ..report(number) }, Duration::ZERO);
        }
        runs.on_report(CallerId(8), None, report(1), Duration::ZERO);
        let listed = runs.list();
        assert_eq!(listed.len(), MOST_OF_A_CALLER + 1, "another caller has room");
        // None of the calls is one of its own.
        assert!(listed.iter().all(|run| run.report.oldest.is_empty()));
        assert!(listed.iter().all(|run| run.report.name.len() < 1000 && !run.report.name.contains('\u{1b}')));
    }

    #[tokio::test(start_paused = true)]
    async fn reports_at_four_times_the_rate_of_a_caller_are_accepted_and_a_flood_is_not() {
        let mut limit = ReportLimit::new();
        for _ in 0..100_000 {
            assert_eq!(limit.on_report(Duration::ZERO), Ok(()));
            tokio::time::advance(ReportLimit::EACH).await;
        }
        let accepted = (0..10_000).take_while(|_| limit.on_report(Duration::ZERO).is_ok()).count();
        assert_eq!(accepted, ReportLimit::BURST as usize);
    }
}
