//! How time passes in a simulated cluster.

use std::time::Duration;

use rand::RngExt;

use super::cluster::SimulatedCluster;

pub(super) const TICK: Duration = Duration::from_millis(250);

impl SimulatedCluster {
    pub(super) fn pass(&mut self) -> Result<(), String> {
        let time = match self.rng.random_range(0..10) {
            0..6 => Duration::from_millis(self.rng.random_range(0..50)),
            6..9 => TICK,
            _ => Duration::from_secs(1),
        };
        self.advance(time)
    }

    /// Time passes in steps, as with a master's ticker, and nodes that are reachable are heard.
    pub(super) fn advance(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now + time;
        while self.now < end {
            let due = self.core.next_tick().min(end).max(self.now);
            self.now = end.min(self.last_tick + TICK).min(due).max(self.now + Duration::from_micros(1));
            for node in &self.nodes {
                if node.reachable && node.running && !node.gone && !node.disconnected {
                    node.link.heard.set(self.now);
                }
            }
            if self.now >= self.last_tick + TICK || self.core.next_tick() <= self.now {
                self.tick()?;
            }
        }
        Ok(())
    }

    pub(super) fn tick(&mut self) -> Result<(), String> {
        self.rules.before_tick(self.now);
        self.apply("tick", |core, now, effects| core.on_tick(now, effects))?;
        self.last_tick = self.now;
        // A node that the core has disconnected is gone, with all that it had.
        for node in &mut self.nodes {
            if node.gone {
                node.attempts.clear();
                node.replies.clear();
            }
        }
        // Work that does not fit into a slice follows at once, and other events may come in between.
        while self.core.next_tick() <= self.now && self.rng.random_bool(0.7) {
            self.apply("tick again", |core, now, effects| core.on_tick(now, effects))?;
        }
        if self.core.next_tick() <= self.now { Ok(()) } else { self.core.overdue(self.now).map_or(Ok(()), Err) }
    }
}
