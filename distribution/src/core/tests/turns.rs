//! Callers take turns and have limits of their own; nested calls have the places of the calls that made them.

use super::{
    queues::{order, order_on},
    *,
};

/// One node whose only slot is taken by the call `x` of caller 9.
fn taken() -> Table {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE).by(9));
    table
}

/// Submits calls of a caller.
fn submit_all(table: &mut Table, caller: u64, names: &[&str]) {
    for name in names {
        assert_eq!(table.submit(name, call(&COMPUTE).by(caller)), NOTHING);
    }
}

#[test]
fn a_call_of_a_quiet_caller_gets_the_next_turn_however_many_calls_another_has_made() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1", "a2", "a3", "a4"]);
    submit_all(&mut table, 2, &["b1"]);
    assert_eq!(order(&mut table, "x"), ["a1", "b1", "a2", "a3", "a4"]);
}

#[test]
fn a_caller_that_comes_late_gets_no_turns_for_the_time_before() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1", "a2", "a3", "a4", "a5"]);
    table.answer("x");
    table.answer("a1");
    assert!(only(&table.answer("a2"), "send a3").len() == 1);
    submit_all(&mut table, 2, &["b1", "b2", "b3"]);
    assert_eq!(order(&mut table, "a3"), ["a4", "b1", "a5", "b2", "b3"]);
}

#[test]
fn three_callers_with_many_calls_alternate() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1", "a2", "a3"]);
    submit_all(&mut table, 2, &["b1", "b2"]);
    submit_all(&mut table, 0, &["m1", "m2", "m3"]);
    assert_eq!(order(&mut table, "x"), ["a1", "b1", "m1", "a2", "b2", "m2", "a3", "m3"]);
}

#[test]
fn the_calls_of_one_caller_are_taken_in_the_order_in_which_they_were_made_whatever_their_method() {
    let mut table = taken();
    for (name, method) in [("a", &COMPUTE), ("b", &COMPUTE), ("c", &AGAIN), ("d", &COMPUTE), ("e", &AGAIN)] {
        table.submit(name, call(method).by(1));
    }
    assert_eq!(order(&mut table, "x"), ["a", "b", "c", "d", "e"]);
}

#[test]
fn turns_are_those_of_a_service_and_not_of_all() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1", "a2", "a3"]);
    table.submit("o1", call(&OTHER).by(1));
    table.submit("o2", call(&OTHER).by(1));
    table.submit("p1", call(&OTHER).by(2));
    assert_eq!(order(&mut table, "x"), ["o1", "a1", "p1", "a2", "o2", "a3"]);
}

#[test]
fn a_caller_whose_calls_have_all_been_cancelled_has_no_turns_to_make_up_for() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1", "a2", "a3"]);
    submit_all(&mut table, 2, &["b1", "b2"]);
    for name in ["a1", "a2", "a3"] {
        table.cancel(name);
    }
    submit_all(&mut table, 1, &["a4"]);
    assert_eq!(order(&mut table, "x"), ["b1", "a4", "b2"]);
}

#[test]
fn a_call_keeps_its_turn_when_it_is_queued_again() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1", "a2"]);
    submit_all(&mut table, 2, &["b1"]);
    table.answer("x");
    assert_eq!(table.refuse("a1", Refusal::Returned), ["send a1#2 to n1"]);
    assert_eq!(order(&mut table, "a1"), ["b1", "a2"]);
}

