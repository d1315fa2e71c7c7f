//! Calls that no node serves.

use super::*;

const NONE: &str = "no node: no node is registered at this master, and no such node joined within 5s. Start one, or set a longer `no_node_timeout`";

#[test]
fn they_wait_for_a_node_as_long_as_each_may() {
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
fn a_node_that_comes_gets_them() {
    let mut table = Table::new();
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE));
    table.pass(SECOND * 4);
    assert_eq!(table.join("n1", slots(1)), ["n1 joined", "send a#1 to n1"]);
    assert_eq!(table.pass(SECOND * 60), NOTHING, "one node serves them now, however busy");
    assert_eq!(table.answer("a"), ["end a: value from n1", "send b#1 to n1"]);
}

#[test]
fn with_the_last_node_the_wait_begins_anew() {
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
fn the_text_is_made_once_for_all_of_a_queue() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&RARE));
    table.pass(SECOND);
    table.submit("b", call(&RARE));
    let text = "no node: none of the 1 registered nodes serves it (n1), and no such node joined within 5s. Start one, or set a longer `no_node_timeout`";
    assert_eq!(table.pass(SECOND * 4), [format!("end a: {text}")]);
    table.join("n2", slots(1));
    assert_eq!(table.pass(SECOND), [format!("end b: {text}")], "as the first was told");
    // With the queue empty it is made anew.
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
fn with_no_wait_they_end_at_once() {
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
