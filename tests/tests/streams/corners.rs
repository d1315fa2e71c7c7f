//! Where streams meet cancelled handlers, earlier attempts, full pools and memory that is short.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use distribution::{CallError, Cluster, LocalCluster, Master, Node, NodeId, Streaming, fuzzing, service};
use distribution_tests::{
    impostor::{self, Impostor, Shown, frame, kind, number, outcome, response, text},
    soon, until,
};
use futures::{Stream, StreamExt, poll, stream};
use tokio::io::AsyncReadExt as _;

use super::hostile::{items, request};

#[service]
pub(crate) trait Corners {
    /// All numbers. Each poll takes a while.
    fn slow_polls(&self) -> impl Stream<Item = u64> + Send;

    /// This many blocks of this many bytes.
    fn blocks(&self, count: u64, size: u64) -> impl Iterator<Item = Bytes> + Send;

    /// The same, of which the last one waits for the test.
    fn blocks_held(&self, count: u64, size: u64) -> impl Stream<Item = Bytes> + Send;

    /// The numbers below `end`.
    #[rpc(idempotent)]
    fn count(&self, end: u64) -> impl Iterator<Item = u64> + Send;

    /// The sum of all values. The first attempt panics before it has read one.
    #[rpc(idempotent)]
    async fn sum_at_second(&self, values: Streaming<u64>) -> u64;

    /// The sum of all values.
    #[rpc(idempotent)]
    async fn sum(&self, values: Streaming<u64>) -> u64;

    /// Takes the slot until the test lets it go.
    fn hold(&self);

    /// The number of bytes.
    fn length(&self, bytes: Bytes) -> u64;
}

#[derive(Clone, Default)]
struct Corner {
    is_released: Arc<AtomicBool>,
}

impl Corners for Corner {
    fn slow_polls(&self) -> impl Stream<Item = u64> + Send {
        // It stands for work.
        stream::iter(0..u64::MAX).inspect(|_| std::thread::sleep(Duration::from_millis(20)))
    }

    fn blocks(&self, count: u64, size: u64) -> impl Iterator<Item = Bytes> + Send {
        let block = Bytes::from(vec![7; size as usize]);
        (0..count).map(move |_| block.clone())
    }

    fn blocks_held(&self, count: u64, size: u64) -> impl Stream<Item = Bytes> + Send {
        let (block, is_released) = (Bytes::from(vec![7; size as usize]), Arc::clone(&self.is_released));
        stream::iter(1..=count).then(move |number| {
            let (block, is_released) = (block.clone(), Arc::clone(&is_released));
            async move {
                until("it is let go", || number < count || is_released.load(Ordering::Relaxed)).await;
                block
            }
        })
    }

    fn count(&self, end: u64) -> impl Iterator<Item = u64> + Send {
        0..end
    }

    async fn sum_at_second(&self, values: Streaming<u64>) -> u64 {
        assert!(distribution::current().attempt() > 1, "the first attempt");
        self.sum(values).await
    }

    async fn sum(&self, values: Streaming<u64>) -> u64 {
        values.fold(0, |sum, value| std::future::ready(sum + value)).await
    }