#[test]
fn calls_that_move_to_another_queue_keep_their_turns_and_later_ones_of_their_caller_go_behind() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.submit("x", call(&COMPUTE).on("n1"));
    table.submit("y", call(&COMPUTE).on("n2"));
    let key = (0..).find(|key| {
        table.submit("probe", call(&COMPUTE).affinity(*key));
        let id = table.id("probe");
        let is_for_n1 = table.core.waits_for(id) == Some(table.node("n1"));
        table.cancel("probe");
        is_for_n1
    });
    for name in ["a1", "a2", "a3"] {
        table.submit(name, call(&COMPUTE).by(1).affinity(key.expect("there is one")));
    }
    table.cancel("a1");
    table.cancel("a2");
    assert_eq!(only(&table.drain("n1"), "send"), [""; 0]);
    for (name, caller) in [("b1", 2), ("a4", 1)] {
        table.submit(name, call(&COMPUTE).by(caller));
    }
    assert_eq!(order_on(&mut table, "n2", "y"), ["b1", "a3", "a4"]);
}

#[test]
fn a_call_that_was_sent_at_once_goes_before_all_that_were_queued_later_if_it_is_given_back() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1"]);
    submit_all(&mut table, 2, &["b1"]);
    assert_eq!(table.refuse("x", Refusal::Returned), ["send x#2 to n1"]);
}

#[test]
fn calls_that_expire_are_all_found_whatever_their_turns() {
    let mut table = Table::new();
    for name in ["a1", "a2", "a3"] {
        table.submit(name, call(&RARE).by(1));
    }
    table.pass(SECOND);
    for (name, caller) in [("b1", 2), ("a4", 1), ("b2", 2)] {
        table.submit(name, call(&RARE).by(caller));
    }
    assert_eq!(only(&table.pass(SECOND * 4), "end a").len(), 3);
    let lines = table.pass(SECOND);
    assert_eq!((only(&lines, "end b").len(), only(&lines, "end a4").len()), (2, 1));
}

#[test]
fn nested_calls_go_before_calls_that_were_made_after_their_root() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1", "a2"]);
    submit_all(&mut table, 2, &["b1"]);
    let nested = call(&COMPUTE).by(7).in_handler_of(table.id("x"));
    table.submit("c1", nested.clone());
    table.submit("c2", nested);
    assert_eq!(order(&mut table, "x"), ["c1", "c2", "a1", "b1", "a2"]);
}

#[test]
fn a_nested_call_goes_behind_calls_whose_turn_is_before_that_of_its_root() {
    let mut table = Table::new();
    table.join("n1", slots(1));
    table.join("n2", slots(1).label("gpu", "a100"));
    table.submit("x", call(&COMPUTE).on("n1"));
    table.submit("y", call(&COMPUTE).on("n2"));
    table.submit("a1", call(&COMPUTE).by(1).on("n1"));
    table.submit("a2", call(&COMPUTE).by(1).label("gpu", "a100"));
    table.submit("a3", call(&COMPUTE).by(1).on("n1"));
    assert_eq!(table.answer("y"), ["end y: value from n2", "send a2#1 to n2"]);
    table.submit("c", call(&COMPUTE).by(7).in_handler_of(table.id("a2")).on("n1"));
    assert_eq!(order(&mut table, "x"), ["a1", "c", "a3"]);
}

#[test]
fn a_call_made_by_a_nested_call_has_the_place_of_the_same_root() {
    let mut table = Table::new().joined(&[("n1", 2)]);
    for name in ["x", "y"] {
        table.submit(name, call(&COMPUTE));
    }
    table.submit("c", call(&COMPUTE).in_handler_of(table.id("x")));
    submit_all(&mut table, 1, &["a1", "a2"]);
    assert_eq!(table.answer("y"), ["end y: value from n1", "send c#1 to n1"]);
    table.submit("d", call(&COMPUTE).in_handler_of(table.id("c")));
    assert_eq!(order(&mut table, "c"), ["d", "a1", "a2"]);
}

#[test]
fn a_nested_call_of_another_service_counts_as_begun_when_it_is_made() {
    let mut table = taken();
    for name in ["o1", "o2", "o3"] {
        table.submit(name, call(&OTHER).by(1));
    }
    table.answer("x");
    table.answer("o1");
    assert_eq!(only(&table.answer("o2"), "send"), ["send o3#1 to n1"]);
    submit_all(&mut table, 1, &["a1", "a2"]);
    table.submit("c", call(&COMPUTE).by(7).in_handler_of(table.id("o3")));
    assert_eq!(order(&mut table, "o3"), ["c", "a1", "a2"], "the turn of o3 is one of another service");
}

