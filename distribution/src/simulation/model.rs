//! The nodes, links, attempts and calls of a simulated cluster, as far as the core can tell them from real ones.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use crate::{
    core::{Demand, Host, HostCall, HostLink, NodeConnection, Time},
    failed_attempt::FailedAttempt,
    id::{CallId, CallerId, NodeId},
    service::method::Method,
    wire::{Reply, handshake::MethodOffer},
};

pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// The methods that are called: of two services, one of them in two versions.
pub(super) static METHODS: [Method; 6] = [
    Method::new("A", 1, "compute", "fn() -> ()", false),
    Method::new("A", 1, "compute_again", "fn() -> ()", true),
    Method::new_async("A", 1, "wait", "fn() -> ()", false),
    Method::new_async("A", 1, "wait_again", "fn() -> ()", true),
    Method::new("A", 2, "compute", "fn(u8) -> ()", true),
    Method::new("B", 1, "compute", "fn() -> ()", true),
];

pub(super) const ASYNC: [bool; 6] = [false, false, true, true, false, false];

/// Values of the label that each node has.
pub(super) const ZONES: [&str; 2] = ["east", "west"];

/// What a node may serve: all, one version, the other, one service.
pub(super) const PROFILES: [&[usize]; 4] = [&[0, 1, 2, 3, 5], &[0, 1, 2, 3], &[4], &[5]];

#[derive(Debug)]
pub(super) struct SimulatedHost;

impl Host for SimulatedHost {
    type Call = Rc<SimulatedCall>;
    type Link = Rc<SimulatedLink>;
}

#[derive(Debug)]
pub(super) struct SimulatedCall {
    /// Its place in the list of the cluster.
    pub(super) at: usize,
    /// The newest attempt that was written to its end.
    pub(super) sent: Cell<u32>,
    /// All attempts that were.
    pub(super) whole: RefCell<BTreeSet<u32>>,
    /// The newest attempt of which a part was written.
    pub(super) begun: Cell<u32>,
    /// The attempt that may be written.
    pub(super) open: Cell<u32>,
    /// Whether it is a stream of which an item has come.
    pub(super) has_yielded: Cell<bool>,
}

impl HostCall for Rc<SimulatedCall> {
    fn open(&self, attempt: u32) {
        self.open.set(attempt);
    }

    fn withdraw(&self, attempt: u32) -> bool {
        self.begun.get() < attempt && self.abandon(attempt)
    }

    fn abandon(&self, attempt: u32) -> bool {
        let unsent = self.sent.get() < attempt;
        if unsent && self.open.get() == attempt {
            self.open.set(0);
        }
        unsent
    }

    fn can_be_repeated(&self) -> bool {
        !self.has_yielded.get()
    }
}

#[derive(Debug)]
pub(super) struct SimulatedLink {
    pub(super) at: usize,
    pub(super) heard: Cell<Time>,
    /// When the node violated the protocol.
    pub(super) violated_at: Cell<Option<Time>>,
}

impl HostLink for Rc<SimulatedLink> {
    fn heard(&self) -> Time {
        self.heard.get()
    }

    fn violation(&self, stall_grace: Time) -> Option<&'static str> {
        self.violated_at.get().filter(|at| *at > stall_grace).map(|_| "it does not read")
    }
}

/// Where an attempt is, between the core and the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptState {
    /// In the link's queue at the master.
    Queued,
    /// Some of it was written to the connection.
    Writing,
    /// On its way, or waiting for a slot on the node.
    Sent,
    /// Its handler runs.
    Running,
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedAttempt {
    pub(super) call: Rc<SimulatedCall>,
    pub(super) id: CallId,
    pub(super) number: u32,
    pub(super) state: AttemptState,
    pub(super) cancelled: bool,
    /// How many calls of a batch the node has kept, if it has given back the others.
    pub(super) kept: Option<u32>,
    /// How many calls of a batch the node may start, and how many it has started.
    pub(super) granted: u32,
    pub(super) begun: u32,
}

/// A registration of a node.
#[derive(Debug)]
pub(super) struct SimulatedNode {
    pub(super) id: NodeId,
    pub(super) link: Rc<SimulatedLink>,
    pub(super) serves: &'static [usize],
    pub(super) slots: u32,
    /// The value of its only label.
    pub(super) zone: &'static str,
    pub(super) instance: u128,
    pub(super) addr: SocketAddr,
    /// All its handlers panic.
    pub(super) failing: bool,
    /// Whether the process runs.
    pub(super) running: bool,
    pub(super) frozen: bool,
    /// Whether its frames reach the master.
    pub(super) reachable: bool,
    pub(super) drain_sent: bool,
    /// Whether an administrator has cordoned its process.
    pub(super) cordoned: bool,
    /// Whether an administrator has kicked it.
    pub(super) kicked: bool,
    /// Whether the master knows that the connection has ended.
    pub(super) gone: bool,
    pub(super) attempts: VecDeque<SimulatedAttempt>,
    /// Replies on their way to the master.
    pub(super) replies: VecDeque<(CallId, u32, Reply)>,
    /// Its connection, as the master numbers it.
    pub(super) connection: NodeConnection,
    /// Whether it can go on with its calls after its connection has broken.
    pub(super) has_session: bool,
    /// Whether its connection has broken, which the master may not know.
    pub(super) disconnected: bool,
    /// Replies that the master may ask for again.
    pub(super) kept: Vec<(CallId, u32, Reply)>,
    /// Attempts whose replies the master has not asked for on this connection.
    pub(super) unasked: BTreeSet<(CallId, u32)>,
    /// How many requests have asked again on the current connection.
    pub(super) asked: u32,
}

/// A call, and what the rules need to know of it.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) handle: Rc<SimulatedCall>,
    pub(super) id: CallId,
    pub(super) method: usize,
    pub(super) demand: Demand,
    /// Failed attempts of the batch that it was part of.
    pub(super) failed_attempts: Vec<FailedAttempt>,
    pub(super) kept: Option<u32>,
    /// How many calls of a batch the newest attempt may start, and how many it has started.
    pub(super) granted: u32,
    pub(super) begun: u32,
    /// Whether its node has reported something untrue about it.
    pub(super) misreported: bool,
    pub(super) submitted: Time,
    /// The call whose handler made it, if that had not ended; its place in the list of the cluster.
    pub(super) nested_in: Option<usize>,
    pub(super) is_detached: bool,
    /// Whether it is to be cancelled with its caller, or with the call that made it.
    pub(super) is_doomed: bool,
    /// How many turns its caller has to take before it.
    pub(super) turns_ahead: usize,
    /// How often calls of each other caller that were made later were sent before it.
    pub(super) overtaken: BTreeMap<CallerId, usize>,
    /// How many calls had been made when it was first sent.
    pub(super) first_sent: Option<usize>,
    pub(super) cancelled: bool,
    /// Whether an administrator has cancelled it.
    pub(super) ended_by_admin: bool,
    pub(super) ends: u32,
    pub(super) starts: u32,
    /// Handlers that ran to their end.
    pub(super) completed: u32,
    /// The node of each attempt that was sent and whose node was lost.
    pub(super) lost: Vec<NodeId>,
    pub(super) lost_on: Vec<IpAddr>,
    /// Failed attempts that ran or may have run.
    pub(super) failed_runs: u32,
    /// The newest attempt: its node and its number.
    pub(super) current: Option<(NodeId, u32)>,
}

pub(super) fn offer(at: usize) -> MethodOffer {
    METHODS[at].info().offer()
}
