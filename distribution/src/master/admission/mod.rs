//! Admission control: which peers that are not authenticated yet are heard, when, and for how long.
//!
//! The rules are pure and each in a file: [`places`] and [`pending`] say who has a place for a handshake and who gives one
//! up, [`failures`] who waits, [`signatures`] how many expensive handshakes there are, [`turns`] when those that found no
//! room may come again, and [`sampled`] what of all this is logged.

mod failures;
mod lately;
mod origin;
mod pending;
mod places;
mod sampled;
mod signatures;
mod turns;

use std::{
    mem::Discriminant,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use failures::Failures;
use origin::Origin;
pub(super) use places::NoRoom;
use places::Places;
use sampled::Sampled;
use signatures::Signatures;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use turns::{Line, Turns};

use crate::{
    config::Limits,
    wire::{authenticator::MasterAuthenticator, hello::HelloError},
};

/// Addresses of which anything is remembered, in each respect. Those that are beyond it make the oldest be forgotten.
const MOST_ADDRESSES: usize = 4096;

/// Registrations a minute from one address that may be refused for now, before the next ones count as failures. A node that
/// waits to be let in tries six times a minute.
const REFUSED_FOR_NOW: u32 = 30;

/// For each pending handshake that there may be, this many peers that were refused and are still to read when to come
/// again.
const REFUSED: usize = 4;

/// What a master knows of peers that are not authenticated yet, and of where they come from.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) authenticator: MasterAuthenticator,
    limits: Limits,
    places: Mutex<Places<CancellationToken>>,
    turns: Mutex<Turns>,
    /// Of those that may still read that they were refused.
    refused: Semaphore,
    failures: Mutex<Failures>,
    refused_for_now: Mutex<Failures>,
    signatures: Signatures,
    sampled: Mutex<Sampled<Noted>>,
    turned_away: AtomicU64,
    registration_bytes: AtomicU64,
}

/// What is logged of peers, at most now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Noted {
    /// A connection ended before it registered, by an error of this kind.
    NotRegistered(Discriminant<HelloError>),
    /// Its place was needed.
    CutShort,
    /// A registration was refused for what it says.
    Refused,
    /// A registration was refused for now.
    RefusedForNow,
}

impl Noted {
    pub(super) fn not_registered(error: &HelloError) -> Self {
        Self::NotRegistered(std::mem::discriminant(error))
    }
}

