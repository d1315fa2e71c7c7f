//! The least loaded node gets the call.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_node_with_the_smaller_share_of_its_slots_taken_gets_the_call() {
    let mut table = Table::new().joined(&[("small", 2), ("large", 8)]);
    table.submit("a", call(&COMPUTE).on("small"));
    table.submit("b", call(&COMPUTE).on("large"));
    table.submit("c", call(&COMPUTE).on("large"));
    // The small node has fewer calls, but the large one has the smaller share of its slots taken, up to its fourth
    // call.
    assert_eq!(table.submit("d", call(&COMPUTE)), ["send d#1 to large"]);
    assert_eq!(table.submit("e", call(&COMPUTE).on("large")), ["send e#1 to large"]);
    assert_eq!(table.submit("f", call(&COMPUTE).on("large")), ["send f#1 to large"]);
    assert_eq!(table.submit("g", call(&COMPUTE)), ["send g#1 to small"]);
    assert_eq!(table.answer("a"), ["end a: value from small"]);
    assert_eq!(table.answer("g"), ["end g: value from small"]);
    assert_eq!(table.submit("h", call(&COMPUTE)), ["send h#1 to small"]);
}

#[test]
fn the_load_decides_among_nodes_that_all_have_free_slots() {
    let mut table = Table::new().joined(&[("n1", 4), ("n2", 4), ("n3", 4)]);
    for (name, node) in [("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n3"), ("e", "n3")] {
        table.submit(name, call(&COMPUTE).on(node));
    }
    assert_eq!(table.submit("f", call(&COMPUTE)), ["send f#1 to n2"]);
    table.answer("a");
    assert_eq!(table.submit("g", call(&COMPUTE)), ["send g#1 to n1"]);
    table.answer("d");
    assert_eq!(table.submit("h", call(&COMPUTE)), ["send h#1 to n3"]);
}

#[test]
fn nodes_of_different_groups_are_compared() {
    let mut table = Table::new();
    table.join("all", slots(4));
    table.join("one", slots(4).serves(&[&COMPUTE]));
    table.submit("a", call(&COMPUTE).on("all"));
    assert_eq!(table.submit("b", call(&COMPUTE)), ["send b#1 to one"]);
    table.submit("c", call(&COMPUTE).on("one"));
    assert_eq!(table.submit("d", call(&COMPUTE)), ["send d#1 to all"]);
}

#[test]
fn among_equals_the_seed_decides() {
    let first = |seed| {
        let mut table = Table::with(|settings| settings.seed = seed).joined(&[("n1", 1), ("n2", 1), ("n3", 1)]);
        table.submit("a", call(&COMPUTE))
    };
    let chosen: BTreeSet<_> = (0..50).map(first).collect();
    assert_eq!(chosen.len(), 3, "each gets its turn: {chosen:?}");
    assert!((0..50).all(|seed| first(seed) == first(seed)));
}

#[test]
fn async_calls_and_compute_calls_do_not_count_as_each_other() {
    let mut table = Table::new();
    table.join("waits", slots(4).async_limit(4));
    table.join("computes", slots(4).async_limit(4));
    for name in ["a", "b", "c"] {
        table.submit(name, call(&WAIT).on("waits"));
    }
    table.submit("d", call(&COMPUTE).on("computes"));
    assert_eq!(table.submit("e", call(&COMPUTE)), ["send e#1 to waits"]);
    assert_eq!(table.submit("f", call(&WAIT)), ["send f#1 to computes"]);
    // A node that is full of one kind of calls takes the other kind.
    table.submit("g", call(&WAIT).on("waits"));
    assert_eq!(table.submit("h", call(&WAIT).on("waits")), NOTHING);
    assert_eq!(table.submit("i", call(&COMPUTE).on("waits")), ["send i#1 to waits"]);
}

#[test]
fn slots_that_handlers_of_an_earlier_connection_hold_count() {
    let mut table = Table::new();
    table.join("busy", slots(4).busy(2));
    table.join("other", slots(4));
    table.submit("a", call(&COMPUTE).on("other"));
    assert_eq!(table.submit("b", call(&COMPUTE)), ["send b#1 to other"]);
    assert_eq!(table.report_stale("busy", 0), NOTHING);
    assert_eq!(table.submit("c", call(&COMPUTE)), ["send c#1 to busy"]);
    // More than it has slots: it takes no calls, and those in flight stay.
    assert_eq!(table.report_stale("busy", 9), NOTHING);
    assert_eq!(table.submit("d", call(&COMPUTE).on("busy")), NOTHING);
    assert_eq!(table.report_stale("busy", 2), ["send d#1 to busy"]);
}

