//! A new node gets few calls until it has answered some.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn starting_with(width: u32) -> Table {
    Table::with(|settings| settings.slow_start = width)
}

/// Submits this many calls, and returns how many of them were sent.
fn submit(table: &mut Table, from: usize, count: usize, method: &'static Method) -> usize {
    let mut lines = Vec::new();
    for number in from..from + count {
        lines.extend(table.submit(&format!("c{number}"), call(method)));
    }
    only(&lines, "send").len()
}

/// How many calls a node holds.
fn held(table: &Table, name: &str) -> usize {
    let (id, _) = table.nodes[name];
    table
        .core
        .node_snapshots(None, None)
        .0
        .iter()
        .map(|row| row.info(table.now))
        .find(|info| info.id == id)
        .map_or(0, |info| info.in_flight)
}

#[test]
fn a_node_that_answers_nothing_holds_few_calls_whatever_it_claims() {
    let mut table = starting_with(16).joined(&[("liar", 1024), ("n1", 2), ("n2", 2)]);
    submit(&mut table, 0, 500, &COMPUTE);
    assert_eq!((held(&table, "liar"), held(&table, "n1"), held(&table, "n2")), (16, 2, 2));
    // The others answer each call after 10 ms.
    let mut answered = 0;
    while table.core.stats().queued > 0 {
        table.pass(Duration::from_millis(10));
        let done: Vec<String> =
            table.sent.iter().filter(|(_, (node, _))| node != "liar").map(|(name, _)| name.clone()).collect();
        for name in done {
            table.reply(&name, Outcome::Value, Duration::from_millis(10));
            table.sent.remove(&name);
            answered += 1;
        }
    }
    assert!(answered >= 500 - 24, "{answered} of 500 were answered");
    assert!(held(&table, "liar") <= 16 + 4, "one with each heartbeat: {}", held(&table, "liar"));
}

#[test]
fn a_node_that_answers_little_holds_few_calls_however_long_these_run_elsewhere() {
    for (millis, seconds) in [(10, 10), (400, 10), (600, 10), (1000, 10), (5000, 30)] {
        for answers in [false, true] {
            let mut table = Table::with(|settings| (settings.slow_start, settings.max_queued_calls) = (16, 5000));
            table.join("n1", slots(4));
            table.expect_run_time(&COMPUTE, Duration::from_millis(millis));
            table.join("liar", slots(1024));
            submit(&mut table, 0, 150, &COMPUTE);
            for _ in 0..seconds {
                table.pass(SECOND);
                // A single answer now and then does not open the window.
                let first = table.sent.iter().find(|(_, (node, _))| answers && node == "liar");
                if let Some(name) = first.map(|(name, _)| name.clone()) {
                    table.reply(&name, Outcome::Value, Duration::from_millis(millis));
                    table.sent.remove(&name);
                }
            }
            let most = 16 + seconds * if answers { 2 } else { 1 };
            let held = held(&table, "liar");
            assert!(held <= most, "with calls of {millis} ms it holds {held} after {seconds} s; answers: {answers}");
        }
    }
}

#[test]
fn a_late_node_gets_long_calls_one_at_a_time() {
    let mut table = starting_with(1).joined(&[("n1", 4)]);
    table.expect_run_time(&COMPUTE, SECOND * 10);
    table.dies("n1");
    table.join("liar", slots(1024));
    submit(&mut table, 0, 2, &COMPUTE);
    table.pass(SECOND * 21);
    // It took both, because its window had doubled and there were no other calls.
    submit(&mut table, 2, 100, &COMPUTE);
    let before = held(&table, "liar");
    assert!((2..=4).contains(&before), "{before}");
    table.pass(SECOND * 10);
    let more = held(&table, "liar") - before;
    assert!((8..=10).contains(&more), "{more} more in ten seconds");
}

#[test]
fn a_node_cannot_claim_a_run_time_longer_than_the_call_was_in_flight() {
    let mut table = starting_with(16).joined(&[("n1", 2)]);
    table.expect_run_time(&COMPUTE, Duration::from_millis(1));
    table.join("liar", slots(1024));
    submit(&mut table, 0, 100, &COMPUTE);
    for _ in 0..10 {
        let first = table.sent.iter().find(|(_, (node, _))| node == "liar").map(|(name, _)| name.clone());
        let name = first.expect("it has some");
        table.now += Duration::from_millis(1);
        table.reply_claiming(&name, Outcome::Value, HOUR);
        table.sent.remove(&name);
    }
    let mean = table.core.run_times[&COMPUTE.info().id()];
    assert!(mean <= Duration::from_millis(10), "{mean:?}");
    let held_before = held(&table, "liar");
    table.pass(SECOND * 10);
    assert!(held(&table, "liar") <= held_before + 10, "its window does not double");
}

#[test]
fn async_calls_have_a_window_of_their_own() {
    let mut table = starting_with(4);
    table.join("n1", slots(8).async_limit(100));
    assert_eq!(submit(&mut table, 0, 20, &WAIT), 4);
    assert_eq!(submit(&mut table, 20, 20, &COMPUTE), 4);
    // An answer makes room for two calls: it frees its own place, and widens the window by one.
    assert_eq!(only(&table.answer("c0"), "send"), ["send c4#1 to n1", "send c5#1 to n1"]);
    assert_eq!(only(&table.answer("c20"), "send"), ["send c24#1 to n1", "send c25#1 to n1"]);
}

#[test]
fn a_node_whose_calls_take_an_hour_is_full_after_some_heartbeats() {
    let mut table = starting_with(16).joined(&[("n1", 64)]);
    assert_eq!(submit(&mut table, 0, 64, &COMPUTE), 16);
    assert_eq!(only(&table.pass(SECOND * 3), "send").len(), 48);
    // With the most slots that a node can claim, it takes a few more heartbeats.
    let mut table =
        Table::with(|settings| (settings.slow_start, settings.max_queued_calls) = (16, 2000)).joined(&[("n1", 1024)]);
    table.expect_run_time(&COMPUTE, HOUR);
    submit(&mut table, 0, 1024, &COMPUTE);
    table.pass(SECOND * 8);
    assert_eq!(held(&table, "n1"), 1024);
}

#[test]
fn a_node_whose_calls_take_longer_than_expected_gets_one_with_each_heartbeat() {
    let mut table = starting_with(4).joined(&[("n1", 64)]);
    table.expect_run_time(&COMPUTE, Duration::from_millis(10));
    assert_eq!(submit(&mut table, 0, 64, &COMPUTE), 5, "four, and one more after an answer");
    let sent = only(&table.pass(SECOND * 10), "send").len();
    assert!((8..=10).contains(&sent), "{sent}");
    // A silent node gets none.
    table.silent.push("n1");
    table.pass(SECOND * 3);
    assert_eq!(only(&table.pass(SECOND), "send"), NOTHING);
}

#[test]
fn calls_for_one_node_do_not_wait_for_its_window() {
    let mut table = starting_with(1).joined(&[("n1", 4)]);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(table.submit(name, call(&COMPUTE).on("n1")), [format!("send {name}#1 to n1")]);
    }
}

#[test]
fn a_node_that_registers_again_starts_with_a_small_window() {
    let mut table = starting_with(2).joined(&[("n1", 8)]);
    submit(&mut table, 0, 20, &AGAIN);
    (0..6).for_each(|number| _ = table.answer(&format!("c{number}")));
    assert_eq!(held(&table, "n1"), 8);
    table.dies("n1");
    table.join("n1", slots(8));
    table.pass(SECOND / 2);
    assert_eq!(held(&table, "n1"), 2);
}
