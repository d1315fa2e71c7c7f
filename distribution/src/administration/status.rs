//! What a master is, as administrators see it.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::seconds;

/// What a master is, and what is connected to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MasterStatus {
    /// The version of this crate that the master was built with.
    pub version: String,
    /// The address that the master listens on.
    pub addr: SocketAddr,
    /// How nodes and callers prove who they are.
    pub security: MasterSecurity,
    /// Time since it started.
    #[serde(with = "seconds")]
    pub running_for: Duration,
    /// How many nodes are registered.
    pub nodes: usize,
    /// How many of them get new calls: those that are neither suspect, draining nor cordoned.
    pub alive: usize,
    /// How many callers in other processes are connected, nodes that make nested calls and administrators included.
    pub callers: usize,
    /// Whether it shuts down: it takes no more nodes and calls, and waits for those in flight.
    pub is_shutting_down: bool,
}

/// How nodes and callers prove to a master who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MasterSecurity {
    /// Not at all.
    None,
    /// By tokens of the master's [token file](crate::MasterBuilder::token_file).
    Tokens,
    /// By [certificates](crate::MasterBuilder::certificates).
    Certificates,
}
