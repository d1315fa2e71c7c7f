//! Long work is done some at a time, and nothing is lost in between.

use super::*;

fn sliced(slice: usize) -> Table {
    Table::with(|settings| settings.slice = slice)
}

/// Does what is left, and says how many calls ended or were sent by each tick.
fn ticks(table: &mut Table) -> Vec<usize> {
    let mut counts = Vec::new();
    while table.core.next_tick() <= table.now {
        counts.push(table.tick().len());
        assert!(counts.len() < 1000, "it goes on for ever");
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
    assert_eq!(table.setbacks.len(), 6, "each has ended");
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
    assert_eq!(table.bring(|core, _, effects| core.cancel(last, effects)), NOTHING);
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
    assert_eq!(table.setbacks.len(), 20);
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
    assert_eq!(table.sent.len() + ended, 20, "the others are run: {joined:?}");
}

#[test]
fn where_no_node_comes_all_of_them_expire() {
    let mut table = sliced(4);
    for number in 0..20 {
        table.submit(&format!("c{number}"), call(&COMPUTE));
    }
    table.now += SECOND * 5;
    let counts = ticks(&mut table);
    assert!(counts.iter().all(|count| *count <= 4), "{counts:?}");
    assert_eq!(table.setbacks.len(), 20, "each has ended");
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
        let lines = table.bring(|core, _, effects| more = core.shut_down(effects));
        assert!(lines.len() <= 3);
        ended += lines.len();
    }
    assert_eq!(ended, 10);
    assert_eq!(table.submit("late", call(&COMPUTE)).len(), 1);
}

#[test]
fn nodes_that_are_cut_off_together_are_cut_off_one_after_the_other() {
    // As many levels as nodes would not fit on this stack: an event that a chore brings does no chores itself.
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let test = small.spawn(|| {
        let names: Vec<&'static str> = (0..400).map(|at| &*format!("n{at}").leak()).collect();
        let nodes: Vec<(&'static str, u32)> = names.iter().map(|name| (*name, 1)).collect();
        let mut table = Table::new().joined(&nodes);
        for name in &names {
            table.nodes[*name].1.complaint.set(Some("it does not read"));
        }
        let lines = table.pass(Duration::from_millis(600));
        assert_eq!(only(&lines, "cut off").len(), 400);
    });
    test.expect("a thread").join().expect("the stack is large enough");
}
