//! How a master ends: gracefully by a shutdown, or at once.

use std::time::Duration;

use tokio::time::timeout;

use super::shared::Shared;

/// How long all tasks of the master may take to end after their calls have, before the shutdown returns without them. A
/// connection gives up its own goodbye earlier, also where a caller still reads a large result, so this passes only if the
/// runtime is stalled.
const TASKS_TIMEOUT: Duration = Duration::from_secs(35);

impl Shared {
    /// Takes no more nodes and calls, lets the calls in flight finish, and ends.
    pub(super) async fn shut_down(&self) {
        self.closing.cancel();
        self.lock().shutting_down = true;
        while self.with_core("the master shuts down", |core, _, effects| core.on_shutdown(effects)) == Some(true) {}
        let all_ended = async {
            while self.lock().core.unfinished() > 0 {
                self.calls_ended.notified().await;
            }
        };
        if timeout(self.shutdown_timeout, all_ended).await.is_err() {
            let calls = self.lock().core.unfinished();
            tracing::warn!(
                calls,
                timeout = ?self.shutdown_timeout,
                "the shutdown timeout has passed; calls that nodes have not answered end with an error"
            );
        }
        self.abandon();
        self.tasks.close();
        if timeout(TASKS_TIMEOUT, self.tasks.wait()).await.is_err() {
            let connections = self.tasks.len();
            tracing::warn!(
                connections,
                timeout = ?TASKS_TIMEOUT,
                "some connections did not close in time; the master ends without them"
            );
        }
        self.events.end();
    }

    /// Ends all calls and tells all tasks to end.
    pub(super) fn abandon(&self) {
        self.closing.cancel();
        while self.with_core("the master ends", |core, _, effects| core.on_shutdown_timeout(effects)) == Some(true) {}
        self.closed.cancel();
    }
}