#[test]
fn calls_go_to_nodes_with_their_labels_only() {
    let mut table = Table::new();
    table.join("east", slots(2).label("zone", "east"));
    table.join("west1", slots(4).label("zone", "west"));
    table.join("west2", slots(4).label("zone", "west").label("gpu", "a100"));
    table.submit("a", call(&COMPUTE).on("west1"));
    assert_eq!(table.submit("b", call(&COMPUTE).label("zone", "west")), ["send b#1 to west2"]);
    table.submit("c", call(&COMPUTE).on("west2"));
    assert_eq!(table.submit("d", call(&COMPUTE).label("zone", "west")), ["send d#1 to west1"]);
    for name in ["e", "f"] {
        assert_eq!(table.submit(name, call(&COMPUTE).label("zone", "east")), [format!("send {name}#1 to east")]);
    }
    assert_eq!(table.submit("g", call(&COMPUTE).label("zone", "east")), NOTHING, "the others are free");
    assert_eq!(table.submit("h", call(&COMPUTE).label("gpu", "a100")), ["send h#1 to west2"]);
    assert_eq!(table.answer("e"), ["end e: value from east", "send g#1 to east"]);
    // A node that joins later is found as well.
    table.join("east2", slots(1).label("zone", "east"));
    assert_eq!(table.submit("i", call(&COMPUTE).label("zone", "east")), ["send i#1 to east2"]);
}

#[test]
fn a_node_that_refused_a_call_is_avoided_while_there_are_others() {
    let mut table = Table::new().joined(&[("n1", 2), ("n2", 1)]);
    table.submit("a", call(&COMPUTE).on("n2"));
    assert_eq!(table.submit("b", call(&COMPUTE)), ["send b#1 to n1"]);
    assert_eq!(table.refuse("b", Refusal::Busy), NOTHING);
    assert_eq!(table.pass(BACKED_OFF), NOTHING, "n1 is idle, but the call waits for n2");
    assert_eq!(table.submit("c", call(&COMPUTE)), ["send c#1 to n1"], "other calls do not wait");
    assert_eq!(table.answer("a"), ["end a: value from n2", "send b#2 to n2"]);
}

#[test]
fn a_node_that_refused_a_call_gets_it_where_the_others_have_left() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.submit("a", call(&COMPUTE).on("n2"));
    table.submit("b", call(&COMPUTE));
    table.refuse("b", Refusal::Busy);
    assert_eq!(table.pass(BACKED_OFF), NOTHING);
    assert_eq!(table.drain("n2"), ["n2 draining", "send b#2 to n1"]);
}

#[test]
fn a_second_call_for_the_same_goes_to_another_node() {
    let mut table = Table::new().joined(&[("n1", 8), ("n2", 1)]);
    table.submit("x", call(&COMPUTE).on("n2"));
    assert_eq!(table.submit("a", call(&AGAIN)), ["send a#1 to n1"]);
    let first = table.calls["a"].0;
    assert_eq!(table.submit("b", call(&AGAIN).hedge_of(first, Duration::ZERO)), NOTHING);
    assert_eq!(table.answer("x"), ["end x: value from n2", "send b#1 to n2"]);
}

#[test]
fn a_hedge_counts_its_time_and_attempts_from_those_of_the_call_that_it_hedges() {
    let mut table = Table::new().joined(&[("n1", 8), ("n2", 8)]);
    table.submit("a", call(&AGAIN).timeout(SECOND * 10));
    let (first, sent_to) = (table.calls["a"].0, table.sent["a"].0.clone());
    assert_eq!(table.pass(SECOND * 3), NOTHING);
    let lines = table.submit("b", call(&AGAIN).timeout(SECOND * 10).hedge_of(first, SECOND * 3));
    assert!(lines.len() == 1 && !lines[0].ends_with(&sent_to), "{lines:?}");
    assert_eq!(table.pass(SECOND), NOTHING);
    table.answer("b");
    assert_eq!(table.answered["b"], (2, SECOND * 4));
}

#[test]
fn a_hedge_times_out_with_the_call_that_it_hedges() {
    let mut table = Table::new().joined(&[("n1", 8), ("n2", 8)]);
    table.submit("a", call(&AGAIN).timeout(SECOND * 10));
    let first = table.calls["a"].0;
    table.pass(SECOND * 3);
    table.submit("b", call(&AGAIN).timeout(SECOND * 10).hedge_of(first, SECOND * 3));
    let ended: Vec<String> = table.pass(SECOND * 7).into_iter().filter(|line| line.starts_with("end")).collect();
    assert!(ended.len() == 2 && ended.iter().all(|line| line.contains(": timed out on n")), "{ended:?}");
}

#[test]
fn calls_with_one_affinity_go_to_one_node_and_wait_for_it() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1), ("n3", 1)]);
    let sent = table.submit("a", call(&COMPUTE).affinity(5));
    let node = sent[0].rsplit(' ').next().expect("a node").to_owned();
    assert_eq!(table.submit("b", call(&COMPUTE).affinity(5)), NOTHING, "the others are free");
    assert_eq!(table.answer("a"), [format!("end a: value from {node}"), format!("send b#1 to {node}")]);
    assert_eq!(table.submit("c", call(&COMPUTE).affinity(5)), NOTHING);
    // The keys of a node that leaves move to others, with the calls that wait.
    let lines = table.drain(&node);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("send c#1 to n") && !lines[1].ends_with(&node), "{lines:?}");
}
