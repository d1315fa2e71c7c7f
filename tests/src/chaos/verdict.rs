//! Compares what the processes wrote down with what the driver did: the rules that [`super`] lists.

use std::{collections::HashMap, time::Duration};

use super::{
    ledger::{Execution, Kind, Made, Outcome, Ran, Reason, Step, What, Who},
    plan::{Fate, Plan},
    strikes::Blow,
};

/// No call takes longer, whatever was done: its work takes milliseconds, and even three freezes, the
/// waits between attempts and the wait for a node together take less.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(30);

/// How much later than its timeout a call may end on a machine that is busy.
const LATENESS: Duration = Duration::from_secs(2);

/// How much earlier: clocks of two processes round.
const EARLINESS: Duration = Duration::from_millis(10);

/// How long after a thaw a registration may still end of the freeze.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Nodes' comings and goings are written down after the fact; overlaps shorter than this mean nothing.
const HINDSIGHT: Duration = Duration::from_millis(100);

/// How long a call waits for a node: the library's default.
const NODE_WAIT: Duration = Duration::from_secs(5);

/// How many nodes have to die of a call before it is taken for the cause.
const POISON: usize = 3;

/// What was done to a node, from when to when (for good, if it was not a freeze that ended).
#[derive(Clone, Debug)]
pub(super) struct Harm {
    pub(super) name: String,
    pub(super) blow: Blow,
    pub(super) from: u64,
    pub(super) until: Option<u64>,
}

/// One master, from its start to its end.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) name: String,
    pub(super) entries: Vec<Made>,
    /// When the driver killed it, if it did.
    pub(super) killed: Option<u64>,
}

/// All there is to judge.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) seed: u64,
    pub(super) keys: u64,
    pub(super) masters: Vec<Generation>,
    /// Each node's name and ledger.
    pub(super) nodes: Vec<(String, Vec<Ran>)>,
    pub(super) harms: Vec<Harm>,
    /// What the driver itself found wrong.
    pub(super) complaints: Vec<String>,
}

/// What was found, in words.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) lost: Vec<String>,
    pub(super) unexpected: Vec<String>,
    pub(super) duplicates: Vec<String>,
    pub(super) tally: Tally,
}

/// What is counted.
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
    pub(super) starts: u64,
    pub(super) longest: Duration,
}

impl Verdict {
    /// Whether nothing was found.
    pub(super) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.unexpected.is_empty() && self.duplicates.is_empty()
    }
}

/// What all ledgers say of one call.
#[derive(Debug, Default)]
struct Case<'a> {
    submitted: Option<(&'a Generation, u64)>,
    end: Option<End<'a>>,
    ran: Vec<(&'a str, &'a Ran)>,
}

#[derive(Clone, Copy, Debug)]
struct End<'a> {
    master: &'a Generation,
    at: u64,
    elapsed: Duration,
    /// `None` if the caller dropped it.
    outcome: Option<&'a Outcome>,
}

/// When a registration began, and when it took no more calls.
type Presence = (u64, u64);

struct Court<'a> {
    history: &'a History,
    harms: HashMap<&'a str, Vec<&'a Harm>>,
    joined: HashMap<&'a Who, u64>,
    /// By master.
    present: HashMap<&'a str, Vec<Presence>>,
    verdict: Verdict,
}

impl History {
    /// Applies all rules.
    pub(super) fn judge(&self) -> Verdict {
        let mut court = Court {
            history: self,
            harms: HashMap::new(),
            joined: HashMap::new(),
            present: HashMap::new(),
            verdict: Verdict { unexpected: self.complaints.clone(), ..Verdict::default() },
        };
        for harm in &self.harms {
            court.harms.entry(&harm.name).or_default().push(harm);
        }
        for master in &self.masters {
            court.judge_registrations(master);
        }
        for (key, case) in court.cases() {
            court.judge_case(key, &case);
        }
        court.verdict
    }
}

impl<'a> Court<'a> {
    fn unexpected(&mut self, text: String) {
        self.verdict.unexpected.push(text);
    }

