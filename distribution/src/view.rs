//! What people see of the nodes: the registry's rows and the events that change it.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    error::GoneReason,
    id::{NodeId, NodeIdentity},
    security::Principal,
};

/// A registered node, as it was when [`Master::nodes`](crate::Master::nodes) was called.
///
/// Serialises to the same fields, so that a list of nodes can be shown as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// This registration.
    pub id: NodeId,
    /// The node's name for itself.
    pub name: Arc<str>,
    /// Where its connection comes from.
    pub addr: SocketAddr,
    /// The labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// The services it serves, by name.
    pub services: Arc<[ServiceInfo]>,
    /// By what it was let in.
    pub principal: Principal,
    /// Compute calls it runs at once.
    pub slots: u32,
    /// Whether it gets new calls.
    pub state: NodeState,
    /// What it is given of the calls that it could take, from 0 to 1. Below 1 after its calls failed while those on other
    /// nodes did not: 0 while it is given none, then more with each call that it answers. See [`NodeEvent::Ejected`].
    pub share: f64,
    /// Calls that were sent to it and are not answered yet.
    pub in_flight: usize,
    /// Calls whose handler it has run and answered since it registered, failed ones included.
    pub answered: u64,
    /// Methods that it serves and that cannot be called on it, each with the reason: the callers at this master, or the
    /// other nodes, have another version, signature or structure of the types in it. Found out as it registers; eight
    /// entries at most.
    pub uncallable: Vec<String>,
    /// How often one of its async handlers has blocked the thread that it ran on, so that others had to wait. Such a
    /// handler should be a `fn`, or hand its work to `tokio::task::spawn_blocking`. The node's log names the methods.
    pub blocked_async: u32,
    /// Time since it registered.
    #[serde(serialize_with = "seconds")]
    pub registered_for: Duration,
    /// Time since anything was heard of it, as of the last look (several a second).
    #[serde(serialize_with = "seconds")]
    pub silent_for: Duration,
}

impl NodeInfo {
    /// The part of this that errors and answers carry too.
    pub fn identity(&self) -> NodeIdentity {
        NodeIdentity::new(self.id, &self.name, self.addr)
    }
}

impl From<&NodeInfo> for NodeId {
    fn from(node: &NodeInfo) -> Self {
        node.id
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// A service that a node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// Its name on the wire.
    pub name: String,
    /// Its version, 1 unless the trait says otherwise.
    pub version: u32,
    /// Its methods with their signatures: `sum: fn(Vec<i64>) -> i64`.
    pub methods: Vec<String>,
}

/// Whether a node gets new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NodeState {
    /// It does.
    Alive,
    /// It has missed heartbeats and gets none until it is heard again.
    Suspect,
    /// It is leaving: it gets none, and ends those it has.
    Draining,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
        })
    }
}

/// A change of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A node registered and gets calls from now on.
    #[non_exhaustive]
    Joined {
        /// The node.
        node: NodeIdentity,
        /// By what it was let in.
        principal: Principal,
    },
    /// A node has been silent for three heartbeats; it gets no new calls.
    #[non_exhaustive]
    Suspect {
        /// The node.
        node: NodeIdentity,
        /// How long it has been silent.
        silent_for: Duration,
    },
    /// A suspect node was heard again.
    #[non_exhaustive]
    Recovered {
        /// The node.
        node: NodeIdentity,
    },
    /// A node is leaving and finishes what it has.
    #[non_exhaustive]
    Draining {
        /// The node.
        node: NodeIdentity,
    },
    /// A node is not registered any more.
    #[non_exhaustive]
    Gone {
        /// The node.
        node: NodeIdentity,
        /// Why.
        reason: GoneReason,
        /// Calls it had not answered.
        in_flight: usize,
    },
    /// A node's calls fail while other nodes answer the same method. It is given no calls for a while that could go
    /// elsewhere, then one at a time, and more with each one that it answers.
    #[non_exhaustive]
    Ejected {
        /// The node.
        node: NodeIdentity,
        /// How long it is given none.
        rest: Duration,
        /// Which calls fail.
        why: Box<str>,
    },
    /// A node that was ejected answers its calls again, and is given as many as it takes.
    #[non_exhaustive]
    Restored {
        /// The node.
        node: NodeIdentity,
    },
    /// This many events were missed, because they were not read as fast as they came.
    Missed(u64),
}

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined { node, principal } => write!(f, "{node} joined by {principal}"),
            Self::Suspect { node, silent_for } => {
                write!(f, "{node} is suspect: silent for {:.1} s, so it gets no new calls", silent_for.as_secs_f64())
            }
            Self::Recovered { node } => write!(f, "{node} was heard again"),
            Self::Draining { node } => write!(f, "{node} is leaving and finishes what it has"),
            Self::Gone { node, reason, in_flight: 0 } => write!(f, "{node} is gone: it {reason}"),
            Self::Gone { node, reason, in_flight: 1 } => {
                write!(f, "{node} is gone with 1 call unanswered: it {reason}")
            }
            Self::Gone { node, reason, in_flight } => {
                write!(f, "{node} is gone with {in_flight} calls unanswered: it {reason}")
            }
            Self::Ejected { node, rest, why } => {
                write!(f, "{node} gets no calls for {:.1} s: {why}", rest.as_secs_f64())
            }
            Self::Restored { node } => write!(f, "{node} answers its calls again, and gets as many as it takes"),
            Self::Missed(count) => write!(f, "{count} events were missed"),
        }
    }
}

/// Totals of a master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that wait at the master for a node.
    pub queued: usize,
    /// Calls that a node has.
    pub in_flight: usize,
    /// Calls that ended with a value or with the method's own error; of batches all that were started,
    /// whatever came of each.
    pub answered: u64,
    /// Calls that ended with another error.
    pub failed: u64,
    /// Calls that their callers gave up.
    pub cancelled: u64,
    /// Values and errors that came after their call had ended, and were dropped. Those that a node still
    /// had when it was lost never come, and are not counted.
    pub late: u64,
    /// Connections that were closed before they had registered: they did not prove that they may, were too slow, or
    /// were too many.
    pub turned_away: u64,
    /// Bytes of registrations that were decoded. A peer that does not prove that it may come in adds none.
    pub registration_bytes: u64,
}
