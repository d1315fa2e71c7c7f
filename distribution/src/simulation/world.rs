//! Nodes, links and callers, as far as the core can tell them from real ones.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{Summary, rules::Rules};
use crate::{
    core::{AttemptEnd, Core, Demand, Effect, Effects, Host, HostCall, HostLink, Settings, Time, split_registration},
    error::{CallError, FailedAttempt, GoneReason},
    id::{CallId, NodeId},
    security::Principal,
    service::method::Method,
    wire::{
        Load, Outcome, Refusal, Reply,
        hello::{MethodOffer, Registration},
    },
};

pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(250);
const QUEUE: usize = 24;
const MAX_QUEUED_BYTES: usize = 2400;

/// What calls are made to: two services, one of them in two versions.
pub(super) static METHODS: [Method; 6] = [
    Method::new("A", 1, "compute", "fn() -> ()", false),
    Method::new("A", 1, "compute_again", "fn() -> ()", true),
    Method::new("A", 1, "wait", "fn() -> ()", false),
    Method::new("A", 1, "wait_again", "fn() -> ()", true),
    Method::new("A", 2, "compute", "fn(u8) -> ()", true),
    Method::new("B", 1, "compute", "fn() -> ()", true),
];
const ASYNC: [bool; 6] = [false, false, true, true, false, false];

/// Some hundred times what any world takes.
const MOST_EVENTS: u64 = 200_000;

/// Values of the label that each node has.
const ZONES: [&str; 2] = ["east", "west"];

/// What a node may serve: all, one version, the other, one service.
const PROFILES: [&[usize]; 4] = [&[0, 1, 2, 3, 5], &[0, 1, 2, 3], &[4], &[5]];

#[derive(Debug)]
pub(super) struct SimulatedHost;

impl Host for SimulatedHost {
    type Call = Rc<SimulatedCall>;
    type Link = Rc<SimulatedLink>;
}

#[derive(Debug)]
pub(super) struct SimulatedCall {
    /// Its place in the world's list.
    pub(super) at: usize,
    /// The newest attempt that was written to its end.
    pub(super) sent: Cell<u32>,
    /// All that were.
    pub(super) whole: RefCell<BTreeSet<u32>>,
    /// The newest attempt of which some was written.
    pub(super) begun: Cell<u32>,
    /// The attempt that may be written.
    open: Cell<u32>,
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
}

#[derive(Debug)]
pub(super) struct SimulatedLink {
    pub(super) at: usize,
    heard: Cell<Time>,
    /// When the node did something that ends its connection.
    offended: Cell<Option<Time>>,
}

impl HostLink for Rc<SimulatedLink> {
    fn heard(&self) -> Time {
        self.heard.get()
    }

    fn violation(&self, stall_grace: Time) -> Option<&'static str> {
        self.offended.get().filter(|at| *at > stall_grace).map(|_| "it does not read")
    }
}

/// Where an attempt is, between the core and the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
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
struct Attempt {
    call: Rc<SimulatedCall>,
    id: CallId,
    number: u32,
    stage: Stage,
    cancelled: bool,
    /// How many calls of a batch the node has kept, if it has given the others back.
    kept: Option<u32>,
    /// How many calls of a batch the node may start, and how many it has started.
    granted: u32,
    begun: u32,
}

/// A registration of a node, from its joining on.
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
    sick: bool,
    /// The process lives and runs.
    running: bool,
    frozen: bool,
    /// Its frames reach the master.
    reachable: bool,
    pub(super) drain_sent: bool,
    /// The master has been told that the connection ended.
    pub(super) gone: bool,
    attempts: VecDeque<Attempt>,
    /// Replies on their way to the master.
    replies: VecDeque<(CallId, u32, Reply)>,
}

/// A call, and what the rules need to know of it.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) handle: Rc<SimulatedCall>,
    pub(super) id: CallId,
    pub(super) method: usize,
    pub(super) demand: Demand,
    /// What had befallen it as part of a batch.
    pub(super) failed_attempts: Vec<FailedAttempt>,
    pub(super) kept: Option<u32>,
    /// How many calls of a batch the newest attempt may start, and how many it has started.
    pub(super) granted: u32,
    pub(super) begun: u32,
    /// Its node has said something about it that is not true.
    pub(super) lied: bool,
    pub(super) submitted: Time,
    pub(super) cancelled: bool,
    pub(super) ends: u32,
    pub(super) starts: u32,
    /// Handlers that ran to their end.
    pub(super) completed: u32,
    /// The node of each attempt that was sent and whose node was lost.
    pub(super) lost: Vec<NodeId>,
    pub(super) lost_on: Vec<IpAddr>,
    /// Attempts that came to nothing and ran, or may have.
    pub(super) ran_in_vain: u32,
    /// The newest attempt: on which node, and which number.
    pub(super) current: Option<(NodeId, u32)>,
}

