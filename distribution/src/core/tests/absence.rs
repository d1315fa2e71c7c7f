//! Nodes whose connection breaks, and who may come back.

use super::*;
use crate::{
    core::{NodeConnection, Resumption},
    security::{PrincipalKind, Source},
    wire::handshake::{SessionDigest, SessionId},
};

fn session(number: u128) -> SessionDigest {
    SessionId::new(number).digest()
}

impl Table {
    /// Joins a node of the process 5 that has the session 1.
    fn join_with_session(&mut self, name: &str, node: Node) {
        self.join(name, node.instance(5));
        let id = self.node(name);
        self.core.on_session_begun(id, session(1));
    }

    fn loses(&mut self, connection: NodeConnection, reason: GoneReason) -> Vec<String> {
        self.apply(|core, now, effects| core.on_connection_lost(now, connection, reason, effects))
    }

    /// The first connection of a node breaks.
    fn breaks(&mut self, name: &str) -> Vec<String> {
        self.loses(NodeConnection::first(self.node(name)), GoneReason::Disconnected)
    }

    /// Whether a process with this registration and principal, at this host, may go on with this session.
    fn may_resume(&self, number: u128, change: impl FnOnce(&mut Registration), principal: Principal, host: u8) -> bool {
        let mut registration = registration("n1", 5);
        change(&mut registration);
        let source = Source::of(&principal.names, [10, 0, 0, host].into());
        let (profile, method_set) = split_registration(registration, principal);
        let asked = Resumption { session: session(number), profile: &profile, method_set: &method_set, source };
        self.core.session_to_resume(&asked).is_some()
    }

    fn resumes(&mut self, name: &str, named: u128, next: u128) -> (NodeConnection, Vec<String>) {
        let id = self.node(name);
        let link =
            Rc::new(TableLink { name: format!("{name}'"), heard: Cell::new(self.now), violation: Cell::new(None) });
        for name in [name, &link.name] {
            self.nodes.insert(name.to_owned(), (id, Rc::clone(&link)));
        }
        let mut connection = None;
        let lines = self.apply(|core, now, effects| {
            connection = core.on_node_resumed(now, id, ((session(named), session(next)), 0), link, effects);
        });
        (connection.expect("is registered"), lines)
    }
}

#[test]
fn calls_that_were_sent_stay_and_the_others_go_elsewhere() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(2));
    table.submit("sent", call(&COMPUTE));
    table.writes = false;
    table.submit("unsent", call(&COMPUTE));
    table.writes = true;
    table.join("n2", slots(1));
    assert_eq!(table.breaks("n1"), ["n1 disconnected with 2", "send unsent#2 to n2"]);
    assert_eq!(table.submit("later", call(&COMPUTE)), NOTHING, "it gets no new calls");
    let (_, lines) = table.resumes("n1", 1, 2);
    assert_eq!(
        lines,
        ["n1 resumed with 1", "send later#1 to n1'", "ask n1' again for sent#1", "asked n1' again for 1"]
    );
    assert_eq!(table.answer("sent"), ["end sent: value from n1"]);
}

#[test]
fn the_master_waits_for_its_grace_and_no_longer() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(2));
    table.submit("once", call(&COMPUTE));
    table.submit("again", call(&AGAIN));
    table.breaks("n1");
    table.join("n2", slots(2));
    assert_eq!(table.pass(Duration::from_millis(1999)), NOTHING);
    let lines = table.pass(SECOND);
    assert_eq!(lines, ["n1 gone with 2", "end once: lost with n1, attempts 1", "send again#2 to n2"]);
    assert!(!table.may_resume(1, |_| (), Principal::open(), 1), "its session is over");
}

