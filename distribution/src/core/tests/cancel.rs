//! What happens when an administrator cancels a call, and what a handler does that goes on.

use super::*;
use crate::{
    administration::{CallFilter, CallInfo, CallStatus, StatusFilter},
    error::AdminError,
};

impl Table {
    /// What an administrator is told who cancels a call.
    fn cancel_by_admin(&mut self, name: &str) -> Vec<String> {
        let id = self.calls[name].0;
        self.apply(|core, now, effects| core.on_cancel_requested(now, id, "root", effects).expect("has not ended"))
    }

    fn why_not_cancelled(&mut self, id: CallId) -> AdminError {
        let mut told = None;
        let lines = self.apply(|core, now, effects| told = core.on_cancel_requested(now, id, "root", effects).err());
        assert_eq!(lines, NOTHING);
        told.expect("cannot be cancelled")
    }

    pub(super) fn drop_call(&mut self, name: &str) -> Vec<String> {
        let id = self.calls[name].0;
        self.apply(|core, now, effects| core.on_call_cancelled(now, id, effects))
    }

    pub(super) fn list(&self, filter: &CallFilter) -> Vec<CallInfo> {
        self.core.call_infos(self.now, filter, usize::MAX).calls
    }
}

#[test]
fn a_call_that_waits_ends_as_not_run_and_one_that_runs_as_maybe_run() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("runs", call(&AGAIN));
    table.submit("waits", call(&AGAIN));
    assert_eq!(table.cancel_by_admin("waits"), ["end waits: cancelled by root, it did not run"]);
    assert_eq!(table.cancel_by_admin("runs"), ["end runs: cancelled by root, it may have run", "cancel runs#1 on n1"]);
    assert_eq!(table.core.stats().cancelled, 2);
    assert_eq!(table.reply("runs", Outcome::Stopped, LONG_RUN), NOTHING);
    assert_eq!(table.core.stats().late, 0);
}

#[test]
fn a_call_that_was_lost_before_may_have_run_and_is_not_repeated() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("a", call(&AGAIN));
    table.dies("n1");
    table.join("n2", slots(1));
    assert_eq!(table.cancel_by_admin("a"), ["end a: cancelled by root, it may have run"]);
    assert_eq!(table.pass(BACKED_OFF), NOTHING);
}

#[test]
fn an_attempt_that_is_not_written_yet_is_withdrawn() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.writes = false;
    table.submit("a", call(&COMPUTE));
    assert_eq!(table.cancel_by_admin("a"), ["end a: cancelled by root, it did not run"]);
    assert_eq!(table.list(&CallFilter::default()), []);
}

#[test]
fn what_cannot_be_cancelled_is_told_apart() {
    let mut table = Table::new().joined(&[("n1", 1)]);
    table.submit("runs", call(&COMPUTE));
    table.submit("batch", call(&AGAIN).batch(3));
    let (runs, batch) = (table.calls["runs"].0, table.calls["batch"].0);
    let second = CallId(batch.0 + 1);
    assert_eq!(table.why_not_cancelled(second), AdminError::InBatch { call: second, batch, count: 3 });
    let behind = CallId(batch.0 + 3);
    assert_eq!(table.why_not_cancelled(behind), AdminError::UnknownCall { call: behind });
    assert_eq!(table.cancel_by_admin("batch"), ["end batch: cancelled by root, it did not run"]);
    assert_eq!(table.core.stats().cancelled, 3);

    table.cancel_by_admin("runs");
    match table.why_not_cancelled(runs) {
        AdminError::AlreadyEnded { call, node } => assert_eq!((call, &*node.name), (runs, "n1")),
        error => panic!("{error:?}"),
    }
    table.reply("runs", Outcome::Stopped, LONG_RUN);
    assert_eq!(table.why_not_cancelled(runs), AdminError::UnknownCall { call: runs });
}

#[test]
fn a_handler_that_goes_on_is_listed_and_reported_once_after_ten_seconds() {
    let mut table = Table::new().joined(&[("n1", 4)]);
    for name in ["admin", "dropped", "stops"] {
        table.submit(name, call(&COMPUTE));
    }
    table.submit("late", call(&COMPUTE).timeout(SECOND));
    table.cancel_by_admin("admin");
    table.drop_call("dropped");
    table.drop_call("stops");
    table.pass(SECOND);
    table.reply("stops", Outcome::Stopped, LONG_RUN);
    let stopping = table.list(&CallFilter::default().status(StatusFilter::Stopping));
    let seen: Vec<_> = stopping
        .iter()
        .map(|call| match &call.status {
            CallStatus::Stopping { node, stopping_for } => (table.name(call.id), &*node.name, *stopping_for),
            other => panic!("{other:?}"),
        })
        .collect();
    let nothing = Duration::ZERO;
    assert_eq!(seen, [("admin", "n1", SECOND), ("dropped", "n1", SECOND), ("late", "n1", nothing)]);

    assert_eq!(table.pass(SECOND * 8), NOTHING);
    let first = ["admin goes on on n1 for 10s", "dropped goes on on n1 for 10s"];
    assert_eq!(table.pass(SECOND), first);
    assert_eq!(table.pass(SECOND), ["late goes on on n1 for 10s"]);
    assert_eq!(table.pass(SECOND * 100), NOTHING);
    assert_eq!(table.core.stats().overdue, 3);
    table.answer("admin");
    table.dies("n1");
    assert_eq!(table.list(&CallFilter::default()), []);
}

#[test]
fn a_call_that_an_administrator_cancels_takes_along_what_its_handler_has_made() {
    let mut table = Table::new().joined(&[("n1", 2), ("n2", 1)]);
    table.submit("root", call(&COMPUTE).on("n1"));
    table.submit("child", call(&COMPUTE).on("n2").in_handler_of(table.id("root")));
    table.submit("unrelated", call(&COMPUTE).on("n1"));
    assert_eq!(
        table.cancel_by_admin("root"),
        [
            "end root: cancelled by root, it may have run",
            "cancel root#1 on n1",
            "end child: cancelled, may have run",
            "cancel child#1 on n2",
        ]
    );
    assert_eq!(table.core.unfinished(), 1);
}
