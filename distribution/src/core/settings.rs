//! What a core is given once, as it starts.

use std::time::Duration;

/// The settings of a core.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) heartbeat: Duration,
    pub(crate) no_node_timeout: Duration,
    /// How long a node with calls stays registered after its connection has broken.
    pub(crate) reconnect_grace: Duration,
    /// Calls that may wait, and bytes of their arguments.
    pub(crate) max_queued_calls: usize,
    pub(crate) max_queued_bytes: usize,
    /// The same for each caller in another process.
    pub(crate) max_queued_calls_per_caller: usize,
    pub(crate) max_queued_bytes_per_caller: usize,
    /// Nodes that may be registered, in all and with one credential.
    pub(crate) max_nodes: usize,
    pub(crate) max_nodes_per_credential: usize,
    /// Requests of each kind that a new node may have in flight; see [`SLOW_START`](super::SLOW_START).
    pub(crate) slow_start: u32,
    /// Calls or nodes that are dealt with under one hold of the lock; see [`SLICE`].
    pub(crate) slice: usize,
    /// What node and call ids begin with.
    pub(crate) epoch: u32,
    pub(crate) seed: u64,
    /// The key of the hash that places nodes on the ring of affinity keys.
    pub(crate) ring_key: [u8; 32],
}

/// The [`Settings::slice`] of a master: about a quarter of a millisecond's work.
pub(crate) const SLICE: usize = 128;
