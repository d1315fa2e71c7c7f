//! The order in which waiting calls are taken, and how many may wait.

use std::sync::Arc;

use super::*;
use crate::{
    administration::MethodKind,
    core::{called_methods::MOST_CALLED, queue_ids::ServiceId, queues::MOST_SERVICES},
    id::MethodName,
    service::method::MethodInfo,
    wire::handshake::StreamShape,
};

/// One node whose only slot is taken.
fn taken() -> Table {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    table
}

/// Ends one call after the other on n1, and returns the order in which they were sent.
pub(super) fn order(table: &mut Table, first: &str) -> Vec<String> {
    order_on(table, "n1", first)
}

pub(super) fn order_on(table: &mut Table, node: &str, first: &str) -> Vec<String> {
    let (mut order, mut running) = (Vec::new(), first.to_owned());
    loop {
        let lines = table.answer(&running);
        assert_eq!(lines[0], format!("end {running}: value from {node}"));
        let Some(sent) = lines.get(1) else { return order };
        running = sent["send ".len()..].split('#').next().expect("a call").to_owned();
        order.push(running.clone());
    }
}

#[test]
fn the_oldest_call_of_a_service_goes_first_whatever_its_method() {
    let mut table = taken();
    for (name, method) in [("a", &COMPUTE), ("b", &AGAIN), ("c", &COMPUTE), ("d", &AGAIN)] {
        assert_eq!(table.submit(name, call(method)), NOTHING);
    }
    assert_eq!(order(&mut table, "x"), ["a", "b", "c", "d"]);
}

#[test]
fn services_take_turns() {
    let mut table = taken();
    for (name, method) in [("a", &COMPUTE), ("b", &COMPUTE), ("c", &COMPUTE), ("d", &OTHER), ("e", &OTHER)] {
        table.submit(name, call(method));
    }
    assert_eq!(order(&mut table, "x"), ["d", "a", "e", "b", "c"]);
}

#[test]
fn calls_for_one_node_are_taken_in_the_same_order_as_all_others() {
    let mut table = taken();
    table.submit("a", call(&COMPUTE));
    table.submit("on", call(&COMPUTE).on("n1"));
    table.submit("affinity", call(&COMPUTE).affinity(3));
    table.submit("b", call(&COMPUTE));
    table.submit("on again", call(&COMPUTE).on("n1"));
    table.submit("other", call(&OTHER));
    assert_eq!(order(&mut table, "x"), ["other", "a", "on", "affinity", "b", "on again"]);
}

#[test]
fn targeted_calls_do_not_starve_another_service() {
    let mut table = taken();
    for name in ["a", "b", "c"] {
        table.submit(name, call(&COMPUTE).on("n1"));
    }
    table.submit("d", call(&OTHER));
    table.submit("e", call(&OTHER));
    assert_eq!(order(&mut table, "x"), ["d", "a", "e", "b", "c"]);
}

#[test]
fn calls_that_a_node_cannot_take_do_not_keep_others_from_it() {
    let mut table = Table::new();
    table.join("n1", slots(1));
    table.join("n2", slots(1).label("gpu", "a100"));
    table.submit("x", call(&COMPUTE).on("n1"));
    table.submit("y", call(&COMPUTE).on("n2"));
    table.submit("a", call(&COMPUTE).label("gpu", "a100"));
    table.submit("b", call(&COMPUTE).on("n2"));
    table.submit("c", call(&COMPUTE));
    assert_eq!(table.answer("x"), ["end x: value from n1", "send c#1 to n1"]);
    assert_eq!(table.answer("y"), ["end y: value from n2", "send a#1 to n2"]);
}

#[test]
fn a_node_full_of_compute_calls_takes_async_ones_that_wait_behind() {
    let mut table = Table::new();
    table.join("n1", slots(1).async_limit(1));
    for (name, method) in [("x", &COMPUTE), ("w", &WAIT), ("a", &COMPUTE), ("b", &WAIT)] {
        table.submit(name, call(method));
    }
    assert_eq!(table.answer("w"), ["end w: value from n1", "send b#1 to n1"]);
    assert_eq!(table.answer("x"), ["end x: value from n1", "send a#1 to n1"]);
}

#[test]
fn the_queue_is_bounded_in_calls() {
    let mut table = Table::with(|settings| settings.max_queued_calls = 2).joined(&[("n1", 1)]);
    for name in ["x", "a", "b"] {
        table.submit(name, call(&COMPUTE));
    }
    assert_eq!(table.submit("c", call(&COMPUTE)), ["end c: overloaded: 2 of 2 calls"]);
    assert_eq!(table.submit("d", call(&COMPUTE).on("n1")), ["end d: overloaded: 2 of 2 calls"]);
    assert_eq!(table.submit("e", call(&WAIT)), ["send e#1 to n1"], "a call that need not wait is taken");
    table.answer("x");
    assert_eq!(table.submit("f", call(&COMPUTE)), NOTHING);
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let mut table = Table::with(|settings| settings.max_queued_bytes = 100).joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE).size(1000));
    assert_eq!(table.submit("a", call(&COMPUTE).size(60)), NOTHING);
    assert_eq!(table.submit("b", call(&COMPUTE).size(50)), ["end b: overloaded: 60 of 100 bytes of arguments"]);
    assert_eq!(table.submit("c", call(&COMPUTE).size(40)), NOTHING);
}

