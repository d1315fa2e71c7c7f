//! Arguments that stay at their caller until the master fetches them.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use super::*;
use crate::wire::{payload::Payload, send_permit::SendPermit};

/// A call that may be given up before it begins.
#[derive(Debug, Default)]
struct Permit {
    is_given_up: AtomicBool,
    begun: AtomicU32,
}

impl SendPermit for Permit {
    fn may_begin(&self, _: u32) -> bool {
        !self.is_given_up.load(Ordering::Relaxed)
    }

    fn begin(&self, attempt: u32) -> bool {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.may_begin(attempt)
    }

    fn complete(&self, _: u32) -> bool {
        true
    }
}

/// Arguments that are passed on from a caller to a node: both ends of the caller's connection, and that to the node.
struct Passing {
    caller: Arc<Told>,
    master: Arc<Told>,
    node: Arc<Told>,
    pipe: Arc<ItemPipe>,
    permit: Arc<Permit>,
    length: u64,
}

const FIRST_FETCH: StreamKey = (KEY.0, FETCHED);
const MOST_BUFFERED: u64 = 100_000;
/// Must come in a while, while others wait.
const LEAST: u64 = 50_000;

impl Passing {
    fn new(length: u64) -> Self {
        let ((caller, _), (master, _), (node, _)) = (Told::new(), Told::new(), Told::new());
        let permit = Arc::new(Permit::default());
        let bytes: Bytes = (0..length).map(|at| (at / 3) as u8).collect();
        caller.table.offer(KEY.0, Payload::from(bytes), Some(Arc::clone(&permit) as _));
        let pipe = ItemPipe::new(StreamRole::Argument);
        let mut passing = Self { caller, master, node, pipe, permit, length };
        passing.fetch(FIRST_FETCH);
        passing
    }

    /// Fetches them under this key, and the node is ready for all of them.
    fn fetch(&mut self, from: StreamKey) {
        self.pipe = ItemPipe::buffering(StreamRole::Argument, MOST_BUFFERED);
        let (node, master) = (Arc::clone(&self.node) as Arc<dyn StreamPeer>, Arc::clone(&self.master));
        self.pipe.attach_consumer(Arc::clone(&node), KEY);
        let owed = Owed::new(self.length, Contended::Connection(node), LEAST);
        self.master.table.fetch(&(master as _), from, &self.pipe, owed);
        self.pipe.on_granted(KEY, self.length).expect("may be granted");
    }

    /// Takes all that can be passed on to the node, as its connection does.
    fn pass_on(&self) -> (Vec<u8>, Option<(u64, bool)>) {
        let (mut parts, mut end) = (VecDeque::new(), None);
        while let Some(piece) = Arc::clone(&self.pipe).take_piece(KEY, LARGEST_PIECE, &mut parts) {
            end = piece.end;
            if end.is_some() {
                break;
            }
        }
        (parts.iter().flatten().copied().collect(), end)
    }

    /// Brings what the master has told to the caller.
    fn tell_caller(&self, (call, attempt): StreamKey) {
        for line in self.master.lines() {
            let control = match line.split_once(' ') {
                Some((_, upto)) => Control::GrantItems { call, attempt, upto: upto.parse().expect("a number") },
                None => Control::StopItems { call, attempt },
            };
            self.caller.table.on_control(&self.caller, &control).expect("is right");
        }
    }

    /// Brings what the caller writes to the master, as far as it may write. Returns the number of bytes.
    fn tell_master(&self) -> u64 {
        let mut came = 0;
        loop {
            let mut parts = VecDeque::new();
            let Some(piece) = self.caller.table.take_piece(LARGEST_PIECE, &mut parts) else { return came };
            assert_eq!(piece.permit.is_some(), piece.end.is_some_and(|(_, is_whole)| is_whole));
            came += piece.length as u64;
            for part in parts {
                self.master.table.on_items(piece.key, part).expect("is granted");
            }
            if let Some((length, is_whole)) = piece.end {
                assert_eq!(self.master.table.on_end(piece.key, length, is_whole), Ok(Known::Yes));
            }
        }
    }
}

