//! Nodes of one source that take calls and hang up, while there are others.

use super::*;

/// Nodes of one host that hang up, and one of another that does not.
fn with_honest() -> Table {
    let mut table = Table::new();
    for name in ["bad1", "bad2", "bad3", "bad4"] {
        table.join(name, slots(4).host(1));
    }
    table.join("good", slots(1).host(2));
    table
}

#[test]
fn a_call_that_was_lost_goes_to_another_source() {
    let mut table = with_honest();
    table.submit("busy", call(&COMPUTE).on("good"));
    table.submit("a", call(&AGAIN));
    let bad = table.sent["a"].0.clone();
    assert_eq!(table.dies(&bad), [format!("{bad} gone with 1")]);
    assert_eq!(table.pass(SECOND), NOTHING, "three of the same source are free, and it waits for another");
    // One that comes again from there gets others, and not this one.
    table.join("bad5", slots(4).host(1));
    assert_eq!(only(&table.submit("b", call(&AGAIN)), "send").len(), 1);
    assert_eq!(table.answer("busy"), ["end busy: value from good", "send a#2 to good"]);
    assert_eq!(table.answer("a"), ["end a: value from good"]);
}

#[test]
fn nodes_of_one_source_poison_a_call_once_there_is_no_other() {
    let mut table = with_honest();
    table.submit("busy", call(&COMPUTE).on("good"));
    table.submit("a", call(&AGAIN));
    let bad = table.sent["a"].0.clone();
    table.dies(&bad);
    table.pass(SECOND);
    let lines = table.dies("good");
    assert_eq!(only(&lines, "send").len(), 1, "{lines:?}");
    let bad = table.sent["a"].0.clone();
    table.dies(&bad);
    assert_eq!(only(&table.pass(SECOND), "send").len(), 1);
    let bad = table.sent["a"].0.clone();
    assert_eq!(table.dies(&bad)[1..], ["end a: poisoned by 3 nodes"]);
}

#[test]
fn deaths_at_one_source_count_once_while_there_are_others() {
    let mut table = Table::new();
    table.join("bad1", slots(1).host(1));
    table.submit("a", call(&AGAIN));
    for (bad, next) in [("bad1", "bad2"), ("bad2", "bad3")] {
        table.join(next, slots(1).host(1));
        table.dies(bad);
        assert_eq!(table.pass(SECOND)[0], format!("send a#{} to {next}", &next[3..]));
    }
    table.join("good", slots(1).host(2));
    assert_eq!(table.dies("bad3"), ["bad3 gone with 1"]);
    assert_eq!(table.pass(SECOND), ["send a#4 to good"]);
    assert_eq!(table.answer("a"), ["end a: value from good"]);
}

#[test]
fn a_call_that_ends_its_nodes_is_poisoned_by_three_sources() {
    let mut table = Table::new();
    for host in 1..=4 {
        table.join(&format!("n{host}"), slots(1).host(host));
    }
    table.submit("a", call(&AGAIN));
    for times in 1..=3 {
        let node = table.sent["a"].0.clone();
        let lines = table.dies(&node);
        if times == 3 {
            assert_eq!(lines[1..], ["end a: poisoned by 3 nodes"]);
        } else {
            assert_eq!(only(&table.pass(SECOND * 2), "send").len(), 1);
        }
    }
}

#[test]
fn a_call_is_given_up_in_the_end_however_others_come_and_go() {
    let mut table = Table::new();
    table.join("n1", slots(1).host(1));
    table.submit("a", call(&AGAIN));
    for times in 1..20 {
        // One of another source is there while it is decided, and is gone before the call is sent again.
        table.join("other", slots(1).host(2));
        let lines = table.dies(&format!("n{times}"));
        table.drain("other");
        table.dies("other");
        if lines.len() > 1 {
            assert_eq!((times, &*lines[1]), (10, "end a: poisoned by 10 nodes"));
            return;
        }
        table.join(&format!("n{}", times + 1), slots(1).host(1));
        assert_eq!(only(&table.pass(SECOND * 2), "send").len(), 1);
    }
    panic!("it goes on for ever");
}

#[test]
fn a_call_avoids_a_node_again_once_there_is_another() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE).on("n1"));
    assert_eq!(table.refuse("a", Refusal::Busy), ["send b#1 to n1"]);
    assert_eq!(table.pass(BACKED_OFF), NOTHING, "it waits for n1, since there is no other");
    // The other is no better yet, and n1 is left alone all the same.
    table.join("n2", slots(1).busy(1));
    assert_eq!(table.answer("b"), ["end b: value from n1"]);
    assert_eq!(table.stale("n2", 0), ["send a#2 to n2"]);
}
