//! A core without real nodes and callers, and the time that each event takes.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use super::cost::{Events, Round};
use crate::{
    administration::MethodKind,
    core::{
        AttemptEnd, Core, Demand, Effect, Effects, Host, HostCall, HostLink, SLICE, SLOW_START, Settings, Time,
        split_registration,
    },
    error::GoneReason,
    failed_attempt::FailedAttempt,
    id::{CallId, NodeId},
    security::Principal,
    service::{method::Method, options::Labels},
    wire::{
        Outcome, Reply,
        handshake::{MethodOffer, Registration, StreamShape},
    },
};

pub(super) const SLOTS: u32 = 4;

pub(super) const ZONES: usize = 10;

/// How many methods nodes serve besides the one that is called.
pub(super) const OTHERS: u64 = 20;

pub(super) const NO_NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// So long that nodes are looked at only when that is measured.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1_000_000);

/// An event that takes less time than this was hardly interrupted by other threads.
pub(super) const UNINTERRUPTED: Duration = Duration::from_micros(100);

pub(super) static SERVED: Method = Method::new("Growth", 1, "served", "fn() -> ()", false);

pub(super) static UNSERVED: Method = Method::new("Elsewhere", 1, "unserved", "fn() -> ()", false);

/// Verbose nodes have another signature of it.
pub(super) static OTHERWISE: Method = Method::new("Growth", 1, "m0", "fn() -> ()", false);

/// A master with some nodes and some waiting calls.
pub(super) struct Growth {
    pub(super) core: Core<BareHost>,
    pub(super) now: Time,
    /// How long this thread has run, so that the time of other threads does not count.
    pub(super) clock: fn() -> Duration,
    pub(super) nodes: Vec<NodeId>,
    pub(super) joined: usize,
    /// The attempts in flight, the oldest first.
    pub(super) running: VecDeque<(NodeId, CallId, u32)>,
    pub(super) rounds: u32,
    /// Operations in a round.
    pub(super) operations: u32,
    pub(super) drawn: u64,
    pub(super) measured: Vec<Events>,
}

#[derive(Debug)]
pub(super) struct BareHost;

#[derive(Clone, Debug)]
pub(super) struct BareCall(#[expect(dead_code, reason = "held, as a call is")] Rc<()>);

#[derive(Clone, Debug)]
pub(super) struct BareLink(NodeId);

impl Host for BareHost {
    type Call = BareCall;
    type Link = BareLink;
}

impl HostCall for BareCall {
    fn open(&self, _: u32) {}

    fn withdraw(&self, _: u32) -> bool {
        false
    }

    fn abandon(&self, _: u32) -> bool {
        false
    }
}

impl HostLink for BareLink {
    fn heard(&self) -> Time {
        Time::MAX
    }

    fn violation(&self, _: Time) -> Option<&'static str> {
        None
    }
}

/// A method of the service that all nodes have.
pub(super) fn offer(id: u64, name: String, signature: &str) -> MethodOffer {
    MethodOffer {
        id,
        service: "Growth".to_owned(),
        version: 1,
        name,
        signature: signature.to_owned(),
        types: 0,
        structure: Vec::new(),
        kind: MethodKind::Compute,
        idempotent: false,
        streams: StreamShape::default(),
    }
}

/// Which node a call is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Any,
    Affinity,
    Label,
    /// A label that all nodes have.
    Common,
    Node,
}

impl Growth {
    pub(super) fn new(nodes: usize, rounds: u32, operations: u32, clock: fn() -> Duration) -> Self {
        let settings = Settings {
            heartbeat: HEARTBEAT,
            no_node_timeout: NO_NODE_TIMEOUT,
            reconnect_grace: Duration::from_secs(2),
            max_queued_calls: usize::MAX,
            max_queued_bytes: usize::MAX,
            max_queued_calls_per_caller: usize::MAX,
            max_queued_bytes_per_caller: usize::MAX,
            max_nodes: usize::MAX,
            max_nodes_per_credential: usize::MAX,
            slow_start: SLOW_START,
            slice: SLICE,
            epoch: 1,
            seed: 1,
            ring_key: [0; 32],
        };
        let mut growth = Self {
            core: Core::new(settings),
            now: Duration::from_secs(1),
            clock,
            nodes: Vec::new(),
            joined: 0,
            running: VecDeque::new(),
            rounds,
            operations,
            drawn: 0,
            measured: Vec::new(),
        };
        growth.tick("the first look");
        growth.measured.clear();
        for _ in 0..nodes {
            growth.join("join, as nodes come");
        }
        growth
    }