#[test]
fn a_node_without_a_session_or_calls_or_that_misbehaves_is_gone_at_once() {
    let mut table = Table::new();
    table.join("n1", slots(1).instance(5));
    table.submit("a", call(&COMPUTE));
    assert_eq!(table.breaks("n1"), ["n1 gone with 1", "end a: lost with n1, attempts 1"]);
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    assert_eq!(table.breaks("n1"), ["n1 gone with 0"]);
    for reason in [GoneReason::Left, GoneReason::Violation("no".into()), GoneReason::Shutdown, GoneReason::Kicked] {
        let mut table = Table::new();
        table.join_with_session("n1", slots(1));
        table.submit("a", call(&COMPUTE));
        let lines = table.loses(NodeConnection::first(table.node("n1")), reason);
        assert_eq!(lines[0], "n1 gone with 1");
    }
    // It has received none of its calls.
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    table.writes = false;
    table.submit("a", call(&COMPUTE));
    assert_eq!(table.breaks("n1"), ["n1 disconnected with 1", "n1 gone with 0"]);
}

#[test]
fn only_the_same_process_with_the_same_credential_goes_on_with_a_session() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    let is_it = |number: u128, change: fn(&mut Registration)| table.may_resume(number, change, Principal::open(), 1);
    assert!(is_it(1, |_| ()));
    assert!(is_it(1, |registration| registration.busy = 1), "it knows how many of its slots are taken");
    assert!(!is_it(2, |_| ()), "not the id of its session");
    assert!(!is_it(1, |registration| registration.instance = 6));
    assert!(!is_it(1, |registration| registration.name = "n2".to_owned()));
    assert!(!is_it(1, |registration| registration.slots = 2));
    assert!(!is_it(1, |registration| registration.async_limit = 1));
    assert!(!is_it(1, |registration| registration.labels.push(("zone".to_owned(), "eu".to_owned()))));
    assert!(!is_it(1, |registration| registration.methods.truncate(1)));
    let other = Principal { kind: PrincipalKind::Token, ..Principal::open() };
    assert!(!table.may_resume(1, |_| (), other, 1), "another credential");
    assert!(!table.may_resume(1, |_| (), Principal::open(), 2), "another address");
}

#[test]
fn an_id_is_used_once_and_counts_until_the_node_has_the_next_one() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    table.submit("a", call(&COMPUTE));
    table.breaks("n1");
    let may = |table: &Table, number| table.may_resume(number, |_| (), Principal::open(), 1);
    let (connection, _) = table.resumes("n1", 1, 2);
    // The reply may have been lost, so that the node knows the old id only.
    assert!(may(&table, 1) && may(&table, 2));
    let (second, lines) = table.resumes("n1", 1, 3);
    assert_eq!(lines[0], "cut off n1': it registered again, over another connection");
    assert!(may(&table, 1) && !may(&table, 2) && may(&table, 3));
    table.report_stale("n1", 0);
    assert!(!may(&table, 1) && !may(&table, 2) && may(&table, 3));
    assert!(table.core.is_connected(second));
    // The end of earlier connections means nothing any more.
    for old in [NodeConnection::first(table.node("n1")), connection] {
        assert!(!table.core.is_connected(old));
        assert_eq!(table.loses(old, GoneReason::Violation("late".into())), NOTHING);
    }
    assert_eq!(table.answer("a"), ["end a: value from n1"]);
}

#[test]
fn a_call_that_ended_meanwhile_is_stopped_when_the_node_is_back() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(2));
    table.submit("a", call(&COMPUTE));
    table.submit("b", call(&COMPUTE));
    table.cancel("a");
    table.breaks("n1");
    table.cancel("b");
    let (_, lines) = table.resumes("n1", 1, 2);
    assert_eq!(
        lines,
        [
            "n1 resumed with 2",
            "ask n1' again for a#1",
            "cancel a#1 on n1'",
            "ask n1' again for b#1",
            "cancel b#1 on n1'",
            "asked n1' again for 2"
        ]
    );
}

