//! Long work is done in slices, and nothing is lost in between.

use super::{super::queue_ids::QueueId, *};
use crate::{failed_attempt::Cause, id::NodeIdentity};

fn sliced(slice: usize) -> Table {
    Table::with(|settings| settings.slice = slice)
}

/// Does all deferred work, and returns how many effects each tick had.
pub(super) fn ticks(table: &mut Table) -> Vec<usize> {
    let mut counts = Vec::new();
    while table.core.next_tick() <= table.now {
        counts.push(table.tick().len());
        assert!(counts.len() < 1000, "it never ends");
    }
    counts
}

#[test]
fn a_node_with_many_calls_in_flight_goes_in_slices() {
    let mut table = sliced(1);
    table.join("n1", slots(6));
    table.pass(Duration::ZERO);
    for number in 0..6 {
        table.submit(&format!("c{number}"), call(&COMPUTE));
    }
    let first = table.dies("n1");
    assert!(only(&first, "end").len() <= 1, "{first:?}");
    assert!(ticks(&mut table).iter().all(|count| *count <= 1));
    assert_eq!(table.failed_attempts.len(), 6, "each has ended");
}

#[test]
fn a_call_is_cancelled_or_answered_late_between_two_slices() {
    let mut table = sliced(1);
    table.join("n1", slots(6));
    table.join("n2", slots(6));
    table.pass(Duration::ZERO);
    for number in 0..5 {
        table.submit(&format!("c{number}"), call(&AGAIN).on("n1"));
    }
    table.dies("n1");
    let last = table.calls["c4"].0;
    assert_eq!(table.apply(|core, now, effects| core.on_call_cancelled(now, last, effects)), NOTHING);
    ticks(&mut table);
    assert_eq!(table.core.unfinished(), 0);
    assert_eq!(table.core.stats().cancelled + table.core.stats().failed, 5);
}

#[test]
fn a_node_that_many_calls_wait_for_leaves_in_slices() {
    let mut table = sliced(4);
    table.join("n1", slots(1));
    table.join("n2", slots(2));
    table.pass(Duration::ZERO);
    table.submit("x", call(&COMPUTE).on("n1"));
    for number in 0..20 {
        table.submit(&format!("on{number}"), call(&COMPUTE).on("n1"));
    }
    let first = table.drain("n1");
    assert!((1..=4).contains(&only(&first, "end").len()), "{first:?}");
    assert_eq!(table.submit("any", call(&COMPUTE)), ["send any#1 to n2"], "others come in between");
    assert!(ticks(&mut table).iter().all(|count| *count <= 4));
    assert_eq!(table.failed_attempts.len(), 20);
}

#[test]
fn calls_that_no_node_serves_expire_in_slices_and_a_node_may_come_in_between() {
    let mut table = sliced(4);
    for number in 0..20 {
        table.submit(&format!("c{number}"), call(&COMPUTE));
    }
    table.now += SECOND * 5;
    let lines = table.tick();
    assert!((1..=4).contains(&lines.len()), "{lines:?}");
    let ended = lines.len();
    let joined = table.join("n1", slots(30));
    table.pass(Duration::ZERO);
    assert_eq!(table.sent.len() + ended, 20, "the others run: {joined:?}");
}

#[test]
fn all_unserved_calls_expire_if_no_node_joins() {
    let mut table = sliced(4);
    for number in 0..20 {
        table.submit(&format!("c{number}"), call(&COMPUTE));
    }
    table.now += SECOND * 5;
    let counts = ticks(&mut table);
    assert!(counts.iter().all(|count| *count <= 4), "{counts:?}");
    assert_eq!(table.failed_attempts.len(), 20, "each has ended");
}

#[test]
fn a_large_node_is_fed_in_slices() {
    let mut table = sliced(3);
    for number in 0..10 {
        table.submit(&format!("c{number}"), call(&COMPUTE));
    }
    assert_eq!(only(&table.join("n1", slots(10)), "send").len(), 3);
    assert!(ticks(&mut table).iter().all(|count| *count <= 3));
    assert_eq!(table.sent.len(), 10);
}

#[test]
fn nodes_are_looked_at_in_slices() {
    let mut table = sliced(2);
    for name in ["n1", "n2", "n3", "n4", "n5"] {
        table.join(name, slots(1));
    }
    table.silent = vec!["n5"];
    assert_eq!(table.pass(Duration::from_millis(3300)), ["n5 suspect"]);
    let lines = table.pass(SECOND * 3);
    assert!(lines[0].starts_with("cut off n5"), "{lines:?}");
}

