//! The session of a caller: its calls, over all connections on which it goes on with them.
//!
//! One task has the session for as long as it lasts. Each connection is handed to that task; while there is none, the calls
//! go on, and their ends are kept.

use std::sync::Arc;

use futures::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::{
    connection::{AwaitedCalls, ConnectionEnd, serve},
    credential_guard::CredentialGuard,
    permission::Permissions,
    requests::CallerRequests,
};
use crate::{
    error::GoneReason,
    id::CallerId,
    master::{allowance::Allowance, caller_table::ConnectedCaller, new_caller::NewConnection, shared::Shared},
};

/// Serves a caller until it is gone, and returns why it is.
pub(super) async fn run(
    shared: &Arc<Shared>,
    caller: &Arc<ConnectedCaller>,
    first: NewConnection,
    allowance: Option<Allowance>,
) -> GoneReason {
    let process = first.hello.node.map(|node| node.instance);
    let permissions = Permissions::new(shared, caller, first.access(), allowance);
    let requests = CallerRequests::new(Arc::clone(shared), Arc::clone(caller), permissions, process);
    let _cancel = CancelOnDrop(Arc::clone(&requests), Arc::clone(shared), caller.id);
    let (mut awaited, mut guard) = (AwaitedCalls::new(), CredentialGuard::default());
    let mut next = Box::new(first);
    loop {
        caller.on_connected(next.peer);
        let end = serve(shared, caller, &requests, &mut awaited, &mut guard, *next).await;
        requests.on_connection_ended();
        let reason = match end {
            ConnectionEnd::Replaced(connection) => {
                next = connection;
                continue;
            }
            ConnectionEnd::Over(reason) => return reason,
            ConnectionEnd::Broken(reason) if !shared.resumes_callers() => return reason,
            ConnectionEnd::Broken(reason) => reason,
        };
        // Without calls too: what the caller has sent may not have arrived, and is known to be so if its session goes on.
        caller.on_disconnected(requests.has_calls());
        tracing::info!(
            caller = caller.name,
            address = %caller.addr(),
            %reason,
            timeout = ?shared.limits.resume_timeout,
            "the connection of a caller has broken; its calls go on, and the master waits for it to come back"
        );
        match wait(shared, caller, &mut awaited).await {
            Waited::Resumed(connection) => next = connection,
            Waited::TimedOut => {
                tracing::warn!(
                    caller = caller.name,
                    address = %caller.addr(),
                    timeout = ?shared.limits.resume_timeout,
                    "a caller did not come back in time: its calls are cancelled, apart from detached ones"
                );
                return reason;
            }
            Waited::Closed(reason) => return reason,
        }
    }
}

/// How the wait for a caller ended.
enum Waited {
    Resumed(Box<NewConnection>),
    TimedOut,
    Closed(GoneReason),
}

/// Waits for a caller whose connection has broken. The ends of its calls are kept meanwhile.
async fn wait(shared: &Shared, caller: &ConnectedCaller, awaited: &mut AwaitedCalls) -> Waited {
    let until = Instant::now() + shared.limits.resume_timeout;
    loop {
        tokio::select! {
            connection = caller.next_connection() => return Waited::Resumed(connection),
            reason = caller.closed() => return Waited::Closed(reason),
            () = sleep_until(until) => return Waited::TimedOut,
            Some(()) = awaited.next(), if !awaited.is_empty() => {}
        }
    }
}

/// Cancels the calls of a caller when its session has ended, however it ended, and ends its runs.
struct CancelOnDrop(Arc<CallerRequests>, Arc<Shared>, CallerId);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.on_gone();
        self.1.runs.on_caller_gone(self.2);
    }
}