#[test]
fn a_call_that_never_arrived_is_sent_again() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    table.submit("a", call(&COMPUTE));
    table.breaks("n1");
    table.resumes("n1", 1, 2);
    assert_eq!(table.refuse("a", Refusal::NotReceived), ["send a#2 to n1'"]);
    assert_eq!(table.answer("a"), ["end a: value from n1"]);
    assert_eq!(table.answered["a"].0, 1, "it was sent once, as far as anybody knows");
}

#[test]
fn a_node_of_the_same_name_does_not_end_the_session_of_another() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    table.submit("a", call(&COMPUTE));
    table.breaks("n1");
    let id = table.node("n1");
    assert_eq!(table.join("n1", slots(1).instance(6)), ["n1 joined"]);
    assert_eq!(table.core.node_of_process(5), Some(id));
}

#[test]
fn a_node_that_drains_goes_on_draining() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    table.submit("a", call(&COMPUTE));
    table.drain("n1");
    table.breaks("n1");
    let (_, lines) = table.resumes("n1", 1, 2);
    assert_eq!(lines, ["n1 resumed with 1", "ask n1' to drain", "ask n1' again for a#1", "asked n1' again for 1"]);
    assert_eq!(table.answer("a"), ["end a: value from n1", "drained n1'"]);
}

#[test]
fn many_calls_are_asked_for_in_slices() {
    let mut table = Table::with(|settings| settings.slice = 4);
    table.join_with_session("n1", slots(40));
    (0..40).for_each(|number| _ = table.submit(&number.to_string(), call(&COMPUTE)));
    table.breaks("n1");
    let (_, first) = table.resumes("n1", 1, 2);
    assert!(only(&first, "ask").len() < 10, "{first:?}");
    let rest = table.pass(Duration::ZERO);
    assert_eq!(only(&first, "ask ").len() + only(&rest, "ask ").len(), 40);
    assert_eq!(only(&rest, "asked").len(), 1);
    // It breaks again before all is asked.
    let (connection, _) = table.resumes("n1", 2, 3);
    table.loses(connection, GoneReason::Disconnected);
    assert_eq!(only(&table.pass(Duration::ZERO), "ask").len(), 0);
}

#[test]
fn a_node_that_was_asked_to_give_calls_back_is_asked_again_on_its_next_connection() {
    let mut table = Table::new();
    table.join_with_session("n1", slots(1));
    table.expect_run_time(&COMPUTE, Duration::from_millis(1));
    for name in ["a", "b"] {
        assert_eq!(table.submit(name, call(&COMPUTE)), [format!("send {name}#1 to n1")]);
    }
    assert_eq!(table.pass(Duration::from_millis(300)), ["retract from n1"]);
    table.breaks("n1");
    table.resumes("n1", 1, 2);
    let lines = table.pass(SECOND);
    assert_eq!(only(&lines, "retract").len(), 1, "{lines:?}");
}

#[test]
fn a_process_that_was_started_anew_has_lost_the_calls_of_the_old_one_at_once() {
    let mut table = Table::new();
    let of_it = || Principal { kind: PrincipalKind::Token, names: ["n1".to_owned()].into(), ..Principal::open() };
    let join = |table: &mut Table, instance: u128| {
        let link =
            Rc::new(TableLink { name: "n1".to_owned(), heard: Cell::new(table.now), violation: Cell::new(None) });
        let id = table.core.new_node_id();
        table.nodes.insert("n1".to_owned(), (id, Rc::clone(&link)));
        let registration = split_registration(registration("n1", instance), of_it());
        let addr = ([10, 0, 0, 1], 1).into();
        table.apply(|core, now, effects| core.on_node_joined(now, id, registration, addr, link, effects))
    };
    join(&mut table, 5);
    let old = table.node("n1");
    table.core.on_session_begun(old, session(1));
    table.submit("a", call(&COMPUTE));
    table.breaks("n1");
    assert_eq!(join(&mut table, 6), ["n1 joined", "n1 gone with 1", "end a: lost with n1, attempts 1"]);
}
