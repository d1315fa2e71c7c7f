//! Lets the core look at the clock: several times a heartbeat, and whenever a timer is due.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::dispatch::Shared;

/// Ends the master's calls when the ticker does, for whatever reason: without it no deadline passes any
/// more. The master's runtime may end before the master's handles do.
struct EndOfTime(Arc<Shared>);

impl Drop for EndOfTime {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

pub(super) async fn run(shared: Arc<Shared>) {
    let end = EndOfTime(shared);
    let shared = &end.0;
    loop {
        // What is left of an event is to be done at once, and that is no time that has passed.
        let next = shared.tick().max(Instant::now());
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
