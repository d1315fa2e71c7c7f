//! Peers that have registered, or been registered at, and do not behave.

mod admission;
mod batch_frames;
mod capture;
mod catalogues;
mod decoding;
mod frames;
mod heartbeats;
mod logs;
mod poison;

use std::time::Duration;

use distribution::{
    CallError, Events, Master, Node, NodeEvent,
    error::{Execution, GoneReason},
};
use distribution_tests::{
    Chain, LONG, ProbeClient, ProbeServer, Prober, failure,
    impostor::{
        Impostor, addr_bytes, begin, chunks, frame, heartbeat, kind, number, outcome, request, request_with_metadata,
        response, signed, text,
    },
    log::Log,
    process::{Process, example},
    soon,
};
use futures::StreamExt;
use tokio::{io::AsyncWriteExt, net::TcpListener};

const ADD: (&str, &str) = ("add", "fn(i64, i64) -> i64");
const LENGTH: (&str, &str) = ("length", "fn(Vec<u8>) -> u64");

async fn master() -> (Master, ProbeClient) {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    (master, probe)
}

/// Waits for a node to go, and says why it did.
async fn gone(events: &mut Events) -> GoneReason {
    soon("a node to go", async {
        loop {
            if let NodeEvent::Gone { reason, .. } = events.next().await.expect("the master lives") {
                return reason;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_frame_that_does_not_end_ends_its_connection() {
    let master = Master::builder().read_timeout(Duration::from_millis(500)).bind("127.0.0.1:0").await.expect("binds");
    let mut events = master.events();
    let mut peer = Impostor::node(master.local_addr(), "slow", &[]).await.expect("is taken in");
    let drip = async {
        peer.send(&[0, 1, 0, 0, kind::RESPONSE]).await;
        // Each byte counts as life, so silence is not what ends it.
        while peer.stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (reason, ()) = tokio::join!(gone(&mut events), async {
        let _ = tokio::time::timeout(LONG, drip).await;
    });
    assert!(matches!(&reason, GoneReason::Violation(what) if what.contains("neither finishes it")), "{reason}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up_with_what_it_has() {
    let master = Master::builder().write_timeout(Duration::from_millis(500)).bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let mut events = master.events();
    let mut peer = Impostor::node(master.local_addr(), "deaf", &[LENGTH]).await.expect("is taken in");
    // More than the sockets on the way take.
    let calls: Vec<_> = (0..3).map(|_| probe.length(vec![0; 32_000_000]).send()).collect();
    // It takes the first large message that comes, and reads nothing of it.
    peer.receive(kind::BEGIN).await;
    peer.send(&frame(kind::ACCEPT, &number(0))).await;
    let beat = async {
        while peer.stream.write_all(&heartbeat([0; 5])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (reason, ()) = tokio::join!(gone(&mut events), async {
        let _ = tokio::time::timeout(LONG, beat).await;
    });
    assert!(matches!(&reason, GoneReason::Violation(what) if what.contains("does not read")), "{reason}");
    // The one that was being written was never whole, so it waits for a better node as the others do.
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    for result in soon("the calls", futures::future::join_all(calls)).await {
        assert_eq!(result, Ok(32_000_000));
    }
}

#[tokio::test]
async fn a_call_that_its_node_has_half_of_goes_to_another() {
    let (master, probe) = master().await;
    let mut peer = Impostor::node(master.local_addr(), "half", &[LENGTH]).await.expect("is taken in");
    // More than the sockets on the way take, and not idempotent.
    let call = probe.length(vec![0; 32_000_000]).send();
    peer.receive_large(16_000_000).await;
    drop(peer);
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let answer = soon("the call", call.answer()).await.expect("answers");
    // The node that never had it all is not counted.
    assert_eq!((answer.value, answer.attempts), (32_000_000, 1));
}

#[tokio::test]
async fn a_call_that_its_node_has_to_the_last_byte_may_have_run() {
    let (master, probe) = master().await;
    let mut peer = Impostor::node(master.local_addr(), "all", &[LENGTH]).await.expect("is taken in");
    let call = probe.length(vec![0; 32_000_000]).send();
    peer.receive_large(usize::MAX).await;
    drop(peer);
    let error = failure(soon("the call", call).await);
    assert_eq!(error.execution(), Execution::MayHaveRun, "{error:?}");
}

#[tokio::test]
async fn a_call_that_ends_while_it_is_written_is_abandoned_and_was_not_run() {
    let (master, probe) = master().await;
    let mut peer = Impostor::node(master.local_addr(), "late", &[LENGTH, ADD]).await.expect("is taken in");
    let begun = async |peer: &mut Impostor| peer.receive_large(100_000).await.0;
    // A timeout that passes while the node reads no more of it.
    let call = probe.length(vec![0; 32_000_000]).timeout(Duration::from_millis(500)).send();
    let first = begun(&mut peer).await;
    let error = failure(soon("the call", call).await);
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::NotRun, "{error:?}");
    assert_eq!(peer.receive(kind::ABANDON).await, number(first.into()));
    // All that came before was read: half a MiB, because the master waits for that.
    peer.send(&frame(kind::CONSUMED, &number(1 << 19))).await;
    // One that is dropped.
    let call = probe.length(vec![0; 32_000_000]).send();
    let second = begun(&mut peer).await;
    drop(call);
    let (kind, body) = peer.receive_one_of(&[kind::ABANDON, kind::CANCEL]).await;
    assert_eq!((kind, body), (kind::ABANDON, number(second.into())), "there is nothing to cancel");
    // The slot is free.
    let next = probe.add(20, 22).send();
    let id = peer.receive_request().await;
    peer.send(&response(id, 1, outcome::VALUE, &signed(42))).await;
    assert_eq!(soon("the call", next).await, Ok(42));
}

#[tokio::test]
async fn a_node_that_dies_under_many_calls_is_worth_a_few_lines() {
    let (log, _guard) = Log::gather();
    let (master, probe) = master().await;
    let mut events = master.events();
    let hold = ("hold_again", "fn(SocketAddr, String) -> Held");
    let mut peer = Impostor::node_with_slots(master.local_addr(), "crowded", 100, &[hold]).await.expect("is taken in");
    let nowhere = ([127, 0, 0, 1], 1).into();
    // As many as a newcomer gets.
    let calls: Vec<_> = (0..16).map(|_| probe.hold_again(nowhere, String::new()).send()).collect();
    for _ in 0..16 {
        peer.receive_request().await;
    }
    #[allow(deprecated, reason = "blocks only with a linger time above zero")]
    peer.stream.set_linger(Some(Duration::ZERO)).expect("is set");
    drop(peer);
    assert!(matches!(gone(&mut events).await, GoneReason::Disconnected));
    drop(calls);
    let text = log.text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!((1..5).contains(&warnings.len()), "{} lines, such as {:?}", warnings.len(), &warnings[..3]);
    assert!(warnings[0].contains("crowded"), "{warnings:?}");
}

#[tokio::test]
async fn a_reset_under_a_call_loses_the_node_and_says_so() {
    let (master, probe) = master().await;
    let mut peer = Impostor::node(master.local_addr(), "reset", &[ADD]).await.expect("is taken in");
    let call = probe.add(1, 1).send();
    peer.receive_request().await;
    // With unread bytes or without: closing now sends a reset instead of an end.
    #[allow(deprecated, reason = "blocks only with a linger time above zero")]
    peer.stream.set_linger(Some(Duration::ZERO)).expect("is set");
    drop(peer);
    let error = failure(soon("the call", call).await);
    assert!(matches!(&error, CallError::NodeLost { reason: GoneReason::Disconnected, .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::MayHaveRun);
}

#[tokio::test]
async fn an_answer_counts_although_the_connection_ends_with_it() {
    let (master, probe) = master().await;
    for _ in 0..20 {
        let mut peer = Impostor::node(master.local_addr(), "brief", &[ADD]).await.expect("is taken in");
        let call = probe.add(20, 22).send();
        let id = peer.receive_request().await;
        peer.send(&response(id, 1, outcome::VALUE, &signed(42))).await;
        drop(peer);
        assert_eq!(soon("the call", call).await, Ok(42));
        soon("the node to be gone", async {
            while !master.nodes().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_comes_slowly_is_waited_for() {
    let master = Master::builder().heartbeat(Duration::from_millis(50)).bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let mut peer = Impostor::node(master.local_addr(), "slow", &[("bytes", "fn(u64) -> Vec<u8>")]).await.expect("in");
    let call = probe.bytes(40).send();
    let id = peer.receive_request().await;
    // Takes over twice as long as a silent node has, and no heartbeat can come in between.
    for byte in response(id, 1, outcome::VALUE, &[number(40), vec![7; 40]].concat()) {
        peer.send(&[byte]).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(soon("the call", call).await, Ok(vec![7; 40]));
}

#[tokio::test]
async fn a_call_that_one_node_will_not_take_goes_to_another() {
    let (master, probe) = master().await;
    let mut peer = Impostor::node(master.local_addr(), "busy", &[ADD]).await.expect("is taken in");
    let call = probe.add(1, 1).answer();
    let serve = async {
        let id = peer.receive_request().await;
        let node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
        peer.send(&response(id, 0, outcome::REFUSED_BUSY, &[])).await;
        node
    };
    let (answer, node) = soon("the call", async { tokio::join!(call, serve) }).await;
    let answer = answer.expect("answers");
    // The attempt that was refused did not run, and is not counted.
    assert_eq!((answer.value, answer.node.id, answer.attempts), (2, node.id(), 1));
}

#[tokio::test]
async fn lies_harm_the_liar_alone() {
    let (master, probe) = master().await;
    let mut peer = Impostor::node(master.local_addr(), "liar", &[ADD]).await.expect("is taken in");
    let call = probe.add(1, 1).send();
    let id = peer.receive_request().await;
    let max = u64::from(u32::MAX);
    let lies = [
        heartbeat([max; 5]),
        response(id + 1000, 1, outcome::VALUE, &signed(3)),
        response(id, u64::MAX, outcome::VALUE, &signed(2)),
        response(id, u64::MAX, outcome::VALUE, &signed(9)),
        heartbeat([0, 0, 0, max, 0]),
    ];
    peer.send(&lies.concat()).await;
    let answer = soon("the call", call.answer()).await.expect("answers");
    assert_eq!(answer.value, 2);
    // It says that all its slots are taken, and so it gets nothing, while others do.
    let node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    for _ in 0..50 {
        assert_eq!(probe.add(1, 1).answer().await.expect("answers").node.id, node.id());
    }
    assert_eq!(master.nodes().len(), 2, "the liar is still there");
    let stats = master.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.failed), (0, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn what_a_peer_says_can_forge_no_line() {
    let (master, probe) = master().await;
    for name in ["two\nlines", "clear\x1b[2J", "abc\u{202e}fed", "a\u{2028}b", "", &"x".repeat(10_000)] {
        let refused = Impostor::node(master.local_addr(), name, &[ADD]).await.expect_err("is refused");
        assert!(refused.contains("name"), "{refused}");
    }
    let mut peer = Impostor::node(master.local_addr(), "evil", &[ADD]).await.expect("is taken in");
    let call = probe.add(1, 1).send();
    let id = peer.receive_request().await;
    let message = format!("\x1b[2J\r\u{202e}{}", "x".repeat(6_000));
    peer.send(&response(id, 1, outcome::PANICKED, &text(&message))).await;
    let error = failure(soon("the call", call).await);
    let CallError::Panicked { message, .. } = &error else { panic!("{error:?}") };
    assert!(message.starts_with("\\u{1b}[2J\\r\\u{202e}xxx"), "{error}");
    assert!(message.len() < 5_000, "cut: {}", message.len());
}

#[tokio::test]
async fn what_a_master_says_can_forge_no_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound").to_string();
    // A process, so that it is all that it shows.
    let mut node = Process::start(&example("arith"), &["node", "--master", &addr]);
    for for_good in [0, 1] {
        let mut master = Impostor::master_that_hears(&listener).await;
        let reason = format!("no\x1b[2J\nWARN forged \u{202e}{}", "x".repeat(6_000));
        master.send_answer(&[&number(1), &text(&reason), &[for_good][..]].concat()).await;
    }
    assert!(!node.ended().await.success());
    let log = node.log().await;
    let times = log.matches("no\\u{1b}[2J\\nWARN forged \\u{202e}xxx").count();
    assert!(times >= 3, "both refusals and the error at the end: {log}");
    assert!(log.lines().all(|line| !line.starts_with("WARN forged") && line.len() < 5_000), "{log}");
    assert!(!log.contains('\u{202e}') && !log.contains("\x1b[2J"), "{log}");
}

#[tokio::test]
async fn a_master_that_breaks_the_rules_gets_each_request_answered_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound");
    let node = tokio::spawn(Node::builder().serve(ProbeServer::new(Prober)).slots(1).spawn(addr));
    let mut master = Impostor::master(&listener, Duration::from_secs(1), LONG).await;
    let _node = node.await.expect("runs").expect("registers");
    let arguments = [signed(20), signed(22)].concat();
    let value = |value| [outcome::VALUE, &signed(value)].concat();

    // A deadline beyond all time, and one that has passed.
    master.send(&request(1, 1, Some(u64::MAX), ADD, &arguments)).await;
    assert_eq!(master.receive_response().await, (1, value(42)));
    master.send(&request(2, 2, Some(0), ADD, &arguments)).await;
    assert_eq!(master.receive_response().await, (2, vec![3, 4]), "refused, because it is stopped");
    // No such method, arguments that are none, too few, and too many.
    master.send(&request(3, 3, None, ("add", "fn() -> ()"), &arguments)).await;
    assert_eq!(master.receive_response().await, (3, vec![3, 0]));
    for bytes in [&[][..], &[255; 4], &arguments[..1], &[&arguments[..], &[0]].concat()] {
        master.send(&request(4, 4, None, ADD, bytes)).await;
        let (id, outcome) = master.receive_response().await;
        assert_eq!((id, &outcome[..2]), (4, &[3, 3][..]), "refused, because it cannot be decoded");
    }
    // Metadata that no caller could have set.
    for entries in [&[("k", "1"), ("k", "2")][..], &[("k", "\n")], &[("k", &*"v".repeat(1025))], &[("", "")]] {
        master.send(&request_with_metadata(8, 8, ADD, entries, &arguments)).await;
        let (id, outcome) = master.receive_response().await;
        assert_eq!((id, &outcome[..2]), (8, &[3, 3][..]), "refused: {entries:?}");
    }
    master.send(&request_with_metadata(8, 8, ADD, &[("k", "v")], &arguments)).await;
    assert_eq!(master.receive_response().await, (8, value(42)));
    // A handler that sees that its time is over returns something, which must not count as the value.
    let mut meeting = distribution_tests::meeting::Meeting::new().await;
    let place = |tag| [vec![0], addr_bytes(meeting.addr()), text(tag)].concat();
    let hold = ("hold", "fn(SocketAddr, String) -> Held");
    master.send(&request(9, 9, Some(1_000_000), hold, &place("late"))).await;
    assert_eq!(master.receive_response().await, (9, vec![6]), "stopped");
    // Cancels what is not there.
    master.send(&frame(kind::CANCEL, &[number(u64::MAX), number(1)].concat())).await;
    // The same request twice at once, and the same call twice at once: the second is not run.
    let place = place("held");
    master.send(&request(5, 5, None, hold, &place)).await;
    let guest = meeting.guest("held").await;
    master.send(&request(5, 6, None, ADD, &arguments)).await;
    master.send(&request(6, 5, None, hold, &place)).await;
    assert_eq!(master.receive_response().await, (6, vec![3, 1]), "refused, because it is there already");
    guest.release().await;
    assert_eq!(master.receive_response().await, (5, vec![0, 0]));
    master.send(&request(7, 7, None, ADD, &arguments)).await;
    assert_eq!(master.receive_response().await, (7, value(42)));
}

const CHAIN: (&str, &str) = ("chain", "fn(Chain) -> Chain");
const CHAIN_ASYNC: (&str, &str) = ("chain_async", "fn(Chain) -> Chain");
const MARKS: (&str, &str) = ("marks", "fn(Vec<()>) -> Vec<()>");

/// A length that needs eight bytes.
fn long(length: u64) -> Vec<u8> {
    [&[253][..], &length.to_le_bytes()].concat()
}

#[tokio::test]
async fn answers_that_would_take_all_stack_or_memory_are_errors_of_their_calls_alone() {
    let (master, probe) = master().await;
    let mut peer = Impostor::node(master.local_addr(), "deep", &[CHAIN, MARKS]).await.expect("is taken in");
    let call = probe.chain(Chain::new(3)).send();
    let id = peer.receive_request().await;
    peer.send(&response(id, 1, outcome::VALUE, &[1; 15_000])).await;
    let error = failure(soon("the call", call).await);
    assert_eq!(error.execution(), Execution::Ran, "{error:?}");
    let CallError::Decode { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("nested more than 128 levels deep"), "{source}");

    let call = probe.marks(vec![(); 3]).send();
    let id = peer.receive_request().await;
    peer.send(&response(id, 1, outcome::VALUE, &long(1 << 62))).await;
    let error = failure(soon("the call", call).await);
    let CallError::Decode { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("bytes of memory"), "{source}");
    assert_eq!(master.nodes().len(), 1, "it may be a fault of the method's, and not of the node");
}

#[tokio::test]
async fn arguments_that_would_take_all_stack_or_memory_are_refused_by_the_node() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("bound");
    let node = tokio::spawn(Node::builder().serve(ProbeServer::new(Prober)).slots(1).spawn(addr));
    let mut master = Impostor::master(&listener, Duration::from_secs(1), LONG).await;
    let _node = node.await.expect("runs").expect("registers");
    let mut number = 0;
    // The last is so large that it is decoded elsewhere.
    for (method, arguments) in [
        (CHAIN, vec![1; 15_000]),
        (CHAIN_ASYNC, vec![1; 15_000]),
        (MARKS, long(1 << 62)),
        (CHAIN_ASYNC, vec![1; 1_000_000]),
    ] {
        number += 1;
        let request = request(number, number, None, method, &arguments);
        let frames = match &request[5..] {
            body if body.len() > 1 << 16 => [begin(0, body.len() as u64), chunks(0, body)].concat(),
            _ => request,
        };
        master.send(&frames).await;
        let (id, outcome) = master.receive_response().await;
        assert_eq!((id, &outcome[..2]), (number, &[3, 3][..]), "refused, because it cannot be decoded");
    }
    number += 1;
    master.send(&request(number, number, None, CHAIN_ASYNC, &[1, 1, 0])).await;
    assert_eq!(master.receive_response().await, (number, vec![0, 1, 1, 0]));
}

#[tokio::test]
async fn a_value_that_is_nested_too_deeply_is_an_error_before_anything_is_sent() {
    let (master, probe) = master().await;
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    assert_eq!(probe.chain(Chain::new(64)).await, Ok(Chain::new(64)));
    assert_eq!(probe.chain_async(Chain::new(64)).await, Ok(Chain::new(64)));
    let error = failure(probe.chain(Chain::new(65)).await);
    assert_eq!(error.execution(), Execution::NotRun, "{error:?}");
    let CallError::Encode { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("nested more than 128 levels deep"), "{source}");
}

#[tokio::test]
async fn either_end_has_its_own_limit_of_depth() {
    let master = Master::builder().max_depth(300).bind("127.0.0.1:0").await.expect("binds");
    let probe = ProbeClient::new(&master);
    let node = |levels| Node::builder().serve(ProbeServer::new(Prober)).max_depth(levels).spawn(master.local_addr());
    let narrow = node(40).await.expect("registers");
    assert_eq!(probe.chain(Chain::new(20)).await, Ok(Chain::new(20)));
    let error = failure(probe.chain(Chain::new(21)).await);
    assert_eq!(error.execution(), Execution::NotRun, "{error:?}");
    let CallError::Decode { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("nested more than 40 levels deep"), "{source}");
    narrow.drain().await;
    let _wide = node(300).await.expect("registers");
    assert_eq!(probe.chain(Chain::new(150)).await, Ok(Chain::new(150)));
    assert!(matches!(failure(probe.chain(Chain::new(151)).await), CallError::Encode { .. }));
    for levels in [0, 513] {
        let error = node(levels).await.expect_err("cannot be set").to_string();
        assert!(error.contains("max_depth"), "{error}");
    }
}
