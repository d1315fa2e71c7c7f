//! Calls end with the caller, or with the call, that made them.

use super::{slices::ticks, *};

/// A node with a free slot and one that works on `x`, so that calls for it wait.
fn two_nodes() -> Table {
    let mut table = Table::new().joined(&[("n1", 2), ("n2", 1)]);
    table.submit("x", call(&COMPUTE).on("n2"));
    table
}

impl Table {
    fn caller_gone(&mut self, caller: u64) -> Vec<String> {
        self.apply(|core, now, effects| core.on_caller_gone(now, CallerId(caller), effects))
    }

    fn detach(&mut self, name: &str) {
        let id = self.id(name);
        assert_eq!(self.apply(|core, _, _| core.on_call_detached(id)), NOTHING);
    }
}

#[test]
fn the_calls_of_a_caller_that_is_gone_are_cancelled_wherever_they_are() {
    let mut table = two_nodes();
    table.submit("runs", call(&COMPUTE).by(1));
    table.submit("waits", call(&COMPUTE).by(1).on("n2"));
    table.submit("of another", call(&COMPUTE).by(2).on("n2"));
    table.submit("fails", call(&AGAIN).by(1));
    table.refuse("fails", Refusal::Draining);
    let lines = table.caller_gone(1);
    assert_eq!(
        lines,
        [
            "end runs: cancelled, may have run",
            "cancel runs#1 on n1",
            "end waits: cancelled, did not run",
            "end fails: cancelled, did not run",
        ]
    );
    assert_eq!(table.core.stats().cancelled, 3);
    assert_eq!(table.pass(SECOND), NOTHING, "nothing is left to be repeated");
    assert_eq!(table.answer("x"), ["end x: value from n2", "send of another#1 to n2"]);
}

#[test]
fn a_detached_call_goes_on_without_its_caller() {
    let mut table = two_nodes();
    table.submit("a", call(&COMPUTE).by(1));
    table.submit("b", call(&COMPUTE).by(1).on("n2"));
    table.detach("a");
    table.detach("b");
    assert_eq!(table.caller_gone(1), NOTHING);
    assert_eq!(table.answer("a"), ["end a: value from n1"]);
    assert_eq!(table.cancel("b"), NOTHING, "by its id it can still be cancelled");
    assert_eq!(table.core.unfinished(), 1);
}

#[test]
fn a_caller_that_is_gone_leaves_its_share_of_the_queue_and_its_turns() {
    let mut table = Table::with(|settings| settings.max_queued_calls_per_caller = 2).joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    for name in ["a1", "a2"] {
        table.submit(name, call(&COMPUTE).by(1));
    }
    assert_eq!(only(&table.caller_gone(1), "end").len(), 2);
    for name in ["a3", "a4"] {
        assert_eq!(table.submit(name, call(&COMPUTE).by(1)), NOTHING);
    }
    assert_eq!(table.answer("x"), ["end x: value from n1", "send a3#1 to n1"]);
}

#[test]
fn a_caller_with_many_calls_goes_in_slices() {
    let mut table = Table::with(|settings| settings.slice = 8).joined(&[("n1", 1)]);
    for number in 0..40 {
        table.submit(&format!("c{number}"), call(&COMPUTE).by(1));
    }
    let first = table.caller_gone(1);
    assert!((1..=8).contains(&first.len()), "{first:?}");
    assert_eq!(table.submit("other", call(&COMPUTE).by(2)), NOTHING, "others come in between");
    assert!(ticks(&mut table).iter().all(|count| *count <= 8));
    assert_eq!(table.failed_attempts.len(), 40, "each has ended");
    assert_eq!(table.answer("c0"), ["send other#1 to n1"]);
}

