//! Tells the core the time: several times a heartbeat, and whenever a timer is due.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::shared::Shared;

/// How often this task checks whether threads still wait for the core, before it goes on although they do.
const MOST_CHECKS: u32 = 1000;

/// Ends the master's calls when the ticker ends, for any reason: without it no deadline would pass. The runtime of the
/// master may end before its handles are dropped.
struct AbandonOnDrop(Arc<Shared>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Lets other threads take the core's lock. It is not fair: a thread that waits for it takes longer to wake up than this
/// task takes to come back.
async fn give_way(shared: &Shared) {
    tokio::task::yield_now().await;
    for _ in 0..MOST_CHECKS {
        if !shared.is_waited_for() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn run(shared: Arc<Shared>) {
    let guard = AbandonOnDrop(shared);
    let shared = &guard.0;
    loop {
        let next = shared.tick();
        if next <= Instant::now() {
            // Some work of an event is left. A timer would fire only at the next millisecond.
            tokio::select! {
                () = give_way(shared) => continue,
                () = shared.closed.cancelled() => return,
            }
        }
        tokio::select! {
            () = sleep_until(next) => {}
            () = shared.timer_set.notified() => {}
            () = shared.closed.cancelled() => return,
        }
        let late = next.elapsed();
        if late > shared.heartbeat {
            shared.on_stall(late);
            tracing::warn!(
                duration = ?late,
                "this master was stalled: its runtime was blocked, or the machine was overloaded or suspended; nodes are not \
                 counted as silent for that time"
            );
        }
    }
}
