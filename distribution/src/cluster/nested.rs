//! The second connection of a node, on which its handlers make nested calls.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{session, shared::ClusterShared};
use crate::{
    config::LONGEST_TIME,
    service::dispatcher::Dispatcher,
    wire::{
        authenticator::PeerAuthenticator,
        channel::Connector,
        handshake::{CallerHello, CallingNode},
    },
};

/// What a node makes nested calls through. Dropping it ends the connection.
pub(crate) struct NestedCaller(Arc<ClusterShared>);

/// What it takes to open the connection.
pub(crate) struct NestedCallerSetup {
    pub(crate) master: String,
    pub(crate) name: String,
    /// The random number of the node's process, by which it registered.
    pub(crate) instance: u128,
    pub(crate) max_message_size: u64,
    pub(crate) max_depth: u16,
    pub(crate) authenticator: PeerAuthenticator,
    /// For a master in the same process.
    pub(crate) connector: Option<Connector>,
}

impl NestedCaller {
    /// Opens the connection, on this runtime. Calls wait until it is open.
    pub(crate) fn open(setup: &NestedCallerSetup, runtime: &Handle) -> Self {
        let NestedCallerSetup { master, name, instance, max_message_size, max_depth, authenticator, connector } = setup;
        let hello = CallerHello {
            name: name.clone(),
            max_message_size: *max_message_size,
            node: Some(CallingNode { instance: *instance }),
            session: None,
        };
        let authenticator = authenticator.clone().for_nested_calls();
        // The node itself decides how long it waits for its master.
        let shared = ClusterShared::new(
            master.clone(),
            hello,
            authenticator,
            LONGEST_TIME,
            super::builder::TIMEOUT,
            *max_depth,
            connector.clone(),
        );
        runtime.spawn(session::run(Arc::clone(&shared)));
        Self(shared)
    }

    pub(crate) fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.0) as Arc<dyn Dispatcher>
    }
}

impl Drop for NestedCaller {
    fn drop(&mut self) {
        self.0.closed.cancel();
    }
}
