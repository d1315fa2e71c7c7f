//! What of some counts has grown in the last minutes. A warning that looked at all that was ever counted would stay for ever.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use crate::{
    administration::MethodMetrics,
    id::{MethodName, NodeId},
    view::NodeInfo,
};

/// How many looks are remembered. There is one each minute, so a count is compared with that of four to five minutes ago.
const MOST_LOOKS: usize = 5;

/// Counts that only grow. What is 0 is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// How often async handlers have blocked the thread of each node.
    pub(super) blocked: HashMap<NodeId, u32>,
    /// The methods whose calls travel in batches.
    pub(super) batches: HashMap<MethodName, Batches>,
}

/// What was sent of a method.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batches {
    pub(super) batches: u64,
    /// How many calls, in batches or not.
    pub(super) calls: u64,
    pub(super) argument_bytes: u64,
}

/// The counts as they were at the last looks, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<Counts>>);

impl Counts {
    pub(super) fn of<'a>(nodes: &[NodeInfo], methods: impl IntoIterator<Item = &'a MethodMetrics>) -> Self {
        let blocked = nodes.iter().filter(|node| node.blocked_async > 0).map(|node| (node.id, node.blocked_async));
        let mut batches: HashMap<MethodName, Batches> = HashMap::new();
        for method in methods.into_iter().filter(|method| method.calls.batches > 0) {
            // Versions of a method count together.
            let all = batches.entry(MethodName::new(&method.service, &method.name)).or_default();
            all.batches += method.calls.batches;
            all.calls += method.calls.sent;
            all.argument_bytes += method.calls.argument_bytes;
        }
        Self { blocked: blocked.collect(), batches }
    }

    fn since(mut self, before: &Self) -> Self {
        for (node, count) in &mut self.blocked {
            *count = count.saturating_sub(before.blocked.get(node).copied().unwrap_or(0));
        }
        for (method, count) in &mut self.batches {
            let before = before.batches.get(method).copied().unwrap_or_default();
            count.batches = count.batches.saturating_sub(before.batches);
            count.calls = count.calls.saturating_sub(before.calls);
            count.argument_bytes = count.argument_bytes.saturating_sub(before.argument_bytes);
        }
        self.blocked.retain(|_, count| *count > 0);
        self.batches.retain(|_, count| count.batches > 0);
        self
    }
}

impl Recent {
    /// Remembers what the counts are now. To be called once a minute.
    pub(super) fn note(&self, now: Counts) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() == MOST_LOOKS {
            looks.pop_front();
        }
        looks.push_back(now);
    }

    /// What has grown since the oldest look.
    pub(super) fn grown(&self, now: Counts) -> Counts {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match looks.front() {
            Some(before) => now.since(before),
            None => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(blocked: u32, batches: u64) -> Counts {
        let sent = Batches { batches, calls: batches * 10, argument_bytes: batches << 20 };
        Counts {
            blocked: [(NodeId::new(1, 1), blocked)].into(),
            batches: [(MethodName::new("Arith", "sum"), sent)].into(),
        }
    }

    #[test]
    fn what_was_counted_long_ago_does_not_count_any_more() {
        let recent = Recent::default();
        assert_eq!(recent.grown(counts(3, 4)).blocked.values().sum::<u32>(), 3, "all of it is new");
        (0..4).for_each(|_| recent.note(counts(3, 4)));
        recent.note(counts(5, 7));
        let grown = recent.grown(counts(6, 8));
        assert_eq!(grown.blocked.values().copied().collect::<Vec<_>>(), [3]);
        let [batches] = grown.batches.values().collect::<Vec<_>>()[..] else { panic!("{grown:?}") };
        assert_eq!((batches.batches, batches.calls, batches.argument_bytes), (4, 40, 4 << 20));
        (0..5).for_each(|_| recent.note(counts(6, 8)));
        let grown = recent.grown(counts(6, 8));
        assert!(grown.blocked.is_empty() && grown.batches.is_empty(), "{grown:?}");
    }
}