    fn hold(&self) {
        while !self.is_released.load(Ordering::Relaxed) && !distribution::current().is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn length(&self, bytes: Bytes) -> u64 {
        bytes.len() as u64
    }
}

async fn local(nodes: usize, slots: usize) -> (LocalCluster, CornersClient, Corner) {
    let corner = Corner::default();
    let served = corner.clone();
    let cluster =
        LocalCluster::builder().nodes(nodes).slots(slots).serve(move || CornersServer::new(served.clone())).start();
    let cluster = cluster.await.expect("starts");
    let client = CornersClient::new(&cluster);
    (cluster, client, corner)
}

fn at_rest(cluster: &LocalCluster) -> bool {
    cluster.master().stats().queued == 0 && cluster.master().nodes().iter().all(|node| node.in_flight == 0)
}

/// A node of a thousand slots that does as the test wants.
async fn rogue(master: SocketAddr, name: &str) -> Impostor {
    let keys = fuzzing::method_ids(CornersServer::new(Corner::default())).expect("each method is there once");
    let shown = |key: fuzzing::MethodKey| {
        let streams = match &*key.name {
            "count" => [1, 0],
            "sum" => [0, 1],
            "length" => [0, 0],
            _ => return None,
        };
        let id = fuzzing::method_id("Corners", 1, &key.name, &key.signature, key.types);
        let fuzzing::MethodKey { name, signature, types, .. } = key;
        Some(Shown { id, service: "Corners".to_owned(), name, signature, types, streams })
    };
    let methods: Vec<_> = keys.into_iter().filter_map(shown).collect();
    let instance = rand::random::<u64>() | 1 << 40;
    let registration = impostor::registration_that_shows(instance, name, 1000, &[], &methods);
    Impostor::register(master, registration).await.expect("is taken in")
}

/// More than the buffers of a connection hold, to a node that reads nothing of it.
fn flood(client: &CornersClient, node: NodeId) -> Vec<impl Sized + use<>> {
    (0..400).map(|_| client.length(Bytes::from(vec![0; 50_000])).on(node).send()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_cancelled_amid_a_poll_sends_nothing_behind_its_answer() {
    let (cluster, client, _) = local(1, 1).await;
    let node = cluster.master().nodes()[0].id;
    for _ in 0..20 {
        let mut numbers = client.slow_polls();
        assert_eq!(soon("an item", numbers.next()).await, Some(Ok(0)));
        drop(numbers);
        until("it has ended", || at_rest(&cluster)).await;
    }
    // What the last one would send comes before this.
    assert_eq!(soon("a length", client.length(Bytes::from(vec![0; 100_000]))).await, Ok(100_000));
    assert_eq!(cluster.master().nodes()[0].id, node);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_read_after_their_calls_have_ended_grant_nothing() {
    let (cluster, in_process, _) = local(1, 2).await;
    let node = cluster.master().nodes()[0].id;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    let running = CornersClient::new(&elsewhere).sum(Streaming::new(stream::pending())).send();
    for client in [&in_process, &CornersClient::new(&elsewhere)] {
        // Far more than the frames that a peer may send about streams that have ended.
        let mut all: Vec<_> = (0..4000).map(|_| client.blocks(3, 16 * 1024 - 7).send()).collect();
        until("all have ended but one", || cluster.master().stats().queued == 0).await;
        for blocks in &mut all {
            while let Some(block) = soon("a block", blocks.next()).await {
                block.expect("is a block");
            }
        }
    }
    assert!(!running.is_finished());
    assert_eq!(cluster.master().nodes()[0].id, node);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_a_node_that_was_given_up_are_not_those_of_the_next_one() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let client = CornersClient::new(&master);
    let mut first = rogue(master.local_addr(), "first").await;
    let id = master.nodes()[0].id;
    let numbers = client.count(5).send();
    let (_, call, attempt) = request(&mut first).await;
    // Its connection is still driven while the goodbye waits to be written.
    let _flood = flood(&client, id);
    let server = CornersServer::new(Corner::default());
    let _second = Node::builder().slots(1).serve(server).spawn(master.local_addr()).await.expect("registers");
    master.kick(id).expect("is registered");
    first.send(&items(call, attempt, &[1, 0, 0, 0, 0, 1, 0, 0, 0, 1])).await;
    let numbers: Result<Vec<_>, _> = soon("all numbers", numbers.try_collect()).await;
    assert_eq!(numbers, Ok(vec![0, 1, 2, 3, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_sends_nothing_of_a_stream_that_goes_elsewhere_by_now() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let client = CornersClient::new(&master);
    let mut first = rogue(master.local_addr(), "first").await;
    let id = master.nodes()[0].id;
    let mut sum = client.sum(Streaming::new(stream::iter(0..u64::MAX))).retry_panics().send();
    let (number_of_request, call, attempt) = request(&mut first).await;
    let _flood = flood(&client, id);
    // Nothing of the stream can be written, so the call can be made again.
    let grant = |attempt| frame(kind::GRANT_ITEMS, &[number(call), number(attempt), number(65_536)].concat());
    first.send(&grant(attempt)).await;
    let mut second = rogue(master.local_addr(), "second").await;
    let panicked = [outcome::PANICKED, &text("oh")[..]].concat();
    first.send(&response(number_of_request, 1, &panicked, &[])).await;
    let again = tokio::select! {
        again = request(&mut second) => again,
        // Or something was written after all, and then it ends.
        end = &mut sum => {
            assert!(matches!(end, Err(CallError::Panicked { .. })), "{end:?}");
            return;
        }
    };
    assert_eq!((again.1, again.2), (call, 2));
    second.send(&grant(2)).await;
    second.receive(kind::ITEMS).await;
    // Now the first one reads, to the end of its connection.
    master.kick(id).expect("is registered");
    let mut sent = Vec::new();
    soon("the end of the connection", first.stream.read_to_end(&mut sent)).await.expect("reads");
    let mut left = &sent[..];
    while let Some(([a, b, c, d, kind_of_frame], rest)) = left.split_first_chunk().map(|(head, rest)| (*head, rest)) {
        assert_ne!(kind_of_frame, kind::ITEMS, "it gets items of another attempt");
        left = rest.get(u32::from_le_bytes([a, b, c, d]) as usize..).unwrap_or_default();
    }
    assert!(sent.len() > 100_000, "it was behind by {} bytes", sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_was_not_read_goes_to_the_next_attempt() {
    let (_cluster, client, _) = local(2, 1).await;
    for values in [Streaming::from_iter(0..10), Streaming::new(stream::iter(0..10))] {
        assert_eq!(soon("the sum", client.sum_at_second(values).retry_panics()).await, Ok(45));
    }
}

#[test]
fn calls_that_wait_take_no_threads_for_their_streams() {
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(4).enable_all().build();
    runtime.expect("starts").block_on(async {
        let (cluster, client, corner) = local(2, 1).await;
        let [busy, idle] = cluster.nodes() else { panic!("two nodes") };
        let hold = client.hold().on(busy.id()).send();
        until("it runs", || cluster.master().nodes().iter().any(|node| node.in_flight == 1)).await;
        let waiting: Vec<_> = (0..8).map(|_| client.sum(Streaming::from_iter(0..10)).on(busy.id()).send()).collect();
        assert_eq!(soon("the sum", client.sum(Streaming::from_iter(0..10)).on(idle.id())).await, Ok(45));
        corner.is_released.store(true, Ordering::Relaxed);
        assert_eq!(soon("the handler", hold).await, Ok(()));
        for sum in waiting {
            assert_eq!(soon("the sum", sum).await, Ok(45));
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_item_that_waits_for_memory_is_not_lost_when_its_call_ends() {
    const MIB: u64 = 1 << 20;
    let limit = 64 * MIB as usize;
    let master = Master::builder().max_message_size(limit).bind("127.0.0.1:0").await.expect("binds");
    let (client, corner) = (CornersClient::new(&master), Corner::default());
    let node = Node::builder().slots(2).max_message_size(limit).serve(CornersServer::new(corner.clone()));
    let _node = node.spawn(master.local_addr()).await.expect("registers");
    // Others reserve nearly all of the memory of the connection, and do not go on.
    let mut others: Vec<_> = (0..5).map(|_| client.blocks(1, 62 * MIB)).collect();
    let mut blocks = client.blocks_held(40, 2 * MIB);
    for _ in 0..39 {
        assert_eq!(
            soon("a block", blocks.try_next()).await.expect("is a block").map(|block| block.len()),
            Some(2 << 20)
        );
    }
    for other in &mut others {
        let mut next = Box::pin(other.next());
        for _ in 0..100 {
            if poll!(&mut next).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    corner.is_released.store(true, Ordering::Relaxed);
    assert_eq!(
        soon("the last one", blocks.try_next()).await.expect("is a block").map(|block| block.len()),
        Some(2 << 20)
    );
    assert_eq!(soon("the end", blocks.try_next()).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_although_more_of_them_wait_than_handlers_may() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let client = CornersClient::new(&master);
    let node = Node::builder().slots(2).max_waiting_handlers(10).serve(CornersServer::new(Corner::default()));
    let _node = node.spawn(master.local_addr()).await.expect("registers");
    let mut stalled: Vec<_> = (0..12).map(|_| client.count(u64::MAX).send()).collect();
    for numbers in &mut stalled {
        for expected in 0..50_000 {
            assert_eq!(soon("a number", numbers.next()).await, Some(Ok(expected)));
        }
    }
}