#[test]
fn exempt_calls_do_not_count_towards_the_limits() {
    let limits = |settings: &mut Settings| (settings.max_queued_calls, settings.max_queued_bytes) = (1, 100);
    let mut table = Table::with(limits).joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    for name in ["p1", "p2", "p3"] {
        assert_eq!(table.submit(name, call(&COMPUTE).exempt_from_limits().size(90)), NOTHING);
    }
    assert_eq!(table.submit("a", call(&COMPUTE).size(90)), NOTHING, "no other call that waits counts");
    assert_eq!(table.submit("b", call(&COMPUTE)), ["end b: overloaded: 1 of 1 calls"]);
    assert_eq!(table.submit("p4", call(&COMPUTE).exempt_from_limits()), NOTHING);
    assert_eq!(order(&mut table, "x"), ["p1", "p2", "p3", "a", "p4"]);
}

#[test]
fn a_call_that_was_given_back_goes_before_those_made_after_it() {
    let mut table = Table::with(|settings| settings.max_queued_calls = 1).joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    table.submit("a", call(&COMPUTE));
    let given_back = table.refuse("x", Refusal::Returned);
    assert_eq!(given_back, ["send x#2 to n1"]);
    table.submit("b", call(&COMPUTE).on("n1"));
    assert_eq!(table.core.stats().queued, 1, "b was refused");
}

#[test]
fn a_call_that_may_have_run_is_let_into_a_full_queue() {
    let mut table = Table::with(|settings| settings.max_queued_calls = 1).joined(&[("n1", 1), ("n2", 1)]);
    table.submit("x", call(&AGAIN).on("n2"));
    table.submit("a", call(&AGAIN));
    table.submit("b", call(&AGAIN));
    table.dies("n1");
    assert_eq!(table.pass(BACKED_OFF), NOTHING);
    assert_eq!(table.core.stats().queued, 2);
    assert_eq!(table.answer("x"), ["end x: value from n2", "send a#2 to n2"], "it was made before b");
}

#[test]
fn a_compute_call_that_is_too_long_to_be_sent_ahead_does_not_keep_async_ones_waiting() {
    let mut table = Table::new();
    table.join("n1", slots(1).async_limit(1));
    table.expect_run_time(&AGAIN, Duration::from_millis(1));
    for (name, method) in [("x", &AGAIN), ("w", &WAIT), ("a", &COMPUTE), ("b", &WAIT)] {
        table.submit(name, call(method));
    }
    assert_eq!(table.answer("w"), ["end w: value from n1", "send b#1 to n1"]);
}

#[test]
fn a_node_takes_only_calls_all_of_whose_labels_it_has() {
    let mut table = Table::new();
    table.join("n1", slots(1).label("zone", "west"));
    table.join("n2", slots(1).label("zone", "west").label("gpu", "a100"));
    table.submit("x", call(&COMPUTE).on("n1"));
    table.submit("y", call(&COMPUTE).on("n2"));
    let both = [("zone", "west"), ("gpu", "a100")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    table.submit("a", call(&COMPUTE).with(|demand| demand.labels = Some(both.into())));
    assert_eq!(table.answer("x"), ["end x: value from n1"]);
    assert_eq!(table.answer("y"), ["end y: value from n2", "send a#1 to n2"]);
}

#[test]
fn calls_that_avoided_two_nodes_go_to_both_once_there_are_no_others() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1), ("n3", 1)]);
    table.submit("x", call(&COMPUTE).on("n3"));
    for name in ["a", "b"] {
        table.submit(name, call(&COMPUTE));
        table.refuse(name, Refusal::Draining);
        assert_eq!(table.pass(SECOND).len(), 1, "it is sent to the other one");
        table.refuse(name, Refusal::Draining);
        assert_eq!(table.pass(SECOND), NOTHING, "it waits for n3");
    }
    assert_eq!(only(&table.drain("n3"), "send").len(), 2);
}

#[test]
fn ever_new_methods_and_services_are_not_remembered_for_ever() {
    let mut core = taken().core;
    let submit = |core: &mut Core<TableHost>, service: &str, name: &str| {
        let method = MethodInfo::new(
            MethodName::new(service, name),
            1,
            "fn() -> ()",
            (MethodKind::Compute, false, StreamShape::default()),
            0,
            &[],
        );
        let handle =
            Rc::new(TableCall { name: name.to_owned(), count: 1, sent: Cell::new(0), has_yielded: Cell::new(false) });
        let mut effects = Vec::new();
        let call =
            core.on_call_submitted(BEGIN, handle, &Arc::new(method), call(&COMPUTE).demand, Vec::new(), &mut effects);
        core.on_call_cancelled(BEGIN, call, &mut effects);
    };
    for number in 0..2 * MOST_CALLED.max(MOST_SERVICES) {
        submit(&mut core, &format!("S{number}"), "f");
    }
    assert_eq!(core.called.len(), MOST_CALLED);
    let turns = |service: ServiceId| service.0 as usize;
    let services: Vec<_> = core.called.iter().filter_map(|(method, _)| core.called.service(method.id())).collect();
    assert!(services.into_iter().all(|service| turns(service) < MOST_SERVICES));
    for service in ["S0", "New"] {
        submit(&mut core, service, "f");
        let is_remembered = core.called.iter().any(|(method, _)| method.name().service() == service);
        assert!(is_remembered && core.called.len() == MOST_CALLED, "{service}");
    }
}
