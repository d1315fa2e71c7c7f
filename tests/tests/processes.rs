//! Masters and nodes as processes of their own, and the calls on processes that are killed.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use distribution::{CallError, Events, Master, NodeEvent, error::Execution};
use distribution_tests::{Held, ProbeClient, event, failure, meeting::Meeting, process::Process, soon};
use futures::{StreamExt, future::join_all};

fn probe_node(master: &str, name: &str) -> Process {
    Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["node", master, name])
}

async fn cluster(names: &[&str]) -> (Master, ProbeClient, HashMap<String, Process>) {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let addr = master.local_addr().to_string();
    let nodes = names.iter().map(|name| ((*name).to_owned(), probe_node(&addr, name))).collect();
    soon("all nodes to register", master.wait_for_nodes(names.len())).await;
    let probe = ProbeClient::new(&master);
    (master, probe, nodes)
}

/// Waits for the next node to be gone, and returns its name.
async fn next_gone(events: &mut Events) -> String {
    loop {
        if let NodeEvent::Gone { node, .. } = soon("a node to be gone", events.next()).await.expect("the master lives")
        {
            return node.name.to_string();
        }
    }
}

#[tokio::test]
async fn a_node_that_is_killed_fails_only_its_own_calls() {
    let (master, probe, mut nodes) = cluster(&["a", "b", "c", "d"]).await;
    let mut events = master.events();
    let mut meeting = Meeting::new().await;
    let calls: HashMap<_, _> = master
        .nodes()
        .iter()
        .map(|node| (node.name.to_string(), probe.hold(meeting.addr(), node.name.to_string()).on(node.id).send()))
        .collect();
    let mut guests = HashMap::new();
    for name in nodes.keys() {
        guests.insert(name.clone(), meeting.guest(name).await);
    }
    let killed = Instant::now();
    for name in ["a", "b"] {
        nodes.get_mut(name).expect("started").kill().await;
    }
    for _ in 0..2 {
        event(&mut events, "a break", |event| matches!(event, NodeEvent::Disconnected { .. })).await;
    }
    let noticed = killed.elapsed();
    // Their processes might live, for all that the master knows.
    let mut gone = [next_gone(&mut events).await, next_gone(&mut events).await];
    let given_up = killed.elapsed();
    gone.sort();
    assert_eq!(gone, ["a", "b"]);
    assert_eq!(master.nodes().len(), 2);
    assert!(noticed < Duration::from_secs(1), "noticed after {noticed:?}");
    // The default of `reconnect_grace` is 2 s.
    assert!(given_up < Duration::from_secs(3), "gone after {given_up:?}");
    for name in ["c", "d"] {
        guests.remove(name).expect("came").release().await;
    }
    for (name, call) in calls {
        let result = soon("each call to end", call).await;
        if ["a", "b"].contains(&name.as_str()) {
            let error = failure(result);
            let CallError::NodeLost { node, attempts: 1, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*node.name, *name);
            assert!(error.to_string().contains(&format!("node {name} (")), "{error}");
            assert_eq!(error.execution(), Execution::MayHaveRun);
        } else {
            assert_eq!(result, Ok(Held::Released));
        }
    }
    // New ones register and take calls.
    let addr = master.local_addr().to_string();
    let _new = [probe_node(&addr, "e"), probe_node(&addr, "f")];
    soon("new nodes to register", master.wait_for_nodes(4)).await;
    for node in master.nodes() {
        assert_eq!(probe.add(1, 1).on(node.id).await, Ok(2), "{}", node.name);
    }
}

#[tokio::test]
async fn an_idempotent_call_goes_to_another_node() {
    let (_master, probe, mut nodes) = cluster(&["a", "b"]).await;
    let mut meeting = Meeting::new().await;
    let call = tokio::spawn(probe.hold_again(meeting.addr(), "again".to_owned()).answer());
    let first = meeting.guest("again").await;
    // Finds the node that has the call.
    let on = soon("the node with the call", async {
        loop {
            if let Some(node) = _master.nodes().into_iter().find(|node| node.in_flight == 1) {
                return node.name.to_string();
            }
        }
    })
    .await;
    nodes.get_mut(&on).expect("started").kill().await;
    first.gone().await;
    meeting.guest("again").await.release().await;
    let answer = soon("the call to end", call).await.expect("runs").expect("is answered");
    assert_eq!((answer.value, answer.attempts), (Held::Released, 2));
    assert_ne!(*answer.node.name, *on);
}

#[tokio::test]
async fn a_call_that_three_nodes_died_of_is_poisoned() {
    let (master, probe, mut nodes) = cluster(&["a", "b", "c", "d"]).await;
    let mut meeting = Meeting::new().await;
    let call = probe.hold_again(meeting.addr(), "poison".to_owned()).send();
    for _ in 0..3 {
        let guest = meeting.guest("poison").await;
        let on = master.nodes().into_iter().find(|node| node.in_flight == 1).expect("it is on one");
        nodes.get_mut(&*on.name).expect("started").kill().await;
        guest.gone().await;
    }
    let error = failure(soon("the call to end", call).await);
    let CallError::Poisoned { nodes: died, .. } = &error else { panic!("{error:?}") };
    assert_eq!(died.len(), 3);
    assert_eq!(master.nodes().len(), 1);
    assert_eq!(probe.add(1, 1).await, Ok(2));
}

