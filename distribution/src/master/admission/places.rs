//! The places for pending handshakes: decides which new one gets a place, and which one is evicted for it. Pure: it is told
//! the time, and does not end handshakes itself.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{
    bounded_map::BoundedMap,
    origin::{MOST_ADDRESSES, Origin},
    pending::{Entry, Pending},
};
use crate::config::Limits;

/// One of this many places is reserved for known addresses: those from which a peer has registered recently.
const RESERVED: usize = 8;

/// How long an address is known after a peer from there was registered.
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);

/// For each place, this many connections may have proved that they may register and not have registered yet.
const PROVED: usize = 4;

/// The pending handshakes.
#[derive(Debug)]
pub(super) struct Places<T> {
    limit: usize,
    limit_per_address: usize,
    next: u64,
    /// From addresses that are not known.
    unknown: Pending<T>,
    /// From known addresses.
    known: Pending<T>,
    /// Those that have proved that they may register, and have not registered yet.
    proved: Pending<T>,
    /// When a peer of each address was last registered.
    registered: BoundedMap<IpAddr, Instant>,
}

/// Why a new connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master) enum NoRoom {
    /// Its address has as many as one address may have.
    AtAddress,
    /// All places are taken, and none can be freed for it.
    AtAll,
}

impl<T> Places<T> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.max_handshakes,
            limit_per_address: limits.max_handshakes_per_address,
            next: 0,
            unknown: Pending::default(),
            known: Pending::default(),
            proved: Pending::default(),
            registered: BoundedMap::new(MOST_ADDRESSES),
        }
    }

    /// Whether a peer has been registered from this address recently.
    pub(super) fn is_known(&self, address: IpAddr, now: Instant) -> bool {
        self.registered.get(&address).is_some_and(|at| now.duration_since(*at) < KNOWN_FOR)
    }

    /// A peer from this address is registered, or was until now.
    pub(super) fn note_registered(&mut self, address: IpAddr, now: Instant) {
        self.registered.insert(address, now);
    }

    /// Gives a new handshake a place. Returns its number, and the handshake that was evicted for it, if one was.
    ///
    /// If the address has as many as one may have, its oldest handshake is evicted if it has lasted for `grace`; not if the
    /// address `is_delayed`. If all places are taken, [`Pending::victim`] decides.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        origin: Origin,
        handle: T,
        grace: Duration,
        is_delayed: bool,
    ) -> Result<(u64, Option<Entry<T>>), NoRoom> {
        let is_overdue = |entry: &Entry<T>| now.duration_since(entry.since) >= grace;
        let is_known = self.is_known(origin.address, now);
        let victim = if self.unknown.at_address(origin) + self.known.at_address(origin) >= self.limit_per_address {
            let oldest = [&self.unknown, &self.known].into_iter().filter_map(|pending| pending.oldest_at(origin)).min();
            let oldest = oldest.filter(|_| !is_delayed).ok_or(NoRoom::AtAddress)?;
            Some(self.get(oldest).filter(|entry| is_overdue(entry)).map(|_| oldest).ok_or(NoRoom::AtAddress)?)
        } else if is_known && self.len() >= self.limit {
            // They share the places that are not reserved with the others.
            let own = self.known.in_network(origin.network);
            let victim = self.unknown.beyond(own, is_overdue);
            Some(victim.or_else(|| self.known.victim(origin, is_overdue)).ok_or(NoRoom::AtAll)?)
        } else if !is_known && (self.len() >= self.limit || self.unknown.len() >= self.limit - self.limit / RESERVED) {
            Some(self.unknown.victim(origin, is_overdue).ok_or(NoRoom::AtAll)?)
        } else {
            None
        };
        let evicted = victim.and_then(|victim| self.remove(victim));
        let number = self.next;
        self.next += 1;
        let pending = if is_known { &mut self.known } else { &mut self.unknown };
        pending.insert(number, Entry { origin, since: now, handle });
        Ok((number, evicted))
    }

    /// The peer at this place has proved that it may register, so it is not slow on purpose: the place is free for others.
    /// Returns how long that took, and which of those that have proved it is evicted for it, if one is. `None` if it was
    /// evicted already.
    pub(super) fn prove(&mut self, number: u64, now: Instant) -> Option<(Duration, Option<Entry<T>>)> {
        let entry = self.unknown.remove(number).or_else(|| self.known.remove(number))?;
        let took = now.duration_since(entry.since);
        let is_full = self.proved.len() >= self.limit.saturating_mul(PROVED);
        let victim = if is_full { self.proved.victim(entry.origin, |_| true) } else { None };
        let evicted = victim.and_then(|victim| self.proved.remove(victim));
        self.proved.insert(number, entry);
        Some((took, evicted))
    }

    /// The handshake at this place, if it has proved nothing yet.
    pub(super) fn get(&self, number: u64) -> Option<&Entry<T>> {
        self.unknown.get(number).or_else(|| self.known.get(number))
    }

    /// Frees a place.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry<T>> {
        let removed = self.unknown.remove(number).or_else(|| self.known.remove(number));
        removed.or_else(|| self.proved.remove(number))
    }

    /// How many have proved nothing yet.
    pub(super) fn len(&self) -> usize {
        self.unknown.len() + self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IteratorRandom};

    use super::*;

    fn places(max_handshakes: usize, max_handshakes_per_address: usize) -> Places<()> {
        Places::new(&Limits { max_handshakes, max_handshakes_per_address, ..Limits::default() })
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Longer than any handshake may last.
    const LONG: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(1);

    fn enter(places: &mut Places<()>, now: Instant, from: IpAddr) -> Result<(u64, bool), NoRoom> {
        places.enter(now, from.into(), (), GRACE, false).map(|(number, evicted)| (number, evicted.is_some()))
    }

    #[test]
    fn an_address_evicts_its_own_oldest_handshake_once_it_is_overdue() {
        let (mut places, now, own) = (places(100, 2), Instant::now(), addr("10.0.0.1"));
        assert_eq!(enter(&mut places, now, own), Ok((0, false)));
        assert_eq!(enter(&mut places, now, own), Ok((1, false)));
        assert_eq!(enter(&mut places, now, own), Err(NoRoom::AtAddress));
        assert_eq!(enter(&mut places, now, addr("10.0.0.2")), Ok((2, false)));
        assert_eq!(enter(&mut places, now + GRACE, own), Ok((3, true)));
        assert!(places.get(0).is_none() && places.get(1).is_some());
        // A delayed address does not, so that the handshakes that are delayed are not evicted before they begin.
        assert!(places.enter(now + LONG, own.into(), (), GRACE, true).is_err());
    }

    #[test]
    fn some_places_are_reserved_for_known_addresses() {
        let (mut places, now) = (places(16, 16), Instant::now());
        places.note_registered(addr("10.1.0.1"), now);
        let unknown = (0..200).filter(|host| enter(&mut places, now, IpAddr::from([10, 0, *host, 1])).is_ok());
        assert_eq!(unknown.count(), 14);
        assert_eq!(enter(&mut places, now, addr("10.1.0.1")), Ok((14, false)));
        assert_eq!(enter(&mut places, now, addr("10.1.0.1")), Ok((15, false)));
        // All places are taken, and no network has more than this one.
        assert_eq!(enter(&mut places, now, addr("10.1.0.1")), Err(NoRoom::AtAll));
        // An address is known only for a while.
        let later = now + KNOWN_FOR;
        assert!(places.remove(15).is_some());
        assert!(places.is_known(addr("10.1.0.1"), later - GRACE) && !places.is_known(addr("10.1.0.1"), later));
        assert_eq!(enter(&mut places, later, addr("10.1.0.1")), Ok((16, true)), "as any other address");
    }

    #[test]
    fn known_addresses_also_get_their_share_of_the_other_places() {
        let (mut places, now) = (places(16, 16), Instant::now());
        for host in 1..=4 {
            places.note_registered(IpAddr::from([10, 1, host, 1]), now);
        }
        for _ in 0..14 {
            enter(&mut places, now, addr("10.0.0.1")).expect("there is room");
        }
        for number in 0..16 {
            let _ = enter(&mut places, now, IpAddr::from([10, 1, number % 4 + 1, 1]));
        }
        // Of the five networks, none keeps places because it came first.
        assert_eq!((places.unknown.len(), places.known.len()), (4, 12));
    }

    #[test]
    fn a_peer_that_has_proved_that_it_may_register_frees_its_place() {
        let (mut places, now) = (places(4, 2), Instant::now());
        for number in 0..16 {
            assert_eq!(enter(&mut places, now, addr("10.0.0.1")), Ok((number, false)));
            assert!(places.prove(number, now).is_some_and(|(_, evicted)| evicted.is_none()));
        }
        assert_eq!((places.len(), places.proved.len()), (0, 16));
        // Their number is limited as well, separately.
        let (new, _) = enter(&mut places, now, addr("10.0.1.1")).expect("there is room");
        let (took, evicted) = places.prove(new, now + GRACE).expect("has its place");
        assert_eq!((took, evicted.map(|entry| entry.origin.address)), (GRACE, Some(addr("10.0.0.1"))));
        assert!(places.prove(0, now).is_none(), "was evicted");
        for number in 0..=new {
            places.remove(number);
        }
        assert_eq!((places.len(), places.proved.len()), (0, 0));
    }

    #[test]
    fn the_number_of_known_addresses_is_bounded() {
        let (mut places, now) = (places(4, 2), Instant::now());
        for number in 0..2 * MOST_ADDRESSES as u32 {
            places.note_registered(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(places.registered.len(), MOST_ADDRESSES);
    }

    #[test]
    fn there_are_never_more_handshakes_than_places() {
        for seed in 0..10 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (limit, per_address) = (rng.random_range(1..40), rng.random_range(1..10));
            let (mut places, mut now) = (places(limit, per_address), Instant::now());
            let mut there = HashMap::new();
            for _ in 0..1_000 {
                now += Duration::from_millis(rng.random_range(0..100));
                let from = IpAddr::from([10, 0, rng.random_range(0..4), rng.random_range(0..8)]);
                match rng.random_range(0..10) {
                    0 => places.note_registered(from, now),
                    1 => drop(there.keys().copied().choose(&mut rng).map(|number| {
                        there.remove(&number);
                        places.remove(number)
                    })),
                    2 => drop(there.keys().copied().choose(&mut rng).map(|number| places.prove(number, now))),
                    _ => {
                        if let Ok((number, evicted)) = places.enter(now, from.into(), (), GRACE, rng.random()) {
                            there.insert(number, from);
                            // The evicted peer has no place any more.
                            there.retain(|number, _| {
                                places.get(*number).is_some() || places.proved.get(*number).is_some()
                            });
                            assert!(evicted.is_none() || places.len() <= limit, "seed {seed}");
                        }
                    }
                }
                assert!(places.len() <= limit && places.proved.len() <= limit * PROVED, "seed {seed}");
                let own = places.unknown.at_address(from.into()) + places.known.at_address(from.into());
                assert!(own <= per_address, "seed {seed}");
            }
        }
    }

    /// Lets 1,000 silent connections a second come from these addresses in turn, and this many handshakes at a time from
    /// `honest`, which take 600 ms. Returns how many of these got a place and kept it, and how many there were.
    fn flood(attackers: &[IpAddr], honest: IpAddr, at_a_time: u32, grace: Duration) -> (usize, usize) {
        const TAKES: Duration = Duration::from_millis(600);
        let limits = Limits::default();
        let mut places = Places::new(&limits);
        let begin = Instant::now();
        let mut silent = std::collections::VecDeque::new();
        let (mut under_way, mut tries, mut done) = (Vec::new(), 0, 0);
        for millisecond in 0..6_000_u32 {
            let now = begin + Duration::from_millis(millisecond.into());
            while silent.front().is_some_and(|(since, _)| now.duration_since(*since) >= limits.handshake_timeout) {
                silent.pop_front().map(|(_, number)| places.remove(number));
            }
            let attacker = attackers[millisecond as usize % attackers.len()];
            if let Ok((number, _)) = places.enter(now, attacker.into(), (), grace, false) {
                silent.push_back((now, number));
            }
            under_way.retain(|(since, number)| {
                let left = places.get(*number).is_some();
                let is_done = left && now.duration_since(*since) >= TAKES;
                if is_done {
                    places.remove(*number);
                    done += 1;
                }
                left && !is_done
            });
            // Once the flood has taken all places.
            if (2_000..5_000).contains(&millisecond) && millisecond % (700 / at_a_time) == 0 {
                tries += 1;
                under_way.extend(places.enter(now, honest.into(), (), grace, false).map(|(number, _)| (now, number)));
            }
        }
        (done, tries)
    }

    #[test]
    fn a_flood_of_silent_connections_keeps_no_distant_node_out() {
        let v4 = |a: fn(u8) -> [u8; 4], count| (0..count).map(|number| IpAddr::from(a(number))).collect::<Vec<_>>();
        let v6 = |a: fn(u16) -> [u16; 8], count| (0..count).map(|number| IpAddr::from(a(number))).collect::<Vec<_>>();
        let floods = [
            ("8 addresses of one /24", 7, v4(|n| [10, 0, 0, n], 8)),
            ("8 addresses anywhere", 7, v4(|n| [10, n, 0, 1], 8)),
            ("250 addresses of one /24", 7, v4(|n| [10, 0, 1, n], 250)),
            ("eight /64s of one /48", 7, v6(|n| [0x2001, 0xdb8, 0, n, 0, 0, 0, 1], 8)),
            ("eight /64s of as many /48s", 7, v6(|n| [0x2001, 0xdb8, n + 1, 0, 0, 0, 0, 1], 8)),
            ("a thousand /64s of one /48", 7, v6(|n| [0x2001, 0xdb8, 0, n, 0, 0, 0, 1], 1000)),
            ("100 networks", 1, v4(|n| [10, n, 0, 1], 100)),
        ];
        for (name, at_a_time, attackers) in floods {
            // However fast the other handshakes are from which the grace is derived.
            for grace in [10, 200, 1000].map(Duration::from_millis) {
                for honest in ["192.168.0.1", "10.0.0.100", "2001:db8:ffff::1"] {
                    let (done, tries) = flood(&attackers, addr(honest), at_a_time, grace);
                    assert!(
                        tries > 4 && done == tries,
                        "{done} of {tries}: {honest} under a flood from {name} with a grace of {grace:?}"
                    );
                }
            }
        }
    }
}
