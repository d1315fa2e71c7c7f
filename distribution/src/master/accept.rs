//! Takes connections in: hears who it is, and turns away what is no node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use super::{dispatch::Shared, link};
use crate::{
    config::to_micros,
    core::GONE_AFTER,
    error::GoneReason,
    wire::hello::{Verdict, answer, receive},
};

/// After an accept that failed, mostly for want of file descriptors: trying again at once would fail
/// again, and keep a core busy.
const PAUSE: Duration = Duration::from_millis(100);

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
                shared.track(enrol(Arc::clone(&shared), stream, peer));
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
async fn enrol(shared: Arc<Shared>, mut stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY cannot be set");
    }
    let received = tokio::select! {
        received = receive(&mut stream) => received,
        () = shared.closed.cancelled() => return,
    };
    let registration = match received {
        Ok(registration) => registration,
        Err(reason) => {
            tracing::warn!(%peer, %reason, "closed a connection that did not register");
            return;
        }
    };
    if let Err(reason) = registration.check() {
        tracing::warn!(%peer, reason, "refused a registration");
        // It may be gone already, and then it needs no answer.
        let _ = answer(&mut stream, &Verdict::Refused { reason, for_good: true }).await;
        return;
    }
    let (link, task) = link::new(&shared, registration.frame_limit);
    // Registered before it is told so: a node that knows it is registered is in the list.
    let node = shared.with_core(|core, now, effects| {
        let node = core.new_node_id();
        core.joined(now, node, registration, peer, link, effects);
        node
    });
    let welcome = Verdict::Welcome {
        node: node.to_bits(),
        heartbeat: to_micros(shared.heartbeat),
        silence: to_micros(shared.heartbeat * GONE_AFTER),
        frame_limit: shared.frame_limit as u64,
    };
    match answer(&mut stream, &welcome).await {
        Ok(()) => task.run(Arc::clone(&shared), stream, node).await,
        Err(error) => {
            let reason = GoneReason::Broken(error.to_string());
            shared.with_core(|core, now, effects| core.gone(now, node, reason, effects));
        }
    }
}
