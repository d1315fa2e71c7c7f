//! Calls that no node serves.

use super::*;

const NONE: &str = "no node: no node is registered at this master, and no such node joined within 5s. Start one, or set a longer `no_node_timeout`";

#[test]
fn each_unserved_call_waits_for_a_node_for_the_full_timeout() {
    let mut table = Table::new();
    table.submit("a", call(&COMPUTE));
    table.pass(SECOND * 2);
    table.submit("b", call(&COMPUTE));
    assert_eq!(table.pass(Duration::from_millis(2999)), NOTHING);
    assert_eq!(table.pass(Duration::from_millis(1)), [format!("end a: {NONE}")]);
    assert_eq!(table.pass(Duration::from_millis(1999)), NOTHING);
    assert_eq!(table.pass(Duration::from_millis(1)), [format!("end b: {NONE}")]);
}

#[test]
fn a_node_that_joins_gets_the_unserved_calls() {
    let mut table = Table::new();
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE));
    table.pass(SECOND * 4);
    assert_eq!(table.join("n1", slots(1)), ["n1 joined", "send a#1 to n1"]);
    assert_eq!(table.pass(SECOND * 60), NOTHING, "a busy node serves them now");
    assert_eq!(table.answer("a"), ["end a: value from n1", "send b#1 to n1"]);
}

#[test]
fn the_wait_for_a_node_begins_when_the_last_one_leaves() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    table.submit("a", call(&COMPUTE));
    table.pass(SECOND * 60);
    assert_eq!(table.drain("n1"), ["n1 draining"]);
    assert_eq!(table.pass(Duration::from_millis(4999)), NOTHING);
    let lines = table.pass(Duration::from_millis(1));
    assert_eq!(only(&lines, "end a: no node").len(), 1, "{lines:?}");
}

#[test]
fn the_reason_is_found_once_for_all_calls_of_a_queue() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&RARE));
    table.pass(SECOND);
    table.submit("b", call(&RARE));
    let text = "no node: none of the 1 registered nodes serves it (n1), and no such node joined within 5s. Start one, or set a longer `no_node_timeout`";
    assert_eq!(table.pass(SECOND * 4), [format!("end a: {text}")]);
    table.join("n2", slots(1));
    assert_eq!(table.pass(SECOND), [format!("end b: {text}")], "with the same reason as the first");
    // Once the queue has been empty, the text is made again.
    table.submit("c", call(&RARE));
    let lines = table.pass(SECOND * 5);
    assert!(lines[0].contains("none of the 2 registered nodes serves it (n1, n2)"), "{lines:?}");
}

#[test]
fn a_label_that_no_node_has_is_named() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE).label("gpu", "a100"));
    let lines = table.pass(SECOND * 5);
    assert!(lines[0].contains("none of the 1 nodes that serve it has the label gpu=a100"), "{lines:?}");
    table.submit("b", call(&COMPUTE).label("gpu", "a100"));
    table.pass(SECOND);
    assert_eq!(table.join("n2", slots(1).label("gpu", "a100")), ["n2 joined", "send b#1 to n2"]);
}

#[test]
fn unserved_calls_end_at_once_if_the_timeout_is_zero() {
    let mut table = Table::with(|settings| settings.no_node_timeout = Duration::ZERO);
    let lines = table.submit("a", call(&COMPUTE));
    assert!(lines[0].starts_with("end a: no node: no node is registered at this master. Start a node"), "{lines:?}");
}

#[test]
fn a_method_that_the_nodes_service_does_not_have_is_incompatible() {
    let mut table = Table::new();
    table.join("n1", slots(1).serves(&[&COMPUTE]));
    table.submit("a", call(&AGAIN));
    let lines = table.pass(SECOND * 5);
    assert!(lines[0].contains("caller and nodes were built from different code"), "{lines:?}");
}