#[test]
fn arguments_come_as_they_are_fetched_and_their_call_begins_with_the_last_of_them() {
    let passing = Passing::new(1_000_000);
    assert!(passing.master.table.owes());
    let (mut passed, mut end) = (Vec::new(), None);
    for _ in 0..1000 {
        assert_eq!(passing.permit.begun.load(Ordering::Relaxed), 0);
        passing.tell_caller(FIRST_FETCH);
        assert!(passing.tell_master() <= MOST_BUFFERED, "the master holds no more");
        let (bytes, last) = passing.pass_on();
        passed.extend(bytes);
        end = last;
        if end.is_some() {
            break;
        }
    }
    assert_eq!(end, Some((1_000_000, true)));
    assert!(passed.iter().enumerate().all(|(at, byte)| *byte == (at / 3) as u8));
    assert_eq!(passing.permit.begun.load(Ordering::Relaxed), 1);
    assert!(!passing.master.table.owes());
    // Nothing is left of it.
    passing.caller.table.withdraw_offer(KEY.0);
    assert_eq!((passing.caller.table.is_empty(), passing.master.table.is_empty()), (true, true));
}

#[test]
fn arguments_of_a_call_that_was_given_up_come_no_further() {
    let passing = Passing::new(1_000_000);
    passing.tell_caller(FIRST_FETCH);
    assert_eq!(passing.tell_master(), MOST_BUFFERED);
    passing.pass_on();
    passing.permit.is_given_up.store(true, Ordering::Relaxed);
    passing.tell_caller(FIRST_FETCH);
    assert_eq!(passing.tell_master(), 0);
    // The call ends at the master, and then at the caller.
    assert_eq!(passing.master.table.close(FIRST_FETCH), None);
    assert!(!passing.master.table.owes());
    passing.caller.table.withdraw_offer(KEY.0);
    passing.tell_caller(FIRST_FETCH);
    assert_eq!(passing.tell_master(), 0);
    assert_eq!((passing.caller.table.is_empty(), passing.master.table.is_empty()), (true, true));
    assert_eq!(passing.permit.begun.load(Ordering::Relaxed), 0);
}

#[test]
fn arguments_are_fetched_again_from_their_beginning() {
    let mut passing = Passing::new(300_000);
    passing.tell_caller(FIRST_FETCH);
    passing.tell_master();
    passing.pass_on();
    let again = (KEY.0, FETCHED + 1);
    let first = Arc::clone(&passing.pipe);
    let earlier = passing.master.lines();
    passing.fetch(again);
    passing.tell_caller(again);
    assert_eq!(passing.tell_master(), MOST_BUFFERED);
    // The first one still goes on at the master, but the caller sends nothing more of it.
    assert!(!earlier.is_empty());
    passing.master.lines.lock().expect("is whole").extend(earlier);
    passing.tell_caller(FIRST_FETCH);
    assert_eq!(passing.tell_master(), 0);
    passing.master.table.close(FIRST_FETCH);
    first.stop();
    passing.tell_caller(FIRST_FETCH);
    assert_eq!(passing.tell_master(), 0);
    for _ in 0..1000 {
        if passing.pass_on().1.is_some() {
            break;
        }
        passing.tell_caller(again);
        passing.tell_master();
    }
    assert_eq!(passing.pipe.put(), 300_000);
    passing.caller.table.withdraw_offer(KEY.0);
    assert_eq!((passing.caller.table.is_empty(), passing.master.table.is_empty()), (true, true));
}

#[test]
fn arguments_that_end_early_break_the_protocol() {
    for (sent, is_whole) in [(0, true), (0, false), (100, true), (100, false)] {
        let passing = Passing::new(1_000_000);
        if sent > 0 {
            passing.master.table.on_items(FIRST_FETCH, vec![0; sent as usize].into()).expect("is granted");
        }
        let error = passing.master.table.on_end(FIRST_FETCH, sent, is_whole).expect_err("is refused");
        assert!(error.contains("ended the arguments of call 7 before their end"), "{error}");
        assert!(!passing.master.table.owes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_holds_others_up_only_while_it_owes_bytes_and_others_wait() {
    let passing = Passing::new(1_000_000);
    let holds_up =
        |seconds| passing.master.table.holds_others_up(|since| since.elapsed() >= Duration::from_secs(seconds));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(!holds_up(1), "nobody waits");
    *passing.node.contended_since.lock().expect("is whole") = Some(Instant::now());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!([holds_up(3), holds_up(4)], [true, false]);
    passing.tell_caller(FIRST_FETCH);
    passing.tell_master();
    assert!(!holds_up(0), "it has sent what was granted, and waits for the node");
    passing.pass_on();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!([holds_up(2), holds_up(3)], [true, false], "since it was granted more");
}