impl Admission {
    pub(super) fn new(authenticator: MasterAuthenticator, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            authenticator,
            limits,
            places: Mutex::new(Places::new(&limits)),
            turns: Mutex::default(),
            refused: Semaphore::new(limits.max_handshakes.saturating_mul(REFUSED).min(Semaphore::MAX_PERMITS)),
            failures: Mutex::new(Failures::new(limits.max_handshake_failures)),
            refused_for_now: Mutex::new(Failures::new(REFUSED_FOR_NOW)),
            signatures: Signatures::new(limits.max_handshakes_per_second),
            sampled: Mutex::new(Sampled::new(Instant::now())),
            turned_away: AtomicU64::new(0),
            registration_bytes: AtomicU64::new(0),
        })
    }

    /// Gives a newcomer a place until the guard is dropped, by the rules of [`places`].
    pub(super) fn enter(self: &Arc<Self>, addr: IpAddr) -> Result<PendingHandshake, NoRoom> {
        let has_to_wait = !self.wait(addr).is_zero();
        let grace = self.grace();
        let (origin, now, evicted) = (Origin::from(addr), Instant::now(), CancellationToken::new());
        let (number, other) = lock(&self.places).enter(now, origin, evicted.clone(), grace, has_to_wait)?;
        // Not under the lock: it wakes a task.
        other.inspect(|other| other.handle.cancel());
        let admission = Arc::clone(self);
        Ok(PendingHandshake { admission, number, origin, since: now, evicted, has_begun: AtomicBool::new(false) })
    }

    /// What a handshake is given before a newcomer that has as many may take its place.
    fn grace(&self) -> Duration {
        lock(&self.turns).grace().min(self.limits.handshake_timeout / 2)
    }

    /// When somebody from there who found no room may come again, each a little later than the one before.
    pub(super) fn turn(&self, addr: IpAddr, no_room: NoRoom) -> Duration {
        let Limits { max_handshakes, max_handshakes_per_address, .. } = self.limits;
        let now = Instant::now();
        let mut turns = lock(&self.turns);
        let address = Origin::from(addr).address;
        let own = turns.next(Line::Address(address), max_handshakes_per_address.min(max_handshakes), now);
        match no_room {
            NoRoom::AtAddress => own,
            NoRoom::AtAll => own.max(turns.next(Line::All, max_handshakes, now)),
        }
    }

    /// Leave to tell somebody that he was refused; `None` where too many are being told.
    pub(super) fn refusal(&self) -> Option<SemaphorePermit<'_>> {
        self.refused.try_acquire().ok()
    }

    /// How long somebody from there has to wait before being heard.
    pub(super) fn wait(&self, addr: IpAddr) -> Duration {
        lock(&self.failures).wait(Origin::from(addr).address, Instant::now())
    }

    /// Somebody from there was turned away, for what no honest node does by itself if `counts`.
    pub(super) fn turn_away(&self, addr: IpAddr, counts: bool) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        if counts {
            lock(&self.failures).add(Origin::from(addr).address, Instant::now());
        }
    }

    /// A registration from there was refused for now. Honest nodes wait for their turn in this way, and not often.
    pub(super) fn refuse_for_now(&self, addr: IpAddr) {
        let (address, now) = (Origin::from(addr).address, Instant::now());
        let mut refused = lock(&self.refused_for_now);
        let is_too_often = !refused.wait(address, now).is_zero();
        refused.add(address, now);
        drop(refused);
        self.turn_away(addr, is_too_often);
    }

    /// A peer from there is registered until the guard is dropped.
    pub(super) fn has_joined(self: &Arc<Self>, addr: IpAddr) -> Joined {
        let Origin { address, .. } = addr.into();
        lock(&self.failures).take_back(address, Instant::now());
        lock(&self.places).note_registered(address, Instant::now());
        Joined { admission: Arc::clone(self), address }
    }

    /// Whether to log one more line about peers from there, and with which number of such that were left out, if any were.
    pub(super) fn should_log(&self, what: Noted, addr: IpAddr) -> Option<Option<u64>> {
        let left_out = lock(&self.sampled).next(what, Origin::from(addr).address, Instant::now())?;
        Some((left_out > 0).then_some(left_out))
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a connection that is not authenticated yet.
pub(super) struct PendingHandshake {
    admission: Arc<Admission>,
    number: u64,
    origin: Origin,
    since: Instant,
    /// Set when a newcomer gets the place.
    pub(super) evicted: CancellationToken,
    has_begun: AtomicBool,
}

impl PendingHandshake {
    /// Waits until the master may do the expensive part of this handshake. From then on it counts as a failure if it comes
    /// to nothing.
    pub(super) async fn may_begin(&self) {
        let is_known = lock(&self.admission.places).is_known(self.origin.address, Instant::now());
        self.admission.signatures.next(is_known).await;
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Whether the master has done the expensive part.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// It was evicted in the middle of its handshake, which so takes longer than was thought. Says whether it had had its
    /// time and the master's signature: who is slow on purpose does no better than who closes.
    pub(super) fn was_cut_short(&self) -> bool {
        let had_its_time = self.since.elapsed() >= self.admission.grace();
        lock(&self.admission.turns).note(self.since.elapsed() * 2);
        had_its_time && self.has_begun()
    }

    /// Frees the place for others: who has proven that it may come in does not register slowly on purpose. It counts
    /// among those that have, of whom there may be more.
    pub(super) fn has_proven(&self) {
        // It may have been evicted just now.
        let Some((took, other)) = lock(&self.admission.places).prove(self.number, Instant::now()) else { return };
        other.inspect(|other| other.handle.cancel());
        lock(&self.admission.turns).note(took);
    }

    /// Its registration has been read.
    pub(super) fn has_registered(&self) {
        // Of those that had to prove something it is known already how long that took.
        let has_place = lock(&self.admission.places).get(self.number).is_some();
        if has_place {
            lock(&self.admission.turns).note(self.since.elapsed());
        }
    }
}

impl Drop for PendingHandshake {
    fn drop(&mut self) {
        lock(&self.admission.places).remove(self.number);
    }
}

/// A peer that is registered. Others from its address are known while it is, and for a while after.
pub(super) struct Joined {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Drop for Joined {
    fn drop(&mut self) {
        // It may come again, after longer than what it was noted for at first.
        lock(&self.admission.places).note_registered(self.address, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        let limits =
            Limits { max_handshakes: 4, max_handshakes_per_address: 2, max_handshake_failures: 3, ..Limits::default() };
        Admission::new(MasterAuthenticator::Open, limits)
    }

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Longer than any handshake is given.
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_gives_a_place_up_is_told() {
        let admission = admission();
        let places = [(); 2].map(|()| admission.enter(addr(1)).expect("there is room"));
        assert_eq!(admission.enter(addr(1)).map(drop), Err(NoRoom::AtAddress));
        tokio::time::advance(LONG).await;
        let newcomer = admission.enter(addr(1)).expect("is let in");
        let evicted = [&places[0], &places[1], &newcomer].map(|place| place.evicted.is_cancelled());
        assert_eq!(evicted, [true, false, false]);
        drop((places, newcomer));
        assert_eq!(lock(&admission.places).len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_was_cut_short_gets_those_after_it_more_time() {
        let admission = admission();
        let places = [(); 2].map(|()| admission.enter(addr(1)).expect("there is room"));
        let grace = admission.grace();
        tokio::time::advance(grace).await;
        for _ in 0..100 {
            assert!(!places[0].was_cut_short(), "the master has not done anything for it");
        }
        assert!(admission.grace() > grace.mul_f64(1.5));
        assert!(admission.enter(addr(1)).is_err());
        places[1].may_begin().await;
        assert!(!places[1].was_cut_short(), "it had not had its time");
        tokio::time::advance(LONG).await;
        assert!(places[1].was_cut_short());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_waits_is_not_driven_out_by_its_newcomers() {
        let admission = admission();
        (0..10).for_each(|_| admission.turn_away(addr(1), true));
        let places = [(); 2].map(|()| admission.enter(addr(1)).expect("is let in"));
        tokio::time::advance(LONG).await;
        assert!(admission.enter(addr(1)).is_err());
        assert!(places.iter().all(|place| !place.evicted.is_cancelled()));
        admission.enter(addr(2)).expect("another address");
        assert_eq!(admission.totals(), (10, 0));
    }

    #[test]
    fn what_honest_nodes_do_too_does_not_count() {
        let admission = admission();
        (0..100).for_each(|_| admission.turn_away(addr(1), false));
        assert_eq!(admission.wait(addr(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_are_refused_for_now_wait_for_nothing_and_who_does_nothing_else_waits() {
        let admission = admission();
        // Five nodes for ten minutes.
        for _ in 0..600 {
            admission.refuse_for_now(addr(1));
            assert_eq!(admission.wait(addr(1)), Duration::ZERO);
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        (0..REFUSED_FOR_NOW + 20).for_each(|_| admission.refuse_for_now(addr(2)));
        assert_eq!(admission.wait(addr(2)), Duration::from_secs(5));
        assert_eq!(admission.wait(addr(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_find_no_room_at_their_address_do_not_make_others_wait() {
        let admission = admission();
        for _ in 0..1_000 {
            admission.turn(addr(1), NoRoom::AtAddress);
        }
        assert!(admission.turn(addr(1), NoRoom::AtAddress) > LONG);
        assert!(admission.turn(addr(2), NoRoom::AtAll) < LONG / 5);
    }
}