    /// Applies an event to the core and measures the time. Effects are carried out without the lock, so they are not
    /// measured.
    pub(super) fn apply<R>(
        &mut self,
        what: &'static str,
        count: u32,
        event: impl FnOnce(&mut Core<BareHost>, Time, &mut Effects<BareHost>) -> R,
    ) -> R {
        let mut effects = Vec::new();
        let ran = (self.clock)();
        let started = Instant::now();
        let result = event(&mut self.core, self.now, &mut effects);
        let mut took = started.elapsed();
        if took > UNINTERRUPTED {
            took = took.min((self.clock)().saturating_sub(ran));
        }
        for effect in effects {
            if let Effect::Send { link: BareLink(node), id, attempt, .. } = effect {
                self.running.push_back((node, id, attempt));
            }
        }
        let at = self.measured.iter().position(|known| known.what == what).unwrap_or_else(|| {
            self.measured.push(Events { what, rounds: vec![Round::default()] });
            self.measured.len() - 1
        });
        if let Some(round) = self.measured[at].rounds.last_mut() {
            round.operations += count;
            round.holds.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
        result
    }

    pub(super) fn end_round(&mut self) {
        for Events { rounds, .. } in &mut self.measured {
            if rounds.last().is_some_and(|round| round.operations > 0) {
                rounds.push(Round::default());
            }
        }
    }

    /// What was measured since the last call of this.
    pub(super) fn measured(&mut self) -> Vec<Events> {
        std::mem::take(&mut self.measured)
    }

    pub(super) fn draw(&mut self, below: usize) -> usize {
        // Weyl's sequence, well mixed: the same in each run.
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.drawn ^ (self.drawn >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((mixed ^ (mixed >> 32)) % below.max(1) as u64) as usize
    }

    pub(super) fn join(&mut self, what: &'static str) -> NodeId {
        let others = (0..OTHERS).map(|other| offer(other, format!("other{other}"), "fn() -> ()"));
        self.join_with(what, others.chain([offer(SERVED.info().id().0, "served".to_owned(), "fn() -> ()")]).collect())
    }

    pub(super) fn join_with(&mut self, what: &'static str, methods: Vec<MethodOffer>) -> NodeId {
        let number = self.joined;
        self.joined += 1;
        let registration = Registration {
            name: format!("node-{number}"),
            instance: number as u128,
            slots: SLOTS,
            busy: 0,
            async_limit: 1024,
            max_message_size: 65_536,
            labels: vec![
                ("os".to_owned(), "linux".to_owned()),
                ("zone".to_owned(), format!("zone-{}", number % ZONES)),
            ],
            methods,
            session: None,
        };
        let card = split_registration(registration, Principal::open());
        let id = self.core.new_node_id();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        self.apply(what, 1, |core, now, effects| core.on_node_joined(now, id, card, addr, BareLink(id), effects));
        self.nodes.push(id);
        id
    }

    pub(super) fn leave(&mut self, what: &'static str, id: NodeId) {
        self.nodes.retain(|node| *node != id);
        self.running.retain(|(node, ..)| *node != id);
        self.apply(what, 1, |core, now, effects| core.on_node_gone(now, id, GoneReason::Disconnected, effects));
    }

    pub(super) fn submit(&mut self, what: &'static str, target: Target) -> CallId {
        let (node, zone, key) = (self.draw(self.nodes.len()), self.draw(ZONES), self.draw(usize::MAX) as u64);
        let labels: Labels = Some([("zone".to_owned(), format!("zone-{zone}"))].into());
        let common: Labels = Some([("os".to_owned(), "linux".to_owned())].into());
        self.submit_this(
            what,
            &SERVED,
            |demand| match target {
                Target::Any => demand,
                Target::Affinity => Demand { affinity: Some(key), ..demand },
                Target::Label => Demand { labels, ..demand },
                Target::Common => Demand { labels: common, ..demand },
                Target::Node => Demand { node: None, ..demand },
            },
            matches!(target, Target::Node).then_some(node),
        )
    }

    pub(super) fn submit_this(
        &mut self,
        what: &'static str,
        method: &'static Method,
        change: impl FnOnce(Demand) -> Demand,
        node: Option<usize>,
    ) -> CallId {
        self.submit_after(what, method, change, node, Vec::new())
    }

    /// The same for a call with failed attempts.
    pub(super) fn submit_after(
        &mut self,
        what: &'static str,
        method: &'static Method,
        change: impl FnOnce(Demand) -> Demand,
        node: Option<usize>,
        failed_attempts: Vec<FailedAttempt>,
    ) -> CallId {
        let demand = change(Demand { size: 100, ..Demand::default() });
        let demand = Demand { node: node.map(|at| self.nodes[at]), ..demand };
        let call = BareCall(Rc::new(()));
        let id = self.apply(what, 1, |core, now, effects| {
            core.on_call_submitted(now, call, method.info(), demand, failed_attempts, effects)
        });
        self.tick_while_due("fill views, each slice");
        id
    }

    /// Ends the handler that has run longest.
    pub(super) fn finish(&mut self, what: &'static str) {
        let Some((node, id, attempt)) = self.running.pop_front() else { return };
        let run = Duration::from_secs(1);
        let reply = Reply::without_payload(Outcome::Value, run);
        self.core.backdate(node, (id, attempt), self.now.saturating_sub(run));
        self.apply(what, 1, |core, now, effects| {
            core.on_attempt_finished(now, node, id, attempt, AttemptEnd::Replied(reply), effects);
        });
    }

    pub(super) fn tick(&mut self, what: &'static str) {
        self.apply(what, 1, |core, now, effects| core.on_tick(now, effects));
        while self.core.next_tick() <= self.now {
            self.apply(what, 0, |core, now, effects| core.on_tick(now, effects));
        }
    }

    /// Ticks until the core has no more work, as a master does.
    fn tick_while_due(&mut self, what: &'static str) {
        while self.core.next_tick() <= self.now {
            self.apply(what, 1, |core, now, effects| core.on_tick(now, effects));
        }
    }
}
