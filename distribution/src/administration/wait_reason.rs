//! What a call waits for.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{id::NodeIdentity, seconds};

/// What a call waits for. It prints as a sentence without its subject's name: `all 4 nodes that may run it are busy`.
///
/// A node *may run* a call if it serves the method and has the labels that the call asks for. It is *busy* if it has as
/// many calls as it may have now: as many as it has slots, or fewer while it is new or its calls have failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitReason {
    /// No registered node serves the method in the form in which it is called.
    NoNode,
    /// Nodes serve the method, and none of them has the labels that the call asks for.
    #[non_exhaustive]
    NoLabel {
        /// The labels and their values.
        labels: Arc<[(String, String)]>,
        /// How many nodes serve the method.
        nodes: usize,
    },
    /// All nodes that may run it are busy.
    #[non_exhaustive]
    AllBusy {
        /// How many.
        nodes: usize,
    },
    /// All nodes that may run it are cordoned.
    #[non_exhaustive]
    AllCordoned {
        /// How many.
        nodes: usize,
    },
    /// No node that may run it takes it now, for different reasons.
    #[non_exhaustive]
    NoneTakesIt {
        /// Nodes that are busy.
        busy: usize,
        /// Nodes that have missed heartbeats.
        suspect: usize,
        /// Nodes that are cordoned.
        cordoned: usize,
        /// Nodes that get no calls which others can take, because calls fail on them.
        ejected: usize,
        /// Nodes that an attempt at this call failed on, or that have another copy of it.
        avoided: usize,
    },
    /// It has to run on one node, by `.on()` or by its affinity key, and that node is busy.
    #[non_exhaustive]
    NodeBusy {
        /// The node.
        node: NodeIdentity,
    },
    /// It has to run on one node, and that node has missed heartbeats.
    #[non_exhaustive]
    NodeSuspect {
        /// The node.
        node: NodeIdentity,
    },
    /// It has to run on one node, and the connection of that node has broken. The master waits for it to come back.
    #[non_exhaustive]
    NodeDisconnected {
        /// The node.
        node: NodeIdentity,
    },
    /// It has to run on one node, and that node is cordoned.
    #[non_exhaustive]
    NodeCordoned {
        /// The node.
        node: NodeIdentity,
    },
    /// An attempt has failed, and the next one begins after a while.
    #[non_exhaustive]
    BackingOff {
        /// The number of the attempt that failed.
        attempt: u32,
        /// Where it failed.
        node: NodeIdentity,
        /// Time until the call is queued again.
        #[serde(with = "seconds")]
        left: Duration,
    },
    /// The master is choosing a node for it, which takes no longer than some slices of its work.
    Placing,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode => f.write_str("no node serves it"),
            Self::NoLabel { labels, nodes } => {
                let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let labels = labels.join(", ");
                match nodes {
                    1 => write!(f, "the only node that serves it does not have the label {labels}"),
                    _ => write!(f, "none of the {nodes} nodes that serve it has the label {labels}"),
                }
            }
            Self::AllBusy { nodes: 1 } => f.write_str("the only node that may run it is busy"),
            Self::AllBusy { nodes } => write!(f, "all {nodes} nodes that may run it are busy"),
            Self::AllCordoned { nodes: 1 } => f.write_str("the only node that may run it is cordoned"),
            Self::AllCordoned { nodes } => write!(f, "all {nodes} nodes that may run it are cordoned"),
            Self::NoneTakesIt { busy, suspect, cordoned, ejected, avoided } => {
                let nodes = busy + suspect + cordoned + ejected + avoided;
                let parts = [
                    (*busy, "busy"),
                    (*suspect, "suspect"),
                    (*cordoned, "cordoned"),
                    (*ejected, "ejected"),
                    (*avoided, "avoided because an attempt failed there"),
                ];
                let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| match count {
                    1 => format!("1 is {what}"),
                    _ => format!("{count} are {what}"),
                });
                let parts = parts.collect::<Vec<_>>().join(", ");
                match nodes {
                    1 => write!(f, "the only node that may run it cannot take it now ({parts})"),
                    _ => write!(f, "none of the {nodes} nodes that may run it can take it now ({parts})"),
                }
            }
            Self::NodeBusy { node } => write!(f, "it is for {node}, which is busy"),
            Self::NodeDisconnected { node } => {
                write!(f, "it is for {node}, whose connection has broken and which may come back")
            }
            Self::NodeSuspect { node } => write!(f, "it is for {node}, which has missed heartbeats"),
            Self::NodeCordoned { node } => write!(f, "it is for {node}, which is cordoned"),
            Self::BackingOff { attempt, node, left } => {
                let left = left.as_secs_f64();
                write!(f, "its attempt {attempt} failed on {node}, and it is queued again in {left:.1} s")
            }
            Self::Placing => f.write_str("the master is choosing a node for it"),
        }
    }
}
