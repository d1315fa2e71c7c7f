//! What a panic of the core, or of what its effects run, leaves behind.

use std::task::{Context, Poll, Waker};

use super::*;
use crate::{
    core::Demand,
    error::{CallError, Execution},
    id::CallId,
    master::host::HeldCall,
    service::{
        dispatcher::Dispatcher,
        method::Method,
        options::{CallOptions, SubmitOptions},
        state::CallState,
    },
    wire::Payload,
};

static METHOD: Method = Method::new("Test", 1, "method", "fn() -> ()", false);

pub(in crate::master) fn shared() -> Arc<Shared> {
    let settings = Settings {
        heartbeat: Duration::from_secs(1),
        no_node_timeout: Duration::from_secs(5),
        reconnect_grace: Duration::from_secs(2),
        max_queued_calls: 100,
        max_queued_bytes: 100,
        max_queued_calls_per_caller: 100,
        max_queued_bytes_per_caller: 100,
        max_nodes: usize::MAX,
        max_nodes_per_credential: usize::MAX,
        slow_start: u32::MAX,
        slice: 16,
        epoch: 1,
        seed: 1,
        ring_key: [0; 32],
    };
    let policy = RegistrationPolicy { bind_names: false, restricted_labels: Vec::new(), max_slots: 1 };
    Shared::new(
        settings,
        65_536,
        Limits::default(),
        MasterAuthenticator::Open,
        policy,
        Duration::ZERO,
        ([127, 0, 0, 1], 0).into(),
    )
}

fn call() -> Arc<CallState> {
    Arc::new(CallState::new(
        Arc::clone(METHOD.info()),
        Payload::EMPTY,
        CallOptions::default(),
        SubmitOptions::default(),
    ))
}

fn end(call: &CallState) -> Option<CallError> {
    match call.poll_end(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Some(end.expect_err("nobody answers here").error),
        Poll::Pending => None,
    }
}

fn shutdown() -> CallError {
    CallError::Shutdown { call: METHOD.info().name().into(), execution: Execution::MayHaveRun }
}

#[tokio::test]
async fn a_panic_of_the_core_takes_nothing_along_that_was_decided() {
    let shared = shared();
    let (decided, dropped, waiting) = (call(), call(), call());
    shared.submit(Arc::clone(&waiting));
    let taken = HeldCall(Arc::clone(&dropped));
    let result: Option<()> = shared.with_core("a test", |_, _, effects| {
        let error = CallError::NoNode {
            call: METHOD.info().name().into(),
            wanted: "decided".to_owned(),
            waited: Duration::ZERO,
        };
        effects.push(Effect::End {
            call: HeldCall(Arc::clone(&decided)),
            end: Err(error),
            failed_attempts: Vec::new(),
        });
        let _taken = taken;
        panic!("wanted by the test");
    });
    assert!(result.is_none());
    assert!(matches!(end(&decided), Some(CallError::NoNode { .. })), "what was decided is carried out");
    assert_eq!(end(&dropped), Some(shutdown()), "a call that the core lost in its panic ends");
    assert_eq!(end(&waiting), None, "all others go on");
    // And so does the master.
    let another = call();
    shared.submit(Arc::clone(&another));
    assert_eq!(shared.stats().queued, 2);
    shared.cancel(&another);
    shared.cancel(&waiting);
    assert_eq!(shared.stats().queued, 0);
}

#[tokio::test]
async fn a_call_that_a_panic_left_nowhere_ends() {
    let shared = shared();
    let astray = call();
    let _: Option<()> = shared.with_core("a test", |core, now, effects| {
        let demand = Demand::default();
        let id = core.on_call_submitted(now, HeldCall(Arc::clone(&astray)), METHOD.info(), demand, Vec::new(), effects);
        core.strand(id);
        panic!("wanted by the test");
    });
    assert_eq!(end(&astray), Some(shutdown().with_id(Some(CallId::first(1)))));
    assert_eq!(shared.stats().queued, 0);
}

#[tokio::test]
async fn a_waker_that_panics_takes_no_other_effect_along() {
    struct PanickingWaker;
    impl std::task::Wake for PanickingWaker {
        fn wake(self: Arc<Self>) {
            panic!("wanted by the test");
        }
    }
    let shared = shared();
    let (first, second) = (call(), call());
    let panicking = Waker::from(Arc::new(PanickingWaker));
    assert!(first.poll_end(&mut Context::from_waker(&panicking)).is_pending());
    let ended = shared.with_core("a test", |_, _, effects| {
        for call in [&first, &second] {
            let error =
                CallError::NoNode { call: METHOD.info().name().into(), wanted: String::new(), waited: Duration::ZERO };
            effects.push(Effect::End {
                call: HeldCall(Arc::clone(call)),
                end: Err(error),
                failed_attempts: Vec::new(),
            });
        }
    });
    assert_eq!(ended, Some(()));
    assert!(end(&first).is_some() && end(&second).is_some());
}
