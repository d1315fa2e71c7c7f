//! What the core's events cost with many nodes and many waiting calls.
//!
//! Drives the core alone: no thread, no socket, nodes that are not there. Each call into the core is timed, as it holds
//! the master's lock that long.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    core::{
        AttemptEnd, Core, Demand, Effect, Effects, Host, HostCall, HostLink, SLICE, SLOW_START, Settings, Time,
        split_registration,
    },
    error::{Cause, FailedAttempt, GoneReason},
    id::{CallId, NodeId, NodeIdentity},
    security::Principal,
    service::{caller::Labels, method::Method},
    wire::{
        Load, Outcome, Reply,
        hello::{MethodOffer, Registration},
    },
};

const SLOTS: u32 = 4;
const ZONES: usize = 10;
/// Methods that nodes serve beside the one that is called.
const OTHERS: u64 = 20;

/// As many methods as a node may have, and as many nodes as have room for theirs at a master.
const WORDY_METHODS: u64 = 1024;
const WORDY_NODES: u64 = 46;
const NO_NO_NODE_TIMEOUT: Duration = Duration::from_secs(5);
/// So long that nodes are looked at only where that is what is timed.
const HEARTBEAT: Duration = Duration::from_secs(1_000_000);
/// A call that takes less than this was hardly interrupted.
const SHORT: Duration = Duration::from_micros(100);

static SERVED: Method = Method::new("Growth", 1, "served", "fn() -> ()", false);
static UNSERVED: Method = Method::new("Elsewhere", 1, "unserved", "fn() -> ()", false);
/// Wordy nodes have another signature of it.
static OTHERWISE: Method = Method::new("Growth", 1, "m0", "fn() -> ()", false);

/// What one kind of event has cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Which.
    pub what: &'static str,
    /// Time per operation: the median over all rounds of each round's mean.
    pub each: Duration,
    /// The longest that the lock was held.
    pub longest: Duration,
}

/// A master with some nodes and some waiting calls.
struct Growth {
    core: Core<Bare>,
    now: Time,
    /// How long this thread has run, so that time in which others ran does not count.
    clock: fn() -> Duration,
    nodes: Vec<NodeId>,
    joined: usize,
    /// What runs, the oldest first.
    running: VecDeque<(NodeId, CallId, u32)>,
    rounds: u32,
    /// Operations in a round.
    operations: u32,
    drawn: u64,
    costs: Vec<(&'static str, Vec<Sample>)>,
}

/// The sum and the most of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    count: u32,
    total: Duration,
    longest: Duration,
}

#[derive(Debug)]
struct Bare;

