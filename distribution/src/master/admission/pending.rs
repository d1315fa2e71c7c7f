//! Counts pending handshakes by address and by network, and decides which one is evicted for a new one.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use tokio::time::Instant;

use super::origin::Origin;

/// One pending handshake.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) origin: Origin,
    pub(super) since: Instant,
    /// With this its owner can end it.
    pub(super) handle: T,
}

/// Pending handshakes by their numbers; later ones have larger numbers.
///
/// It has no limit of its own and no clock. Each operation costs at most the logarithm of the number of entries.
#[derive(Debug)]
pub(super) struct Pending<T> {
    entries: HashMap<u64, Entry<T>>,
    networks: Groups,
    /// By network.
    addresses: HashMap<IpAddr, Groups>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), networks: Groups::default(), addresses: HashMap::new() }
    }
}

impl<T> Pending<T> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry<T>> {
        self.entries.get(&number)
    }

    pub(super) fn insert(&mut self, number: u64, entry: Entry<T>) {
        let Origin { network, address } = entry.origin;
        self.networks.insert(network, number);
        self.addresses.entry(network).or_default().insert(address, number);
        self.entries.insert(number, entry);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Entry<T>> {
        let entry = self.entries.remove(&number)?;
        let Origin { network, address } = entry.origin;
        self.networks.remove(network, number);
        if let Some(addresses) = self.addresses.get_mut(&network) {
            addresses.remove(address, number);
            if addresses.is_empty() {
                self.addresses.remove(&network);
            }
        }
        Some(entry)
    }

    /// How many handshakes of a network are pending.
    pub(super) fn in_network(&self, network: IpAddr) -> usize {
        self.networks.count(network)
    }

    /// How many handshakes of an address are pending.
    pub(super) fn at_address(&self, origin: Origin) -> usize {
        self.addresses.get(&origin.network).map_or(0, |addresses| addresses.count(origin.address))
    }

    /// The oldest one of an address.
    pub(super) fn oldest_at(&self, origin: Origin) -> Option<u64> {
        self.addresses.get(&origin.network)?.oldest(origin.address)
    }

    /// The handshake that is evicted for a new one from this origin, if one is.
    ///
    /// The network with the most handshakes gives a place to one with fewer, and within a network the address with the
    /// most, until both have the same number: the oldest one is evicted, however new it is. So a flood, from wherever it
    /// comes, keeps only the places that others do not need, and its new handshakes evict its own. Between networks or
    /// addresses that have the same number, a handshake is evicted only if it `is_overdue`: nodes that all come at once must
    /// not evict each other, or none would ever register.
    pub(super) fn victim(&self, new: Origin, is_overdue: impl Fn(&Entry<T>) -> bool) -> Option<u64> {
        let own = self.networks.count(new.network);
        self.beyond(own, &is_overdue).or_else(|| {
            let addresses = self.addresses.get(&new.network)?;
            let (most, largest) = addresses.largest()?;
            let is_owed = most > addresses.count(new.address) + 1;
            self.oldest_if(addresses.oldest(largest)?, is_owed, is_overdue)
        })
    }

    /// The same for a new handshake whose network has this many, none of which are counted here.
    pub(super) fn beyond(&self, count: usize, is_overdue: impl Fn(&Entry<T>) -> bool) -> Option<u64> {
        let (most, network) = self.networks.largest().filter(|(most, _)| *most > count)?;
        let addresses = self.addresses.get(&network)?;
        self.oldest_if(addresses.oldest(addresses.largest()?.1)?, most > count + 1, is_overdue)
    }

    fn oldest_if(&self, oldest: u64, is_owed: bool, is_overdue: impl Fn(&Entry<T>) -> bool) -> Option<u64> {
        (is_owed || self.entries.get(&oldest).is_some_and(is_overdue)).then_some(oldest)
    }

    #[cfg(test)]
    fn check(&self) {
        self.networks.check();
        self.addresses.values().for_each(Groups::check);
        let (mut networks, mut addresses) = (HashMap::new(), HashMap::new());
        for entry in self.entries.values() {
            *networks.entry(entry.origin.network).or_insert(0) += 1;
            *addresses.entry(entry.origin).or_insert(0) += 1;
        }
        assert!(networks.iter().all(|(network, count)| self.in_network(*network) == *count));
        assert!(addresses.iter().all(|(origin, count)| self.at_address(*origin) == *count));
        assert_eq!((self.networks.groups.len(), self.addresses.len()), (networks.len(), networks.len()));
        assert_eq!(self.addresses.values().map(|groups| groups.groups.len()).sum::<usize>(), addresses.len());
    }
}

/// Handshakes in groups, and the groups in the order of their sizes.
#[derive(Debug, Default)]
struct Groups {
    groups: HashMap<IpAddr, BTreeSet<u64>>,
    /// Size, oldest number and key of each group. The last one is the largest; of equal ones, that with the oldest number.
    order: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

impl Groups {
    fn insert(&mut self, key: IpAddr, number: u64) {
        self.change(key, |numbers| numbers.insert(number));
    }

    fn remove(&mut self, key: IpAddr, number: u64) {
        self.change(key, |numbers| numbers.remove(&number));
    }

