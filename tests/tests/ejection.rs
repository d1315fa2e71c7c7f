//! Nodes whose calls fail, processes that register again, and turns between callers: each over real connections.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use distribution::{
    CallError, LocalCluster, Master, Node, NodeEvent,
    error::{GoneReason, QueueUnit},
    prelude::*,
};
use distribution_tests::{Held, ProbeClient, ProbeServer, Prober, failure, meeting::Meeting, soon};
use futures::StreamExt;
use futures::future::join_all;

/// A service of which a node can be ill.
#[distribution::service]
trait Ward {
    /// Answers, unless the node is ill.
    #[rpc(idempotent)]
    fn treat(&self, patient: u32) -> u32;

    /// The same as a method that must not be repeated.
    fn operate(&self, patient: u32) -> u32;
}

#[derive(Clone, Default)]
struct Doctor {
    is_ill: Arc<AtomicBool>,
    treated: Arc<AtomicU32>,
}

impl Ward for Doctor {
    fn treat(&self, patient: u32) -> u32 {
        self.operate(patient)
    }

    fn operate(&self, patient: u32) -> u32 {
        assert!(!self.is_ill.load(Ordering::Acquire), "this node is ill");
        // Some work, so that an ill node is idle far more often than one that is well.
        let until = std::time::Instant::now() + std::time::Duration::from_millis(2);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        self.treated.fetch_add(1, Ordering::AcqRel);
        patient
    }
}

async fn ward() -> (Master, Vec<Node>, [Doctor; 2]) {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let doctors = [Doctor::default(), Doctor::default()];
    let mut nodes = Vec::new();
    for (doctor, name) in doctors.iter().zip(["well", "ill"]) {
        let node = Node::builder().serve(WardServer::new(doctor.clone())).slots(1).name(name);
        nodes.push(node.spawn(master.local_addr()).await.expect("registers"));
    }
    (master, nodes, doctors)
}

#[tokio::test]
async fn an_ill_node_does_not_eat_the_work() {
    let (master, _nodes, [_, ill]) = ward().await;
    let mut events = master.events();
    ill.is_ill.store(true, Ordering::Release);
    let ward = WardClient::new(&master);
    let failed = join_all((0..200).map(|patient| ward.operate(patient).send())).await;
    let failed = failed.iter().filter(|result| matches!(result, Err(CallError::Panicked { .. }))).count();
    assert!((1..=40).contains(&failed), "{failed} of 200 calls failed on the ill node");
    // A node that is slow to say that it panics may have had too few of these.
    let calls = async {
        loop {
            join_all((0..20).map(|patient| ward.operate(patient).send())).await;
        }
    };
    let ejected = async {
        loop {
            if let Some(NodeEvent::Ejected { node, .. }) = events.next().await {
                return node;
            }
        }
    };
    let ejected = soon("the node to be ejected", async {
        tokio::select! {
            node = ejected => node,
            () = calls => unreachable!("they go on"),
        }
    });
    assert_eq!(&*ejected.await.name, "ill");
    let share = |name: &str| {
        let nodes = master.nodes();
        nodes.iter().find(|node| &*node.name == name).map(|node| node.share)
    };
    assert_eq!(share("well"), Some(1.0));

    // Once it is well again it gets its share back, by and by.
    ill.is_ill.store(false, Ordering::Release);
    let restored = async {
        loop {
            match events.next().await {
                Some(NodeEvent::Restored { node, .. }) => return node,
                Some(_) => {}
                None => panic!("the master lives"),
            }
        }
    };
    let calls = async {
        loop {
            join_all((0..20).map(|patient| ward.operate(patient).send())).await;
        }
    };
    let node = soon("the node to be restored", async {
        tokio::select! {
            node = restored => node,
            () = calls => unreachable!("they go on"),
        }
    });
    assert_eq!(&*node.await.name, "ill");
    assert_eq!(share("ill"), Some(1.0));
}

#[tokio::test]
async fn an_ill_node_does_not_eat_the_batches_of_a_stream() {
    let (master, _nodes, [_, ill]) = ward().await;
    ill.is_ill.store(true, Ordering::Release);
    let ward = WardClient::new(&master);
    let results: Vec<_> = (0..400).map(|patient| ward.operate(patient)).distribute().collect().await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!(failed <= 100, "{failed} of 400 calls failed on the ill node");
}

#[tokio::test]
async fn where_all_nodes_fail_alike_none_is_ejected() {
    let (master, _nodes, doctors) = ward().await;
    for doctor in &doctors {
        doctor.is_ill.store(true, Ordering::Release);
    }
    let ward = WardClient::new(&master);
    let results = join_all((0..200).map(|patient| ward.operate(patient).send())).await;
    assert!(results.iter().all(Result::is_err));
    // One of the two may be taken for ill as long as the other has not failed; both can never be.
    assert!(master.nodes().iter().any(|node| node.share > 0.0));
}