#[tokio::test]
async fn nodes_wait_for_a_master_and_come_back_to_one_that_was_killed() {
    // A port that is free now, and that the master uses later.
    let addr = {
        let master = Master::bind("127.0.0.1:0").await.expect("binds");
        let addr = master.local_addr().to_string();
        master.shutdown().await;
        addr
    };
    let mut nodes = [probe_node(&addr, "a"), probe_node(&addr, "b")];
    for node in &mut nodes {
        let line = node.log_with("cannot register yet").await;
        assert!(line.contains("Connection refused"), "{line}");
    }
    for round in 0..2 {
        let started = Instant::now();
        let mut master = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["master", &addr]);
        for _ in 0..2 {
            master.line_with("registered").await;
        }
        let took = started.elapsed();
        assert!(took < Duration::from_secs(11), "round {round} took {took:?}");
        master.kill().await;
    }
}

#[tokio::test]
async fn a_frozen_node_is_suspect_then_gone_and_comes_back_by_itself() {
    let heartbeat = Duration::from_millis(100);
    let master = Master::builder().heartbeat(heartbeat).bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let node = probe_node(&master.local_addr().to_string(), "frozen");
    soon("the node", master.wait_for_nodes(1)).await;
    let probe = ProbeClient::new(&master);
    let mut meeting = Meeting::new().await;
    let call = probe.hold(meeting.addr(), "frozen".to_owned()).send();
    let _guest = meeting.guest("frozen").await;
    node.signal("STOP").await;
    let frozen = Instant::now();
    let mut told = Vec::new();
    loop {
        match soon("news of the node", events.next()).await.expect("the master lives") {
            NodeEvent::Joined { .. } => {}
            NodeEvent::Gone { reason, .. } => {
                told.push("gone");
                assert!(reason.to_string().contains("was silent for"), "{reason}");
                break;
            }
            NodeEvent::Suspect { silent_for, .. } => {
                assert!(silent_for >= heartbeat * 3);
                told.push("suspect");
            }
            // On a busy machine it may have been late before it was frozen.
            NodeEvent::Recovered { .. } => told.clear(),
            event => panic!("{event}"),
        }
    }
    assert_eq!(told, ["suspect", "gone"]);
    assert!(frozen.elapsed() >= heartbeat * 5, "{:?}", frozen.elapsed());
    let error = failure(soon("the call to end", call).await);
    assert!(matches!(error, CallError::NodeLost { .. }), "{error}");
    node.signal("CONT").await;
    soon("the node to come back", master.wait_for_nodes(1)).await;
    assert_eq!(probe.add(1, 1).await, Ok(2));
}

#[tokio::test]
async fn sigterm_drains_a_node_and_a_second_ends_it_at_once() {
    let (master, probe, mut nodes) = cluster(&["a"]).await;
    let mut events = master.events();
    let mut meeting = Meeting::new().await;
    let call = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let node = nodes.get_mut("a").expect("started");
    node.signal("TERM").await;
    node.log_with("draining").await;
    guest.release().await;
    assert_eq!(soon("the call to end", call).await, Ok(Held::Released));
    assert_eq!(node.line().await.as_deref(), Some("ended in order"));
    assert!(node.ended().await.success());
    assert_eq!(next_gone(&mut events).await, "a");

    let mut node = probe_node(&master.local_addr().to_string(), "b");
    soon("the node", master.wait_for_nodes(1)).await;
    let call = probe.hold(meeting.addr(), "abandoned".to_owned()).send();
    let _guest = meeting.guest("abandoned").await;
    node.signal("TERM").await;
    node.log_with("draining").await;
    node.signal("TERM").await;
    node.log_with("ending at once").await;
    assert_eq!(next_gone(&mut events).await, "b");
    let error = failure(soon("the call to end", call).await);
    assert!(matches!(error, CallError::NodeLost { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_calls_are_all_answered_right() {
    const TASKS: i64 = 256;
    const CALLS: i64 = 100_000;
    let (master, probe, _nodes) = cluster(&["a", "b", "c"]).await;
    let tasks = (0..TASKS).map(|task| {
        let probe = probe.clone();
        tokio::spawn(async move {
            let mine = (task..CALLS).step_by(TASKS as usize);
            let mut count = 0;
            for number in mine {
                let sum = if number % 2 == 0 { probe.add(number, 1).await } else { probe.add_async(number, 1).await };
                assert_eq!(sum, Ok(number + 1));
                count += 1;
            }
            count
        })
    });
    let answered: i64 =
        soon("all calls", join_all(tasks)).await.into_iter().map(|count| count.expect("no panic")).sum();
    assert_eq!(answered, CALLS);
    let stats = master.stats();
    assert_eq!((stats.answered, stats.failed, stats.in_flight, stats.queued), (CALLS as u64, 0, 0, 0));
    let nodes = master.nodes();
    assert!(nodes.iter().all(|node| node.in_flight == 0 && node.answered > 0), "{nodes:?}");
    assert_eq!(nodes.iter().map(|node| node.answered).sum::<u64>(), CALLS as u64);
}
