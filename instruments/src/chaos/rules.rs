//! Checks a run against the rules that [`super`] lists.

use std::time::Duration;

use super::{
    call_plan::{CallPlan, HandlerEnd},
    call_record::{self, CallRecord, End},
    history::History,
    ledger::{Execution, Kind, Outcome, Registration},
    member_list::MemberList,
};

/// No call takes longer, whatever was done: its work takes milliseconds, and the waits between attempts
/// and the wait for a node take seconds. It may also be on three nodes in turn that are frozen, each for
/// two windows of six heartbeats; that is doubled.
pub(super) fn longest_life(heartbeat: Duration) -> Duration {
    Duration::from_secs(30) + heartbeat * 6 * 2 * 3 * 2
}

/// In microseconds: a caller may make a call this long after its master was killed, because it has not noticed yet.
const UNNOTICED: u64 = 1_000_000;

/// How much later than its timeout a call may end on a machine that is busy, besides the time in which its maker did not run.
const LATE_BY: Duration = Duration::from_secs(2);

/// How much earlier: clocks of two processes round.
const EARLY_BY: Duration = Duration::from_millis(10);

/// How long a call waits for a node: the library's default.
const NO_NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many nodes have to die of a call before it is taken for the cause; and how many masters.
const POISON: usize = 3;

/// What was found, in words, and what was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
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
    pub(super) master_lost: u64,
    pub(super) died_with_master: u64,
    pub(super) died_with_caller: u64,
    pub(super) resumed: u64,
    pub(super) answered_by_retry: u64,
    pub(super) resent: u64,
    pub(super) starts: u64,
    pub(super) longest: Duration,
}

impl Findings {
    /// Whether nothing was found.
    pub(super) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.unexpected.is_empty() && self.duplicates.is_empty()
    }
}

impl History {
    /// Applies all rules.
    pub(super) fn check(&self) -> Findings {
        let (members, unexplained) = MemberList::read(self);
        let (records, contradictions) = call_record::collect(self);
        let unexpected = [self.violations.clone(), unexplained, contradictions].concat();
        let longest = longest_life(self.heartbeat);
        let tally = Tally { resumed: members.resumed, ..Tally::default() };
        let mut checker = Checker { members, longest, findings: Findings { unexpected, tally, ..Findings::default() } };
        for (key, record) in (0..).zip(&records) {
            checker.check(key, &CallPlan::new(self.seed, key), record);
        }
        checker.findings
    }
}

struct Checker<'a> {
    members: MemberList<'a>,
    longest: Duration,
    findings: Findings,
}

impl Checker<'_> {
    fn check(&mut self, key: u64, plan: &CallPlan, record: &CallRecord<'_>) {
        let Self { members, longest, findings } = self;
        let starts = record.starts();
        findings.tally.starts += starts as u64;
        let unexpected = |text: &str| format!("call {key} {text}; {}", record.describe());
        let Some((maker, submitted)) = record.submitted else {
            // In a run that stood still, calls may not have been made at all.
            if starts > 0 || record.end.is_some() {
                findings.unexpected.push(unexpected("was never made, and has run or ended"));
            }
            return;
        };
        let awaited = plan.given_up.is_none();
        *if awaited { &mut findings.tally.calls } else { &mut findings.tally.given_up } += 1;
        if starts > 1 && !plan.idempotent {
            findings.duplicates.push(unexpected("may start once at most"));
        }
        // Of one that is at most once, a second start is a duplicate already.
        if plan.idempotent && record.most_starts() > plan.most_starts() as usize {
            let text = format!("may start {} times at most", plan.most_starts());
            findings.unexpected.push(unexpected(&text));
        }
        let until = record.end.map(|end| end.at).or(maker.killed).unwrap_or(u64::MAX);
        // A caller may make a call before it has noticed that its master was killed.
        let kills = members.master_kills(submitted.saturating_sub(UNNOTICED), until);
        if record.masters() > 1 + kills {
            let text = format!("was started for {} masters, and {kills} were killed meanwhile", record.masters());
            findings.unexpected.push(unexpected(&text));
        }
        if record.has_attempt_twice() {
            findings.unexpected.push(unexpected("has two starts of one attempt"));
        }
        if let Some(end) = record.end {
            if awaited {
                findings.tally.count(record, end);
            }
            if let Err(wrong) = check_end(members, plan, record, (end, kills)) {
                findings.unexpected.push(unexpected(&wrong));
            }
            let limit = plan.timeout.map_or(*longest, |timeout| timeout + LATE_BY + end.stood_still(submitted));
            if end.elapsed > limit {
                findings
                    .unexpected
                    .push(unexpected(&format!("ended after {limit:?}, which is the most that is expected")));
            }
            return;
        }
        let age = maker.killed.map(|killed| Duration::from_micros(killed.saturating_sub(submitted)));
        if age.is_none_or(|age| age > *longest) {
            let text = format!("did not end ({:?}, idempotent: {})", plan.method, plan.idempotent);
            findings.lost.push(unexpected(&text));
        } else if awaited {
            *if maker.is_caller {
                &mut findings.tally.died_with_caller
            } else {
                &mut findings.tally.died_with_master
            } += 1;
            findings.tally.failed += 1;
        }
    }
}

