//! Carries out what the core wants done in a simulated cluster, and checks each effect against the rules.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    rc::Rc,
};

use rand::RngExt;

use super::{
    cluster::SimulatedCluster,
    model::{ASYNC, AttemptState, CallRecord, METHODS, SimulatedAttempt, SimulatedHost},
};
use crate::{
    core::{Demand, Effect},
    error::CallError,
    view::NodeEvent,
    wire::{Refusal, Reply},
};

impl SimulatedCluster {
    pub(super) fn carry_out(&mut self, effect: Effect<SimulatedHost>) -> Result<(), String> {
        match effect {
            Effect::Send { link, call, id, attempt, granted, deadline } => {
                self.note(format!("  send {id}#{attempt} to {}", self.nodes[link.at].id));
                self.check_order(call.at)?;
                let made = self.calls.len();
                self.calls[call.at].first_sent.get_or_insert(made);
                let (nodes, record) = ((&self.nodes[..], link.at), &mut self.calls[call.at]);
                self.rules.sent(self.now, nodes, record, (attempt, granted), deadline)?;
                self.by_id.insert(id, call.at);
                let (state, number) = (AttemptState::Queued, attempt);
                // On a broken connection, the system may take all of it, and nothing arrives.
                if self.nodes[link.at].disconnected {
                    if self.rng.random_bool(0.5) {
                        call.begun.set(attempt);
                        call.sent.set(attempt);
                        call.whole.borrow_mut().insert(attempt);
                    }
                    return Ok(());
                }
                let attempt =
                    SimulatedAttempt { call, id, number, state, cancelled: false, kept: None, granted, begun: 0 };
                self.nodes[link.at].attempts.push_back(attempt);
            }
            Effect::AskAgain { link, id, attempt, .. } => {
                self.note(format!("  ask {} again for {id}#{attempt}", self.nodes[link.at].id));
                self.nodes[link.at].ask_again((id, attempt));
            }
            Effect::AskedAgain { link, requests } => {
                let asked = self.nodes[link.at].asked;
                if asked != requests {
                    return Err(format!("{requests} requests were announced, and {asked} have asked again"));
                }
                self.nodes[link.at].kept.clear();
                self.nodes[link.at].unasked.clear();
            }
            Effect::Grant { link, id, attempt, upto } => {
                let node = &mut self.nodes[link.at];
                let arrives = !node.disconnected;
                let call = self.by_id.get(&id).map(|at| &mut self.calls[*at]);
                self.rules.granted(node.id, call, attempt, upto)?;
                for running in
                    node.attempts.iter_mut().filter(|running| running.id == id && running.number == attempt && arrives)
                {
                    running.granted = upto;
                }
            }
            Effect::Cancel { link, id, attempt } => {
                self.note(format!("  cancel {id}#{attempt} on {}", self.nodes[link.at].id));
                let arrives = !self.nodes[link.at].disconnected;
                for other in &mut self.nodes[link.at].attempts {
                    if arrives && other.id == id && other.number == attempt {
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
                    if METHODS[method].info().is_idempotent() {
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
                if matches!(&end, Err(CallError::TimedOut { .. } | CallError::Cancelled { .. })) {
                    self.doom_nested(call.at);
                }
                let serving = self.nodes.iter().filter(|node| {
                    !node.gone
                        && !node.drain_sent
                        && !node.cordoned
                        && node.serves.contains(&method)
                        && zone.as_ref().is_none_or(|zone| *zone == node.zone)
                });
                let hosts: BTreeSet<IpAddr> = serving.map(|node| node.addr.ip()).collect();
                self.rules.ended(self.now, &mut self.calls[call.at], &end, &failed_attempts, &hosts)?;
            }
            Effect::TellFailed { .. } => {}
            Effect::Shorten { call, kept } => {
                self.note(format!("  shorten {} to {kept}", self.calls[call.at].id));
                self.rules.shortened(&mut self.calls[call.at], kept)?;
            }
            Effect::RequestDrain { link } => self.note(format!("  ask {} to drain", self.nodes[link.at].id)),
            Effect::ConfirmDrained { link } => {
                let node = &mut self.nodes[link.at];
                let is_drained = node.attempts.is_empty() && node.replies.is_empty();
                if !node.drain_sent || !is_drained && !node.disconnected {
                    return Err(format!("{} was told that it is drained, although it is not", node.id));
                }
            }
            Effect::Retract { link } => {
                self.note(format!("  retract from {}", self.nodes[link.at].id));
                let node = &mut self.nodes[link.at];
                if node.disconnected {
                    return Ok(());
                }
                let (back, kept): (VecDeque<SimulatedAttempt>, _) = node.attempts.drain(..).partition(|attempt| {
                    attempt.state == AttemptState::Sent && !ASYNC[self.calls[attempt.call.at].method]
                });
                node.attempts = kept;
                for attempt in back {
                    node.reply(attempt.id, attempt.number, Reply::refused(Refusal::Returned));
                }
            }
            Effect::Disconnect { link, reason } => {
                self.note(format!("  cut off {}: it {reason}", self.nodes[link.at].id));
                // That of a node which goes on on another one.
                if !Rc::ptr_eq(&link, &self.nodes[link.at].link) {
                    return Ok(());
                }
                self.rules.cut_off(self.now, self.last_tick, &self.nodes, link.at, &reason)?;
                self.nodes[link.at].gone = true;
                self.nodes[link.at].running = false;
            }
            Effect::ReportOverdue { node, id, .. } => self.note(format!("  {id} goes on on {node}")),
            Effect::Publish(event) => {
                self.note(format!("  {event}"));
                self.rules.event(self.now, &event)?;
                if let NodeEvent::Gone { node: gone, .. } = &event {
                    self.nodes.iter_mut().filter(|node| node.id == gone.id).for_each(|node| {
                        node.gone = true;
                        node.attempts.clear();
                        node.replies.clear();
                    });
                }
            }
        }
        Ok(())
    }
}
