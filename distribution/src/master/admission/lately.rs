//! A map of bounded size that forgets what was not put for longest.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Each operation costs the logarithm of the number of entries at most, also while somebody fills it on purpose.
#[derive(Debug)]
pub(super) struct Lately<K, V> {
    capacity: usize,
    entries: HashMap<K, (u64, V)>,
    /// From the one that was not put for longest on.
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Clone + Eq + Hash, V> Lately<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Sets the value of a key, which becomes the newest. Returns the oldest entry if that had to make room.
    pub(super) fn put(&mut self, key: K, value: V) -> Option<(K, V)> {
        let forgotten = if self.is_full() && !self.entries.contains_key(&key) { self.forget_oldest() } else { None };
        let place = self.next;
        self.next += 1;
        if let Some((old, _)) = self.entries.insert(key.clone(), (place, value)) {
            self.order.remove(&old);
        }
        self.order.insert(place, key);
        forgotten
    }

    /// The value that was not put for longest.
    pub(super) fn oldest(&self) -> Option<&V> {
        self.order.first_key_value().and_then(|(_, key)| self.get(key))
    }

    /// Whether the next new key makes the oldest be forgotten.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.capacity
    }

    fn forget_oldest(&mut self) -> Option<(K, V)> {
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
    fn the_one_that_was_not_put_for_longest_is_forgotten() {
        let mut map = Lately::new(2);
        assert_eq!(map.put("a", 1), None);
        assert_eq!(map.put("b", 2), None);
        assert_eq!((map.put("a", 3), map.oldest()), (None, Some(&2)));
        assert_eq!(map.put("c", 4), Some(("b", 2)));
        assert_eq!((map.get("a"), map.get("b"), map.get("c"), map.len()), (Some(&3), None, Some(&4), 2));
    }
}
