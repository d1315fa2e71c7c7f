//! Who is at a master's door: the connections that have not registered yet, and the addresses that failed to show that
//! they may.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IteratorRandom};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::turns::Turns;
use crate::{config::Limits, wire::guard::MasterGuard};

/// The first wait of an address that has failed too often; it doubles with each further failure.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// No longer than an honest node behind the same address is ready to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// In this time as many failures are forgotten as are allowed.
const FORGETTING: Duration = Duration::from_secs(60);

/// How many failures beyond those allowed are counted: with these the wait is the longest.
const MOST_BEYOND: f64 = 7.0;

/// Addresses whose failures are remembered. Whoever has more of them makes the oldest be forgotten.
pub(super) const MOST_ADDRESSES: usize = 4096;

/// For each connection that may be there without having proven anything, this many that have and are yet to register.
const PROVEN: usize = 4;

/// For each of them as well, this many that were refused and are still to read when to come again.
const REFUSED: usize = 4;

/// What a master knows of strangers.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) guard: MasterGuard,
    limits: Limits,
    crowd: Mutex<Crowd>,
    turns: Mutex<Turns>,
    /// Of those that may still read that they were refused.
    refused: Semaphore,
    failures: Mutex<HashMap<IpAddr, Failures>>,
    count: AtomicU64,
    turned_away: AtomicU64,
    registration_bytes: AtomicU64,
}

/// The connections that have not registered.
#[derive(Debug)]
struct Crowd {
    waiting: Vec<Waiting>,
    proven: Vec<Waiting>,
    rng: SmallRng,
}

/// One connection that has not registered.
#[derive(Debug)]
struct Waiting {
    number: u64,
    addr: IpAddr,
    since: Instant,
    evicted: CancellationToken,
}

/// What an address has failed lately: a bucket that leaks.
#[derive(Debug)]
struct Failures {
    level: f64,
    at: Instant,
}

impl Failures {
    /// What is left of it by now.
    fn level(&self, allowed: f64) -> f64 {
        let leaked = allowed.max(1.0) * self.at.elapsed().as_secs_f64() / FORGETTING.as_secs_f64();
        (self.level - leaked).max(0.0)
    }
}

impl Door {
    /// Whom it evicts follows from the seed.
    pub(super) fn new(guard: MasterGuard, limits: Limits, seed: u64) -> Arc<Self> {
        let rng = SmallRng::seed_from_u64(seed);
        Arc::new(Self {
            guard,
            limits,
            crowd: Mutex::new(Crowd { waiting: Vec::new(), proven: Vec::new(), rng }),
            turns: Mutex::default(),
            refused: Semaphore::new(limits.handshakes.saturating_mul(REFUSED).min(Semaphore::MAX_PERMITS)),
            failures: Mutex::default(),
            count: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            registration_bytes: AtomicU64::new(0),
        })
    }

    /// Lets one more wait, until the guard is dropped; `None` if there is no room.
    ///
    /// Where there are too many, or too many from one address, chance decides which of them goes, of those that have had
    /// the time that a handshake takes. So a peer that holds places by silence loses them to newcomers, and nodes that come
    /// faster than they can register do not end each other's handshakes, by which none would ever get through: the
    /// newcomer is the one that goes. For an address that has to wait before it is heard it always is.
    pub(super) fn enter(self: &Arc<Self>, addr: IpAddr) -> Option<Stranger> {
        let has_to_wait = !self.wait(addr).is_zero();
        let grace = lock(&self.turns).grace().min(self.limits.handshake_time / 2);
        let (number, addr) = (self.count.fetch_add(1, Ordering::Relaxed), owner(addr));
        let evicted = CancellationToken::new();
        let mut crowd = lock(&self.crowd);
        let Crowd { waiting, rng, .. } = &mut *crowd;
        let of_address =
            waiting.iter().filter(|other| other.addr == addr).count() >= self.limits.handshakes_per_address;
        if of_address || waiting.len() >= self.limits.handshakes {
            if of_address && has_to_wait {
                return None;
            }
            let goes = |other: &Waiting| (!of_address || other.addr == addr) && other.since.elapsed() >= grace;
            let overdue = (0..waiting.len()).filter(|at| goes(&waiting[*at]));
            waiting.swap_remove(overdue.choose(rng)?).evicted.cancel();
        }
        let since = Instant::now();
        waiting.push(Waiting { number, addr, since, evicted: evicted.clone() });
        Some(Stranger { door: Arc::clone(self), number, since, evicted })
    }

    /// When somebody from there who was refused may come again, each a little later than the one before.
    pub(super) fn turn(&self, addr: IpAddr) -> Duration {
        let Limits { handshakes, handshakes_per_address, .. } = self.limits;
        let is_full = lock(&self.crowd).waiting.len() >= handshakes;
        let mut turns = lock(&self.turns);
        let own = turns.next(owner(addr), handshakes_per_address.min(handshakes));
        // Those of one address share its places; where all are taken, all addresses share those.
        if is_full { own.max(turns.next(Ipv6Addr::UNSPECIFIED.into(), handshakes)) } else { own }
    }