#[derive(Clone, Debug)]
struct BareCall(#[expect(dead_code, reason = "held, as a call is")] Rc<()>);

#[derive(Clone, Debug)]
struct BareLink(NodeId);

impl Host for Bare {
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
fn offer(id: u64, name: String, signature: &str) -> MethodOffer {
    MethodOffer {
        id,
        service: "Growth".to_owned(),
        version: 1,
        name,
        signature: signature.to_owned(),
        types: 0,
        structure: Vec::new(),
        compute: true,
    }
}

/// Which node a call is for.
#[derive(Clone, Copy, Debug)]
enum For {
    Any,
    Affinity,
    Label,
    /// A label that all nodes have.
    Common,
    Node,
}

/// Measures everything with this many nodes and waiting calls. `clock` says how long the calling thread has run.
pub fn measure(nodes: usize, waiting: usize, rounds: u32, operations: u32, clock: fn() -> Duration) -> Vec<Cost> {
    let mut growth = Growth::new(nodes, rounds, operations, clock);
    growth.fill(waiting);
    growth.calls();
    growth.nodes();
    growth.time();
    let mut costs = growth.costs();
    if waiting == 0 {
        let mut growth = Growth::new(0, rounds, operations, clock);
        growth.wordy_nodes();
        costs.extend(growth.costs());
    } else {
        growth.shut_down();
        costs.extend(growth.costs());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_wait_for_one(waiting);
        costs.extend(growth.costs());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_expire(waiting);
        costs.extend(growth.costs());
        let mut growth = Growth::new(nodes, rounds, operations, clock);
        growth.many_avoid_one(waiting);
        costs.extend(growth.costs());
    }
    costs
}

impl Growth {
    fn new(nodes: usize, rounds: u32, operations: u32, clock: fn() -> Duration) -> Self {
        let settings = Settings {
            heartbeat: HEARTBEAT,
            no_node_timeout: NO_NO_NODE_TIMEOUT,
            max_queued_calls: usize::MAX,
            max_queued_bytes: usize::MAX,
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
            costs: Vec::new(),
        };
        growth.tick("the first look");
        growth.costs.clear();
        for _ in 0..nodes {
            growth.join("join, as nodes come");
        }
        growth
    }

    /// Times one call into the core. What it wants done is done behind the lock, and not timed.
    fn bring<R>(
        &mut self,
        what: &'static str,
        count: u32,
        event: impl FnOnce(&mut Core<Bare>, Time, &mut Effects<Bare>) -> R,
    ) -> R {
        let mut effects = Vec::new();
        let ran = (self.clock)();
        let started = Instant::now();
        let result = event(&mut self.core, self.now, &mut effects);
        let mut took = started.elapsed();
        if took > SHORT {
            took = took.min((self.clock)().saturating_sub(ran));
        }
        for effect in effects {
            if let Effect::Send { link: BareLink(node), id, attempt, .. } = effect {
                self.running.push_back((node, id, attempt));
            }
        }
        let at = self.costs.iter().position(|(known, _)| *known == what).unwrap_or_else(|| {
            self.costs.push((what, vec![Sample::default()]));
            self.costs.len() - 1
        });
        if let Some(round) = self.costs[at].1.last_mut() {
            round.count += count;
            round.total += took;
            round.longest = round.longest.max(took);
        }
        result
    }

    fn end_round(&mut self) {
        for (_, rounds) in &mut self.costs {
            if rounds.last().is_some_and(|round| round.count > 0) {
                rounds.push(Sample::default());
            }
        }
    }

    /// What was measured since the last time.
    fn costs(&mut self) -> Vec<Cost> {
        let cost = |(what, rounds): (&'static str, Vec<Sample>)| {
            let rounds = rounds.iter().filter(|round| round.count > 0);
            let mut means: Vec<Duration> = rounds.clone().map(|round| round.total / round.count).collect();
            means.sort();
            let each = means.get(means.len() / 2).copied().unwrap_or_default();
            Cost { what, each, longest: rounds.map(|round| round.longest).max().unwrap_or_default() }
        };
        std::mem::take(&mut self.costs).into_iter().map(cost).collect()
    }

    fn draw(&mut self, below: usize) -> usize {
        // Weyl's sequence, well mixed: the same in each run.
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.drawn ^ (self.drawn >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((mixed ^ (mixed >> 32)) % below.max(1) as u64) as usize
    }

    fn join(&mut self, what: &'static str) -> NodeId {
        let others = (0..OTHERS).map(|other| offer(other, format!("other{other}"), "fn() -> ()"));
        self.join_with(what, others.chain([offer(SERVED.id().0, "served".to_owned(), "fn() -> ()")]).collect())
    }

    fn join_with(&mut self, what: &'static str, methods: Vec<MethodOffer>) -> NodeId {
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
        };
        let card = split_registration(registration, Principal::open());
        let id = self.core.new_node_id();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        self.bring(what, 1, |core, now, effects| core.on_node_joined(now, id, card, addr, BareLink(id), effects));
        self.nodes.push(id);
        id
    }

    fn leave(&mut self, what: &'static str, id: NodeId) {
        self.nodes.retain(|node| *node != id);
        self.running.retain(|(node, ..)| *node != id);
        self.bring(what, 1, |core, now, effects| core.on_node_gone(now, id, GoneReason::Disconnected, effects));
    }

    fn submit(&mut self, what: &'static str, wants: For) -> CallId {
        let (node, zone, key) = (self.draw(self.nodes.len()), self.draw(ZONES), self.draw(usize::MAX) as u64);
        let labels: Labels = Some([("zone".to_owned(), format!("zone-{zone}"))].into());
        let common: Labels = Some([("os".to_owned(), "linux".to_owned())].into());
        self.submit_this(
            what,
            &SERVED,
            |demand| match wants {
                For::Any => demand,
                For::Affinity => Demand { affinity: Some(key), ..demand },
                For::Label => Demand { labels, ..demand },
                For::Common => Demand { labels: common, ..demand },
                For::Node => Demand { node: None, ..demand },
            },
            matches!(wants, For::Node).then_some(node),
        )
    }

    fn submit_this(
        &mut self,
        what: &'static str,
        method: &'static Method,
        change: impl FnOnce(Demand) -> Demand,
        node: Option<usize>,
    ) -> CallId {
        self.submit_after(what, method, change, node, Vec::new())
    }

    /// The same for a call that has been tried in vain.
    fn submit_after(
        &mut self,
        what: &'static str,
        method: &'static Method,
        change: impl FnOnce(Demand) -> Demand,
        node: Option<usize>,
        failed_attempts: Vec<FailedAttempt>,
    ) -> CallId {
        let demand = change(Demand {
            count: 1,
            timeout: None,
            node: None,
            labels: None,
            affinity: None,
            hedge_of: None,
            exempt_from_limits: false,
            attempts: None,
            retry_panics: false,
            size: 100,
        });
        let demand = Demand { node: node.map(|at| self.nodes[at]), ..demand };
        let call = BareCall(Rc::new(()));
        let id = self.bring(what, 1, |core, now, effects| {
            core.on_call_submitted(now, call, method, demand, failed_attempts, effects)
        });
        self.tick_while_due("fill views, each slice");
        id
    }

    /// The handler that runs longest comes to its end.
    fn finish(&mut self, what: &'static str) {
        let Some((node, id, attempt)) = self.running.pop_front() else { return };
        let run = Duration::from_secs(1);
        let reply = Reply::without_payload(Outcome::Value, run);
        self.core.backdate(node, (id, attempt), self.now.saturating_sub(run));
        self.bring(what, 1, |core, now, effects| {
            core.on_attempt_finished(now, node, id, attempt, AttemptEnd::Replied(reply), effects);
        });
    }

    fn tick(&mut self, what: &'static str) {
        self.bring(what, 1, |core, now, effects| core.on_tick(now, effects));
        while self.core.next_tick() <= self.now {
            self.bring(what, 0, |core, now, effects| core.on_tick(now, effects));
        }
    }

    /// As a master does, which ticks until the core has no more work.
    fn tick_while_due(&mut self, what: &'static str) {
        while self.core.next_tick() <= self.now {
            self.bring(what, 1, |core, now, effects| core.on_tick(now, effects));
        }
    }

    /// Takes half of the slots, or all, and has this many calls wait: one in four for each kind.
    fn fill(&mut self, waiting: usize) {
        let slots = self.nodes.len() * SLOTS as usize;
        let running = if waiting == 0 { slots / 2 } else { slots };
        for _ in 0..running {
            self.submit("submit, as slots fill", For::Any);
        }
        for number in 0..waiting {
            let wants = [For::Any, For::Affinity, For::Label, For::Node][number % 4];
            self.submit("submit, as the queue fills", wants);
        }
    }

    fn calls(&mut self) {
        let kinds = [
            ("submit", For::Any),
            ("submit, affinity", For::Affinity),
            ("submit, label", For::Label),
            ("submit, label of all", For::Common),
            ("submit, on a node", For::Node),
        ];
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                for (what, wants) in kinds {
                    self.submit(what, wants);
                    self.finish("finish");
                }
                let id = self.submit("submit", For::Any);
                self.bring("cancel", 1, |core, _, effects| core.on_call_cancelled(id, effects));
                self.finish("finish");
            }
            self.end_round();
        }
    }

    fn nodes(&mut self) {
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                let id = self.join("join");
                self.leave("leave", id);
                let at = self.draw(self.nodes.len());
                let id = self.nodes[at];
                for stale in [1, 0] {
                    let load = Load { stale, ..Load::default() };
                    self.bring("heartbeat", 1, |core, now, effects| core.on_heartbeat(now, id, load, effects));
                }
                let labels: Labels = Some([("zone".to_owned(), "zone-1".to_owned())].into());
                self.bring("capacity, label", 1, |core, _, _| core.capacity(SERVED.id(), &labels));
            }
            let (mut left, mut last) = (self.nodes.len(), None);
            while left > 0 {
                let count = left.min(SLICE);
                left -= count;
                last = self.bring("nodes(), each", count as u32, |core, _, _| core.node_snapshots(last, None)).1;
            }
            self.end_round();
        }
    }

    fn time(&mut self) {
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                self.submit_this("submit, no node", &UNSERVED, |demand| demand, None);
                self.now += NO_NO_NODE_TIMEOUT;
                self.tick("expire");
            }
            self.now += HEARTBEAT / 4;
            let mut count = self.nodes.len() as u32;
            while self.core.next_tick() <= self.now {
                self.bring("look at all nodes, each", std::mem::take(&mut count), |core, now, effects| {
                    core.on_tick(now, effects);
                });
            }
            self.end_round();
        }
    }

    fn shut_down(&mut self) {
        while self.bring("shut down, each slice", 1, |core, _, effects| core.on_shutdown(effects)) {}
    }

    /// Nodes that say as much about themselves as they may, each of them something else.
    fn wordy_nodes(&mut self) {
        let signature = format!("fn() -> {}", "x".repeat(400));
        for node in 0..WORDY_NODES {
            let id = |method| (node + 1) << 32 | method;
            let methods = (0..WORDY_METHODS).map(|method| offer(id(method), format!("m{method}"), &signature));
            self.join_with("join, with 1,024 methods", methods.collect());
        }
        for _ in 0..self.rounds {
            self.bring("nodes(), with 1,024 methods", 1, |core, _, _| core.node_snapshots(None, None));
            self.submit_this("submit, no node", &OTHERWISE, |demand| demand, None);
            self.now += NO_NO_NODE_TIMEOUT;
            // What was found out before holds until nodes come or go.
            let id = self.join("join, beside wordy nodes");
            self.leave("leave, beside wordy nodes", id);
            self.tick("expire, with 1,024 methods to tell of");
            self.end_round();
        }
        let id = self.nodes[0];
        self.leave("leave, with 1,024 methods", id);
    }

    /// All that waits is for one node, which leaves.
    fn many_wait_for_one(&mut self, waiting: usize) {
        for _ in 0..waiting {
            self.submit_this("submit, on one node", &SERVED, |demand| demand, Some(0));
        }
        self.costs.clear();
        let id = self.nodes[0];
        let what = "leave, with all that waits";
        self.leave(what, id);
        self.drain_chores(what, waiting);
    }

    /// All that waits is served by no node, and its time is up.
    fn many_expire(&mut self, waiting: usize) {
        for _ in 0..waiting {
            self.submit_this("submit, no node", &UNSERVED, |demand| demand, None);
        }
        self.costs.clear();
        self.now += NO_NO_NODE_TIMEOUT;
        let what = "expire, all that waits";
        self.drain_chores(what, waiting);
    }

    /// All that waits avoids one node, which says again and again that it is busy, and then that it is not.
    fn many_avoid_one(&mut self, waiting: usize) {
        for _ in 0..self.nodes.len() * SLOTS as usize {
            self.submit("submit, as slots fill", For::Any);
        }
        let loud = self.nodes[0];
        for _ in 0..waiting {
            // Each avoids two others as well, so that few wait for the same.
            let others = [(); 2].map(|()| self.draw(self.nodes.len())).map(|at| self.nodes[at]);
            let failed_attempts = [loud, others[0], others[1]].map(|id| FailedAttempt {
                attempt: 0,
                node: NodeIdentity { id, name: "node".into(), addr: SocketAddr::from(([127, 0, 0, 1], 1)) },
                source: None,
                cause: Cause::Refused("is loud"),
            });
            self.submit_after("submit, avoiding nodes", &SERVED, |demand| demand, None, failed_attempts.to_vec());
        }
        // Its slots get free, one after the other.
        while let Some(at) = self.running.iter().position(|(node, ..)| *node == loud) {
            let first = self.running.remove(at).into_iter();
            first.for_each(|running| self.running.push_front(running));
            self.finish("finish, on the node that all avoid");
        }
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                for stale in [SLOTS, 0] {
                    let load = Load { stale, ..Load::default() };
                    let what = "heartbeat, all avoid its node";
                    self.bring(what, 1, |core, now, effects| core.on_heartbeat(now, loud, load, effects));
                }
            }
            self.end_round();
        }
    }

    /// Ticks until nothing is left to do, and shares the time out among the calls that it was for.
    fn drain_chores(&mut self, what: &'static str, calls: usize) {
        while self.core.next_tick() <= self.now {
            self.bring(what, 0, |core, now, effects| core.on_tick(now, effects));
        }
        for (_, rounds) in &mut self.costs {
            for round in rounds {
                round.count = calls as u32;
            }
        }
    }
}
