//! What an administrator does in a simulated cluster.

use super::{cluster::SimulatedCluster, model::SimulatedHost};
use crate::{
    core::{Core, Effects, Time},
    error::AdminError,
};

impl SimulatedCluster {
    /// Lets an administrator ask for something, which is done.
    pub(super) fn ask(
        &mut self,
        what: &str,
        event: impl FnOnce(&mut Core<SimulatedHost>, Time, &mut Effects<SimulatedHost>) -> Result<(), AdminError>,
    ) -> Result<(), String> {
        self.apply(what, event)?.map_err(|error| format!("{what}: {error}"))
    }

    pub(super) fn cordon(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| !node.cordoned) else { return Ok(()) };
        self.set_cordoned(at, true)
    }

    pub(super) fn uncordon(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|node| node.cordoned) else { return Ok(()) };
        self.set_cordoned(at, false)
    }

    /// Cordons the process of a node, or takes that back.
    pub(super) fn set_cordoned(&mut self, at: usize, is_cordoned: bool) -> Result<(), String> {
        let (id, instance) = (self.nodes[at].id, self.nodes[at].instance);
        for node in self.nodes.iter_mut().filter(|node| node.instance == instance) {
            node.cordoned = is_cordoned;
        }
        let what = if is_cordoned { "cordon" } else { "uncordon" };
        self.ask(&format!("{what} {id}"), |core, now, effects| core.on_cordon_requested(now, id, is_cordoned, effects))
    }

    /// Cancels a call of any caller. It ends at once.
    pub(super) fn cancel_by_admin(&mut self) -> Result<(), String> {
        let open: Vec<usize> =
            (0..self.calls.len()).filter(|at| self.calls[*at].ends == 0 && !self.calls[*at].cancelled).collect();
        let Some(at) = self.pick(&open) else { return Ok(()) };
        let id = self.calls[at].id;
        self.calls[at].ended_by_admin = true;
        self.doom_nested(at);
        self.ask(&format!("admin cancels {id}"), |core, now, effects| {
            core.on_cancel_requested(now, id, "an administrator", effects)
        })?;
        match self.calls[at].ends {
            1 => Ok(()),
            ends => Err(format!("call {id} ended {ends} times when an administrator cancelled it")),
        }
    }

    pub(super) fn kick(&mut self) -> Result<(), String> {
        let Some(at) = self.pick_node(|_| true) else { return Ok(()) };
        self.nodes[at].kicked = true;
        let id = self.nodes[at].id;
        self.ask(&format!("kick {id}"), |core, now, effects| core.on_kick_requested(now, id, effects))
    }
}
