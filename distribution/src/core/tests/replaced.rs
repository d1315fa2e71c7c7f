//! A process that registers again has one registration.

use super::*;
use crate::security::PrincipalKind;

#[test]
fn the_old_registration_ends_and_its_calls_find_the_new_one() {
    let mut table = Table::new();
    table.writes = false;
    table.join("old", slots(1).instance(5));
    table.submit("a", call(&COMPUTE));
    assert_eq!(
        table.join("new", slots(1).instance(5)),
        [
            "new joined",
            "cut off old: it registered again, over another connection",
            "old gone with 1",
            "send a#2 to new"
        ]
    );
    // The end of its connection has no effect any more.
    assert_eq!(table.dies("old"), NOTHING);
    let again = table.join("newest", slots(1).instance(5));
    assert_eq!(again[1], "cut off new: it registered again, over another connection");
}

#[test]
fn a_call_that_may_have_run_there_is_repeated_only_if_it_is_idempotent() {
    let mut table = Table::new();
    table.join("old", slots(2).instance(5));
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&AGAIN));
    let lines = table.join("new", slots(2).instance(5));
    assert_eq!(lines[2..], ["old gone with 2", "end a: lost with old, attempts 1"]);
    assert_eq!(table.pass(BACKED_OFF), ["send b#2 to new"]);
}

#[test]
fn other_processes_are_left_alone() {
    let mut table = Table::new();
    table.join("n1", slots(1).instance(5));
    assert_eq!(table.join("n2", slots(1).instance(6)), ["n2 joined"]);
    table.dies("n1");
    assert_eq!(table.join("n1", slots(1).instance(5)), ["n1 joined"], "the old one is gone already");
}

#[test]
fn calls_for_the_old_registration_end() {
    let mut table = Table::new();
    table.join("old", slots(1).instance(5));
    table.submit("x", call(&COMPUTE));
    table.submit("on", call(&COMPUTE).on("old"));
    let lines = table.join("new", slots(1).instance(5));
    assert_eq!(only(&lines, "end on: no node: it has to run on node old").len(), 1, "{lines:?}");
}

#[test]
fn displaced_nodes_are_disconnected_in_slices() {
    let mut table = Table::with(|settings| settings.slice = 16);
    for number in 0..40 {
        table.join("worker", slots(1).instance(number));
    }
    let of_it = Principal { kind: PrincipalKind::Token, names: ["worker".to_owned()].into(), ..Principal::open() };
    let registration = registration("worker", 100);
    let (card, catalogue) = split_registration(registration.clone(), Principal::open());
    assert!(table.core.may_join((&card, &catalogue)).expect("they share the name").is_empty());
    let (card, catalogue) = split_registration(registration, of_it);
    let displaced = table.core.may_join((&card, &catalogue)).expect("the name is its own");
    assert_eq!(displaced.len(), 40);
    let lines = table.apply(|core, now, effects| core.on_nodes_displaced(now, displaced, effects));
    assert!((1..40).contains(&only(&lines, "cut off").len()), "some are disconnected at once: {lines:?}");
    table.pass(Duration::ZERO);
    assert_eq!(table.core.alive(), 0, "and the others soon after");
}
