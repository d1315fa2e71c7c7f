//! Lets the core look at the clock: several times a heartbeat, and whenever a timer is due.

use std::sync::Arc;

use tokio::time::sleep_until;

use super::dispatch::Shared;

pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let next = shared.tick();
        tokio::select! {
            () = sleep_until(next) => {}
            () = shared.rearm.notified() => {}
            () = shared.closed.cancelled() => return,
        }
    }
}
