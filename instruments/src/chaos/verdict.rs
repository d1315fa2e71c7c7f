//! Judges a run by the rules that [`super`] lists.

use std::time::Duration;

use super::{
    attendance::Attendance,
    case::{self, Case, End},
    history::History,
    ledger::{Execution, Kind, Outcome, Who},
    plan::{Fate, Plan},
};

/// No call takes longer, whatever was done: its work takes milliseconds, and the waits between attempts
/// and the wait for a node take seconds. It may also be on three nodes in turn that are frozen, each for
/// two windows of six heartbeats; that is doubled.
pub(super) fn longest_life(heartbeat: Duration) -> Duration {
    Duration::from_secs(30) + heartbeat * 6 * 2 * 3 * 2
}

/// How much later than its timeout a call may end on a machine that is busy.
const LATENESS: Duration = Duration::from_secs(2);

/// How much earlier: clocks of two processes round.
const EARLINESS: Duration = Duration::from_millis(10);

/// How long a call waits for a node: the library's default.
const NO_NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many nodes have to die of a call before it is taken for the cause.
const POISON: usize = 3;

/// What was found, in words, and what was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) lost: Vec<String>,
    pub(super) unexpected: Vec<String>,
    pub(super) duplicates: Vec<String>,
    pub(super) tally: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) given_up: u64,
    pub(super) may_have_run: u64,
    pub(super) node_lost: u64,
    pub(super) timed_out: u64,
    pub(super) panicked: u64,
    pub(super) poisoned: u64,
    pub(super) no_node: u64,
    pub(super) died_with_master: u64,
    pub(super) answered_by_retry: u64,
    pub(super) resent: u64,
    pub(super) starts: u64,
    pub(super) longest: Duration,
}

impl Verdict {
    /// Whether nothing was found.
    pub(super) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.unexpected.is_empty() && self.duplicates.is_empty()
    }
}

impl History {
    /// Applies all rules.
    pub(super) fn judge(&self) -> Verdict {
        let (attendance, unexplained) = Attendance::read(self);
        let (cases, contradictions) = case::collect(self);
        let unexpected = [self.violations.clone(), unexplained, contradictions].concat();
        let longest = longest_life(self.heartbeat);
        let mut court = Court { attendance, longest, verdict: Verdict { unexpected, ..Verdict::default() } };
        for (key, case) in (0..).zip(&cases) {
            court.judge(key, &Plan::new(self.seed, key), case);
        }
        court.verdict
    }
}

struct Court<'a> {
    attendance: Attendance<'a>,
    longest: Duration,
    verdict: Verdict,
}

impl Court<'_> {
    fn judge(&mut self, key: u64, plan: &Plan, case: &Case<'_>) {
        let Self { attendance, longest, verdict } = self;
        let starts = case.starts();
        verdict.tally.starts += starts as u64;
        let unexpected = |text: &str| format!("call {key} {text}; {}", case.describe());
        let Some((master, submitted)) = case.submitted else {
            // In a run that stood still, calls may not have been made at all.
            if starts > 0 || case.end.is_some() {
                verdict.unexpected.push(unexpected("was never made, and has run or ended"));
            }
            return;
        };
        let awaited = plan.given_up.is_none();
        *if awaited { &mut verdict.tally.calls } else { &mut verdict.tally.given_up } += 1;
        if starts > plan.most_starts() as usize {
            let text = unexpected(&format!("may start {} times at most", plan.most_starts()));
            if plan.idempotent { &mut verdict.unexpected } else { &mut verdict.duplicates }.push(text);
        }
        if case.has_attempt_twice() {
            verdict.unexpected.push(unexpected("has two starts of one attempt"));
        }
        if let Some(end) = case.end {
            if awaited {
                verdict.tally.count(case, end);
            }
            if let Err(wrong) = judge_end(attendance, plan, case, end) {
                verdict.unexpected.push(unexpected(&wrong));
            }
            let limit = plan.timeout.map_or(*longest, |timeout| timeout + LATENESS);
            if end.elapsed > limit {
                verdict
                    .unexpected
                    .push(unexpected(&format!("ended after {limit:?}, which is the most that is expected")));
            }
            return;
        }
        let age = master.killed.map(|killed| Duration::from_micros(killed.saturating_sub(submitted)));
        if age.is_none_or(|age| age > *longest) {
            let text = format!("did not end ({:?}, idempotent: {})", plan.method, plan.idempotent);
            verdict.lost.push(unexpected(&text));
        } else if awaited {
            verdict.tally.died_with_master += 1;
            verdict.tally.failed += 1;
        }
    }
}

