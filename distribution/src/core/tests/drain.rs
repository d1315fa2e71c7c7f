//! A node that leaves loses nothing.

use super::*;

#[test]
fn an_idle_node_is_drained_at_once_and_a_busy_one_with_its_last_call() {
    let mut table = Table::new().joined(&[("n1", 2), ("n2", 1)]);
    assert_eq!(table.drain("n2"), ["n2 draining", "drained n2"]);
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE));
    assert_eq!(table.drain("n1"), ["n1 draining"]);
    assert_eq!(table.drain("n1"), NOTHING);
    assert_eq!(table.answer("a"), ["end a: value from n1"]);
    assert_eq!(table.answer("b"), ["end b: value from n1", "drained n1"]);
}

#[test]
fn a_draining_node_gets_no_new_calls() {
    let mut table = Table::new().joined(&[("n1", 8), ("n2", 1)]);
    table.submit("x", call(&COMPUTE).on("n2"));
    table.drain("n1");
    assert_eq!(table.submit("a", call(&COMPUTE)), NOTHING);
    let lines = table.submit("b", call(&COMPUTE).on("n1"));
    assert!(
        lines[0].starts_with("end b: no node: it has to run on node n1 (") && lines[0].ends_with("which is leaving")
    );
    assert_eq!(table.answer("x"), ["end x: value from n2", "send a#1 to n2"]);
}

#[test]
fn calls_that_wait_for_a_draining_node_end_or_move() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    table.submit("on", call(&COMPUTE).on("n1"));
    table.submit("affinity", call(&COMPUTE).affinity(1));
    table.submit("any", call(&COMPUTE));
    table.join("n2", slots(1).serves(&[&AGAIN, &COMPUTE, &WAIT, &OTHER]));
    // It took the call that may go to any node.
    assert_eq!(table.sent["any"].0, "n2");
    let lines = table.drain("n1");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[1].starts_with("end on: no node: it has to run on node n1 (") && lines[1].ends_with("which is leaving")
    );
    assert_eq!(table.answer("any"), ["end any: value from n2", "send affinity#1 to n2"]);
}

#[test]
fn calls_of_a_draining_node_are_lost_only_if_it_goes() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.drain("n1");
    assert_eq!(table.dies("n1"), ["n1 gone with 1", "end a: lost with n1, attempts 1"]);
}
