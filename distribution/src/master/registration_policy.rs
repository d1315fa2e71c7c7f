//! Checks what a node claims in its registration against its credential and the master's settings.

use crate::{
    admin::ADMIN_SERVICE,
    wire::{credential::Credential, handshake::Registration},
};

/// What nodes may claim.
#[derive(Clone, Debug)]
pub(super) struct RegistrationPolicy {
    /// Whether a node's name must be one that its credential is for.
    pub(super) bind_names: bool,
    /// Labels that only some nodes may have: key, value, and the names of these nodes.
    pub(super) restricted_labels: Vec<(String, String, Vec<String>)>,
    /// The most slots that a node may have.
    pub(super) max_slots: u32,
}

impl RegistrationPolicy {
    /// Checks a registration.
    ///
    /// # Errors
    ///
    /// Why the node is refused, for the node's owner to read.
    pub(super) fn check(&self, registration: &Registration, credential: &Credential) -> Result<(), String> {
        if registration.slots > self.max_slots {
            return Err(format!(
                "it has {} slots, and the master's `max_slots_per_node` allows {}. Give the node fewer slots, or raise the \
                 master's limit",
                registration.slots, self.max_slots
            ));
        }
        // Calls of this service are never sent to a node, whatever nodes serve.
        if registration.methods.iter().any(|method| method.service == ADMIN_SERVICE) {
            return Err(format!(
                "it serves `{ADMIN_SERVICE}`, which is the service of the master itself. Give the node's service another name"
            ));
        }
        credential.check_name(&registration.name, self.bind_names)?;
        for (key, value) in &registration.labels {
            let mut lists = self
                .restricted_labels
                .iter()
                .filter(|(its_key, its_value, _)| its_key == key && its_value == value)
                .peekable();
            // By the name that the credential is for. The name that the node gives itself proves nothing.
            if lists.peek().is_some()
                && !lists.any(|(_, _, names)| names.iter().any(|name| credential.principal.is_for(name)))
            {
                return Err(format!(
                    "the master allows the label {key}={value} only to nodes with certain credentials, and this node registers with {}. \
                     Start the node without the label, or with the token or certificate of a node that may have the label",
                    credential.principal
                ));
            }
        }
        Ok(())
    }
}