#[tokio::test]
async fn a_panic_is_tried_elsewhere_where_the_caller_wants_it() {
    let (master, nodes, [_, ill]) = ward().await;
    ill.is_ill.store(true, Ordering::Release);
    let ward = WardClient::new(&master);
    // By itself a panic ends the call, idempotent or not.
    let error = failure(ward.treat(1).on(nodes[1].id()).await);
    assert!(matches!(error, CallError::Panicked { .. }), "{error}");
    let calls = join_all((0..40).map(|patient| ward.treat(patient).retry_panics().send())).await;
    assert_eq!(calls.into_iter().collect::<Result<Vec<_>, _>>(), Ok((0..40).collect()));
    let many = (0..200).map(|patient| ward.treat(patient).retry_panics()).distribute();
    assert_eq!(many.try_collect::<Vec<_>>().await, Ok((0..200).collect()));
    // Where each node panics, the last panic is told.
    let error = failure(ward.treat(1).retry_panics().on(nodes[1].id()).await);
    assert!(matches!(error, CallError::Panicked { .. }), "{error}");
}

#[tokio::test]
async fn targeted_calls_take_their_turn() {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .slots(1)
        .serve(|| ProbeServer::new(Prober))
        .serve(|| WardServer::new(Doctor::default()))
        .start()
        .await
        .expect("starts");
    let node = cluster.nodes()[0].id();
    let (probe, ward) = (ProbeClient::new(&cluster), WardClient::new(&cluster));
    let mut meeting = Meeting::new().await;
    let first = probe.hold(meeting.addr(), "first".to_owned()).send();
    let guest = meeting.guest("first").await;
    // All of these are for the node by name, and were made before.
    let targeted: Vec<_> =
        (0..3).map(|at| probe.hold(meeting.addr(), format!("targeted {at}")).on(node).send()).collect();
    let other = ward.operate(7).send();
    guest.release().await;
    assert_eq!(first.await, Ok(Held::Released));
    // `Probe` was served last, so it is the other service's turn, and not that of a call which names the node.
    assert_eq!(soon("the other service's turn", other).await, Ok(7));
    for at in 0..3 {
        meeting.guest(&format!("targeted {at}")).await.release().await;
    }
    assert!(join_all(targeted).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn calls_of_a_stream_leave_the_queue_to_others() {
    let cluster = LocalCluster::builder()
        .nodes(1)
        .slots(1)
        .master(Master::builder().max_queued_calls(2).max_queued_bytes(1000))
        .serve(|| ProbeServer::new(Prober))
        .start()
        .await
        .expect("starts");
    let probe = ProbeClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let mut many = (0..50).map(|_| probe.length(vec![0; 600])).distribute();
    // They wait now, more of them than the queue takes, in calls and in bytes.
    assert!(futures::poll!(many.next()).is_pending());
    assert!(cluster.master().stats().queued > 2);
    let queued = [probe.add(1, 2).send(), probe.add(3, 4).send()];
    let error = failure(probe.add(5, 6).await);
    assert!(matches!(error, CallError::Overloaded { unit: QueueUnit::Calls, limit: 2, .. }), "{error:?}");
    guest.release().await;
    assert_eq!(running.await, Ok(Held::Released));
    assert_eq!(join_all(queued).await, [Ok(3), Ok(7)]);
    assert_eq!(many.try_collect::<Vec<_>>().await, Ok(vec![600; 50]));
}

#[tokio::test]
async fn a_process_that_registers_again_ends_its_old_registration() {
    use distribution_tests::impostor::Impostor;

    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let add = ("add", "fn(i64, i64) -> i64");
    // The master does not hear that the first connection has ended: it is simply there and silent.
    let _first = Impostor::node_of_process(master.local_addr(), 77, "twice", &[add]).await.expect("is taken in");
    let first = master.nodes()[0].id;
    let call = ProbeClient::new(&master).add(1, 2).send();
    let _second = Impostor::node_of_process(master.local_addr(), 77, "twice", &[add]).await.expect("is taken in");
    let gone = soon("the old registration to end", async {
        loop {
            match events.next().await {
                Some(NodeEvent::Gone { node, reason, .. }) => return (node.id, reason),
                Some(_) => {}
                None => panic!("the master lives"),
            }
        }
    });
    assert_eq!(gone.await, (first, GoneReason::Replaced));
    assert_eq!(master.nodes().len(), 1);
    let error = failure(soon("the call", call).await);
    assert!(matches!(error, CallError::NodeLost { reason: GoneReason::Replaced, .. }), "{error:?}");
}