#[test]
fn calls_that_a_cancelled_call_has_made_are_cancelled_and_so_is_what_these_have_made() {
    let mut table = two_nodes();
    table.submit("root", call(&COMPUTE));
    table.submit("child", call(&COMPUTE).by(7).in_handler_of(table.id("root")));
    table.submit("grandchild", call(&COMPUTE).by(7).on("n2").in_handler_of(table.id("child")));
    table.submit("unrelated", call(&COMPUTE).by(7).on("n2"));
    assert_eq!(table.cancel("root"), ["cancel root#1 on n1"]);
    assert_eq!(
        table.pass(Duration::ZERO),
        ["end child: cancelled, may have run", "cancel child#1 on n1", "end grandchild: cancelled, did not run",]
    );
    assert_eq!(table.core.unfinished(), 2);
}

#[test]
fn a_call_that_was_made_by_one_that_timed_out_has_the_same_deadline() {
    let mut table = two_nodes();
    table.submit("root", call(&COMPUTE).timeout(SECOND));
    table.submit("child", call(&COMPUTE).on("n2").in_handler_of(table.id("root")));
    assert_eq!(
        table.pass(SECOND),
        ["end root: timed out on n1", "cancel root#1 on n1", "end child: timed out, queued"]
    );
}

#[test]
fn calls_that_were_made_on_a_node_that_is_lost_are_cancelled_and_those_of_the_next_attempt_are_not() {
    let mut table = two_nodes();
    table.join("n3", slots(1));
    table.submit("root", call(&AGAIN).on("n1"));
    table.submit("again", call(&AGAIN));
    for (name, parent) in [("of root", "root"), ("of again", "again")] {
        table.submit(name, call(&COMPUTE).on("n2").in_handler_of(table.id(parent)));
    }
    let (node, attempt) = table.sent["again"].clone();
    assert_eq!((node.as_str(), attempt), ("n3", 1));
    assert_eq!(only(&table.dies("n3"), "end"), ["end of again: cancelled, did not run"]);
    assert_eq!(table.pass(BACKED_OFF), ["send again#2 to n1"]);
    table.submit("of the next", call(&COMPUTE).on("n2").in_handler_of(table.id("again")));
    assert_eq!(only(&table.dies("n1"), "end root"), ["end root: lost with n1, attempts 1"]);
    let ends = ["root", "of root", "of the next", "of again"].map(|name| table.failed_attempts.contains_key(name));
    assert_eq!(ends, [true; 4]);
}

#[test]
fn calls_of_a_later_attempt_are_not_cancelled_with_those_of_the_one_that_was_lost() {
    let mut table = Table::with(|settings| settings.slice = 4);
    for (name, count) in [("n1", 1), ("n2", 1), ("n3", 1)] {
        table.join(name, slots(count));
    }
    table.submit("x", call(&COMPUTE).on("n3"));
    table.submit("root", call(&AGAIN));
    let node = table.sent["root"].0.clone();
    for number in 0..40 {
        table.submit(&format!("c{number}"), call(&COMPUTE).on("n3").in_handler_of(table.id("root")));
    }
    let first = table.dies(&node);
    assert!(only(&first, "end").len() < 40, "{first:?}");
    // Before all of them have ended, its next attempt makes another one.
    table.submit("later", call(&COMPUTE).on("n3").in_handler_of(table.id("root")));
    ticks(&mut table);
    assert_eq!(table.failed_attempts.len(), 40);
    assert_eq!(table.answer("x"), ["end x: value from n3", "send later#1 to n3"]);
}

#[test]
fn a_detached_call_goes_on_without_the_call_that_made_it() {
    let mut table = two_nodes();
    table.submit("root", call(&COMPUTE));
    table.submit("child", call(&COMPUTE).by(7).in_handler_of(table.id("root")));
    table.detach("child");
    table.cancel("root");
    assert_eq!(table.pass(Duration::ZERO), NOTHING);
    assert_eq!(table.answer("child"), ["end child: value from n1"]);
}

#[test]
fn calls_go_on_whose_parent_has_ended_with_a_value() {
    let mut table = two_nodes();
    table.submit("root", call(&COMPUTE));
    table.submit("child", call(&COMPUTE).on("n2").in_handler_of(table.id("root")));
    assert_eq!(table.answer("root"), ["end root: value from n1"]);
    assert_eq!(table.answer("x"), ["end x: value from n2", "send child#1 to n2"]);
}
