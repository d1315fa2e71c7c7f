//! The timeout of a call covers queueing, all attempts and the reply.

use super::*;

const HALF_A_SECOND: Duration = Duration::from_millis(500);

#[test]
fn a_call_times_out_in_the_queue() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    table.submit("a", call(&COMPUTE).timeout(HALF_A_SECOND));
    assert_eq!(table.pass(Duration::from_millis(499)), NOTHING);
    assert_eq!(table.pass(Duration::from_millis(1)), ["end a: timed out, queued"]);
    assert_eq!(table.answer("x"), ["end x: value from n1"]);
}

#[test]
fn a_call_times_out_on_its_node_which_is_told() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE).timeout(HALF_A_SECOND));
    table.submit("b", call(&COMPUTE));
    assert_eq!(table.pass(HALF_A_SECOND), ["end a: timed out on n1", "cancel a#1 on n1"]);
    // Its slot is taken until the node says otherwise.
    assert_eq!(table.answer("a"), ["send b#1 to n1"]);
    assert_eq!(table.core.stats().late, 1);
}

#[test]
fn a_call_that_was_not_written_yet_did_not_run() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.writes = false;
    table.submit("a", call(&COMPUTE).timeout(HALF_A_SECOND));
    assert_eq!(table.pass(HALF_A_SECOND), ["end a: timed out, queued"]);
    assert_eq!(table.ended("a", AttemptEnd::NotSent), NOTHING);
}

#[test]
fn a_call_times_out_before_it_is_repeated() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&AGAIN).timeout(HALF_A_SECOND));
    table.dies("n1");
    assert_eq!(table.pass(HALF_A_SECOND), ["end a: timed out, to be repeated after n1"]);
}

#[test]
fn a_call_with_no_time_left_is_ended_by_the_next_tick() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    table.submit("a", call(&COMPUTE).timeout(Duration::ZERO));
    assert_eq!(table.tick(), ["end a: timed out, queued"]);
}

#[test]
fn a_call_that_has_ended_has_no_deadline_any_more() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE).timeout(HALF_A_SECOND));
    assert_eq!(table.answer("a"), ["end a: value from n1"]);
    assert_eq!(table.pass(SECOND), NOTHING);
}

#[test]
fn a_cancelled_call_is_stopped_where_it_is() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE));
    let (a, b) = (table.calls["a"].0, table.calls["b"].0);
    assert_eq!(table.apply(|core, now, effects| core.on_call_cancelled(now, b, effects)), NOTHING);
    assert_eq!(table.apply(|core, now, effects| core.on_call_cancelled(now, a, effects)), ["cancel a#1 on n1"]);
    assert_eq!(table.refuse("a", Refusal::Stopped), NOTHING);
    assert_eq!((table.core.stats().cancelled, table.core.stats().queued), (2, 0));
}
