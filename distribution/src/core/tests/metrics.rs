//! What is counted of calls, by method, node and caller.

use super::*;
use crate::administration::{CallMetrics, NodeMetrics, Outcomes};

impl Table {
    fn of_method(&self, method: &'static Method) -> CallMetrics {
        self.core.method_sample(method.info().id()).expect("it was called").calls
    }

    fn of_node(&self, name: &str) -> NodeMetrics {
        let (nodes, _) = self.core.node_metrics(self.now, None);
        nodes.into_iter().find(|node| &*node.name == name).expect("it is registered")
    }

    fn of_caller(&self, caller: u64) -> CallMetrics {
        self.core.caller_metrics(CallerId(caller)).expect("it has made calls")
    }
}

#[test]
fn a_call_counts_for_its_method_its_node_and_its_caller() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE).by(7).size(300));
    table.submit("b", call(&COMPUTE));
    table.now += SECOND * 4;
    table.answer("a");
    table.now += SECOND;
    table.answer("b");
    let method = table.of_method(&COMPUTE);
    assert_eq!((method.sent, method.outcomes.answered, method.argument_bytes), (2, 2, 310));
    assert_eq!((method.in_queue.count, method.in_queue.sum), (2, SECOND * 4));
    assert_eq!((method.in_handler.count, method.in_handler.sum), (2, LONG_RUN * 2));
    assert_eq!(table.of_node("n1").calls, method);
    let (seven, own) = (table.of_caller(7), table.of_caller(0));
    assert_eq!((seven.outcomes.all(), seven.in_queue.sum, own.in_queue.sum), (1, Duration::ZERO, SECOND * 4));
    let mut sum = seven;
    sum.add(&own);
    assert_eq!(sum, method);
}

#[test]
fn each_end_of_a_call_counts_as_what_it_is() {
    let mut table = Table::with(|settings| settings.max_queued_calls = 1).joined(&[("n1", 1)]);
    table.submit("panics", call(&COMPUTE));
    table.panic("panics");
    table.submit("own error", call(&COMPUTE));
    table.reply("own error", Outcome::Error, LONG_RUN);
    table.submit("cancelled", call(&COMPUTE));
    table.submit("waits", call(&COMPUTE).timeout(SECOND));
    table.submit("too many", call(&COMPUTE));
    table.cancel("cancelled");
    table.pass(SECOND * 2);
    table.reply("cancelled", Outcome::Stopped, SECOND);
    table.submit("lost", call(&COMPUTE));
    table.dies("n1");
    let outcomes = table.of_method(&COMPUTE).outcomes;
    let expected =
        Outcomes { panicked: 1, errors: 1, cancelled: 1, timed_out: 1, not_run: 1, lost: 1, ..Outcomes::default() };
    assert_eq!(outcomes, expected);
    assert_eq!(outcomes.failures(), 4);
    let kinds: Vec<_> = table.core.failure_groups().into_iter().map(|group| (group.kind, group.count)).collect();
    for kind in ["panicked", "overloaded", "timed out", "node lost"] {
        assert!(kinds.contains(&(kind, 1)), "{kinds:?}");
    }
    assert_eq!(kinds.len(), 4);
}

#[test]
fn a_repeated_call_counts_on_each_node_and_once_for_its_method() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&AGAIN));
    table.join("n2", slots(1));
    table.dies("n1");
    table.pass(BACKED_OFF);
    table.answer("a");
    let method = table.of_method(&AGAIN);
    assert_eq!((method.sent, method.repeated, method.outcomes.all()), (2, 1, 1));
    assert_eq!(table.of_node("n2").calls.outcomes.answered, 1);
    let (gone, _) = table.core.gone_metrics();
    assert_eq!((gone.sent, gone.outcomes.lost), (1, 1));
}

#[test]
fn the_calls_of_a_batch_count_each_and_panics_among_them_too() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE).batch(10));
    let reply = Reply { count: 10, panicked: 3, ..Reply::without_payload(Outcome::Value, SECOND) };
    table.now += SECOND * 2;
    table.ended("a", AttemptEnd::Replied(reply));
    let method = table.of_method(&COMPUTE);
    assert_eq!((method.sent, method.batches, method.in_handler.count), (10, 1, 10));
    assert_eq!((method.outcomes.answered, method.outcomes.panicked), (7, 3));
    assert_eq!(method.in_handler.sum, SECOND);
}

#[test]
fn calls_of_a_batch_that_are_made_again_after_a_panic_have_not_ended() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&AGAIN).retry_panics().batch(10));
    let reply = Reply { count: 10, panicked: 3, ..Reply::without_payload(Outcome::Value, SECOND) };
    table.ended("a", AttemptEnd::Replied(reply));
    // Their caller makes each of the three again.
    for name in ["b", "c"] {
        table.submit(name, call(&AGAIN));
        table.answer(name);
    }
    table.submit("d", call(&AGAIN));
    table.panic("d");
    let outcomes = table.of_method(&AGAIN).outcomes;
    assert_eq!((outcomes.answered, outcomes.panicked), (9, 1));
    assert_eq!(table.of_node("n1").calls.outcomes.panicked, 4, "of a node attempts count");
    let kinds: Vec<_> = table.core.failure_groups().into_iter().map(|group| group.kind).collect();
    assert_eq!(kinds, ["panicked"]);
}

#[test]
fn what_a_caller_counted_stays_when_it_is_gone() {
    let mut table = Table::new().joined(&[("n1", 2)]);
    table.submit("a", call(&COMPUTE).by(7));
    table.submit("b", call(&COMPUTE).by(7));
    table.answer("a");
    table.apply(|core, now, effects| core.on_caller_gone(now, CallerId(7), effects));
    assert_eq!(table.core.caller_metrics(CallerId(7)), None);
    let (_, gone) = table.core.gone_metrics();
    assert_eq!((gone.sent, gone.outcomes.answered, gone.outcomes.cancelled), (2, 1, 1));
}

#[test]
fn slots_are_counted_for_as_long_as_they_are_taken() {
    let mut table = Table::new().joined(&[("n1", 2)]);
    let slot_time = |table: &mut Table| table.core.sample_nodes(table.now, None).0[0].slot_time;
    table.submit("a", call(&COMPUTE));
    table.now += SECOND * 2;
    assert_eq!(slot_time(&mut table), SECOND * 2);
    table.submit("b", call(&COMPUTE));
    // It waits on the node, or at the master, and takes no slot.
    table.submit("c", call(&COMPUTE));
    table.now += SECOND;
    table.answer("a");
    table.answer("b");
    table.answer("c");
    table.now += SECOND * 10;
    assert_eq!(slot_time(&mut table), SECOND * 4);
}

#[test]
fn a_flood_of_failures_makes_few_groups_and_one_message_a_tick() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    for number in 0..1000 {
        let name = format!("call {number}");
        table.submit(&name, call(&COMPUTE));
        table.reply(&name, Outcome::Panicked(format!("number {}", number % 300)), LONG_RUN);
    }
    let groups = table.core.failure_groups();
    assert_eq!(groups.len(), 256);
    assert!(groups.iter().all(|group| group.message.contains("number ")));
}
