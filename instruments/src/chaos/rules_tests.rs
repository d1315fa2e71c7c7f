//! That each rule is held: a history in which all went well, with one thing changed.

use std::time::Duration;

use super::{
    call_plan::{CallPlan, HandlerEnd},
    fault_plan::Fault,
    history::{Generation, History, InjectedFault},
    ledger::{Execution, Kind, MasterEntry, MasterEvent, NodeEntry, Outcome, Reason, Registration, Step},
    rules::Findings,
};

const SEED: u64 = 5;

/// Far from any limit.
const SECOND: u64 = 1_000_000;

fn who() -> Registration {
    Registration { name: "node-0.1".to_owned(), id: "1-1".to_owned() }
}

fn made(at: u64, what: MasterEvent) -> MasterEntry {
    MasterEntry { at, what }
}

fn ran(key: u64, attempt: u32, step: Step) -> NodeEntry {
    NodeEntry { key, id: "a-1".to_owned(), attempt, step, at: 2 * SECOND }
}

/// A key whose call is as the test needs it: awaited, without a timeout, to return a value.
fn key(idempotent: bool) -> u64 {
    let fits = |plan: CallPlan| {
        plan.idempotent == idempotent
            && plan.work.end == HandlerEnd::Value
            && (plan.timeout, plan.given_up, plan.attempts) == (None, None, None)
    };
    (0..1000).find(|key| fits(CallPlan::new(SEED, *key))).expect("one of a thousand")
}

fn value(key: u64, attempts: u32) -> Outcome {
    Outcome::Value { digest: CallPlan::new(SEED, key).work.output().digest(), node: who(), attempts }
}

fn error(kind: Kind, execution: Execution) -> Outcome {
    Outcome::Error { kind, execution, text: "in words".to_owned() }
}

fn lost(attempts: u32) -> Outcome {
    error(Kind::NodeLost { node: who(), attempts }, Execution::MayHaveRun)
}

fn ended(key: u64, outcome: Outcome) -> MasterEntry {
    made(3 * SECOND, MasterEvent::End { key, elapsed: SECOND, outcome })
}

fn killed() -> InjectedFault {
    InjectedFault { name: who().name, fault: Fault::Kill, from: 2 * SECOND, until: None }
}

/// One node, and one call with this end and these steps.
fn history(key: u64, end: Option<Outcome>, steps: &[(u32, Step)]) -> History {
    let mut entries = vec![made(0, MasterEvent::Joined { node: who() }), made(SECOND, MasterEvent::Submit { key })];
    entries.extend(end.map(|outcome| ended(key, outcome)));
    History {
        seed: SEED,
        keys: 1000,
        heartbeat: Duration::from_millis(100),
        masters: vec![Generation { name: "master-1".to_owned(), is_caller: false, entries, killed: None }],
        callers: Vec::new(),
        nodes: vec![(who().name, steps.iter().map(|(attempt, step)| ran(key, *attempt, *step)).collect())],
        injected: Vec::new(),
        violations: Vec::new(),
    }
}

const ONCE: &[(u32, Step)] = &[(1, Step::Start), (1, Step::End)];

/// How many were lost, unexpected and duplicates.
fn found(history: &History) -> (usize, usize, usize) {
    let Findings { lost, unexpected, duplicates, .. } = history.check();
    (lost.len(), unexpected.len(), duplicates.len())
}

#[track_caller]
fn clean(history: &History) {
    let findings = history.check();
    assert!(findings.is_clean(), "{findings:?}");
}

#[track_caller]
fn unexpected(history: &History, words: &str) {
    let findings = history.check();
    assert_eq!(found(history), (0, 1, 0), "{findings:?}");
    assert!(findings.unexpected[0].contains(words), "{findings:?}");
}

#[test]
fn a_right_answer_with_start_and_end_is_right() {
    let key = key(false);
    let history = history(key, Some(value(key, 1)), ONCE);
    clean(&history);
    let tally = history.check().tally;
    assert_eq!((tally.calls, tally.answered, tally.failed, tally.starts), (1, 1, 0, 1));
}

