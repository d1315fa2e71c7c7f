//! The node's thread: dials the master, registers, serves the connection, and dials again.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    time::Duration,
};

use rand::RngExt;
use tokio::{
    net::{TcpStream, lookup_host},
    sync::watch,
    time::timeout,
};

use super::{
    Final, Setup, Status, Wish, serve,
    supervise::{Alarm, Signal},
};
use crate::{
    config::from_micros,
    error::Error,
    id::NodeId,
    wire::{
        channel::Channel,
        hello::{Concern, Finality, HelloError, Registration, Verdict, introduce},
    },
};

/// The wait before the second dial; it grows by [`GROWTH`] with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const GROWTH: f64 = 1.6;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What a wait is multiplied with, at random, so that nodes that lost their master together do not
/// come back together.
const JITTER: std::ops::Range<f64> = 0.8..1.2;

/// How long one dial may take; a host that drops packets would hold it up for minutes.
const DIAL_TIME: Duration = Duration::from_secs(5);

/// Threads of the link's runtime: one that may be inside a handler (see `runner.rs`), and one for the
/// connection.
const LINK_THREADS: usize = 2;

/// Threads for blocking work that the link's runtime may have beside one for each slot: it looks names up and
/// files over on them.
const BLOCKING_RESERVE: usize = 16;

/// Starts the link's threads. They end by themselves once the owner wishes so or the master refuses for
/// good.
pub(super) fn start_thread(
    setup: Setup,
    signals: Receiver<Signal>,
    wishes: watch::Receiver<Wish>,
) -> Result<(), Error> {
    let failed = |source| Error::Thread { what: "link thread", source };
    let name = format!("link-{}", setup.registration.name.chars().take(10).collect::<String>());
    let (started, start) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            // Made here, because it must not be dropped where the caller is, in a runtime of its own.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(LINK_THREADS)
                .max_blocking_threads(setup.registration.slots as usize + BLOCKING_RESERVE)
                .thread_name(name)
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            let supervised = setup.supervised();
            let link = runtime.spawn(async move {
                // Also if what follows panics.
                let _end = End(Arc::clone(&setup.alarm));
                enroll(setup, wishes).await;
            });
            supervised.run(&signals, runtime.handle());
            // A handler may still block one of the threads; it must not keep this one.
            drop(link);
            runtime.shutdown_background();
        })
        .map_err(failed)?;
    start.recv().unwrap_or_else(|_| Err(std::io::Error::other("it ended at once"))).map_err(failed)
}

/// Tells the supervisor that the node has ended.
struct End(Arc<Alarm>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Why a try at registering failed.
enum Failure {
    /// Trying again may help.
    Passing(String),
    /// Trying again does not help; or, if this is so `at_first` only, not unless the node was registered before.
    Final { reason: Final, at_first: bool },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(reason) => f.write_str(reason),
            Self::Final { reason, .. } => reason.fmt(f),
        }
    }
}

async fn enroll(setup: Setup, mut wishes: watch::Receiver<Wish>) {
    let mut wait = FIRST_WAIT;
    let mut complained = String::new();
    let mut was_registered = false;
    let end = loop {
        let dialled = tokio::select! {
            dialled = dial(&setup) => dialled,
            () = wished_away(&mut wishes) => break None,
            () = setup.users.ended() => break Some(Final::RuntimeEnded),
        };
        // Once registered the master may send calls, so that a wish to drain is not a wish to drop the
        // connection.
        let tried = match dialled {
            Ok(stream) => tokio::select! {
                tried = register(&setup, stream) => tried,
                () = wished_to_leave(&mut wishes) => break None,
            },
            Err(failure) => Err(failure),
        };
        match tried {
            Ok(registered) => {
                wait = FIRST_WAIT;
                was_registered = true;
                complained.clear();
                tracing::info!(
                    node = setup.registration.name,
                    id = %registered.id,
                    master = setup.master,
                    "registered"
                );
                setup.id.store(registered.id.to_bits(), Ordering::Release);
                setup.status.send_replace(Status::Registered);
                match serve::serve(&setup, registered, &mut wishes).await {
                    _ if *wishes.borrow() == Wish::Serve && setup.users.have_ended() => {
                        break Some(Final::RuntimeEnded);
                    }
                    serve::End::Left => break None,
                    // The master may end at the same time as the node is to.
                    serve::End::Lost(_) if *wishes.borrow() == Wish::Leave => break None,
                    serve::End::Lost(reason) => {
                        setup.status.send_replace(Status::Dialling);
                        tracing::warn!(
                            node = setup.registration.name,
                            master = setup.master,
                            reason,
                            "lost the master; dialling again"
                        );
                    }
                }
            }
            Err(Failure::Final { reason, at_first }) if !(at_first && was_registered) => break Some(reason),
            Err(failure) => {
                let reason = failure.to_string();
                // Said once, not with each of the tries that go on for ever.
                if reason != complained {
                    tracing::warn!(
                        node = setup.registration.name,
                        master = setup.master,
                        reason,
                        "cannot register yet; trying again until it works"
                    );
                    complained = reason;
                }
            }
        }
        let jittered = wait.mul_f64(rand::rng().random_range(JITTER));
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = wished_away(&mut wishes) => break None,
            () = setup.users.ended() => break Some(Final::RuntimeEnded),
        }
        wait = wait.mul_f64(GROWTH).min(LONGEST_WAIT);
    };
    if let Some(reason) = &end {
        tracing::error!(node = setup.registration.name, master = setup.master, %reason, "ended for good");
    }
    setup.status.send_replace(Status::Ended(end));
}

