//! Large messages between both ends of a connection: beside small ones, when memory is short, and when they are given up.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future::poll_fn};
use tarpc::{ClientMessage, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::{
    CallerAtMasterTransport, MasterTransport, NodeTransport, OnControl, OutgoingCallerReply, OutgoingReply,
    OutgoingRequest, SendPermit,
    outgoing::{MOST_RESERVING, MOST_UNRESERVED},
};
use crate::{
    config::PeerTimeouts,
    id::{CallId, MethodName},
    wire::{
        CallerEnd, CloseReason, Control, Outcome, Payload, Reply,
        confirmations::Unconfirmed,
        connection_state::ConnectionState,
        incoming_memory::{IncomingMemory, RESERVED_ABOVE},
    },
};

const MIB: usize = 1 << 20;
/// The largest message that both ends accept.
const MOST: usize = 64 * MIB;

/// A call that can be given up, and says whether it was sent.
#[derive(Debug, Default)]
struct Call {
    is_given_up: AtomicBool,
    has_begun: AtomicBool,
}

impl SendPermit for Call {
    fn may_begin(&self, _: u32) -> bool {
        !self.is_given_up.load(Ordering::Relaxed)
    }

    fn begin(&self, attempt: u32) -> bool {
        self.has_begun.store(true, Ordering::Relaxed);
        self.may_begin(attempt)
    }

    fn complete(&self, attempt: u32) -> bool {
        self.may_begin(attempt)
    }
}

/// Both ends of a connection whose buffers hold this much, and whose node has this much memory for large messages.
struct Connection {
    master: MasterTransport<DuplexStream>,
    node: NodeTransport<DuplexStream>,
    at_master: Arc<ConnectionState>,
    at_node: Arc<ConnectionState>,
    unconfirmed: Arc<Unconfirmed<(u64, u32)>>,
    /// The control frames that the node was given.
    controls: Arc<Mutex<Vec<Control>>>,
}

fn connection(buffer: usize, memory: Option<&Arc<IncomingMemory>>) -> Connection {
    let (near, far) = tokio::io::duplex(buffer);
    let at_master = ConnectionState::new(PeerTimeouts::default(), None);
    let at_node = ConnectionState::new(PeerTimeouts::default(), memory.cloned());
    let controls = Arc::new(Mutex::new(Vec::new()));
    let on_control: OnControl = {
        let controls = Arc::clone(&controls);
        Box::new(move |control| {
            controls.lock().expect("is whole").push(control);
            Ok(())
        })
    };
    let unconfirmed = Arc::new(Unconfirmed::default());
    Connection {
        master: MasterTransport::new(near, Arc::clone(&at_master), MOST, Box::new(|_| Ok(()))),
        node: NodeTransport::new(far, Arc::clone(&at_node), MOST, Some(Arc::clone(&unconfirmed)), on_control),
        at_master,
        at_node,
        unconfirmed,
        controls,
    }
}

fn request(call: u64, size: usize, permit: &Arc<Call>) -> ClientMessage<Box<OutgoingRequest>> {
    let message = Box::new(OutgoingRequest {
        arguments: None,
        method: 7,
        call,
        attempt: 1,
        count: 1,
        granted: 1,
        deadline: None,
        payload: Bytes::from(vec![call as u8; size]).into(),
        name: MethodName::new("S", "f"),
        permit: Arc::clone(permit) as _,
    });
    ClientMessage::Request(Request { context: tarpc::context::current(), id: call, message })
}

fn response(call: u64, size: usize) -> Response<OutgoingReply> {
    let payload = Payload::from(Bytes::from(vec![call as u8; size]));
    let reply = Reply { payload, ..Reply::without_payload(Outcome::Value, Duration::ZERO) };
    Response { request_id: call, message: Ok(OutgoingReply { key: (call, 1), reply }) }
}

/// What one of the ends has received.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// A request at the node: its number and size.
    Request(u64, usize),
    /// A response at the master.
    Response(u64, Outcome, usize),
    /// A request that the master's end gave up.
    NotSent(u64),
}

