//! What a program sees of the nodes: the rows of the registry, and the events that change it.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::GoneReason,
    id::{NO_ADDRESS, NodeId, NodeIdentity},
    seconds,
    security::{Principal, PrincipalKind},
};

/// A registered node, as it was when [`Master::nodes`](crate::Master::nodes) was called.
///
/// It is serialised with the same fields, so that a list of nodes can be shown as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// This registration.
    pub id: NodeId,
    /// The name that the node gave itself.
    pub name: Arc<str>,
    /// Where its connection comes from.
    pub addr: SocketAddr,
    /// The labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// The services it serves, by name.
    pub services: Arc<[ServiceInfo]>,
    /// The credential with which it registered.
    pub principal: Principal,
    /// The version of this crate that it was built with, if it says so.
    pub version: Option<String>,
    /// How many compute calls it runs at a time.
    pub slots: u32,
    /// Whether it gets new calls.
    pub state: NodeState,
    /// Whether an administrator has [cordoned](crate::Master::cordon) it: then it gets no new calls, whatever its state.
    pub is_cordoned: bool,
    /// Slots that it cannot use, because handlers of an earlier registration of its process hold them: it was kicked or away for
    /// too long, its calls were taken from it, and their handlers go on. Only the end of the process ends these.
    pub held_slots: u32,
    /// The part of its slots that is given calls, from 0 to 1. It is 1 unless its calls failed while those on other nodes did
    /// not: then it is 0 for a while and grows with each call that it answers. See [`NodeEvent::Ejected`].
    pub share: f64,
    /// How many calls were sent to it and are not answered yet.
    pub in_flight: usize,
    /// How many calls it has run and answered since it registered, including those that ended with an error.
    pub answered: u64,
    /// Methods that it serves and that cannot be called on it, each with the reason: the callers at this master, or the
    /// other nodes, have another version or signature of the method, or another structure of its types. Found when it
    /// registers; at most eight entries.
    pub uncallable: Vec<String>,
    /// How often one of its async handlers has blocked its thread, so that others had to wait. Such a handler should be a
    /// `fn`, or do the work in `tokio::task::spawn_blocking`. The node's log names the methods.
    pub blocked_async: u32,
    /// Time since it registered.
    #[serde(with = "seconds")]
    pub registered_for: Duration,
    /// Time since it last sent anything, as of the last check (there are several a second).
    #[serde(with = "seconds")]
    pub silent_for: Duration,
}

impl NodeInfo {
    /// The part of this that errors and answers carry too.
    pub fn identity(&self) -> NodeIdentity {
        NodeIdentity::new(self.id, &self.name, self.addr)
    }

    /// The same, for a caller that is not told addresses.
    pub(crate) fn without_address(self) -> Self {
        Self { addr: NO_ADDRESS, ..self }
    }
}

impl From<&NodeInfo> for NodeId {
    fn from(node: &NodeInfo) -> Self {
        node.id
    }
}

/// A service that a node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NodeState {
    /// The node gets new calls, unless it is [cordoned](NodeInfo::is_cordoned).
    Alive,
    /// The node has missed heartbeats, and gets no new calls until it sends something again.
    Suspect,
    /// The node's connection has broken, and the master waits for it to come back and go on with its calls. It gets no new
    /// ones. See [`MasterBuilder::reconnect_grace`](crate::MasterBuilder::reconnect_grace).
    Disconnected,
    /// The node is leaving: it gets no new calls, and finishes those that it has.
    Draining,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Disconnected => "disconnected",
            Self::Draining => "draining",
        })
    }
}

