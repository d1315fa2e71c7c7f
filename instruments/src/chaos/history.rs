//! All there is to judge a run by: what the processes wrote down, and what the driver did to them.

use std::time::Duration;

use super::{
    fault_plan::Fault,
    ledger::{MasterEntry, NodeEntry},
};

#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) seed: u64,
    /// How many calls there are, those included that callers drop.
    pub(super) keys: u64,
    /// The masters'.
    pub(super) heartbeat: Duration,
    pub(super) masters: Vec<Generation>,
    /// Callers in processes of their own.
    pub(super) callers: Vec<Generation>,
    /// Each node's name and ledger.
    pub(super) nodes: Vec<(String, Vec<NodeEntry>)>,
    pub(super) injected: Vec<InjectedFault>,
    /// What the driver itself found wrong.
    pub(super) violations: Vec<String>,
}

/// One process of a master or a caller, from its start to its end.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) name: String,
    pub(super) is_caller: bool,
    pub(super) entries: Vec<MasterEntry>,
    /// When the driver killed it, if it did.
    pub(super) killed: Option<u64>,
}

/// What was done to a node, or to the connection of a caller, from when to when (for good, if it was not a freeze that ended).
#[derive(Clone, Debug)]
pub(super) struct InjectedFault {
    pub(super) name: String,
    pub(super) fault: Fault,
    pub(super) from: u64,
    pub(super) until: Option<u64>,
}
