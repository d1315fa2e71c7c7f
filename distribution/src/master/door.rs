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

/// A failure counts until there was none for so long.
const REMEMBERED: Duration = Duration::from_secs(60);

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

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
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
    /// the oldest of them: a real node registers at once, so whoever is oldest is none.
    pub(super) fn enter(self: &Arc<Self>, addr: IpAddr) -> Stranger {
        let (number, addr) = (self.count.fetch_add(1, Ordering::Relaxed), owner(addr));
        let evicted = CancellationToken::new();
        let mut waiting = lock(&self.waiting);
        let same = waiting.iter().filter(|other| other.addr == addr).count();
        let oldest = if same >= self.limits.handshakes_per_address {
            waiting.iter().position(|other| other.addr == addr)
        } else {
            (waiting.len() >= self.limits.handshakes).then_some(0)
        };
        if let Some(oldest) = oldest.and_then(|at| waiting.remove(at)) {
            oldest.evicted.cancel();
        }
        waiting.push_back(Waiting { number, addr, evicted: evicted.clone() });
        Stranger { door: Arc::clone(self), number, evicted }
    }

    /// How long somebody from there has to wait before being heard.
    pub(super) fn wait(&self, addr: IpAddr) -> Duration {
        let failures = lock(&self.failures);
        let Some(failures) = failures.get(&owner(addr)) else { return Duration::ZERO };
        if failures.last.elapsed() > REMEMBERED {
            return Duration::ZERO;
        }
        match failures.count.checked_sub(self.limits.handshake_failures) {
            None => Duration::ZERO,
            Some(beyond) => FIRST_WAIT.saturating_mul(1 << beyond.min(16)).min(LONGEST_WAIT),
        }
    }

    /// Somebody from there was turned away, for what no honest node does by itself if `counts`.
    pub(super) fn turn_away(&self, addr: IpAddr, counts: bool) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        if !counts {
            return;
        }
        let (addr, now) = (owner(addr), Instant::now());
        let mut failures = lock(&self.failures);
        if failures.len() >= MOST_ADDRESSES && !failures.contains_key(&addr) {
            failures.retain(|_, failures| failures.last.elapsed() <= REMEMBERED);
            if failures.len() >= MOST_ADDRESSES {
                let oldest = failures.iter().min_by_key(|(_, failures)| failures.last).map(|(addr, _)| *addr);
                oldest.map(|oldest| failures.remove(&oldest));
            }
        }
        let entry = failures.entry(addr).or_insert(Failures { count: 0, last: now });
        if entry.last.elapsed() > REMEMBERED {
            entry.count = 0;
        }
        (entry.count, entry.last) = (entry.count.saturating_add(1), now);
    }

    /// A registration of this size was read and decoded.
    pub(super) fn decoded(&self, bytes: usize) {
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
        let places: Vec<_> = [1, 1, 2, 3].map(|last| door.enter(addr(last))).into();
        assert!(places.iter().all(|place| !place.evicted.is_cancelled()));
        let third_of_one = door.enter(addr(1));
        let evicted = |places: &[Stranger]| places.iter().map(|place| place.evicted.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(evicted(&places), [true, false, false, false]);
        let fifth = door.enter(addr(4));
        assert_eq!(evicted(&places), [true, true, false, false]);
        drop((third_of_one, fifth));
        let _another = door.enter(addr(5));
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
        tokio::time::advance(REMEMBERED * 2).await;
        assert_eq!(door.wait(addr(1)), Duration::ZERO, "long ago");
        door.turn_away(addr(1), true);
        assert_eq!(door.wait(addr(1)), Duration::ZERO, "the first after that");
        assert_eq!(door.totals(), (13, 0));
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