    /// Reads which nodes were there when, and judges each that is gone.
    fn judge_registrations(&mut self, master: &'a Generation) {
        let mut present: HashMap<&Who, Presence> = HashMap::new();
        for Made { at, what } in &master.entries {
            match what {
                What::Joined { node } => {
                    self.joined.entry(node).or_insert(*at);
                    present.entry(node).or_insert((*at, u64::MAX));
                }
                What::Leaving { node } => end_presence(&mut present, node, *at),
                What::Gone { node, reason } => {
                    end_presence(&mut present, node, *at);
                    let excused = match reason {
                        Reason::Silent => self.was(node, *at, &[Blow::Freeze]),
                        Reason::Cut => self.was(node, *at, &[Blow::Kill, Blow::Freeze]),
                        Reason::Left => self.was(node, *at, &[Blow::Terminate]),
                        Reason::Shutdown => master.killed.is_none(),
                        Reason::Other => false,
                    };
                    if !excused {
                        let Who { name, id } = node;
                        self.unexpected(format!(
                            "{name} ({id}) is gone ({reason:?}), and nothing like it was done to it"
                        ));
                    }
                }
                _ => {}
            }
        }
        self.present.insert(&master.name, present.into_values().collect());
    }

    /// Whether this was done to the node while it was registered so, before that time.
    fn was(&self, node: &Who, at: u64, blows: &[Blow]) -> bool {
        let joined = self.joined.get(node).copied().unwrap_or(0);
        let harms = self.harms.get(node.name.as_str()).into_iter().flatten();
        harms.filter(|harm| blows.contains(&harm.blow)).any(|harm| {
            let over = harm.until.map_or(u64::MAX, |until| until + micros(AFTERMATH));
            harm.from <= at && at <= over && harm.until.is_none_or(|until| until >= joined)
        })
    }

    /// Whether a node took calls of this master at any moment of the time before.
    fn somebody_was_there(&self, master: &Generation, at: u64, before: Duration) -> bool {
        let (from, to) = (at.saturating_sub(micros(before)) + micros(HINDSIGHT), at.saturating_sub(micros(HINDSIGHT)));
        let present = self.present.get(master.name.as_str()).into_iter().flatten();
        present.into_iter().any(|(joined, left)| *joined < to && *left > from)
    }

    /// Puts together by call what is in the ledgers.
    fn cases(&mut self) -> Vec<(u64, Case<'a>)> {
        let mut cases: Vec<Case<'a>> = (0..self.history.keys).map(|_| Case::default()).collect();
        let mut case = |key: u64, found: &mut dyn FnMut(&mut Case<'a>)| {
            if let Some(case) = usize::try_from(key).ok().and_then(|key| cases.get_mut(key)) {
                found(case);
            }
        };
        let mut wrong = Vec::new();
        for master in &self.history.masters {
            for Made { at, what } in &master.entries {
                let (key, end) = match what {
                    What::Submit { key } => {
                        case(*key, &mut |case| {
                            if case.submitted.replace((master, *at)).is_some() {
                                wrong.push(format!("call {key} was made twice"));
                            }
                        });
                        continue;
                    }
                    What::End { key, elapsed, outcome } => (*key, (Duration::from_micros(*elapsed), Some(outcome))),
                    What::GivenUp { key } => (*key, (Duration::ZERO, None)),
                    _ => continue,
                };
                case(key, &mut |case| {
                    let (elapsed, outcome) = end;
                    if case.end.replace(End { master, at: *at, elapsed, outcome }).is_some() {
                        wrong.push(format!("call {key} ended twice"));
                    }
                });
            }
        }
        for (name, ledger) in &self.history.nodes {
            for ran in ledger {
                case(ran.key, &mut |case| case.ran.push((name, ran)));
            }
        }
        self.verdict.unexpected.append(&mut wrong);
        (0..).zip(cases).collect()
    }

