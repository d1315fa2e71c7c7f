//! Takes connections in: has them show that they may come, hears who they are, and turns away what is no node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};

#[cfg(feature = "tls")]
use super::revocation::Watch;
use super::{
    admission::{NoRoom, Noted, PendingHandshake},
    dispatch::Shared,
    link,
};
use crate::{
    config::to_micros,
    core::{GONE_AFTER, JoinRefused, SUSPECT_AFTER, split_registration},
    error::GoneReason,
    security::Operation,
    wire::{
        authenticator::{Admitted, TurnedAway},
        channel::Channel,
        hello::{HelloError, Registration, Verdict, answer, read_registration},
    },
};

/// After an accept that failed, mostly for want of file descriptors: trying again at once would fail
/// again, and keep a core busy.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a peer that was turned away may take to read why.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// A handshake that is found to be late by this much more is no fault of the peer's: this process was not run meanwhile, and
/// neither read what had come.
const STALLED: Duration = Duration::from_millis(500);

/// What is read of a peer that was turned away.
const FAREWELL_BYTES: u64 = 64 * 1024;

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
                    tracing::debug!(%peer, %error, "TCP_NODELAY cannot be set");
                }
                match shared.admission.enter(peer.ip()) {
                    Ok(pending) => shared.track(enrol(Arc::clone(&shared), pending, stream, peer)),
                    Err(no_room) => {
                        let shared = Arc::clone(&shared);
                        shared.clone().track(async move { refuse(&shared, stream, peer, no_room).await });
                    }
                }
            }
            Err(error) => {
                if !failing {
                    tracing::error!(%error, "cannot accept connections; trying again every {PAUSE:?}");
                }
                failing = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Registers the node at the other end, if it is one, and runs its link.
async fn enrol(shared: Arc<Shared>, pending: PendingHandshake, stream: TcpStream, peer: SocketAddr) {
    // While nothing has come yet, it can still be told that there is no room.
    let heard = tokio::select! {
        heard = first_byte(&shared, &stream, peer) => heard,
        () = pending.evicted.cancelled() => {
            // Its place is another's already.
            drop(pending);
            return refuse(&shared, stream, peer, NoRoom::AtAddress).await;
        }
        () = shared.closing.cancelled() => return,
    };
    let deadline = match heard {
        Ok(deadline) => deadline,
        Err(error) => {
            warn_of(&shared, peer, &error);
            return shared.admission.turn_away(peer.ip(), false);
        }
    };
    let received = tokio::select! {
        received = receive(&shared, &pending, stream, deadline) => received,
        () = pending.evicted.cancelled() => {
            if let Some(suppressed) = shared.admission.should_log(Noted::CutShort, peer.ip()) {
                tracing::warn!(%peer, suppressed, "closed a connection that had not registered, because too many others wait to");
            }
            return shared.admission.turn_away(peer.ip(), pending.was_cut_short());
        }
        () = shared.closing.cancelled() => return,
    };
    let (Admitted { channel: mut stream, credential }, registration) = match received {
        Ok(received) => received,
        Err(TurnedAway { error, channel }) => {
            warn_of(&shared, peer, &error);
            // Where it is this process that was late, the peer may have done all it could.
            let began = pending.has_begun() && deadline.elapsed() < STALLED;
            shared.admission.turn_away(peer.ip(), error.is_failure_to_prove() || began);
            if let Some(channel) = channel {
                tokio::select! {
                    // Who is late anyway gets no more time.
                    _ = timeout(FAREWELL_TIME, bid_farewell(channel)) => {}
                    () = pending.evicted.cancelled() => {}
                    () = shared.closing.cancelled() => {}
                }
            }
            return;
        }
    };
    pending.has_registered();
    drop(pending);
    let checked = registration
        .check()
        .and_then(|()| shared.bindings.check(&registration, &credential))
        .and_then(|()| shared.admission.authenticator.check_name(&registration.name, &credential));
    if let Err(reason) = checked {
        if let Some(suppressed) = shared.admission.should_log(Noted::Refused, peer.ip()) {
            tracing::warn!(%peer, principal = %credential.principal, reason, suppressed, "refused a registration");
        }
        // It may be gone already, and then it needs no answer.
        let _ = answer(&mut stream, &Verdict::Refused { reason, for_good: true }).await;
        shared.admission.turn_away(peer.ip(), true);
        return;
    }
    let (link, task) = link::new(&shared, registration.max_message_size);
    let name = registration.name.clone();
    let registration = split_registration(registration, credential.principal.clone());
    // Registered before it is told so: a node that knows it is registered is in the list.
    let joined = shared.with_core("a node joined", |core, now, effects| {
        let displaced = core.may_join((&registration.0, &registration.1))?;
        let node = core.new_node_id();
        core.on_node_joined(now, node, registration, peer, link, effects);
        // After it has joined, so that their calls find it.
        core.on_nodes_displaced(now, displaced, effects);
        Ok(node)
    });
    let node = match joined {
        Some(Ok(node)) => node,
        Some(Err(JoinRefused { reason, taken_by })) => {
            if let Some(suppressed) = shared.admission.should_log(Noted::RefusedForNow, peer.ip()) {
                tracing::warn!(
                    %peer,
                    principal = %credential.principal,
                    reason,
                    taken_by,
                    suppressed,
                    "refused a registration for now"
                );
            }
            // It may be gone already, and then it needs no answer.
            let _ = answer(&mut stream, &Verdict::Refused { reason, for_good: false }).await;
            shared.admission.refuse_for_now(peer.ip());
            return;
        }
        None => return,
    };
    let _joined = shared.admission.has_joined(peer.ip());
    #[cfg(feature = "tls")]
    let _watch = Watch::new(&shared, node, credential);
    // A node is more patient than the master: it must not give up a master that was stalled and would
    // have let the silence pass, or that waits longer because most nodes are silent.
    let welcome = Verdict::Welcome {
        node: node.to_bits(),
        // Twice as often as the window counts: loss that begins just before a heartbeat lets that one
        // through, and is to be noticed within seven heartbeats all the same.
        heartbeat: to_micros(shared.heartbeat / 2),
        silence: to_micros(shared.heartbeat * (GONE_AFTER * 2 + SUSPECT_AFTER)),
        max_message_size: shared.max_message_size as u64,
    };
    match answer(&mut stream, &welcome).await {
        Ok(()) => {
            shared.look_for_uncallable(node, name);
            task.run(Arc::clone(&shared), stream, node).await;
        }
        Err(error) => {
            let reason = GoneReason::Broken(error.to_string().into());
            shared.with_core("a node is gone", |core, now, effects| core.on_node_gone(now, node, reason, effects));
        }
    }
}

/// The peer is promised the whole of this as it counts, so that here it is a little less.
fn handshake_timeout(shared: &Shared) -> Duration {
    shared.limits.handshake_timeout.mul_f64(0.9)
}

/// Waits until the peer may be heard and has said something, and says until when it must have registered.
async fn first_byte(shared: &Shared, stream: &TcpStream, peer: SocketAddr) -> Result<Instant, HelloError> {
    // Before a byte is read, so that guessing costs those who guess and not the master.
    sleep(shared.admission.wait(peer.ip())).await;
    let deadline = Instant::now() + handshake_timeout(shared);
    match timeout_at(deadline, stream.readable()).await {
        // An error shows again where the stream is read.
        Ok(_) => Ok(deadline),
        Err(_) => Err(late(shared)),
    }
}

/// Logs that a connection was closed, unless there were too many such lines lately.
fn warn_of(shared: &Shared, peer: SocketAddr, error: &HelloError) {
    if let Some(suppressed) = shared.admission.should_log(Noted::not_registered(error), peer.ip()) {
        tracing::warn!(%peer, reason = %error, suppressed, "closed a connection that did not register");
    }
}

fn late(shared: &Shared) -> HelloError {
    HelloError::Late { what: "hello", time: handshake_timeout(shared) }
}

/// Hears a peer up to its registration.
async fn receive(
    shared: &Shared,
    pending: &PendingHandshake,
    stream: TcpStream,
    deadline: Instant,
) -> Result<(Admitted, Registration), TurnedAway> {
    let admission = &shared.admission;
    let received = timeout_at(deadline, async {
        let mut admitted = admission.authenticator.admit(stream, pending.may_begin()).await?;
        if admission.authenticator.demands_proof() {
            pending.has_proven();
        }
        let access = admitted.credential.access;
        if !access.may(Operation::Register) {
            let reason = format!("a {access} does not register, and this release of the master takes no {access}s");
            // Instead of hearing it. It may be gone already, and then it needs no answer.
            let _ = answer(&mut admitted.channel, &Verdict::Refused { reason, for_good: true }).await;
            return Err(TurnedAway { error: HelloError::NotServed(access), channel: Some(admitted.channel) });
        }
        match read_registration(&mut admitted.channel, |size| admission.decoding(size)).await {
            Ok(registration) => Ok((admitted, registration)),
            Err(error) => Err(TurnedAway { error, channel: Some(admitted.channel) }),
        }
    });
    received.await.unwrap_or_else(|_| Err(TurnedAway { error: late(shared), channel: None }))
}

/// Tells a peer of which nothing was read that there is no room, and when to come again.
async fn refuse(shared: &Shared, mut stream: TcpStream, peer: SocketAddr, no_room: NoRoom) {
    shared.admission.turn_away(peer.ip(), false);
    let Some(_leave) = shared.admission.refusal() else { return };
    let after = shared.admission.turn(peer.ip(), no_room);
    tracing::debug!(%peer, ?after, "too many others register; told a connection when to come again");
    let tell = async {
        stream.write_all(&shared.admission.authenticator.busy(after)).await?;
        bid_farewell(Channel::Open(stream)).await
    };
    tokio::select! {
        // If it cannot be told, it finds out.
        _ = timeout(FAREWELL_TIME, tell) => {}
        () = shared.closing.cancelled() => {}
    }
}

/// Closes a connection so that the peer can read what it was told: with something of the peer's unread, the system would
/// reset the connection and take that away again.
async fn bid_farewell(mut channel: Channel) -> std::io::Result<()> {
    channel.shutdown().await?;
    tokio::io::copy(&mut channel.take(FAREWELL_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
