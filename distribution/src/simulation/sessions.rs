//! Connections that break in a simulated cluster, and nodes that go on with their calls on another one.

use std::{cell::Cell, rc::Rc};

use rand::RngExt;

use super::{
    cluster::SimulatedCluster,
    model::{AttemptState, SimulatedLink, SimulatedNode},
};
use crate::{
    error::GoneReason,
    id::CallId,
    wire::{Refusal, Reply, handshake::SessionId},
};

impl SimulatedNode {
    /// A call has ended on the node. The master gets the reply if it waits for it on this connection.
    pub(super) fn reply(&mut self, id: CallId, number: u32, reply: Reply) {
        match self.disconnected || self.unasked.contains(&(id, number)) {
            true => self.kept.push((id, number, reply)),
            false => self.replies.push_back((id, number, reply)),
        }
    }

    /// The master asks for the reply to an attempt that it has sent on an earlier connection.
    pub(super) fn ask_again(&mut self, (id, number): (CallId, u32)) {
        self.unasked.remove(&(id, number));
        self.asked += 1;
        if let Some(at) = self.kept.iter().position(|(call, attempt, _)| (*call, *attempt) == (id, number)) {
            let reply = self.kept.remove(at);
            self.replies.push_back(reply);
        } else if !self.attempts.iter().any(|attempt| (attempt.id, attempt.number) == (id, number)) {
            self.reply(id, number, Reply::refused(Refusal::NotReceived));
        }
    }
}

impl SimulatedCluster {
    /// The connection of a node breaks. The master notices that, or not.
    pub(super) fn break_connection(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| node.has_session && !node.disconnected) else { return Ok(()) };
        let rng = &mut self.rng;
        let node = &mut self.nodes[at];
        self.lines.push_back(format!("  the connection of {} breaks", node.id));
        node.disconnected = true;
        // What the link has not written never comes, and what was on its way may not.
        node.attempts.retain(|attempt| match attempt.state {
            AttemptState::Queued | AttemptState::Writing => false,
            AttemptState::Sent => rng.random_bool(0.6),
            AttemptState::Running => true,
        });
        node.kept.extend(node.replies.drain(..));
        if self.rng.random_bool(0.7) { self.notice_break(at) } else { Ok(()) }
    }

    /// The master notices that a connection has broken.
    pub(super) fn notice_break(&mut self, at: usize) -> Result<(), String> {
        let (id, connection) = (self.nodes[at].id, self.nodes[at].connection);
        let reason = if self.rng.random_bool(0.5) { GoneReason::Disconnected } else { GoneReason::Broken("no".into()) };
        self.apply(&format!("lost the connection of {id}"), |core, now, effects| {
            core.on_connection_lost(now, connection, reason, effects);
        })
    }

    /// A node whose connection is broken connects again, and names its session.
    pub(super) fn resume(&mut self) -> Result<(), String> {
        let can = |node: &SimulatedNode| node.disconnected && node.running && !node.frozen && node.reachable;
        match self.pick_node(can) {
            Some(at) => self.resume_node(at),
            None => Ok(()),
        }
    }

    pub(super) fn resume_node(&mut self, at: usize) -> Result<(), String> {
        let node = &mut self.nodes[at];
        let (id, old) = (node.id, node.connection);
        let link = Rc::new(SimulatedLink { at, heard: Cell::new(self.now), violated_at: Cell::new(None) });
        node.link = Rc::clone(&link);
        node.disconnected = false;
        node.asked = 0;
        node.unasked = node.attempts.iter().map(|attempt| (attempt.id, attempt.number)).collect();
        let session = SessionId::new(self.events.into()).digest();
        let session = (session, session);
        let resumed = self.apply(&format!("{id} resumes"), |core, now, effects| {
            core.on_node_resumed(now, id, (session, 0), link, effects)
        })?;
        let Some(connection) = resumed else { return Err(format!("{id} cannot resume, although it is registered")) };
        self.nodes[at].connection = connection;
        match self.core.is_connected(old) || old == connection {
            true => Err(format!("what comes on the old connection of {id} counts")),
            false => Ok(()),
        }
    }
}