    fn change(&mut self, key: IpAddr, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let rank = |numbers: &BTreeSet<u64>| numbers.first().map(|oldest| (numbers.len(), Reverse(*oldest), key));
        let numbers = self.groups.entry(key).or_default();
        rank(numbers).map(|rank| self.order.remove(&rank));
        change(numbers);
        match rank(numbers) {
            Some(rank) => drop(self.order.insert(rank)),
            None => drop(self.groups.remove(&key)),
        }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn count(&self, key: IpAddr) -> usize {
        self.groups.get(&key).map_or(0, BTreeSet::len)
    }

    fn oldest(&self, key: IpAddr) -> Option<u64> {
        self.groups.get(&key)?.first().copied()
    }

    fn largest(&self) -> Option<(usize, IpAddr)> {
        self.order.last().map(|(count, _, key)| (*count, *key))
    }

    #[cfg(test)]
    fn check(&self) {
        assert_eq!(self.groups.len(), self.order.len());
        for (count, Reverse(oldest), key) in &self.order {
            assert_eq!((self.count(*key), self.oldest(*key)), (*count, Some(*oldest)));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse::<IpAddr>().expect("an address").into()
    }

    /// Handshakes from these addresses, numbered from 0.
    fn pending(addresses: &[&str]) -> Pending<()> {
        let mut pending = Pending::default();
        for (number, address) in (0..).zip(addresses) {
            pending.insert(number, Entry { origin: origin(address), since: Instant::now(), handle: () });
        }
        pending
    }

    #[test]
    fn the_address_with_the_most_in_the_network_with_the_most_is_evicted_first() {
        let pending = pending(&["10.0.0.1", "10.0.1.1", "10.0.1.2", "10.0.1.2", "10.0.2.1", "10.0.2.1"]);
        assert_eq!(pending.victim(origin("10.0.9.1"), |_| false), Some(2));
        assert_eq!(pending.victim(origin("10.0.0.2"), |_| false), Some(2));
        // Its network would then have more than the other, so it takes the place from its own.
        assert_eq!(pending.victim(origin("10.0.2.9"), |_| false), Some(4));
        assert_eq!(pending.victim(origin("10.0.2.1"), |_| false), None);
        assert_eq!(pending.victim(origin("10.0.2.9"), |_| true), Some(2));
        // Within the largest.
        assert_eq!(pending.victim(origin("10.0.1.9"), |_| false), Some(2));
        assert_eq!(pending.victim(origin("10.0.1.1"), |_| false), None);
        let beyond = |count| pending.beyond(count, |_| false);
        assert_eq!((beyond(1), beyond(2), beyond(3)), (Some(2), None, None));
    }

    #[test]
    fn among_equals_the_oldest_is_evicted_once_it_is_overdue() {
        let pending = pending(&["10.0.0.1", "10.0.1.1", "10.0.2.1"]);
        assert_eq!(pending.victim(origin("10.0.9.1"), |_| false), None);
        assert_eq!(pending.victim(origin("10.0.9.1"), |_| true), Some(0));
        assert_eq!(
            pending.victim(origin("10.0.1.9"), |_| true),
            Some(1),
            "a network that has its share takes from itself"
        );
    }

    #[test]
    fn of_ipv6_a_48_counts_as_one_network() {
        let pending =
            pending(&["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1", "2001:db8:1::1", "2001:db8:1::2"]);
        assert_eq!(pending.victim(origin("2001:db8:2::1"), |_| false), Some(0));
        assert_eq!(pending.at_address(origin("2001:db8:1::3")), 2);
    }

    #[test]
    fn the_counts_are_right_and_only_an_address_with_the_most_is_evicted() {
        for seed in 0..5 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut pending = Pending::default();
            for number in 0..500 {
                let [network, host] = [rng.random_range(0..6), rng.random_range(0..6)];
                let origin = Origin::from(IpAddr::from([10, 0, network, host]));
                if pending.len() >= 40 && rng.random() {
                    if let Some(victim) = pending.victim(origin, |_| false) {
                        let its = pending.get(victim).expect("is there").origin;
                        let most = |counts: &mut dyn Iterator<Item = usize>| counts.max();
                        let networks =
                            most(&mut pending.entries.values().map(|e| pending.in_network(e.origin.network)));
                        let same = pending.entries.values().filter(|e| e.origin.network == its.network);
                        let addresses = most(&mut same.map(|e| pending.at_address(e.origin)));
                        let is_own = its.network == origin.network;
                        assert!(is_own || Some(pending.in_network(its.network)) == networks, "seed {seed}");
                        assert_eq!(Some(pending.at_address(its)), addresses, "seed {seed}");
                        let oldest = pending.entries.iter().filter(|(_, e)| e.origin == its).map(|(number, _)| *number);
                        assert_eq!(Some(victim), oldest.min(), "seed {seed}");
                        assert_ne!(its, origin, "seed {seed}: an address does not end its own");
                        pending.remove(victim);
                    }
                } else if pending.len() >= 40 {
                    pending.remove(rng.random_range(0..number));
                }
                pending.insert(number, Entry { origin, since: Instant::now(), handle: () });
                pending.check();
            }
        }
    }
}
