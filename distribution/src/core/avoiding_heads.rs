//! The heads of queues whose calls avoid some nodes. A node finds the first head that does not avoid it.
//!
//! A million calls may wait that all avoid the same node. When that node has a free slot, the first call that does not
//! avoid it has to be found without looking at each of them. So heads are counted by the leading bits of their places:
//! all heads, and those that avoid a certain node. Where both counts are equal, there is nothing for that node.

use std::collections::{BTreeMap, BTreeSet};

use super::queue_ids::{QueueId, Seq};
use crate::id::NodeId;

/// How many low bits of a place each table of counts leaves out. Below 64 bits is the order of submission within a turn: the
/// first table counts 64 places together, and the others of them 256 times as many each. Above are turns. One entry of the
/// last table is wide enough for all turns of calls that ever wait at the same time. More tables would find a head faster,
/// but each of them is kept up for each node that a call avoids.
const SHIFTS: [u32; 7] = [6, 14, 22, 64, 72, 80, 88];

/// Counts places by their leading bits.
#[derive(Debug, Default)]
struct PrefixCounts {
    total: u32,
    levels: [BTreeMap<Seq, u32>; SHIFTS.len()],
}

impl PrefixCounts {
    fn add(&mut self, seq: Seq) {
        self.total += 1;
        for (level, shift) in self.levels.iter_mut().zip(SHIFTS) {
            *level.entry(seq >> shift).or_default() += 1;
        }
    }

    fn remove(&mut self, seq: Seq) {
        self.total = self.total.saturating_sub(1);
        for (level, shift) in self.levels.iter_mut().zip(SHIFTS) {
            if let Some(count) = level.get_mut(&(seq >> shift)) {
                *count -= 1;
                if *count == 0 {
                    level.remove(&(seq >> shift));
                }
            }
        }
    }

    fn count(&self, level: usize, prefix: Seq) -> u32 {
        self.levels[level].get(&prefix).copied().unwrap_or(0)
    }
}

/// The heads of the queues of one method.
#[derive(Debug, Default)]
pub(super) struct AvoidingHeads {
    heads: BTreeSet<(Seq, QueueId)>,
    all: PrefixCounts,
    /// Counts of the heads that avoid each node.
    excluded: BTreeMap<NodeId, PrefixCounts>,
}

impl AvoidingHeads {
    pub(super) fn insert(&mut self, head: (Seq, QueueId), avoided: &[NodeId]) {
        if self.heads.insert(head) {
            self.all.add(head.0);
            for node in avoided {
                self.excluded.entry(*node).or_default().add(head.0);
            }
        }
    }

    pub(super) fn remove(&mut self, head: (Seq, QueueId), avoided: &[NodeId]) {
        if !self.heads.remove(&head) {
            return;
        }
        self.all.remove(head.0);
        for node in avoided {
            if let Some(tally) = self.excluded.get_mut(node) {
                tally.remove(head.0);
                if tally.total == 0 {
                    self.excluded.remove(node);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, QueueId)> {
        self.heads.iter().copied()
    }

    /// The first head that does not avoid this node. `is_excluded` says whether a queue avoids it.
    pub(super) fn first_for(&self, node: NodeId, is_excluded: impl Fn(QueueId) -> bool) -> Option<(Seq, QueueId)> {
        let Some(excluded) = self.excluded.get(&node) else { return self.heads.first().copied() };
        if excluded.total >= self.all.total {
            return None;
        }
        let mut range = 0..=Seq::MAX;
        for level in (0..SHIFTS.len()).rev() {
            let mut prefixes = self.all.levels[level].range(range);
            let (prefix, _) = prefixes.find(|(prefix, count)| **count > excluded.count(level, **prefix))?;
            let bits = SHIFTS[level] - if level > 0 { SHIFTS[level - 1] } else { 0 };
            range = prefix << bits..=prefix << bits | ((1 << bits) - 1);
        }
        let near = self.heads.range((*range.start(), QueueId::FIRST)..=(*range.end(), QueueId::NONE));
        near.copied().find(|(_, queue)| !is_excluded(*queue))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId::new(1, number)
    }

    #[test]
    fn the_first_head_for_a_node_is_what_a_search_of_all_heads_finds() {
        for seed in 0..20 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut avoiding = AvoidingHeads::default();
            let mut listed: BTreeMap<(Seq, QueueId), Vec<NodeId>> = BTreeMap::new();
            for number in 0..400 {
                let queue = (0..number).fold(QueueId::FIRST, |id, _| id.next());
                // Few or many turns, and in each few or many calls.
                let turn = rng.random::<u64>() >> [20, 40, 60][rng.random_range(0..3)];
                let number = rng.random::<u64>() >> [20, 40, 56][rng.random_range(0..3)];
                let seq = Seq::from(turn) << 64 | Seq::from(number);
                // Nodes 1 and 3 are avoided by most.
                let odds = |number| if [1, 3].contains(&number) { 0.9 } else { 0.1 };
                let avoided: Vec<NodeId> = (0..7).filter(|number| rng.random_bool(odds(*number))).map(node).collect();
                avoiding.insert((seq, queue), &avoided);
                listed.insert((seq, queue), avoided);
                if rng.random_bool(0.3) {
                    let at = rng.random_range(0..listed.len());
                    let head = *listed.keys().nth(at).expect("is there");
                    let avoided = listed.remove(&head).expect("is there");
                    avoiding.remove(head, &avoided);
                }
                for number in 0..8 {
                    let expected =
                        listed.iter().find(|(_, avoid)| !avoid.contains(&node(number))).map(|(head, _)| *head);
                    let by_id = |queue: QueueId| listed.iter().find(|((_, id), _)| *id == queue).expect("is there").1;
                    let found = avoiding.first_for(node(number), |queue| by_id(queue).contains(&node(number)));
                    assert_eq!(found, expected, "seed {seed}, node {number}");
                }
            }
        }
    }
}
