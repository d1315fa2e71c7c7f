//! Runtimes, futures, masters, nodes and connections that end: each call still ends, and each slot is still counted.

use std::{net::SocketAddr, path::Path, time::Duration};

use distribution::{CallError, Error, LocalCluster, Master, Node, NodeBuilder, NodeEvent, NodeState, error::Execution};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober, failure,
    impostor::{Impostor, kind},
    log::Log,
    meeting::{self, Meeting},
    process::Process,
    soon,
};
use futures::StreamExt;
use tokio::{net::TcpListener, runtime::Runtime};

/// Handlers that do not end when they should.
#[distribution::service]
trait Awkward {
    /// Meets the test twice, on two threads of rayon's pool.
    fn spread(&self, at: SocketAddr, left: String, right: String) -> ();
    /// Keeps its slot until the test lets it go, cancelled or not.
    fn stubborn(&self, at: SocketAddr, tag: String) -> ();
    /// Panics when it is dropped.
    async fn sore(&self, at: SocketAddr, tag: String) -> ();
    /// Adds.
    fn add(&self, a: i64, b: i64) -> i64;
    /// Adds, without a slot.
    async fn add_async(&self, a: i64, b: i64) -> i64;
}

struct Clumsy;

impl Awkward for Clumsy {
    fn spread(&self, at: SocketAddr, left: String, right: String) {
        rayon::join(|| meeting::hold(at, &left), || meeting::hold(at, &right));
    }

    fn stubborn(&self, at: SocketAddr, tag: String) {
        // On another thread, which does not see that the call is cancelled.
        let _ = std::thread::spawn(move || meeting::hold(at, &tag)).join();
    }

