//! Short calls are sent ahead of free slots, within limits.

use super::*;

const SHORT_RUN: Duration = Duration::from_micros(10);

#[test]
fn five_milliseconds_of_work_are_sent_for_each_slot() {
    let run = Duration::from_millis(1);
    let count = |slots| {
        let mut table = Table::new().joined(&[("n1", slots)]);
        table.expect_run_time(&COMPUTE, run);
        (0..100).map(|number| table.submit(&format!("c{number}"), call(&COMPUTE)).len()).sum::<usize>()
    };
    assert_eq!(count(1), 5);
    assert_eq!(count(3), 15);
}

#[test]
fn a_call_of_unknown_or_long_time_is_not_sent_ahead() {
    let mut table = Table::new().joined(&[("n1", 2)]);
    let lines: Vec<_> = ["a", "b", "c"].into_iter().flat_map(|name| table.submit(name, call(&COMPUTE))).collect();
    assert_eq!(lines, ["send a#1 to n1", "send b#1 to n1"]);
    // 20 ms of work for two slots: one call of 11 ms each, and none behind it.
    let mut table = Table::new().joined(&[("n1", 2)]);
    table.expect_run_time(&COMPUTE, Duration::from_millis(11));
    let sent: usize = (0..5).map(|number| table.submit(&format!("c{number}"), call(&COMPUTE)).len()).sum();
    assert_eq!(sent, 2);
}

#[test]
fn no_more_than_512_wait_on_a_node() {
    let mut table = Table::with(|settings| settings.max_queued_calls = 10_000).joined(&[("n1", 2)]);
    table.expect_run_time(&COMPUTE, SHORT_RUN);
    let sent: usize = (0..1000).map(|number| table.submit(&format!("c{number}"), call(&COMPUTE)).len()).sum();
    assert_eq!(sent, 2 + 512);
    assert_eq!(table.reply("c0", Outcome::Value, SHORT_RUN), ["end c0: value from n1", "send c514#1 to n1"]);
}

#[test]
fn no_more_than_four_mebibytes_wait_on_a_node() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.expect_run_time(&COMPUTE, SHORT_RUN);
    let size = 1024 * 1024;
    let sent: usize = (0..20).map(|number| table.submit(&format!("c{number}"), call(&COMPUTE).size(size)).len()).sum();
    assert_eq!(sent, 4);
    // A free slot gets a call of any size.
    let mut table = Table::new().joined(&[("n1", 2)]);
    let sent: usize = (0..3).map(|at| table.submit(&format!("c{at}"), call(&COMPUTE).size(16 * size)).len()).sum();
    assert_eq!(sent, 2);
}

#[test]
fn async_calls_are_never_sent_ahead() {
    let mut table = Table::new();
    table.join("n1", slots(1).async_limit(2));
    table.expect_run_time(&WAIT, SHORT_RUN);
    let sent: usize = (0..5).map(|number| table.submit(&format!("c{number}"), call(&WAIT)).len()).sum();
    assert_eq!(sent, 2);
}

#[test]
fn a_node_whose_slots_are_held_by_others_is_sent_nothing_ahead() {
    let mut table = Table::new();
    table.join("n1", slots(2));
    table.expect_run_time(&COMPUTE, SHORT_RUN);
    table.report_stale("n1", 1);
    let sent: usize = (0..5).map(|number| table.submit(&format!("c{number}"), call(&COMPUTE)).len()).sum();
    assert_eq!(sent, 1);
}

#[test]
fn short_calls_do_not_overtake_a_long_one_whose_turn_it_is() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.expect_run_time(&AGAIN, SHORT_RUN);
    table.submit("x", call(&COMPUTE));
    table.submit("long", call(&COMPUTE));
    assert_eq!(table.submit("short", call(&AGAIN)), NOTHING);
    assert_eq!(table.answer("x"), ["end x: value from n1", "send long#1 to n1"]);
}

#[test]
fn calls_that_wait_on_a_node_without_progress_are_retracted() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.expect_run_time(&COMPUTE, Duration::from_millis(1));
    let blocked = call(&OTHER);
    table.submit("y", blocked.on("n2"));
    for name in ["a", "b", "c"] {
        assert_eq!(table.submit(name, call(&COMPUTE).on("n1")), [format!("send {name}#1 to n1")]);
    }
    assert_eq!(table.pass(Duration::from_millis(300)), ["retract from n1"]);
    assert_eq!(table.submit("d", call(&COMPUTE).on("n1")), NOTHING, "nothing more is sent ahead");
    assert_eq!(table.refuse("b", Refusal::Returned), NOTHING);
    assert_eq!(table.pass(SECOND), NOTHING, "it is asked once");
    // Once a call has ended there, it is sent calls ahead again.
    let lines = table.reply("a", Outcome::Value, Duration::from_millis(1));
    assert_eq!(lines, ["end a: value from n1", "send b#2 to n1"], "its share of the two that wait, with two nodes");
}

#[test]
fn a_call_that_was_lost_is_not_sent_ahead() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.expect_run_time(&AGAIN, SHORT_RUN);
    table.submit("y", call(&COMPUTE).on("n2"));
    assert_eq!(table.submit("a", call(&AGAIN)), ["send a#1 to n1"]);
    assert_eq!(table.dies("n1"), ["n1 gone with 1"]);
    assert_eq!(table.pass(BACKED_OFF), NOTHING, "it may be the cause");
    assert_eq!(table.answer("y"), ["end y: value from n2", "send a#2 to n2"]);
    assert_eq!(table.submit("b", call(&AGAIN)), NOTHING, "and nothing waits behind it on its node");
}
