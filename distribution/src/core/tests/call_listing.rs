//! What calls are said to do, and to wait for.

use super::*;
use crate::administration::{CallCursor, CallFilter, CallStatus, StatusFilter, WaitReason};

impl Table {
    /// What a call does, in words.
    fn status(&self, name: &str) -> String {
        let id = self.calls[name].0;
        let all = self.list(&CallFilter::default());
        match all.iter().find(|call| call.id == id).map(|call| &call.status) {
            Some(CallStatus::Waiting { why }) => why.to_string(),
            Some(CallStatus::Running { node, attempt, running_for }) => {
                format!("attempt {attempt} runs on {} for {running_for:?}", node.name)
            }
            other => panic!("{other:?}"),
        }
    }

    fn listed(&self, filter: &CallFilter) -> Vec<&str> {
        self.list(filter).iter().map(|call| self.name(call.id)).collect()
    }
}

#[test]
fn a_call_waits_for_a_node_that_serves_it_and_has_its_label() {
    let mut table = Table::new();
    table.submit("a", call(&COMPUTE));
    assert_eq!(table.status("a"), "no node serves it");
    table.join("n1", slots(1).serves(&[&OTHER]));
    assert_eq!(table.status("a"), "no node serves it");
    table.join("n2", slots(1).label("zone", "west"));
    assert_eq!(table.status("a"), "attempt 1 runs on n2 for 0ns");
    table.submit("east", call(&COMPUTE).label("zone", "east"));
    assert_eq!(table.status("east"), "the only node that serves it does not have the label zone=east");
    table.join("n3", slots(1));
    assert_eq!(table.status("east"), "none of the 2 nodes that serve it has the label zone=east");
}

#[test]
fn a_call_for_any_node_waits_for_what_keeps_each_node_from_it() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("x", call(&COMPUTE));
    table.submit("a", call(&COMPUTE));
    assert_eq!(table.status("a"), "the only node that may run it is busy");
    table.join("n2", slots(1).serves(&[&WAIT, &COMPUTE]));
    table.submit("b", call(&COMPUTE));
    assert_eq!(table.status("b"), "all 2 nodes that may run it are busy");
    table.cordon("n2", true);
    assert_eq!(table.status("b"), "none of the 2 nodes that may run it can take it now (1 is busy, 1 is cordoned)");
    table.cordon("n1", true);
    assert_eq!(table.status("b"), "all 2 nodes that may run it are cordoned");
    table.cordon("n1", false);
    table.silent = vec!["n1"];
    table.pass(SECOND * 4);
    assert_eq!(table.status("b"), "none of the 2 nodes that may run it can take it now (1 is suspect, 1 is cordoned)");
}

#[test]
fn a_call_for_one_node_waits_for_that_node() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.submit("x", call(&COMPUTE).on("n1"));
    table.submit("a", call(&COMPUTE).on("n1"));
    let why = table.status("a");
    assert!(why.starts_with("it is for node n1 (") && why.ends_with(", which is busy"), "{why}");
    table.cordon("n1", true);
    assert!(table.status("a").ends_with(", which is cordoned"));
    table.cordon("n1", false);
    table.silent = vec!["n1"];
    table.pass(SECOND * 4);
    assert!(table.status("a").ends_with(", which has missed heartbeats"));
}

#[test]
fn a_call_that_backs_off_says_after_which_attempt() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&COMPUTE));
    table.refuse("a", Refusal::Busy);
    let why = table.status("a");
    assert!(
        why.starts_with("its attempt 1 failed on node n1 (") && why.ends_with("it is queued again in 0.1 s"),
        "{why}"
    );
    assert_eq!(table.list(&CallFilter::default())[0].failed_attempts, 1);
}