impl Connection {
    /// Lets both ends read and write until one of them has received something.
    async fn next(&mut self) -> Came {
        poll_fn(|cx| {
            if let Poll::Ready(request) = self.node.poll_next_unpin(cx) {
                let ClientMessage::Request(request) = request.expect("goes on").expect("is read") else { panic!() };
                let payload = request.message.take_payload();
                assert!(payload.iter().all(|byte| *byte == request.id as u8), "request {}", request.id);
                return Poll::Ready(Came::Request(request.id, payload.len()));
            }
            if let Poll::Ready(response) = self.master.poll_next_unpin(cx) {
                let Response { request_id, message } = response.expect("goes on").expect("is read");
                return Poll::Ready(match message {
                    Ok(reply) => Came::Response(request_id, reply.outcome, reply.payload.len()),
                    Err(_) => Came::NotSent(request_id),
                });
            }
            self.flush(cx);
            Poll::Pending
        })
        .await
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        let _ = self.master.poll_flush_unpin(cx).map(|flushed| flushed.expect("writes"));
        let _ = self.node.poll_flush_unpin(cx).map(|flushed| flushed.expect("writes"));
    }

    /// Lets both ends read and write until nothing moves any more, and nothing is received.
    async fn settle(&mut self) {
        let came = tokio::select! {
            biased;
            came = self.next() => Some(came),
            () = pending_for(100) => None,
        };
        assert_eq!(came, None);
    }

    /// The same until the node was given this control frame.
    async fn settle_controls(&mut self, wanted: Control) {
        let controls = Arc::clone(&self.controls);
        let was_given = || controls.lock().expect("is whole").contains(&wanted);
        while !was_given() {
            let came = tokio::select! { biased; came = self.next() => Some(came), () = pending_for(1) => None };
            assert_eq!(came, None);
        }
    }

    /// The same until the master's end has written this many bytes.
    async fn settle_at(&mut self, written: u64) {
        while self.master.written() < written {
            let came = tokio::select! { biased; came = self.next() => Some(came), () = pending_for(1) => None };
            assert_eq!(came, None);
        }
    }

    fn send(&mut self, call: u64, size: usize, permit: &Arc<Call>) {
        self.master.start_send_unpin(request(call, size, permit)).expect("is queued");
    }

    async fn all(&mut self, count: usize) -> Vec<Came> {
        let mut came = Vec::new();
        while came.len() < count {
            came.push(self.next().await);
        }
        came
    }
}

