//! The places for pending max_handshakes: who gets one, and who gives one up for it. Pure: time comes in, and it ends nobody
//! itself.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{
    MOST_ADDRESSES,
    lately::Lately,
    origin::Origin,
    pending::{Entry, Pending},
};
use crate::config::Limits;

/// One of this many places is kept for addresses from which a peer has registered lately.
const RESERVED: usize = 8;

/// How long ago that may be.
const LATELY: Duration = Duration::from_secs(60 * 60);

/// For each connection that may be there without having proven anything, this many that have and are yet to register.
const PROVEN: usize = 4;

/// Who has places.
#[derive(Debug)]
pub(super) struct Places<T> {
    limit: usize,
    limit_per_address: usize,
    next: u64,
    /// From addresses that nobody has registered from lately.
    unknown: Pending<T>,
    /// From the others.
    known: Pending<T>,
    /// Those that have proven that they may come in, and are yet to register.
    proven: Pending<T>,
    /// When a peer of each address was registered last.
    registered: Lately<IpAddr, Instant>,
}

/// Why a newcomer gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master) enum NoRoom {
    /// Its address has as many as one may have.
    AtAddress,
    /// There is none for it at all.
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
            proven: Pending::default(),
            registered: Lately::new(MOST_ADDRESSES),
        }
    }

    /// Whether a peer has registered from there lately.
    pub(super) fn is_known(&self, address: IpAddr, now: Instant) -> bool {
        self.registered.get(&address).is_some_and(|at| now.duration_since(*at) < LATELY)
    }

    /// A peer from there is registered.
    pub(super) fn note_registered(&mut self, address: IpAddr, now: Instant) {
        self.registered.put(address, now);
    }

    /// Gives a newcomer a place, with its number, and takes it from another if need be, which is returned.
    ///
    /// An address that has all it may have exchanges its oldest handshake for a new one once that has had the time that a
    /// handshake takes, `grace`; one that `has_to_wait` does not. Where all places are taken, [`Pending::victim`] decides.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        origin: Origin,
        handle: T,
        grace: Duration,
        has_to_wait: bool,
    ) -> Result<(u64, Option<Entry<T>>), NoRoom> {
        let is_overdue = |entry: &Entry<T>| now.duration_since(entry.since) >= grace;
        let is_known = self.is_known(origin.address, now);
        let victim = if self.unknown.at_address(origin) + self.known.at_address(origin) >= self.limit_per_address {
            let oldest = [&self.unknown, &self.known].into_iter().filter_map(|pending| pending.oldest_at(origin)).min();
            let oldest = oldest.filter(|_| !has_to_wait).ok_or(NoRoom::AtAddress)?;
            Some(self.get(oldest).filter(|entry| is_overdue(entry)).map(|_| oldest).ok_or(NoRoom::AtAddress)?)
        } else if is_known && self.len() >= self.limit {
            // What is not reserved they share with the others.
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

    /// The peer at this place has proven that it may come in, so it does not register slowly on purpose: others get the
    /// place. Returns how long that took, and who gives up a place among the proven for it, if need be. `None` if the place
    /// was another's already.
    pub(super) fn prove(&mut self, number: u64, now: Instant) -> Option<(Duration, Option<Entry<T>>)> {
        let entry = self.unknown.remove(number).or_else(|| self.known.remove(number))?;
        let took = now.duration_since(entry.since);
        let is_full = self.proven.len() >= self.limit.saturating_mul(PROVEN);
        let victim = if is_full { self.proven.victim(entry.origin, |_| true) } else { None };
        let evicted = victim.and_then(|victim| self.proven.remove(victim));
        self.proven.insert(number, entry);
        Some((took, evicted))
    }

    /// The one at this place, if it has proven nothing yet.
    pub(super) fn get(&self, number: u64) -> Option<&Entry<T>> {
        self.unknown.get(number).or_else(|| self.known.get(number))
    }

    /// Frees a place.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry<T>> {
        let removed = self.unknown.remove(number).or_else(|| self.known.remove(number));
        removed.or_else(|| self.proven.remove(number))
    }

    /// How many have proven nothing yet.
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

    /// Longer than any handshake is given.
    const LONG: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(1);

    fn enter(places: &mut Places<()>, now: Instant, from: IpAddr) -> Result<(u64, bool), NoRoom> {
        places.enter(now, from.into(), (), GRACE, false).map(|(number, evicted)| (number, evicted.is_some()))
    }

    #[test]
    fn an_address_exchanges_its_oldest_once_that_had_its_time() {
        let (mut places, now, own) = (places(100, 2), Instant::now(), addr("10.0.0.1"));
        assert_eq!(enter(&mut places, now, own), Ok((0, false)));
        assert_eq!(enter(&mut places, now, own), Ok((1, false)));
        assert_eq!(enter(&mut places, now, own), Err(NoRoom::AtAddress));
        assert_eq!(enter(&mut places, now, addr("10.0.0.2")), Ok((2, false)));
        assert_eq!(enter(&mut places, now + GRACE, own), Ok((3, true)));
        assert!(places.get(0).is_none() && places.get(1).is_some());
        // One that has to wait does not, so that what waits with it is left to be heard.
        assert!(places.enter(now + LONG, own.into(), (), GRACE, true).is_err());
    }

    #[test]
    fn some_places_are_for_those_that_registered_lately() {
        let (mut places, now) = (places(16, 16), Instant::now());
        places.note_registered(addr("10.1.0.1"), now);
        let strangers = (0..200).filter(|host| enter(&mut places, now, IpAddr::from([10, 0, *host, 1])).is_ok());
        assert_eq!(strangers.count(), 14);
        assert_eq!(enter(&mut places, now, addr("10.1.0.1")), Ok((14, false)));
        assert_eq!(enter(&mut places, now, addr("10.1.0.1")), Ok((15, false)));
        // They are all taken, and nobody has more than it has.
        assert_eq!(enter(&mut places, now, addr("10.1.0.1")), Err(NoRoom::AtAll));
        // And only for a while.
        let later = now + LATELY;
        assert!(places.remove(15).is_some());
        assert!(places.is_known(addr("10.1.0.1"), later - GRACE) && !places.is_known(addr("10.1.0.1"), later));
        assert_eq!(enter(&mut places, later, addr("10.1.0.1")), Ok((16, true)), "as any other");
    }

    #[test]
    fn those_that_registered_lately_get_their_share_of_the_others_places_too() {
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
        // Five networks, and none has its places by having been there first.
        assert_eq!((places.unknown.len(), places.known.len()), (4, 12));
    }

    #[test]
    fn who_has_proven_that_it_may_come_in_makes_room() {
        let (mut places, now) = (places(4, 2), Instant::now());
        for number in 0..16 {
            assert_eq!(enter(&mut places, now, addr("10.0.0.1")), Ok((number, false)));
            assert!(places.prove(number, now).is_some_and(|(_, evicted)| evicted.is_none()));
        }
        assert_eq!((places.len(), places.proven.len()), (0, 16));
        // They are bounded as well, and among themselves.
        let (newcomer, _) = enter(&mut places, now, addr("10.0.1.1")).expect("there is room");
        let (took, evicted) = places.prove(newcomer, now + GRACE).expect("has its place");
        assert_eq!((took, evicted.map(|entry| entry.origin.address)), (GRACE, Some(addr("10.0.0.1"))));
        assert!(places.prove(0, now).is_none(), "gave up its place");
        for number in 0..=newcomer {
            places.remove(number);
        }
        assert_eq!((places.len(), places.proven.len()), (0, 0));
    }

    #[test]
    fn addresses_that_registered_are_bounded() {
        let (mut places, now) = (places(4, 2), Instant::now());
        for number in 0..2 * MOST_ADDRESSES as u32 {
            places.note_registered(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(places.registered.len(), MOST_ADDRESSES);
    }

    #[test]
    fn no_more_are_there_than_may_be_whatever_comes() {
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
                                places.get(*number).is_some() || places.proven.get(*number).is_some()
                            });
                            assert!(evicted.is_none() || places.len() <= limit, "seed {seed}");
                        }
                    }
                }
                assert!(places.len() <= limit && places.proven.len() <= limit * PROVEN, "seed {seed}");
                let own = places.unknown.at_address(from.into()) + places.known.at_address(from.into());
                assert!(own <= per_address, "seed {seed}");
            }
        }
    }

    /// Has 1,000 silent connections a second come from these addresses in turn, each again and again, and this many
    /// handshakes at a time from `honest`, which take 600 ms. Says how many of these were let in and left alone, of how
    /// many.
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
            // When the flood has taken all places.
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
            // However quick others are, by whom it is judged how long a handshake takes.
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
