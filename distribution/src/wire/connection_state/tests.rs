//! Timeouts of peers, and what waits for them.

use tokio::time::advance;

use super::*;
use crate::wire::Load;

const SECOND: Duration = Duration::from_secs(1);

/// Begins a frame and brings this many bytes of it each second. Returns after how many seconds there is a violation, if
/// there is one within ten minutes.
async fn violation_after(state: &ConnectionState, each_second: u64) -> Option<(u32, &'static str)> {
    let mut since_progress = 0;
    let since = state.reserved_since.after(state.opened);
    let reserved = since.map(|since| Reserved { since, messages: 1 });
    state.set_slow_since(Some(Instant::now()), reserved);
    for seconds in 1..600 {
        advance(SECOND).await;
        since_progress += each_second;
        if since_progress >= state.least_progress() {
            since_progress = 0;
            state.set_slow_since(Some(Instant::now()), reserved);
        }
        if let Some(violation) = state.violation(state.opened()) {
            return Some((seconds, violation));
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_frame_may_be_slow_and_must_make_progress() {
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    for rate in [17 * 1024, 100 * 1024, 100 << 20] {
        assert_eq!(violation_after(&state, rate).await, None, "{rate} bytes a second");
    }
    for rate in [0, 1, 15 * 1024] {
        let (seconds, violation) = violation_after(&state, rate).await.expect("is too slow");
        assert_eq!(seconds, 30, "{rate} bytes a second");
        assert!(violation.contains("neither finishes it"), "{violation}");
    }
    state.set_slow_since(None, None);
    advance(3600 * SECOND).await;
    assert_eq!(state.violation(state.opened()), None);
}

#[tokio::test(start_paused = true)]
async fn a_frame_must_be_quicker_while_others_wait_for_its_memory() {
    let memory = IncomingMemory::new(1 << 20);
    let state = ConnectionState::new(PeerTimeouts::default(), Some(Arc::clone(&memory)));
    // The frame has reserved no memory that others could wait for.
    let wait = memory.reserve(1);
    assert_eq!(violation_after(&state, 20 * 1024).await, None);
    drop(wait);
    state.set_slow_since(None, Some(Reserved { since: Instant::now(), messages: 1 }));
    assert_eq!(violation_after(&state, 20 * 1024).await, None);
    let wait = memory.reserve(1);
    let (seconds, violation) = violation_after(&state, 20 * 1024).await.expect("is too slow");
    assert_eq!(seconds, 10);
    assert!(violation.contains("while others wait"), "{violation}");
    drop(wait);
    let _wait = memory.reserve(1);
    let (seconds, violation) = violation_after(&state, 100 * 1024).await.expect("takes too long");
    assert_eq!(seconds, 120);
    assert!(violation.contains("have waited too long"), "{violation}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_read_or_a_master_that_was_stalled_is_not_late() {
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    state.set_slow_since(Some(Instant::now()), None);
    advance(29 * SECOND).await;
    state.on_reading_paused();
    advance(3600 * SECOND).await;
    assert_eq!(state.violation(state.opened()), None);
    assert_eq!(state.heard(), Instant::now(), "this end does not read");
    state.on_reading_resumed();
    state.set_slow_since(Some(Instant::now()), None);
    assert_eq!(state.violation(state.opened()), None);
    assert_eq!((state.heard(), state.paused_for()), (Instant::now(), 3600 * SECOND));
    advance(29 * SECOND).await;
    assert_eq!(state.violation(state.opened()), None);
    advance(SECOND).await;
    assert!(state.violation(state.opened()).is_some());
    // The master itself was stalled until now.
    let stalled_until = Instant::now();
    assert_eq!(state.violation(stalled_until), None);
    advance(30 * SECOND).await;
    assert!(state.violation(stalled_until).is_some());
}

#[test]
fn one_heartbeat_waits_to_be_sent_at_a_time() {
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let load = |computing| Control::Heartbeat { load: Load { computing, ..Load::default() } };
    for control in [load(1), Control::Drain, load(2), load(3)] {
        state.send(control);
    }
    assert_eq!(state.take_outbox(), [load(3), Control::Drain]);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_waits_as_long_as_the_peer_reads_and_not_for_ever() {
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let began = Instant::now();
    assert_eq!(state.while_it_reads(async { advance(SECOND).await }).await, Some(()));
    assert_eq!(state.while_it_reads(std::future::pending::<()>()).await, None);
    assert_eq!(began.elapsed(), 3 * SECOND, "nothing was written for two seconds");
    // What is written takes this many seconds.
    for (seconds, expected) in [(10, Some(())), (28, Some(())), (60, None)] {
        let writing = async {
            for _ in 0..seconds {
                tokio::time::sleep(SECOND).await;
                state.on_write_progress(1);
            }
        };
        assert_eq!(state.while_it_reads(writing).await, expected, "{seconds} s");
    }
}
