//! Whether a node may join: what it claims, held against the nodes that are here.

use super::{
    Core, Host,
    card::{Catalogue, NodeCard},
};

/// How much memory the methods of all nodes may take, those of nodes that serve the same ones counted once, in bytes.
const CATALOGUES_LIMIT: usize = 64 * 1024 * 1024;

/// And how much those that nodes bring by one credential: room for a thousand sets of twenty methods.
const CATALOGUES_LIMIT_PER_CREDENTIAL: usize = CATALOGUES_LIMIT / 4;

impl<H: Host> Core<H> {
    /// Why a node may not join as long as nothing changes, for the node to read; `None` if it may.
    pub(crate) fn refuses(&self, (card, catalogue): (&NodeCard, &Catalogue)) -> Option<String> {
        let most = self.settings.max_nodes;
        if self.registry.len() >= most && !self.is_here(card) {
            return Some(format!("{most} nodes are registered, which is as many as the master's `max_nodes` allows"));
        }
        let most = self.settings.max_nodes_per_credential;
        if self.registry.registered_with(&card.principal) >= most && !self.is_here(card) {
            return Some(format!(
                "{most} nodes are registered by {}, which is as many as the master's `max_nodes_per_credential` allows",
                card.principal
            ));
        }
        if !self.registry.knows(catalogue) {
            let own = self.registry.catalogues_with(&card.principal) + catalogue.size;
            let all = self.registry.catalogues() + catalogue.size;
            let full = [
                ("that nodes brought by the same credential", own, CATALOGUES_LIMIT_PER_CREDENTIAL),
                ("of all nodes", all, CATALOGUES_LIMIT),
            ];
            if let Some((whose, _, limit)) = full.into_iter().find(|(_, size, limit)| size > limit) {
                return Some(format!(
                    "the methods {whose} take the {} MiB of memory that the master has for them, and no other node serves \
                     the same methods as this one. Nodes that serve the same methods share that memory",
                    limit >> 20
                ));
            }
        }
        // A process that comes again takes its own place, and may have a new credential by now.
        let mut others = self.registry.named(&card.name).filter(|node| node.card.instance != card.instance);
        let other = others.next().filter(|node| !node.card.principal.is_same_as(&card.principal))?;
        Some(format!(
            "a node called `{}` is registered by {} from {}, and this one came by {}. Give it another name; if it has taken \
             the other's place, it is let in once the other is gone",
            card.name, other.card.principal, other.identity.addr, card.principal
        ))
    }

    fn is_here(&self, card: &NodeCard) -> bool {
        let registered = self.registry.registered_by(card.instance);
        registered.and_then(|id| self.registry.node(id)).is_some_and(|node| node.card.principal == card.principal)
    }
}
