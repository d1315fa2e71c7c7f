//! Frames that are read, and those that are refused.

use std::{future::poll_fn, io::Cursor, sync::Mutex};

use tokio::time::Instant;

use super::{
    super::frame_rate::{MOST_FRAMES, PERIOD},
    *,
};
use crate::{
    config::PeerTimeouts,
    wire::frame::{control::CloseReason, layout::CONTROL_LIMIT},
};

/// Reads frames at a node to the end of the bytes: the kinds of the control frames, and how many requests there were.
async fn read(bytes: Vec<u8>) -> Result<(Vec<FrameKind>, usize), String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let on_control: OnControl = {
        let seen = Arc::clone(&seen);
        Box::new(move |control| {
            seen.lock().expect("is whole").push(control.kind());
            Ok(())
        })
    };
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let mut frames = FrameStream::new(Cursor::new(bytes), Direction::MasterToNode, state, 1 << 20, on_control);
    let mut requests = 0;
    while let Some(body) = poll_fn(|cx| frames.poll_message(cx)).await {
        body.map_err(|error| error.to_string())?;
        requests += 1;
    }
    let seen = std::mem::take(&mut *seen.lock().expect("is whole"));
    Ok((seen, requests))
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &[kind], body].concat()
}

const REQUEST: u8 = FrameKind::Request as u8;
const RETRACT: u8 = FrameKind::Retract as u8;
const UNKNOWN: u8 = 200;

#[tokio::test(start_paused = true)]
async fn a_caller_is_not_read_while_too_much_waits_for_it() {
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let ignored: OnControl = Box::new(|_| Ok(()));
    let bytes = frame(FrameKind::CallerRequest as u8, b"x");
    let mut frames =
        FrameStream::new(Cursor::new(bytes), Direction::CallerToMaster, Arc::clone(&state), 1 << 20, ignored);
    let mut read = || frames.poll_message(&mut Context::from_waker(futures::task::noop_waker_ref()));
    // Others need not wait for a large one.
    state.on_response_waits(80 << 20);
    assert!(!state.is_congested());
    (0..1024).for_each(|_| state.on_response_waits(64 << 10));
    assert!(read().is_pending());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(state.heard(), Instant::now(), "a caller that is not read does not count as silent");
    (0..1024).for_each(|_| state.on_response_taken(64 << 10));
    assert!(matches!(read(), Poll::Ready(Some(Ok(body))) if body == b"x"[..]));
    // It is kept in whole microseconds.
    assert!(state.paused_for() > Duration::from_secs(59));
}

#[tokio::test]
async fn a_caller_is_not_paused_while_a_response_to_it_waits_to_be_accepted() {
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let bytes = frame(FrameKind::CallerRequest as u8, b"x");
    let ignored: OnControl = Box::new(|_| Ok(()));
    let mut frames =
        FrameStream::new(Cursor::new(bytes), Direction::CallerToMaster, Arc::clone(&state), 1 << 20, ignored);
    let cx = &mut Context::from_waker(futures::task::noop_waker_ref());
    (0..1025).for_each(|_| state.on_response_waits(64 << 10));
    assert!(frames.poll_message(cx).is_pending());
    let owner = Owner::Response { on_written: Box::new(|| {}), instead: Box::new(|_| Ok(())) };
    frames.outgoing().push_large((1, 1), Bytes::from(vec![0; 2 << 20]).into(), None, |_| Ok(()), owner);
    assert!(frames.poll_flush(cx).is_ready());
    assert!(frames.poll_message(cx).is_ready(), "what it says may be that it accepts it");
}

#[tokio::test(start_paused = true)]
async fn a_large_message_that_does_not_move_is_a_violation_whatever_else_comes() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let memory = crate::wire::incoming_memory::IncomingMemory::new(64 << 20);
    let state = ConnectionState::new(PeerTimeouts::default(), Some(memory));
    let ignored: OnControl = Box::new(|_| Ok(()));
    let mut frames = FrameStream::new(io, Direction::NodeToMaster, Arc::clone(&state), 64 << 20, ignored);
    let begin = |message, length, waits| {
        let mut bytes = BytesMut::new();
        Control::Begin { message, length, waits }.encode(&mut bytes).expect("encodes");
        bytes.to_vec()
    };
    tokio::io::AsyncWriteExt::write_all(&mut peer, &begin(0, 64 << 20, true)).await.expect("is open");
    let mut cycles = 0..100_u32;
    while state.violation(state.opened()).is_none() {
        let number = 1 + cycles.next().expect("it is given up");
        let chunk =
            |bytes: usize| frame(FrameKind::Chunk as u8, &[&number.to_le_bytes()[..], &vec![0; bytes]].concat());
        let whole = [begin(number, 60_000, false), chunk(30_000), chunk(30_000)].concat();
        tokio::io::AsyncWriteExt::write_all(&mut peer, &whole).await.expect("is open");
        while frames.poll_message(&mut Context::from_waker(futures::task::noop_waker_ref())).is_ready() {}
        tokio::time::advance(Duration::from_secs(20)).await;
    }
    assert!(cycles.start <= 3, "60 kB in 20 s are not 16 KiB a second");
}

#[tokio::test]
async fn an_unknown_optional_frame_is_skipped_with_its_body() {
    let largest = vec![7; CONTROL_LIMIT];
    let stream = [
        frame(UNKNOWN, b""),
        frame(RETRACT, b""),
        frame(UNKNOWN, &largest),
        frame(REQUEST, b"x"),
        frame(UNKNOWN, b"y"),
    ];
    assert_eq!(read(stream.concat()).await, Ok((vec![FrameKind::Retract], 1)));
    let mut goodbye = BytesMut::new();
    Control::Goodbye { reason: CloseReason::new("revoked"), is_shutdown: false }.encode(&mut goodbye).expect("encodes");
    let stream = [frame(UNKNOWN, b"z"), goodbye.to_vec()];
    assert_eq!(read(stream.concat()).await, Ok((vec![FrameKind::Goodbye], 0)));
}

#[tokio::test]
async fn an_unknown_frame_that_is_mandatory_or_too_long_is_a_violation() {
    let error = read(frame(77, b"")).await.expect_err("is mandatory");
    assert!(error.contains("kind 77, which this release does not know"), "{error}");
    let error = read(frame(UNKNOWN, &vec![7; CONTROL_LIMIT + 1])).await.expect_err("is too long");
    assert!(error.contains("the limit of such frames is 16384"), "{error}");
    let error = read(frame(FrameKind::Drain as u8, b"")).await.expect_err("comes from a master");
    assert!(error.contains("a `drain` frame, which its end"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_optional_frames_is_a_violation() {
    let most = frame(UNKNOWN, b"").repeat(MOST_FRAMES as usize);
    assert_eq!(read(most.clone()).await, Ok((Vec::new(), 0)));
    let error = read([most, frame(UNKNOWN, b"")].concat()).await.expect_err("is a flood");
    assert!(error.contains("more than 10000 frames of unknown optional kinds within 1s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn unknown_optional_frames_may_go_on_for_ever_at_a_lower_rate() {
    let mut skipped = FrameRate::new("frames");
    for _ in 0..10 {
        for _ in 0..MOST_FRAMES {
            skipped.count().expect("is below the limit");
        }
        tokio::time::advance(PERIOD).await;
    }
}
