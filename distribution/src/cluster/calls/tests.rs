//! What becomes of calls when connections come and go.

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::{
    config::PeerTimeouts,
    service::{
        method::Method,
        options::{CallOptions, SubmitOptions},
    },
    wire::Payload,
};

static ONCE: Method = Method::new("A", 1, "once", "fn() -> ()", false);
static AGAIN: Method = Method::new("A", 1, "again", "fn() -> ()", true);

fn call(method: &'static Method, count: u32) -> Arc<CallState> {
    let submit_options = SubmitOptions { count, ..SubmitOptions::default() };
    Arc::new(CallState::new(Arc::clone(method.info()), Payload::EMPTY, CallOptions::default(), submit_options))
}

/// Connects, so that calls have ids from `first` on.
fn connect(calls: &mut Calls, first: u64) -> (Arc<ConnectionState>, UnboundedReceiver<Outgoing>) {
    let (sender, outgoing) = unbounded_channel();
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let connection = Connection { calls: sender, state: Arc::clone(&state) };
    let ended = calls.on_connected(connection, "m", (CallId(first), false), 100);
    assert_eq!(ended.len(), 0);
    (state, outgoing)
}

fn submit(calls: &mut Calls, call: &Arc<CallState>) {
    calls.submit("m", Duration::from_secs(30), call).expect("is taken");
}

fn id(sent: &Outgoing) -> CallId {
    match sent {
        Outgoing::Call { id, .. } | Outgoing::AskAgain { id, .. } => *id,
    }
}

