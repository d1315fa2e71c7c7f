//! A map of bounded size that drops the entry that was not written for the longest time.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Each operation costs at most the logarithm of the number of entries, also if an attacker fills the map.
#[derive(Debug)]
pub(super) struct BoundedMap<K, V> {
    capacity: usize,
    entries: HashMap<K, (u64, V)>,
    /// The keys in the order in which they were written, the oldest first.
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Sets the value of a key, which becomes the newest. If the map was full, drops the oldest entry and returns it.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        let dropped = if self.is_full() && !self.entries.contains_key(&key) { self.drop_oldest() } else { None };
        let place = self.next;
        self.next += 1;
        if let Some((old, _)) = self.entries.insert(key.clone(), (place, value)) {
            self.order.remove(&old);
        }
        self.order.insert(place, key);
        dropped
    }

    /// The value that was not written for the longest time.
    pub(super) fn oldest(&self) -> Option<&V> {
        self.order.first_key_value().and_then(|(_, key)| self.get(key))
    }

    /// Whether the next new key makes the map drop its oldest entry.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    fn drop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        let (_, value) = self.entries.remove(&key)?;
        Some((key, value))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.order.len());
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_was_not_written_for_the_longest_time_is_dropped() {
        let mut map = BoundedMap::new(2);
        assert_eq!(map.insert("a", 1), None);
        assert_eq!(map.insert("b", 2), None);
        assert_eq!((map.insert("a", 3), map.oldest()), (None, Some(&2)));
        assert_eq!(map.insert("c", 4), Some(("b", 2)));
        assert_eq!((map.get("a"), map.get("b"), map.get("c"), map.len()), (Some(&3), None, Some(&4), 2));
    }
}
