//! Streams between two connections, and what a peer that breaks the rules of streams is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{window::FIRST_CREDIT, *};
use crate::wire::{frame::kind::Control, handshake::StreamShape, incoming_memory::IncomingMemory};

mod offers;

const KEY: StreamKey = (7, 1);
const WHOLE: StreamShape = StreamShape { items: true, argument: true };

/// A connection that notes what it is told.
#[derive(Debug, Default)]
struct Told {
    table: StreamTable,
    lines: Mutex<Vec<String>>,
    contended_since: Mutex<Option<Instant>>,
}

impl Told {
    fn new() -> (Arc<Self>, Arc<dyn StreamPeer>) {
        let told = Arc::new(Self::default());
        (Arc::clone(&told), told)
    }

    fn note(&self, line: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// What it was told since the last look.
    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that can be written now: bytes, and the end of a stream.
    fn write(&self) -> (Vec<u8>, Option<(u64, bool)>) {
        let (mut parts, mut end) = (VecDeque::new(), None);
        while let Some(piece) = self.table.take_piece(LARGEST_PIECE, &mut parts) {
            assert!(piece.length <= LARGEST_PIECE);
            assert_eq!(end, None, "nothing comes behind the end");
            end = piece.end;
        }
        (parts.iter().flatten().copied().collect(), end)
    }
}

const LARGEST_PIECE: usize = 64 * 1024;

impl StreamPeer for Told {
    fn grant(&self, key: StreamKey, upto: u64) {
        self.table.grant(key, upto, || self.note(format!("grant {upto}")));
    }

    fn tell_stopped(&self, _: StreamKey) {
        self.note("stop".to_owned());
    }

    fn on_waiting(&self, more: i64) {
        self.table.on_waiting(more);
    }

    fn on_ready(&self, key: StreamKey, stream: Arc<dyn StreamToSend>) {
        self.table.push_ready(key, stream);
    }

    fn lend_window(&self, bytes: u64) -> bool {
        self.table.lend(bytes)
    }