/// What a master's [`events`](crate::Master::events) tell: which nodes are registered, and each change.
///
/// It can be serialised and deserialised: `{"gone":{"node":..,"reason":"left","in_flight":0}}` in JSON, with times in
/// seconds. What the master alone tells credentials apart by is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeEvent {
    /// A node was registered already when the stream began, or when it began again after [`Missed`](Self::Missed).
    #[non_exhaustive]
    Present {
        /// The node.
        node: NodeIdentity,
        /// The credential with which it registered.
        principal: Principal,
        /// Whether it gets new calls.
        state: NodeState,
        /// Whether it gets fewer calls because calls fail on it: see [`Ejected`](Self::Ejected).
        is_ejected: bool,
        /// Whether it gets no calls because it is cordoned: see [`Cordoned`](Self::Cordoned).
        is_cordoned: bool,
    },
    /// A node registered and gets calls from now on.
    #[non_exhaustive]
    Joined {
        /// The node.
        node: NodeIdentity,
        /// The credential with which it registered.
        principal: Principal,
    },
    /// A node has been silent for three heartbeats and gets no new calls.
    #[non_exhaustive]
    Suspect {
        /// The node.
        node: NodeIdentity,
        /// How long it has been silent.
        #[serde(with = "seconds")]
        silent_for: Duration,
    },
    /// A suspect node has sent something again, and gets calls again.
    #[non_exhaustive]
    Recovered {
        /// The node.
        node: NodeIdentity,
    },
    /// A node's connection has broken while it had calls. Its handlers may go on, so the master waits for it for the
    /// [`reconnect_grace`](crate::MasterBuilder::reconnect_grace). Meanwhile it gets no new calls.
    #[non_exhaustive]
    Disconnected {
        /// The node.
        node: NodeIdentity,
        /// How the connection was lost.
        reason: GoneReason,
        /// How many calls it has not answered.
        in_flight: usize,
    },
    /// A node has come back on another connection, goes on with its calls, and gets new ones again.
    #[non_exhaustive]
    Resumed {
        /// The node.
        node: NodeIdentity,
        /// How many calls it has not answered.
        in_flight: usize,
    },
    /// A node is leaving: it gets no new calls, and finishes those that it has.
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
        /// How many calls it had not answered.
        in_flight: usize,
    },
    /// A node's calls fail while other nodes answer the same method. For a while it gets no calls that could go to other
    /// nodes; then it gets one at a time, and more with each one that it answers.
    #[non_exhaustive]
    Ejected {
        /// The node.
        node: NodeIdentity,
        /// For how long it gets no calls.
        #[serde(with = "seconds")]
        rest: Duration,
        /// Which calls fail.
        why: Box<str>,
    },
    /// A node that was ejected answers its calls again, and gets as many as other nodes.
    #[non_exhaustive]
    Restored {
        /// The node.
        node: NodeIdentity,
    },
    /// An administrator has [cordoned](crate::Master::cordon) a node, or a node registered whose process is cordoned: it
    /// gets no new calls, and keeps those that it has.
    #[non_exhaustive]
    Cordoned {
        /// The node.
        node: NodeIdentity,
    },
    /// An administrator has [uncordoned](crate::Master::uncordon) a node: it gets new calls again.
    #[non_exhaustive]
    Uncordoned {
        /// The node.
        node: NodeIdentity,
    },
    /// The stream was read too slowly, and missed this many events; 0 if they are those of another run of the master. It
    /// begins again: a [`Present`](Self::Present) follows for each node that is registered now. A node that is not among
    /// these is gone.
    Missed(u64),
}

impl NodeEvent {
    /// The node that this is about; `None` for [`Missed`](Self::Missed).
    pub fn node(&self) -> Option<&NodeIdentity> {
        match self {
            Self::Present { node, .. }
            | Self::Joined { node, .. }
            | Self::Suspect { node, .. }
            | Self::Recovered { node }
            | Self::Disconnected { node, .. }
            | Self::Resumed { node, .. }
            | Self::Draining { node }
            | Self::Gone { node, .. }
            | Self::Ejected { node, .. }
            | Self::Restored { node }
            | Self::Cordoned { node }
            | Self::Uncordoned { node } => Some(node),
            Self::Missed(_) => None,
        }
    }
}

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present { node, principal, state, is_ejected, is_cordoned } => {
                let ejected =
                    if *is_ejected { ", and ejected: it gets few calls because calls fail on it" } else { "" };
                let cordoned = if *is_cordoned { ", and cordoned: it gets no new calls" } else { "" };
                write!(f, "{node} is registered {} and is {state}{ejected}{cordoned}", Registered(principal))
            }
            Self::Joined { node, principal } => write!(f, "{node} registered {}", Registered(principal)),
            Self::Suspect { node, silent_for } => {
                write!(
                    f,
                    "{node} is suspect and gets no new calls: it has been silent for {:.1} s",
                    silent_for.as_secs_f64()
                )
            }
            Self::Recovered { node } => write!(f, "{node} has recovered and gets new calls again"),
            Self::Disconnected { node, reason, in_flight } => {
                let calls = if *in_flight == 1 { "call" } else { "calls" };
                write!(
                    f,
                    "{node} is disconnected with {in_flight} {calls} unanswered: it {reason}; the master waits for it \
                     to come back"
                )
            }
            Self::Resumed { node, in_flight } => {
                let calls = if *in_flight == 1 { "call" } else { "calls" };
                write!(f, "{node} is connected again and goes on with {in_flight} {calls}")
            }
            Self::Draining { node } => write!(f, "{node} is draining: it finishes its calls and gets no new ones"),
            Self::Gone { node, reason, in_flight: 0 } => write!(f, "{node} is gone: it {reason}"),
            Self::Gone { node, reason, in_flight: 1 } => {
                write!(f, "{node} is gone with 1 call unanswered: it {reason}")
            }
            Self::Gone { node, reason, in_flight } => {
                write!(f, "{node} is gone with {in_flight} calls unanswered: it {reason}")
            }
            Self::Ejected { node, rest, why } => {
                write!(f, "{node} is ejected and gets no calls for {:.1} s: {why}", rest.as_secs_f64())
            }
            Self::Restored { node } => write!(f, "{node} answers its calls again and is no longer ejected"),
            Self::Cordoned { node } => {
                write!(f, "{node} is cordoned: it gets no new calls and keeps those that it has")
            }
            Self::Uncordoned { node } => write!(f, "{node} is uncordoned and gets new calls again"),
            Self::Missed(0) => write!(f, "the master was started again; the list of nodes begins again"),
            Self::Missed(count) => {
                write!(
                    f,
                    "{count} events were missed because they were read too slowly; the list of nodes begins again"
                )
            }
        }
    }
}

