//! Callers as administrators see them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::CallId,
    seconds,
    security::{Access, Principal},
};

/// A caller in another process: a [`Cluster`](crate::Cluster), or a node whose handlers make nested calls. It is connected, or
/// its connection broke and the master waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallerInfo {
    /// The name that it gave itself.
    pub name: Arc<str>,
    /// Where its newest connection comes from.
    pub addr: SocketAddr,
    /// The credential with which it came.
    pub principal: Principal,
    /// The role in which it came: [`Access::Nodes`] for the nested calls of a node.
    pub access: Access,
    /// Whether it has a connection. If not, the master waits for it to come back and go on with its calls: see
    /// [`MasterBuilder::resume_timeout`](crate::MasterBuilder::resume_timeout).
    pub is_connected: bool,
    /// Time since its first connection.
    #[serde(with = "seconds")]
    pub connected_for: Duration,
    /// How many calls of it are not answered yet, those of the admin service included. Each call of a batch counts.
    pub calls: usize,
    /// The id of its first call. The ids of all its calls have the same part before the `-`.
    pub first_call: CallId,
}
