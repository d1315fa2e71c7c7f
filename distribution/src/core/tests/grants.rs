//! How many calls of a batch a node may start.

use super::*;

/// A node that has a batch of 8 calls of unknown length.
fn batch() -> Table {
    let mut table = Table::new().joined(&[("n1", 2)]);
    assert_eq!(table.submit("b", call(&AGAIN).batch(8)), ["send b#1 to n1 (2 of 8)"]);
    table
}

#[test]
fn a_node_gets_a_quarter_at_first_and_at_least_a_quarter_more_each_time() {
    let mut table = batch();
    assert_eq!(table.request_grant("b", 3), ["grant 4 of b#1 on n1"]);
    assert_eq!(table.request_grant("b", 0), ["grant 6 of b#1 on n1"]);
    assert_eq!(table.request_grant("b", u32::MAX), ["grant 8 of b#1 on n1"]);
    assert_eq!(table.request_grant("b", 8), NOTHING);
}

#[test]
fn the_calls_granted_at_a_time_are_expected_to_take_two_and_a_half_milliseconds() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.expect_run_time(&AGAIN, Duration::from_micros(500));
    assert_eq!(table.submit("b", call(&AGAIN).batch(8)), ["send b#1 to n1 (5 of 8)"]);
    table.answer("b");
    table.expect_run_time(&OTHER, Duration::from_micros(10));
    assert_eq!(table.submit("c", call(&OTHER).batch(200)), ["send c#1 to n1"], "all of it");
}

#[test]
fn a_lost_batch_is_shortened_to_what_was_granted() {
    let mut table = batch();
    table.request_grant("b", 4);
    assert_eq!(table.dies("n1"), ["n1 gone with 8", "shorten b to 4", "end b: lost with n1, attempts 1"]);
}

#[test]
fn calls_that_were_given_back_are_not_granted_and_not_given_back_again() {
    let mut table = batch();
    assert_eq!(table.give_back("b", 3), NOTHING, "more than it was granted");
    assert_eq!(table.give_back("b", 0), NOTHING, "all of it");
    assert_eq!(table.give_back("b", 1), ["shorten b to 1"]);
    assert_eq!(table.give_back("b", 2), NOTHING);
    assert_eq!(table.request_grant("b", 8), NOTHING);
    assert_eq!(table.dies("n1"), ["n1 gone with 1", "end b: lost with n1, attempts 1"]);
    let (gone, _) = table.core.gone_metrics();
    assert_eq!((gone.sent, gone.outcomes.lost, gone.outcomes.not_run), (8, 1, 7));
}

#[test]
fn a_node_that_keeps_some_of_a_batch_and_refuses_it_has_lost_it() {
    let mut table = batch();
    table.give_back("b", 1);
    let lines = table.refuse("b", Refusal::Busy);
    assert_eq!(lines, ["end b: lost with n1, attempts 1"]);
}

#[test]
fn only_the_node_that_has_the_attempt_is_heard() {
    let mut table = batch();
    table.join("n2", slots(1));
    let (id, n1, n2) = (table.calls["b"].0, table.node("n1"), table.node("n2"));
    for (node, attempt) in [(n1, 0), (n1, 2), (n2, 1)] {
        assert_eq!(table.apply(|core, _, effects| core.on_grant_requested(node, id, attempt, 8, effects)), NOTHING);
        assert_eq!(table.apply(|core, _, effects| core.on_calls_given_back(node, id, attempt, 1, effects)), NOTHING);
    }
}
