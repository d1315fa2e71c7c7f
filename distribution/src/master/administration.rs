//! What administrators ask of a master, brought to its core.

use super::shared::Shared;
use crate::{error::AdminError, id::NodeId};

impl Shared {
    pub(super) fn set_cordoned(&self, node: NodeId, is_cordoned: bool) -> Result<(), AdminError> {
        let event_name = if is_cordoned { "a node is cordoned" } else { "a node is uncordoned" };
        self.with_core(event_name, |core, now, effects| core.on_cordon_requested(now, node, is_cordoned, effects))
            .unwrap_or(Err(AdminError::Failed))
    }

    pub(super) fn drain(&self, node: NodeId) -> Result<(), AdminError> {
        self.with_core("a node is drained", |core, now, effects| core.on_drain_requested(now, node, effects))
            .unwrap_or(Err(AdminError::Failed))
    }

    pub(super) fn kick(&self, node: NodeId) -> Result<(), AdminError> {
        self.with_core("a node is kicked", |core, now, effects| core.on_kick_requested(now, node, effects))
            .unwrap_or(Err(AdminError::Failed))
    }
}