/// Lets the other branch of a `select` be polled this often.
async fn pending_for(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn small_messages_and_control_frames_come_between_the_chunks_of_large_ones() {
    let (mut both, call) = (connection(64 << 10, None), Arc::default());
    both.send(1, 40 * MIB, &call);
    both.send(2, 30 * MIB, &call);
    // As much as the connection's buffers hold is on its way.
    let began = tokio::select! { biased; came = both.next() => Some(came), () = pending_for(10) => None };
    assert_eq!(began, None);
    both.send(3, 100, &call);
    let grant = Control::Grant { call: 9, attempt: 1, upto: 2 };
    both.at_master.send(grant.clone());
    assert_eq!(both.next().await, Came::Request(3, 100));
    both.settle_controls(grant).await;
    both.send(4, 200_000, &call);
    assert_eq!(both.next().await, Came::Request(4, 200_000), "it shares with the others and is done first");
    // They take turns, so the shorter one is there first.
    assert_eq!(both.all(2).await, [Came::Request(2, 30 * MIB), Came::Request(1, 40 * MIB)]);
}

#[tokio::test]
async fn small_messages_without_end_do_not_hold_up_a_large_one() {
    let (mut both, call) = (connection(64 << 10, None), Arc::default());
    both.send(1, 2 * MIB, &call);
    let mut small = 0;
    loop {
        while poll_fn(|cx| Poll::Ready(both.master.poll_ready_unpin(cx).is_ready())).await {
            both.send(2, 30_000, &call);
        }
        match both.next().await {
            Came::Request(1, _) => break,
            Came::Request(2, 30_000) => small += 1,
            other => panic!("{other:?}"),
        }
        assert!(small < 1000, "the large one does not come");
    }
    assert!(small > 10, "{small}");
}

#[tokio::test]
async fn a_large_message_waits_for_memory_and_nothing_else_waits_for_it() {
    let memory = IncomingMemory::new(8 * MIB);
    let taken = memory.try_reserve(8 * MIB).expect("is free");
    let (mut both, call) = (connection(64 << 10, Some(&memory)), Arc::default());
    both.send(1, 6 * MIB, &call);
    both.send(2, RESERVED_ABOVE / 2, &call);
    both.send(3, 10, &call);
    assert_eq!(both.all(2).await, [Came::Request(3, 10), Came::Request(2, RESERVED_ABOVE / 2)]);
    both.settle().await;
    drop(taken);
    assert_eq!(both.next().await, Came::Request(1, 6 * MIB));
    assert!(memory.try_reserve(8 * MIB).is_some(), "it is free again");
}

#[tokio::test]
async fn more_messages_than_may_begin_take_turns() {
    let memory = IncomingMemory::new(8 * MIB);
    let (mut both, call) = (connection(64 << 10, Some(&memory)), Arc::default());
    let large = MOST_RESERVING as u64 + 10;
    let unreserved = (MOST_UNRESERVED / RESERVED_ABOVE) as u64 + 10;
    (0..large).for_each(|number| both.send(number, RESERVED_ABOVE + 1, &call));
    (large..large + unreserved).for_each(|number| both.send(number, RESERVED_ABOVE - 1000, &call));
    let mut came = both.all((large + unreserved) as usize).await;
    came.sort_by_key(|came| if let Came::Request(number, _) = came { *number } else { u64::MAX });
    let size = |number| if number < large { RESERVED_ABOVE + 1 } else { RESERVED_ABOVE - 1000 };
    let expected: Vec<_> = (0..large + unreserved).map(|number| Came::Request(number, size(number))).collect();
    assert_eq!(came, expected);
}

#[tokio::test]
async fn a_request_that_is_cancelled_before_its_last_chunk_is_not_sent_and_its_memory_is_free() {
    let memory = IncomingMemory::new(64 * MIB);
    let (mut both, calls) = (connection(64 << 10, Some(&memory)), [(); 3].map(|()| Arc::<Call>::default()));
    both.send(0, 40 * MIB, &calls[0]);
    both.send(1, 20 * MIB, &calls[1]);
    both.send(2, 50 * MIB, &calls[2]);
    both.settle_at(20 << 20).await;
    assert!(memory.try_reserve(10 * MIB).is_none(), "both have their reservations");
    // The first one is given up and the connection told; the second one is only given up.
    calls[0].is_given_up.store(true, Ordering::Relaxed);
    both.at_master.send(Control::Cancel { call: 0, attempt: 1 });
    calls[1].is_given_up.store(true, Ordering::Relaxed);
    let mut not_sent = both.all(2).await;
    not_sent.sort_by_key(|came| if let Came::NotSent(request) = came { *request } else { u64::MAX });
    assert_eq!(not_sent, [Came::NotSent(0), Came::NotSent(1)]);
    assert!(calls[..2].iter().all(|call| !call.has_begun.load(Ordering::Relaxed)), "neither counts as written");
    // The third one had waited for their memory.
    assert_eq!(both.next().await, Came::Request(2, 50 * MIB));
    assert!(memory.try_reserve(64 * MIB).is_some());
    let controls = both.controls.lock().expect("is whole").clone();
    assert_eq!(controls, [], "the node never knew of the call that was cancelled");
    // Once all of it is in the write buffer, it is the node that cancels.
    both.send(3, 2 * MIB, &calls[2]);
    assert_eq!(both.next().await, Came::Request(3, 2 * MIB));
    both.at_master.send(Control::Cancel { call: 3, attempt: 1 });
    both.settle_controls(Control::Cancel { call: 3, attempt: 1 }).await;
}

#[tokio::test]
async fn a_response_of_a_call_that_is_cancelled_is_replaced_and_confirmed_in_its_new_place() {
    let mut both = connection(64 << 10, None);
    for (call, size) in [(1, 40 * MIB), (2, 3 * MIB), (3, 10)] {
        both.node.start_send_unpin(response(call, size)).expect("is queued");
    }
    assert_eq!(both.next().await, Came::Response(3, Outcome::Value, 10));
    both.at_master.send(Control::Cancel { call: 1, attempt: 1 });
    assert_eq!(both.next().await, Came::Response(1, Outcome::Stopped, 0));
    assert_eq!(both.next().await, Came::Response(2, Outcome::Value, 3 * MIB));
    // Confirmed by number, in the order in which they came.
    assert_eq!(both.unconfirmed.confirm(3).expect("were sent"), [(3, 1), (1, 1), (2, 1)]);
    assert_eq!(both.at_master.arrived().responses, 3);
}

#[tokio::test]
async fn requests_that_are_not_completely_written_are_taken_back_before_a_retract_or_a_goodbye() {
    let memory = IncomingMemory::new(64 * MIB);
    let taken = memory.try_reserve(64 * MIB);
    for control in [Control::Retract, Control::Goodbye { reason: CloseReason::default(), is_shutdown: true }] {
        let (mut both, call) = (connection(64 << 10, Some(&memory)), Arc::default());
        both.send(0, 5 * MIB, &call);
        both.send(1, 10, &call);
        assert_eq!(both.next().await, Came::Request(1, 10));
        both.at_master.send(control.clone());
        assert_eq!(both.next().await, Came::NotSent(0));
        both.settle_controls(control).await;
    }
    drop(taken);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_accepts_no_large_message_is_given_up() {
    let memory = IncomingMemory::new(8 * MIB);
    let _taken = memory.try_reserve(8 * MIB);
    let (mut both, call) = (connection(64 << 10, Some(&memory)), Arc::default());
    both.send(0, 5 * MIB, &call);
    both.settle().await;
    let violation = |both: &Connection| both.at_master.violation(both.at_master.opened());
    tokio::time::advance(Duration::from_secs(119)).await;
    both.settle().await;
    assert_eq!(violation(&both), None);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(violation(&both), Some("it does not accept a large message"));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_large_request_takes_counts_towards_its_deadline() {
    let memory = IncomingMemory::new(8 * MIB);
    let taken = memory.try_reserve(8 * MIB);
    let (mut both, call) = (connection(64 << 10, Some(&memory)), Arc::default());
    let ClientMessage::Request(mut sent) = request(1, 2 * MIB, &call) else { panic!() };
    sent.message.deadline = Some(tokio::time::Instant::now() + Duration::from_secs(10));
    both.master.start_send_unpin(ClientMessage::Request(sent)).expect("is queued");
    tokio::time::advance(Duration::from_secs(3)).await;
    both.settle().await;
    tokio::time::advance(Duration::from_secs(5)).await;
    drop(taken);
    let came = poll_fn(|cx| {
        both.flush(cx);
        let _ = both.master.poll_next_unpin(cx);
        both.node.poll_next_unpin(cx)
    });
    let Some(Ok(ClientMessage::Request(came))) = came.await else { panic!() };
    assert_eq!(came.message.timeout, Some(Duration::from_secs(7)), "3 s went by before it began");
    assert_eq!(came.message.took, Duration::from_secs(5));
}

/// Moves what fits into the connection's buffers a number of times a second, on a slow line, until all have come. Returns how
/// many seconds that took.
async fn on_a_slow_line(
    both: &mut Connection,
    per_second: u64,
    messages: usize,
    ends: [&Arc<ConnectionState>; 2],
) -> u64 {
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    let mut came = 0;
    for tick in 0.. {
        while both.node.poll_next_unpin(cx).is_ready() {
            came += 1;
        }
        while both.master.poll_next_unpin(cx).is_ready() {
            came += 1;
        }
        both.flush(cx);
        if came == messages {
            return tick / per_second;
        }
        for end in ends {
            assert_eq!(end.violation(end.opened()), None, "after {} s, with {came} of {messages}", tick / per_second);
        }
        tokio::time::advance(Duration::from_secs(1) / per_second as u32).await;
    }
    unreachable!("it goes on until all have come")
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_with_many_large_messages_stays_open() {
    // 2 MB a second, and memory for four of them.
    let memory = IncomingMemory::of_connection(MOST);
    let (mut both, call) = (connection(200 << 10, Some(&memory)), Arc::default());
    (0..6).for_each(|number| both.send(number, 60 * MIB, &call));
    let ends = [Arc::clone(&both.at_master), Arc::clone(&both.at_node)];
    let took = on_a_slow_line(&mut both, 10, 6, ends.each_ref()).await;
    assert!(took > 120, "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_with_many_large_messages_stays_open_while_others_wait_for_memory() {
    // 800 KiB a second.
    let memory = IncomingMemory::new(64 * MIB);
    let (mut both, call) = (connection(200 << 10, Some(&memory)), Arc::default());
    (0..16).for_each(|number| both.send(number, 8 * MIB - 20_000, &call));
    let ends = [Arc::clone(&both.at_master), Arc::clone(&both.at_node)];
    both.settle_at(1).await;
    let _other = memory.reserve(32 * MIB);
    let took = on_a_slow_line(&mut both, 4, 16, ends.each_ref()).await;
    assert!(took > 120, "{took}");
}

/// Takes what is written, and keeps where in memory it was.
#[derive(Default)]
struct Written(Vec<std::ops::Range<usize>>);

impl AsyncRead for Written {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Written {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let places = slices.iter().map(|slice| slice.as_ptr().addr()..slice.as_ptr().addr() + slice.len());
        self.0.extend(places);
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_payload_is_passed_on_from_the_memory_that_it_was_read_into() {
    const SIZE: usize = 500_000;
    // What a node has returned is read by the master...
    let mut both = connection(64 << 10, None);
    both.node.start_send_unpin(response(1, SIZE)).expect("is queued");
    let reply = poll_fn(|cx| {
        both.flush(cx);
        both.master.poll_next_unpin(cx)
    });
    let reply = reply.await.expect("comes").expect("is read").message.expect("was sent");
    let payload = reply.payload.into_bytes();
    let memory = payload.as_ptr().addr()..payload.as_ptr().addr() + SIZE;
    // ...and written to a caller.
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    state.on_response_waits(SIZE);
    let mut written = Written::default();
    let mut to_caller = CallerAtMasterTransport::new(&mut written, state, MOST, None, Box::new(|_| Ok(())));
    let end = CallerEnd::Failed { failed_attempts: 0 };
    let reply = OutgoingCallerReply { call: Some(CallId(1)), end, payload: payload.into() };
    to_caller.start_send_unpin(Response { request_id: 1, message: Ok(reply) }).expect("is queued");
    to_caller.flush().await.expect("is written");
    drop(to_caller);
    let passed_on = written.0.iter().filter(|place| memory.start <= place.start && place.end <= memory.end);
    let bytes: usize = passed_on.map(ExactSizeIterator::len).sum();
    // A last piece of less than 8 KiB is copied behind the header of its chunk.
    assert!(bytes > SIZE - 8 * 1024, "{bytes} of {SIZE} bytes were written from where they had been read into");
}
