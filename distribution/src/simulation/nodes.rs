//! What the nodes of a simulated cluster and their links do. Some of what nodes report is wrong.

use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use rand::RngExt;

use super::{
    cluster::SimulatedCluster,
    model::{ASYNC, AttemptState, PROFILES, SimulatedAttempt, SimulatedLink, SimulatedNode, ZONES, offer},
};
use crate::{
    core::{AttemptEnd, NodeConnection, split_registration},
    error::GoneReason,
    security::Principal,
    wire::{
        Load, Outcome, Refusal, Reply,
        handshake::{Registration, SessionId},
    },
};

impl SimulatedCluster {
    pub(super) fn join(&mut self) -> Result<(), String> {
        if self.nodes.iter().filter(|node| !node.gone).count() >= 7 {
            return Ok(());
        }
        let serves = PROFILES[if self.rng.random_bool(0.6) { 0 } else { self.rng.random_range(0..PROFILES.len()) }];
        let slots = self.rng.random_range(1..4);
        let zone = if self.rng.random_bool(0.7) { ZONES[0] } else { ZONES[1] };
        let at = self.nodes.len();
        let link = Rc::new(SimulatedLink { at, heard: Cell::new(self.now), violated_at: Cell::new(None) });
        // Sometimes a process registers again while the master still has its old connection.
        let again = self.rng.random_bool(0.1).then(|| self.pick_node(|_| true)).flatten();
        let instance = again.map_or(at as u128, |old| self.nodes[old].instance);
        let failing = self.rng.random_bool(0.1);
        // A process that registers again is still cordoned.
        let cordoned = self.nodes.iter().any(|node| node.instance == instance && node.cordoned);
        let registration = Registration {
            name: format!("n{}", if self.rng.random_bool(0.5) { at } else { at % 3 }),
            instance,
            slots,
            async_limit: self.rng.random_range(1..4),
            busy: self.rng.random_range(0..2),
            max_message_size: 65_536,
            labels: vec![("zone".to_owned(), zone.to_owned())],
            methods: serves.iter().map(|at| offer(*at)).collect(),
            session: None,
        };
        let host = self.rng.random_range(1..=self.hosts);
        let addr = SocketAddr::from(([10, 0, 0, host], 1));
        let id = self.core.new_node_id();
        let has_session = self.rng.random_bool(0.7);
        self.nodes.push(SimulatedNode {
            id,
            link: Rc::clone(&link),
            serves,
            slots,
            zone,
            instance,
            addr,
            failing,
            running: true,
            frozen: false,
            reachable: true,
            drain_sent: false,
            cordoned,
            kicked: false,
            gone: false,
            attempts: VecDeque::new(),
            replies: VecDeque::new(),
            connection: NodeConnection::first(id),
            has_session,
            disconnected: false,
            kept: Vec::new(),
            unasked: BTreeSet::new(),
            asked: 0,
        });
        self.rules.joined(id, self.now);
        self.apply(&format!("join {id} serving {serves:?} with {slots} slots"), |core, now, effects| {
            core.on_node_joined(now, id, split_registration(registration, Principal::open()), addr, link, effects);
            if has_session {
                core.on_session_begun(id, SessionId::new(0).digest());
            }
        })
    }

