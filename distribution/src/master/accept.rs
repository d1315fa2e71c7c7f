//! Takes connections in: has them show that they may come, hears who they are, and turns away what is no node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{
    dispatch::Shared,
    door::{Door, Stranger},
    link,
};
use crate::{
    config::to_micros,
    core::{GONE_AFTER, SUSPECT_AFTER},
    error::GoneReason,
    wire::{
        channel::Channel,
        guard::TurnedAway,
        hello::{HelloError, Registration, Verdict, answer, read_registration},
    },
};

/// After an accept that failed, mostly for want of file descriptors: trying again at once would fail
/// again, and keep a core busy.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a peer that was turned away may take to read why.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

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
                match shared.door.enter(peer.ip()) {
                    Some(stranger) => shared.track(enrol(Arc::clone(&shared), stranger, stream, peer)),
                    None => shared.door.turn_away(peer.ip(), false),
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
async fn enrol(shared: Arc<Shared>, stranger: Stranger, stream: TcpStream, peer: SocketAddr) {
    let received = tokio::select! {
        received = receive(&shared, stream, peer) => received,
        () = stranger.evicted.cancelled() => {
            tracing::warn!(%peer, "closed a connection that had not registered, because too many others wait to");
            shared.door.turn_away(peer.ip(), false);
            return;
        }
        () = shared.closing.cancelled() => return,
    };
    let (mut stream, registration) = match received {
        Ok(received) => received,
        Err(TurnedAway { error, channel }) => {
            tracing::warn!(%peer, reason = %error, "closed a connection that did not register");
            let completed_tls = channel.as_ref().is_some_and(Channel::is_tls);
            shared.door.turn_away(peer.ip(), error.is_failure_to_prove() || completed_tls);
            if let Some(channel) = channel {
                tokio::select! {
                    // Who is late anyway gets no more time.
                    _ = timeout(FAREWELL_TIME, bid_farewell(channel)) => {}
                    () = stranger.evicted.cancelled() => {}
                    () = shared.closing.cancelled() => {}
                }
            }
            return;
        }
    };
    drop(stranger);
    if let Err(reason) = registration.check() {
        tracing::warn!(%peer, reason, "refused a registration");
        // It may be gone already, and then it needs no answer.
        let _ = answer(&mut stream, &Verdict::Refused { reason, for_good: true }).await;
        shared.door.turn_away(peer.ip(), true);
        return;
    }
    let (link, task) = link::new(&shared, registration.frame_limit);
    // Registered before it is told so: a node that knows it is registered is in the list.
    let joined = shared.with_core("a node joined", |core, now, effects| {
        let node = core.new_node_id();
        core.joined(now, node, registration, peer, link, effects);
        node
    });
    let Some(node) = joined else { return };
    // A node is more patient than the master: it must not give up a master that was stalled and would
    // have let the silence pass, or that waits longer because most nodes are silent.
    let welcome = Verdict::Welcome {
        node: node.to_bits(),
        // Twice as often as the window counts: loss that begins just before a heartbeat lets that one
        // through, and is to be noticed within seven heartbeats all the same.
        heartbeat: to_micros(shared.heartbeat / 2),
        silence: to_micros(shared.heartbeat * (GONE_AFTER * 2 + SUSPECT_AFTER)),
        frame_limit: shared.frame_limit as u64,
    };
    match answer(&mut stream, &welcome).await {
        Ok(()) => task.run(Arc::clone(&shared), stream, node).await,
        Err(error) => {
            let reason = GoneReason::Broken(error.to_string().into());
            shared.with_core("a node is gone", |core, now, effects| core.gone(now, node, reason, effects));
        }
    }
}

/// Hears a peer up to its registration.
async fn receive(shared: &Shared, stream: TcpStream, peer: SocketAddr) -> Result<(Channel, Registration), TurnedAway> {
    let door: &Door = &shared.door;
    // Before a byte is read, so that guessing costs those who guess and not the master.
    sleep(door.wait(peer.ip())).await;
    // The peer is promised the whole of this as it counts, so that here it is a little less.
    let time = shared.limits.handshake_time.mul_f64(0.9);
    let received = timeout(time, async {
        let mut channel = door.guard.admit(stream).await?;
        match read_registration(&mut channel, |size| door.decoding(size)).await {
            Ok(registration) => Ok((channel, registration)),
            Err(error) => Err(TurnedAway { error, channel: Some(channel) }),
        }
    });
    let late = || TurnedAway { error: HelloError::Late { what: "hello", time }, channel: None };
    received.await.unwrap_or_else(|_| Err(late()))
}

/// Closes a connection so that the peer can read what it was told: with something of the peer's unread, the system would
/// reset the connection and take that away again.
async fn bid_farewell(mut channel: Channel) -> std::io::Result<()> {
    channel.shutdown().await?;
    tokio::io::copy(&mut channel.take(FAREWELL_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
