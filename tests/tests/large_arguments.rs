//! Arguments of more than 1 MiB of callers elsewhere: they stay at their caller until a node takes them, and are passed on as
//! they come.

use std::{net::SocketAddr, time::Duration};

use distribution::{CallError, Cluster, Master, Node, error::Execution, prelude::*};
use distribution_tests::{
    ProbeClient, ProbeServer, Prober,
    impostor::{Impostor, Shown, frame, kind, number, take_number},
    ledger::Clerk,
    meeting::Meeting,
    proxy::{Proxy, Way},
    rogue_caller::{RogueCaller, declare, kind as caller_kind, large_call},
    soon, until,
};

const MIB: usize = 1024 * 1024;

/// Takes large values.
#[distribution::service]
trait Archive {
    /// What the bytes come to.
    fn digest(&self, bytes: Vec<u8>) -> u64;

    /// The same, once the test at this address lets it go; may run again.
    #[rpc(idempotent)]
    fn digest_later(&self, at: SocketAddr, bytes: Vec<u8>) -> u64;

    /// The same, with an entry in the ledger. Must not run twice.
    fn store(&self, entry: u64, bytes: Vec<u8>) -> u64;

    /// The same bytes.
    fn same(&self, bytes: Vec<u8>) -> Vec<u8>;

    /// This many bytes, without a slot.
    async fn make(&self, count: u64) -> Vec<u8>;
}

#[derive(Clone, Default)]
struct Shelf(Clerk);

impl Archive for Shelf {
    fn digest(&self, bytes: Vec<u8>) -> u64 {
        digest(&bytes)
    }

    fn digest_later(&self, at: SocketAddr, bytes: Vec<u8>) -> u64 {
        distribution_tests::meeting::hold(at, "digest");
        digest(&bytes)
    }

    fn store(&self, entry: u64, bytes: Vec<u8>) -> u64 {
        distribution_tests::ledger::Ledger::enter(&self.0, entry);
        digest(&bytes)
    }

