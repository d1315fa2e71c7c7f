//! On which threads handlers run, and that they do not delay each other.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use distribution::{
    CallError, Error, LocalCluster, Master, Node,
    error::{Execution, GoneReason},
};
use distribution_tests::{
    Held, ProbeClient, ProbeServer, Prober, failure,
    impostor::{Impostor, addr_bytes, kind, request, take_number, text},
    meeting::{self, Meeting},
    process::Process,
    soon,
};
use futures::future::join_all;
use tokio::{net::TcpListener, runtime::Runtime};

#[distribution::service]
trait Places {
    /// Meets the test three times, on three threads of rayon's pool; one of them waits for another.
    fn spread(&self, at: SocketAddr) -> ();
    /// Keeps its slot until the test lets it go.
    fn hold(&self, at: SocketAddr) -> ();
    /// The runtime that the handler's thread belongs to.
    fn runtime(&self) -> String;
    /// Panics with a value that panics when it is dropped.
    fn sore(&self) -> ();
    /// The same.
    async fn sore_async(&self) -> ();
    /// Returns a value, and drops another one that panics.
    async fn trap(&self) -> u8;
    /// Notes that the call of this number was started, and waits a little.
    async fn nap(&self, number: usize) -> ();
    /// The same, and may be repeated.
    #[rpc(idempotent)]
    async fn nap_again(&self, number: usize) -> ();
}

/// How often each call was started.
#[derive(Clone)]
struct Started(Arc<[AtomicU32]>);

/// Panics when it is dropped, with another value of this type.
struct Sore;

impl Drop for Sore {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

impl Places for Started {
    fn spread(&self, at: SocketAddr) {
        let meet = |tag| _ = meeting::hold(at, tag);
        rayon::join(|| meet("a"), || rayon::join(|| meet("b"), || meet("c")));
    }

    fn hold(&self, at: SocketAddr) {
        meeting::hold(at, "held");
    }

    fn runtime(&self) -> String {
        tokio::runtime::Handle::current().id().to_string()
    }

    fn sore(&self) {
        std::panic::panic_any(Sore);
    }

    async fn sore_async(&self) {
        std::panic::panic_any(Sore);
    }

    async fn trap(&self) -> u8 {
        tokio::task::yield_now().await;
        let _sore = Sore;
        7
    }

    async fn nap(&self, number: usize) {
        self.0[number].fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(number as u64 % 5)).await;
    }

    async fn nap_again(&self, number: usize) {
        self.nap(number).await;
    }
}

fn server(calls: usize) -> (Started, impl Fn() -> PlacesServer<Started>) {
    let started = Started((0..calls).map(|_| AtomicU32::new(0)).collect());
    let served = started.clone();
    (started, move || PlacesServer::new(served.clone()))
}

#[tokio::test]
async fn a_handler_in_parallel_parts_runs_no_other_call() {
    static THREADS: Once = Once::new();
    THREADS.call_once(|| rayon::ThreadPoolBuilder::new().num_threads(3).build_global().expect("the first"));
    let cluster = LocalCluster::builder().nodes(1).slots(3).serve(server(0).1).start().await.expect("starts");
    let places = PlacesClient::new(&cluster);
    let mut meeting = Meeting::new().await;
    let spread = places.spread(meeting.addr()).send();
    let (a, b, c) = (meeting.guest("a").await, meeting.guest("b").await, meeting.guest("c").await);
    // The thread of b then waits for c, and may run other parts of handlers meanwhile, but no calls.
    b.release().await;
    let held = [places.hold(meeting.addr()).send(), places.hold(meeting.addr()).send()];
    let guests = [meeting.guest("held").await, meeting.guest("held").await];
    c.release().await;
    a.release().await;
    assert_eq!(soon("the handler in parts", spread).await, Ok(()));
    // The two may come in any order.
    for guest in guests {
        guest.release().await;
    }
    for call in held {
        assert_eq!(soon("a held call", call).await, Ok(()));
    }
}