impl Tally {
    fn count(&mut self, case: &Case<'_>, end: End<'_>) {
        match end.outcome {
            Some(Outcome::Value { .. } | Outcome::Declined { .. }) => {
                self.answered += 1;
                self.longest = self.longest.max(end.elapsed);
                if let Some(Outcome::Value { attempts, .. }) = end.outcome {
                    self.answered_by_retry += u64::from(*attempts > 1);
                    self.resent += u64::from(case.newest_attempt() > *attempts);
                }
            }
            Some(Outcome::Error { kind, execution, .. }) => {
                self.failed += 1;
                self.may_have_run += u64::from(*execution == Execution::MayHaveRun);
                match kind {
                    Kind::Panicked { .. } => self.panicked += 1,
                    Kind::NoNode { .. } => self.no_node += 1,
                    Kind::TimedOut => self.timed_out += 1,
                    Kind::NodeLost { .. } => self.node_lost += 1,
                    Kind::Poisoned { .. } => self.poisoned += 1,
                    Kind::Other => {}
                }
            }
            None => {}
        }
    }
}

fn judge_end(attendance: &Attendance<'_>, plan: &Plan, case: &Case<'_>, end: End<'_>) -> Result<(), String> {
    match end.outcome {
        None if plan.given_up.is_some() => {}
        None => return Err("was dropped, and was not to be".to_owned()),
        Some(Outcome::Value { digest, node, attempts }) => judge_value(plan, case, *digest, node, *attempts)?,
        Some(Outcome::Declined { value }) => {
            if plan.work.fate != Fate::Error || *value != plan.work.value() {
                return Err("ended with an error that its handler was not to return".to_owned());
            }
            if !case.has_run(None) {
                return Err("ended with its handler's error, and has no start and end".to_owned());
            }
        }
        Some(Outcome::Error { kind, execution, text }) => {
            let wrong = |wrong: String| Err(format!("{wrong}: {text}"));
            judge_execution(case, *execution).or_else(wrong)?;
            judge_kind(attendance, plan, case, end, kind).or_else(wrong)?;
        }
    }
    Ok(())
}

fn judge_value(plan: &Plan, case: &Case<'_>, digest: u64, node: &Who, attempts: u32) -> Result<(), String> {
    if plan.work.fate != Fate::Value || digest != plan.work.done().digest() {
        return Err("was answered wrong".to_owned());
    }
    if !case.has_run(Some(&node.name)) {
        return Err(format!("was answered by {}, whose ledger shows no start and end of it", node.name));
    }
    if attempts > 1 && !plan.idempotent {
        return Err(format!("is at most once, and was answered by attempt {attempts}"));
    }
    check_starts(case, attempts)
}

fn judge_execution(case: &Case<'_>, execution: Execution) -> Result<(), String> {
    match execution {
        Execution::NotRun if case.starts() > 0 => Err("is said not to have run, and has a start".to_owned()),
        Execution::Ran if !case.has_run(None) => Err("is said to have run, and has no start and end".to_owned()),
        _ => Ok(()),
    }
}

fn judge_kind(
    attendance: &Attendance<'_>,
    plan: &Plan,
    case: &Case<'_>,
    end: End<'_>,
    kind: &Kind,
) -> Result<(), String> {
    let was_hit = |node: &Who| attendance.was_hit(node, end.at);
    let somebody_was_there = |before| attendance.somebody_was_there(end.master, end.at, before);
    let wrong = match kind {
        Kind::Panicked { node } => {
            let was_to = plan.work.fate == Fate::Panic && case.has_run(Some(&node.name));
            (!was_to).then_some("panicked, and its handler was not to, or has not there")
        }
        Kind::TimedOut => {
            let too_early = plan.timeout.is_none_or(|timeout| end.elapsed + EARLINESS < timeout);
            too_early.then_some("timed out before its time")
        }
        Kind::NoNode { waited } => {
            let waited = Duration::from_micros(*waited);
            somebody_was_there(waited).then_some("found no node, and there was one")
        }
        Kind::NodeLost { node, .. } if !was_hit(node) => Some("was lost with a node that was not hit"),
        Kind::NodeLost { attempts, .. } => {
            check_starts(case, *attempts)?;
            let may_go_on = plan.idempotent && *attempts < plan.most_starts();
            (may_go_on && somebody_was_there(NO_NODE_TIMEOUT))
                .then_some("is idempotent, and was not tried again though there was a node")
        }
        Kind::Poisoned { .. } if !plan.idempotent => Some("is at most once, and poisoned by several nodes"),
        Kind::Poisoned { nodes } => {
            let mut hit: Vec<&str> = nodes.iter().filter(|node| was_hit(node)).map(|node| &*node.id).collect();
            hit.sort_unstable();
            hit.dedup();
            (hit.len() < POISON).then_some("is poisoned, and not by three nodes that were hit")
        }
        Kind::Other => Some("ended with an error that nothing here causes"),
    };
    wrong.map_or(Ok(()), |wrong| Err(wrong.to_owned()))
}

fn check_starts(case: &Case<'_>, attempts: u32) -> Result<(), String> {
    let starts = case.starts();
    if starts > attempts as usize { Err(format!("has {starts} starts in {attempts} attempts")) } else { Ok(()) }
}
