//! Which methods are listed, and how many of their calls.

use super::*;
use crate::{administration::MethodKind, core::MethodList};

impl Table {
    /// Each method with the nodes that serve it, and its calls that wait and run.
    fn methods(&self) -> Vec<(String, usize, usize, usize)> {
        let (mut list, mut after) = (MethodList::default(), None);
        loop {
            let slice = self.core.served_methods(after);
            list.add_served(&slice);
            if slice.last.is_none() {
                break;
            }
            after = slice.last;
        }
        list.add_called(&self.core.called_methods());
        let rows = list.into_rows().into_iter();
        rows.map(|row| (format!("{}.{}", row.service, row.name), row.nodes, row.waiting, row.running)).collect()
    }

    fn tally(&self, name: &str) -> (usize, usize, usize) {
        let found = self.methods().into_iter().find(|row| row.0 == name);
        found.map(|(_, nodes, waiting, running)| (nodes, waiting, running)).unwrap_or_default()
    }
}

#[test]
fn methods_of_all_nodes_are_listed_once_with_the_number_of_nodes() {
    let mut table = Table::with(|settings| settings.slice = 2);
    table.join("n1", slots(1).serves(&[&COMPUTE, &WAIT]));
    table.join("n2", slots(1).serves(&[&COMPUTE]));
    table.join("n3", slots(1).serves(&[&COMPUTE]));
    table.join("n4", slots(1).serves(&[&OTHER]));
    table.join("n5", slots(1).serves(&[&AGAIN]));
    let named = |rows: Vec<(String, usize, usize, usize)>| -> Vec<(String, usize)> {
        rows.into_iter().map(|(name, nodes, ..)| (name, nodes)).collect()
    };
    let expected = [("A.again", 1), ("A.compute", 3), ("A.wait", 1), ("B.compute", 1)];
    assert_eq!(named(table.methods()), expected.map(|(name, nodes)| (name.to_owned(), nodes)));
    let mut list = MethodList::default();
    list.add_served(&table.core.served_methods(None));
}

#[test]
fn a_method_runs_as_nodes_say_and_else_as_callers_say() {
    let mut table = Table::new();
    let kinds = |table: &Table| -> Vec<(String, MethodKind, bool)> {
        let mut list = MethodList::default();
        list.add_served(&table.core.served_methods(None));
        list.add_called(&table.core.called_methods());
        list.into_rows().into_iter().map(|row| (row.name, row.kind, row.idempotent)).collect()
    };
    let (compute, again, wait) = (
        |idempotent| ("compute".to_owned(), MethodKind::Compute, idempotent),
        ("again".to_owned(), MethodKind::Compute, true),
        ("wait".to_owned(), MethodKind::Async, false),
    );
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&AGAIN));
    table.submit("c", call(&WAIT));
    assert_eq!(kinds(&table), [again.clone(), compute(false), wait.clone()], "as callers say");
    // A node of another release, in whose trait the same method is idempotent.
    static COMPUTE_AGAIN: Method = Method::new("A", 1, "compute", "fn() -> ()", true);
    table.join("n1", slots(1).serves(&[&COMPUTE_AGAIN]));
    assert_eq!(kinds(&table), [again.clone(), compute(true), wait.clone()], "as the only node says");
    table.join("n2", slots(1).serves(&[&COMPUTE]));
    assert_eq!(kinds(&table), [again, compute(false), wait], "as all nodes say");
}

#[test]
fn the_calls_of_a_method_are_counted_wherever_they_are() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE));
    table.submit("batch", call(&AGAIN).batch(5));
    assert_eq!((table.tally("A.compute"), table.tally("A.again")), ((1, 1, 1), (1, 5, 0)));
    table.refuse("a", Refusal::Busy);
    assert_eq!(table.tally("A.compute"), (1, 1, 1), "one backs off, and the other runs");
    table.answer("b");
    table.pass(BACKED_OFF);
    assert_eq!(table.tally("A.again"), (1, 0, 5));
    table.answer("batch");
    table.answer("a");
    assert_eq!((table.tally("A.compute"), table.tally("A.again")), ((1, 0, 0), (1, 0, 0)));
}

#[test]
fn a_method_that_no_node_serves_is_listed_while_calls_of_it_wait() {
    let mut table = Table::new();
    table.submit("a", call(&RARE));
    assert_eq!(table.methods(), [("C.rare".to_owned(), 0, 1, 0)]);
    table.pass(SECOND * 6);
    assert_eq!(table.methods(), []);
}
