//! The nodes that can take one more call, least loaded first.
//!
//! Nodes of the same load are kept together without an order. So adding or removing a node costs the logarithm of the
//! number of different loads, which is small however many nodes there are.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::{hash::mix, id::NodeId};

#[derive(Debug, Default)]
pub(super) struct Ready {
    levels: BTreeMap<u64, Vec<NodeId>>,
    /// Where each node is: its load, and its place among the nodes of that load.
    places: FxHashMap<NodeId, (u64, usize)>,
    /// An empty level, kept for its memory: often a level has a single node, which leaves it with each call.
    spare: Vec<NodeId>,
}

impl Ready {
    /// Sets the load of a node; `None` removes the node.
    pub(super) fn set(&mut self, node: NodeId, load: Option<u64>) {
        if self.load(node) == load {
            return;
        }
        self.remove(node);
        if let Some(load) = load {
            let level = self.levels.entry(load).or_insert_with(|| std::mem::take(&mut self.spare));
            self.places.insert(node, (load, level.len()));
            level.push(node);
        }
    }

    /// The load of a node, if it is listed.
    pub(super) fn load(&self, node: NodeId) -> Option<u64> {
        self.places.get(&node).map(|(load, _)| *load)
    }

    fn remove(&mut self, node: NodeId) {
        let Some((load, place)) = self.places.remove(&node) else { return };
        let Some(level) = self.levels.get_mut(&load) else { return };
        level.swap_remove(place);
        match level.get(place) {
            Some(moved) => {
                self.places.insert(*moved, (load, place));
            }
            None if level.is_empty() => self.spare = self.levels.remove(&load).unwrap_or_default(),
            None => {}
        }
    }

    /// All nodes with their loads, least loaded first. Among nodes of the same load, `salt` says which one comes first,
    /// so that different salts choose different nodes.
    pub(super) fn iter(&self, salt: u64) -> impl Iterator<Item = (u64, NodeId)> {
        self.levels.iter().flat_map(move |(load, level)| {
            let start = (mix(salt) % level.len().max(1) as u64) as usize;
            let (before, after) = level.split_at(start);
            after.iter().chain(before).map(|node| (*load, *node))
        })
    }

    /// Checks that both tables agree.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn check(&self) -> Result<(), String> {
        for (node, (load, place)) in &self.places {
            if self.levels.get(load).and_then(|level| level.get(*place)) != Some(node) {
                return Err(format!("{node} is not at its place in the index"));
            }
        }
        let listed: usize = self.levels.values().map(Vec::len).sum();
        if listed == self.places.len() { Ok(()) } else { Err("the index lists a node twice".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_nodes_come_first_and_the_salt_decides_between_equals() {
        let node = |number| NodeId::new(1, number);
        let mut ready = Ready::default();
        for (number, load) in [(1, 5), (2, 7), (3, 0), (4, 5), (5, 0), (2, 0)] {
            ready.set(node(number), Some(load));
        }
        let mut firsts = std::collections::BTreeSet::new();
        for salt in 0..50 {
            let order: Vec<_> = ready.iter(salt).collect();
            assert_eq!(order.iter().map(|(load, _)| *load).collect::<Vec<_>>(), [0, 0, 0, 5, 5]);
            firsts.insert(order[0].1);
        }
        assert_eq!(firsts.into_iter().collect::<Vec<_>>(), [2, 3, 5].map(node));
        for number in [2, 1, 5, 7] {
            ready.set(node(number), None);
        }
        ready.check().expect("the books agree");
        let mut left: Vec<_> = ready.iter(0).collect();
        left.sort();
        assert_eq!(left, [(0, node(3)), (5, node(4))]);
    }
}