    /// Leave to tell somebody that he was refused; `None` where too many are being told.
    pub(super) fn refusal(&self) -> Option<SemaphorePermit<'_>> {
        self.refused.try_acquire().ok()
    }

    /// How long somebody from there has to wait before being heard.
    pub(super) fn wait(&self, addr: IpAddr) -> Duration {
        let allowed = f64::from(self.limits.handshake_failures);
        let failures = lock(&self.failures);
        let beyond = failures.get(&owner(addr)).map_or(-1.0, |failures| failures.level(allowed).ceil() - allowed);
        if beyond < 0.0 { Duration::ZERO } else { FIRST_WAIT.mul_f64(beyond.exp2()).min(LONGEST_WAIT) }
    }

    /// Somebody from there was turned away, for what no honest node does by itself if `counts`.
    pub(super) fn turn_away(&self, addr: IpAddr, counts: bool) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        if !counts {
            return;
        }
        let (addr, allowed) = (owner(addr), f64::from(self.limits.handshake_failures));
        let mut failures = lock(&self.failures);
        if failures.len() >= MOST_ADDRESSES && !failures.contains_key(&addr) {
            failures.retain(|_, failures| failures.level(allowed) > 0.0);
            if failures.len() >= MOST_ADDRESSES {
                let oldest = failures.iter().min_by_key(|(_, failures)| failures.at).map(|(addr, _)| *addr);
                oldest.map(|oldest| failures.remove(&oldest));
            }
        }
        let entry = failures.entry(addr).or_insert_with(|| Failures { level: 0.0, at: Instant::now() });
        *entry = Failures { level: (entry.level(allowed) + 1.0).min(allowed + MOST_BEYOND), at: Instant::now() };
    }

    /// A registration of this size was read and is looked at.
    pub(super) fn decoding(&self, bytes: usize) {
        self.registration_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many were turned away, and how many bytes of registrations were decoded.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.turned_away.load(Ordering::Relaxed), self.registration_bytes.load(Ordering::Relaxed))
    }
}

/// Whom an address belongs to, as far as it tells: of IPv6, one line has all of a /64.
fn owner(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) if !addr.is_loopback() => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        addr => addr,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place at the door.
pub(super) struct Stranger {
    door: Arc<Door>,
    number: u64,
    since: Instant,
    /// Set when a newcomer needs the place.
    pub(super) evicted: CancellationToken,
}

impl Stranger {
    /// It was evicted in the middle of its handshake, which so takes longer than was thought.
    pub(super) fn was_cut_short(&self) {
        lock(&self.door.turns).note(self.since.elapsed() * 2);
    }

    /// Frees the place for others: who has proven that it may come in does not register slowly on purpose. It counts
    /// among those that have, of whom there may be more.
    pub(super) fn has_proven(&self) {
        let mut crowd = lock(&self.door.crowd);
        let Crowd { waiting, proven, rng } = &mut *crowd;
        // It may have been evicted just now.
        let Some(at) = waiting.iter().position(|other| other.number == self.number) else { return };
        let own = waiting.swap_remove(at);
        let took = own.since.elapsed();
        if proven.len() >= self.door.limits.handshakes.saturating_mul(PROVEN) {
            let at = rng.random_range(0..proven.len());
            proven.swap_remove(at).evicted.cancel();
        }
        proven.push(own);
        drop(crowd);
        lock(&self.door.turns).note(took);
    }