#[test]
fn a_call_that_never_ended_is_lost_unless_its_master_was_killed_soon() {
    let mut history = history(key(false), None, ONCE);
    assert_eq!(found(&history), (1, 0, 0));
    history.masters[0].killed = Some(2 * SECOND);
    clean(&history);
    assert_eq!(history.check().tally.died_with_master, 1);
    history.masters[0].killed = Some(100 * SECOND);
    assert_eq!(found(&history), (1, 0, 0));
}

/// The same, with the call made by a caller in a process of its own.
fn called_from_elsewhere(mut history: History) -> History {
    let entries = history.masters[0].entries.split_off(1);
    history.callers = vec![Generation { name: "caller-0.1".to_owned(), is_caller: true, entries, killed: None }];
    history
}

#[test]
fn a_call_dies_with_its_caller_and_not_with_the_master() {
    let mut history = called_from_elsewhere(history(key(false), None, ONCE));
    history.masters[0].killed = Some(2 * SECOND);
    assert_eq!(found(&history), (1, 0, 0));
    history.callers[0].killed = Some(2 * SECOND);
    clean(&history);
    let tally = history.check().tally;
    assert_eq!((tally.calls, tally.failed, tally.died_with_caller, tally.died_with_master), (1, 1, 1, 0));
    let key = history.nodes[0].1[0].key;
    history.nodes[0].1.push(ran(key, 2, Step::Start));
    assert_eq!(found(&history), (0, 0, 1));
}

#[test]
fn a_call_may_be_lost_with_a_master_that_was_killed_and_only_then() {
    let lost = |execution| Some(error(Kind::MasterLost, execution));
    let mut once = called_from_elsewhere(history(key(false), lost(Execution::MayHaveRun), ONCE));
    unexpected(&once, "and none was killed");
    once.masters[0].killed = Some(2 * SECOND);
    clean(&once);
    let mut untrue = called_from_elsewhere(history(key(false), lost(Execution::NotRun), ONCE));
    untrue.masters[0].killed = Some(2 * SECOND);
    unexpected(&untrue, "said not to have run");
    let mut again = called_from_elsewhere(history(key(true), lost(Execution::MayHaveRun), ONCE));
    again.masters[0].killed = Some(2 * SECOND);
    unexpected(&again, "sent to the next");
    // Three connections in a row were lost.
    let name = again.callers[0].name.clone();
    let reset = InjectedFault { name, fault: Fault::Reset, from: 2 * SECOND, until: Some(2 * SECOND) };
    again.injected.push(reset.clone());
    unexpected(&again, "sent to the next");
    again.injected.push(reset);
    clean(&again);
}

#[test]
fn a_call_has_its_attempts_anew_at_the_next_master() {
    let key = key(true);
    let mut history = called_from_elsewhere(history(key, Some(value(key, 1)), ONCE));
    let first = &mut history.nodes[0].1;
    first.insert(0, NodeEntry { id: "b-1".to_owned(), at: SECOND, ..ran(key, 1, Step::Start) });
    unexpected(&history, "started for 2 masters, and 0 were killed");
    history.masters[0].killed = Some(2 * SECOND);
    clean(&history);
}

#[test]
fn a_reset_explains_that_a_node_is_gone_only_if_it_had_no_calls() {
    let key = key(false);
    let gone = |in_flight| {
        let mut history = history(key, Some(value(key, 1)), ONCE);
        let reset = InjectedFault { fault: Fault::Reset, until: Some(2 * SECOND), ..killed() };
        let gone = MasterEvent::Gone { node: who(), reason: Reason::Cut, in_flight };
        history.masters[0].entries.push(made(3 * SECOND, gone));
        history.injected.push(reset);
        history
    };
    clean(&gone(0));
    unexpected(&gone(1), "nothing like it was done");
    let mut lost_call = history(key, Some(lost(1)), ONCE);
    lost_call.injected = gone(0).injected;
    unexpected(&lost_call, "not hit");
}

