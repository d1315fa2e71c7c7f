//! A node whose calls fail while others answer gets fewer of them.

use super::*;

/// Two nodes of four slots, the first of which has failed three times in a row.
fn sick() -> Table {
    let mut table = Table::new().joined(&[("sick", 4), ("well", 4)]);
    for times in 1..=3 {
        let name = format!("p{times}");
        table.submit(&name, call(&COMPUTE).on("sick"));
        let lines = table.panic(&name);
        assert_eq!(lines.last(), Some(&format!("end {name}: panicked on sick")));
        assert_eq!(
            only(&lines, "sick rests"),
            if times < 3 { vec![] } else { vec!["sick rests for 100ms"] },
            "{times}"
        );
    }
    table
}

#[test]
fn it_gets_no_calls_that_could_go_elsewhere() {
    let mut table = sick();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(table.submit(name, call(&COMPUTE)), [format!("send {name}#1 to well")]);
    }
    assert_eq!(table.submit("e", call(&COMPUTE)), NOTHING, "though the sick one is idle");
    assert_eq!(table.submit("f", call(&COMPUTE).on("sick")), ["send f#1 to sick"], "its caller wants it there");
    for key in 0..20 {
        table.submit(&format!("k{key}"), call(&WAIT).affinity(key));
    }
    assert!(table.sent.iter().filter(|(name, _)| name.starts_with('k')).all(|(_, (node, _))| node == "well"));
}

#[test]
fn after_its_rest_it_gets_one_and_with_each_answer_twice_as_many() {
    let mut table = sick();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        table.submit(name, call(&COMPUTE));
    }
    assert_eq!(table.pass(Duration::from_millis(100)), ["send e#1 to sick"]);
    assert_eq!(table.answer("e"), ["end e: value from sick", "send f#1 to sick", "send g#1 to sick"]);
    let restored =
        ["sick restored", "end f: value from sick", "send h#1 to sick", "send i#1 to sick", "send j#1 to sick"];
    assert_eq!(table.answer("f"), restored);
}

#[test]
fn each_rest_is_twice_as_long() {
    let mut table = sick();
    for rest in [200, 400, 800] {
        assert_eq!(table.pass(Duration::from_millis(rest / 2)), NOTHING);
        table.submit("p", call(&COMPUTE).on("sick"));
        let rests = format!("sick rests for {rest}ms");
        assert_eq!(table.panic("p"), [rests, "end p: panicked on sick".to_owned()]);
    }
}

#[test]
fn where_all_fail_alike_nobody_rests() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    for _ in 0..10 {
        for node in ["n1", "n2"] {
            table.submit("a", call(&COMPUTE).on(node));
            assert_eq!(table.panic("a"), [format!("end a: panicked on {node}")]);
        }
    }
}

#[test]
fn the_only_node_does_not_rest() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    for _ in 0..10 {
        table.submit("a", call(&COMPUTE));
        assert_eq!(table.panic("a"), ["end a: panicked on n1"]);
    }
}

#[test]
fn the_rest_of_the_last_node_ends_at_once() {
    let mut table = sick();
    assert_eq!(table.drain("well"), ["well draining", "drained well"]);
    assert_eq!(table.submit("a", call(&COMPUTE)), ["send a#1 to sick"]);
}

#[test]
fn errors_of_handlers_are_answers() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    for _ in 0..10 {
        table.submit("a", call(&COMPUTE).on("n1"));
        assert_eq!(table.reply("a", Outcome::Error, LONG), ["end a: value from n1"]);
    }
}

#[test]
fn a_process_that_crashes_again_and_again_begins_with_a_rest() {
    let mut table = Table::new().joined(&[("well", 1)]);
    for times in 0..3 {
        assert_eq!(table.join("crashes", slots(1)), ["crashes joined"], "after {times}");
        table.submit("a", call(&COMPUTE).on("crashes"));
        table.dies("crashes");
    }
    assert_eq!(table.join("crashes", slots(1)), ["crashes joined", "crashes rests for 100ms"]);
    assert_eq!(table.join("another", slots(1)), ["another joined"]);
    // An answer clears its name.
    table.submit("b", call(&COMPUTE).on("crashes"));
    table.answer("b");
    table.dies("crashes");
    assert_eq!(table.join("crashes", slots(1)), ["crashes joined"]);
}
