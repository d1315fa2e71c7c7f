//! Profiles of a node in another process: which code it runs, and what its handlers are doing.

use std::{path::Path, time::Duration};

use distribution::{
    CallId, Master, NodeEvent,
    administration::{HandlerStack, Profile, ThreadState},
    error::AdminError,
};
use distribution_tests::{Held, ProbeClient, event, meeting::Meeting, process::Process, soon};

/// Long enough for some samples on a busy machine.
const LENGTH: Duration = Duration::from_millis(1_500);

async fn start() -> (Master, ProbeClient, Process) {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node =
        Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["node", &master.local_addr().to_string(), "n1", "4"]);
    let probe = ProbeClient::new(&master);
    soon("the node", master.wait_for_service::<ProbeClient>(1)).await;
    (master, probe, node)
}

fn handler_of(profile: &Profile, call: impl Into<Option<CallId>>) -> &HandlerStack {
    let call = call.into().expect("is sent");
    profile.handlers.iter().find(|handler| handler.call == call).unwrap_or_else(|| panic!("no {call}: {profile:#?}"))
}

fn has(frames: &[String], name: &str) -> bool {
    frames.iter().any(|frame| frame.contains(name))
}

#[tokio::test]
async fn a_profile_shows_the_code_that_runs_and_the_stack_of_each_handler() {
    let (master, probe, _node) = start().await;
    let mut meeting = Meeting::new().await;
    let spinning = probe.spin().send();
    let waiting = probe.ignore(meeting.addr()).send();
    let blocking = probe.block(meeting.addr(), "async".to_owned()).send();
    let guests = [meeting.next().await, meeting.next().await];

    let profile = soon("the profile", master.profile(&master.nodes()[0], LENGTH)).await.expect("is taken");
    assert_eq!((profile.node, &*profile.name), (master.nodes()[0].id, "n1"));
    assert!(profile.length >= LENGTH, "{:?}", profile.length);
    assert_eq!(profile.samples, profile.stacks.iter().map(|stack| stack.samples).sum::<u64>() + profile.left_out);
    let spun = profile.stacks.iter().filter(|stack| has(&stack.frames, "multiply_until_cancelled"));
    let spun: u64 = spun.map(|stack| stack.samples).sum();
    assert!(spun + profile.missed >= u64::from(profile.frequency) / 3, "{profile:#?}");
    assert!(2 * spun > profile.samples && spun > 5, "{spun} samples of {}: {}", profile.samples, profile.folded());
    assert!(profile.folded().contains("multiply_until_cancelled"));

    let spins = handler_of(&profile, spinning.id());
    assert_eq!((spins.state, &*spins.method, spins.attempt), (ThreadState::Running, "Probe.spin", 1), "{spins:#?}");
    assert!(has(&spins.frames, "multiply_until_cancelled"), "{spins:#?}");
    assert!(spins.cpu.is_some_and(|cpu| cpu > 0.0) && spins.running >= LENGTH, "{spins:#?}");
    for (call, method, function) in
        [(waiting.id(), "Probe.ignore", "meeting::ignore"), (blocking.id(), "Probe.block", "meeting::hold")]
    {
        let waits = handler_of(&profile, call);
        assert_eq!((waits.state, &*waits.method), (ThreadState::Sleeping, method), "{waits:#?}");
        assert!(has(&waits.frames, function), "{waits:#?}");
        assert!(!has(&waits.frames, "perf_signal_handler"), "the profiler's own are left out: {waits:#?}");
    }
    // The calls did not notice.
    for guest in guests {
        guest.release().await;
    }
    assert_eq!(soon("the call", waiting).await, Ok(()));
    assert_eq!(soon("the call", blocking).await, Ok(Held::Released));
    drop(spinning);
}

#[tokio::test]
async fn what_cannot_be_profiled_says_why() {
    let (master, _probe, mut node) = start().await;
    let id = master.nodes()[0].id;
    let why = |taken: Result<Profile, AdminError>| match taken {
        Err(AdminError::NotProfiled { node, reason, .. }) if node.id == id => reason,
        other => panic!("{other:?}"),
    };
    for length in [Duration::ZERO, Duration::from_secs(61)] {
        assert!(why(master.profile(id, length).await).contains("60 s"));
    }
    let (first, second) = tokio::join!(master.profile(id, LENGTH), master.profile(id, LENGTH));
    assert!(first.is_ok(), "{first:?}");
    assert!(why(second).contains("another profile"));

    // A node that is disconnected meanwhile ends its profile, so that the next one can be taken at once.
    let mut events = master.events();
    let disconnecting = async {
        assert!(master.disconnect(id), "it is registered");
        event(&mut events, "the node is back", |event| matches!(event, NodeEvent::Joined { .. })).await;
    };
    // The request is sent before the goodbye.
    let (broken, ()) = tokio::join!(master.profile(id, Duration::from_secs(60)), disconnecting);
    assert!(broken.is_err(), "{broken:?}");
    let id = master.nodes()[0].id;
    let again = soon("the next one", master.profile(id, Duration::from_millis(100))).await;
    assert!(again.is_ok(), "{again:?}");
    let why = |taken: Result<Profile, AdminError>| match taken {
        Err(AdminError::NotProfiled { node, reason, .. }) if node.id == id => reason,
        other => panic!("{other:?}"),
    };

    // A process that is killed meanwhile.
    let mut events = master.events();
    let taking = master.profile(id, Duration::from_secs(60));
    let killing = async {
        node.kill().await;
        event(&mut events, "the node is gone", |event| matches!(event, NodeEvent::Gone { .. })).await;
    };
    let (taken, ()) = soon("the end", async { tokio::join!(taking, killing) }).await;
    assert!(why(taken).contains("lost"));
    let taken = master.profile(id, LENGTH).await;
    assert!(matches!(taken, Err(AdminError::UnknownNode { node, .. }) if node == id), "{taken:?}");
}