    fn same(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn make(&self, count: u64) -> Vec<u8> {
        vec![1; count as usize]
    }
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// Bytes that are not the same at any two places, so that none may be lost, doubled or moved.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn node(addr: SocketAddr, shelf: &Shelf, slots: usize) -> Node {
    let node = Node::builder().serve(ArchiveServer::new(shelf.clone())).serve(ProbeServer::new(Prober)).slots(slots);
    soon("a node", node.spawn(addr)).await.expect("registers")
}

async fn master() -> Master {
    Master::bind("127.0.0.1:0").await.expect("binds")
}

async fn caller(addr: SocketAddr) -> Cluster {
    soon("a caller", Cluster::connect(addr)).await.expect("connects")
}

#[tokio::test]
async fn arguments_of_all_sizes_come_whole_beside_each_other_and_beside_small_calls() {
    let master = master().await;
    let _nodes =
        [node(master.local_addr(), &Shelf::default(), 2).await, node(master.local_addr(), &Shelf::default(), 2).await];
    let cluster = caller(master.local_addr()).await;
    let (archive, probe) = (ArchiveClient::new(&cluster), ProbeClient::new(&cluster));
    let sizes = [MIB - 20_000, MIB - 10_240, MIB - 10_239, MIB, MIB + 1, 5 * MIB + 3, 30 * MIB];
    let values: Vec<_> = (0..2).flat_map(|_| sizes).enumerate().map(|(n, size)| bytes(size, n as u64)).collect();
    let calls: Vec<_> = values.iter().map(|value| archive.digest(value.clone()).send()).collect();
    for n in 0..200 {
        assert_eq!(soon("a small call", probe.add(n, 1)).await, Ok(n + 1));
    }
    for (value, call) in values.iter().zip(calls) {
        assert_eq!(soon("a large call", call).await, Ok(digest(value)));
    }
    let batch = values.iter().map(|value| archive.digest(value[..300_000].to_vec()));
    let digests: Vec<_> = soon("the run", batch.distribute().try_collect::<Vec<_>>()).await.expect("all are answered");
    assert!(digests.iter().zip(&values).all(|(found, value)| *found == digest(&value[..300_000])));
}

#[tokio::test]
async fn calls_that_wait_take_no_memory_at_the_master_and_hold_no_others_up() {
    let mut meeting = Meeting::new().await;
    let master = Master::builder().max_queued_bytes(2 * MIB).max_queued_bytes_per_caller(MIB).bind("127.0.0.1:0");
    let master = master.await.expect("binds");
    let _node = node(master.local_addr(), &Shelf::default(), 1).await;
    let cluster = caller(master.local_addr()).await;
    let (archive, probe) = (ArchiveClient::new(&cluster), ProbeClient::new(&cluster));
    let held = probe.hold(meeting.addr(), "slot".to_owned()).send();
    let guest = meeting.guest("slot").await;
    let value = bytes(8 * MIB, 7);
    let calls: Vec<_> = (0..20).map(|_| archive.digest(value.clone()).send()).collect();
    until("all of them wait", || master.stats().queued >= 20).await;
    assert_eq!(soon("an async call", probe.add_async(1, 2)).await, Ok(3));
    guest.release().await;
    soon("the first", held).await.expect("is let go");
    for call in calls {
        assert_eq!(soon("a large call", call).await, Ok(digest(&value)));
    }
}

#[tokio::test]
async fn arguments_are_fetched_again_when_a_node_is_lost() {
    let mut meeting = Meeting::new().await;
    let master =
        Master::builder().reconnect_grace(Duration::from_millis(100)).bind("127.0.0.1:0").await.expect("binds");
    let proxy = Proxy::to(master.local_addr()).await;
    let lost = node(proxy.addr(), &Shelf::default(), 1).await;
    let cluster = caller(master.local_addr()).await;
    let value = bytes(20 * MIB, 3);
    let call = ArchiveClient::new(&cluster).digest_later(meeting.addr(), value.clone()).send();
    let first = meeting.guest("digest").await;
    let other = node(master.local_addr(), &Shelf::default(), 1).await;
    proxy.cut_and_refuse();
    meeting.guest("digest").await.release().await;
    let answer = soon("the answer", call.answer()).await.expect("is answered");
    assert_eq!((answer.node.id, answer.attempts, answer.value), (other.id(), 2, digest(&value)));
    first.release_if_there().await;
    drop(lost);
}

/// Makes calls while this connection is cut at another place in each: each ends, and has run once.
async fn cut_again_and_again(proxy: &Proxy, way: Way, caller: &Cluster, shelf: &Shelf) {
    let archive = ArchiveClient::new(caller);
    let value = bytes(3 * MIB, 5);
    for entry in 0..40 {
        // Beyond the last byte in some cases, and in the midst of a frame in nearly all.
        proxy.cut_after(way, entry as u32 * 85_000 + 100);
        assert_eq!(soon("the call", archive.store(entry, value.clone())).await, Ok(digest(&value)), "{entry}");
        assert_eq!(shelf.0.times(entry), 1, "{entry}");
        proxy.cut();
    }
    assert!(proxy.connections() > 40, "{}", proxy.connections());
}

#[tokio::test]
async fn a_callers_connection_that_breaks_amid_its_arguments_loses_nothing_and_runs_nothing_twice() {
    let (master, shelf) = (master().await, Shelf::default());
    let _node = node(master.local_addr(), &shelf, 2).await;
    let proxy = Proxy::to(master.local_addr()).await;
    cut_again_and_again(&proxy, Way::ToMaster, &caller(proxy.addr()).await, &shelf).await;
}

#[tokio::test]
async fn a_nodes_connection_that_breaks_amid_arguments_loses_nothing_and_runs_nothing_twice() {
    let (master, shelf) = (master().await, Shelf::default());
    let proxy = Proxy::to(master.local_addr()).await;
    let _node = node(proxy.addr(), &shelf, 2).await;
    cut_again_and_again(&proxy, Way::ToPeer, &caller(master.local_addr()).await, &shelf).await;
}

#[tokio::test]
async fn a_detached_call_is_made_although_its_caller_leaves_before_a_node_takes_it() {
    let mut meeting = Meeting::new().await;
    let master = master().await;
    let shelf = Shelf::default();
    let _node = node(master.local_addr(), &shelf, 1).await;
    let held = ProbeClient::new(&master).hold(meeting.addr(), "slot".to_owned()).send();
    let guest = meeting.guest("slot").await;
    let cluster = caller(master.local_addr()).await;
    ArchiveClient::new(&cluster).store(1, bytes(30 * MIB, 1)).send().detach();
    drop(cluster);
    until("the caller has left", || master.callers().is_empty()).await;
    guest.release().await;
    soon("the first", held).await.expect("is let go");
    until("the call has run", || shelf.0.times(1) == 1).await;
}

#[tokio::test]
async fn detached_calls_that_wait_do_not_hold_up_the_results_of_others() {
    let mut meeting = Meeting::new().await;
    // Memory for one large result, and for one detached call that waits.
    let master = Master::builder().max_message_size(4 * MIB).max_in_flight_bytes(4 * MIB);
    let master = master.max_queued_bytes(3 * MIB).max_queued_bytes_per_caller(3 * MIB).bind("127.0.0.1:0");
    let master = master.await.expect("binds");
    let shelf = Shelf::default();
    let _node = node(master.local_addr(), &shelf, 2).await;
    let (detaching, other) = (caller(master.local_addr()).await, caller(master.local_addr()).await);
    let (archive, probe) = (ArchiveClient::new(&detaching), ProbeClient::new(&other));
    let held = ["one", "two"].map(|slot| probe.hold(meeting.addr(), slot.to_owned()).send());
    let mut guests = vec![meeting.guest("one").await, meeting.guest("two").await];
    for entry in 0..3 {
        archive.store(entry, bytes(3 * MIB, entry)).send().detach();
    }
    until("they wait", || master.stats().queued == 3).await;
    let result = soon("a large result", ArchiveClient::new(&other).make(3 * MIB as u64)).await;
    assert_eq!(result.map(|bytes| bytes.len()), Ok(3 * MIB));
    for guest in guests.drain(..) {
        guest.release().await;
    }
    soon("the caller leaves", detaching.close()).await;
    until("all have run", || (0..3).all(|entry| shelf.0.times(entry) == 1)).await;
    for call in held {
        soon("a held one", call).await.expect("is let go");
    }
}

#[tokio::test]
async fn a_call_that_ends_amid_its_arguments_was_not_run() {
    let master = master().await;
    let mut node = Impostor::node(master.local_addr(), "accepts-nothing", &[LENGTH]).await.expect("is taken in");
    let cluster = caller(master.local_addr()).await;
    let call = ProbeClient::new(&cluster).length(vec![1; 5 * MIB]).timeout(Duration::from_millis(500)).send();
    node.receive(kind::BEGIN).await;
    let error = soon("the call", call).await.expect_err("its time is up");
    assert!(matches!(&error, CallError::TimedOut { .. }), "{error}");
    assert_eq!(error.execution(), Execution::NotRun, "{error}");
    node.receive(kind::ABANDON).await;
    // The caller goes on, and so does its connection.
    let call = ProbeClient::new(&cluster).length(vec![1; 5 * MIB]).send();
    node.receive(kind::BEGIN).await;
    drop(call);
    node.receive(kind::ABANDON).await;
    assert!(cluster.is_connected());
    until("the master knows of no call", || master.stats().queued == 0).await;
}

/// The stream by which the master fetches the arguments of a call: its attempt, and up to which byte.
async fn fetch(caller: &mut RogueCaller) -> (u64, u64) {
    let body = caller.peer.receive(kind::GRANT_ITEMS).await;
    let mut body = &body[..];
    let [_, attempt, upto] = std::array::from_fn(|_| take_number(&mut body));
    (attempt, upto)
}

fn items(call: u64, attempt: u64, bytes: &[u8]) -> Vec<u8> {
    frame(kind::ITEMS, &[&call.to_le_bytes()[..], &(attempt as u32).to_le_bytes(), bytes].concat())
}

fn end(call: u64, attempt: u64, length: u64, is_whole: bool) -> Vec<u8> {
    frame(kind::END_ITEMS, &[number(call), number(attempt), number(length), vec![is_whole.into()]].concat())
}

const LENGTH: (&str, &str) = ("length", "fn(Vec<u8>) -> u64");

#[tokio::test]
async fn a_caller_that_breaks_the_rules_of_large_arguments_is_disconnected_and_the_node_is_not() {
    let master = Master::builder().read_timeout(Duration::from_secs(2)).bind("127.0.0.1:0").await.expect("binds");
    let _node = node(master.local_addr(), &Shelf::default(), 2).await;
    let large = 2 * MIB as u64;
    type Sent = fn(u64, u64, u64) -> Vec<u8>;
    let nothing: Sent = |_, _, _| Vec::new();
    let cases: [(u64, &str, Sent); 8] = [
        (large << 40, "the agreed limit is", nothing),
        (100_000, "which come with the call", nothing),
        (large, "which has no stream", |call, attempt, _| items(call + 1, attempt, &[1])),
        (large, "which has no stream", |call, attempt, _| items(call, attempt + 1, &[1])),
        (large, "more of a stream than it was granted", |call, attempt, upto| {
            items(call, attempt, &[1; 60_000]).repeat(upto as usize / 60_000 + 1)
        }),
        (large, "before their end", |call, attempt, _| {
            [items(call, attempt, &[1; 100]), end(call, attempt, 100, true)].concat()
        }),
        (large, "before their end", |call, attempt, _| {
            [items(call, attempt, &[1; 100]), end(call, attempt, 100, false)].concat()
        }),
        (large, "neither finishes it nor sends 16 KiB of it a second", |call, attempt, _| items(call, attempt, &[1])),
    ];
    for (announced, expected, sent) in cases {
        let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
        let first = rogue.first;
        let call = [declare(&Shown::of_probe(LENGTH.0, LENGTH.1)), large_call(1, first, LENGTH, announced)].concat();
        rogue.peer.send(&call).await;
        if announced == large {
            let (attempt, upto) = fetch(&mut rogue).await;
            rogue.peer.send(&sent(first, attempt, upto)).await;
            // It is alive, and still owes the rest.
            rogue.peer.send(&frame(caller_kind::HEARTBEAT, &[])).await;
        }
        let goodbye = rogue.peer.receive(kind::GOODBYE).await;
        let goodbye = String::from_utf8_lossy(&goodbye).into_owned();
        assert!(goodbye.contains(expected), "{expected}: {goodbye}");
    }
    // The node has lived through all of it.
    assert_eq!(soon("a call", ProbeClient::new(&master).length(vec![1; 3 * MIB])).await, Ok(3 * MIB as u64));
    assert_eq!(master.nodes().len(), 1);
}

#[tokio::test]
async fn a_detached_call_whose_caller_and_node_are_gone_ends_and_holds_no_slot() {
    let mut meeting = Meeting::new().await;
    let short = Duration::from_millis(100);
    let master =
        Master::builder().reconnect_grace(short).resume_timeout(short).bind("127.0.0.1:0").await.expect("binds");
    let proxy = Proxy::to(master.local_addr()).await;
    let lost = node(proxy.addr(), &Shelf::default(), 1).await;
    let cluster = caller(master.local_addr()).await;
    let call = ArchiveClient::new(&cluster).digest_later(meeting.addr(), bytes(5 * MIB, 1)).send();
    let first = meeting.guest("digest").await;
    call.detach();
    soon("the caller leaves", cluster.close()).await;
    until("the caller has left", || master.callers().is_empty()).await;
    let _other = node(master.local_addr(), &Shelf::default(), 1).await;
    proxy.cut_and_refuse();
    until("the call has ended", || master.stats().in_flight == 0 && master.stats().queued == 0).await;
    assert_eq!(soon("a compute call", ProbeClient::new(&master).add(2, 3)).await, Ok(5));
    first.release_if_there().await;
    drop(lost);
}

/// A caller that breaks the protocol after these calls.
async fn break_the_protocol(master: &Master, calls: &[u64], length: u64, is_fetched: bool) {
    let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
    let first = rogue.first;
    rogue.peer.send(&declare(&Shown::of_probe(LENGTH.0, LENGTH.1))).await;
    for n in calls {
        rogue.peer.send(&large_call(n + 1, first + n, LENGTH, length)).await;
    }
    let detach = calls.iter().flat_map(|n| frame(caller_kind::DETACH, &number(first + n)));
    if is_fetched {
        for _ in calls {
            fetch(&mut rogue).await;
        }
        rogue.peer.send(&detach.collect::<Vec<_>>()).await;
    } else {
        rogue.peer.send(&detach.collect::<Vec<_>>()).await;
        fetch(&mut rogue).await;
    }
    rogue.peer.send(&frame(kind::ITEMS, &[1; 100])).await;
    rogue.peer.receive(kind::GOODBYE).await;
    drop(rogue);
    until("the caller is gone", || master.callers().is_empty()).await;
}

#[tokio::test]
async fn detached_calls_of_a_caller_that_is_disconnected_for_cause_end() {
    let master = master().await;
    let shelf = Shelf::default();
    let _node = node(master.local_addr(), &shelf, 20).await;
    // As many as a connection to a node may have begun.
    break_the_protocol(&master, &[0, 1, 2, 3, 4, 5, 6, 7], 2 * MIB as u64, true).await;
    until("they have ended", || master.stats().in_flight == 0).await;
    let cluster = caller(master.local_addr()).await;
    let value = bytes(3 * MIB, 1);
    assert_eq!(soon("a large call", ArchiveClient::new(&cluster).digest(value.clone())).await, Ok(digest(&value)));
}

#[tokio::test]
async fn what_a_caller_that_is_disconnected_for_cause_had_detached_holds_no_memory() {
    let mut meeting = Meeting::new().await;
    let master = Master::builder().max_queued_bytes(4 * MIB).bind("127.0.0.1:0").await.expect("binds");
    let shelf = Shelf::default();
    let _node = node(master.local_addr(), &shelf, 1).await;
    let held = ProbeClient::new(&master).hold(meeting.addr(), "slot".to_owned()).send();
    let guest = meeting.guest("slot").await;
    break_the_protocol(&master, &[0], 4 * MIB as u64, false).await;
    until("it has ended", || master.stats().queued == 0).await;
    // The memory is for another now, whose caller leaves only when it has been taken over.
    let cluster = caller(master.local_addr()).await;
    ArchiveClient::new(&cluster).store(1, bytes(4 * MIB, 1)).send().detach();
    soon("the caller leaves", cluster.close()).await;
    guest.release().await;
    soon("the first", held).await.expect("is let go");
    until("the call has run", || shelf.0.times(1) == 1).await;
}

#[tokio::test]
async fn a_detached_call_with_large_arguments_and_a_large_result_ends() {
    let mut meeting = Meeting::new().await;
    let master = Master::builder().max_message_size(8 * MIB).max_in_flight_bytes(8 * MIB).max_queued_bytes(8 * MIB);
    let master = master.bind("127.0.0.1:0").await.expect("binds");
    let _node = node(master.local_addr(), &Shelf::default(), 1).await;
    let held = ProbeClient::new(&master).hold(meeting.addr(), "slot".to_owned()).send();
    let guest = meeting.guest("slot").await;
    let cluster = caller(master.local_addr()).await;
    ArchiveClient::new(&cluster).same(bytes(5 * MIB, 1)).send().detach();
    soon("the caller leaves", cluster.close()).await;
    guest.release().await;
    soon("the first", held).await.expect("is let go");
    until("the call has ended", || master.stats().in_flight == 0 && master.stats().queued == 0).await;
    assert_eq!(master.stats().answered, 2);
}