    fn judge_case(&mut self, key: u64, case: &Case<'a>) {
        let plan = Plan::new(self.history.seed, key);
        let starts = case.starts();
        self.verdict.tally.starts += starts as u64;
        let Some((master, submitted)) = case.submitted else {
            // In a run that stood still, calls may not have been made at all.
            if starts > 0 {
                self.unexpected(format!("call {key} was run, and never made"));
            }
            return;
        };
        if plan.given_up.is_none() {
            self.verdict.tally.calls += 1;
        } else {
            self.verdict.tally.given_up += 1;
        }
        if !plan.idempotent && starts > 1 {
            self.verdict.duplicates.push(format!("call {key}, at most once: {}", case.describe()));
        }
        if plan.idempotent && starts > plan.most_starts() as usize {
            let most = plan.most_starts();
            self.unexpected(format!("call {key} has more than {most} starts: {}", case.describe()));
        }
        if case.has_attempt_twice() {
            self.unexpected(format!("call {key} has two starts of one attempt: {}", case.describe()));
        }
        match case.end {
            Some(end) => {
                if let Err(wrong) = self.judge_end(&plan, case, end) {
                    self.unexpected(format!("call {key} {wrong}; {}", case.describe()));
                }
            }
            None => {
                let age = master.killed.map(|killed| Duration::from_micros(killed.saturating_sub(submitted)));
                if age.is_some_and(|age| age <= LONGEST_LIFE) {
                    if plan.given_up.is_none() {
                        self.verdict.tally.died_with_master += 1;
                        self.verdict.tally.failed += 1;
                    }
                } else {
                    let method = (plan.idempotent, plan.asynchronous);
                    let text = format!("call {key} (idempotent, async: {method:?}) of {}", master.name);
                    self.verdict.lost.push(format!("{text} never ended; {}", case.describe()));
                }
            }
        }
    }

    fn judge_end(&mut self, plan: &Plan, case: &Case<'a>, end: End<'a>) -> Result<(), String> {
        let Some(outcome) = end.outcome else {
            return if plan.given_up.is_some() { Ok(()) } else { Err("was dropped, and was not to be".to_owned()) };
        };
        let mut tally = Tally::default();
        let judged = match outcome {
            Outcome::Value { digest, node, attempts } => {
                tally.answered = 1;
                tally.longest = end.elapsed;
                tally.answered_by_retry = u64::from(*attempts > 1);
                self.judge_value(plan, case, *digest, node, *attempts)
            }
            Outcome::Declined { value } => {
                tally.answered = 1;
                tally.longest = end.elapsed;
                if plan.work.fate != Fate::Error || *value != plan.work.value() {
                    Err("ended with an error that its handler was not to return".to_owned())
                } else if !case.has_run(None) {
                    Err("ended with its handler's error, and has no start and end".to_owned())
                } else {
                    Ok(())
                }
            }
            Outcome::Error { kind, execution, text } => {
                tally.failed = 1;
                tally.may_have_run = u64::from(*execution == Execution::MayHaveRun);
                match kind {
                    Kind::Panicked { .. } => tally.panicked = 1,
                    Kind::NoNode { .. } => tally.no_node = 1,
                    Kind::TimedOut => tally.timed_out = 1,
                    Kind::NodeLost { .. } => tally.node_lost = 1,
                    Kind::Poisoned { .. } => tally.poisoned = 1,
                    Kind::Other => {}
                }
                let judged = self.judge_error(plan, case, end, kind, *execution);
                judged.map_err(|wrong| format!("{wrong}: {text}"))
            }
        };
        if plan.given_up.is_none() {
            self.verdict.tally.add(tally);
        }
        let limit = plan.timeout.map_or(LONGEST_LIFE, |timeout| timeout + LATENESS);
        if end.elapsed > limit {
            return Err(format!("took {:?}, and {limit:?} at most were expected", end.elapsed));
        }
        judged
    }

    fn judge_value(&self, plan: &Plan, case: &Case<'a>, digest: u64, node: &Who, attempts: u32) -> Result<(), String> {
        if plan.work.fate != Fate::Value || digest != plan.work.done().digest() {
            return Err("was answered wrong".to_owned());
        }
        if !case.has_run(Some(&node.name)) {
            return Err(format!("was answered by {}, whose ledger shows no start and end of it", node.name));
        }
        if attempts > 1 && !plan.idempotent {
            return Err(format!("is at most once, and was answered by attempt {attempts}"));
        }
        case.check_attempts(attempts)
    }

