//! The node's thread: dials the master, registers, serves the connection, and dials again.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    sync::watch,
    time::timeout,
};

use super::{
    Final, Setup, Status, Wish,
    backoff::Backoff,
    serve,
    supervise::{Alarm, Signal},
};
use crate::{
    config::from_micros,
    error::Error,
    id::NodeId,
    text::{LONGEST, in_one_line},
    wire::{
        authenticator::NodeAuthenticator,
        channel::Channel,
        hello::{Concern, Finality, HelloError, Registration, Verdict, introduce},
    },
};

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
                stay_registered(setup, wishes).await;
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
pub(super) enum Failure {
    /// Trying again may help.
    Passing(String),
    /// Too many others register at the moment; the master asks to come again after this.
    Busy(Duration),
    /// Trying again does not help; or, if this is so `at_first` only, not unless the node was registered before.
    Final { reason: Final, at_first: bool },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(reason) => f.write_str(reason),
            // Without the time, which differs with each try.
            Self::Busy(_) => f.write_str("the master has too many other nodes to register at the moment"),
            Self::Final { reason, .. } => reason.fmt(f),
        }
    }
}

async fn stay_registered(setup: Setup, mut wishes: watch::Receiver<Wish>) {
    let mut backoff = Backoff::default();
    let mut complained = String::new();
    let mut was_registered = false;
    let end = loop {
        let mut asked = None;
        let dialled = tokio::select! {
            dialled = dial(&setup.authenticator, &setup.master) => dialled,
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
                backoff = Backoff::default();
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
                            %reason,
                            "lost the master; dialling again"
                        );
                    }
                }
            }
            Err(Failure::Final { reason, at_first }) if !(at_first && was_registered) => break Some(reason),
            Err(failure) => {
                if let Failure::Busy(again) = failure {
                    asked = Some(again);
                }
                let reason = failure.to_string();
                // Said once, not with each of the tries that go on for ever.
                if reason != complained {
                    tracing::warn!(
                        node = setup.registration.name,
                        master = setup.master,
                        %reason,
                        "cannot register yet; trying again until it works"
                    );
                    complained = reason;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next(asked)) => {}
            () = wished_away(&mut wishes) => break None,
            () = setup.users.ended() => break Some(Final::RuntimeEnded),
        }
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
pub(super) async fn dial(authenticator: &NodeAuthenticator, master: &str) -> Result<Channel, Failure> {
    let stream = match timeout(DIAL_TIME, connect(authenticator, master)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(Failure::Passing(format!("no answer to the connection within {DIAL_TIME:?}"))),
    };
    // Frames are written whole, so Nagle's algorithm could only delay the last of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    authenticator.join(stream, host(master)).await.map_err(|error| failure(&error, authenticator))
}

async fn connect(authenticator: &NodeAuthenticator, master: &str) -> Result<TcpStream, Failure> {
    let failed = |error| Failure::Passing(format!("cannot connect: {error}"));
    let addrs: Vec<_> = lookup_host(master).await.map_err(failed)?.collect();
    match authenticator.check_addresses(&addrs) {
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

async fn register(setup: &Setup, channel: Channel) -> Result<Registered, Failure> {
    let registration = Registration { busy: setup.stale.load(Ordering::Relaxed), ..setup.registration.clone() };
    register_as(&registration, channel, &setup.authenticator).await
}

/// Registers on a connection that was opened with this authenticator.
pub(super) async fn register_as(
    registration: &Registration,
    mut channel: Channel,
    authenticator: &NodeAuthenticator,
) -> Result<Registered, Failure> {
    match introduce(&mut channel, registration).await {
        Ok(Verdict::Welcome { node, heartbeat, silence, max_message_size }) => Ok(Registered {
            channel,
            id: NodeId::from_bits(node),
            heartbeat: from_micros(heartbeat).max(Duration::from_millis(1)),
            // Less than two heartbeats of silence is no silence.
            silence: from_micros(silence).max(from_micros(heartbeat).saturating_mul(2)),
            reply_limit: usize::try_from(max_message_size)
                .unwrap_or(usize::MAX)
                .min(crate::config::LARGEST_MESSAGE_LIMIT),
        }),
        Ok(Verdict::Refused { reason, for_good: true }) => {
            let reason = Final::Refused(in_one_line(&reason, LONGEST));
            Err(Failure::Final { reason, at_first: !authenticator.knows_master() || authenticator.may_change() })
        }
        Ok(Verdict::Busy { retry_after }) => Err(Failure::Busy(from_micros(retry_after))),
        Ok(Verdict::Refused { reason, for_good: false }) => {
            Err(Failure::Passing(format!("the master says: {}", in_one_line(&reason, LONGEST))))
        }
        Err(error @ HelloError::TooLong { what: "registration", .. }) => {
            let reason = Final::Protocol(format!("this node's own registration is too long: {error}"));
            Err(Failure::Final { reason, at_first: false })
        }
        Err(error) => Err(failure(&error, authenticator)),
    }
}

/// What an error means for the node. What a master that has not proven to be one says may be anybody's words who has got
/// its port, so it ends no node that has been registered. Nor does the refusal of a credential that is in a file: that may
/// be replaced later than the master's own.
fn failure(error: &HelloError, authenticator: &NodeAuthenticator) -> Failure {
    #[cfg(feature = "tls")]
    if let HelloError::Busy(again) = error {
        return Failure::Busy(*again);
    }
    let text = error.to_string();
    let at_first = match error.finality() {
        Finality::Ever => {
            !authenticator.knows_master()
                || (authenticator.may_change() && matches!(error.is_about(), Concern::Admission))
        }
        Finality::AtFirst => true,
        Finality::Passing => return Failure::Passing(text),
    };
    let reason = match error.is_about() {
        Concern::Trust => Final::Untrusted(text),
        Concern::Admission => Final::Refused(text),
        Concern::Protocol => Final::Protocol(text),
    };
    Failure::Final { reason, at_first }
}
