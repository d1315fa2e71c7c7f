//! What the core does, as tables: nodes with slots and load, an event, and its exact effects as short lines of text.
//! After each event, all counts and indexes are checked.

mod absence;
mod administration;
mod balance;
mod brief;
mod call_listing;
mod cancel;
mod deadlines;
mod dependents;
mod drain;
mod ejection;
mod expiry;
mod grants;
mod liveness;
mod method_listing;
mod metrics;
mod prefetch;
mod queues;
mod replaced;
mod retry;
mod slices;
mod slow_start;
mod sources;
mod submission;
mod timeline;
mod turns;

use std::{cell::Cell, collections::BTreeMap, net::SocketAddr, rc::Rc, time::Duration};

use brief::brief;

use self::submission::{Submission, call};
use super::{AttemptEnd, Core, Effect, Effects, Host, HostCall, HostLink, Settings, Time, split_registration};
use crate::{
    error::GoneReason,
    failed_attempt::FailedAttempt,
    id::{CallId, CallerId, NodeId},
    security::Principal,
    service::method::Method,
    view::NodeEvent,
    wire::{
        Load, Outcome, Refusal, Reply,
        handshake::{MethodOffer, Registration},
    },
};

/// Runs on a slot, once at most.
static COMPUTE: Method = Method::new("A", 1, "compute", "fn() -> ()", false);
/// Runs on a slot, and may be repeated.
static AGAIN: Method = Method::new("A", 1, "again", "fn() -> ()", true);
/// An async method.
static WAIT: Method = Method::new_async("A", 1, "wait", "fn() -> ()", false);
/// Of another service.
static OTHER: Method = Method::new("B", 1, "compute", "fn() -> ()", false);
/// Served by no node, unless it says so.
static RARE: Method = Method::new("C", 1, "rare", "fn() -> ()", false);

const USUAL: [&Method; 4] = [&COMPUTE, &AGAIN, &WAIT, &OTHER];
/// No effect.
const NOTHING: [&str; 0] = [];
/// Too long to be sent ahead of a free slot.
const LONG_RUN: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);

/// When tests begin: later than any call of them runs.
const BEGIN: Duration = Duration::from_secs(10_000);
/// Longer than any first wait for a repetition.
const BACKED_OFF: Duration = Duration::from_millis(121);

#[derive(Debug)]
struct TableHost;

impl Host for TableHost {
    type Call = Rc<TableCall>;
    type Link = Rc<TableLink>;
}

#[derive(Debug)]
struct TableCall {
    name: String,
    count: u32,
    /// The newest attempt that was written to its end.
    sent: Cell<u32>,
    /// Whether it is a stream of which an item has come.
    has_yielded: Cell<bool>,
}

impl HostCall for Rc<TableCall> {
    fn can_be_repeated(&self) -> bool {
        !self.has_yielded.get()
    }

    fn open(&self, _: u32) {}

    fn withdraw(&self, attempt: u32) -> bool {
        self.sent.get() < attempt
    }

    fn abandon(&self, attempt: u32) -> bool {
        self.sent.get() < attempt
    }
}

#[derive(Debug)]
struct TableLink {
    name: String,
    heard: Cell<Time>,
    violation: Cell<Option<&'static str>>,
}

impl HostLink for Rc<TableLink> {
    fn heard(&self) -> Time {
        self.heard.get()
    }

    fn violation(&self, _: Time) -> Option<&'static str> {
        self.violation.get()
    }
}

/// What a node says about itself.
#[derive(Clone)]
struct Node {
    slots: u32,
    async_limit: u32,
    busy: u32,
    labels: Vec<(String, String)>,
    serves: Vec<&'static Method>,
    instance: Option<u128>,
    /// Where it comes from.
    host: u8,
}

/// A node that serves the usual methods.
fn slots(slots: u32) -> Node {
    Node { slots, async_limit: 4, busy: 0, labels: Vec::new(), serves: USUAL.to_vec(), instance: None, host: 1 }
}

impl Node {
    fn busy(self, busy: u32) -> Self {
        Self { busy, ..self }
    }

    fn async_limit(self, async_limit: u32) -> Self {
        Self { async_limit, ..self }
    }

    fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    fn serves(self, methods: &[&'static Method]) -> Self {
        Self { serves: methods.to_vec(), ..self }
    }

    fn host(self, host: u8) -> Self {
        Self { host, ..self }
    }

    fn instance(self, instance: u128) -> Self {
        Self { instance: Some(instance), ..self }
    }
}

/// A core, with names for its nodes and calls.
struct Table {
    core: Core<TableHost>,
    now: Time,
    nodes: BTreeMap<String, (NodeId, Rc<TableLink>)>,
    calls: BTreeMap<String, (CallId, Rc<TableCall>)>,
    /// The newest attempt of each call that was sent.
    sent: BTreeMap<String, (String, u32)>,
    /// The attempts and the time of each call that was answered.
    answered: BTreeMap<String, (u32, Duration)>,
    /// The failed attempts of calls that have ended.
    failed_attempts: BTreeMap<String, Vec<FailedAttempt>>,
    /// Whether links write calls at once.
    writes: bool,
    /// Nodes that send nothing.
    silent: Vec<&'static str>,
}

impl Table {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            heartbeat: SECOND,
            no_node_timeout: Duration::from_secs(5),
            reconnect_grace: Duration::from_secs(2),
            max_queued_calls: 1000,
            max_queued_bytes: 1 << 30,
            max_queued_calls_per_caller: 1000,
            max_queued_bytes_per_caller: 1 << 30,
            max_nodes: usize::MAX,
            max_nodes_per_credential: usize::MAX,
            slow_start: u32::MAX,
            slice: 256,
            epoch: 1,
            seed: 7,
            ring_key: [7; 32],
        };
        change(&mut settings);
        Self {
            core: Core::new(settings),
            now: BEGIN,
            nodes: BTreeMap::new(),
            calls: BTreeMap::new(),
            sent: BTreeMap::new(),
            answered: BTreeMap::new(),
            failed_attempts: BTreeMap::new(),
            writes: true,
            silent: Vec::new(),
        }
    }

    /// Applies an event to the core and returns its effects.
    fn apply(&mut self, event: impl FnOnce(&mut Core<TableHost>, Time, &mut Effects<TableHost>)) -> Vec<String> {
        let mut effects = Vec::new();
        event(&mut self.core, self.now, &mut effects);
        if let Err(what) = self.core.sanity_check() {
            panic!("at {:?}: {what}", self.now);
        }
        effects.into_iter().map(|effect| self.carry_out(effect)).collect()
    }

    fn name(&self, id: CallId) -> &str {
        let named = self.calls.iter().find(|(_, (known, _))| *known == id);
        named.map_or("?", |(name, _)| name)
    }

    fn carry_out(&mut self, effect: Effect<TableHost>) -> String {
        match effect {
            Effect::Send { link, call, attempt, granted, .. } => {
                if self.writes {
                    call.sent.set(attempt);
                }
                self.sent.insert(call.name.clone(), (link.name.clone(), attempt));
                let part = if granted < call.count { format!(" ({granted} of {})", call.count) } else { String::new() };
                format!("send {}#{attempt} to {}{part}", call.name, link.name)
            }
            Effect::Grant { link, id, attempt, upto } => {
                format!("grant {upto} of {}#{attempt} on {}", self.name(id), link.name)
            }
            Effect::Cancel { link, id, attempt } => format!("cancel {}#{attempt} on {}", self.name(id), link.name),
            Effect::End { call, end, failed_attempts } => {
                self.failed_attempts.insert(call.name.clone(), failed_attempts);
                if let Ok(end) = &end {
                    self.answered.insert(call.name.clone(), (end.attempts, end.elapsed));
                }
                format!(
                    "end {}: {}",
                    call.name,
                    end.map_or_else(|error| brief(&error), |end| format!("value from {}", end.node.name))
                )
            }
            Effect::AskAgain { link, id, attempt, .. } => {
                format!("ask {} again for {}#{attempt}", link.name, self.name(id))
            }
            Effect::AskedAgain { link, requests } => format!("asked {} again for {requests}", link.name),
            Effect::TellFailed { call, failed_attempt } => format!("tell {}: {failed_attempt}", call.name),
            Effect::Shorten { call, kept } => format!("shorten {} to {kept}", call.name),
            Effect::Retract { link } => format!("retract from {}", link.name),
            Effect::RequestDrain { link } => format!("ask {} to drain", link.name),
            Effect::ConfirmDrained { link } => format!("drained {}", link.name),
            Effect::Disconnect { link, reason } => format!("cut off {}: it {reason}", link.name),
            Effect::ReportOverdue { node, id, stopping_for, .. } => {
                format!("{} goes on on {} for {stopping_for:?}", self.name(id), node.name)
            }
            Effect::Publish(event) => match event {
                NodeEvent::Present { node, .. } => format!("{} present", node.name),
                NodeEvent::Joined { node, .. } => format!("{} joined", node.name),
                NodeEvent::Suspect { node, .. } => format!("{} suspect", node.name),
                NodeEvent::Recovered { node } => format!("{} recovered", node.name),
                NodeEvent::Disconnected { node, in_flight, .. } => {
                    format!("{} disconnected with {in_flight}", node.name)
                }
                NodeEvent::Resumed { node, in_flight } => format!("{} resumed with {in_flight}", node.name),
                NodeEvent::Draining { node } => format!("{} draining", node.name),
                NodeEvent::Gone { node, in_flight, .. } => format!("{} gone with {in_flight}", node.name),
                NodeEvent::Ejected { node, rest, .. } => format!("{} ejected for {rest:?}", node.name),
                NodeEvent::Restored { node } => format!("{} restored", node.name),
                NodeEvent::Cordoned { node } => format!("{} cordoned", node.name),
                NodeEvent::Uncordoned { node } => format!("{} uncordoned", node.name),
                NodeEvent::Missed(count) => format!("missed {count}"),
            },
        }
    }

    fn join(&mut self, name: &str, node: Node) -> Vec<String> {
        let link = Rc::new(TableLink { name: name.to_owned(), heard: Cell::new(self.now), violation: Cell::new(None) });
        let id = self.core.new_node_id();
        self.nodes.insert(name.to_owned(), (id, Rc::clone(&link)));
        let registration = Registration {
            slots: node.slots,
            busy: node.busy,
            async_limit: node.async_limit,
            labels: node.labels,
            methods: node.serves.iter().map(|method| offer(method)).collect(),
            ..registration(name, node.instance.unwrap_or_else(|| id.to_bits().into()))
        };
        let addr = SocketAddr::from(([10, 0, 0, node.host], 1));
        self.apply(|core, now, effects| {
            core.on_node_joined(now, id, split_registration(registration, Principal::open()), addr, link, effects)
        })
    }

    /// Joins nodes with these names and slots.
    fn joined(mut self, nodes: &[(&str, u32)]) -> Self {
        for (name, count) in nodes {
            self.join(name, slots(*count));
        }
        self
    }

    fn node(&self, name: &str) -> NodeId {
        self.nodes[name].0
    }

    fn submit(&mut self, name: &str, submission: Submission) -> Vec<String> {
        let Submission { method, mut demand, on, failed_attempts } = submission;
        demand.node = on.map(|node| self.node(node));
        let (sent, has_yielded) = (Cell::new(0), Cell::new(false));
        let handle = Rc::new(TableCall { name: name.to_owned(), count: demand.count, sent, has_yielded });
        let mut id = CallId(0);
        let given = Rc::clone(&handle);
        let lines = self.apply(|core, now, effects| {
            id = core.on_call_submitted(now, given, method.info(), demand, failed_attempts, effects)
        });
        self.calls.insert(name.to_owned(), (id, handle));
        lines
    }

    fn id(&self, name: &str) -> CallId {
        self.calls[name].0
    }

    fn cancel(&mut self, name: &str) -> Vec<String> {
        let id = self.id(name);
        self.apply(|core, now, effects| core.on_call_cancelled(now, id, effects))
    }

    /// The node's answer to the newest attempt of a call. The attempt was sent as long ago as the node says that it
    /// ran.
    fn reply(&mut self, name: &str, outcome: Outcome, run: Duration) -> Vec<String> {
        let (node, attempt) = self.sent[name].clone();
        self.core.backdate(self.node(&node), (self.calls[name].0, attempt), self.now.saturating_sub(run));
        self.reply_claiming(name, outcome, run)
    }

    /// The same without the guarantee that the run time is possible.
    fn reply_claiming(&mut self, name: &str, outcome: Outcome, run: Duration) -> Vec<String> {
        self.ended(name, AttemptEnd::Replied(Reply::without_payload(outcome, run)))
    }

    fn ended(&mut self, name: &str, attempted: AttemptEnd) -> Vec<String> {
        let (node, attempt) = self.sent[name].clone();
        let (node, id) = (self.node(&node), self.calls[name].0);
        self.apply(|core, now, effects| core.on_attempt_finished(now, node, id, attempt, attempted, effects))
    }

    /// An item of the call's stream has come.
    fn yields(&mut self, name: &str) {
        self.calls[name].1.has_yielded.set(true);
    }

    fn answer(&mut self, name: &str) -> Vec<String> {
        self.reply(name, Outcome::Value, LONG_RUN)
    }

    fn panic(&mut self, name: &str) -> Vec<String> {
        self.reply(name, Outcome::Panicked("oh".to_owned()), LONG_RUN)
    }

    fn refuse(&mut self, name: &str, refusal: Refusal) -> Vec<String> {
        self.reply(name, Outcome::Refused(refusal), Duration::ZERO)
    }

    /// Makes the core expect this run time of a method.
    fn expect_run_time(&mut self, method: &'static Method, run: Duration) {
        self.submit("timed", call(method));
        self.reply("timed", Outcome::Value, run);
    }

    fn gone(&mut self, name: &str, reason: GoneReason) -> Vec<String> {
        let id = self.node(name);
        self.apply(|core, now, effects| core.on_node_gone(now, id, reason, effects))
    }

    fn dies(&mut self, name: &str) -> Vec<String> {
        self.gone(name, GoneReason::Disconnected)
    }

    fn drain(&mut self, name: &str) -> Vec<String> {
        let id = self.node(name);
        self.apply(|core, now, effects| core.on_node_draining(now, id, effects))
    }

    fn report_stale(&mut self, name: &str, stale: u32) -> Vec<String> {
        let id = self.node(name);
        let load = Load { stale, ..Load::default() };
        self.apply(|core, now, effects| core.on_heartbeat(now, id, load, effects))
    }

    fn request_grant(&mut self, name: &str, upto: u32) -> Vec<String> {
        let (node, attempt) = self.sent[name].clone();
        let (node, id) = (self.node(&node), self.calls[name].0);
        self.apply(|core, _, effects| core.on_grant_requested(node, id, attempt, upto, effects))
    }

    fn give_back(&mut self, name: &str, kept: u32) -> Vec<String> {
        let (node, attempt) = self.sent[name].clone();
        let (node, id) = (self.node(&node), self.calls[name].0);
        self.apply(|core, _, effects| core.on_calls_given_back(node, id, attempt, kept, effects))
    }

    fn tick(&mut self) -> Vec<String> {
        self.apply(|core, now, effects| core.on_tick(now, effects))
    }

    /// Lets time pass, with a tick whenever the core wants one.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut lines = Vec::new();
        loop {
            self.now = self.core.next_tick().clamp(self.now, end);
            for (name, (_, link)) in &self.nodes {
                if !self.silent.contains(&name.as_str()) {
                    link.heard.set(self.now);
                }
            }
            if self.core.next_tick() > self.now {
                return lines;
            }
            lines.extend(self.tick());
        }
    }
}

/// The lines that begin with `start`.
fn only<'a>(lines: &'a [String], start: &str) -> Vec<&'a str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with(start)).collect()
}

/// What a process with this number says of itself: one slot, and the usual methods.
fn registration(name: &str, instance: u128) -> Registration {
    Registration {
        name: name.to_owned(),
        instance,
        slots: 1,
        busy: 0,
        async_limit: 4,
        max_message_size: 65_536,
        labels: Vec::new(),
        methods: USUAL.iter().map(|method| offer(method)).collect(),
        session: None,
    }
}

fn offer(method: &'static Method) -> MethodOffer {
    method.info().offer()
}
