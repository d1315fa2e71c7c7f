//! Lets the core look at the clock: several times a heartbeat, and whenever a timer is due.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::dispatch::Shared;

/// How often this task looks whether others have got the core, before it goes on in spite of them.
const MOST_LOOKS: u32 = 1000;

/// Ends the master's calls when the ticker does, for whatever reason: without it no deadline passes any
/// more. The master's runtime may end before the master's handles do.
struct EndOfTime(Arc<Shared>);

impl Drop for EndOfTime {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Lets others have the core. The lock is not fair: who waits for it takes longer to wake up than this task to come back.
async fn give_way(shared: &Shared) {
    tokio::task::yield_now().await;
    for _ in 0..MOST_LOOKS {
        if !shared.is_waited_for() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn run(shared: Arc<Shared>) {
    let end = EndOfTime(shared);
    let shared = &end.0;
    loop {
        let next = shared.tick();
        if next <= Instant::now() {
            // Work is left of an event. A timer would go off at its next millisecond only.
            tokio::select! {
                () = give_way(shared) => continue,
                () = shared.closed.cancelled() => return,
            }
        }
        tokio::select! {
            () = sleep_until(next) => {}
            () = shared.rearm.notified() => {}
            () = shared.closed.cancelled() => return,
        }
        let late = next.elapsed();
        if late > shared.heartbeat {
            let seconds = late.as_secs_f64();
            tracing::warn!(
                "this master was stalled for {seconds:.1} s; how long nodes were silent till now does not count"
            );
        }
    }
}
