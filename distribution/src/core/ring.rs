//! Which node the calls with the same affinity key go to.
//!
//! Each node has one point on a ring of hashes. A key is hashed several times, and goes to the node whose point follows
//! one of these hashes most closely. A node that comes or goes moves only its own keys, no table has to be built, and a
//! look costs the logarithm of the number of nodes. (Multi-probe consistent hashing: Appleton and O'Reilly, 2015, who
//! measured that 21 probes keep the busiest node within 5 % of the mean.)

use std::collections::BTreeSet;

use super::mix;
use crate::id::NodeId;

/// How often each key is hashed.
const PROBES: u64 = 21;

/// The points of nodes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: BTreeSet<(u64, NodeId)>,
}

impl Ring {
    /// Adds a node whose name has this hash. Of nodes with the same name the one that registered first gets the keys.
    pub(super) fn insert(&mut self, name: u64, node: NodeId) {
        self.points.insert((mix(name), node));
    }

    pub(super) fn remove(&mut self, name: u64, node: NodeId) {
        self.points.remove(&(mix(name), node));
    }

    /// Any of the nodes, always the same one.
    pub(super) fn first(&self) -> Option<NodeId> {
        self.points.first().map(|(_, node)| *node)
    }

    /// The first point at or behind `at`, and how far it is.
    fn next(&self, at: u64, skip: &impl Fn(NodeId) -> bool) -> Option<(u64, NodeId)> {
        let first = (at, NodeId::from_bits(0));
        let behind = self.points.range(first..).chain(self.points.range(..first));
        behind.map(|(point, node)| (point.wrapping_sub(at), *node)).find(|(_, node)| !skip(*node))
    }
}

/// The node for this key, over several rings, without those that are to be skipped.
pub(super) fn closest<'a>(
    rings: impl Iterator<Item = &'a Ring> + Clone,
    key: u64,
    skip: impl Fn(NodeId) -> bool,
) -> Option<NodeId> {
    probes(key).filter_map(|at| rings.clone().filter_map(|ring| ring.next(at, &skip)).min()).min().map(|(_, node)| node)
}

/// The node for this key, of nodes that lie on no ring, each with the hash of its name. Looks at all of them.
pub(super) fn closest_of(nodes: impl Iterator<Item = (u64, NodeId)>, key: u64) -> Option<NodeId> {
    let probes: Vec<u64> = probes(key).collect();
    let distance = |name| probes.iter().map(|at| mix(name).wrapping_sub(*at)).min();
    nodes.map(|(name, node)| (distance(name), node)).min().map(|(_, node)| node)
}

fn probes(key: u64) -> impl Iterator<Item = u64> {
    (1..=PROBES).map(move |probe| mix(key ^ mix(probe)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hash::keyed;

    fn place_of(name: &str) -> u64 {
        keyed(&[7; 32], name)
    }

    fn ring(nodes: impl Iterator<Item = u32>) -> Ring {
        let mut ring = Ring::default();
        for number in nodes {
            ring.insert(place_of(&format!("node-{number}")), NodeId::new(1, number));
        }
        ring
    }

    fn place(rings: &[Ring], key: u64) -> NodeId {
        closest(rings.iter(), mix(key), |_| false).expect("there are nodes")
    }

    #[test]
    fn off_the_ring_a_key_has_the_same_node() {
        let rings = [ring(0..100)];
        let nodes = || (0..100).map(|number| (place_of(&format!("node-{number}")), NodeId::new(1, number)));
        for key in 0..1000 {
            assert_eq!(closest_of(nodes(), mix(key)), Some(place(&rings, key)));
        }
    }

    #[test]
    fn keys_are_spread_evenly() {
        for count in [2, 3, 10, 100] {
            let rings = [ring(0..count)];
            let mut keys: BTreeMap<NodeId, u32> = BTreeMap::new();
            for key in 0..count * 1000 {
                *keys.entry(place(&rings, key.into())).or_default() += 1;
            }
            let most = keys.values().max().copied().unwrap_or_default();
            assert_eq!(keys.len(), count as usize);
            assert!(most < 1350, "of {count} nodes one has {most} keys where 1000 are its share");
        }
    }

    #[test]
    fn a_node_that_goes_moves_its_own_keys_only() {
        let (all, fewer) = ([ring(0..10)], [ring((0..10).filter(|number| *number != 4))]);
        let gone = NodeId::new(1, 4);
        for key in 0..1000 {
            let (before, after) = (place(&all, key), place(&fewer, key));
            assert!(before == after || before == gone);
            assert_eq!(closest(all.iter(), mix(key), |node| node == gone), Some(after), "skipping it is the same");
        }
    }

    #[test]
    fn several_rings_are_as_one() {
        let (one, parts) = ([ring(0..10)], [ring(0..3), ring(3..10)]);
        assert!((0..1000).all(|key| place(&one, key) == place(&parts, key)));
    }

    #[test]
    fn a_name_that_takes_a_nodes_keys_takes_few_where_the_key_of_the_hash_is_another() {
        let victim = NodeId::new(1, 3);
        let with = |key: [u8; 32], newcomer: Option<&str>| {
            let mut ring = Ring::default();
            (0..10).for_each(|number| ring.insert(keyed(&key, &format!("node-{number}")), NodeId::new(1, number)));
            newcomer.into_iter().for_each(|name| ring.insert(keyed(&key, name), NodeId::new(1, 99)));
            let owner = |key: u64| closest([&ring].into_iter(), mix(key), |_| false);
            (0..5000).filter(|key| owner(*key) == Some(victim)).count()
        };
        let distance = |name: &str| mix(place_of("node-3")).wrapping_sub(mix(place_of(name)));
        let names = (0..100_000).map(|number| format!("x{number}"));
        let chosen = names.min_by_key(|name| distance(name)).expect("there are names");
        let (before, after) = (with([7; 32], None), with([7; 32], Some(&chosen)));
        assert!(after < before / 20, "it was chosen for this key, and of {before} keys {after} are left");
        let (before, after) = (with([8; 32], None), with([8; 32], Some(&chosen)));
        assert!(after > before / 2, "of {before} keys {after} are left");
    }

    #[test]
    fn of_two_nodes_with_one_name_the_first_gets_the_keys() {
        let mut ring = ring(0..2);
        ring.insert(place_of("node-0"), NodeId::new(1, 7));
        let rings = [ring];
        assert!((0..100).all(|key| place(&rings, key) != NodeId::new(1, 7)));
    }
}