    /// It has registered.
    pub(super) fn has_registered(&self) {
        let crowd = lock(&self.door.crowd);
        let own = crowd.waiting.iter().find(|other| other.number == self.number).map(|own| own.since.elapsed());
        drop(crowd);
        // Of those that had to prove something it is known already.
        if let Some(took) = own {
            lock(&self.door.turns).note(took);
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut crowd = lock(&self.door.crowd);
        let Crowd { waiting, proven, .. } = &mut *crowd;
        for list in [waiting, proven] {
            if let Some(at) = list.iter().position(|other| other.number == self.number) {
                list.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Arc<Door> {
        seeded(1)
    }

    fn seeded(seed: u64) -> Arc<Door> {
        let limits = Limits { handshakes: 4, handshakes_per_address: 2, handshake_failures: 3, ..Limits::default() };
        Door::new(MasterGuard::Open, limits, seed)
    }

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Longer than any handshake is given.
    const LONG: Duration = Duration::from_secs(10);

    fn left(places: &[Stranger]) -> Vec<bool> {
        places.iter().map(|place| !place.evicted.is_cancelled()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn chance_decides_who_goes_of_those_that_had_their_time() {
        let mut went = [0; 2];
        for seed in 0..200 {
            let door = seeded(seed);
            let places = [door.enter(addr(1)).expect("there is room"), door.enter(addr(1)).expect("there is room")];
            let _elsewhere = door.enter(addr(2)).expect("there is room");
            assert!(door.enter(addr(1)).is_none(), "the others have only just come");
            assert_eq!(left(&places), [true, true]);
            tokio::time::advance(LONG).await;
            let newcomer = door.enter(addr(1)).expect("is let in");
            match left(&places)[..] {
                [false, true] => went[0] += 1,
                [true, false] => went[1] += 1,
                ref other => panic!("{other:?}"),
            }
            assert!(!newcomer.evicted.is_cancelled());
        }
        assert!(went.iter().all(|count| (60..140).contains(count)), "{went:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_there_than_may_be() {
        let door = door();
        let places: Vec<_> = (0..200).filter_map(|number| door.enter(addr(number))).collect();
        assert_eq!((places.len(), lock(&door.crowd).waiting.len()), (4, 4));
        tokio::time::advance(LONG).await;
        let newcomers: Vec<_> = (0..200).filter_map(|number| door.enter(addr(number))).collect();
        assert_eq!((newcomers.len(), lock(&door.crowd).waiting.len()), (4, 4));
        assert!(left(&places).iter().all(|left| !left) && left(&newcomers).iter().all(|left| *left));
        drop((places, newcomers));
        assert_eq!(lock(&door.crowd).waiting.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_was_cut_short_gets_those_after_it_more_time() {
        let door = door();
        let places = [door.enter(addr(1)).expect("there is room"), door.enter(addr(1)).expect("there is room")];
        let grace = lock(&door.turns).grace();
        tokio::time::advance(grace).await;
        for _ in 0..100 {
            places[0].was_cut_short();
        }
        assert!(lock(&door.turns).grace() > grace.mul_f64(1.5));
        assert!(door.enter(addr(1)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_proven_that_it_may_come_in_makes_room() {
        let door = door();
        let proven: Vec<_> = (0..16)
            .map(|_| {
                let place = door.enter(addr(1)).expect("there is room");
                place.has_proven();
                place
            })
            .collect();
        let newcomers = [door.enter(addr(1)).expect("there is room"), door.enter(addr(1)).expect("there is room")];
        let evicted = |places: &[Stranger]| places.iter().filter(|place| place.evicted.is_cancelled()).count();
        assert_eq!((evicted(&proven), evicted(&newcomers)), (0, 0));
        // They are bounded as well, and among themselves.
        newcomers[0].has_proven();
        assert_eq!((evicted(&proven), evicted(&newcomers)), (1, 0));
        drop((proven, newcomers));
        let crowd = lock(&door.crowd);
        assert_eq!((crowd.waiting.len(), crowd.proven.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_waits_longer_each_time() {
        let door = door();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(door.wait(addr(1)).as_millis());
            door.turn_away(addr(1), true);
        }
        assert_eq!(waits, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(door.wait(addr(2)), Duration::ZERO, "another address");
        assert_eq!(door.totals(), (12, 0));
        // 3 are forgotten each minute.
        tokio::time::advance(FORGETTING).await;
        assert_eq!(door.wait(addr(1)), FIRST_WAIT * 16);
        tokio::time::advance(FORGETTING * 2).await;
        assert_eq!(door.wait(addr(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_are_few_for_long_cost_nothing() {
        let door = door();
        for _ in 0..100 {
            door.turn_away(addr(1), true);
            assert_eq!(door.wait(addr(1)), Duration::ZERO);
            tokio::time::advance(FORGETTING / 3).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_not_driven_out_by_newcomers() {
        let door = door();
        (0..10).for_each(|_| door.turn_away(addr(1), true));
        let places = [door.enter(addr(1)).expect("is let in"), door.enter(addr(1)).expect("is let in")];
        assert!(door.enter(addr(1)).is_none());
        assert!(places.iter().all(|place| !place.evicted.is_cancelled()));
        door.enter(addr(2)).expect("another address");
    }

    #[test]
    fn what_honest_nodes_do_too_does_not_count() {
        let door = door();
        (0..100).for_each(|_| door.turn_away(addr(1), false));
        assert_eq!(door.wait(addr(1)), Duration::ZERO);
    }

    #[test]
    fn many_addresses_take_no_more_memory() {
        let door = door();
        for number in 0..MOST_ADDRESSES as u32 + 500 {
            door.turn_away(IpAddr::from(number.to_be_bytes()), true);
        }
        assert_eq!(lock(&door.failures).len(), MOST_ADDRESSES);
    }

    #[test]
    fn one_line_has_all_of_its_network() {
        let parse = |text: &str| owner(text.parse().expect("an address"));
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8:0:1::1"), parse("2001:db8:0:2::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
        assert_ne!(parse("::1"), parse("::2"));
    }
}
