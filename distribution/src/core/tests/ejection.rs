//! A node whose calls fail while other nodes answer gets fewer calls.

use super::*;

/// Two nodes of four slots, the first of which has failed three times in a row.
fn failing() -> Table {
    let mut table = Table::new().joined(&[("failing", 4), ("healthy", 4)]);
    for times in 1..=3 {
        let name = format!("p{times}");
        table.submit(&name, call(&COMPUTE).on("failing"));
        let lines = table.panic(&name);
        assert_eq!(lines.last(), Some(&format!("end {name}: panicked on failing")));
        assert_eq!(
            only(&lines, "failing ejected"),
            if times < 3 { vec![] } else { vec!["failing ejected for 100ms"] },
            "{times}"
        );
    }
    table
}

#[test]
fn an_ejected_node_gets_no_calls_that_could_go_elsewhere() {
    let mut table = failing();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(table.submit(name, call(&COMPUTE)), [format!("send {name}#1 to healthy")]);
    }
    assert_eq!(table.submit("e", call(&COMPUTE)), NOTHING, "although the failing node is idle");
    assert_eq!(table.submit("f", call(&COMPUTE).on("failing")), ["send f#1 to failing"], "its caller named the node");
    for key in 0..20 {
        table.submit(&format!("k{key}"), call(&WAIT).affinity(key));
    }
    assert!(table.sent.iter().filter(|(name, _)| name.starts_with('k')).all(|(_, (node, _))| node == "healthy"));
}

#[test]
fn a_node_gets_one_call_after_its_ejection_and_twice_as_many_with_each_answer() {
    let mut table = failing();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        table.submit(name, call(&COMPUTE));
    }
    assert_eq!(table.pass(Duration::from_millis(100)), ["send e#1 to failing"]);
    assert_eq!(table.answer("e"), ["end e: value from failing", "send f#1 to failing", "send g#1 to failing"]);
    let restored = [
        "failing restored",
        "end f: value from failing",
        "send h#1 to failing",
        "send i#1 to failing",
        "send j#1 to failing",
    ];
    assert_eq!(table.answer("f"), restored);
}

#[test]
fn a_call_that_takes_long_does_not_keep_the_other_slots_empty_after_an_ejection() {
    let mut table = failing();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        table.submit(name, call(&COMPUTE));
    }
    assert_eq!(table.pass(Duration::from_millis(100)), ["send e#1 to failing"]);
    assert_eq!(table.pass(Duration::from_secs(5)), ["send f#1 to failing"]);
    assert_eq!(table.pass(Duration::from_secs(5)), ["failing restored", "send g#1 to failing", "send h#1 to failing"]);
}

#[test]
fn each_ejection_takes_twice_as_long() {
    let mut table = failing();
    for rest in [200, 400, 800] {
        assert_eq!(table.pass(Duration::from_millis(rest / 2)), NOTHING);
        table.submit("p", call(&COMPUTE).on("failing"));
        let rests = format!("failing ejected for {rest}ms");
        assert_eq!(table.panic("p"), [rests, "end p: panicked on failing".to_owned()]);
    }
}

#[test]
fn no_node_is_ejected_where_all_fail_alike() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    for _ in 0..10 {
        for node in ["n1", "n2"] {
            table.submit("a", call(&COMPUTE).on(node));
            assert_eq!(table.panic("a"), [format!("end a: panicked on {node}")]);
        }
    }
}

#[test]
fn the_only_node_is_not_ejected() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    for _ in 0..10 {
        table.submit("a", call(&COMPUTE));
        assert_eq!(table.panic("a"), ["end a: panicked on n1"]);
    }
}

#[test]
fn an_ejected_node_gets_calls_at_once_if_all_others_leave() {
    let mut table = failing();
    assert_eq!(table.drain("healthy"), ["healthy draining", "drained healthy"]);
    assert_eq!(table.submit("a", call(&COMPUTE)), ["send a#1 to failing"]);
}

#[test]
fn errors_of_handlers_do_not_count_as_failures_of_the_node() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    for _ in 0..10 {
        table.submit("a", call(&COMPUTE).on("n1"));
        assert_eq!(table.reply("a", Outcome::Error, LONG_RUN), ["end a: value from n1"]);
    }
}

#[test]
fn a_process_that_crashes_again_and_again_begins_ejected() {
    let mut table = Table::new().joined(&[("healthy", 1)]);
    for times in 0..3 {
        assert_eq!(table.join("crashes", slots(1)), ["crashes joined"], "after {times}");
        table.submit("a", call(&COMPUTE).on("crashes"));
        table.dies("crashes");
    }
    assert_eq!(table.join("crashes", slots(1)), ["crashes joined", "crashes ejected for 100ms"]);
    assert_eq!(table.join("another", slots(1)), ["another joined"]);
    // After an answer, its crashes are forgotten.
    table.submit("b", call(&COMPUTE).on("crashes"));
    table.answer("b");
    table.dies("crashes");
    assert_eq!(table.join("crashes", slots(1)), ["crashes joined"]);
}