/// How a node registered, in words.
struct Registered<'a>(&'a Principal);

impl fmt::Display for Registered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            PrincipalKind::Open => f.write_str("without a credential (the master has no security)"),
            PrincipalKind::Token | PrincipalKind::Certificate => write!(f, "with {}", self.0),
        }
    }
}

/// Totals of a master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that wait at the master.
    pub queued: usize,
    /// Calls that were sent to a node and are not answered yet.
    pub in_flight: usize,
    /// Calls that ended with a value or with the method's own error. Of batches all calls that were started, however each
    /// ended.
    pub answered: u64,
    /// Calls that ended with another error.
    pub failed: u64,
    /// Calls that were cancelled.
    pub cancelled: u64,
    /// Handlers that went on for 10 s or longer after their call was cancelled or its time was up. Each is logged, and
    /// listed by [`Master::calls`](crate::Master::calls) until it ends.
    pub overdue: u64,
    /// Replies that came after their call had ended, and were dropped. Replies that a node still had when it was lost are
    /// not counted.
    pub late: u64,
    /// Connections that were closed before they registered: the peer did not prove that it may register, was too slow, or
    /// there were too many of them.
    pub turned_away: u64,
    /// Bytes of registrations that were decoded. If the master has security, peers that are not authenticated add none.
    pub registration_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons() -> Vec<GoneReason> {
        vec![
            GoneReason::Disconnected,
            GoneReason::Broken("reset".into()),
            GoneReason::Silent(Duration::from_micros(6_200_001)),
            GoneReason::Left,
            GoneReason::Violation("a reply to nothing".into()),
            GoneReason::Replaced,
            GoneReason::Revoked,
            GoneReason::Expired,
            GoneReason::Displaced,
            GoneReason::DisconnectedByMaster,
            GoneReason::Kicked,
            GoneReason::Shutdown,
            GoneReason::Dropped("its runtime has ended".into()),
        ]
    }

    #[test]
    fn events_and_reasons_can_be_written_and_read_again() {
        let node = || NodeIdentity::new(NodeId::new(0x5f3a_91c2, 7), "n1", ([127, 0, 0, 1], 4000).into());
        let (principal, time) = (Principal::open(), Duration::from_millis(3_100));
        let mut events = vec![
            NodeEvent::Present {
                node: node(),
                principal: principal.clone(),
                state: NodeState::Suspect,
                is_ejected: true,
                is_cordoned: true,
            },
            NodeEvent::Joined { node: node(), principal },
            NodeEvent::Suspect { node: node(), silent_for: time },
            NodeEvent::Recovered { node: node() },
            NodeEvent::Draining { node: node() },
            NodeEvent::Ejected { node: node(), rest: time, why: "its calls fail".into() },
            NodeEvent::Restored { node: node() },
            NodeEvent::Cordoned { node: node() },
            NodeEvent::Uncordoned { node: node() },
            NodeEvent::Missed(12),
        ];
        events.extend(reasons().into_iter().map(|reason| NodeEvent::Gone { node: node(), reason, in_flight: 2 }));
        let json = serde_json::to_string(&events).expect("can be written");
        assert_eq!(serde_json::from_str::<Vec<NodeEvent>>(&json).expect("can be read"), events);
        assert!(json.contains(
            r#"{"suspect":{"node":{"id":"5f3a91c2-7","name":"n1","addr":"127.0.0.1:4000"},"silent_for":3.1}}"#
        ));
        assert!(json.contains(r#""reason":{"silent":6.200001}"#), "{json}");
        assert!(json.contains(r#""reason":"disconnected_by_master""#), "{json}");
        assert!(serde_json::from_str::<GoneReason>(r#"{"silent":-1.0}"#).is_err(), "no such time");
    }
}