/// Waits until the owner wishes the node to end. One that is not registered has nothing to drain.
async fn wished_away(wishes: &mut watch::Receiver<Wish>) {
    // An error means that the owner is gone, which is the same wish.
    let _ = wishes.wait_for(|wish| *wish != Wish::Serve).await;
}

async fn wished_to_leave(wishes: &mut watch::Receiver<Wish>) {
    let _ = wishes.wait_for(|wish| *wish == Wish::Leave).await;
}

/// A connection on which the node is registered.
pub(super) struct Registered {
    pub(super) channel: Channel,
    pub(super) id: NodeId,
    pub(super) heartbeat: Duration,
    pub(super) silence: Duration,
    pub(super) reply_limit: usize,
}

/// Connects to what is the master, as far as it can be asked to prove it.
async fn dial(setup: &Setup) -> Result<Channel, Failure> {
    let stream = match timeout(DIAL_TIME, connect(setup)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(Failure::Passing(format!("no answer to the connection within {DIAL_TIME:?}"))),
    };
    // Frames are written whole, so Nagle's algorithm could only delay the last of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    setup.guard.join(stream, host(&setup.master)).await.map_err(|error| failure(&error))
}

async fn connect(setup: &Setup) -> Result<TcpStream, Failure> {
    let failed = |error| Failure::Passing(format!("cannot connect: {error}"));
    let addrs: Vec<_> = lookup_host(&setup.master).await.map_err(failed)?.collect();
    match setup.guard.check_addresses(&addrs) {
        // The very ones that were looked at: a name may mean others the next moment.
        Ok(()) => TcpStream::connect(&addrs[..]).await.map_err(failed),
        Err(addr) => Err(Failure::Final { reason: Final::Insecure(addr.to_string()), at_first: true }),
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

async fn register(setup: &Setup, mut channel: Channel) -> Result<Registered, Failure> {
    let registration = Registration { busy: setup.stale.load(Ordering::Relaxed), ..setup.registration.clone() };
    match introduce(&mut channel, &registration).await {
        Ok(Verdict::Welcome { node, heartbeat, silence, frame_limit }) => Ok(Registered {
            channel,
            id: NodeId::from_bits(node),
            heartbeat: from_micros(heartbeat).max(Duration::from_millis(1)),
            // Less than two heartbeats of silence is no silence.
            silence: from_micros(silence).max(from_micros(heartbeat).saturating_mul(2)),
            reply_limit: usize::try_from(frame_limit).unwrap_or(usize::MAX).min(crate::config::LARGEST_FRAME_LIMIT),
        }),
        Ok(Verdict::Refused { reason, for_good: true }) => {
            Err(Failure::Final { reason: Final::Refused(reason), at_first: false })
        }
        Ok(Verdict::Refused { reason, for_good: false }) => Err(Failure::Passing(format!("the master says: {reason}"))),
        Err(error @ HelloError::TooLong { what: "registration", .. }) => {
            let reason = Final::Protocol(format!("this node's own registration is too long: {error}"));
            Err(Failure::Final { reason, at_first: false })
        }
        Err(error) => Err(failure(&error)),
    }
}

fn failure(error: &HelloError) -> Failure {
    let text = error.to_string();
    let reason = match error.is_about() {
        Concern::Trust => Final::Untrusted(text),
        Concern::Admission => Final::Refused(text),
        Concern::Protocol => Final::Protocol(text),
    };
    match error.finality() {
        Finality::Ever => Failure::Final { reason, at_first: false },
        Finality::AtFirst => Failure::Final { reason, at_first: true },
        Finality::Passing => Failure::Passing(error.to_string()),
    }
}