#[test]
fn nodes_that_a_call_avoids_or_that_are_ejected_are_counted_apart() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.submit("x", call(&COMPUTE).on("n2"));
    table.submit("a", call(&COMPUTE));
    table.refuse("a", Refusal::Busy);
    table.submit("y", call(&COMPUTE).on("n1"));
    table.join("n3", slots(4));
    // Its ejection takes 100 ms, and the call backs off for up to 120 ms.
    table.now += BACKED_OFF / 2;
    for at in 0..3 {
        table.submit(&format!("bad{at}"), call(&COMPUTE).on("n3"));
        table.panic(&format!("bad{at}"));
    }
    table.now += BACKED_OFF / 2 + Duration::from_millis(1);
    let id = table.calls["a"].0;
    table.apply(|core, now, effects| core.on_tick(now, effects));
    let Some(found) = table.list(&CallFilter::default()).into_iter().find(|call| call.id == id) else { panic!() };
    match found.status {
        CallStatus::Waiting { why: WaitReason::NoneTakesIt { busy, ejected, avoided, .. } } => {
            assert_eq!((busy, ejected, avoided), (1, 1, 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_listed_by_what_the_filter_wants() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.submit("runs", call(&COMPUTE).on("n1"));
    table.submit("other", call(&OTHER).on("n2"));
    table.now += SECOND;
    table.submit("waits", call(&COMPUTE).on("n1"));
    table.submit("any", call(&AGAIN));
    let all = CallFilter::default;
    assert_eq!(table.listed(&all()), ["runs", "other", "waits", "any"]);
    assert_eq!(table.listed(&all().method("A")), ["runs", "waits", "any"]);
    assert_eq!(table.listed(&all().method("A.compute")), ["runs", "waits"]);
    assert_eq!(table.listed(&all().method("compute")), NOTHING);
    assert_eq!(table.listed(&all().node(table.node("n1"))), ["runs", "waits"]);
    assert_eq!(table.listed(&all().status(StatusFilter::Waiting)), ["waits", "any"]);
    assert_eq!(table.listed(&all().status(StatusFilter::Running)), ["runs", "other"]);
    assert_eq!(table.listed(&all().older_than(SECOND)), ["runs", "other"]);
    assert_eq!(table.listed(&all().older_than(SECOND * 2)), NOTHING);
    assert_eq!(table.listed(&all().after(CallCursor(1))), ["waits", "any"]);
    assert_eq!(table.listed(&all().after(CallCursor(u64::MAX))), NOTHING);
    let info = &table.list(&all())[0];
    assert_eq!((info.method.as_str(), info.size, info.count, info.age), ("A.compute", 10, 1, SECOND));
}

#[test]
fn pages_go_on_where_the_one_before_ended_and_look_at_few_calls() {
    let mut table = Table::with(|settings| settings.slice = 8);
    for at in 0..100 {
        table.submit(&format!("{at}"), call(if at % 10 == 0 { &OTHER } else { &COMPUTE }));
    }
    let (mut filter, mut listed, mut pages) = (CallFilter::default().method("B"), Vec::new(), 0);
    loop {
        let slice = table.core.call_infos(table.now, &filter, 5);
        assert!(slice.looked_at <= 8 * 4 && slice.calls.len() <= 5);
        listed.extend(slice.calls.iter().map(|call| table.name(call.id).to_owned()));
        pages += 1;
        if slice.last.is_none() {
            break;
        }
        filter.after = slice.last;
    }
    assert_eq!(listed, ["0", "10", "20", "30", "40", "50", "60", "70", "80", "90"]);
    assert!(pages > 2, "{pages}");
}

#[test]
fn the_oldest_call_of_all_callers_is_listed_first() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    // A caller's calls have ids of its own, and the first caller here has the highest ones.
    let by = |caller: CallerId, number| {
        call(&AGAIN).with(|demand| {
            demand.caller = caller;
            demand.id = Some(CallId(caller.first_call().0 + number));
        })
    };
    let (high, low) = (CallerId(900), CallerId(30));
    table.submit("stops", by(high, 0));
    table.submit("b", by(low, 0));
    table.submit("c", by(high, 1));
    table.now += SECOND;
    table.submit("d", by(low, 1));
    table.drop_call("stops");
    assert_eq!(table.listed(&CallFilter::default()), ["stops", "b", "c", "d"]);
    assert_eq!(table.listed(&CallFilter::default().older_than(SECOND)), ["stops", "b", "c"]);
    // Where a page ended stays a place in the list, also when that call has ended.
    let page = table.core.call_infos(table.now, &CallFilter::default(), 2);
    table.drop_call("b");
    let rest = table.listed(&CallFilter { after: page.last, ..CallFilter::default() });
    assert_eq!(rest, ["c", "d"]);
}

#[test]
fn the_age_of_a_hedge_is_its_own() {
    let mut table = Table::new().joined(&[("n1", 1), ("n2", 1)]);
    table.submit("a", call(&AGAIN));
    table.now += SECOND;
    table.submit("b", call(&COMPUTE));
    let first = table.calls["a"].0;
    table.submit("hedge", call(&AGAIN).hedge_of(first, SECOND));
    let ages: Vec<_> = table.list(&CallFilter::default()).iter().map(|call| call.age).collect();
    assert_eq!(ages, [SECOND, Duration::ZERO, Duration::ZERO]);
    assert_eq!(table.listed(&CallFilter::default().older_than(SECOND)), ["a"]);
}
