//! What happens to a call whose node was lost, or refused it.

use super::*;

#[test]
fn a_call_that_may_have_run_is_not_repeated() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.join("n2", slots(1));
    assert_eq!(table.dies("n1"), ["n1 gone with 1", "end a: lost with n1, attempts 1"]);
}

#[test]
fn a_call_that_was_not_written_goes_elsewhere_at_once() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.writes = false;
    table.submit("a", call(&COMPUTE));
    table.join("n2", slots(1));
    assert_eq!(table.dies("n1"), ["n1 gone with 1", "send a#2 to n2"]);
    table.join("n3", slots(1));
    assert_eq!(table.ended("a", AttemptEnd::NotSent).len(), 1);
}

#[test]
fn an_idempotent_call_is_repeated_elsewhere_after_a_while() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&AGAIN));
    table.join("n2", slots(1));
    assert_eq!(table.dies("n1"), ["n1 gone with 1"]);
    assert_eq!(table.pass(Duration::from_millis(79)), NOTHING);
    assert_eq!(table.pass(Duration::from_millis(42)), ["send a#2 to n2"]);
    assert_eq!(table.answer("a"), ["end a: value from n2"]);
    assert_eq!(table.failed_attempts["a"].len(), 1);
}

/// Loses a call again and again, and returns how it ends.
fn lose(submission: Submission, reason: &GoneReason) -> (u32, Vec<String>) {
    let mut table = Table::new();
    table.join("n1", slots(1));
    table.submit("a", submission);
    for times in 1..20 {
        table.join(&format!("n{}", times + 1), slots(1));
        let lines = table.gone(&format!("n{times}"), reason.clone());
        if lines.len() > 1 {
            return (times, lines[1..].to_vec());
        }
        assert_eq!(only(&table.pass(SECOND * 2), "send").len(), 1);
    }
    panic!("it never ends");
}

#[test]
fn a_call_over_which_three_nodes_died_is_poisoned() {
    let (times, end) = lose(call(&AGAIN), &GoneReason::Disconnected);
    assert_eq!((times, end), (3, vec!["end a: poisoned by 3 nodes".to_owned()]));
}

#[test]
fn nodes_that_left_gracefully_do_not_poison_a_call_but_use_up_its_attempts() {
    let (times, end) = lose(call(&AGAIN), &GoneReason::Left);
    assert_eq!((times, end), (3, vec!["end a: lost with n3, attempts 3".to_owned()]));
    let (times, _) = lose(call(&AGAIN).attempts(7), &GoneReason::Left);
    assert_eq!(times, 7);
    let (times, end) = lose(call(&AGAIN).attempts(1), &GoneReason::Disconnected);
    assert_eq!((times, end), (1, vec!["end a: lost with n1, attempts 1".to_owned()]));
}

#[test]
fn a_call_that_was_lost_with_its_batch_has_all_its_attempts() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.expect_run_time(&AGAIN, Duration::from_micros(10));
    assert_eq!(table.submit("batch", call(&AGAIN).batch(2)), ["send batch#1 to n1"]);
    table.join("n2", slots(1));
    assert_eq!(table.dies("n1"), ["n1 gone with 2", "end batch: lost with n1, attempts 1"]);
    assert_eq!(table.core.stats().failed, 0, "its calls are made again");
    let failed_attempts = table.failed_attempts["batch"].clone();
    let single = Submission { failed_attempts, ..call(&AGAIN) };
    assert_eq!(table.submit("a", single), ["send a#2 to n2"], "at once, because the batch is not repeated");
    for (node, next) in [("n2", "n3"), ("n3", "n4")] {
        table.join(next, slots(1));
        assert_eq!(table.dies(node), [format!("{node} gone with 1")]);
        assert_eq!(only(&table.pass(SECOND), "send").len(), 1);
    }
    table.join("n5", slots(1));
    assert_eq!(table.dies("n4"), ["n4 gone with 1", "end a: poisoned by 4 nodes"]);
}

#[test]
fn a_call_that_was_refused_ten_times_ends() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    for _ in 1..10 {
        assert_eq!(only(&table.refuse("a", Refusal::Draining), "end"), NOTHING);
        assert_eq!(only(&table.pass(SECOND * 2), "send").len(), 1);
    }
    let lines = table.refuse("a", Refusal::Draining);
    assert!(lines[0].starts_with("end a: no node: nodes that serve it refused it 10 times; the last one"), "{lines:?}");
}

#[test]
fn a_call_that_is_given_back_again_and_again_counts_as_refused() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    for times in 2..12 {
        assert_eq!(table.refuse("a", Refusal::Returned), [format!("send a#{times} to n1")]);
    }
    assert_eq!(table.refuse("a", Refusal::Returned), NOTHING, "now it backs off");
    assert_eq!(table.pass(BACKED_OFF), ["send a#12 to n1"]);
}

#[test]
fn a_panic_is_tried_elsewhere_only_if_that_is_asked_for_and_allowed() {
    for (submission, again) in [
        (call(&AGAIN), false),
        (call(&COMPUTE).retry_panics(), false),
        (call(&AGAIN).retry_panics().attempts(1), false),
        (call(&AGAIN).retry_panics(), true),
    ] {
        let mut table = Table::new().joined(&[("n1", 1)]);
        table.submit("a", submission);
        table.join("n2", slots(1));
        let lines = table.panic("a");
        if again {
            assert_eq!(lines, NOTHING);
            assert_eq!(table.pass(BACKED_OFF), ["send a#2 to n2"]);
            assert_eq!(table.answer("a"), ["end a: value from n2"]);
        } else {
            assert_eq!(lines, ["end a: panicked on n1"]);
        }
    }
}

#[test]
fn a_call_that_panics_everywhere_ends_as_panicked() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1), ("n3", 1)]);
    table.submit("a", call(&AGAIN).retry_panics());
    for _ in 0..2 {
        assert_eq!(table.panic("a"), NOTHING);
        assert_eq!(only(&table.pass(SECOND), "send").len(), 1);
    }
    assert!(table.panic("a")[0].starts_with("end a: panicked on n"));
}

#[test]
fn a_stream_that_has_yielded_an_item_is_never_repeated() {
    let yielded = |submission| {
        let mut table = Table::new().joined(&[("n1", 1)]);
        table.submit("a", submission);
        table.join("n2", slots(1));
        table.yields("a");
        table
    };
    assert_eq!(yielded(call(&AGAIN)).dies("n1"), ["n1 gone with 1", "end a: lost with n1, attempts 1"]);
    assert_eq!(yielded(call(&AGAIN).retry_panics()).panic("a"), ["end a: panicked on n1"]);
    // A node cannot say that it has not begun.
    for refusal in [Refusal::Busy, Refusal::Returned, Refusal::NotReceived, Refusal::UnknownMethod] {
        assert_eq!(yielded(call(&AGAIN)).refuse("a", refusal), ["end a: lost with n1, attempts 1"]);
    }
}