impl Tally {
    fn count(&mut self, record: &CallRecord<'_>, end: End<'_>) {
        match end.outcome {
            Some(Outcome::Value { .. } | Outcome::Declined { .. }) => {
                self.answered += 1;
                self.longest = self.longest.max(end.elapsed);
                if let Some(Outcome::Value { attempts, .. }) = end.outcome {
                    self.answered_by_retry += u64::from(*attempts > 1);
                    self.resent += u64::from(record.newest_attempt() > *attempts);
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
                    Kind::MasterLost => self.master_lost += 1,
                    Kind::Other => {}
                }
            }
            None => {}
        }
    }
}

fn check_end(
    members: &MemberList<'_>,
    plan: &CallPlan,
    record: &CallRecord<'_>,
    (end, master_kills): (End<'_>, usize),
) -> Result<(), String> {
    match end.outcome {
        None if plan.given_up.is_some() => {}
        None => return Err("was dropped, and was not to be".to_owned()),
        Some(Outcome::Value { digest, node, attempts }) => check_value(plan, record, *digest, node, *attempts)?,
        Some(Outcome::Declined { value }) => {
            if plan.work.end != HandlerEnd::Error || *value != plan.work.value() {
                return Err("ended with an error that its handler was not to return".to_owned());
            }
            if !record.has_run(None) {
                return Err("ended with its handler's error, and has no start and end".to_owned());
            }
        }
        Some(Outcome::Error { kind, execution, text }) => {
            let wrong = |wrong: String| Err(format!("{wrong}: {text}"));
            check_execution(record, *execution).or_else(wrong)?;
            check_kind(members, plan, record, (end, master_kills), kind).or_else(wrong)?;
        }
    }
    Ok(())
}

fn check_value(
    plan: &CallPlan,
    record: &CallRecord<'_>,
    digest: u64,
    node: &Registration,
    attempts: u32,
) -> Result<(), String> {
    if plan.work.end != HandlerEnd::Value || digest != plan.work.output().digest() {
        return Err("was answered wrong".to_owned());
    }
    if !record.has_run(Some(&node.name)) {
        return Err(format!("was answered by {}, whose ledger shows no start and end of it", node.name));
    }
    if attempts > 1 && !plan.idempotent {
        return Err(format!("is at most once, and was answered by attempt {attempts}"));
    }
    check_starts(record, attempts)
}

fn check_execution(record: &CallRecord<'_>, execution: Execution) -> Result<(), String> {
    match execution {
        Execution::NotRun if record.starts() > 0 => Err("is said not to have run, and has a start".to_owned()),
        Execution::Ran if !record.has_run(None) => Err("is said to have run, and has no start and end".to_owned()),
        _ => Ok(()),
    }
}

fn check_kind(
    members: &MemberList<'_>,
    plan: &CallPlan,
    record: &CallRecord<'_>,
    (end, master_kills): (End<'_>, usize),
    kind: &Kind,
) -> Result<(), String> {
    let was_hit = |node: &Registration| members.was_hit(node, end.at);
    let had_a_node = |before| members.had_a_node(end.maker, end.at, before);
    // A call that was lost with three connections in a row is not sent again, whatever became of the master.
    let resets = members.resets(end.maker, record.submitted.map_or(0, |(_, submitted)| submitted), end.at);
    let wrong = match kind {
        Kind::Panicked { node } => {
            let was_to = plan.work.end == HandlerEnd::Panic && record.has_run(Some(&node.name));
            (!was_to).then_some("panicked, and its handler was not to, or has not there")
        }
        Kind::TimedOut => {
            let too_early = plan.timeout.is_none_or(|timeout| end.elapsed + EARLY_BY < timeout);
            too_early.then_some("timed out before its time")
        }
        Kind::NoNode { waited } => {
            let waited = Duration::from_micros(*waited);
            had_a_node(waited).then_some("found no node, and there was one")
        }
        Kind::NodeLost { node, .. } if !was_hit(node) => Some("was lost with a node that was not hit"),
        Kind::NodeLost { attempts, .. } => {
            check_starts(record, *attempts)?;
            let may_go_on = plan.idempotent && *attempts < plan.most_starts();
            (may_go_on && had_a_node(NO_NODE_TIMEOUT))
                .then_some("is idempotent, and was not tried again though there was a node")
        }
        Kind::Poisoned { .. } if !plan.idempotent => Some("is at most once, and poisoned by several nodes"),
        Kind::Poisoned { nodes } => {
            let mut hit: Vec<&str> = nodes.iter().filter(|node| was_hit(node)).map(|node| &*node.id).collect();
            hit.sort_unstable();
            hit.dedup();
            (hit.len() < POISON).then_some("is poisoned, and not by three nodes that were hit")
        }
        Kind::MasterLost if master_kills == 0 => Some("was lost with a master, and none was killed"),
        Kind::MasterLost if plan.idempotent && master_kills + resets < POISON => {
            Some("is idempotent, and was lost with a master though it could have been sent to the next")
        }
        Kind::MasterLost => None,
        Kind::Other => Some("ended with an error that nothing here causes"),
    };
    wrong.map_or(Ok(()), |wrong| Err(wrong.to_owned()))
}

fn check_starts(record: &CallRecord<'_>, attempts: u32) -> Result<(), String> {
    let starts = record.last_starts();
    if starts > attempts as usize { Err(format!("has {starts} starts in {attempts} attempts")) } else { Ok(()) }
}