#[test]
fn a_call_whose_parent_is_unknown_is_an_ordinary_one() {
    let mut table = taken();
    submit_all(&mut table, 1, &["a1"]);
    let gone = CallId(table.id("a1").0 + 1000);
    table.submit("c", call(&COMPUTE).by(1).in_handler_of(gone));
    assert_eq!(order(&mut table, "x"), ["a1", "c"]);
}

/// The same node, for callers that may each have two calls and 100 bytes waiting, out of four calls for all.
fn limited() -> Table {
    let mut table = Table::with(|settings| {
        (settings.max_queued_calls, settings.max_queued_calls_per_caller) = (4, 2);
        settings.max_queued_bytes_per_caller = 100;
    });
    table.join("n1", slots(1));
    table.submit("x", call(&COMPUTE).by(9));
    table
}

#[test]
fn a_caller_cannot_fill_the_queue_for_others() {
    let mut table = limited();
    submit_all(&mut table, 1, &["a1", "a2"]);
    let refused = table.submit("a3", call(&COMPUTE).by(1));
    assert_eq!(refused, ["end a3: overloaded: 2 of 2 calls of its caller"]);
    assert_eq!(table.submit("a4", call(&OTHER).by(1)), ["end a4: overloaded: 2 of 2 calls of its caller"]);
    submit_all(&mut table, 2, &["b1", "b2"]);
    assert_eq!(table.submit("c1", call(&COMPUTE).by(3)), ["end c1: overloaded: 4 of 4 calls"]);
    table.answer("x");
    assert_eq!(table.submit("a5", call(&COMPUTE).by(1)), NOTHING, "a1 does not wait any more");
    table.cancel("a2");
    assert_eq!(table.submit("a6", call(&COMPUTE).by(1)), NOTHING);
    assert_eq!(table.submit("a7", call(&COMPUTE).by(1)), ["end a7: overloaded: 2 of 2 calls of its caller"]);
}

#[test]
fn the_bytes_of_a_caller_are_bounded() {
    let mut table = limited();
    assert_eq!(table.submit("a1", call(&COMPUTE).by(1).size(60)), NOTHING);
    let refused = table.submit("a2", call(&COMPUTE).by(1).size(50));
    assert_eq!(refused, ["end a2: overloaded: 60 of 100 bytes of arguments of its caller"]);
    assert_eq!(table.submit("b1", call(&COMPUTE).by(2).size(50)), NOTHING);
    assert_eq!(table.submit("a3", call(&COMPUTE).by(1).size(40)), NOTHING);
}

#[test]
fn the_masters_own_calls_are_bound_only_by_the_limit_of_all() {
    let mut table = limited();
    submit_all(&mut table, 0, &["m1", "m2", "m3", "m4"]);
    assert_eq!(table.submit("m5", call(&COMPUTE)), ["end m5: overloaded: 4 of 4 calls"]);
}

#[test]
fn nested_calls_count_towards_no_limit() {
    let mut table = limited();
    submit_all(&mut table, 1, &["a1", "a2"]);
    submit_all(&mut table, 2, &["b1", "b2"]);
    for name in ["c1", "c2", "c3"] {
        assert_eq!(table.submit(name, call(&COMPUTE).by(1).in_handler_of(table.id("x"))), NOTHING);
    }
    table.cancel("b2");
    assert_eq!(table.submit("b3", call(&COMPUTE).by(2)), NOTHING);
    let unknown = CallId(table.id("x").0 + 1000);
    let refused = table.submit("c4", call(&COMPUTE).by(1).in_handler_of(unknown));
    assert_eq!(refused, ["end c4: overloaded: 2 of 2 calls of its caller"]);
}