#[test]
fn a_second_start_is_a_duplicate_of_an_at_most_once_call_alone() {
    let twice = &[(1, Step::Start), (2, Step::Start), (2, Step::End)];
    let once = key(false);
    let mut record = history(once, Some(value(once, 1)), twice);
    assert_eq!(found(&record).2, 1);
    // Also where the master died before the end.
    record = history(once, None, twice);
    record.masters[0].killed = Some(2 * SECOND);
    assert_eq!(found(&record), (0, 0, 1));
    let again = key(true);
    clean(&history(again, Some(value(again, 2)), twice));
}

#[test]
fn more_starts_than_attempts_are_unexpected() {
    let key = key(true);
    let twice = &[(1, Step::Start), (2, Step::Start), (2, Step::End)];
    unexpected(&history(key, Some(value(key, 1)), twice), "2 starts in 1 attempts");
    let four = &[(1, Step::Start), (2, Step::Start), (3, Step::Start), (4, Step::Start), (4, Step::End)];
    unexpected(&history(key, Some(value(key, 4)), four), "may start 3 times at most");
    let same = &[(2, Step::Start), (2, Step::Start), (2, Step::End)];
    unexpected(&history(key, Some(value(key, 2)), same), "two starts of one attempt");
}

#[test]
fn wrong_answers_are_unexpected() {
    let key = key(false);
    let wrong = Outcome::Value { digest: 1, node: who(), attempts: 1 };
    unexpected(&history(key, Some(wrong), ONCE), "answered wrong");
    unexpected(&history(key, Some(value(key, 1)), &[]), "no start and end");
    unexpected(&history(key, Some(value(key, 1)), &ONCE[..1]), "no start and end");
    unexpected(&history(key, Some(value(key, 2)), ONCE), "answered by attempt 2");
    unexpected(&history(key, Some(Outcome::Declined { value: 1 }), ONCE), "not to return");
    unexpected(&history(key, Some(error(Kind::Panicked { node: who() }, Execution::Ran)), ONCE), "panicked");
    let mut elsewhere = history(key, Some(value(key, 1)), ONCE);
    elsewhere.nodes[0].0 = "node-1.1".to_owned();
    unexpected(&elsewhere, "no start and end");
}

#[test]
fn what_errors_say_of_the_execution_must_be_in_the_ledgers() {
    let key = key(false);
    let mut nobody = history(key, Some(error(Kind::NoNode { waited: SECOND / 2 }, Execution::NotRun)), &[]);
    nobody.masters[0].entries.remove(0);
    clean(&nobody);
    nobody.nodes[0].1 = vec![ran(key, 1, Step::Start)];
    unexpected(&nobody, "not to have run, and has a start");
    let panicked = error(Kind::Panicked { node: who() }, Execution::Ran);
    unexpected(&history(key, Some(panicked), &[]), "to have run, and has no start");
}

#[test]
fn no_node_needs_that_there_was_none() {
    let none = error(Kind::NoNode { waited: SECOND / 2 }, Execution::NotRun);
    unexpected(&history(key(false), Some(none), &[]), "there was one");
}

#[test]
fn a_lost_call_needs_a_node_that_was_hit_while_it_was_registered() {
    let key = key(false);
    let mut record = history(key, Some(lost(1)), &ONCE[..1]);
    unexpected(&record, "not hit");
    record.injected = vec![killed()];
    clean(&record);
    // Draining loses nothing.
    record.injected = vec![InjectedFault { fault: Fault::Terminate, ..killed() }];
    unexpected(&record, "not hit");
    // After the call had ended.
    record.injected = vec![InjectedFault { from: 4 * SECOND, ..killed() }];
    unexpected(&record, "not hit");
    // Before the node had registered again.
    record.injected = vec![InjectedFault { fault: Fault::Freeze, from: SECOND / 2, until: Some(SECOND), ..killed() }];
    clean(&record);
    record.masters[0].entries[0].at = SECOND + 1;
    unexpected(&record, "not hit");
}