    fn contended_since(&self) -> Option<Instant> {
        *self.contended_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn return_window(&self, bytes: u64) {
        self.table.give_back(bytes);
    }

    fn item_memory(&self, largest: usize) -> Arc<IncomingMemory> {
        self.table.item_memory(largest)
    }
}

fn put(pipe: &Arc<ItemPipe>, bytes: &[u8]) {
    pipe.put_item(|parts| parts.copy(bytes));
}

fn room(pipe: &ItemPipe) -> Poll<Result<(), Closed>> {
    pipe.poll_room(&mut Context::from_waker(Waker::noop()))
}

fn take(pipe: &ItemPipe) -> (Vec<u8>, Poll<Taken>) {
    let mut bytes = VecDeque::new();
    let taken = pipe.poll_take(&mut Context::from_waker(Waker::noop()), &mut bytes);
    (bytes.iter().flatten().copied().collect(), taken)
}

/// The items of a call that come over a connection to this process.
fn incoming() -> (Arc<Told>, CallStreams) {
    let (told, peer) = Told::new();
    let streams = CallStreams::new(WHOLE);
    told.table.open_at_caller(&peer, KEY, &streams);
    (told, streams)
}

/// A call that a master passes on: from a caller's connection to a node's.
fn relay() -> (Arc<Told>, Arc<Told>, CallStreams) {
    let ((caller, caller_peer), (node, node_peer)) = (Told::new(), Told::new());
    let streams = CallStreams::new(WHOLE);
    caller.table.open_at_handler(&caller_peer, KEY, &streams);
    node.table.open_at_caller(&node_peer, KEY, &streams);
    (caller, node, streams)
}

#[test]
fn a_peer_that_breaks_the_rules_of_streams_is_told_which() {
    let bytes = |length: u64| Bytes::from(vec![0; length as usize]);
    let refused = |result: Result<(), String>, expected: &str| {
        let error = result.expect_err(expected);
        assert!(error.contains(expected), "{error}");
    };
    let (told, _) = incoming();
    refused(told.table.on_items((8, 1), bytes(1)), "items of call 8, which has no stream");
    refused(told.table.on_items((7, 2), bytes(1)), "items of call 7, which has no stream");
    refused(told.table.on_items(KEY, bytes(0)), "without bytes");
    assert_eq!(told.table.on_items(KEY, bytes(FIRST_CREDIT)), Ok(()));
    refused(told.table.on_items(KEY, bytes(1)), "more of a stream than it was granted");
    assert_eq!(told.table.close(KEY), None);
    refused(told.table.on_items(KEY, bytes(1)), "or none any more");
    // The consumer of an argument.
    let (told, streams) = incoming();
    let argument = streams.argument.as_ref().expect("has one");
    assert!(room(argument).is_pending(), "an argument has no credit before its handler has begun");
    refused(told.table.on_granted(KEY, 0).map(drop), "had granted as many before");
    assert_eq!(told.table.on_granted(KEY, 100), Ok(Known::Yes));
    refused(told.table.on_granted(KEY, 100).map(drop), "had granted as many before");
    refused(told.table.on_granted(KEY, 99).map(drop), "had granted as many before");
    for upto in [1 << 63, u64::MAX] {
        refused(told.table.on_granted(KEY, upto).map(drop), "far more than an item may have");
    }
    assert_eq!(told.table.on_granted((8, 1), 1), Ok(Known::No));
    assert_eq!(told.table.on_stopped((8, 1)), Known::No);
    // The producer of an argument.
    let (caller, _, streams) = relay();
    assert_eq!(caller.table.on_end((8, 1), 0, true), Ok(Known::No));
    refused(caller.table.on_items(KEY, bytes(1)), "more of a stream than it was granted");
    refused(caller.table.on_end(KEY, 1, true).map(drop), "ended a stream with 1 bytes, and had sent 0");
    assert_eq!(streams.argument.map(|pipe| pipe.put()), Some(0));
    let (caller, _, _) = relay();
    assert_eq!(caller.table.on_end(KEY, 0, true), Ok(Known::Yes));
    refused(caller.table.on_items(KEY, bytes(1)), "which has no stream, or none any more");
    assert_eq!(caller.table.on_end(KEY, 0, true), Ok(Known::No));
}

#[test]
fn items_pass_a_relay_as_far_as_the_consumer_has_granted() {
    let (caller, node, _) = relay();
    let first = vec![1; FIRST_CREDIT as usize];
    node.table.on_items(KEY, first.clone().into()).expect("is granted");
    assert_eq!(caller.write(), (first, None));
    assert!(node.lines().is_empty(), "its credit is the consumer's");
    caller.table.on_granted(KEY, FIRST_CREDIT + 3).expect("may be granted");
    assert_eq!(node.lines(), [format!("grant {}", FIRST_CREDIT + 3)]);
    node.table.on_items(KEY, Bytes::from_static(b"abc")).expect("is granted");
    assert!(node.table.on_items(KEY, Bytes::from_static(b"d")).is_err());
    assert_eq!(caller.write(), (b"abc".to_vec(), None));
}

#[test]
fn a_relay_holds_a_bounded_number_of_bytes_whatever_its_consumer_grants() {
    let (caller, node, _) = relay();
    caller.table.on_granted(KEY, 4 << 30).expect("may be granted");
    let credit: u64 = node.lines()[0].trim_start_matches("grant ").parse().expect("a number");
    assert_eq!(credit, 64 << 20);
    node.table.on_items(KEY, vec![0; credit as usize].into()).expect("is granted");
    assert!(node.lines().is_empty(), "the consumer does not read");
    assert_eq!(caller.write().0.len() as u64, credit);
    assert!(node.lines().last().is_some_and(|line| *line == format!("grant {}", 2 * credit)));
}

#[test]
fn a_connection_knows_how_much_of_others_waits_for_it() {
    let (caller, node, streams) = relay();
    node.table.on_items(KEY, vec![0; 1000].into()).expect("is granted");
    assert_eq!(caller.table.waiting(), 1000);
    // It waits also when the call has ended at the node.
    node.table.close(KEY);
    assert_eq!((caller.table.waiting(), node.table.waiting()), (1000, 0));
    caller.write();
    assert_eq!(caller.table.waiting(), 0);
    let (caller, node, others) = relay();
    node.table.on_items(KEY, vec![0; 1000].into()).expect("is granted");
    others.stop();
    assert_eq!(caller.table.waiting(), 0);
    let (caller, node, dropped) = relay();
    node.table.on_items(KEY, vec![0; 1000].into()).expect("is granted");
    caller.table.forget();
    node.table.forget();
    drop((dropped, others, streams));
    assert_eq!(caller.table.waiting(), 0);
}

#[test]
fn an_argument_passes_a_relay_with_its_end() {
    let (caller, node, _) = relay();
    assert_eq!(node.write(), (Vec::new(), None));
    node.table.on_granted(KEY, 2).expect("may be granted");
    assert_eq!(caller.lines(), ["grant 2"]);
    caller.table.on_items(KEY, Bytes::from_static(b"ab")).expect("is granted");
    node.table.on_granted(KEY, 10).expect("may be granted");
    caller.table.on_items(KEY, Bytes::from_static(b"c")).expect("is granted");
    caller.table.on_end(KEY, 3, true).expect("is the end");
    assert_eq!(node.write(), (b"abc".to_vec(), Some((3, true))));
    assert_eq!(node.table.close(KEY), None, "it was told");
}

#[test]
fn an_empty_argument_ends_when_its_handler_has_begun_and_not_before() {
    let (caller, node, _) = relay();
    caller.table.on_end(KEY, 0, true).expect("is the end");
    assert_eq!(node.write(), (Vec::new(), None), "the handler may not be there yet");
    node.table.on_granted(KEY, 10).expect("may be granted");
    assert_eq!(node.write(), (Vec::new(), Some((0, true))));
}

#[test]
fn a_handler_that_wants_no_more_stops_the_producer_and_is_told_the_end() {
    let (caller, node, _) = relay();
    node.table.on_granted(KEY, 10).expect("may be granted");
    caller.table.on_items(KEY, Bytes::from_static(b"abc")).expect("is granted");
    assert_eq!(node.write(), (b"abc".to_vec(), None));
    caller.lines();
    assert_eq!(node.table.on_stopped(KEY), Known::Yes);
    assert_eq!(caller.lines(), ["stop"]);
    assert_eq!(node.write(), (Vec::new(), Some((3, false))));
    // What was on its way is dropped, and counts.
    caller.table.on_items(KEY, Bytes::from_static(b"defg")).expect("is granted");
    assert!(caller.table.on_items(KEY, Bytes::from_static(b"hijk")).is_err());
    caller.table.on_end(KEY, 7, false).expect("is the end");
    assert_eq!(node.write(), (Vec::new(), None));
}

#[test]
fn each_stream_of_arguments_that_was_granted_anything_is_told_its_end_once() {
    let (_, node, _) = relay();
    assert_eq!(node.table.close(KEY), None, "the handler never began");
    let (caller, node, _) = relay();
    node.table.on_granted(KEY, 10).expect("may be granted");
    let end = Control::EndItems { call: 7, attempt: 1, length: 0, is_whole: false };
    assert_eq!(node.table.close(KEY), Some(end));
    assert_eq!(node.table.close(KEY), None);
    // The other way: the call is over, and the producer is told, and says when it has stopped.
    caller.lines();
    assert_eq!(caller.table.close(KEY), None);
    assert_eq!(caller.lines(), ["stop"]);
    caller.table.on_items(KEY, Bytes::from_static(b"abc")).expect("it did not know");
    assert_eq!(caller.table.on_end(KEY, 3, false), Ok(Known::Yes));
    assert!(caller.table.on_items(KEY, Bytes::from_static(b"d")).is_err());
}

#[test]
fn a_peer_that_never_ends_its_streams_breaks_the_protocol() {
    let (told, peer) = Told::new();
    for call in 0..=64 * 1024 {
        assert!(!told.table.has_too_many_unended(), "{call}");
        let streams = CallStreams::new(StreamShape { items: false, argument: true });
        told.table.open_at_handler(&peer, (call, 1), &streams);
        streams.argument.expect("has one").on_consumed(0);
        told.table.close((call, 1));
    }
    assert!(told.table.has_too_many_unended());
}

#[test]
fn a_broken_connection_ends_handlers_and_leaves_the_rest_to_the_calls() {
    let (told, peer) = Told::new();
    let streams = CallStreams::new(WHOLE);
    told.table.open_at_handler(&peer, KEY, &streams);
    let (items, argument) = (streams.items.as_ref().expect("has"), streams.argument.as_ref().expect("has"));
    told.table.break_off();
    assert_eq!(room(items), Poll::Ready(Err(Closed)));
    assert_eq!(take(argument), (Vec::new(), Poll::Ready(Taken::Broken)), "this is not the end");
    assert!(streams.are_broken());
    let late = CallStreams::new(WHOLE);
    told.table.open_at_handler(&peer, KEY, &late);
    assert!(late.are_broken(), "the connection has ended");
    let (told, streams) = incoming();
    told.table.on_items(KEY, Bytes::from_static(b"abc")).expect("is granted");
    told.table.forget();
    assert!(!streams.are_broken());
    let items = streams.items.as_ref().expect("has");
    assert_eq!(take(items), (b"abc".to_vec(), Poll::Ready(Taken::Bytes)), "what has come is there");
    assert!(take(items).1.is_pending());
}

#[test]
fn a_producer_has_room_for_one_item_beyond_its_credit() {
    let pipe = ItemPipe::new(StreamRole::Items);
    assert!(room(&pipe).is_ready());
    put(&pipe, &vec![0; FIRST_CREDIT as usize - 1]);
    assert!(room(&pipe).is_ready());
    put(&pipe, b"ab");
    assert!(room(&pipe).is_pending());
    pipe.stop();
    assert_eq!(room(&pipe), Poll::Ready(Err(Closed)));
}

#[test]
fn streams_of_a_connection_take_turns_and_none_sends_more_than_a_piece_at_once() {
    let (told, peer) = Told::new();
    let all: Vec<_> = (0..3).map(|_| CallStreams::new(StreamShape { items: true, argument: false })).collect();
    for (call, streams) in (0..).zip(&all) {
        told.table.open_at_handler(&peer, (call, 1), streams);
        let items = streams.items.as_ref().expect("has");
        put(items, &vec![0; FIRST_CREDIT as usize]);
    }
    let mut order = Vec::new();
    while let Some(piece) = told.table.take_piece(LARGEST_PIECE / 2, &mut VecDeque::new()) {
        assert_eq!(piece.length, LARGEST_PIECE / 2);
        order.push(piece.key.0);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn windows_of_a_connection_grow_together_to_a_limit() {
    let (told, _) = incoming();
    let mut lent = 0_u64;
    while told.table.lend(1 << 20) {
        lent += 1 << 20;
    }
    assert_eq!(lent, 128 << 20);
    told.table.give_back(1 << 20);
    assert!(told.table.lend(1 << 20));
}
