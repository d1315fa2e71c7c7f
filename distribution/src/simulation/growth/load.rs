//! What is measured: calls, nodes, time, and the worst cases.

use std::net::SocketAddr;

use super::driver::{Growth, HEARTBEAT, NO_NODE_TIMEOUT, OTHERWISE, SERVED, SLOTS, Target, UNSERVED, offer};
use crate::{
    administration::CallFilter,
    core::SLICE,
    failed_attempt::{Cause, FailedAttempt},
    id::NodeIdentity,
    service::options::Labels,
    wire::Load,
};

/// As many methods as a node may have, and as many nodes as a master has memory for with these.
const VERBOSE_METHODS: u64 = 1024;

const VERBOSE_NODES: u64 = 46;

impl Growth {
    /// Fills half of the slots, or all of them, and lets this many calls wait, a quarter for each target.
    pub(super) fn fill(&mut self, waiting: usize) {
        let slots = self.nodes.len() * SLOTS as usize;
        let running = if waiting == 0 { slots / 2 } else { slots };
        for _ in 0..running {
            self.submit("submit, as slots fill", Target::Any);
        }
        for number in 0..waiting {
            let target = [Target::Any, Target::Affinity, Target::Label, Target::Node][number % 4];
            self.submit("submit, as the queue fills", target);
        }
    }

