//! Nodes of one source that take calls and disconnect, while there are others.

use super::*;

/// Four nodes of one host that will disconnect, and one of another host that stays.
fn four_unreliable_and_one_reliable() -> Table {
    let mut table = Table::new();
    for name in ["bad1", "bad2", "bad3", "bad4"] {
        table.join(name, slots(4).host(1));
    }
    table.join("good", slots(1).host(2));
    table
}

/// The calls that a node holds.
fn held_by(table: &Table, name: &str) -> Vec<String> {
    table.sent.iter().filter(|(_, (node, _))| node == name).map(|(call, _)| call.clone()).collect()
}

#[test]
fn a_call_that_was_lost_goes_to_another_source() {
    for good_slots in [1, 16] {
        let mut table = four_unreliable_and_one_reliable();
        table.dies("good");
        table.join("good", slots(good_slots).host(2));
        // Short enough to be sent ahead of a free slot, which a lost call is not.
        table.expect_run_time(&COMPUTE, Duration::from_millis(1));
        table.submit("busy", call(&COMPUTE).on("good"));
        table.submit("a", call(&AGAIN));
        let bad = table.sent["a"].0.clone();
        assert_ne!(bad, "good", "it has the higher load");
        assert_eq!(table.dies(&bad), [format!("{bad} gone with 1")]);
        let lines = table.pass(SECOND);
        let to = &table.sent["a"].0;
        assert_eq!(only(&lines, "send").len(), 1, "it does not wait: {lines:?}");
        assert_eq!(to == "good", good_slots > 1, "to {to}: to another source that has a free slot, else to any other");
    }
}

#[test]
fn lost_calls_do_not_wait_for_a_node_elsewhere_that_is_busy() {
    let mut table = Table::new();
    for number in 0..8 {
        table.join(&format!("n{number}"), slots(8).host(1));
    }
    table.join("laptop", slots(1).host(2));
    table.submit("long", call(&COMPUTE).on("laptop"));
    for number in 0..20 {
        table.submit(&format!("c{number}"), call(&AGAIN));
    }
    let node = table.sent["c0"].0.clone();
    let lost = held_by(&table, &node);
    table.dies(&node);
    assert_eq!(only(&table.pass(SECOND), "send").len(), lost.len());
    assert_eq!(table.core.stats().queued, 0);
    assert!(lost.iter().all(|call| table.sent[call].0 != "laptop"));
}

#[test]
fn a_node_that_answers_nothing_takes_few_of_the_calls_lost_elsewhere() {
    let mut table = Table::with(|settings| settings.slow_start = 16);
    for number in 0..20 {
        table.join(&format!("n{number}"), slots(4).host(1));
    }
    table.join("liar", slots(1024).host(2));
    table.expect_run_time(&AGAIN, Duration::from_millis(10));
    for number in 0..200 {
        table.submit(&format!("c{number}"), call(&AGAIN));
    }
    let mut lost = Vec::new();
    for number in 0..8 {
        let node = format!("n{number}");
        lost.extend(held_by(&table, &node));
        table.dies(&node);
    }
    for _ in 0..20 {
        table.pass(SECOND / 2);
        let answered: Vec<String> = (8..20).flat_map(|number| held_by(&table, &format!("n{number}"))).collect();
        for call in answered {
            table.reply(&call, Outcome::Value, Duration::from_millis(10));
            table.sent.remove(&call);
        }
    }
    assert_eq!(lost.len(), 32);
    assert_eq!(table.core.stats().queued, 0, "none of them waits for the liar");
    let held = held_by(&table, "liar").len();
    assert!(held <= 16 + 10, "no more than a node that answers nothing gets: {held}");
}

#[test]
fn a_call_that_kills_all_nodes_of_one_source_ends_where_the_other_is_never_free() {
    let mut table = Table::new();
    table.join("good", slots(1).host(2));
    table.submit("busy", call(&COMPUTE).on("good"));
    table.join("bad0", slots(1).host(1));
    table.submit("a", call(&AGAIN));
    for times in 1..20 {
        table.join(&format!("bad{times}"), slots(1).host(1));
        let lines = table.dies(&format!("bad{}", times - 1));
        if lines.len() > 1 {
            assert_eq!((times, &*lines[1]), (10, "end a: poisoned by 10 nodes"));
            return;
        }
        assert_eq!(table.pass(SECOND * 2), [format!("send a#{} to bad{times}", times + 1)]);
    }
    panic!("it never ends");
}

#[test]
fn nodes_of_one_source_poison_a_call_where_there_is_no_other() {
    let mut table = four_unreliable_and_one_reliable();
    table.dies("good");
    table.submit("a", call(&AGAIN));
    for times in 1..=3 {
        let bad = table.sent["a"].0.clone();
        let lines = table.dies(&bad);
        if times == 3 {
            assert_eq!(lines[1..], ["end a: poisoned by 3 nodes"]);
        } else {
            assert_eq!(only(&table.pass(SECOND * 2), "send").len(), 1);
        }
    }
}

#[test]
fn few_nodes_are_looked_at_for_another_source() {
    let mut table = Table::new();
    for number in 0..100 {
        table.join(&format!("n{number}"), slots(2).host(1));
    }
    table.join("far", slots(4).host(2));
    table.submit("busy", call(&COMPUTE).on("far"));
    table.submit("a", call(&AGAIN));
    let node = table.sent["a"].0.clone();
    table.dies(&node);
    table.pass(SECOND);
    assert_ne!(table.sent["a"].0, "far", "99 other nodes come before it");
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
fn a_call_is_poisoned_in_the_end_although_other_sources_come_and_go() {
    let mut table = Table::new();
    table.join("n1", slots(1).host(1));
    table.submit("a", call(&AGAIN));
    for times in 1..20 {
        // A node of another source is registered while the core decides, and is gone before the call is sent again.
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
    panic!("it never ends");
}

#[test]
fn a_call_avoids_a_node_again_once_there_is_another() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE).on("n1"));
    assert_eq!(table.refuse("a", Refusal::Busy), ["send b#1 to n1"]);
    assert_eq!(table.pass(BACKED_OFF), NOTHING, "it waits for n1, because there is no other node");
    // The other node has no free slot yet. Still, n1 is avoided now.
    table.join("n2", slots(1).busy(1));
    assert_eq!(table.answer("b"), ["end b: value from n1"]);
    assert_eq!(table.report_stale("n2", 0), ["send a#2 to n2"]);
}
