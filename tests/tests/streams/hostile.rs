//! Peers that break the rules of streams, or take their time with them.

use std::{net::SocketAddr, sync::atomic::Ordering};

use distribution::{CallError, Cluster, Master, Node, NodeEvent, Streaming, error::GoneReason, fuzzing};
use distribution_tests::{
    event, failure,
    impostor::{self, Impostor, Shown, frame, kind, number, outcome, response, take_number},
    rogue_caller::{RogueCaller, declare, kind as caller_kind},
    soon, until,
};
use futures::stream;

use super::service::{Source, StreamsClient, StreamsServer, local};

/// A method of `Streams` as a node shows it.
fn shown(name: &str, streams: [u8; 2]) -> Shown {
    let keys = fuzzing::method_ids(StreamsServer::new(Source::default())).expect("each method is there once");
    let key = keys.into_iter().find(|key| key.name == name).expect("is a method");
    let id = fuzzing::method_id("Streams", 1, &key.name, &key.signature, key.types);
    let fuzzing::MethodKey { name, signature, types, .. } = key;
    Shown { id, service: "Streams".to_owned(), name, signature, types, streams }
}

/// A node that serves the two methods and does as the test wants.
async fn node(master: SocketAddr, name: &str) -> Impostor {
    let methods = [shown("count", [1, 0]), shown("sum_waiting", [0, 1])];
    let registration = impostor::registration_that_shows(rand::random::<u64>() | 1 << 40, name, 1, &[], &methods);
    Impostor::register(master, registration).await.expect("is taken in")
}

/// The next request: its number, and its call and attempt.
pub(crate) async fn request(node: &mut Impostor) -> (u64, u64, u64) {
    let body = node.receive(kind::REQUEST).await;
    let mut body = &body[..];
    let [request, _, call, attempt] = std::array::from_fn(|_| take_number(&mut body));
    (request, call, attempt)
}

pub(crate) fn items(call: u64, attempt: u64, bytes: &[u8]) -> Vec<u8> {
    frame(kind::ITEMS, &[&call.to_le_bytes()[..], &(attempt as u32).to_le_bytes(), bytes].concat())
}

/// An item of the number 5.
const FIVE: &[u8] = &[1, 0, 0, 0, 5];

#[tokio::test]
async fn a_node_that_breaks_the_rules_of_streams_is_disconnected_and_its_call_lost() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let streams = StreamsClient::new(&master);
    let window = FIVE.repeat(12_000);
    type Frames = Box<dyn Fn(u64, u64) -> Vec<u8>>;
    let cases: Vec<(&str, Frames)> = vec![
        (
            "more of a stream than it was granted",
            Box::new(move |call, attempt| items(call, attempt, &window).repeat(2)),
        ),
        ("without bytes", Box::new(|call, attempt| items(call, attempt, &[]))),
        ("without saying of which call", Box::new(|_, _| frame(kind::ITEMS, &[0; 11]))),
        ("has no stream", Box::new(|call, attempt| items(call + 1, attempt, FIVE))),
        ("has no stream", Box::new(|call, attempt| items(call, attempt + 1, FIVE))),
        (
            "announced a frame",
            Box::new(|_, _| {
                let mut long = frame(kind::ITEMS, &[0; 12]);
                long[..4].copy_from_slice(&(u32::MAX).to_le_bytes());
                long
            }),
        ),
        (
            "end items",
            Box::new(|call, attempt| {
                frame(kind::END_ITEMS, &[number(call), number(attempt), number(0), vec![1]].concat())
            }),
        ),
        (
            "frames about streams that have ended",
            Box::new(|_, _| frame(kind::GRANT_ITEMS, &[number(99), number(1), number(5)].concat()).repeat(10_001)),
        ),
    ];
    for (expected, frames) in cases {
        let mut node = node(master.local_addr(), "rogue").await;
        let mut numbers = streams.count(3).send();
        let (_, call, attempt) = request(&mut node).await;
        node.send(&frames(call, attempt)).await;
        let gone = event(&mut events, "the node is gone", |event| matches!(event, NodeEvent::Gone { .. })).await;
        let NodeEvent::Gone { reason: GoneReason::Violation(why), .. } = gone else { panic!("{expected}: {gone:?}") };
        assert!(why.contains(expected), "{expected}: {why}");
        let mut last = None;
        while let Some(item) = soon("the end", numbers.next()).await {
            last = Some(item);
        }
        assert!(matches!(last, Some(Err(CallError::NodeLost { .. }))), "{expected}: {last:?}");
    }
}

