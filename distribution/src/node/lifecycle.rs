//! The life of a node on its own threads: connect, register, serve, and begin again when the connection is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    active_calls::ActiveCalls,
    connect::{RegisterError, connect},
    outage::Outage,
    register::{Registered, register},
    serve::{ServeOutcome, serve},
    session::Session,
    state::{DesiredState, EndReason, NodeShared, Status},
    waker::{WatchdogMessage, WatchdogWaker},
    watchdog::Watchdog,
};
use crate::{
    error::Error,
    wire::{
        channel::Channel,
        handshake::{Purpose, Registration},
    },
};

/// Worker threads of the node's runtime: one for the connection, and one that may be inside an async handler (see
/// `runner.rs`).
const CONNECTION_THREADS: usize = 2;

/// Threads for blocking work that the node's runtime may have beside one for each slot: name lookups and file reads run
/// on them.
const BLOCKING_RESERVE: usize = 16;

/// Starts the node's threads. They end by themselves once the node has ended.
pub(super) fn start_threads(
    node: NodeShared,
    messages: Receiver<WatchdogMessage>,
    desired: watch::Receiver<DesiredState>,
) -> Result<(), Error> {
    let failed = |source| Error::Thread { what: "threads", source };
    let (started, start) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("node-watchdog".to_owned())
        .spawn(move || {
            // Made on this thread, because a runtime must not be dropped inside another one, as the caller's.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(CONNECTION_THREADS)
                .max_blocking_threads(2 * node.registration.slots as usize + node.max_waiting + BLOCKING_RESERVE)
                .thread_name_fn(thread_names())
                .on_thread_start(on_thread_start)
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            let watchdog = Watchdog::new(&node);
            let lifecycle = runtime.spawn(async move {
                // Dropped also if what follows panics.
                let _end = EndWatchdogOnDrop(Arc::clone(&node.waker));
                live(node, desired).await;
            });
            watchdog.run(&messages, runtime.handle());
            // A handler may still block one of the threads; it must not keep this one.
            drop(lifecycle);
            runtime.shutdown_background();
        })
        .map_err(failed)?;
    start.recv().unwrap_or_else(|_| Err(std::io::Error::other("the first one ended at once"))).map_err(failed)
}

/// Lets the layer for logs tell a node's threads from others.
fn on_thread_start() {
    #[cfg(feature = "logs")]
    super::log_layer::mark_own_thread();
}

/// Names the threads of a node's runtime by what they do. tokio starts its worker threads first.
fn thread_names() -> impl Fn() -> String + Send + Sync + 'static {
    let started = AtomicUsize::new(0);
    move || match started.fetch_add(1, Ordering::Relaxed) {
        0..CONNECTION_THREADS => "node-connection".to_owned(),
        _ => "node-compute".to_owned(),
    }
}

/// Ends the watchdog when the node has ended.
struct EndWatchdogOnDrop(Arc<WatchdogWaker>);

impl Drop for EndWatchdogOnDrop {
    fn drop(&mut self) {
        self.0.node_ended();
    }
}

/// Connects to the master: through memory if it is in this process, or over the network.
async fn connect_to_master(node: &NodeShared) -> Result<Channel, RegisterError> {
    match &node.connector {
        Some(connector) => Ok(connector.connect(Purpose::OfRole)),
        None => connect(&node.authenticator, &node.master).await,
    }
}

/// Why an attempt to register did not lead to a registration.
enum Unregistered {
    Failed(RegisterError),
    End(Option<EndReason>),
}

/// Keeps the node registered until it ends.
async fn live(node: NodeShared, mut desired: watch::Receiver<DesiredState>) {
    let (name, master) = (node.registration.name.as_str(), node.master.as_str());
    tracing::info!(node = name, master, "dialling the master");
    let mut outage = Outage::at_start(&node.timeouts);
    // What goes on while there is no connection.
    let mut session = None;
    let end = loop {
        let attempted = attempt(&node, &outage, &mut session, &mut desired).await;
        let wait = match attempted {
            Ok(registered) => {
                tracing::info!(node = name, node_id = %registered.id, master, "registered");
                node.id.store(registered.id.to_bits(), Ordering::Release);
                node.status.send_replace(Status::Registered);
                let silence = registered.silence;
                let outcome = serve(&node, registered, session.take(), &mut desired).await;
                let wanted = *desired.borrow();
                match outcome {
                    _ if wanted == DesiredState::Serve && node.handler_runtime.has_ended() => {
                        break Some(EndReason::RuntimeEnded);
                    }
                    ServeOutcome::Left => break None,
                    // The master may end at the same time as the owner ends the node.
                    ServeOutcome::Lost { .. } if wanted == DesiredState::Stop => break None,
                    // A node that drains registers again only to deliver its results.
                    ServeOutcome::Lost { session: None, .. } if node.drain_requested.is_set() => break None,
                    ServeOutcome::Lost { master_shut_down: true, .. } if node.timeouts.master.is_some() => {
                        tracing::info!(node = name, master, "the master has shut down; the node ends with it");
                        break None;
                    }
                    ServeOutcome::Lost { reason, session: None, .. } if wanted == DesiredState::Drain => {
                        tracing::warn!(node = name, master, %reason, "lost the master while draining; the node ends");
                        break None;
                    }
                    ServeOutcome::Lost { reason, lasted, session: broken, .. } => {
                        session = broken;
                        node.status.send_replace(Status::Connecting);
                        tracing::warn!(node = name, master, %reason, "lost the master; dialling again");
                        outage.on_loss(&node.timeouts, reason, lasted, silence);
                        outage.next_wait()
                    }
                }
            }
            Err(Unregistered::End(reason)) => break reason,
            Err(Unregistered::Failed(RegisterError::Permanent { reason, first_only }))
                if outage.is_permanent(&RegisterError::Permanent { reason: reason.clone(), first_only }) =>
            {
                break Some(reason);
            }
            Err(Unregistered::Failed(failure)) => outage.failed(&failure, name, master),
        };
        let wait = session.as_mut().map_or(wait, |session: &mut Session| session.next_wait(wait));
        if let Err(reason) = pause(wait, &node, &outage, &mut session, &mut desired).await {
            break reason;
        }
    };
    if let Some(reason) = &end {
        tracing::error!(node = name, master, %reason, "the node has ended");
    }
    node.nested.close();
    node.status.send_replace(Status::Ended(end));
}

