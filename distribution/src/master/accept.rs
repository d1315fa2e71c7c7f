//! Accepts connections: has each peer prove that it may come in, reads what it opens with, and refuses all others.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};

#[cfg(feature = "tls")]
use super::revocation::CredentialWatch;
use super::{
    admission::{LogKind, NoRoom, PendingHandshake},
    callers, connection,
    shared::Shared,
};
use crate::{
    config::to_micros,
    core::{GONE_AFTER, JoinRefused, NodeConnection, Resumption, SUSPECT_AFTER, split_registration},
    error::GoneReason,
    id::NodeIdentity,
    security::{Operation, Source},
    wire::{
        authenticator::{AuthenticatedPeer, RefusedPeer},
        channel::Channel,
        credential::Credential,
        handshake::{
            CallerHello, HandshakeError, Purpose, Registration, RegistrationReply, Release, SessionId, SessionOffer,
            read_hello, read_registration, send_reply,
        },
    },
};

/// How long to wait after an accept that failed, mostly because there are no file descriptors left: trying again at once
/// would fail again and keep a core busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a peer that was refused may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes are read, and ignored, of a peer that was refused.
const REFUSAL_READ_LIMIT: u64 = 64 * 1024;

/// If a handshake is late by more than this, this process was stalled and did not read what had come, so that it may not
/// be the peer's fault.
const STALLED: Duration = Duration::from_millis(500);

pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(address = %peer, reason = %error, "TCP_NODELAY cannot be set");
                }
                match shared.admission.enter(peer.ip()) {
                    Ok(pending) => shared.track(register(Arc::clone(&shared), pending, stream, peer)),
                    Err(no_room) => {
                        let shared = Arc::clone(&shared);
                        shared.clone().track(async move { refuse(&shared, stream, peer, no_room).await });
                    }
                }
            }
            Err(error) => {
                if !failing {
                    tracing::error!(reason = %error, retry_after = ?ACCEPT_PAUSE, "cannot accept connections; trying again");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Registers the node at the other end, if it is one, and runs its connection.
async fn register(shared: Arc<Shared>, pending: PendingHandshake, stream: TcpStream, peer: SocketAddr) {
    // A peer that has sent nothing yet can still be told that there is no room.
    let begun = tokio::select! {
        begun = first_byte(&shared, &stream, peer) => begun,
        () = pending.evicted.cancelled() => {
            // Another connection has its place already.
            drop(pending);
            return refuse(&shared, stream, peer, NoRoom::AtAddress).await;
        }
        () = shared.closing.cancelled() => return,
    };
    let deadline = match begun {
        Ok(deadline) => deadline,
        Err(error) => {
            log_not_registered(&shared, peer, &error);
            return shared.admission.turn_away(peer.ip(), false);
        }
    };
    let received = tokio::select! {
        received = receive(&shared, &pending, stream, deadline) => received,
        () = pending.evicted.cancelled() => {
            if let Some(suppressed) = shared.admission.should_log(LogKind::Evicted, peer.ip()) {
                tracing::warn!(address = %peer, suppressed, "closed a connection that had not registered, because too many others are pending");
            }
            return shared.admission.turn_away(peer.ip(), pending.on_evicted());
        }
        () = shared.closing.cancelled() => return,
    };
    let (AuthenticatedPeer { channel: stream, credential, arrival }, opening) = match received {
        Ok(received) => received,
        Err(RefusedPeer { error, channel }) => {
            log_not_registered(&shared, peer, &error);
            // If this process was stalled, the peer may have done all it could.
            let began = pending.has_begun() && deadline.elapsed() < STALLED;
            shared.admission.turn_away(peer.ip(), error.is_failure_to_prove() || began);
            if let Some(channel) = channel {
                tokio::select! {
                    _ = timeout(REFUSAL_TIMEOUT, close_after_refusal(channel)) => {}
                    () = pending.evicted.cancelled() => {}
                    () = shared.closing.cancelled() => {}
                }
            }
            return;
        }
    };
    pending.on_registration_read();
    drop(pending);
    match opening {
        Opening::Node(registration) => join(shared, stream, credential, (registration, arrival.release), peer).await,
        Opening::Caller(hello) => callers::join(shared, stream, credential, hello, peer).await,
    }
}

/// What a peer that has authenticated itself sends first.
enum Opening {
    Node(Registration),
    Caller(CallerHello),
}

/// Registers the node that sent this registration, if it may register, and runs its connection.
pub(super) async fn join(
    shared: Arc<Shared>,
    mut stream: Channel,
    credential: Credential,
    (registration, release): (Registration, Release),
    peer: SocketAddr,
) {
    let checked = registration
        .check()
        .and_then(|()| shared.registration_policy.check(&registration, &credential))
        .and_then(|()| shared.admission.authenticator.check_name(&registration.name, &credential));
    if let Err(reason) = checked {
        if let Some(suppressed) = shared.admission.should_log(LogKind::Refused, peer.ip()) {
            tracing::warn!(address = %peer, principal = %credential.principal, reason, suppressed, "refused a registration");
        }
        // It may be gone already, and then it needs no answer.
        let _ = send_reply(&mut stream, &RegistrationReply::Refused { reason, for_good: true }).await;
        shared.admission.turn_away(peer.ip(), true);
        return;
    }
    let (link, connection) = connection::new(&shared, registration.max_message_size);
    let name = registration.name.clone();
    let (before, own_busy) = (registration.session, registration.busy);
    // What handlers of a session hold that is not resumed.
    let busy = own_busy.saturating_add(before.map_or(0, |session| session.computing));
    let mut registration = split_registration(Registration { busy, ..registration }, credential.principal.clone());
    if let Some(profile) = Arc::get_mut(&mut registration.0) {
        profile.release = release;
    }
    let source = Source::of(&credential.principal.names, peer.ip());
    let session = shared.resumes_nodes().then(SessionId::random);
    // Registered before it is told so, so that a node which knows that it is registered is in the list.
    let joined = shared.with_core("a node joined", |core, now, effects| {
        let (profile, method_set) = (&*registration.0, &*registration.1);
        let asked = before.map(|asked| Resumption { session: asked.id.digest(), profile, method_set, source });
        let known = asked.as_ref().and_then(|asked| Some((core.session_to_resume(asked)?, asked.session)));
        if let (Some((node, named)), Some(session)) = (known, session) {
            let ids = (named, session.digest());
            let resumed = core.on_node_resumed(now, node, (ids, own_busy), link.clone(), effects);
            if let Some(connection) = resumed {
                return Ok((connection, true));
            }
        }
        let displaced = core.may_join((&registration.0, &registration.1))?;
        let node = core.new_node_id();
        core.on_node_joined(now, node, registration, peer, link, effects);
        // After the node has joined, so that it can take over their calls.
        core.on_nodes_displaced(now, displaced, effects);
        if let Some(session) = session {
            core.on_session_begun(node, session.digest());
        }
        Ok((NodeConnection::first(node), false))
    });
    let (connection_id, is_resumed) = match joined {
        Some(Ok(joined)) => joined,
        Some(Err(JoinRefused { reason, taken_by })) => {
            if let Some(suppressed) = shared.admission.should_log(LogKind::RefusedForNow, peer.ip()) {
                tracing::warn!(
                    address = %peer,
                    principal = %credential.principal,
                    reason,
                    taken_by,
                    suppressed,
                    "refused a registration for now; the node tries again"
                );
            }
            // It may be gone already, and then it needs no answer.
            let _ = send_reply(&mut stream, &RegistrationReply::Refused { reason, for_good: false }).await;
            shared.admission.refuse_for_now(peer.ip());
            return;
        }
        None => return,
    };
    let node = connection_id.node;
    let _registered = shared.admission.on_registered(peer.ip());
    #[cfg(feature = "tls")]
    let _watch = CredentialWatch::of_node(&shared, node, credential);
    // A node waits longer for the master than the master for a node: it must not give up a master that was stalled and
    // did not count that as silence of its nodes, or that waits longer because most nodes are silent.
    let welcome = RegistrationReply::Accepted {
        node: node.to_bits(),
        // Twice in each interval that the master counts. If the network fails just after a heartbeat, that must still be
        // noticed within seven intervals.
        heartbeat: to_micros(shared.heartbeat / 2),
        silence: to_micros(shared.heartbeat * (GONE_AFTER * 2 + SUSPECT_AFTER)),
        max_message_size: shared.max_message_size as u64,
        session: session.map(|id| SessionOffer::new(id, shared.limits.reconnect_grace, is_resumed)),
    };
    match send_reply(&mut stream, &welcome).await {
        Ok(()) => {
            let identity = NodeIdentity::new(node, &name, peer);
            shared.look_for_uncallable(node, name);
            connection.run(Arc::clone(&shared), stream, connection_id, identity).await;
            // While it is waited for, its credential is still watched, here or on its next connection.
            while shared.is_absent(node) {
                tokio::select! {
                    () = sleep(shared.heartbeat) => {}
                    () = shared.closed.cancelled() => return,
                }
            }
        }
        Err(error) => {
            let reason = GoneReason::Broken(error.to_string().into());
            shared.with_core("a connection was lost", |core, now, effects| {
                core.on_connection_lost(now, connection_id, reason, effects);
            });
        }
    }
}

/// A little less than the setting: the peer has the whole time by its own clock, and must not still be waiting when this
/// end gives up.
fn handshake_timeout(shared: &Shared) -> Duration {
    shared.limits.handshake_timeout.mul_f64(0.9)
}

/// Waits until the peer's delay is over and it has sent something, and returns when it must have registered.
async fn first_byte(shared: &Shared, stream: &TcpStream, peer: SocketAddr) -> Result<Instant, HandshakeError> {
    // Before a byte is read, so that guessing a token costs time for the peer and nothing for the master.
    sleep(shared.admission.delay(peer.ip())).await;
    let deadline = Instant::now() + handshake_timeout(shared);
    match timeout_at(deadline, stream.readable()).await {
        // An error comes again when the stream is read.
        Ok(_) => Ok(deadline),
        Err(_) => Err(late(shared)),
    }
}

/// Logs that a connection was closed, unless there were too many such lines recently.
fn log_not_registered(shared: &Shared, peer: SocketAddr, error: &HandshakeError) {
    if let Some(suppressed) = shared.admission.should_log(LogKind::not_registered(error), peer.ip()) {
        tracing::warn!(address = %peer, reason = %error, suppressed, "closed a connection that did not register");
    }
}

fn late(shared: &Shared) -> HandshakeError {
    HandshakeError::Late { what: "hello", time: handshake_timeout(shared) }
}

/// Reads what a peer sends, up to and including its registration, or its hello if it is a caller.
async fn receive(
    shared: &Shared,
    pending: &PendingHandshake,
    stream: TcpStream,
    deadline: Instant,
) -> Result<(AuthenticatedPeer, Opening), RefusedPeer> {
    let admission = &shared.admission;
    let received = timeout_at(deadline, async {
        let mut admitted = admission.authenticator.authenticate(stream, pending.may_begin()).await?;
        if admission.authenticator.demands_proof() {
            pending.on_proved();
        }
        let access = admitted.credential.access;
        let opening = match admitted.arrival.purpose {
            Purpose::OfRole if access.may(Operation::Register) => {
                read_registration(&mut admitted.channel, |size| admission.decoding(size)).await.map(Opening::Node)
            }
            Purpose::OfRole | Purpose::NestedCalls => {
                read_hello(&mut admitted.channel, |size| admission.decoding(size)).await.map(Opening::Caller)
            }
        };
        match opening {
            Ok(opening) => Ok((admitted, opening)),
            Err(error) => Err(RefusedPeer { error, channel: Some(admitted.channel) }),
        }
    });
    received.await.unwrap_or_else(|_| Err(RefusedPeer { error: late(shared), channel: None }))
}

/// Tells a peer of which nothing was read that there is no room, and when to try again.
async fn refuse(shared: &Shared, mut stream: TcpStream, peer: SocketAddr, no_room: NoRoom) {
    shared.admission.turn_away(peer.ip(), false);
    let Some(_permit) = shared.admission.refusal() else { return };
    let after = shared.admission.retry_after(peer.ip(), no_room);
    tracing::debug!(address = %peer, retry_after = ?after, "too many handshakes are pending; told the peer when to try again");
    let tell = async {
        stream.write_all(&shared.admission.authenticator.busy(after)).await?;
        close_after_refusal(Channel::Open(stream)).await
    };
    tokio::select! {
        // A peer that cannot be told sees that the connection is closed.
        _ = timeout(REFUSAL_TIMEOUT, tell) => {}
        () = shared.closing.cancelled() => {}
    }
}

/// Closes a connection so that the peer can read why it was refused. If something of the peer's were unread, the system
/// would reset the connection, and the peer could lose what it was sent.
async fn close_after_refusal(mut channel: Channel) -> std::io::Result<()> {
    channel.shutdown().await?;
    tokio::io::copy(&mut channel.take(REFUSAL_READ_LIMIT), &mut tokio::io::sink()).await?;
    Ok(())
}