    /// A link writes its oldest attempt, or a part of it, or finds that the attempt was withdrawn.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let unwritten =
            |attempt: &SimulatedAttempt| matches!(attempt.state, AttemptState::Queued | AttemptState::Writing);
        let Some(at) = self.pick_node(|node| !node.disconnected && node.attempts.iter().any(unwritten)) else {
            return Ok(());
        };
        let stops = !self.faults_ended && self.rng.random_bool(0.2);
        let node = &mut self.nodes[at];
        // An attempt of which a part was written comes first.
        let begun = node.attempts.iter().position(|attempt| attempt.state == AttemptState::Writing);
        let Some(place) = begun.or_else(|| node.attempts.iter().position(unwritten)) else {
            return Ok(());
        };
        let attempt = &mut node.attempts[place];
        // If a part was written and the rest may not be, the attempt was given up with its connection.
        if attempt.state == AttemptState::Writing && attempt.call.open.get() != attempt.number {
            return self.end_connection(at, GoneReason::Broken("given up while it was written".into()));
        }
        if attempt.call.open.get() == attempt.number {
            attempt.call.begun.set(attempt.number);
            if stops {
                attempt.state = AttemptState::Writing;
                return Ok(());
            }
            attempt.call.sent.set(attempt.number);
            attempt.call.whole.borrow_mut().insert(attempt.number);
            attempt.state = AttemptState::Sent;
            return Ok(());
        }
        let (id, number, from) = (attempt.id, attempt.number, node.id);
        node.attempts.remove(place);
        self.apply(&format!("withdrawn {id}#{number}"), |core, now, effects| {
            core.on_attempt_finished(now, from, id, number, AttemptEnd::NotSent, effects);
        })
    }

    pub(super) fn start(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| {
            node.running && !node.frozen && node.attempts.iter().any(|attempt| attempt.state == AttemptState::Sent)
        }) else {
            return Ok(());
        };
        let node = &mut self.nodes[at];
        let is_async = |attempt: &SimulatedAttempt| ASYNC[self.calls[attempt.call.at].method];
        let taken =
            node.attempts.iter().filter(|other| other.state == AttemptState::Running && !is_async(other)).count();
        let free = taken < node.slots as usize;
        let next =
            node.attempts.iter().position(|attempt| attempt.state == AttemptState::Sent && (free || is_async(attempt)));
        let Some(place) = next else { return Ok(()) };
        if node.attempts[place].cancelled {
            if let Some(attempt) = node.attempts.remove(place) {
                node.reply(attempt.id, attempt.number, Reply::refused(Refusal::Stopped));
            }
            return Ok(());
        }
        // Sometimes a node refuses.
        if !self.faults_ended && self.rng.random_bool(0.05) {
            if let Some(attempt) = node.attempts.remove(place) {
                node.reply(attempt.id, attempt.number, Reply::refused(Refusal::Busy));
            }
            return Ok(());
        }
        let attempt = &mut node.attempts[place];
        attempt.state = AttemptState::Running;
        attempt.begun = 1;
        let call = &mut self.calls[attempt.call.at];
        call.starts += 1;
        if call.current == Some((node.id, attempt.number)) {
            call.begun = 1;
        }
        // A stream, whose first item comes at once. Sometimes its node then says that it has not begun.
        if call.demand.count == 1 && self.rng.random_bool(0.2) {
            attempt.call.has_yielded.set(true);
            if !self.faults_ended && self.rng.random_bool(0.1) {
                let (id, number) = (attempt.id, attempt.number);
                node.attempts.remove(place);
                self.rules.started(call)?;
                self.nodes[at].reply(id, number, Reply::refused(Refusal::Busy));
                return Ok(());
            }
        }
        self.rules.started(call)
    }

    /// Picks a batch that a node has; returns the node and the place there.
    fn pick_batch(&mut self, fits: impl Fn(&SimulatedNode, &SimulatedAttempt) -> bool) -> Option<(usize, usize)> {
        let calls = &self.calls;
        let is_batch = |attempt: &SimulatedAttempt| {
            matches!(attempt.state, AttemptState::Sent | AttemptState::Running)
                && calls[attempt.call.at].demand.count > 1
        };
        let batches: Vec<(usize, usize)> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].running && !self.nodes[*at].gone && !self.nodes[*at].disconnected)
            .flat_map(|at| (0..self.nodes[at].attempts.len()).map(move |place| (at, place)))
            .filter(|(at, place)| {
                let attempt = &self.nodes[*at].attempts[*place];
                is_batch(attempt) && fits(&self.nodes[*at], attempt)
            })
            .collect();
        (!batches.is_empty()).then(|| batches[self.rng.random_range(0..batches.len())])
    }

    /// A node starts more calls of a batch that it runs, at most as many as were granted.
    pub(super) fn start_more(&mut self) -> Result<(), String> {
        let can = |node: &SimulatedNode, attempt: &SimulatedAttempt| {
            !node.frozen
                && attempt.state == AttemptState::Running
                && attempt.kept.is_none()
                && attempt.begun < attempt.granted
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

    /// A node asks to start more calls of a batch, or asks for something that makes no sense.
    pub(super) fn request_grant(&mut self) -> Result<(), String> {
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
        self.apply(&format!("{node} wants {upto} of {id}#{number}"), |core, _, effects| {
            core.on_grant_requested(node, id, number, upto, effects);
        })
    }

    /// A node gives back the end of a batch that it runs, or reports something that makes no sense.
    pub(super) fn give_back(&mut self) -> Result<(), String> {
        let Some((at, place)) = self.pick_batch(|node, _| node.reachable) else { return Ok(()) };
        let attempt = &self.nodes[at].attempts[place];
        let count = self.calls[attempt.call.at].demand.count;
        let running = attempt.state == AttemptState::Running && attempt.kept.is_none() && attempt.begun < count;
        let sensible = running && self.rng.random_bool(0.7);
        let kept = if sensible { attempt.begun } else { self.rng.random_range(0..10) };
        let (node, id, number) = (self.nodes[at].id, attempt.id, attempt.number);
        if sensible {
            self.nodes[at].attempts[place].kept = Some(kept);
        } else {
            self.calls[self.nodes[at].attempts[place].call.at].misreported = true;
        }
        self.apply(&format!("{node} gives {id}#{number} back except the first {kept}"), |core, _, effects| {
            core.on_calls_given_back(node, id, number, kept, effects);
        })
    }

    pub(super) fn finish_one(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| {
            node.running && !node.frozen && node.attempts.iter().any(|attempt| attempt.state == AttemptState::Running)
        }) else {
            return Ok(());
        };
        let running: Vec<usize> = (0..self.nodes[at].attempts.len())
            .filter(|place| self.nodes[at].attempts[*place].state == AttemptState::Running)
            .collect();
        let Some(place) = self.pick(&running) else { return Ok(()) };
        let Some(attempt) = self.nodes[at].attempts.remove(place) else { return Ok(()) };
        let outcome = match self.rng.random_range(0..20) {
            _ if attempt.cancelled => Outcome::Stopped,
            _ if self.nodes[at].failing => Outcome::Panicked("ill".to_owned()),
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
        // How many calls it has started, or sometimes a wrong number.
        let count = attempt.begun;
        let count = if self.rng.random_bool(0.9) { count } else { self.rng.random_range(0..12) };
        let panicked = if self.rng.random_bool(0.05) { self.rng.random_range(0..12) } else { 0 };
        let reply = Reply { outcome, run, count, panicked, payload: Bytes::from(payload).into() };
        self.nodes[at].reply(attempt.id, attempt.number, reply);
        Ok(())
    }

    /// A reply arrives at the master.
    pub(super) fn deliver(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.disconnected && node.reachable && !node.replies.is_empty()) else {
            return Ok(());
        };
        self.nodes[at].link.heard.set(self.now);
        let Some((id, number, reply)) = self.nodes[at].replies.pop_front() else { return Ok(()) };
        let from = self.nodes[at].id;
        let ran = !matches!(reply.outcome, Outcome::Refused(_) | Outcome::Stopped);
        if let Some(at) = self.by_id.get(&id).filter(|_| ran) {
            self.rules.delivered(&self.calls[*at], from, number, reply.count);
        }
        self.apply(&format!("reply {id}#{number} from {from}: {:?}", reply.outcome), |core, now, effects| {
            core.on_attempt_finished(now, from, id, number, AttemptEnd::Replied(reply), effects);
        })?;
        self.rules.late(self.core.stats().late)
    }

    pub(super) fn send_heartbeat(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.disconnected) else { return Ok(()) };
        let id = self.nodes[at].id;
        let stale = if self.rng.random_bool(0.3) { self.rng.random() } else { self.rng.random_range(0..2) };
        let lie = Load { computing: self.rng.random(), waiting: u32::MAX, stale, ..Load::default() };
        self.apply("load", |core, now, effects| core.on_heartbeat(now, id, lie, effects))
    }

    /// A node wants to leave, or an administrator wants it to.
    pub(super) fn drain(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| node.running && !node.disconnected && !node.drain_sent) else {
            return Ok(());
        };
        self.nodes[at].drain_sent = true;
        let id = self.nodes[at].id;
        self.rules.draining(id);
        if self.rng.random_bool(0.5) {
            self.apply(&format!("drain {id}"), |core, now, effects| core.on_node_draining(now, id, effects))
        } else {
            self.ask(&format!("admin drains {id}"), |core, now, effects| core.on_drain_requested(now, id, effects))
        }
    }
}