pub(super) struct World {
    rng: SmallRng,
    pub(super) core: Core<SimulatedHost>,
    pub(super) now: Time,
    pub(super) last_tick: Time,
    pub(super) nodes: Vec<SimulatedNode>,
    pub(super) calls: Vec<CallRecord>,
    pub(super) by_id: BTreeMap<CallId, usize>,
    rules: Rules,
    /// Addresses that nodes come from.
    hosts: u8,
    /// Calls of batches that were lost, to be made again one by one.
    lost: VecDeque<(usize, Demand, Vec<FailedAttempt>)>,
    /// No more trouble: the world ends well.
    calm: bool,
    shut_down: bool,
    events: u64,
    hasher: DefaultHasher,
    lines: VecDeque<String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let settings = Settings {
            heartbeat: HEARTBEAT,
            no_node_timeout: if rng.random_bool(0.1) { Duration::ZERO } else { Duration::from_secs(5) },
            max_queued_calls: QUEUE,
            max_queued_bytes: MAX_QUEUED_BYTES,
            max_nodes: usize::MAX,
            max_nodes_per_credential: usize::MAX,
            slow_start: [1, 2, 16][rng.random_range(0..3)],
            slice: [2, 7, 256][rng.random_range(0..3)],
            epoch: 1,
            seed: rng.random(),
            ring_key: rng.random(),
        };
        let rules = Rules::new(&settings);
        let hosts = rng.random_range(1..=4);
        Self {
            rng,
            core: Core::new(settings),
            now: Duration::from_secs(1),
            last_tick: Duration::ZERO,
            nodes: Vec::new(),
            calls: Vec::new(),
            by_id: BTreeMap::new(),
            rules,
            hosts,
            lost: VecDeque::new(),
            calm: false,
            shut_down: false,
            events: 0,
            hasher: DefaultHasher::new(),
            lines: VecDeque::new(),
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            events: self.events,
            calls: self.calls.len() as u64,
            answered: self.core.stats().answered,
            nodes: self.nodes.len() as u64,
            history: self.hasher.finish(),
        }
    }

    pub(super) fn history(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    fn note(&mut self, line: String) {
        line.hash(&mut self.hasher);
        if self.lines.len() == 60 {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(1..4) {
            self.join()?;
        }
        for _ in 0..self.rng.random_range(100..500) {
            self.step()?;
        }
        self.end_well()
    }

    /// Whatever happens next.
    fn step(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..100) {
            0..25 => self.submit(),
            25..40 => self.write(),
            40..50 => self.start(),
            50..52 => self.give_back(),
            52..55 => self.ask(),
            55..58 => self.go_on(),
            58..66 => self.finish_one(),
            66..76 => self.deliver(),
            76..79 => self.cancel(),
            79..80 => self.load(),
            80..92 => self.pass(),
            92..93 => self.stall(),
            93..95 => self.join(),
            95..96 => self.die(),
            96..97 => self.freeze(),
            97..98 => self.thaw(),
            98..99 => self.drain(),
            _ => self.rare(),
        }
    }

    fn rare(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..6) {
            0 => self.freeze_most(),
            1 => self.complain(),
            2 => self.close(),
            3 if !self.shut_down && self.rng.random_bool(0.1) => {
                self.shut_down = true;
                self.bring("shut down", |core, _, effects| while core.on_shutdown(effects) {})
            }
            _ => self.submit(),
        }
    }

    /// Brings an event to the core, carries its effects out, and looks at the rules.
    fn bring<R>(
        &mut self,
        what: &str,
        event: impl FnOnce(&mut Core<SimulatedHost>, Time, &mut Effects<SimulatedHost>) -> R,
    ) -> Result<R, String> {
        self.events += 1;
        if self.events > MOST_EVENTS {
            return Err("the core asks to be looked at without end".to_owned());
        }
        self.note(format!("{:?} {what}", self.now));
        let mut effects = Vec::new();
        let result = event(&mut self.core, self.now, &mut effects);
        for effect in effects {
            self.carry_out(effect)?;
        }
        self.core.sanity_check()?;
        Ok(result)
    }

    fn carry_out(&mut self, effect: Effect<SimulatedHost>) -> Result<(), String> {
        match effect {
            Effect::Send { link, call, id, attempt, granted, deadline } => {
                self.note(format!("  send {id}#{attempt} to {}", self.nodes[link.at].id));
                let (nodes, record) = ((&self.nodes[..], link.at), &mut self.calls[call.at]);
                self.rules.sent(self.now, nodes, record, (attempt, granted), deadline)?;
                self.by_id.insert(id, call.at);
                let (stage, number) = (Stage::Queued, attempt);
                let attempt = Attempt { call, id, number, stage, cancelled: false, kept: None, granted, begun: 0 };
                self.nodes[link.at].attempts.push_back(attempt);
            }
            Effect::Grant { link, id, attempt, upto } => {
                let node = &mut self.nodes[link.at];
                let call = self.by_id.get(&id).map(|at| &mut self.calls[*at]);
                self.rules.granted(node.id, call, attempt, upto)?;
                for running in node.attempts.iter_mut().filter(|running| running.id == id && running.number == attempt)
                {
                    running.granted = upto;
                }
            }
            Effect::Cancel { link, id, attempt } => {
                self.note(format!("  cancel {id}#{attempt} on {}", self.nodes[link.at].id));
                for other in &mut self.nodes[link.at].attempts {
                    if other.id == id && other.number == attempt {
                        other.cancelled = true;
                    }
                }
            }
            Effect::End { call, end, failed_attempts } => {
                let outcome = end.as_ref().map_or_else(ToString::to_string, |_| "a value".to_owned());
                self.note(format!("  end {}: {outcome}", self.calls[call.at].id));
                let CallRecord { method, demand, .. } = &self.calls[call.at];
                let method = *method;
                let zone = demand.labels.as_ref().map(|labels| labels[0].1.clone());
                if let (Err(CallError::NodeLost { .. }), 2.., None) = (&end, demand.count, demand.node) {
                    let kept = self.calls[call.at].kept.unwrap_or(demand.count);
                    if METHODS[method].is_idempotent() {
                        let single = Demand { count: 1, ..demand.clone() };
                        for _ in 0..kept {
                            self.lost.push_back((method, single.clone(), failed_attempts.clone()));
                        }
                    }
                    if kept < demand.count {
                        let rest = Demand { count: demand.count - kept, ..demand.clone() };
                        self.lost.push_back((method, rest, Vec::new()));
                    }
                }
                let serving = self.nodes.iter().filter(|node| {
                    !node.gone
                        && !node.drain_sent
                        && node.serves.contains(&method)
                        && zone.as_ref().is_none_or(|zone| *zone == node.zone)
                });
                let hosts: BTreeSet<IpAddr> = serving.map(|node| node.addr.ip()).collect();
                self.rules.ended(self.now, &mut self.calls[call.at], &end, &failed_attempts, &hosts)?;
            }
            Effect::Shorten { call, kept } => {
                self.note(format!("  shorten {} to {kept}", self.calls[call.at].id));
                self.rules.shortened(&mut self.calls[call.at], kept)?;
            }
            Effect::ConfirmDrained { link } => {
                let node = &mut self.nodes[link.at];
                if !node.drain_sent || !node.attempts.is_empty() || !node.replies.is_empty() {
                    return Err(format!("{} was told that it is drained, and is not", node.id));
                }
            }
            Effect::Retract { link } => {
                self.note(format!("  retract from {}", self.nodes[link.at].id));
                let node = &mut self.nodes[link.at];
                let (back, kept): (VecDeque<Attempt>, _) = node
                    .attempts
                    .drain(..)
                    .partition(|attempt| attempt.stage == Stage::Sent && !ASYNC[self.calls[attempt.call.at].method]);
                node.attempts = kept;
                for attempt in back {
                    node.replies.push_back((attempt.id, attempt.number, Reply::refused(Refusal::Returned)));
                }
            }
            Effect::Disconnect { link, reason } => {
                self.note(format!("  cut off {}: it {reason}", self.nodes[link.at].id));
                self.rules.cut_off(self.now, self.last_tick, &self.nodes, link.at, &reason)?;
                self.nodes[link.at].gone = true;
                self.nodes[link.at].running = false;
            }
            Effect::Publish(event) => {
                self.note(format!("  {event}"));
                self.rules.event(self.now, &event)?;
            }
        }
        Ok(())
    }

    // What callers do.

    fn submit(&mut self) -> Result<(), String> {
        if let Some((method, demand, failed_attempts)) = self.lost.pop_front() {
            return self.submit_this(method, demand, failed_attempts);
        }
        let method = self.rng.random_range(0..METHODS.len());
        let target = self.rng.random_bool(0.05) && !self.nodes.is_empty();
        let zone = if self.rng.random_bool(0.7) { ZONES[0] } else { ZONES[1] };
        let batch = !ASYNC[method] && self.rng.random_bool(0.25);
        let demand = Demand {
            count: if batch { self.rng.random_range(2..9) } else { 1 },
            labels: self.rng.random_bool(0.1).then(|| [("zone".to_owned(), zone.to_owned())].into()),
            affinity: self.rng.random_bool(0.1).then(|| self.rng.random_range(0..5)),
            hedge_of: (!self.calls.is_empty() && self.rng.random_bool(0.03))
                .then(|| self.calls[self.rng.random_range(0..self.calls.len())].id),
            exempt_from_limits: self.rng.random_bool(0.05),
            timeout: self.rng.random_bool(0.2).then(|| Duration::from_millis(self.rng.random_range(0..20_000))),
            node: target.then(|| self.nodes[self.rng.random_range(0..self.nodes.len())].id),
            attempts: self.rng.random_bool(0.2).then(|| self.rng.random_range(1..6)),
            retry_panics: self.rng.random_bool(0.2),
            size: self.rng.random_range(0..200),
        };
        self.submit_this(method, demand, Vec::new())
    }

    fn submit_this(
        &mut self,
        method: usize,
        demand: Demand,
        failed_attempts: Vec<FailedAttempt>,
    ) -> Result<(), String> {
        let at = self.calls.len();
        let handle = Rc::new(SimulatedCall {
            at,
            sent: Cell::new(0),
            whole: RefCell::default(),
            begun: Cell::new(0),
            open: Cell::new(0),
        });
        self.calls.push(CallRecord {
            handle: Rc::clone(&handle),
            id: CallId(u64::MAX),
            method,
            demand: demand.clone(),
            failed_attempts: failed_attempts.clone(),
            kept: None,
            granted: 0,
            begun: 0,
            lied: false,
            submitted: self.now,
            cancelled: false,
            ends: 0,
            starts: 0,
            completed: 0,
            lost: Vec::new(),
            lost_on: Vec::new(),
            ran_in_vain: 0,
            current: None,
        });
        let name = METHODS[method].name();
        let id = self.bring(&format!("submit {name} {demand:?}"), |core, now, effects| {
            core.on_call_submitted(now, handle, &METHODS[method], demand, failed_attempts, effects)
        })?;
        self.calls[at].id = id;
        self.by_id.insert(id, at);
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), String> {
        let open: Vec<usize> =
            (0..self.calls.len()).filter(|at| self.calls[*at].ends == 0 && !self.calls[*at].cancelled).collect();
        let Some(at) = self.pick(&open) else { return Ok(()) };
        let id = self.calls[at].id;
        self.calls[at].cancelled = true;
        self.bring(&format!("cancel {id}"), |core, _, effects| core.on_call_cancelled(id, effects))
    }

    // What links and nodes do.

    /// A link writes the oldest attempt that it has, or some of it, or finds that it was withdrawn.
    fn write(&mut self) -> Result<(), String> {
        let unwritten = |attempt: &Attempt| matches!(attempt.stage, Stage::Queued | Stage::Writing);
        let Some(at) = self.pick_node(|node| node.attempts.iter().any(unwritten)) else {
            return Ok(());
        };
        let stops = !self.calm && self.rng.random_bool(0.2);
        let node = &mut self.nodes[at];
        // The one that was begun goes on before any other.
        let begun = node.attempts.iter().position(|attempt| attempt.stage == Stage::Writing);
        let Some(place) = begun.or_else(|| node.attempts.iter().position(unwritten)) else {
            return Ok(());
        };
        let attempt = &mut node.attempts[place];
        // What was begun and has lost its leave can only be an attempt that was given up with its connection.
        if attempt.stage == Stage::Writing && attempt.call.open.get() != attempt.number {
            return self.end_connection(at, GoneReason::Broken("given up while it was written".into()));
        }
        if attempt.call.open.get() == attempt.number {
            attempt.call.begun.set(attempt.number);
            if stops {
                attempt.stage = Stage::Writing;
                return Ok(());
            }
            attempt.call.sent.set(attempt.number);
            attempt.call.whole.borrow_mut().insert(attempt.number);
            attempt.stage = Stage::Sent;
            return Ok(());
        }
        let (id, number, from) = (attempt.id, attempt.number, node.id);
        node.attempts.remove(place);
        self.bring(&format!("withdrawn {id}#{number}"), |core, now, effects| {
            core.on_attempt_finished(now, from, id, number, AttemptEnd::NotSent, effects);
        })
    }

    fn start(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| {
            node.running && !node.frozen && node.attempts.iter().any(|attempt| attempt.stage == Stage::Sent)
        }) else {
            return Ok(());
        };
        let node = &mut self.nodes[at];
        let is_async = |attempt: &Attempt| ASYNC[self.calls[attempt.call.at].method];
        let taken = node.attempts.iter().filter(|other| other.stage == Stage::Running && !is_async(other)).count();
        let free = taken < node.slots as usize;
        let next = node.attempts.iter().position(|attempt| attempt.stage == Stage::Sent && (free || is_async(attempt)));
        let Some(place) = next else { return Ok(()) };
        if node.attempts[place].cancelled {
            if let Some(attempt) = node.attempts.remove(place) {
                node.replies.push_back((attempt.id, attempt.number, Reply::refused(Refusal::Stopped)));
            }
            return Ok(());
        }
        // Now and then a node says that it will not.
        if !self.calm && self.rng.random_bool(0.05) {
            if let Some(attempt) = node.attempts.remove(place) {
                node.replies.push_back((attempt.id, attempt.number, Reply::refused(Refusal::Busy)));
            }
            return Ok(());
        }
        let attempt = &mut node.attempts[place];
        attempt.stage = Stage::Running;
        attempt.begun = 1;
        let call = &mut self.calls[attempt.call.at];
        call.starts += 1;
        if call.current == Some((node.id, attempt.number)) {
            call.begun = 1;
        }
        self.rules.started(call)
    }

    /// Picks a batch that a node is at, by node and place.
    fn pick_batch(&mut self, fits: impl Fn(&SimulatedNode, &Attempt) -> bool) -> Option<(usize, usize)> {
        let calls = &self.calls;
        let is_batch = |attempt: &Attempt| {
            matches!(attempt.stage, Stage::Sent | Stage::Running) && calls[attempt.call.at].demand.count > 1
        };
        let batches: Vec<(usize, usize)> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].running && !self.nodes[*at].gone)
            .flat_map(|at| (0..self.nodes[at].attempts.len()).map(move |place| (at, place)))
            .filter(|(at, place)| {
                let attempt = &self.nodes[*at].attempts[*place];
                is_batch(attempt) && fits(&self.nodes[*at], attempt)
            })
            .collect();
        (!batches.is_empty()).then(|| batches[self.rng.random_range(0..batches.len())])
    }

    /// A node starts more calls of a batch that it runs: as many as it may, at most.
    fn go_on(&mut self) -> Result<(), String> {
        let can = |node: &SimulatedNode, attempt: &Attempt| {
            !node.frozen && attempt.stage == Stage::Running && attempt.kept.is_none() && attempt.begun < attempt.granted
        };
        let Some((at, place)) = self.pick_batch(can) else { return Ok(()) };
        let node = &mut self.nodes[at];
        let attempt = &mut node.attempts[place];
        attempt.begun = self.rng.random_range(attempt.begun..attempt.granted) + 1;
        let call = &mut self.calls[attempt.call.at];
        if call.current == Some((node.id, attempt.number)) {
            call.begun = attempt.begun;
        }
        Ok(())
    }

    /// A node wants to start more calls of a batch than it may, or asks for what makes no sense.
    fn ask(&mut self) -> Result<(), String> {
        let Some((at, place)) = self.pick_batch(|node, _| node.reachable && !node.frozen) else { return Ok(()) };
        let attempt = &self.nodes[at].attempts[place];
        let (id, number, begun) = (attempt.id, attempt.number, attempt.begun);
        let (number, upto) = match self.rng.random_range(0..10) {
            0 => (number + 1, 4),
            1 => (number.wrapping_sub(1), u32::MAX),
            2 => (number, u32::MAX),
            3 => (number, 0),
            _ => (number, begun + self.rng.random_range(1..4)),
        };
        let node = self.nodes[at].id;
        self.bring(&format!("{node} wants {upto} of {id}#{number}"), |core, _, effects| {
            core.on_grant_requested(node, id, number, upto, effects);
        })
    }

    fn finish_one(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| {
            node.running && !node.frozen && node.attempts.iter().any(|attempt| attempt.stage == Stage::Running)
        }) else {
            return Ok(());
        };
        let running: Vec<usize> = (0..self.nodes[at].attempts.len())
            .filter(|place| self.nodes[at].attempts[*place].stage == Stage::Running)
            .collect();
        let Some(place) = self.pick(&running) else { return Ok(()) };
        let Some(attempt) = self.nodes[at].attempts.remove(place) else { return Ok(()) };
        let outcome = match self.rng.random_range(0..20) {
            _ if attempt.cancelled => Outcome::Stopped,
            _ if self.nodes[at].sick => Outcome::Panicked("ill".to_owned()),
            0 => Outcome::Panicked("oh".to_owned()),
            1 => Outcome::Error,
            2 => Outcome::TooLarge { size: 2, limit: 1 },
            3 => Outcome::Encode("no".to_owned()),
            _ => Outcome::Value,
        };
        self.calls[attempt.call.at].completed += 1;
        let run = if self.rng.random_bool(0.7) { Duration::from_micros(50) } else { Duration::from_secs(2) };
        let mut payload = attempt.id.0.to_le_bytes().to_vec();
        payload.extend_from_slice(&attempt.number.to_le_bytes());
        // What it has started of a batch, and sometimes a lie.
        let count = attempt.begun;
        let count = if self.rng.random_bool(0.9) { count } else { self.rng.random_range(0..12) };
        let panicked = if self.rng.random_bool(0.05) { self.rng.random_range(0..12) } else { 0 };
        let reply = Reply { outcome, run, count, panicked, payload: Bytes::from(payload).into() };
        self.nodes[at].replies.push_back((attempt.id, attempt.number, reply));
        Ok(())
    }

    /// A node gives the end of a batch back that it runs, or says what makes no sense.
    fn give_back(&mut self) -> Result<(), String> {
        let Some((at, place)) = self.pick_batch(|node, _| node.reachable) else { return Ok(()) };
        let attempt = &self.nodes[at].attempts[place];
        let count = self.calls[attempt.call.at].demand.count;
        let running = attempt.stage == Stage::Running && attempt.kept.is_none() && attempt.begun < count;
        let sensible = running && self.rng.random_bool(0.7);
        let kept = if sensible { attempt.begun } else { self.rng.random_range(0..10) };
        let (node, id, number) = (self.nodes[at].id, attempt.id, attempt.number);
        if sensible {
            self.nodes[at].attempts[place].kept = Some(kept);
        } else {
            self.calls[self.nodes[at].attempts[place].call.at].lied = true;
        }
        self.bring(&format!("{node} gives {id}#{number} back but for {kept}"), |core, _, effects| {
            core.on_calls_given_back(node, id, number, kept, effects);
        })
    }

    /// A reply arrives at the master.
    fn deliver(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.gone && node.reachable && !node.replies.is_empty()) else {
            return Ok(());
        };
        self.nodes[at].link.heard.set(self.now);
        let Some((id, number, reply)) = self.nodes[at].replies.pop_front() else { return Ok(()) };
        let from = self.nodes[at].id;
        let ran = !matches!(reply.outcome, Outcome::Refused(_) | Outcome::Stopped);
        if let Some(at) = self.by_id.get(&id).filter(|_| ran) {
            self.rules.delivered(&self.calls[*at], from, number, reply.count);
        }
        self.bring(&format!("reply {id}#{number} from {from}: {:?}", reply.outcome), |core, now, effects| {
            core.on_attempt_finished(now, from, id, number, AttemptEnd::Replied(reply), effects);
        })?;
        self.rules.late(self.core.stats().late)
    }

    fn load(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.gone) else { return Ok(()) };
        let id = self.nodes[at].id;
        let stale = if self.rng.random_bool(0.3) { self.rng.random() } else { self.rng.random_range(0..2) };
        let lie = Load { computing: self.rng.random(), waiting: u32::MAX, stale, ..Load::default() };
        self.bring("load", |core, now, effects| core.on_heartbeat(now, id, lie, effects))
    }

    fn join(&mut self) -> Result<(), String> {
        if self.nodes.iter().filter(|node| !node.gone).count() >= 7 {
            return Ok(());
        }
        let serves = PROFILES[if self.rng.random_bool(0.6) { 0 } else { self.rng.random_range(0..PROFILES.len()) }];
        let slots = self.rng.random_range(1..4);
        let zone = if self.rng.random_bool(0.7) { ZONES[0] } else { ZONES[1] };
        let at = self.nodes.len();
        let link = Rc::new(SimulatedLink { at, heard: Cell::new(self.now), offended: Cell::new(None) });
        // Now and then a process registers again whose connection the master takes for well.
        let again = self.rng.random_bool(0.1).then(|| self.pick_node(|_| true)).flatten();
        let instance = again.map_or(at as u128, |old| self.nodes[old].instance);
        let sick = self.rng.random_bool(0.1);
        let registration = Registration {
            name: format!("n{}", if self.rng.random_bool(0.5) { at } else { at % 3 }),
            instance,
            slots,
            async_limit: self.rng.random_range(1..4),
            busy: self.rng.random_range(0..2),
            max_message_size: 65_536,
            labels: vec![("zone".to_owned(), zone.to_owned())],
            methods: serves.iter().map(|at| offer(*at)).collect(),
        };
        let host = self.rng.random_range(1..=self.hosts);
        let addr = SocketAddr::from(([10, 0, 0, host], 1));
        let id = self.core.new_node_id();
        self.nodes.push(SimulatedNode {
            id,
            link: Rc::clone(&link),
            serves,
            slots,
            zone,
            instance,
            addr,
            sick,
            running: true,
            frozen: false,
            reachable: true,
            drain_sent: false,
            gone: false,
            attempts: VecDeque::new(),
            replies: VecDeque::new(),
        });
        self.rules.joined(id, self.now);
        self.bring(&format!("join {id} serving {serves:?} with {slots} slots"), |core, now, effects| {
            core.on_node_joined(now, id, split_registration(registration, Principal::open()), addr, link, effects);
        })
    }

    /// A process dies; the master hears of it at once, or never.
    fn die(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| node.running) else { return Ok(()) };
        self.nodes[at].running = false;
        self.nodes[at].reachable = false;
        if self.rng.random_bool(0.8) { self.end_connection(at, GoneReason::Disconnected) } else { Ok(()) }
    }

    /// A connection breaks, and the node lives.
    fn close(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.gone) else { return Ok(()) };
        self.end_connection(at, GoneReason::Broken("reset".into()))
    }

    fn end_connection(&mut self, at: usize, reason: GoneReason) -> Result<(), String> {
        if self.nodes[at].gone {
            return Ok(());
        }
        let node = &mut self.nodes[at];
        node.gone = true;
        node.attempts.clear();
        node.replies.clear();
        let id = node.id;
        self.bring(&format!("gone {id}"), |core, now, effects| core.on_node_gone(now, id, reason, effects))
    }

    fn freeze(&mut self) -> Result<(), String> {
        if let Some(at) = self.pick_node(|node| node.running && !node.frozen) {
            self.note(format!("freeze {}", self.nodes[at].id));
            self.nodes[at].frozen = true;
            self.nodes[at].reachable = false;
        }
        Ok(())
    }

    /// The master's own network goes down: nothing is heard of most.
    fn freeze_most(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].running && self.rng.random_bool(0.8) {
                self.nodes[at].reachable = false;
            }
        }
        Ok(())
    }

    fn thaw(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            if node.running {
                node.frozen = false;
                node.reachable = true;
            }
        }
        Ok(())
    }

    fn complain(&mut self) -> Result<(), String> {
        if let Some(at) = self.pick_node(|node| !node.gone) {
            self.nodes[at].link.offended.set(Some(self.now));
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.gone && node.running && !node.drain_sent) else { return Ok(()) };
        self.nodes[at].drain_sent = true;
        let id = self.nodes[at].id;
        self.rules.draining(id);
        self.bring(&format!("drain {id}"), |core, now, effects| core.on_node_draining(now, id, effects))
    }

    // Time.

    fn pass(&mut self) -> Result<(), String> {
        let time = match self.rng.random_range(0..10) {
            0..6 => Duration::from_millis(self.rng.random_range(0..50)),
            6..9 => TICK,
            _ => Duration::from_secs(1),
        };
        self.advance(time)
    }

    /// The master sleeps for some seconds, and so do all its timers.
    fn stall(&mut self) -> Result<(), String> {
        self.now += Duration::from_secs(self.rng.random_range(2..30));
        self.tick()
    }

    /// Time goes by in steps as the ticker takes them, and reachable nodes are heard.
    fn advance(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now + time;
        while self.now < end {
            let due = self.core.next_tick().min(end).max(self.now);
            self.now = end.min(self.last_tick + TICK).min(due).max(self.now + Duration::from_micros(1));
            for node in &self.nodes {
                if node.reachable && node.running && !node.gone {
                    node.link.heard.set(self.now);
                }
            }
            if self.now >= self.last_tick + TICK || self.core.next_tick() <= self.now {
                self.tick()?;
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), String> {
        self.rules.before_tick(self.now);
        self.bring("tick", |core, now, effects| core.on_tick(now, effects))?;
        self.last_tick = self.now;
        // What the core has cut off is gone for good; what was on it is lost.
        for node in &mut self.nodes {
            if node.gone {
                node.attempts.clear();
                node.replies.clear();
            }
        }
        // What does not fit into a slice follows at once, and other events may come in between.
        while self.core.next_tick() <= self.now && self.rng.random_bool(0.7) {
            self.bring("tick on", |core, now, effects| core.on_tick(now, effects))?;
        }
        if self.core.next_tick() <= self.now { Ok(()) } else { self.core.overdue(self.now).map_or(Ok(()), Err) }
    }

    /// Trouble ends, and every call has to as well.
    fn end_well(&mut self) -> Result<(), String> {
        self.calm = true;
        self.note("from here on all is well".to_owned());
        self.thaw()?;
        for at in 0..self.nodes.len() {
            if !self.nodes[at].running {
                self.end_connection(at, GoneReason::Disconnected)?;
            }
        }
        for id in self.nodes.iter().map(|node| node.id).collect::<Vec<_>>() {
            self.bring("load", |core, now, effects| core.on_heartbeat(now, id, Load::default(), effects))?;
        }
        for _ in 0..4_000 {
            if self.core.unfinished() == 0 && self.core.stats().in_flight == 0 {
                return self.rules.all_ended(&self.calls, self.core.stats());
            }
            self.write()?;
            self.write()?;
            self.start()?;
            self.start()?;
            self.finish_one()?;
            self.finish_one()?;
            self.deliver()?;
            self.deliver()?;
            if self.rng.random_bool(0.2) {
                self.advance(TICK)?;
            }
        }
        let left = self.core.describe_unfinished();
        Err(format!(
            "{} calls never end, {} are in flight: {left}",
            self.core.unfinished(),
            self.core.stats().in_flight
        ))
    }

    fn pick(&mut self, from: &[usize]) -> Option<usize> {
        (!from.is_empty()).then(|| from[self.rng.random_range(0..from.len())])
    }

    fn pick_node(&mut self, fits: impl Fn(&SimulatedNode) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.nodes.len()).filter(|at| !self.nodes[*at].gone && fits(&self.nodes[*at])).collect();
        self.pick(&fitting)
    }
}

fn offer(at: usize) -> MethodOffer {
    let method = &METHODS[at];
    MethodOffer {
        id: method.id().0,
        service: method.name().service.to_owned(),
        version: method.version(),
        name: method.name().method.to_owned(),
        signature: method.signature().to_owned(),
        types: method.types(),
        structure: method.definitions().to_vec(),
        compute: !ASYNC[at],
    }
}
