//! What ran on the slots of nodes, and when.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

impl Table {
    /// A call that is sent and runs until now for this long.
    fn run(&mut self, method: &'static Method, run: Duration) {
        self.submit("timed", call(method));
        self.reply("timed", Outcome::Value, run);
    }

    /// The spans so far, as row, start and length after the beginning in milliseconds, and calls.
    fn spans(&mut self) -> Vec<(u16, u128, u128, u32)> {
        self.core.sample_nodes(self.now + SECOND, None);
        let spans = self.core.spans_from(0).spans;
        let millis = |time: Duration| time.as_millis();
        let mut spans: Vec<_> = spans
            .iter()
            .map(|finished| {
                let span = &finished.span;
                (finished.row, millis(span.start - BEGIN), millis(span.end - span.start), span.calls)
            })
            .collect();
        spans.sort_unstable();
        spans
    }
}

#[test]
fn short_calls_of_a_slot_are_one_span_and_a_long_one_is_its_own() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    for _ in 0..10 {
        table.now += MILLISECOND * 10;
        table.run(&COMPUTE, MILLISECOND * 5);
    }
    table.now += SECOND * 3;
    table.run(&COMPUTE, SECOND * 2);
    table.now += MILLISECOND * 10;
    table.run(&COMPUTE, MILLISECOND * 5);
    assert_eq!(table.spans(), [(0, 5, 95, 10), (0, 1100, 2000, 1), (0, 3105, 5, 1)]);
}

#[test]
fn calls_that_overlap_have_rows_of_their_own_and_no_more_than_there_are_slots() {
    let mut table = Table::new().joined(&[("n1", 2)]);
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE));
    table.now += SECOND;
    table.reply("a", Outcome::Value, SECOND);
    table.reply("b", Outcome::Value, SECOND);
    table.run(&COMPUTE, SECOND);
    // A node that says that a third one ran at the same time gets no third row.
    assert_eq!(table.spans(), [(0, 0, 1000, 1), (0, 1000, 0, 1), (1, 0, 1000, 1)]);
}

#[test]
fn methods_that_take_turns_quickly_share_spans() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    for _ in 0..50 {
        for method in [&COMPUTE, &AGAIN] {
            table.now += MILLISECOND;
            table.run(method, MILLISECOND);
        }
    }
    assert_eq!(table.spans(), [(0, 0, 100, 100)]);
    assert_eq!(table.core.spans_from(0).spans[0].span.method, None);
}

#[test]
fn the_spans_of_a_node_end_with_it() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.now += SECOND;
    table.run(&COMPUTE, SECOND);
    table.dies("n1");
    assert_eq!(table.core.spans_from(0).spans.len(), 1);
    let (next, since) = (table.core.spans_from(0).next, table.core.first_span_since(table.now));
    assert_eq!((next, since), (1, 0));
    assert_eq!(table.core.first_span_since(table.now + SECOND), 1);
}
