//! Silent nodes are noticed, and a master that was stalled does not take nodes for dead.

use super::*;

#[test]
fn a_silent_node_is_suspect_after_three_heartbeats_and_gone_after_six() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1), ("n3", 1)]);
    table.submit("a", call(&COMPUTE).on("n1"));
    table.silent = vec!["n1"];
    assert_eq!(table.pass(Duration::from_millis(2900)), NOTHING);
    assert_eq!(table.pass(Duration::from_millis(400)), ["n1 suspect"]);
    assert_eq!(table.pass(Duration::from_millis(2600)), NOTHING);
    let lines = table.pass(Duration::from_millis(500));
    assert!(lines[0].starts_with("cut off n1: it was silent for 6."), "{lines:?}");
    assert_eq!(lines[1..], ["n1 gone with 1", "end a: lost with n1, attempts 1"]);
}

#[test]
fn a_suspect_node_gets_no_calls_until_it_is_heard() {
    let mut table = Table::new().joined(&[("n1", 8), ("n2", 1), ("n3", 1)]);
    table.submit("x", call(&COMPUTE).on("n2"));
    table.submit("y", call(&COMPUTE).on("n3"));
    table.silent = vec!["n1"];
    assert_eq!(table.pass(Duration::from_millis(3300)), ["n1 suspect"]);
    assert_eq!(table.submit("a", call(&COMPUTE)), NOTHING);
    assert_eq!(table.submit("b", call(&COMPUTE).on("n1")), NOTHING);
    table.silent.clear();
    assert_eq!(table.pass(Duration::from_millis(300)), ["n1 recovered", "send a#1 to n1", "send b#1 to n1"]);
}

#[test]
fn nodes_that_fall_silent_together_get_twice_the_time() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1), ("n3", 1)]);
    table.silent = vec!["n1", "n2"];
    assert_eq!(only(&table.pass(SECOND * 11), "cut off"), NOTHING);
    assert_eq!(only(&table.pass(SECOND * 2), "cut off").len(), 2);
}

#[test]
fn silence_does_not_count_while_the_master_was_stalled() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.pass(SECOND);
    // The master wakes, and has not read yet what nodes sent meanwhile.
    table.now += SECOND * 60;
    assert_eq!(table.tick(), NOTHING);
    table.silent = vec!["n1"];
    assert_eq!(table.pass(Duration::from_millis(2900)), NOTHING);
    assert_eq!(table.pass(Duration::from_millis(400)), ["n1 suspect"]);
}

#[test]
fn a_node_that_breaks_the_protocol_is_cut_off() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.nodes["n2"].1.violation.set(Some("it does not read"));
    let lines = table.pass(Duration::from_millis(300));
    assert_eq!(lines, ["cut off n2: it broke the protocol: it does not read", "n2 gone with 0"]);
}