    async fn sore(&self, at: SocketAddr, tag: String) {
        struct Sore;
        impl Drop for Sore {
            fn drop(&mut self) {
                panic!("ouch");
            }
        }
        let _sore = Sore;
        meeting::wait(at, &tag).await;
        std::future::pending().await
    }

    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    async fn add_async(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

#[tokio::test]
async fn a_handler_that_waits_for_its_parts_runs_no_other_call_meanwhile() {
    let cluster =
        LocalCluster::builder().nodes(1).slots(2).serve(|| AwkwardServer::new(Clumsy)).start().await.expect("starts");
    let awkward = AwkwardClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let spread = awkward.spread(meeting.addr(), "left".to_owned(), "right".to_owned()).send();
    let (left, right) = (meeting.guest("left").await, meeting.guest("right").await);
    // One of the pool's two threads now waits for the other, and one slot is free.
    left.release().await;
    let other = awkward.stubborn(meeting.addr(), "other".to_owned()).send();
    assert_eq!(awkward.add_async(1, 1).await, Ok(2), "the node has the call before this one");
    right.release().await;
    // If the waiting thread ran the other call, that would have to end first.
    assert_eq!(soon("the handler in two parts", spread).await, Ok(()));
    meeting.guest("other").await.release().await;
    assert_eq!(soon("the other", other).await, Ok(()));
}

#[tokio::test]
async fn a_handler_that_panics_when_it_is_dropped_frees_its_place() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = Node::builder().serve(AwkwardServer::new(Clumsy)).async_limit(1);
    let _node = node.spawn(master.local_addr()).await.expect("registers");
    let awkward = AwkwardClient::new(&master);
    let mut meeting = Meeting::new().await;
    for _ in 0..3 {
        let call = awkward.sore(meeting.addr(), "sore".to_owned()).send();
        let _guest = meeting.guest("sore").await;
        drop(call);
        assert_eq!(soon("the only place", awkward.add_async(1, 1)).await, Ok(2));
    }
}

#[test]
fn calls_end_although_the_runtime_of_their_handlers_has() {
    let (ours, theirs) = (Runtime::new().expect("starts"), Runtime::new().expect("starts"));
    let (master, node) = ours.block_on(async {
        let master = Master::bind("127.0.0.1:0").await.expect("binds");
        let addr = master.local_addr();
        let node = theirs.spawn(async move { Node::spawn(addr, ProbeServer::new(Prober)).await });
        (master, node.await.expect("runs").expect("registers"))
    });
    ours.block_on(async {
        let probe = ProbeClient::new(&master);
        let mut meeting = Meeting::new().await;
        let running = probe.wait(meeting.addr(), "running".to_owned()).send();
        let _guest = meeting.guest("running").await;
        theirs.shutdown_background();
        // Its sockets return errors from then on. What the handler makes of these is not a value.
        let error = failure(soon("the running call", running).await);
        assert_eq!(error.execution(), Execution::MayHaveRun, "{error:?}");
        assert!(matches!(&error, CallError::NodeLost { .. }), "{error:?}");
        assert!(error.to_string().contains("has ended"), "{error}");
        let error = soon("the node to leave", node.wait()).await.expect_err("its owner did not end it");
        assert!(matches!(error, Error::RuntimeEnded { .. }), "{error}");
        // A call that was not started is not lost.
        let late = probe.wait(meeting.addr(), "late".to_owned()).send();
        let _other = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
        meeting.guest("late").await.release().await;
        assert_eq!(soon("a call that comes too late", late).await, Ok(Held::Released));
    });
}

#[test]
fn calls_end_with_the_runtime_of_their_master() {
    let (ours, theirs) = (Runtime::new().expect("starts"), Runtime::new().expect("starts"));
    let master = theirs.block_on(async { Master::bind("127.0.0.1:0").await.expect("binds") });
    ours.block_on(async {
        let addr = master.local_addr();
        let _node = Node::spawn(addr, ProbeServer::new(Prober)).await.expect("registers");
        let probe = ProbeClient::new(&master);
        let mut meeting = Meeting::new().await;
        let running = probe.hold(meeting.addr(), "running".to_owned()).send();
        let guest = meeting.guest("running").await;
        theirs.shutdown_background();
        let error = failure(soon("the running call", running).await);
        assert_eq!(error.execution(), Execution::MayHaveRun, "{error:?}");
        assert!(matches!(error, CallError::Shutdown { .. } | CallError::NodeLost { .. }), "{error:?}");
        let error = failure(soon("a call that comes too late", probe.add(1, 1)).await);
        assert!(matches!(error, CallError::Shutdown { .. }), "{error:?}");
        guest.gone().await;
    });
}

#[tokio::test]
async fn events_end_with_the_last_handle_of_their_master() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let other = master.clone();
    let mut events = master.events();
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    drop(master);
    assert!(matches!(soon("an event", events.next()).await, Some(NodeEvent::Joined { .. })));
    drop(other);
    soon("the end of events", async { while events.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn a_node_that_comes_back_with_a_slot_taken_gets_no_call_for_it() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let addr = master.local_addr();
    let node = Node::builder().serve(AwkwardServer::new(Clumsy)).slots(1);
    let node = node.spawn(addr).await.expect("registers");
    let mut meeting = Meeting::new().await;
    let call = AwkwardClient::new(&master).stubborn(meeting.addr(), "old".to_owned()).send();
    let old = meeting.guest("old").await;
    drop((call, master));
    let master = soon("the port", async {
        loop {
            match Master::bind(addr).await {
                Ok(master) => break master,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    soon("the node", master.wait_for_nodes(1)).await;
    let awkward = AwkwardClient::new(&master);
    let waiting = awkward.add(1, 1).send();
    assert_eq!(awkward.add_async(2, 2).await, Ok(4), "the node is there, and takes what needs no slot");
    let stats = master.stats();
    assert_eq!((stats.queued, stats.in_flight), (1, 0), "{stats:?}");
    old.release().await;
    assert_eq!(soon("the waiting call", waiting).await, Ok(2));
    assert_eq!(master.nodes()[0].id, node.id());
}

#[tokio::test]
async fn sigterm_ends_a_node_that_no_master_has_answered() {
    // A port that is in use, whose connections are never accepted.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = nobody.local_addr().expect("bound").to_string();
    let mut node = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["node", &addr, "waiting"]);
    let (mut dialled, _) = nobody.accept().expect("the node dials");
    // It has sent its preface, so it catches signals by now.
    std::io::Read::read_exact(&mut dialled, &mut [0; 32]).expect("reads");
    node.signal("TERM").await;
    assert!(node.ended().await.success());
    assert_eq!(node.rest().await, ["ended in order"]);
}

#[tokio::test]
async fn a_master_that_was_stalled_keeps_its_nodes() {
    let mut master = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["master", "127.0.0.1:0", "200"]);
    let line = master.line_with("listening ").await;
    let addr = line.trim_start_matches("listening ").to_owned();
    let node = Node::builder().serve(ProbeServer::new(Prober)).name("patient").spawn(&addr).await.expect("registers");
    master.line_with("registered").await;
    let id = node.id();
    // Nine heartbeats: more than the six that a node may be silent for, and fewer than a master may.
    master.signal("STOP").await;
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    master.signal("CONT").await;
    master.log_with("this master was stalled").await;
    let other = Node::builder().serve(ProbeServer::new(Prober)).name("other").spawn(&addr).await.expect("registers");
    assert_eq!(node.id(), id, "it did not have to register again");
    master.signal("TERM").await;
    let news = master.rest().await;
    assert!(news.len() == 1 && news[0].contains("node other"), "nobody left: {news:?}");
    drop(other);
}

#[tokio::test]
async fn a_master_without_descriptors_goes_on_once_it_has_some() {
    let program = format!("ulimit -n 40; exec {} master 127.0.0.1:0", env!("CARGO_BIN_EXE_probe"));
    let mut master = Process::start(Path::new("/bin/sh"), &["-c", &program]);
    let line = master.line_with("listening ").await;
    let addr = line.trim_start_matches("listening ").to_owned();
    let clients: Vec<_> = (0..60).map(|_| std::net::TcpStream::connect(&addr).expect("connects")).collect();
    master.log_with("cannot accept connections").await;
    drop(clients);
    let node = Node::builder().serve(ProbeServer::new(Prober)).name("late");
    let _node = soon("the node", node.spawn(&addr)).await.expect("registers");
    master.line_with("node late").await;
}

#[tokio::test]
async fn a_call_that_failed_is_logged_with_the_reason_of_each_attempt() {
    let (log, _guard) = Log::gather();
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let mut meeting = Meeting::new().await;
    let call = probe.hold_again(meeting.addr(), "twice".to_owned()).attempts(2).send();
    for name in ["first", "second"] {
        let node = Node::builder().serve(ProbeServer::new(Prober)).name(name);
        let node = node.spawn(master.local_addr()).await.expect("registers");
        let guest = meeting.guest("twice").await;
        drop(node);
        guest.gone().await;
    }
    let error = failure(soon("the call", call).await);
    assert!(matches!(error, CallError::NodeLost { attempts: 2, .. }), "{error:?}");
    let text = log.text();
    let line = text.lines().find(|line| line.contains("call failed")).expect("is logged");
    for part in
        ["WARN", "Probe.hold_again", "attempt 1 was lost with node first", "attempt 2 was lost with node second"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// An address on which nothing listens.
async fn free_address() -> String {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let addr = master.local_addr().to_string();
    master.shutdown().await;
    addr
}

fn batch_node() -> NodeBuilder {
    Node::builder().serve(ProbeServer::new(Prober)).end_with_master()
}

/// A master in a process of its own, which can be killed.
async fn master_process(addr: &str) -> (Process, String) {
    let mut master = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["master", addr]);
    let line = master.line_with("listening ").await;
    (master, line.trim_start_matches("listening ").to_owned())
}

#[tokio::test]
async fn a_node_that_is_run_until_an_event_answers_its_calls_before_it_ends() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let node = Node::builder().serve(ProbeServer::new(Prober)).run_until(master.local_addr(), stopped);
    let node = tokio::spawn(node);
    let mut meeting = Meeting::new().await;
    let call = ProbeClient::new(&master).hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    drop(stop);
    soon("the drain", async {
        while master.nodes()[0].state != NodeState::Draining {
            tokio::task::yield_now().await;
        }
    })
    .await;
    guest.release().await;
    assert_eq!(soon("the call", call).await, Ok(Held::Released));
    soon("the node", node).await.expect("runs").expect("ends in order");
}

#[tokio::test]
async fn a_node_that_waits_for_its_master_can_be_told_to_end() {
    let node = Node::builder().serve(ProbeServer::new(Prober)).run_until(free_address().await, std::future::ready(()));
    soon("the node", node).await.expect("ends in order");
}

#[tokio::test]
async fn a_node_with_a_connect_timeout_ends_and_says_what_failed() {
    let timeout = Duration::from_millis(300);
    let addr = free_address().await;
    let node = Node::builder().serve(ProbeServer::new(Prober)).connect_timeout(timeout);
    let error = soon("the node", node.spawn(&addr)).await.expect_err("nobody is there");
    let Error::ConnectTimeout { master, timeout: told, last_failure, .. } = &error else { panic!("{error:?}") };
    assert_eq!((master, *told), (&addr, timeout));
    assert!(last_failure.contains("Connection refused"), "{last_failure}");
    for part in [&addr, "300ms", "Connection refused", "check the address"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    // A program that accepts connections and sends nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let node = Node::builder().serve(ProbeServer::new(Prober)).connect_timeout(timeout);
    let node = node.run(silent.local_addr().expect("bound"));
    let error = soon("the node", node).await.expect_err("it is not a master");
    assert!(matches!(error, Error::ConnectTimeout { .. }), "{error}");
}

#[tokio::test]
async fn a_node_says_that_it_dials_and_then_that_it_waits() {
    let addr = free_address().await;
    let mut node = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["node", &addr, "early"]);
    let line = node.log_with("dialling").await;
    assert!(line.contains("INFO") && line.contains(&addr) && line.contains("early"), "{line}");
    let line = node.log_with("cannot register yet").await;
    assert!(line.contains("WARN") && line.contains(&addr) && line.contains("Connection refused"), "{line}");
}

#[tokio::test]
async fn a_node_of_a_batch_job_ends_in_order_when_its_master_shuts_down() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let addr = master.local_addr().to_string();
    let mut process =
        Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["node", &addr, "process", "--end-with-master"]);
    let node = batch_node().spawn(&addr).await.expect("registers");
    soon("both nodes", master.wait_for_nodes(2)).await;
    master.shutdown().await;
    soon("the node", node.wait()).await.expect("ends in order");
    assert!(process.ended().await.success());
    assert_eq!(process.rest().await, ["ended in order"]);
}

#[tokio::test]
async fn a_node_of_a_batch_job_ends_with_an_error_when_its_master_stays_away() {
    let (mut master, addr) = master_process("127.0.0.1:0").await;
    let timeout = Duration::from_millis(500);
    let node = batch_node().master_timeout(timeout).spawn(&addr).await.expect("registers");
    master.kill().await;
    let error = soon("the node", node.wait()).await.expect_err("the master did not shut down");
    let Error::MasterLost { master, timeout: told, .. } = &error else { panic!("{error:?}") };
    assert_eq!((master, *told), (&addr, timeout));
    assert!(error.to_string().contains("500ms"), "{error}");
}

#[tokio::test]
async fn a_node_of_a_batch_job_goes_on_with_a_master_that_comes_back_in_time() {
    let (mut master, addr) = master_process("127.0.0.1:0").await;
    let node = batch_node().master_timeout(Duration::from_secs(60)).spawn(&addr).await.expect("registers");
    let first = node.id();
    master.kill().await;
    let (mut master, _) = master_process(&addr).await;
    master.line_with("registered").await;
    soon("the registration", async {
        while node.id() == first {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(node.is_registered());
    node.drain().await;
    soon("the node", node.wait()).await.expect("ends in order");
}

#[tokio::test]
async fn a_node_of_a_batch_job_that_its_master_disconnects_comes_back() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = batch_node().spawn(master.local_addr()).await.expect("registers");
    let first = node.id();
    assert!(master.disconnect(first));
    soon("the node to come back", async {
        while node.id() == first {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ProbeClient::new(&master).add(1, 1).await, Ok(2));
}

#[tokio::test]
async fn a_node_of_a_batch_job_ends_although_a_master_registers_it_and_drops_it_at_once_again_and_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let timeout = Duration::from_millis(500);
    let node = batch_node().master_timeout(timeout).run(listener.local_addr().expect("bound"));
    let registers_and_drops = async {
        loop {
            drop(Impostor::master(&listener, Duration::from_secs(1), Duration::from_secs(15)).await);
        }
    };
    let ended = tokio::select! {
        ended = soon("the node", node) => ended,
        () = registers_and_drops => unreachable!("it goes on and on"),
    };
    let error = ended.expect_err("the master did not shut down");
    let Error::MasterLost { timeout: told, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*told, timeout);
}

#[tokio::test]
async fn a_draining_node_that_loses_its_master_says_that_it_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound").to_string();
    let mut node = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["node", &addr, "drains"]);
    let mut master = Impostor::master(&listener, Duration::from_secs(1), Duration::from_secs(15)).await;
    node.log_with("registered").await;
    node.signal("TERM").await;
    master.receive(kind::DRAIN).await;
    drop(master);
    let line = node.log_with("lost the master").await;
    assert!(line.contains("lost the master while draining; the node ends"), "{line}");
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn a_shutdown_warns_once_of_the_calls_that_it_ends() {
    let (log, _guard) = Log::gather();
    let master = Master::builder().shutdown_timeout(Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let mut meeting = Meeting::new().await;
    let call = ProbeClient::new(&master).hold(meeting.addr(), "running".to_owned()).send();
    let _guest = meeting.guest("running").await;
    master.shutdown().await;
    let error = failure(soon("the call", call).await);
    assert!(matches!(error, CallError::Shutdown { .. }), "{error:?}");
    let text = log.text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("the shutdown timeout has passed"), "{warnings:?}");
    assert!(warnings[0].contains("timeout=0ns"), "{warnings:?}");
    let gone = text.lines().find(|line| line.contains("a node is gone")).expect("is logged");
    assert!(gone.contains("calls=1 reason=was disconnected because the master shut down"), "{gone}");
}