fn send(call: &CallState) {
    assert!(call.attempt.begin(ONLY_ATTEMPT) && call.attempt.complete(ONLY_ATTEMPT));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_connections_are_lost_with_is_not_sent_for_ever() {
    let mut calls = Calls::new();
    let (cause, waiting, slow) = (call(&AGAIN, 1), call(&AGAIN, 1), call(&AGAIN, 1));
    for one in [&cause, &waiting, &slow] {
        submit(&mut calls, one);
    }
    for loss in 1..=u64::from(MOST_LOSSES) {
        let (_state, mut outgoing) = connect(&mut calls, 100 * loss);
        for _ in 0..3 {
            outgoing.try_recv().expect("all are sent again");
        }
        send(&cause);
        if loss == 1 {
            send(&slow);
            tokio::time::advance(SOON).await;
        }
        let ended = calls.on_disconnected("m", "lost", None);
        // The first connection lasted long enough.
        assert_eq!(ended.len(), 0, "{loss}");
    }
    connect(&mut calls, 1000);
    send(&cause);
    let ended = calls.on_disconnected("m", "lost", None);
    assert!(
        matches!(&ended[..], [(state, CallError::MasterLost { execution: Execution::MayHaveRun, .. })]
        if Arc::ptr_eq(state, &cause)),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_sent_is_repeated_only_if_it_may_be() {
    let mut calls = Calls::new();
    let (once, again, unsent) = (call(&ONCE, 1), call(&AGAIN, 1), call(&ONCE, 1));
    let (_state, _outgoing) = connect(&mut calls, 1);
    for one in [&once, &again, &unsent] {
        submit(&mut calls, one);
    }
    send(&once);
    send(&again);
    let ended = calls.on_disconnected("m", "lost", None);
    assert!(matches!(&ended[..], [(state, _)] if Arc::ptr_eq(state, &once)), "{ended:?}");
    let (_state, mut outgoing) = connect(&mut calls, 1);
    let sent: Vec<_> = std::iter::from_fn(|| outgoing.try_recv().ok()).map(|sent| id(&sent)).collect();
    assert_eq!(sent, [CallId(1), CallId(2)], "they have new ids");
    assert_eq!([again.id(), unsent.id()], [Some(CallId(1)), Some(CallId(2))]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_large_for_the_new_master_ends() {
    let mut calls = Calls::new();
    let payload = Payload::from(bytes::Bytes::from_static(&[7; 50]));
    let info = Arc::clone(ONCE.info());
    let large = Arc::new(CallState::new(info, payload, CallOptions::default(), SubmitOptions::default()));
    let small = call(&ONCE, 1);
    submit(&mut calls, &large);
    submit(&mut calls, &small);
    let (sender, mut outgoing) = unbounded_channel();
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let ended = calls.on_connected(Connection { calls: sender, state }, "m", (CallId(1), false), 49);
    assert!(
        matches!(&ended[..], [(state, CallError::TooLarge { size: 50, limit: 49, .. })]
        if Arc::ptr_eq(state, &large)),
        "{ended:?}"
    );
    let sent = outgoing.try_recv().expect("is sent");
    assert!(matches!(&sent, Outgoing::Call { state, .. } if Arc::ptr_eq(state, &small)), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_detached_call_is_known_until_it_is_sent() {
    let mut calls = Calls::new();
    let (_state, _outgoing) = connect(&mut calls, 7);
    let detached = call(&ONCE, 1);
    submit(&mut calls, &detached);
    assert!(!calls.has_unsent_detached());
    calls.detach(CallId(7));
    assert!(calls.has_unsent_detached() && detached.is_detached());
    send(&detached);
    assert!(!calls.has_unsent_detached());
}

#[tokio::test(start_paused = true)]
async fn only_calls_of_a_batch_that_were_not_kept_are_given_back() {
    let mut calls = Calls::new();
    let (_state, _outgoing) = connect(&mut calls, 7);
    let (one, batch) = (call(&ONCE, 1), call(&ONCE, 10));
    submit(&mut calls, &one);
    submit(&mut calls, &batch);
    for (id, kept) in [(7, 0), (7, 1), (8, 0), (8, 10), (8, 11)] {
        let error = calls.shorten(CallId(id), kept).expect_err("is wrong");
        assert!(error.contains(&format!("all but {kept} of")), "{error}");
    }
    assert_eq!((calls.shorten(CallId(8), 4), batch.kept()), (Ok(()), Some(4)));
    assert_eq!(calls.shorten(CallId(99), 0), Ok(()), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_masters_die_of_is_not_sent_for_ever() {
    let mut calls = Calls::new();
    let cause = call(&AGAIN, 1);
    submit(&mut calls, &cause);
    for loss in 1..=20u64 {
        let (sender, mut outgoing) = unbounded_channel();
        let state = ConnectionState::new(PeerTimeouts::default(), None);
        let connection = Connection { calls: sender, state: Arc::clone(&state) };
        let ended = calls.on_connected(connection, "m", (CallId(100 * loss), false), 100);
        if !ended.is_empty() {
            assert_eq!(loss, u64::from(MOST_LOSSES) + 1);
            return;
        }
        outgoing.try_recv().expect("is sent again");
        send(&cause);
        assert_eq!(calls.on_disconnected("m", "lost", Some(Duration::from_secs(45))).len(), 0);
        tokio::time::advance(Duration::from_secs(15)).await;
    }
    panic!("20 masters died of it");
}

#[tokio::test(start_paused = true)]
async fn a_number_is_not_used_twice_if_the_master_goes_on_with_what_was_given_up() {
    let mut calls = Calls::new();
    let again = call(&AGAIN, 1);
    let (_state, _outgoing) = connect(&mut calls, 7);
    submit(&mut calls, &again);
    send(&again);
    assert_eq!(calls.on_disconnected("m", "lost", Some(Duration::from_secs(45))).len(), 0);
    assert_eq!(calls.give_up_sent("m").len(), 0);
    let (sender, mut outgoing) = unbounded_channel();
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    calls.on_connected(Connection { calls: sender, state }, "m", (CallId(7), true), 100);
    let sent = outgoing.try_recv().expect("is sent again");
    assert!(matches!(&sent, Outgoing::Call { id: CallId(8), .. }), "{sent:?}");
}
