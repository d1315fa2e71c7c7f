//! The fault plan: which event comes next, and what goes wrong. Drawn from the seed.

use std::time::Duration;

use rand::RngExt;

use super::{cluster::SimulatedCluster, time::TICK};
use crate::{error::GoneReason, wire::Load};

impl SimulatedCluster {
    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(1..4) {
            self.join()?;
        }
        for _ in 0..self.rng.random_range(100..500) {
            self.step()?;
        }
        self.settle()
    }

    /// Lets the next event happen.
    fn step(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..100) {
            0..23 => self.submit(),
            23..24 => self.flood(),
            24..25 => self.detach(),
            25..40 => self.write(),
            40..50 => self.start(),
            50..52 => self.give_back(),
            52..55 => self.request_grant(),
            55..58 => self.start_more(),
            58..66 => self.finish_one(),
            66..76 => self.deliver(),
            76..78 => self.cancel(),
            78..79 => self.cancel_by_admin(),
            79..80 => self.send_heartbeat(),
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
        match self.rng.random_range(0..24) {
            14..17 => self.break_connection(),
            17..22 => self.resume(),
            0 => self.freeze_most(),
            1 => self.violate_protocol(),
            2 => self.close(),
            5..7 => self.cordon(),
            7..9 => self.uncordon(),
            9 => self.kick(),
            3 if !self.has_shut_down && self.rng.random_bool(0.1) => {
                self.has_shut_down = true;
                self.apply("shut down", |core, _, effects| while core.on_shutdown(effects) {})
            }
            3 | 4 => self.leave(),
            _ => self.submit(),
        }
    }

    /// Ends all faults. Every call has to end too then.
    fn settle(&mut self) -> Result<(), String> {
        self.faults_ended = true;
        self.note("no more faults from here on".to_owned());
        self.thaw()?;
        while let Some(at) = self.pick_node(|node| node.cordoned) {
            self.set_cordoned(at, false)?;
        }
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            if node.running && node.disconnected && !node.gone {
                self.resume_node(at)?;
            }
            if !self.nodes[at].running {
                self.end_connection(at, GoneReason::Disconnected)?;
            }
        }
        for id in self.nodes.iter().map(|node| node.id).collect::<Vec<_>>() {
            self.apply("load", |core, now, effects| core.on_heartbeat(now, id, Load::default(), effects))?;
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
            "{} calls do not end, {} are in flight: {left}",
            self.core.unfinished(),
            self.core.stats().in_flight
        ))
    }

    /// A process dies. The master notices it at once, or never.
    fn die(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| node.running) else { return Ok(()) };
        self.nodes[at].running = false;
        self.nodes[at].reachable = false;
        let is_noticed = self.rng.random_bool(0.8);
        match self.nodes[at].has_session {
            // Nobody can tell at once whether the process has died.
            true => {
                self.nodes[at].disconnected = true;
                if is_noticed { self.notice_break(at) } else { Ok(()) }
            }
            false if is_noticed => self.end_connection(at, GoneReason::Disconnected),
            false => Ok(()),
        }
    }

    /// A connection breaks, while its node lives.
    fn close(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.gone) else { return Ok(()) };
        self.end_connection(at, GoneReason::Broken("reset".into()))
    }

    pub(super) fn end_connection(&mut self, at: usize, reason: GoneReason) -> Result<(), String> {
        if self.nodes[at].gone {
            return Ok(());
        }
        let node = &mut self.nodes[at];
        node.gone = true;
        node.attempts.clear();
        node.replies.clear();
        let id = node.id;
        self.apply(&format!("gone {id}"), |core, now, effects| core.on_node_gone(now, id, reason, effects))
    }

    fn freeze(&mut self) -> Result<(), String> {
        if let Some(at) = self.pick_node(|node| node.running && !node.frozen) {
            self.note(format!("freeze {}", self.nodes[at].id));
            self.nodes[at].frozen = true;
            self.nodes[at].reachable = false;
        }
        Ok(())
    }

    /// The master's own network fails: most nodes are not heard.
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

    fn violate_protocol(&mut self) -> Result<(), String> {
        if let Some(at) = self.pick_node(|node| !node.gone) {
            self.nodes[at].link.violated_at.set(Some(self.now));
        }
        Ok(())
    }

    /// The master is stalled for some seconds, with all its timers.
    fn stall(&mut self) -> Result<(), String> {
        self.now += Duration::from_secs(self.rng.random_range(2..30));
        self.tick()
    }
}