#[tokio::test]
async fn a_compute_handler_is_inside_the_runtime_that_its_node_was_started_from() {
    let cluster = LocalCluster::builder().nodes(1).serve(server(0).1).start().await.expect("starts");
    let ours = tokio::runtime::Handle::current().id().to_string();
    assert_eq!(PlacesClient::new(&cluster).runtime().await, Ok(ours));
}

#[tokio::test]
async fn a_value_that_panics_when_it_is_dropped_ends_its_call_alone() {
    let cluster = LocalCluster::builder().nodes(1).slots(1).serve(server(0).1).start().await.expect("starts");
    let places = PlacesClient::new(&cluster);
    for _ in 0..3 {
        for call in [places.sore(), places.sore_async()] {
            let error = failure(soon("a call that panics twice", call).await);
            assert!(matches!(error, CallError::Panicked { .. }), "{error:?}");
        }
        let error = failure(soon("a call whose drop panics", places.trap()).await);
        assert!(matches!(error, CallError::Panicked { .. }), "{error:?}");
        assert!(places.runtime().await.is_ok(), "the slot is there");
    }
}

/// Ends the runtime of a node while it has calls, by either way to end one, and then starts another node.
fn the_runtime_of_a_node_ends(trial: usize) {
    const CALLS: usize = 300;
    let ours = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts");
    let theirs = Runtime::new().expect("starts");
    let (started, serve) = server(2 * CALLS);
    ours.block_on(async {
        let master = Master::bind("127.0.0.1:0").await.expect("binds");
        let addr = master.local_addr();
        let server = serve();
        let sick = theirs.spawn(async move { Node::builder().serve(server).name("sick").spawn(addr).await });
        let sick = sick.await.expect("runs").expect("registers");
        let places = PlacesClient::new(&master);
        let once: Vec<_> = (0..CALLS).map(|number| places.nap(number).send()).collect();
        let again: Vec<_> = (CALLS..2 * CALLS).map(|number| places.nap_again(number).send()).collect();
        // At a different moment in each trial.
        while started.0.iter().filter(|calls| calls.load(Ordering::SeqCst) > 0).count() < trial * 20 % CALLS {
            tokio::task::yield_now().await;
        }
        if trial % 2 == 0 {
            theirs.shutdown_background();
        } else {
            soon("the end of the runtime", tokio::task::spawn_blocking(move || drop(theirs))).await.expect("ends");
        }
        let _well = Node::builder().serve(serve()).name("well").spawn(addr).await.expect("registers");
        for (number, result) in soon("the calls", join_all(once)).await.into_iter().enumerate() {
            let times = started.0[number].load(Ordering::SeqCst);
            match result {
                Ok(()) => assert_eq!(times, 1),
                Err(error) => {
                    assert_eq!(error.execution(), Execution::MayHaveRun, "{error:?}");
                    let lost =
                        matches!(&error, CallError::NodeLost { reason: GoneReason::Dropped(_) | GoneReason::Left, .. });
                    assert!(lost, "{error:?}");
                    assert!(times <= 1, "{times}");
                }
            }
        }
        for result in soon("the calls that may be repeated", join_all(again)).await {
            assert_eq!(result, Ok(()));
        }
        let error = soon("the node to leave", sick.wait()).await.expect_err("its owner did not end it");
        assert!(matches!(error, Error::RuntimeEnded { .. }), "{error}");
    });
}

#[test]
fn calls_under_a_runtime_that_ends_go_elsewhere_or_are_lost_and_none_hangs() {
    (0..30).for_each(the_runtime_of_a_node_ends);
}

#[tokio::test]
async fn a_handler_that_blocks_is_counted_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound");
    let node = tokio::spawn(Node::builder().serve(ProbeServer::new(Prober)).spawn(addr));
    let mut master = Impostor::master(&listener, Duration::from_millis(50), distribution_tests::LONG).await;
    let _node = node.await.expect("runs").expect("registers");
    let mut meeting = Meeting::new().await;
    let arguments = [vec![0], addr_bytes(meeting.addr()), text("blocks")].concat();
    let block = ("block", "fn(SocketAddr, String) -> Held");
    master.send(&request(1, 1, None, block, &arguments)).await;
    let guest = meeting.guest("blocks").await;
    let blocked = |load: Vec<u8>| {
        let mut rest = &load[..];
        let [.., blocked] = [0; 5].map(|_: u8| take_number(&mut rest));
        blocked
    };
    while blocked(master.receive(kind::HEARTBEAT).await) == 0 {}
    // It is not counted a second time, however long it blocks.
    for _ in 0..5 {
        assert_eq!(blocked(master.receive(kind::HEARTBEAT).await), 1);
    }
    guest.release().await;
    assert_eq!(master.receive_response().await, (1, vec![0, 0]));
}