#[test]
fn an_idempotent_call_is_lost_only_after_all_attempts() {
    let key = key(true);
    let mut record = history(key, Some(lost(2)), ONCE);
    record.injected = vec![killed()];
    unexpected(&record, "not tried again");
    record.masters[0].entries[2] = ended(key, lost(3));
    clean(&record);
    // Or where there was no other node.
    record.masters[0].entries[2] = made(9 * SECOND, MasterEvent::End { key, elapsed: 8 * SECOND, outcome: lost(1) });
    record.masters[0]
        .entries
        .push(made(3 * SECOND, MasterEvent::Gone { node: who(), reason: Reason::Cut, in_flight: 1 }));
    clean(&record);
}

#[test]
fn poison_needs_three_nodes_that_were_hit() {
    let nodes: Vec<Registration> =
        (1..=3).map(|n| Registration { name: format!("node-{n}.1"), id: format!("1-{n}") }).collect();
    let poisoned =
        |nodes: &[Registration]| Some(error(Kind::Poisoned { nodes: nodes.to_vec() }, Execution::MayHaveRun));
    let injected: Vec<InjectedFault> =
        nodes.iter().map(|node| InjectedFault { name: node.name.clone(), ..killed() }).collect();
    let mut record = history(key(true), poisoned(&nodes), &[]);
    record.injected = injected.clone();
    clean(&record);
    record.injected.pop();
    unexpected(&record, "not by three nodes");
    let mut same = history(key(true), poisoned(&[nodes[0].clone(), nodes[0].clone(), nodes[1].clone()]), &[]);
    same.injected = injected.clone();
    unexpected(&same, "not by three nodes");
    let mut once = history(key(false), poisoned(&nodes), &[]);
    once.injected = injected;
    unexpected(&once, "at most once, and poisoned");
}

#[test]
fn time_outs_come_in_time_and_to_those_that_have_one() {
    unexpected(&history(key(false), Some(error(Kind::TimedOut, Execution::MayHaveRun)), &[]), "before its time");
    let timed = (0..1000).find(|key| CallPlan::new(SEED, *key).timeout.is_some()).expect("one of a thousand");
    let mut record = history(timed, Some(error(Kind::TimedOut, Execution::MayHaveRun)), &[]);
    clean(&record);
    let outcome = error(Kind::TimedOut, Execution::MayHaveRun);
    record.masters[0].entries[2] = made(9 * SECOND, MasterEvent::End { key: timed, elapsed: 8 * SECOND, outcome });
    unexpected(&record, "the most that is expected");
    // Its maker did not run meanwhile. What was before the call, or after it, does not count.
    let still = |at, micros| made(at, MasterEvent::StoodStill { micros });
    record.masters[0].entries.push(still(20 * SECOND, 10 * SECOND));
    record.masters[0].entries.push(still(SECOND, SECOND));
    unexpected(&record, "the most that is expected");
    record.masters[0].entries.push(still(9 * SECOND + 10, 7 * SECOND));
    clean(&record);
}

#[test]
fn nodes_go_only_for_a_reason_that_was_given_them() {
    let key = key(false);
    let mut record = history(key, Some(value(key, 1)), ONCE);
    let silent = made(3 * SECOND, MasterEvent::Gone { node: who(), reason: Reason::Silent, in_flight: 1 });
    record.masters[0].entries.push(silent);
    unexpected(&record, "nothing like it");
    record.injected = vec![killed()];
    unexpected(&record, "nothing like it");
    record.injected = vec![InjectedFault { fault: Fault::Freeze, ..killed() }];
    clean(&record);
}

#[test]
fn ledgers_that_contradict_each_other_are_unexpected() {
    let key = key(false);
    let mut record = history(key, Some(value(key, 1)), ONCE);
    record.masters[0].entries.push(ended(key, value(key, 1)));
    unexpected(&record, "ended twice");
    record.masters[0].entries.pop();
    record.masters[0].entries.push(made(SECOND, MasterEvent::Submit { key }));
    unexpected(&record, "made twice");
    record.masters[0].entries = Vec::new();
    unexpected(&record, "never made");
    unexpected(&history(key, Some(error(Kind::Other, Execution::NotRun)), &[]), "nothing here causes");
    let mut violation = history(key, Some(value(key, 1)), ONCE);
    violation.violations.push("a process ended by itself".to_owned());
    unexpected(&violation, "by itself");
}
