//! Callers that break the rules of the wire, and a master that does: each connection is closed with the true reason, and
//! nobody else notices.

use std::{net::SocketAddr, time::Duration};

use distribution::{CallError, CallFilter, CallId, Cluster, Master, Node, error::Execution};
use distribution_tests::{
    ProbeClient, ProbeServer, Prober, failure,
    impostor::{Impostor, Shown, addr_bytes, frame, number, signed, text},
    log::Log,
    meeting::Meeting,
    rogue_caller::{Named, RogueCaller, call, call_with_metadata, declare, end, kind, nested_call, rogue_master},
    soon, until,
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

const ADD: Named = ("add", "fn(i64, i64) -> i64");
const HOLD: Named = ("hold", "fn(SocketAddr, String) -> Held");

fn shown((name, signature): Named) -> Shown {
    Shown::of_probe(name, signature)
}

fn one_and_two() -> Vec<u8> {
    [signed(1), signed(2)].concat()
}

/// A watch of a method that nobody serves.
fn watch(watch: u64) -> Vec<u8> {
    frame(kind::WATCH, &[number(watch), number(7), number(0)].concat())
}

async fn cluster(heartbeat: Duration) -> (Master, Node, Cluster) {
    let master = Master::builder().heartbeat(heartbeat).bind("127.0.0.1:0").await.expect("binds");
    let node = Node::builder().slots(1).serve(ProbeServer::new(Prober)).spawn(master.local_addr()).await;
    let cluster = Cluster::builder().name("bystander").connect(master.local_addr()).await.expect("connects");
    (master, node.expect("registers"), cluster)
}

type Wrong = fn(u64) -> Vec<u8>;

#[tokio::test]
async fn a_caller_that_breaks_the_protocol_is_cut_off_alone_and_told_why() {
    let (log, _guard) = Log::gather();
    let (master, _node, bystander) = cluster(Duration::from_millis(200)).await;
    let probe = ProbeClient::new(&bystander);
    let cases: [(&str, Wrong, &str); 27] = [
        ("a node's heartbeat", |_| frame(4, &[0; 5]), "a `heartbeat` frame, which its end"),
        ("a node's response", |_| frame(2, &[1, 0]), "a `response` frame, which its end"),
        ("a master's request", |_| frame(1, &[1, 0]), "a `request` frame, which its end"),
        ("a response to itself", |_| frame(kind::RESPONSE, &[1, 2]), "a `response to a caller` frame, which its end"),
        ("a capacity", |_| frame(kind::CAPACITY, &[0; 5]), "a `capacity` frame, which its end"),
        ("a kind that nobody knows", |_| frame(77, b""), "kind 77, which this release does not know"),
        ("a frame of 4 GiB", |_| vec![255, 255, 255, 255, kind::REQUEST], "announced a frame of 4294967295 bytes"),
        ("a long control frame", |_| vec![0, 0, 1, 0, kind::DECLARE], "a `declare` frame of 65536 bytes"),
        ("more confirmed than was sent", |_| frame(kind::RECEIVED, &number(1)), "confirmed 1 responses"),
        (
            "as much confirmed as can be said",
            |_| frame(kind::RECEIVED, &number(u64::MAX)),
            "was sent fewer or had confirmed more",
        ),
        (
            "twice that it has asked for all",
            |_| frame(kind::ASKED_AGAIN, b"").repeat(2),
            "said twice that it had asked for all earlier calls",
        ),
        ("a request that is none", |_| frame(kind::REQUEST, &[255, 255]), "broke the protocol"),
        ("a call of an unknown method", |first| call(1, first, 1, ADD, 0, b""), "a method that it had not declared"),
        (
            "another's number",
            |first| [declare(&shown(ADD)), call(1, first ^ (1 << 41), 1, ADD, 0, b"")].concat(),
            "not numbers that it was given",
        ),
        ("no calls", |first| [declare(&shown(ADD)), call(1, first, 0, ADD, 0, b"")].concat(), "0 calls from number"),
        (
            "numbers that reach into another's",
            |first| [declare(&shown(ADD)), call(1, first + (1 << 40) - 1, 2, ADD, 0, &[0; 8])].concat(),
            "not numbers that it was given",
        ),
        (
            "a number twice",
            |first| [declare(&shown(HOLD)), [1, 2].map(|id| call(id, first, 1, HOLD, 0, b"")).concat()].concat(),
            "another call with the number",
        ),
        (
            "a number twice in a batch",
            |first| {
                let batch = call(1, first, 10, ADD, 0, &[0; 40]);
                [declare(&shown(ADD)), batch, call(2, first + 9, 1, ADD, 0, b"")].concat()
            },
            "another call with the number",
        ),
        (
            "more calls than arguments",
            |first| [declare(&shown(ADD)), call(1, first, 1_000_000, ADD, 0, &[0; 40])].concat(),
            "40 bytes as the arguments of 1000000 calls",
        ),
        (
            "too many labels",
            |first| [declare(&shown(ADD)), call(1, first, 1, ADD, 65, b"")].concat(),
            "more than 64 labels, or 4096 bytes of them",
        ),
        (
            "too much metadata",
            |first| {
                let entries: Vec<_> = (0..17).map(|n| format!("{n:02}")).collect();
                let entries: Vec<_> = entries.iter().map(|key| (&**key, "")).collect();
                [declare(&shown(ADD)), call_with_metadata(first, ADD, &entries, &one_and_two())].concat()
            },
            "at most 16 entries of metadata",
        ),
        (
            "metadata that forges a line of the log",
            |first| {
                let entries = [("k", "a\nforged")];
                [declare(&shown(ADD)), call_with_metadata(first, ADD, &entries, &one_and_two())].concat()
            },
            "no line breaks, control or invisible characters",
        ),
        (
            "a key of metadata twice",
            |first| {
                let entries = [("k", "1"), ("k", "2")];
                [declare(&shown(ADD)), call_with_metadata(first, ADD, &entries, &one_and_two())].concat()
            },
            "keys are in order, and each is there once",
        ),
        ("too many watches", |_| (0..257).flat_map(watch).collect(), "watches more than 256 methods"),
        (
            "endless heartbeats",
            |_| frame(kind::HEARTBEAT, b"").repeat(1000),
            "heartbeats more often than the agreed one every 100ms",
        ),
        (
            "a declaration whose id is another method's",
            |_| declare(&Shown { id: shown(HOLD).id, ..shown(ADD) }),
            "the id of Probe.add is not that of its name",
        ),
        (
            "a name that forges a line of the log",
            |_| declare(&Shown { name: "add\nforged".to_owned(), ..shown(ADD) }),
            "no control or invisible characters",
        ),
    ];
    for (what, wrong, reason) in cases {
        let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
        rogue.peer.send(&wrong(rogue.first)).await;
        let told = String::from_utf8_lossy(&rogue.peer.receive(8).await).into_owned();
        assert!(told.contains("the caller broke the protocol"), "{what}: {told}");
        rogue.closed().await;
        let text = log.text();
        let line = text.lines().rfind(|line| line.contains("broke the protocol")).expect(what);
        assert!(line.contains(reason) && line.contains("caller=\"rogue\""), "{what}: {line}");
        assert_eq!(probe.add(1, 2).await, Ok(3), "{what}");
    }
    assert!(!log.text().contains("lost the master"), "the bystander kept its connection: {}", log.text());
    assert_eq!(master.nodes().len(), 1);
    assert_eq!(master.nodes()[0].in_flight, 0, "nothing is left of their calls");
}

#[tokio::test]
async fn half_a_frame_and_silence_end_a_caller() {
    let (log, _guard) = Log::gather();
    let (master, _node, bystander) = cluster(Duration::from_millis(50)).await;
    for bytes in [&[9, 0, 0, 0, kind::REQUEST, 1][..], &[]] {
        let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
        rogue.peer.send(bytes).await;
        rogue.closed().await;
    }
    let text = log.text();
    assert_eq!(text.matches("reason=was silent for 0.").count(), 2, "{text}");
    assert_eq!(ProbeClient::new(&bystander).add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn a_caller_may_cancel_and_detach_calls_that_are_not_its_own() {
    let (master, _node, bystander) = cluster(Duration::from_secs(1)).await;
    let probe = ProbeClient::new(&bystander);
    let mut meeting = Meeting::new().await;
    let held = probe.hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    let theirs = held.id().expect("was sent");
    let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
    let strange = [rogue.first, rogue.first + 1, 0, u64::MAX, theirs.to_string().len() as u64];
    for call in strange {
        rogue.peer.send(&frame(kind::CANCEL, &number(call))).await;
        rogue.peer.send(&frame(kind::DETACH, &number(call))).await;
    }
    // All numbers of the bystander so far, whatever they begin with.
    let prefix =
        u64::from_str_radix(theirs.to_string().split('-').next().expect("has one"), 16).expect("is hexadecimal");
    for call in 0..10 {
        rogue.peer.send(&frame(kind::CANCEL, &number((prefix << 40) + call))).await;
    }
    rogue.peer.send(&[declare(&shown(ADD)), call(7, rogue.first, 1, ADD, 0, &one_and_two())].concat()).await;
    guest.release().await;
    assert_eq!(soon("the bystander's call", held).await, Ok(distribution_tests::Held::Released));
    let (request, how, rest) = rogue.response().await;
    assert_eq!((request, how, rest.last()), (7, end::ANSWERED, signed(3).last()));
}

/// A call's number as the wire has it.
fn number_of(id: CallId) -> u64 {
    let id = id.to_string();
    let prefix = u64::from_str_radix(id.split('-').next().expect("has one"), 16).expect("is hexadecimal");
    (prefix << 40) + id.split('-').nth(1).and_then(|count| count.parse::<u64>().ok()).expect("counts")
}

#[tokio::test]
async fn nested_calls_are_taken_of_registered_nodes_only_and_as_parts_of_calls_that_they_run() {
    let (master, _node, bystander) = cluster(Duration::from_secs(1)).await;
    let mut meeting = Meeting::new().await;
    let held = ProbeClient::new(&bystander).hold(meeting.addr(), "held".to_owned()).send();
    let guest = meeting.guest("held").await;
    let parent = number_of(held.id().expect("was sent"));

    let refused = RogueCaller::connect_for_node(master.local_addr(), 7).await.expect_err("no such node is registered");
    assert!(refused.contains("its node is not registered"), "{refused}");
    // A node that runs nothing claims that its call is a part of one that another node runs.
    let process = 1 << 40 | 7;
    let _idle = Impostor::node_of_process(master.local_addr(), process, "idle", &[]).await.expect("registers");
    let mut rogue = RogueCaller::connect_for_node(master.local_addr(), process).await.expect("its node is registered");
    rogue.peer.send(&declare(&shown(ADD))).await;
    rogue.peer.send(&nested_call(1, rogue.first, parent, ADD, &one_and_two())).await;
    let (request, how, _) = rogue.response().await;
    assert_eq!((request, how, master.stats().answered), (1, end::FAILED, 0), "it was not run");
    // What a caller that is not a node says of a parent is not believed.
    let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
    rogue.peer.send(&declare(&shown(HOLD))).await;
    let arguments = [vec![0], addr_bytes(meeting.addr()), text("held")].concat();
    rogue.peer.send(&nested_call(1, rogue.first, parent, HOLD, &arguments)).await;
    until("both are listed", || master.calls(CallFilter::default()).calls.len() == 2).await;
    assert!(master.calls(CallFilter::default()).calls.iter().all(|call| call.parent.is_none()));
    guest.release().await;
    assert_eq!(soon("the call", held).await, Ok(distribution_tests::Held::Released));
}

#[tokio::test]
async fn the_number_of_a_cancelled_call_cannot_be_used_while_a_node_runs_it() {
    let (log, _guard) = Log::gather();
    let (master, _node, bystander) = cluster(Duration::from_secs(1)).await;
    let mut meeting = Meeting::new().await;
    let at: SocketAddr = meeting.addr();
    let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
    let arguments = [vec![0], addr_bytes(at), text("held")].concat();
    rogue.peer.send(&[declare(&shown(HOLD)), call(1, rogue.first, 1, HOLD, 0, &arguments)].concat()).await;
    let guest = meeting.guest("held").await;
    rogue.peer.send(&frame(kind::CANCEL, &number(rogue.first))).await;
    let (request, how, _) = rogue.response().await;
    assert_eq!((request, how), (1, end::FAILED));
    rogue.peer.send(&call(2, rogue.first, 1, HOLD, 0, &arguments)).await;
    rogue.closed().await;
    assert!(log.text().contains("another call with the number"), "{}", log.text());
    soon("the handler notices", guest.gone()).await;
    assert_eq!(soon("the slot", ProbeClient::new(&bystander).add(1, 2)).await, Ok(3));
    until("the books are right", || master.nodes()[0].in_flight == 0).await;
}

#[tokio::test]
async fn a_caller_that_confirms_nothing_may_make_no_more_calls_until_it_does() {
    const MOST: u64 = 327_680;
    let master = Master::builder().heartbeat(Duration::from_secs(60)).max_queued_calls_per_caller(0);
    let master = master.bind("127.0.0.1:0").await.expect("binds");
    let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
    let first = rogue.first;
    // No node has the label, and no call may wait. So each ends at once.
    let next = |number: u64| call(number, first + number, 1, ADD, 1, &one_and_two());
    // An error holds the limit as a number: that of the queue is 0.
    let limit_of_session = number(MOST);
    let is_limit_of_session = |error: &[u8]| error.windows(limit_of_session.len()).any(|part| part == limit_of_session);
    rogue.peer.send(&declare(&shown(ADD))).await;
    for from in (0..MOST).step_by(1024) {
        rogue.peer.send(&(from..from + 1024).flat_map(next).collect::<Vec<_>>()).await;
        for _ in 0..1024 {
            let (number, how, error) = rogue.response().await;
            assert!(how == end::FAILED && !is_limit_of_session(&error), "call {number}");
        }
    }
    rogue.peer.send(&next(MOST)).await;
    let (_, how, error) = rogue.response().await;
    assert!(how == end::FAILED && is_limit_of_session(&error), "{error:?}");
    rogue.peer.send(&[frame(kind::RECEIVED, &number(1)), next(MOST)].concat()).await;
    let (_, how, error) = rogue.response().await;
    assert!(how == end::FAILED && !is_limit_of_session(&error), "there is room for one: {error:?}");
    assert_eq!(master.callers().len(), 1, "its session goes on");
}

#[tokio::test]
async fn a_master_that_breaks_the_protocol_ends_the_calls_with_the_true_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let addr = listener.local_addr().expect("has one");
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("a request for a node", frame(1, &[1, 0]), "a `request` frame, which its end"),
        ("a caller's request", frame(kind::REQUEST, &[1, 0]), "a `caller's request` frame, which its end"),
        ("a grant", frame(12, &[1, 1, 1]), "a `grant` frame, which its end"),
        ("a caller's heartbeat", frame(kind::HEARTBEAT, b""), "a `caller's heartbeat` frame, which its end"),
        ("a kind that nobody knows", frame(77, b""), "kind 77, which this release does not know"),
        ("a frame of 4 GiB", vec![255, 255, 255, 255, kind::RESPONSE], "announced a frame of 4294967295 bytes"),
        ("a response that is none", frame(kind::RESPONSE, &[255, 255]), "header cannot be decoded"),
        (
            "a call that is given back",
            frame(10, &[number(7 << 40), number(0), number(5)].concat()),
            "all but 5 of 1 calls",
        ),
        ("half a frame", vec![9, 0, 0, 0, kind::RESPONSE], "the connection ended inside a frame"),
    ];
    for (what, wrong, expected) in cases {
        let connect = Cluster::builder().reconnect_timeout(Duration::ZERO).connect(addr);
        let (cluster, mut master) = tokio::join!(connect, rogue_master(&listener, 7 << 40, Duration::from_secs(60)));
        let cluster = cluster.expect(what);
        let call = ProbeClient::new(&cluster).add(1, 2).send();
        master.receive(kind::REQUEST).await;
        master.send(&wrong).await;
        if what == "half a frame" {
            // Not closed: then what it has not read would make a reset of the end.
            master.stream.shutdown().await.expect("ends its half");
        }
        let error = failure(soon(what, call).await);
        let CallError::MasterLost { reason, execution, .. } = &error else { panic!("{what}: {error:?}") };
        assert!(reason.contains(expected), "{what}: {reason}");
        assert_eq!(*execution, Execution::MayHaveRun, "{what}");
        until("the connection is closed", || !cluster.is_connected()).await;
    }
}

#[tokio::test]
async fn a_master_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let connect = Cluster::builder().reconnect_timeout(Duration::ZERO).connect(listener.local_addr().expect("has one"));
    let (cluster, mut master) = tokio::join!(connect, rogue_master(&listener, 7 << 40, Duration::from_millis(100)));
    let cluster = cluster.expect("connects");
    let call = ProbeClient::new(&cluster).add(1, 2).send();
    master.receive(kind::REQUEST).await;
    let error = failure(soon("the call", call).await);
    assert!(matches!(&error, CallError::MasterLost { reason, .. } if reason.contains("silent for 0.")), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_one_ends_its_call_and_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let connect = Cluster::connect(listener.local_addr().expect("has one"));
    let (cluster, mut master) = tokio::join!(connect, rogue_master(&listener, 7 << 40, Duration::from_secs(60)));
    let cluster = cluster.expect("connects");
    let probe = ProbeClient::new(&cluster);
    let node = [number(5), text("n")].concat();
    let cases = [
        (number(end::NODES), "answered a call with a list of nodes"),
        (number(end::NOT_RECEIVED), "said later that it had not"),
        ([number(end::FAILED), number(0), vec![255; 9]].concat(), "cannot be read"),
        // The value is none.
        ([&[0, 0, 1][..], &node, &[0, 1, 1, 1, 255, 255]].concat(), "could not be decoded"),
    ];
    for (end, expected) in cases {
        let (wrong, right) = (probe.add(1, 2).send(), probe.add(3, 4).send());
        let mut ids = Vec::new();
        for _ in 0..2 {
            let request = master.receive(kind::REQUEST).await;
            ids.push(distribution_tests::impostor::take_number(&mut &request[..]));
        }
        master.send(&frame(kind::RESPONSE, &[number(ids[0]), end].concat())).await;
        let error = failure(soon("the wrong answer", wrong).await);
        assert!(error.to_string().contains(expected), "{error}");
        let value = [&number(ids[1])[..], &[0, 0, 1], &node, &[0, 1, 1, 1], &signed(7)].concat();
        // An answer for nobody is ignored.
        master.send(&frame(kind::RESPONSE, &[&number(99)[..], &[2]].concat())).await;
        master.send(&frame(kind::RESPONSE, &value)).await;
        assert_eq!(soon("the right answer", right).await, Ok(7));
    }
    assert!(cluster.is_connected());
}

#[tokio::test]
async fn a_batch_with_arguments_that_are_none_costs_its_caller_only() {
    let (master, _node, bystander) = cluster(Duration::from_secs(1)).await;
    let mut rogue = RogueCaller::connect(master.local_addr(), "rogue").await;
    let right = [&(one_and_two().len() as u32).to_le_bytes()[..], &one_and_two()].concat();
    let cases = [
        (right.repeat(3), 3),
        // A length beyond the end, and arguments that are none.
        ([&right[..], &[255, 255, 255, 255, 1], &[0; 3]].concat(), 3),
        ([&right[..], &[2, 0, 0, 0, 255, 255], &[0; 4]].concat(), 3),
    ];
    rogue.peer.send(&declare(&shown(ADD))).await;
    for (request, (arguments, count)) in (1..).zip(cases) {
        let first = rogue.first + 10 * request;
        rogue.peer.send(&call(request, first, count, ADD, 0, &arguments)).await;
        let (answered, how, _) = rogue.response().await;
        assert_eq!((answered, how), (request, end::ANSWERED));
        assert_eq!(ProbeClient::new(&bystander).add(1, 2).await, Ok(3));
    }
    assert_eq!(master.nodes().len(), 1, "the node kept its connection");
}