#[tokio::test]
async fn a_runtime_whose_threads_are_all_blocked_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound");
    let theirs = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("starts");
    let node = theirs.spawn(Node::builder().serve(ProbeServer::new(Prober)).spawn(addr));
    let mut master = Impostor::master(&listener, Duration::from_millis(50), distribution_tests::LONG).await;
    let _node = node.await.expect("runs").expect("registers");
    let mut meeting = Meeting::new().await;
    let arguments = [vec![0], addr_bytes(meeting.addr()), text("waits")].concat();
    let wait = ("wait", "fn(SocketAddr, String) -> Held");
    master.send(&request(1, 1, None, wait, &arguments)).await;
    let guest = meeting.guest("waits").await;
    let (go, gone) = std::sync::mpsc::channel::<()>();
    theirs.spawn(async move { gone.recv() });
    while master.receive(kind::HEARTBEAT).await.last() != Some(&1) {}
    go.send(()).expect("waits for it");
    guest.release().await;
    assert_eq!(master.receive_response().await, (1, vec![0, 0]));
    theirs.shutdown_background();
}

/// A number in the status file of a process or thread.
#[cfg(target_os = "linux")]
fn status(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).expect("the file exists");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line exists");
    line.trim_start_matches(':').split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[cfg(target_os = "linux")]
async fn node_process(master: &Master) -> Process {
    let addr = master.local_addr().to_string();
    let node = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["node", &addr, "watched"]);
    soon("the node", master.wait_for_nodes(1)).await;
    node
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_holds_an_argument_once_while_its_handler_runs() {
    const SIZE: usize = 48 << 20;
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = node_process(&master).await;
    let probe = ProbeClient::new(&master);
    let mut meeting = Meeting::new().await;
    let file = format!("/proc/{}/status", node.id());
    // Two rounds, because buffers and the allocator may keep memory after the first call.
    for round in 0..2 {
        for asynchronous in [false, true] {
            let text = "x".repeat(SIZE);
            let call = match asynchronous {
                false => probe.keep(text, meeting.addr()).send(),
                true => probe.keep_async(text, meeting.addr()).send(),
            };
            let guest = meeting.guest("kept").await;
            let resident = status(&file, "VmRSS") as usize * 1024;
            assert!(
                resident < SIZE + SIZE / 2,
                "{} MiB for {} MiB, {round} {asynchronous}",
                resident >> 20,
                SIZE >> 20
            );
            guest.release().await;
            assert_eq!(soon("the call", call).await, Ok(Held::Released));
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_node_sleeps() {
    const WATCHED: Duration = Duration::from_secs(2);
    // So rare that they do not count.
    let master = Master::builder().heartbeat(Duration::from_secs(30)).bind("127.0.0.1:0").await.expect("binds");
    let node = node_process(&master).await;
    let probe = ProbeClient::new(&master);
    // Each part of the node has been used.
    join_all((0..100).map(|number| probe.add(number, 1).send())).await;
    join_all((0..100).map(|number| probe.add_async(number, 1).send())).await;
    let switches = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", node.id())).expect("runs");
        let files = tasks.filter_map(|task| Some(task.ok()?.path().join("status").to_str()?.to_owned()));
        files.map(|file| status(&file, "voluntary_ctxt_switches")).sum()
    };
    // It may take a moment until it is idle.
    soon("a node that sleeps", async {
        loop {
            let before = switches();
            tokio::time::sleep(WATCHED).await;
            // The counts of threads that have ended since then are missing.
            let wakes = switches().saturating_sub(before);
            if wakes <= 5 * WATCHED.as_secs() {
                break;
            }
        }
    })
    .await;
}