    pub(super) fn calls(&mut self) {
        let kinds = [
            ("submit", Target::Any),
            ("submit, affinity", Target::Affinity),
            ("submit, label", Target::Label),
            ("submit, label of all", Target::Common),
            ("submit, on a node", Target::Node),
        ];
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                for (what, target) in kinds {
                    self.submit(what, target);
                    self.finish("finish");
                }
                let id = self.submit("submit", Target::Any);
                self.apply("cancel", 1, |core, now, effects| core.on_call_cancelled(now, id, effects));
                self.finish("finish");
            }
            self.end_round();
        }
    }

    pub(super) fn nodes(&mut self) {
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                let id = self.join("join");
                self.leave("leave", id);
                let at = self.draw(self.nodes.len());
                let id = self.nodes[at];
                for stale in [1, 0] {
                    let load = Load { stale, ..Load::default() };
                    self.apply("heartbeat", 1, |core, now, effects| core.on_heartbeat(now, id, load, effects));
                }
                let labels: Labels = Some([("zone".to_owned(), "zone-1".to_owned())].into());
                self.apply("capacity, label", 1, |core, _, _| core.capacity(SERVED.info().id(), &labels));
            }
            let (mut left, mut last) = (self.nodes.len(), None);
            while left > 0 {
                let count = left.min(SLICE);
                left -= count;
                last = self.apply("nodes(), each", count as u32, |core, _, _| core.node_snapshots(last, None)).1;
            }
            self.end_round();
        }
    }

    pub(super) fn time(&mut self) {
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                self.submit_this("submit, no node", &UNSERVED, |demand| demand, None);
                self.now += NO_NODE_TIMEOUT;
                self.tick("expire");
            }
            self.now += HEARTBEAT / 4;
            let mut count = self.nodes.len() as u32;
            while self.core.next_tick() <= self.now {
                self.apply("look at all nodes, each", std::mem::take(&mut count), |core, now, effects| {
                    core.on_tick(now, effects);
                });
            }
            self.end_round();
        }
    }

    /// Lists all calls, and looks for some that do not exist among all calls.
    pub(super) fn listing(&mut self) {
        // A slice that is not full is cheaper, and says nothing of growth.
        if self.core.unfinished() < SLICE {
            return;
        }
        let all = CallFilter::default();
        let none = CallFilter::default().method("Nobody");
        for _ in 0..self.rounds {
            for (what, filter) in [("calls(), each slice", &all), ("calls(), each slice of others", &none)] {
                let mut filter = filter.clone();
                loop {
                    let slice = self.apply(what, 1, |core, now, _| core.call_infos(now, &filter, usize::MAX));
                    if slice.last.is_none() {
                        break;
                    }
                    filter.after = slice.last;
                }
            }
            self.end_round();
        }
    }

    pub(super) fn shut_down(&mut self) {
        while self.apply("shut down, each slice", 1, |core, _, effects| core.on_shutdown(effects)) {}
    }

    /// Nodes whose registrations are as large as allowed, each of them different.
    pub(super) fn verbose_nodes(&mut self) {
        let signature = format!("fn() -> {}", "x".repeat(400));
        for node in 0..VERBOSE_NODES {
            let id = |method| (node + 1) << 32 | method;
            let methods = (0..VERBOSE_METHODS).map(|method| offer(id(method), format!("m{method}"), &signature));
            self.join_with("join, with 1,024 methods", methods.collect());
        }
        for _ in 0..self.rounds {
            self.apply("nodes(), with 1,024 methods", 1, |core, _, _| core.node_snapshots(None, None));
            self.submit_this("submit, no node", &OTHERWISE, |demand| demand, None);
            self.now += NO_NODE_TIMEOUT;
            // A reason that was found before stays valid until nodes join or leave.
            let id = self.join("join, with verbose nodes");
            self.leave("leave, with verbose nodes", id);
            self.tick("expire, with 1,024 methods to tell of");
            self.end_round();
        }
        let id = self.nodes[0];
        self.leave("leave, with 1,024 methods", id);
    }

    /// All calls that wait are for one node, which leaves.
    pub(super) fn many_wait_for_one_node(&mut self, waiting: usize) {
        for _ in 0..waiting {
            self.submit_this("submit, on one node", &SERVED, |demand| demand, Some(0));
        }
        self.measured.clear();
        let id = self.nodes[0];
        let what = "leave, with all that waits";
        self.leave(what, id);
        self.tick_until_done(what, waiting);
    }

    /// No node serves the calls that wait, and their time is up.
    pub(super) fn many_expire(&mut self, waiting: usize) {
        for _ in 0..waiting {
            self.submit_this("submit, no node", &UNSERVED, |demand| demand, None);
        }
        self.measured.clear();
        self.now += NO_NODE_TIMEOUT;
        let what = "expire, all that waits";
        self.tick_until_done(what, waiting);
    }

    /// All calls that wait avoid one node, which reports again and again that it is busy, and then that it is not.
    pub(super) fn many_avoid_one_node(&mut self, waiting: usize) {
        for _ in 0..self.nodes.len() * SLOTS as usize {
            self.submit("submit, as slots fill", Target::Any);
        }
        let busy_node = self.nodes[0];
        for _ in 0..waiting {
            // Each call avoids two other nodes as well, so that few calls share a queue.
            let others = [(); 2].map(|()| self.draw(self.nodes.len())).map(|at| self.nodes[at]);
            let failed_attempts = [busy_node, others[0], others[1]].map(|id| FailedAttempt {
                attempt: 0,
                node: NodeIdentity { id, name: "node".into(), addr: SocketAddr::from(([127, 0, 0, 1], 1)) },
                source: None,
                cause: Cause::Refused("is busy"),
            });
            self.submit_after("submit, avoiding nodes", &SERVED, |demand| demand, None, failed_attempts.to_vec());
        }
        // Its slots get free one after the other.
        while let Some(at) = self.running.iter().position(|(node, ..)| *node == busy_node) {
            let first = self.running.remove(at).into_iter();
            first.for_each(|running| self.running.push_front(running));
            self.finish("finish, on the node that all avoid");
        }
        for _ in 0..self.rounds {
            for _ in 0..self.operations {
                for stale in [SLOTS, 0] {
                    let load = Load { stale, ..Load::default() };
                    let what = "heartbeat, all avoid its node";
                    self.apply(what, 1, |core, now, effects| core.on_heartbeat(now, busy_node, load, effects));
                }
            }
            self.end_round();
        }
    }

    /// Ticks until nothing is left to do, and divides the time by the number of calls.
    fn tick_until_done(&mut self, what: &'static str, calls: usize) {
        while self.core.next_tick() <= self.now {
            self.apply(what, 0, |core, now, effects| core.on_tick(now, effects));
        }
        for round in self.measured.iter_mut().flat_map(|events| &mut events.rounds) {
            round.operations = calls as u32;
        }
    }
}
