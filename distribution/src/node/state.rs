//! What the parts of a node share: its desired state, its status, and what each connection needs.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    compute::ComputePool, handler_runtime::HandlerRuntime, latch::Latch, nested::NestedCalls, runner::Runner,
    waker::WatchdogWaker,
};
use crate::{
    error::{Endpoint, Error},
    log_queue::NodeLogs,
    service::router::Router,
    wire::{authenticator::PeerAuthenticator, channel::Connector, handshake::Registration},
};

/// What the owner wants of the node's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DesiredState {
    Serve,
    Drain,
    /// Say goodbye and end, without waiting for running calls.
    Stop,
}

/// The state that the node's threads are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Not registered: not yet, or not at the moment.
    Connecting,
    Registered,
    /// The node has ended. With a reason unless its owner, or the end of its master, ended it in order.
    Ended(Option<EndReason>),
}

/// Why a node ended against its owner's will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    Refused(String),
    /// The master wants a credential that it was not given.
    NoCredential(String),
    Protocol(String),
    Untrusted(String),
    /// The address, which is not on loopback.
    Insecure(String),
    /// The runtime of the async handlers has ended.
    RuntimeEnded,
    /// The first registration took longer than `connect_timeout`.
    ConnectTimeout {
        timeout: Duration,
        last_failure: String,
    },
    /// The master was away for longer than `master_timeout`.
    MasterLost {
        timeout: Duration,
        last_failure: String,
    },
}

impl EndReason {
    /// The error for the owner of the node.
    pub(super) fn into_error(self, master: &str) -> Error {
        let (master, end) = (master.to_owned(), Endpoint::Node);
        match self {
            Self::Refused(reason) => Error::Refused { end, master, reason },
            Self::NoCredential(reason) => Error::NoCredential { end, master, reason },
            Self::Protocol(reason) => Error::Protocol { end, master, reason },
            Self::Untrusted(reason) => Error::Untrusted { end, master, reason },
            Self::Insecure(addr) => Error::Insecure { end, addr },
            Self::RuntimeEnded => Error::RuntimeEnded {},
            Self::ConnectTimeout { timeout, last_failure } => {
                Error::ConnectTimeout { end, master, timeout, last_failure }
            }
            Self::MasterLost { timeout, last_failure } => Error::MasterLost { master, timeout, last_failure },
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) | Self::NoCredential(reason) | Self::Protocol(reason) | Self::Untrusted(reason) => {
                f.write_str(reason)
            }
            Self::RuntimeEnded => f.write_str("the runtime that its async handlers ran on has ended"),
            Self::Insecure(addr) => {
                write!(f, "the master's address {addr} is not on loopback, and the node has no security settings")
            }
            Self::ConnectTimeout { timeout, last_failure } => {
                write!(f, "not registered within the connect timeout of {timeout:?}: {last_failure}")
            }
            Self::MasterLost { timeout, last_failure } => {
                write!(f, "the master was away for longer than {timeout:?}: {last_failure}")
            }
        }
    }
}

/// How long the node tries to register before it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// For the first registration; without it the node waits for its master.
    pub(super) connect: Option<Duration>,
    /// After the connection was lost; without it the node tries for ever. With it, the node also ends when the master
    /// says that it shuts down.
    pub(super) master: Option<Duration>,
    /// For running calls, once the node drains.
    pub(super) drain: Duration,
}

/// What all connections of a node share.
pub(super) struct NodeShared {
    /// The master's address as it was given.
    pub(super) master: String,
    /// For a master in the same process.
    pub(super) connector: Option<Connector>,
    pub(super) authenticator: PeerAuthenticator,
    pub(super) registration: Registration,
    pub(super) router: Router,
    pub(super) compute_pool: Arc<ComputePool>,
    /// Where async handlers run.
    pub(super) handler_runtime: Arc<HandlerRuntime>,
    pub(super) runner: Arc<Runner>,
    pub(super) waker: Arc<WatchdogWaker>,
    /// How often an async handler was seen to block.
    pub(super) blocked: Arc<AtomicU32>,
    /// Compute handlers that have outlived their connection, and still hold slots.
    pub(super) stale: Arc<AtomicU32>,
    /// What handlers make nested calls with.
    pub(super) nested: Arc<NestedCalls>,
    /// What it has logged and not sent.
    pub(super) logs: Arc<NodeLogs>,
    /// How many compute handlers may wait for nested calls, each with a thread.
    pub(super) max_waiting: usize,
    pub(super) max_message_size: usize,
    pub(super) max_depth: u16,
    pub(super) timeouts: Timeouts,
    /// Set when the master asks the node to drain, on whichever connection.
    pub(super) drain_requested: Arc<Latch>,
    pub(super) drain_deadline: OnceLock<Instant>,
    pub(super) status: watch::Sender<Status>,
    /// Bits of the node id of the newest registration.
    pub(super) id: Arc<AtomicU64>,
}

impl NodeShared {
    /// When a node that drains ends at the latest, on whichever connection or none. The first use says when it began.
    pub(super) fn drain_deadline(&self) -> Instant {
        *self.drain_deadline.get_or_init(|| Instant::now() + self.timeouts.drain)
    }
}