/// Connects to the master and registers there.
async fn attempt(
    node: &NodeShared,
    outage: &Outage,
    session: &mut Option<Session>,
    desired: &mut watch::Receiver<DesiredState>,
) -> Result<Registered, Unregistered> {
    let active = session.as_ref().map(|session| Arc::clone(&session.active));
    let channel = tokio::select! {
        connected = until_expiry(session, connect_to_master(node)) => connected.map_err(Unregistered::Failed)?,
        () = end_wanted(node, active.as_deref(), desired) => return Err(Unregistered::End(None)),
        () = node.handler_runtime.ended() => return Err(Unregistered::End(Some(EndReason::RuntimeEnded))),
        reason = outage.expired() => return Err(Unregistered::End(Some(reason))),
    };
    let registration = Registration {
        busy: node.stale.load(Ordering::Relaxed),
        session: session.as_ref().and_then(Session::to_resume),
        ..node.registration.clone()
    };
    // Once registered, the master may send calls, which a drain has to finish: only a stop drops the connection.
    tokio::select! {
        registered = register(&registration, channel, &node.authenticator) => registered.map_err(Unregistered::Failed),
        () = stop_wanted(desired) => Err(Unregistered::End(None)),
        reason = outage.expired() => Err(Unregistered::End(Some(reason))),
    }
}

/// Waits before the next attempt. An error ends the node.
async fn pause(
    wait: Duration,
    node: &NodeShared,
    outage: &Outage,
    session: &mut Option<Session>,
    desired: &mut watch::Receiver<DesiredState>,
) -> Result<(), Option<EndReason>> {
    let active = session.as_ref().map(|session| Arc::clone(&session.active));
    tokio::select! {
        () = until_expiry(session, tokio::time::sleep(wait)) => Ok(()),
        () = end_wanted(node, active.as_deref(), desired) => Err(None),
        () = node.handler_runtime.ended() => Err(Some(EndReason::RuntimeEnded)),
        reason = outage.expired() => Err(Some(reason)),
    }
}

/// Waits for something that takes a while, and ends the session meanwhile once the master does not wait for it any more.
async fn until_expiry<T>(session: &mut Option<Session>, wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    loop {
        let Some(broken) = session else { return wait.await };
        tokio::select! {
            waited = &mut wait => return waited,
            () = broken.expired() => *session = None,
        }
    }
}

/// Waits until a node that is not registered has to end: it is told to, or drains. One that has a session, with these calls,
/// drains until its time is over, because it may still deliver its results.
async fn end_wanted(node: &NodeShared, active: Option<&ActiveCalls>, desired: &mut watch::Receiver<DesiredState>) {
    let mut changes = desired.clone();
    let drains = async {
        tokio::select! {
            // An error means that the owner is gone, which also ends the node.
            _ = changes.wait_for(|desired| *desired != DesiredState::Serve) => {}
            () = node.drain_requested.wait() => {}
        }
        let Some(active) = active else { return };
        tokio::time::sleep_until(node.drain_deadline()).await;
        if !active.is_empty() {
            tracing::warn!(
                node = node.registration.name,
                timeout = ?node.timeouts.drain,
                "the drain timeout has passed while there was no connection to the master; the node ends with calls unanswered"
            );
        }
    };
    tokio::select! {
        () = stop_wanted(desired) => {}
        () = drains => {}
    }
}

async fn stop_wanted(desired: &mut watch::Receiver<DesiredState>) {
    let _ = desired.wait_for(|desired| *desired == DesiredState::Stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_named_by_what_they_do_and_names_fit_into_what_linux_shows() {
        let name = thread_names();
        let names: Vec<_> = (0..CONNECTION_THREADS + 2).map(|_| name()).collect();
        assert_eq!(names, ["node-connection", "node-connection", "node-compute", "node-compute"]);
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
    }
}