#[test]
fn a_shutdown_ends_calls_in_slices() {
    let mut table = sliced(3);
    for number in 0..10 {
        table.submit(&format!("c{number}"), call(&COMPUTE));
    }
    let mut more = true;
    let mut ended = 0;
    while more {
        let lines = table.apply(|core, _, effects| more = core.on_shutdown(effects));
        assert!(lines.len() <= 3);
        ended += lines.len();
    }
    assert_eq!(ended, 10);
    assert_eq!(table.submit("late", call(&COMPUTE)).len(), 1);
}

#[test]
fn many_nodes_are_disconnected_without_recursion() {
    // One level of recursion for each node would not fit on this stack: an event that deferred work causes does no
    // deferred work itself.
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let test = small.spawn(|| {
        let names: Vec<&'static str> = (0..400).map(|at| &*format!("n{at}").leak()).collect();
        let nodes: Vec<(&'static str, u32)> = names.iter().map(|name| (*name, 1)).collect();
        let mut table = Table::new().joined(&nodes);
        for name in &names {
            table.nodes[*name].1.violation.set(Some("it does not read"));
        }
        let lines = table.pass(Duration::from_millis(600));
        assert_eq!(only(&lines, "cut off").len(), 400);
    });
    test.expect("a thread").join().expect("the stack is large enough");
}

/// Whether the view of this label is whole.
fn is_whole(table: &Table, key: &str, value: &str) -> bool {
    table.core.has_view(COMPUTE.info().id(), &Some([(key.to_owned(), value.to_owned())].into()))
}

#[test]
fn a_view_of_labels_fills_some_nodes_at_a_time_while_others_come_and_go() {
    let mut table = sliced(2);
    for number in 0..12 {
        let zone = if number % 2 == 0 { "east" } else { "west" };
        table.join(&format!("n{number}"), slots(1).label("zone", zone));
    }
    table.pass(Duration::ZERO);
    let labels = Some([("zone".to_owned(), "east".to_owned())].into());
    let capacity = |table: &mut Table| {
        let mut nodes = 0;
        table.apply(|core, _, _| nodes = core.capacity(COMPUTE.info().id(), &labels).nodes);
        nodes
    };
    assert_eq!(capacity(&mut table), 2, "the nodes that the view has so far");
    assert!(!is_whole(&table, "zone", "east"));
    // A node that the view has, one that it does not have yet, and one that joins after all of them.
    table.dies("n0");
    table.dies("n10");
    table.join("late", slots(1).label("zone", "east"));
    ticks(&mut table);
    assert!(is_whole(&table, "zone", "east"), "it is filled although nobody asks for it");
    assert_eq!(capacity(&mut table), 5);
    let sent: Vec<String> =
        (0..5).flat_map(|number| table.submit(&format!("c{number}"), call(&COMPUTE).label("zone", "east"))).collect();
    assert_eq!(only(&sent, "send").len(), 5);
    assert!(sent.iter().any(|line| line.ends_with("to late")), "{sent:?}");
    assert_eq!(table.submit("waits", call(&COMPUTE).label("zone", "east")), NOTHING, "no node gets two calls");
}

/// Nine nodes of one slot with one label, of which the first two are busy, and no call may wait.
fn nine_with_two_busy() -> Table {
    let mut table = Table::with(|settings| (settings.slice, settings.max_queued_calls) = (2, 0));
    for number in 0..9 {
        table.join(&format!("n{number}"), slots(1).label("os", "linux"));
    }
    table.pass(Duration::ZERO);
    table.submit("x", call(&COMPUTE).on("n0"));
    table.submit("y", call(&COMPUTE).on("n1"));
    table
}

#[test]
fn a_call_for_labels_waits_where_a_node_for_it_may_be_found_soon() {
    let mut table = nine_with_two_busy();
    let labelled = call(&COMPUTE).label("os", "linux");
    assert_eq!(table.submit("a", labelled.clone()), NOTHING, "it is not refused: two of nine nodes are known");
    assert_eq!(table.submit("b", labelled.clone()), ["send a#1 to n2", "send b#1 to n3"], "the older one goes first");
    assert_eq!(table.submit("plain", call(&COMPUTE)).len(), 1, "this needs no view");
    let known = table.submit("c", labelled.clone());
    assert!(!is_whole(&table, "os", "linux"));
    assert_eq!(table.submit("given up", labelled.clone()).len() + known.len(), 2, "each fills it a little more");
    ticks(&mut table);
    assert!(is_whole(&table, "os", "linux"));
    assert_eq!(only(&table.submit("d", labelled.clone()), "send").len(), 1);
    assert_eq!(only(&table.submit("e", labelled.clone()), "send").len(), 1);
    assert!(table.submit("f", labelled)[0].starts_with("end f: overloaded"), "all nine are busy, and that is known");
}

#[test]
fn calls_that_wait_while_their_view_is_filled_go_in_the_order_they_were_made() {
    let mut table = nine_with_two_busy();
    let labelled = call(&COMPUTE).label("os", "linux");
    for name in ["n2", "n3", "n4", "n5"] {
        table.submit(name, call(&COMPUTE).on(name));
    }
    for name in ["a", "b", "c"] {
        assert_eq!(table.submit(name, labelled.clone()), NOTHING);
    }
    let given_up = table.calls["b"].0;
    table.apply(|core, now, effects| core.on_call_cancelled(now, given_up, effects));
    let mut lines = Vec::new();
    while table.core.next_tick() <= table.now {
        lines.extend(table.tick());
    }
    assert_eq!(lines.iter().map(|line| &line[..8]).collect::<Vec<_>>(), ["send a#1", "send c#1"]);
}

#[test]
fn views_of_several_labels_are_filled_in_turn() {
    let mut table = sliced(2);
    for number in 0..40 {
        let node = (0..8).fold(slots(1), |node, label| node.label(&format!("l{label}"), "yes"));
        table.join(&format!("n{number}"), node);
    }
    table.pass(Duration::ZERO);
    // A new view is begun before the last one is whole.
    for label in 0..8 {
        table.submit(&format!("c{label}"), call(&COMPUTE).label(&format!("l{label}"), "yes"));
        for _ in 0..3 {
            table.tick();
        }
    }
    let needed = ticks(&mut table).len();
    assert!(needed < 8 * 21, "{needed} ticks");
    assert!((0..8).all(|label| is_whole(&table, &format!("l{label}"), "yes")));
    assert_eq!(table.sent.len(), 8);
}

#[test]
fn a_key_has_its_node_among_those_with_the_labels_once_all_are_known() {
    let mut table = sliced(2);
    for number in 0..9 {
        table.join(&format!("n{number}"), slots(4).label("os", "linux"));
    }
    table.pass(Duration::ZERO);
    let labelled = call(&COMPUTE).label("os", "linux").affinity(5);
    assert_eq!(only(&table.submit("first", labelled.clone()), "send").len(), 1, "to one of the nodes that are known");
    ticks(&mut table);
    // All nodes have the label, so the key has the same node as without labels.
    let sent = table.submit("plain", call(&COMPUTE).affinity(5));
    assert_eq!(table.submit("second", labelled), [sent[0].replace("plain", "second")]);
}

#[test]
fn calls_for_labels_that_no_single_node_has_end_once_that_is_known() {
    let mut table = Table::with(|settings| (settings.slice, settings.no_node_timeout) = (2, Duration::ZERO));
    for number in 0..8 {
        let node = slots(1).label("gpu", if number % 2 == 0 { "yes" } else { "no" });
        table.join(&format!("n{number}"), node.label("zone", if number % 2 == 0 { "east" } else { "west" }));
    }
    table.pass(Duration::ZERO);
    let labels = [("gpu".to_owned(), "yes".to_owned()), ("zone".to_owned(), "west".to_owned())];
    let submission = call(&COMPUTE).with(|demand| demand.labels = Some(labels.into()));
    assert_eq!(table.submit("c", submission.clone()), NOTHING);
    let ended = table.pass(Duration::ZERO);
    assert!(ended[0].starts_with("end c: no node: none of the 8 nodes that serve it has the label"), "{ended:?}");
    assert_eq!(table.submit("d", submission).len(), 1, "from then on, such calls end at once");
}

#[test]
fn a_node_that_leaves_while_its_view_is_filled_is_in_none() {
    let mut table = Table::with(|settings| (settings.slice, settings.max_queued_calls) = (2, 0));
    for name in ["n0", "n1", "n2"] {
        table.join(name, slots(1).label("os", "linux"));
    }
    table.pass(Duration::ZERO);
    table.submit("x", call(&COMPUTE).on("n0"));
    table.submit("y", call(&COMPUTE).on("n1"));
    let labelled = call(&COMPUTE).label("os", "linux");
    assert_eq!(table.submit("a", labelled.clone()), NOTHING, "the third is not known yet");
    assert_eq!(table.dies("n2"), ["n2 gone with 0"]);
    table.pass(Duration::ZERO);
    assert!(is_whole(&table, "os", "linux") && table.sent.len() == 2);
    assert_eq!(table.answer("y"), ["end y: value from n1", "send a#1 to n1"]);
    assert_eq!(table.submit("b", labelled), ["end b: overloaded: 0 of 0 calls"]);
}

#[test]
fn a_view_is_filled_while_a_node_leaves_that_many_calls_wait_for() {
    let mut table = sliced(2);
    table.join("far", slots(1));
    for number in 0..9 {
        table.join(&format!("n{number}"), slots(1).label("os", "linux"));
    }
    table.pass(Duration::ZERO);
    for name in ["far", "n0", "n1"] {
        table.submit(name, call(&COMPUTE).on(name));
    }
    for number in 0..200 {
        table.submit(&format!("on{number}"), call(&COMPUTE).on("far"));
    }
    table.dies("far");
    assert_eq!(table.submit("a", call(&COMPUTE).label("os", "linux")), NOTHING);
    for _ in 0..15 {
        table.tick();
    }
    assert!(is_whole(&table, "os", "linux") && table.sent.contains_key("a"));
    assert!(ticks(&mut table).len() > 50, "the other work got its turns, and was not all done before");
}

#[test]
fn the_queue_limit_holds_again_once_a_view_is_whole() {
    let mut table = Table::with(|settings| (settings.slice, settings.max_queued_calls) = (2, 0));
    for name in ["n0", "n1", "n2"] {
        table.join(name, slots(1).label("os", "linux"));
    }
    table.pass(Duration::ZERO);
    for name in ["n0", "n1", "n2"] {
        table.submit(name, call(&COMPUTE).on(name));
    }
    let labelled = call(&COMPUTE).label("os", "linux");
    assert_eq!(table.submit("a", labelled.clone()), NOTHING);
    assert_eq!(
        table.submit("b", labelled.clone()),
        ["end b: overloaded: 1 of 0 calls"],
        "it has filled the view itself"
    );
    assert!(table.submit("c", labelled.on("n2"))[0].starts_with("end c: overloaded"), "it waits for no view");
}

#[test]
fn a_view_that_nobody_uses_makes_room_for_another() {
    let mut table = sliced(2);
    for number in 0..80 {
        table.join(&format!("n{number}"), slots(1).label("rack", &format!("{}", number % 70)));
    }
    table.pass(Duration::ZERO);
    let rack = |number: usize| Some([("rack".to_owned(), format!("{number}"))].into());
    let mut counted = |rack: &crate::service::options::Labels, again: usize| {
        let mut nodes = 0;
        for _ in 0..again {
            // Only the last one is followed by a check, which takes long.
            nodes = table.core.capacity(COMPUTE.info().id(), rack).nodes;
        }
        table.apply(|core, _, _| nodes = core.capacity(COMPUTE.info().id(), rack).nodes.min(nodes));
        nodes
    };
    for number in 0..70 {
        assert_eq!(counted(&rack(number), 3), if number < 10 { 2 } else { 1 });
    }
    // The first views are not used any more: each new one takes the place of one of them.
    for round in 0..20 {
        for number in 60..70 {
            assert_eq!(counted(&rack(number), 600), 1, "in round {round}");
        }
    }
    assert_eq!(counted(&rack(3), 10), 2);
    ticks(&mut table);
    let whole = (0..70).filter(|number| is_whole(&table, "rack", &format!("{number}"))).count();
    assert_eq!(whole, 64);
    assert!((64..70).all(|number| is_whole(&table, "rack", &format!("{number}"))), "the views that are used are kept");
}

#[test]
fn all_queues_that_avoid_nodes_get_their_turn_while_nodes_leave_in_a_row() {
    let mut table = sliced(2);
    for number in 0..10 {
        table.join(&format!("n{number}"), slots(1));
        table.submit(&format!("busy{number}"), call(&COMPUTE));
    }
    for number in 0..40 {
        table.join(&format!("e{number}"), slots(1));
        table.submit(&format!("short{number}"), call(&COMPUTE));
    }
    // Each call avoids a different node, and so waits in a queue of its own.
    for number in 0..10 {
        let name = format!("n{number}");
        let addr = SocketAddr::from(([10, 0, 0, 1], 1));
        let node = NodeIdentity { id: table.node(&name), name: name.into(), addr };
        let failed_attempts = vec![FailedAttempt { attempt: 1, node, source: None, cause: Cause::Refused("is busy") }];
        table.submit(&format!("c{number}"), Submission { failed_attempts, ..call(&COMPUTE) });
    }
    ticks(&mut table);
    let last = *table.core.queues.avoiding.last().expect("they wait");
    assert_eq!(table.core.queues.avoiding.len(), 10);
    let mut furthest = QueueId::FIRST;
    for number in 0..40 {
        table.drain(&format!("e{number}"));
        furthest = furthest.max(table.core.deferred.place_from.unwrap_or(last));
    }
    assert!(furthest >= last, "it came as far as {furthest:?} of {last:?}");
    ticks(&mut table);
}
