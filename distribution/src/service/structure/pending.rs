//! What of a type was not seen yet, and where it can be reached.

use super::{
    recorder::{Node, Recorder, Variant},
    shape::Kind,
};

impl Recorder {
    pub(super) fn is_selectable(&self, variant: &Variant) -> bool {
        !variant.given_up && variant.deferred.is_none_or(|then| self.successes > then)
    }

    /// Whether this variant has something that was not seen, as of before this run.
    pub(super) fn is_variant_pending(&self, node: usize, variant: usize) -> bool {
        let payload = self.nodes[node].shape.parts[variant];
        let state = &self.nodes[node].variants[variant];
        self.is_selectable(state)
            && (state.cost.is_none()
                || payload.is_none_or(|payload| self.pending.get(payload).copied().unwrap_or(false)))
    }

    /// Whether something that was not seen can be reached through this variant without entering anything again, where
    /// only the cheapest is taken.
    pub(super) fn leads_on(&self, node: usize, variant: usize) -> bool {
        let mut met = vec![false; self.nodes.len()];
        let mut ahead: Vec<usize> = self.nodes[node].shape.parts[variant].into_iter().collect();
        while let Some(index) = ahead.pop() {
            let node = &self.nodes[index];
            let is_pending = self.pending.get(index).copied().unwrap_or(false);
            if node.open > 0 || !is_pending || std::mem::replace(&mut met[index], true) {
                continue;
            }
            if self.is_new_in(node) {
                return true;
            }
            if node.shape.kind == Kind::Enum {
                let selectable = node.variants.iter().zip(&node.shape.parts);
                ahead.extend(
                    selectable.filter(|(variant, _)| self.is_selectable(variant)).filter_map(|(_, part)| *part),
                );
            } else {
                ahead.extend(node.shape.parts.iter().flatten());
            }
        }
        false
    }

    /// Whether something in the node itself was not seen.
    fn is_new_in(&self, node: &Node) -> bool {
        match node.shape.kind {
            Kind::Option | Kind::List | Kind::Map => !node.empty && node.shape.parts.iter().any(Option::is_none),
            Kind::Enum => node.variants.iter().any(|variant| self.is_selectable(variant) && variant.cost.is_none()),
            _ => false,
        }
    }

    /// Works out anew what is pending. Parts mostly come behind what they are in, so few rounds are needed.
    pub(super) fn look_for_pending(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.clear();
        pending.resize(self.nodes.len(), false);
        self.pending = pending;
        loop {
            let mut changed = false;
            for index in (0..self.nodes.len()).rev() {
                if !self.pending[index] && self.is_pending(index) {
                    self.pending[index] = true;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn is_pending(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let parts = &node.shape.parts;
        match node.shape.kind {
            Kind::Leaf(_) => false,
            Kind::Option | Kind::List | Kind::Map => {
                !node.empty && parts.iter().any(|part| part.is_none_or(|part| self.pending[part]))
            }
            Kind::Enum => (0..node.variants.len()).any(|variant| self.is_variant_pending(index, variant)),
            Kind::Tuple | Kind::Newtype | Kind::Struct => parts.iter().flatten().any(|part| self.pending[*part]),
        }
    }
}
