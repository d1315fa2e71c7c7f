//! What a node claims of itself, held against its credential and what the master's owner has set.

use crate::wire::{credential::Credential, hello::Registration};

/// What a master's owner binds to credentials, and bounds.
#[derive(Clone, Debug)]
pub(super) struct Bindings {
    /// Whether a node's name must be one that its credential is for.
    pub(super) names: bool,
    /// Labels that only some nodes may claim: key, value, and the names of these nodes.
    pub(super) labels: Vec<(String, String, Vec<String>)>,
    /// Slots that a node may have.
    pub(super) max_slots: u32,
}

impl Bindings {
    /// Why a node must not register as what it says it is, for the node to read.
    pub(super) fn check(&self, registration: &Registration, credential: &Credential) -> Result<(), String> {
        if registration.slots > self.max_slots {
            return Err(format!(
                "it has {} slots, and {} is the most that the master's `max_slots_per_node` allows. Give the node fewer, or \
                 the master a higher limit",
                registration.slots, self.max_slots
            ));
        }
        credential.check_name(&registration.name, self.names)?;
        for (key, value) in &registration.labels {
            let mut lists =
                self.labels.iter().filter(|(its_key, its_value, _)| its_key == key && its_value == value).peekable();
            // The credential vouches for a name, and that name is among those that may. What the node calls itself
            // proves nothing.
            if lists.peek().is_some()
                && !lists.any(|(_, _, names)| names.iter().any(|name| credential.principal.is_for(name)))
            {
                return Err(format!(
                    "the label {key}={value} is for nodes that the master knows by a credential of their own, and {} is \
                     not one of these. Start the node without the label, or with the token or certificate of a node \
                     that may have it",
                    credential.principal
                ));
            }
        }
        Ok(())
    }
}