#[tokio::test]
async fn what_a_node_claims_of_a_stream_is_not_taken_for_its_end_or_an_item() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let streams = StreamsClient::new(&master);
    let mut node = node(master.local_addr(), "rogue").await;
    let value = |request, length: u64| response(request, 1, outcome::VALUE, &number(length));
    // It says that there were more bytes than have come, or fewer.
    for claimed in [9, 4] {
        let mut numbers = streams.count(3).send();
        let (request, call, attempt) = request(&mut node).await;
        node.send(&[items(call, attempt, FIVE), value(request, claimed)].concat()).await;
        assert_eq!(soon("an item", numbers.next()).await, Some(Ok(5)));
        let error = soon("the end", numbers.next()).await.expect("is not the end").expect_err("is not whole");
        assert!(error.to_string().contains(&format!("sent {claimed} bytes of items, of which 5 have come")), "{error}");
    }
    // An item that cannot be decoded, one with bytes left over, and one that is larger than any may be.
    for (item, expected) in [
        (vec![1, 0, 0, 0, 255], "could not be decoded"),
        (vec![2, 0, 0, 0, 5, 5], "could not be decoded"),
        (vec![0, 0, 0, 0], "could not be decoded"),
        (vec![255, 255, 255, 255], "is too large"),
    ] {
        let mut numbers = streams.count(3).send();
        let (request, call, attempt) = request(&mut node).await;
        node.send(&items(call, attempt, &item)).await;
        let error = soon("the end", numbers.next()).await.expect("is not the end").expect_err("is not a number");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(numbers.next().await, None);
        drop(numbers);
        // The call is cancelled.
        node.receive(kind::CANCEL).await;
        node.send(&value(request, 0)).await;
    }
    // It refuses a call of which it has sent an item: the call is not made again.
    let mut numbers = streams.count(3).send();
    let (request, call, attempt) = request(&mut node).await;
    let refused = response(request, 1, outcome::REFUSED_BUSY, &[]);
    node.send(&[items(call, attempt, FIVE), refused].concat()).await;
    assert_eq!(soon("an item", numbers.next()).await, Some(Ok(5)));
    let error = soon("the end", numbers.next()).await.expect("is not the end").expect_err("was refused");
    assert!(matches!(error, CallError::NodeLost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_ends_without_the_end_of_a_stream_ends_it_with_an_error() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let streams = StreamsClient::new(&master);
    let mut node = node(master.local_addr(), "rogue").await;
    let mut numbers = streams.count(1).send();
    let (_, call, attempt) = request(&mut node).await;
    node.send(&items(call, attempt, FIVE)).await;
    assert_eq!(soon("an item", numbers.next()).await, Some(Ok(5)));
    drop(node);
    let error = soon("the end", numbers.next()).await.expect("is not the end").expect_err("is not whole");
    assert!(matches!(error, CallError::NodeLost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_that_grants_nothing_holds_its_own_call_and_no_other() {
    let (cluster, streams, _) = local(1).await;
    let mut node = node(cluster.master().local_addr(), "rogue").await;
    let rogue = cluster.master().nodes().iter().find(|node| &*node.name == "rogue").expect("is there").id;
    let waits = streams.sum_waiting(Streaming::new(stream::iter(0..10))).on(rogue).send();
    let (_, call, attempt) = request(&mut node).await;
    assert_eq!(soon("a sum", streams.add(1, 2)).await, Ok(3));
    drop(waits);
    node.receive(kind::CANCEL).await;
    // A grant crosses the cancel: the end is told all the same, so that both ends forget the stream.
    node.send(&frame(kind::GRANT_ITEMS, &[number(call), number(attempt), number(65_536)].concat())).await;
    let end = node.receive(kind::END_ITEMS).await;
    assert_eq!(end, [number(call), number(attempt), number(0), vec![0]].concat());
}

#[tokio::test]
async fn a_caller_that_breaks_the_rules_of_streams_is_disconnected_and_told_why() {
    let (cluster, streams, notes) = local(1).await;
    type Frames = Box<dyn Fn(u64) -> Vec<u8>>;
    let cases: Vec<(&str, Frames)> = vec![
        ("more of a stream than it was granted", Box::new(|call| items(call, 1, &vec![0; 65_536]).repeat(2))),
        ("has no stream", Box::new(|call| items(call + 1, 1, FIVE))),
        (
            "ended a stream with 9 bytes",
            Box::new(|call| frame(kind::END_ITEMS, &[number(call), number(1), number(9), vec![1]].concat())),
        ),
        (
            "had granted as many before",
            Box::new(|call| frame(kind::GRANT_ITEMS, &[number(call), number(1), number(0)].concat())),
        ),
        (
            "far more than an item may have",
            Box::new(|call| frame(kind::GRANT_ITEMS, &[number(call), number(1), number(1 << 63)].concat())),
        ),
        ("stop items", Box::new(|call| frame(kind::STOP_ITEMS, &[number(call), number(1)].concat()))),
    ];
    for (expected, frames) in cases {
        let mut caller = RogueCaller::connect(cluster.master().local_addr(), "rogue").await;
        let method = shown("doubled_waiting", [1, 1]);
        let id = method.id;
        let call = caller.first;
        // As `rogue_caller::call`, of a method of this service.
        let head = [number(1), number(0), number(id), number(call), number(1)].concat();
        let request = frame(caller_kind::REQUEST, &[&head[..], &[0; 4], &[0], &[0; 5], &[0], &[0], &[0]].concat());
        caller.peer.send(&[declare(&method), request].concat()).await;
        // Its handler has begun.
        caller.peer.receive(kind::GRANT_ITEMS).await;
        caller.peer.send(&frames(call)).await;
        let said = caller.peer.receive(kind::GOODBYE).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains(expected), "{expected}: {said}");
        caller.closed().await;
    }
    until("nothing is left", || cluster.master().nodes().iter().all(|node| node.in_flight == 0)).await;
    assert_eq!(soon("a sum", streams.add(1, 2)).await, Ok(3));
    let _ = notes.made.load(Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_begun_and_dropped_in_quick_turn_leave_nothing_behind() {
    let (cluster, streams, notes) = local(2).await;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    for streams in [&streams, &StreamsClient::new(&elsewhere)] {
        for round in 0..2000_u64 {
            let values = Streaming::new(stream::iter(0..u64::MAX));
            let numbers = match round % 3 {
                0 => streams.count(u64::MAX).send(),
                1 => streams.count_waiting(u64::MAX).send(),
                _ => streams.doubled(values).send(),
            };
            drop(numbers);
        }
        until("all have ended", || {
            notes.running() == 0 && cluster.master().nodes().iter().all(|node| node.in_flight == 0)
        })
        .await;
        assert_eq!(soon("a sum", streams.add(1, 2)).await, Ok(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_stalled_streams_hold_up_nobody() {
    let (cluster, streams, notes) = local(2).await;
    let elsewhere = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    let elsewhere = StreamsClient::new(&elsewhere);
    let mut stalled = Vec::new();
    for at in 0..1000 {
        let streams = if at % 2 == 0 { &streams } else { &elsewhere };
        stalled.push(match at % 4 {
            0 | 1 => streams.count_waiting(u64::MAX).send(),
            _ => streams.count(u64::MAX).send(),
        });
    }
    until("all have begun", || notes.running() == 1000).await;
    for streams in [&streams, &elsewhere] {
        assert_eq!(soon("a sum", streams.add(1, 2)).await, Ok(3));
        assert_eq!(soon("numbers", streams.count(1000).try_collect::<Vec<_>>()).await.map(|all| all.len()), Ok(1000));
    }
    for numbers in &mut stalled {
        assert_eq!(soon("an item", numbers.next()).await, Some(Ok(0)));
    }
    drop(stalled);
    until("all were dropped", || notes.running() == 0).await;
}

#[tokio::test]
async fn a_method_that_is_a_stream_for_its_caller_only_is_not_called() {
    // The signature is another one, so no node serves it.
    let master = Master::builder().no_node_timeout(std::time::Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    let _node = Node::spawn(master.local_addr(), other::StreamsServer::new(other::Whole)).await.expect("registers");
    let streams = StreamsClient::new(&master);
    let error = soon("the end", streams.count(3).next()).await.expect("is not the end").expect_err("is not served");
    assert!(error.to_string().contains("`fn(u64) -> Stream<u64>` here"), "{error}");
    let error = failure(soon("the sum", streams.sum(1, Streaming::from_iter([1]))).await);
    assert!(matches!(error, CallError::Incompatible { .. }), "{error:?}");
}

mod other {
    /// As `Streams`, without streams.
    #[distribution::service]
    pub(super) trait Streams {
        fn count(&self, end: u64) -> Vec<u64>;
        fn sum(&self, first: u64, values: Vec<u64>) -> u64;
    }

    pub(super) struct Whole;

    impl Streams for Whole {
        fn count(&self, end: u64) -> Vec<u64> {
            (0..end).collect()
        }

        fn sum(&self, first: u64, values: Vec<u64>) -> u64 {
            first + values.iter().sum::<u64>()
        }
    }
}
