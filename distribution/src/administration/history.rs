//! How a cluster did in the last hour and the last day.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{MethodName, NodeId},
    seconds,
};

/// Which part of a master's history is wanted. The default is the last hour of the cluster as a whole, without that of
/// methods and nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HistoryFilter {
    /// How much time a point stands for.
    pub resolution: Resolution,
    /// Only points from this number on: the [`next`](History::next) of an earlier answer.
    pub from: u64,
    /// With the points of each method.
    pub methods: bool,
    /// With the points of each node.
    pub nodes: bool,
    /// With the points of this node only, if `nodes` is set.
    pub node: Option<NodeId>,
}

impl HistoryFilter {
    /// How much time a point stands for.
    pub fn resolution(self, resolution: Resolution) -> Self {
        Self { resolution, ..self }
    }

    /// Only points from this number on.
    pub fn from(self, number: u64) -> Self {
        Self { from: number, ..self }
    }

    /// With the points of each method.
    pub fn methods(self) -> Self {
        Self { methods: true, ..self }
    }

    /// With the points of each node.
    pub fn nodes(self) -> Self {
        Self { nodes: true, ..self }
    }

    /// With the points of this node, and of no other.
    pub fn node(self, node: impl Into<NodeId>) -> Self {
        Self { nodes: true, node: Some(node.into()), ..self }
    }
}

/// How much time a point of the history stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resolution {
    /// A second; the master keeps an hour of them.
    #[default]
    Second,
    /// A minute; the master keeps a day of them.
    Minute,
}

impl Resolution {
    /// The time that a point stands for.
    pub fn step(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
        })
    }
}

/// What has happened, by seconds or minutes. Points are numbered by the time since the master started: point 0 is the first
/// second, or the first minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// When the master started, by its clock: time since the beginning of 1970 (UTC). Each answer of a master has the same.
    #[serde(with = "seconds")]
    pub started: Duration,
    /// How much time a point stands for.
    pub resolution: Resolution,
    /// The number of the next point that will be made. Give it to [`HistoryFilter::from`] to get what is new then.
    pub next: u64,
    /// The cluster as a whole, in order.
    pub cluster: Vec<ClusterPoint>,
    /// The methods that were called, 128 at most: one that is called for the first time gets the place of one that has been idle
    /// for 60 points. Seconds and minutes in which nothing of a method
    /// ended are left out.
    pub methods: Vec<MethodHistory>,
    /// The nodes. Of more than 291 nodes the master keeps less than an hour, and of more than 728 less than a day: all nodes
    /// together have 1,048,576 points of each resolution.
    pub nodes: Vec<NodeHistory>,
}

/// The history of one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodHistory {
    /// Its name.
    pub name: MethodName,
    /// The version of its service.
    pub version: u32,
    /// Its points, in order.
    pub points: Vec<MethodPoint>,
}

/// The history of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeHistory {
    /// The node's id.
    pub id: NodeId,
    /// The name that it gave itself.
    pub name: Arc<str>,
    /// Its points, in order.
    pub points: Vec<NodePoint>,
}

/// What the cluster did in one second or minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterPoint {
    /// The number of the point.
    pub number: u64,
    /// Calls that ended. Each call of a batch counts.
    pub ended: u64,
    /// How many of them failed: see [`Outcomes::failures`](super::Outcomes::failures).
    pub failed: u64,
    /// Calls that waited at the master, at its end.
    pub waiting: u64,
    /// Calls that nodes had, at its end.
    pub running: u64,
    /// Nodes that were registered, at its end.
    pub nodes: u32,
    /// Slots of these nodes.
    pub slots: u32,
    /// How many of the slots were taken, on average.
    pub busy: f32,
}

/// What the calls of a method did in one second or minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodPoint {
    /// The number of the point.
    pub number: u64,
    /// Calls that ended.
    pub ended: u32,
    /// How many of them failed.
    pub failed: u32,
    /// The median time in the queue, in seconds; 0 if none was sent.
    pub queue_p50: f32,
    /// The time that 99 of 100 calls were at most in the queue, in seconds.
    pub queue_p99: f32,
    /// The median time in the handler, in seconds; 0 if none was answered.
    pub handler_p50: f32,
    /// The time that 99 of 100 calls were at most in the handler, in seconds.
    pub handler_p99: f32,
}

/// What a node did in one second or minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodePoint {
    /// The number of the point.
    pub number: u64,
    /// Attempts that ended.
    pub ended: u32,
    /// How many of them failed.
    pub failed: u32,
    /// How many slots were taken, on average; see [`ClusterPoint::busy`].
    pub busy: f32,
    /// Cores that its process used, on average; 0 if it does not tell.
    pub cpu: f32,
    /// Bytes of memory that it held, at the end; 0 if it does not tell.
    pub memory: u64,
    /// The longest time that a task of its runtime had to wait, in seconds.
    pub lag: f32,
}
