//! Who is at a master's door: the connections that have not registered yet, and the addresses that failed to show that
//! they may.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
const MOST_ADDRESSES: usize = 4096;

/// What a master knows of strangers.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) guard: MasterGuard,
    limits: Limits,
    waiting: Mutex<VecDeque<Waiting>>,
    failures: Mutex<HashMap<IpAddr, Failures>>,
    count: AtomicU64,
    turned_away: AtomicU64,
    registration_bytes: AtomicU64,
}

/// One connection that has not registered.
#[derive(Debug)]
struct Waiting {
    number: u64,
    addr: IpAddr,
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
    pub(super) fn new(guard: MasterGuard, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            guard,
            limits,
            waiting: Mutex::default(),
            failures: Mutex::default(),
            count: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            registration_bytes: AtomicU64::new(0),
        })
    }

    /// Lets one more wait, until the guard is dropped. Where there are too many, or too many from one address, it ends
    /// the oldest of them: a real node registers at once, so whoever is oldest is none. That does not hold for an
    /// address that has to wait before it is heard, so there a newcomer is not let in.
    pub(super) fn enter(self: &Arc<Self>, addr: IpAddr) -> Option<Stranger> {
        let has_to_wait = !self.wait(addr).is_zero();
        let (number, addr) = (self.count.fetch_add(1, Ordering::Relaxed), owner(addr));
        let evicted = CancellationToken::new();
        let mut waiting = lock(&self.waiting);
        let same = waiting.iter().filter(|other| other.addr == addr).count();
        let oldest = if same >= self.limits.handshakes_per_address {
            if has_to_wait {
                return None;
            }
            waiting.iter().position(|other| other.addr == addr)
        } else {
            (waiting.len() >= self.limits.handshakes).then_some(0)
        };
        if let Some(oldest) = oldest.and_then(|at| waiting.remove(at)) {
            oldest.evicted.cancel();
        }
        waiting.push_back(Waiting { number, addr, evicted: evicted.clone() });
        Some(Stranger { door: Arc::clone(self), number, evicted })
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
    /// Set when a newcomer needs the place.
    pub(super) evicted: CancellationToken,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        lock(&self.door.waiting).retain(|other| other.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Arc<Door> {
        let limits = Limits { handshakes: 4, handshakes_per_address: 2, handshake_failures: 3, ..Limits::default() };
        Door::new(MasterGuard::Open, limits)
    }

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_oldest_of_too_many_goes() {
        let door = door();
        let enter = |last| door.enter(addr(last)).expect("is let in");
        let places: Vec<_> = [1, 1, 2, 3].map(enter).into();
        assert!(places.iter().all(|place| !place.evicted.is_cancelled()));
        let third_of_one = enter(1);
        let evicted = |places: &[Stranger]| places.iter().map(|place| place.evicted.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(evicted(&places), [true, false, false, false]);
        let fifth = enter(4);
        assert_eq!(evicted(&places), [true, true, false, false]);
        drop((third_of_one, fifth));
        let _another = enter(5);
        assert_eq!(evicted(&places), [true, true, false, false], "there is room again");
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
