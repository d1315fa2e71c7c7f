//! What looks wrong in a cluster, although nothing has failed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{MethodName, NodeId};

/// Something that looks wrong in a cluster, in a sentence that says what to do. See [`Master::warnings`](crate::Master::warnings).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// What kind of thing.
    pub kind: WarningKind,
    /// The sentence.
    pub text: String,
    /// The node that it is about.
    pub node: Option<NodeId>,
    /// The name of that node.
    pub node_name: Option<Arc<str>>,
    /// The method that it is about.
    pub method: Option<MethodName>,
}

/// The kinds of things that look wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningKind {
    /// The master shuts down.
    ShuttingDown,
    /// No node is registered.
    NoNodes,
    /// The master itself was held up: its runtime, its machine or its disk.
    MasterStalled,
    /// A node is silent, or its connection has broken.
    NodeSilent,
    /// A node was lost in the last hour, and no node of its name has come since.
    NodeLost,
    /// Calls wait for a method that no node serves.
    NobodyServes,
    /// Handlers go on although their calls have ended, and hold slots.
    SlotsHeld,
    /// A handler has run for very long beside what its method takes otherwise.
    RunsLong,
    /// The queue is full, or one caller's part of it.
    QueueFull,
    /// Async handlers block their threads.
    BlockedAsync,
    /// A node serves methods that cannot be called on it, or nodes have different versions.
    Incompatible,
    /// Arguments of calls that travel in batches are large.
    LargeBatches,
    /// A slot of a node is free for long while calls wait.
    IdleSlots,
    /// A node's clock differs from the master's.
    ClockSkew,
    /// Calls fail on a node, so that it gets fewer of them.
    Ejected,
    /// A node drains.
    Draining,
    /// A node is cordoned.
    Cordoned,
}

impl WarningKind {
    /// How soon somebody should look.
    pub fn level(self) -> WarningLevel {
        match self {
            Self::ShuttingDown
            | Self::NoNodes
            | Self::MasterStalled
            | Self::NodeSilent
            | Self::NobodyServes
            | Self::QueueFull => WarningLevel::Problem,
            Self::NodeLost
            | Self::SlotsHeld
            | Self::RunsLong
            | Self::BlockedAsync
            | Self::Incompatible
            | Self::LargeBatches
            | Self::IdleSlots
            | Self::ClockSkew
            | Self::Ejected => WarningLevel::Warning,
            Self::Draining | Self::Cordoned => WarningLevel::Note,
        }
    }
}

/// How soon somebody should look. The most urgent comes first in the order of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningLevel {
    /// Calls are not answered.
    Problem,
    /// Calls take longer than they have to, or may soon not be answered.
    Warning,
    /// Somebody has asked for it.
    Note,
}