    fn judge_error(
        &self,
        plan: &Plan,
        case: &Case<'a>,
        end: End<'a>,
        kind: &Kind,
        execution: Execution,
    ) -> Result<(), String> {
        match execution {
            Execution::NotRun if case.starts() > 0 => return Err("is said not to have run, and has a start".to_owned()),
            Execution::Ran if !case.has_run(None) => {
                return Err("is said to have run, and has no start and end".to_owned());
            }
            _ => {}
        }
        let was_hit = |node: &Who| self.was(node, end.at, &[Blow::Kill, Blow::Freeze]);
        let wrong = |what: &str| Err(what.to_owned());
        match kind {
            Kind::Panicked { node } if plan.work.fate != Fate::Panic || !case.has_run(Some(&node.name)) => {
                wrong("panicked, and its handler was not to, or has not there")
            }
            Kind::TimedOut if plan.timeout.is_none_or(|timeout| end.elapsed + EARLINESS < timeout) => {
                wrong("timed out before its time")
            }
            Kind::NoNode { waited } if self.somebody_was_there(end.master, end.at, Duration::from_micros(*waited)) => {
                wrong("found no node, and there was one")
            }
            Kind::NodeLost { node, .. } if !was_hit(node) => wrong("was lost with a node that was not hit"),
            Kind::NodeLost { attempts, .. }
                if plan.idempotent
                    && *attempts < plan.most_starts()
                    && self.somebody_was_there(end.master, end.at, NODE_WAIT) =>
            {
                wrong("is idempotent, and was not tried again though there was a node")
            }
            Kind::NodeLost { attempts, .. } => case.check_attempts(*attempts),
            Kind::Poisoned { .. } if !plan.idempotent => wrong("is at most once, and poisoned by three nodes"),
            Kind::Poisoned { nodes } => {
                let mut hit: Vec<&Who> = nodes.iter().filter(|node| was_hit(node)).collect();
                hit.sort_by(|a, b| a.id.cmp(&b.id));
                hit.dedup();
                if hit.len() < POISON {
                    wrong("is poisoned, and not by three nodes that were hit")
                } else {
                    Ok(())
                }
            }
            Kind::Other => wrong("ended with an error that nothing here causes"),
            Kind::Panicked { .. } | Kind::TimedOut | Kind::NoNode { .. } => Ok(()),
        }
    }
}

impl Case<'_> {
    fn starts(&self) -> usize {
        self.ran.iter().filter(|(_, ran)| ran.step == Step::Start).count()
    }

    /// Whether the call has a start and an end on this node, or on any.
    fn has_run(&self, node: Option<&str>) -> bool {
        let ended =
            self.ran.iter().filter(|(name, ran)| ran.step == Step::End && node.is_none_or(|node| node == *name));
        ended.into_iter().any(|(name, end)| {
            self.ran.iter().any(|(other, ran)| other == name && ran.step == Step::Start && ran.attempt == end.attempt)
        })
    }

    fn has_attempt_twice(&self) -> bool {
        let mut attempts: Vec<u32> =
            self.ran.iter().filter(|(_, ran)| ran.step == Step::Start).map(|(_, ran)| ran.attempt).collect();
        attempts.sort_unstable();
        attempts.windows(2).any(|pair| pair[0] == pair[1])
    }

    fn check_attempts(&self, attempts: u32) -> Result<(), String> {
        if self.starts() > attempts as usize {
            Err(format!("has more starts than its {attempts} attempts"))
        } else {
            Ok(())
        }
    }

    fn describe(&self) -> String {
        let ran = self
            .ran
            .iter()
            .map(|(name, ran)| format!("{:?} of attempt {} on {name} at {}", ran.step, ran.attempt, ran.at));
        let ran = ran.collect::<Vec<_>>().join(", ");
        let (submitted, at) = self.submitted.map_or(("no master", 0), |(master, at)| (&master.name, at));
        let ended = self.end.map_or(0, |end| end.at);
        format!("made by {submitted} at {at}, ended at {ended}, ran: [{ran}]")
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.may_have_run += other.may_have_run;
        self.node_lost += other.node_lost;
        self.timed_out += other.timed_out;
        self.panicked += other.panicked;
        self.poisoned += other.poisoned;
        self.no_node += other.no_node;
        self.answered_by_retry += other.answered_by_retry;
        self.longest = self.longest.max(other.longest);
    }
}

fn end_presence(present: &mut HashMap<&Who, Presence>, node: &Who, at: u64) {
    if let Some((_, until)) = present.get_mut(node) {
        *until = at.min(*until);
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
