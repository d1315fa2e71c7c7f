//! Takes connections in: hears who it is, and turns away what is no node.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;

use super::{dispatch::Shared, link};
use crate::{
    config::{Limits, to_micros},
    core::{GONE_AFTER, SUSPECT_AFTER},
    error::GoneReason,
    wire::hello::{Verdict, answer, receive},
};

/// After an accept that failed, mostly for want of file descriptors: trying again at once would fail
/// again, and keep a core busy.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections that have not registered yet, oldest first: a limited number, and from one address. A
/// newcomer beyond that ends the oldest of them: a real node registers at once, so whoever is oldest is none.
#[derive(Debug, Default)]
struct Strangers {
    waiting: Mutex<VecDeque<(u64, IpAddr, CancellationToken)>>,
    count: AtomicU64,
}

impl Strangers {
    /// Lets one more in, until the guard is dropped; ends the oldest where there are too many.
    fn enter(self: &Arc<Self>, limits: &Limits, addr: IpAddr) -> Stranger {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let evicted = CancellationToken::new();
        let mut waiting = self.lock();
        let same = waiting.iter().filter(|(_, other, _)| *other == addr).count();
        let oldest = if same >= limits.handshakes_per_address {
            waiting.iter().position(|(_, other, _)| *other == addr)
        } else {
            (waiting.len() >= limits.handshakes).then_some(0)
        };
        if let Some((_, _, oldest)) = oldest.and_then(|at| waiting.remove(at)) {
            oldest.cancel();
        }
        waiting.push_back((number, addr, evicted.clone()));
        Stranger { strangers: Arc::clone(self), number, evicted }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, IpAddr, CancellationToken)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the strangers.
struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    /// Set when a newcomer needs the place.
    evicted: CancellationToken,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.lock().retain(|(number, ..)| *number != self.number);
    }
}

pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let mut failing = false;
    let strangers = Arc::new(Strangers::default());
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
                let stranger = strangers.enter(&shared.limits, peer.ip());
                shared.track(enrol(Arc::clone(&shared), stranger, stream, peer));
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
async fn enrol<Io>(shared: Arc<Shared>, stranger: Stranger, mut stream: Io, peer: SocketAddr)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send,
{
    // The peer is promised the whole of this as it counts, so that here it is a little less.
    let time = shared.limits.handshake_time.mul_f64(0.9);
    let received = tokio::select! {
        received = receive(&mut stream, time) => received,
        () = stranger.evicted.cancelled() => {
            tracing::warn!(%peer, "closed a connection that had not registered, because too many others wait to");
            return;
        }
        () = shared.closing.cancelled() => return,
    };
    drop(stranger);
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
            shared.with_core(|core, now, effects| core.gone(now, node, reason, effects));
        }
    }
}
