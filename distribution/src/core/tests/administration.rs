//! What administrators do with nodes.

use super::*;
use crate::error::AdminError;

impl Table {
    pub(super) fn cordon(&mut self, name: &str, is_cordoned: bool) -> Vec<String> {
        let id = self.node(name);
        self.apply(|core, now, effects| core.on_cordon_requested(now, id, is_cordoned, effects).expect("is registered"))
    }

    fn kick(&mut self, name: &str) -> Vec<String> {
        let id = self.node(name);
        self.apply(|core, now, effects| core.on_kick_requested(now, id, effects).expect("is registered"))
    }
}

#[test]
fn a_cordoned_node_keeps_its_calls_and_gets_no_new_ones() {
    let mut table = Table::new().joined(&[("n1", 2), ("n2", 1)]);
    table.submit("a", call(&COMPUTE).on("n1"));
    assert_eq!(table.cordon("n1", true), ["n1 cordoned"]);
    assert_eq!(table.cordon("n1", true), NOTHING, "it is cordoned already");
    assert_eq!(table.core.alive(), 1);
    assert_eq!(table.submit("b", call(&COMPUTE)), ["send b#1 to n2"]);
    assert_eq!(table.submit("c", call(&COMPUTE)), NOTHING);
    assert_eq!(table.submit("on", call(&COMPUTE).on("n1")), NOTHING);
    assert_eq!(table.answer("a"), ["end a: value from n1"]);
    assert_eq!(table.cordon("n1", false), ["n1 uncordoned", "send c#1 to n1", "send on#1 to n1"]);
    assert_eq!(table.cordon("n1", false), NOTHING, "it is not cordoned");
    assert_eq!(table.core.alive(), 2);
}

#[test]
fn calls_wait_for_cordoned_nodes_for_longer_than_for_nodes_that_do_not_exist() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.cordon("n1", true);
    assert_eq!(table.submit("a", call(&COMPUTE)), NOTHING);
    assert_eq!(table.pass(Duration::from_secs(3600)), NOTHING);
    assert_eq!(table.join("n2", slots(1)), ["n2 joined", "send a#1 to n2"]);
}

#[test]
fn calls_with_an_affinity_key_leave_a_node_that_is_cordoned() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    assert_eq!(table.submit("a", call(&COMPUTE).affinity(1)), NOTHING);
    table.join("n2", slots(1));
    assert_eq!(table.cordon("n1", true), ["n1 cordoned", "send a#1 to n2"]);
    assert_eq!(table.answer("a"), ["end a: value from n2"]);
    assert_eq!(table.submit("b", call(&COMPUTE).affinity(1)), ["send b#1 to n2"]);
}

#[test]
fn a_call_goes_back_to_a_node_that_it_avoids_if_all_others_are_cordoned() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.join("n2", slots(1));
    table.refuse("a", Refusal::Busy);
    table.cordon("n2", true);
    assert_eq!(table.pass(BACKED_OFF), ["send a#2 to n1"]);

    table.refuse("a", Refusal::Busy);
    table.join("n3", slots(1));
    table.submit("x", call(&COMPUTE).on("n3"));
    assert_eq!(table.pass(BACKED_OFF * 2), NOTHING, "it waits for n3");
    assert_eq!(table.cordon("n3", true), ["n3 cordoned", "send a#3 to n1"]);
}

#[test]
fn ejected_nodes_get_calls_if_all_others_are_cordoned() {
    let mut table = Table::new().joined(&[("n1", 4), ("n2", 4)]);
    for at in 0..3 {
        table.submit(&format!("bad{at}"), call(&COMPUTE).on("n1"));
        table.panic(&format!("bad{at}"));
    }
    table.cordon("n2", true);
    assert_eq!(table.submit("a", call(&COMPUTE)), ["send a#1 to n1"]);
}

#[test]
fn a_process_stays_cordoned_when_it_registers_again() {
    let mut table = Table::new();
    table.join("old", slots(1).instance(7));
    table.cordon("old", true);
    assert_eq!(table.join("again", slots(1).instance(7))[..2], ["again joined", "again cordoned"]);
    table.dies("again");
    assert_eq!(table.join("third", slots(1).instance(7)), ["third joined", "third cordoned"]);
    assert_eq!(table.submit("a", call(&COMPUTE)), NOTHING);
    assert_eq!(table.cordon("third", false), ["third uncordoned", "send a#1 to third"]);
    table.dies("third");
    assert_eq!(table.join("fourth", slots(1).instance(7)), ["fourth joined"]);
    table.cordon("fourth", true);
    table.dies("fourth");
    assert_eq!(table.join("restarted", slots(1).instance(8)), ["restarted joined"]);
}

#[test]
fn a_node_that_an_administrator_drains_is_asked_first_and_told_when_it_has_no_calls_left() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.submit("a", call(&COMPUTE).on("n1"));
    let (busy, idle) = (table.node("n1"), table.node("n2"));
    let drain = |table: &mut Table, id| {
        table.apply(|core, now, effects| core.on_drain_requested(now, id, effects).expect("is registered"))
    };
    assert_eq!(drain(&mut table, busy), ["ask n1 to drain", "n1 draining"]);
    assert_eq!(drain(&mut table, busy), NOTHING);
    assert_eq!(table.drain("n1"), NOTHING, "the node says so itself, as it was asked to");
    assert_eq!(table.answer("a"), ["end a: value from n1", "drained n1"]);
    assert_eq!(drain(&mut table, idle), ["ask n2 to drain", "n2 draining", "drained n2"]);
}

#[test]
fn a_kicked_node_loses_its_calls_like_one_that_died() {
    let mut table = Table::new().joined(&[("n1", 2), ("n2", 2)]);
    table.submit("once", call(&COMPUTE).on("n1"));
    table.submit("again", call(&AGAIN));
    let on = table.sent["again"].0.clone();
    assert_eq!(on, "n2");
    table.submit("waits", call(&COMPUTE).on("n1"));
    let lines = table.kick("n1");
    assert_eq!(lines[..2], ["cut off n1: it was kicked by an administrator", "n1 gone with 2"]);
    assert_eq!(only(&lines, "end"), ["end once: lost with n1, attempts 1", "end waits: lost with n1, attempts 1"]);
    table.join("n3", slots(2));
    assert_eq!(table.kick("n2")[1], "n2 gone with 1");
    assert_eq!(table.pass(BACKED_OFF), ["send again#2 to n3"]);
}

#[test]
fn a_call_over_which_nodes_are_kicked_is_poisoned_like_one_that_kills_them() {
    let mut table = Table::new();
    for name in ["n1", "n2", "n3", "n4"] {
        table.join(name, slots(1));
    }
    table.submit("a", call(&AGAIN).attempts(10));
    for kicked in 1..=3 {
        let node = table.sent["a"].0.clone();
        let lines = table.kick(&node);
        let ends = only(&lines, "end").len();
        assert_eq!(ends, usize::from(kicked == 3), "{lines:?}");
        table.pass(BACKED_OFF * 4);
    }
    assert_eq!(table.sent["a"].1, 3);
}

#[test]
fn what_concerns_a_node_that_is_not_there_is_refused() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    let node = table.node("n1");
    table.dies("n1");
    let mut results = Vec::new();
    table.apply(|core, now, effects| {
        results.push(core.on_cordon_requested(now, node, true, effects));
        results.push(core.on_drain_requested(now, node, effects));
        results.push(core.on_kick_requested(now, node, effects));
    });
    assert_eq!(results, vec![Err(AdminError::UnknownNode { node }); 3]);
}
