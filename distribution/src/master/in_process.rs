//! Nodes in the master's own process, which connect through memory instead of a socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{accept, callers, handle::Master, shared::Shared};
use crate::{
    security::Access,
    wire::{
        channel::{Channel, Connector},
        credential::Credential,
        handshake::{Purpose, Release, read_hello, read_registration},
    },
};

/// The address that stands for a peer, or a master, without a socket.
pub(super) const IN_PROCESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Master {
    /// Opens connections to this master. To be called on the master's runtime, which then runs the master's end of each
    /// connection, whatever thread the connection is opened on.
    pub(crate) fn connector(&self) -> Connector {
        let (shared, runtime) = (Arc::clone(&self.shared), Handle::current());
        Connector::new(move |purpose| {
            let (ours, theirs) = Channel::in_memory();
            let _inside = runtime.enter();
            match purpose {
                Purpose::OfRole => shared.track(register(Arc::clone(&shared), ours)),
                Purpose::NestedCalls => shared.track(take_calls(Arc::clone(&shared), ours)),
            }
            theirs
        })
    }
}

/// Registers the node at the other end and runs its connection. There is nothing to prove within one process.
async fn register(shared: Arc<Shared>, mut channel: Channel) {
    match read_registration(&mut channel, |_| ()).await {
        Ok(registration) => {
            accept::join(shared, channel, Credential::open(Access::Nodes), (registration, Release::own()), IN_PROCESS)
                .await;
        }
        Err(error) => tracing::debug!(reason = %error, "a node in this process left before it had registered"),
    }
}

/// Serves the nested calls of the node at the other end.
async fn take_calls(shared: Arc<Shared>, mut channel: Channel) {
    match read_hello(&mut channel, |_| ()).await {
        Ok(hello) => callers::join(shared, channel, Credential::open(Access::Nodes), hello, IN_PROCESS).await,
        Err(error) => tracing::debug!(reason = %error, "a node in this process left before it could make nested calls"),
    }
}
