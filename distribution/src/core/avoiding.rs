//! The heads of queues whose calls avoid nodes, found by the node that asks.
//!
//! A million calls may wait that all avoid the same node. When it gets free, the first call that does not avoid it is found
//! without a look at each of them: heads are counted by the leading bits of their places, in all and for each node and
//! source that they avoid. Where both counts are the same, there is nothing for that node.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    avoid::Excluded,
    queues::{QueueId, Seq},
};
use crate::{id::NodeId, security::Source};

/// How many bits of a place are left out in each table of counts: 64 places count together, then 64 times as many each
/// time. The last is wide enough for all calls that ever wait together.
const SHIFTS: [u32; 5] = [6, 12, 18, 24, 32];

/// Whom a head is not for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Barred {
    Node(NodeId),
    Source(Source),
}

/// How many places there are, by their leading bits.
#[derive(Debug, Default)]
struct Tally {
    total: u32,
    levels: [BTreeMap<u64, u32>; SHIFTS.len()],
}

impl Tally {
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

    fn count(&self, level: usize, prefix: u64) -> u32 {
        self.levels[level].get(&prefix).copied().unwrap_or(0)
    }
}

/// Heads of queues of one method.
#[derive(Debug, Default)]
pub(super) struct Avoiding {
    heads: BTreeSet<(Seq, QueueId)>,
    all: Tally,
    barred: BTreeMap<Barred, Tally>,
}

impl Avoiding {
    pub(super) fn insert(&mut self, head: (Seq, QueueId), excluded: Excluded<'_>) {
        if self.heads.insert(head) {
            self.all.add(head.0);
            for barred in each(excluded) {
                self.barred.entry(barred).or_default().add(head.0);
            }
        }
    }

    pub(super) fn remove(&mut self, head: (Seq, QueueId), excluded: Excluded<'_>) {
        if !self.heads.remove(&head) {
            return;
        }
        self.all.remove(head.0);
        for barred in each(excluded) {
            if let Some(tally) = self.barred.get_mut(&barred) {
                tally.remove(head.0);
                if tally.total == 0 {
                    self.barred.remove(&barred);
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

    /// The first head that is for this node of this source, where `is_barred` says of a queue whether it is not.
    pub(super) fn first_for(
        &self,
        node: NodeId,
        source: Source,
        is_barred: impl Fn(QueueId) -> bool,
    ) -> Option<(Seq, QueueId)> {
        // No head is counted in both.
        let tallies = [Barred::Node(node), Barred::Source(source)].map(|barred| self.barred.get(&barred));
        let sum = |count: &dyn Fn(&Tally) -> u32| tallies.iter().flatten().map(|tally| count(tally)).sum::<u32>();
        if sum(&|tally| tally.total) >= self.all.total {
            return None;
        }
        let mut range = 0..=u64::MAX;
        for level in (0..SHIFTS.len()).rev() {
            let mut prefixes = self.all.levels[level].range(range);
            let (prefix, _) = prefixes.find(|(prefix, count)| **count > sum(&|tally| tally.count(level, **prefix)))?;
            let bits = SHIFTS[level] - if level > 0 { SHIFTS[level - 1] } else { 0 };
            range = prefix << bits..=prefix << bits | ((1 << bits) - 1);
        }
        let near = self.heads.range((*range.start(), QueueId::FIRST)..=(*range.end(), QueueId::NONE));
        near.copied().find(|(_, queue)| !is_barred(*queue))
    }
}

fn each(excluded: Excluded<'_>) -> impl Iterator<Item = Barred> {
    let nodes = excluded.nodes.iter().map(|node| Barred::Node(*node));
    nodes.chain(excluded.sources.iter().map(|source| Barred::Source(*source)))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::{
        super::avoid::{Avoid, Avoided, Extent},
        *,
    };
    use crate::security::Principal;

    fn source(number: u32) -> Source {
        Source::of(&Principal::open(), std::net::Ipv4Addr::from(number).into())
    }

    fn node(number: u32) -> NodeId {
        NodeId::new(1, number)
    }

    #[test]
    fn what_is_found_is_what_a_look_at_all_of_them_finds() {
        for seed in 0..20 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut avoiding = Avoiding::default();
            let mut listed: BTreeMap<(Seq, QueueId), Avoid> = BTreeMap::new();
            for number in 0..400 {
                let queue = (0..number).fold(QueueId::FIRST, |id, _| id.next());
                let seq = rng.random::<u64>() >> [20, 40, 56][rng.random_range(0..3)];
                // Node 3 and source 1, which is node 1's, are avoided by most.
                let mut nodes: Vec<u32> = (0..8).filter(|_| rng.random_bool(0.1)).collect();
                nodes.extend(rng.random_bool(0.9).then_some(3));
                let sources = if rng.random_bool(0.8) { vec![source(1)] } else { vec![source(2)] };
                let nodes = nodes.into_iter().map(|number| (node(number), source(number))).collect();
                let avoid = Avoided::new(nodes, sources);
                avoiding.insert((seq, queue), avoid.as_ref().map_or(Excluded::NOTHING, |avoid| avoid.to(Extent::All)));
                listed.insert((seq, queue), avoid);
                if rng.random_bool(0.3) {
                    let at = rng.random_range(0..listed.len());
                    let head = *listed.keys().nth(at).expect("is there");
                    let avoid = listed.remove(&head).flatten();
                    avoiding.remove(head, avoid.as_ref().map_or(Excluded::NOTHING, |avoid| avoid.to(Extent::All)));
                }
                let is_barred = |avoid: &Avoid, number| {
                    avoid.as_ref().is_some_and(|avoid| avoid.to(Extent::All).contains(node(number), source(number)))
                };
                for number in 0..8 {
                    let expected = listed.iter().find(|(_, avoid)| !is_barred(avoid, number)).map(|(head, _)| *head);
                    let by_id = |queue: QueueId| listed.iter().find(|((_, id), _)| *id == queue).expect("is there").1;
                    let found =
                        avoiding.first_for(node(number), source(number), |queue| is_barred(by_id(queue), number));
                    assert_eq!(found, expected, "seed {seed}, node {number}");
                }
            }
        }
    }
}
