//! Why a node is no longer registered.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Why a node is no longer registered. Prints as what the node did: `closed its connection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GoneReason {
    /// The connection ended without a goodbye: the process died, or was cut off with a reset.
    Disconnected,
    /// Reading from or writing to the connection failed.
    Broken(Box<str>),
    /// The node sent nothing for this long.
    Silent(#[serde(with = "crate::seconds")] Duration),
    /// The node said goodbye: it drained, or its `Node` was dropped.
    Left,
    /// The node sent something that breaks the protocol.
    Violation(Box<str>),
    /// The node's process registered again, over another connection.
    Replaced,
    /// The credential with which the node registered was revoked.
    Revoked,
    /// The certificate with which the node registered has expired.
    Expired,
    /// Another node registered whose credential is for this name, and this node's credential is not.
    Displaced,
    /// The master's program called [`Master::disconnect`](crate::Master::disconnect).
    DisconnectedByMaster,
    /// An administrator called [`Master::kick`](crate::Master::kick).
    Kicked,
    /// The master shut down.
    Shutdown,
    /// The node is still there, but gave the call up, because the runtime of its async handlers has ended.
    Dropped(Box<str>),
}

impl GoneReason {
    /// Whether the node's process may have died. A node that said goodbye or registered again lives.
    pub(crate) fn is_death(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Broken(_) | Self::Silent(_))
    }

    /// Whether a call that the node had may be the cause. An administrator kicks a node that a call has made useless.
    pub(crate) fn may_be_by_call(&self) -> bool {
        self.is_death() || matches!(self, Self::Kicked)
    }
}

impl fmt::Display for GoneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => {
                f.write_str("closed its connection without a goodbye (its process ended, or the network failed)")
            }
            Self::Broken(what) => write!(f, "lost its connection: {what}"),
            Self::Silent(time) => {
                write!(f, "was silent for {:.1} s (frozen, overloaded, or without network)", time.as_secs_f64())
            }
            Self::Left => f.write_str("said goodbye"),
            Self::Replaced => f.write_str("registered again, over another connection"),
            Self::Violation(what) => write!(f, "broke the protocol: {what}"),
            Self::Revoked => f.write_str("was disconnected because its credential was revoked"),
            Self::Expired => f.write_str("was disconnected because its certificate has expired"),
            Self::Displaced => {
                f.write_str("was disconnected because a node registered whose credential is for this name")
            }
            Self::DisconnectedByMaster => f.write_str("was disconnected by the master's program"),
            Self::Kicked => f.write_str("was kicked by an administrator"),
            Self::Shutdown => f.write_str("was disconnected because the master shut down"),
            Self::Dropped(what) => write!(f, "gave the call up: {what}"),
        }
    }
}
