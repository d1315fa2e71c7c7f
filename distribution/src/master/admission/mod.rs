//! Admission control: limits and delays peers that are not authenticated yet.
//!
//! Each rule is pure and in a file of its own: [`places`] and [`pending`] decide which handshakes may be pending and which
//! one is evicted for a new one, [`failures`] which ones are delayed, [`signatures`] how many TLS handshakes are begun in a
//! second, [`retry_after`] when peers that found no room are to try again, and [`log_limit`] what of this is logged.

mod bounded_map;
mod failures;
mod log_limit;
mod origin;
mod pending;
mod places;
mod retry_after;
mod signatures;

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
use log_limit::LogLimit;
use origin::Origin;
pub(super) use places::NoRoom;
use places::Places;
use retry_after::{RetryAfter, RetryQueue};
use signatures::Signatures;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Limits,
    wire::{authenticator::MasterAuthenticator, handshake::HandshakeError},
};

/// How many registrations a minute from one address may be refused for now before further ones count as failures. A node
/// that waits until it is let in tries six times a minute.
const REFUSED_FOR_NOW: u32 = 30;

/// How many peers may be told at a time when to try again, for each handshake that may be pending.
const REFUSALS: usize = 4;

/// What a master knows about peers that are not authenticated yet, and about their addresses.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) authenticator: MasterAuthenticator,
    limits: Limits,
    places: Mutex<Places<CancellationToken>>,
    retry_after: Mutex<RetryAfter>,
    /// Permits for telling a peer that it is refused.
    refusals: Semaphore,
    failures: Mutex<Failures>,
    refused_for_now: Mutex<Failures>,
    signatures: Signatures,
    log_limit: Mutex<LogLimit<LogKind>>,
    turned_away: AtomicU64,
    registration_bytes: AtomicU64,
}

/// Kinds of log lines that peers cause, each limited separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LogKind {
    /// A connection ended before it registered, with an error of this kind.
    NotRegistered(Discriminant<HandshakeError>),
    /// A connection was evicted for a new one.
    Evicted,
    /// A registration was refused because of its contents.
    Refused,
    /// A registration was refused for now.
    RefusedForNow,
    /// A caller that may not administer tried to.
    Denied,
}

impl LogKind {
    pub(super) fn not_registered(error: &HandshakeError) -> Self {
        Self::NotRegistered(std::mem::discriminant(error))
    }
}

impl Admission {
    pub(super) fn new(authenticator: MasterAuthenticator, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            authenticator,
            limits,
            places: Mutex::new(Places::new(&limits)),
            retry_after: Mutex::default(),
            refusals: Semaphore::new(limits.max_handshakes.saturating_mul(REFUSALS).min(Semaphore::MAX_PERMITS)),
            failures: Mutex::new(Failures::new(limits.max_handshake_failures)),
            refused_for_now: Mutex::new(Failures::new(REFUSED_FOR_NOW)),
            signatures: Signatures::new(limits.max_handshakes_per_second),
            log_limit: Mutex::new(LogLimit::new(Instant::now())),
            turned_away: AtomicU64::new(0),
            registration_bytes: AtomicU64::new(0),
        })
    }

    /// Gives a new connection a place until the guard is dropped, by the rules of [`places`].
    pub(super) fn enter(self: &Arc<Self>, addr: IpAddr) -> Result<PendingHandshake, NoRoom> {
        let is_delayed = !self.delay(addr).is_zero();
        let grace = self.grace();
        let (origin, now, evicted) = (Origin::from(addr), Instant::now(), CancellationToken::new());
        let (number, other) = lock(&self.places).enter(now, origin, evicted.clone(), grace, is_delayed)?;
        // Not under the lock, because it wakes a task.
        other.inspect(|other| other.handle.cancel());
        let admission = Arc::clone(self);
        Ok(PendingHandshake { admission, number, origin, since: now, evicted, has_begun: AtomicBool::new(false) })
    }

    /// How long a handshake may last before a new connection from a network with as many may take its place.
    fn grace(&self) -> Duration {
        lock(&self.retry_after).grace().min(self.limits.handshake_timeout / 2)
    }

    /// How long a peer from this address that found no room is to wait, each a little longer than the one before.
    pub(super) fn retry_after(&self, addr: IpAddr, no_room: NoRoom) -> Duration {
        let Limits { max_handshakes, max_handshakes_per_address, .. } = self.limits;
        let now = Instant::now();
        let mut queues = lock(&self.retry_after);
        let address = Origin::from(addr).address;
        let own = queues.next(RetryQueue::Address(address), max_handshakes_per_address.min(max_handshakes), now);
        match no_room {
            NoRoom::AtAddress => own,
            NoRoom::AtAll => own.max(queues.next(RetryQueue::All, max_handshakes, now)),
        }
    }

    /// A permit for telling a peer that it is refused; `None` if too many are being told.
    pub(super) fn refusal(&self) -> Option<SemaphorePermit<'_>> {
        self.refusals.try_acquire().ok()
    }

    /// How long handshakes from this address are delayed.
    pub(super) fn delay(&self, addr: IpAddr) -> Duration {
        lock(&self.failures).delay(Origin::from(addr).address, Instant::now())
    }

    /// A peer from this address was turned away. `counts` if an honest node would not have caused it.
    pub(super) fn turn_away(&self, addr: IpAddr, counts: bool) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        if counts {
            lock(&self.failures).add(Origin::from(addr).address, Instant::now());
        }
    }

    /// A registration from this address was refused for now. Honest nodes try again, but not often.
    pub(super) fn refuse_for_now(&self, addr: IpAddr) {
        let (address, now) = (Origin::from(addr).address, Instant::now());
        let mut refused = lock(&self.refused_for_now);
        let is_too_often = !refused.delay(address, now).is_zero();
        refused.add(address, now);
        drop(refused);
        self.turn_away(addr, is_too_often);
    }

    /// A peer from this address is registered until the guard is dropped.
    pub(super) fn on_registered(self: &Arc<Self>, addr: IpAddr) -> RegisteredPeer {
        let Origin { address, .. } = addr.into();
        lock(&self.failures).take_back(address, Instant::now());
        lock(&self.places).note_registered(address, Instant::now());
        RegisteredPeer { admission: Arc::clone(self), address }
    }

    /// `None` if a line of this kind about this address is not to be logged. Otherwise how many such lines were suppressed
    /// before it, if any were.
    pub(super) fn should_log(&self, kind: LogKind, addr: IpAddr) -> Option<Option<u64>> {
        let suppressed = lock(&self.log_limit).next(kind, Origin::from(addr).address, Instant::now())?;
        Some((suppressed > 0).then_some(suppressed))
    }

    /// A registration of this size was read and is decoded.
    pub(super) fn decoding(&self, bytes: usize) {
        self.registration_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many connections were turned away, and how many bytes of registrations were decoded.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.turned_away.load(Ordering::Relaxed), self.registration_bytes.load(Ordering::Relaxed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a connection that is not authenticated yet; dropping it frees the place.
#[must_use = "dropping it frees the place"]
pub(super) struct PendingHandshake {
    admission: Arc<Admission>,
    number: u64,
    origin: Origin,
    since: Instant,
    /// Cancelled when a new connection gets the place.
    pub(super) evicted: CancellationToken,
    has_begun: AtomicBool,
}

impl PendingHandshake {
    /// Waits until the master may do the expensive part of this handshake. From then on it counts as a failure if the peer
    /// does not finish it.
    pub(super) async fn may_begin(&self) {
        let is_known = lock(&self.admission.places).is_known(self.origin.address, Instant::now());
        self.admission.signatures.next(is_known).await;
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Whether the master has begun the expensive part.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// It was evicted during its handshake, so handshakes last longer than was assumed. Returns whether that counts as a
    /// failure: if it was overdue after the master did the expensive part. A peer that is slow on purpose must not be better
    /// off than one that closes the connection.
    pub(super) fn on_evicted(&self) -> bool {
        let is_overdue = self.since.elapsed() >= self.admission.grace();
        lock(&self.admission.retry_after).on_handshake(self.since.elapsed() * 2);
        is_overdue && self.has_begun()
    }

    /// The peer has proved that it may register, so it is not slow on purpose: its place is free for others. It counts
    /// among those that have proved it, of which there may be more.
    pub(super) fn on_proved(&self) {
        // There is no entry if it was evicted just now.
        let Some((took, other)) = lock(&self.admission.places).prove(self.number, Instant::now()) else { return };
        other.inspect(|other| other.handle.cancel());
        lock(&self.admission.retry_after).on_handshake(took);
    }

    /// The registration has been read.
    pub(super) fn on_registration_read(&self) {
        // If the peer had to prove something, that time was counted then, and it has no place any more.
        let has_place = lock(&self.admission.places).get(self.number).is_some();
        if has_place {
            lock(&self.admission.retry_after).on_handshake(self.since.elapsed());
        }
    }
}

impl Drop for PendingHandshake {
    fn drop(&mut self) {
        lock(&self.admission.places).remove(self.number);
    }
}

/// A peer that is registered. Other peers from its address are known while it is, and for a while afterwards.
#[must_use = "the peer counts as registered until this is dropped"]
pub(super) struct RegisteredPeer {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Drop for RegisteredPeer {
    fn drop(&mut self) {
        // Noted again, because it may have been registered for longer than an address stays known.
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

    /// Longer than any handshake may last.
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_evicted_is_told() {
        let admission = admission();
        let places = [(); 2].map(|()| admission.enter(addr(1)).expect("there is room"));
        assert_eq!(admission.enter(addr(1)).map(drop), Err(NoRoom::AtAddress));
        tokio::time::advance(LONG).await;
        let newcomer = admission.enter(addr(1)).expect("gets a place");
        let evicted = [&places[0], &places[1], &newcomer].map(|place| place.evicted.is_cancelled());
        assert_eq!(evicted, [true, false, false]);
        drop((places, newcomer));
        assert_eq!(lock(&admission.places).len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_after_one_that_was_evicted_may_last_longer() {
        let admission = admission();
        let places = [(); 2].map(|()| admission.enter(addr(1)).expect("there is room"));
        let grace = admission.grace();
        tokio::time::advance(grace).await;
        for _ in 0..100 {
            assert!(!places[0].on_evicted(), "the master has not done anything for it");
        }
        assert!(admission.grace() > grace.mul_f64(1.5));
        assert!(admission.enter(addr(1)).is_err());
        places[1].may_begin().await;
        assert!(!places[1].on_evicted(), "it was not overdue");
        tokio::time::advance(LONG).await;
        assert!(places[1].on_evicted());
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_of_a_delayed_address_are_not_evicted_by_new_ones_from_there() {
        let admission = admission();
        (0..10).for_each(|_| admission.turn_away(addr(1), true));
        let places = [(); 2].map(|()| admission.enter(addr(1)).expect("gets a place"));
        tokio::time::advance(LONG).await;
        assert!(admission.enter(addr(1)).is_err());
        assert!(places.iter().all(|place| !place.evicted.is_cancelled()));
        drop(admission.enter(addr(2)).expect("another address"));
        assert_eq!(admission.totals(), (10, 0));
    }

    #[test]
    fn what_honest_nodes_also_do_causes_no_delay() {
        let admission = admission();
        (0..100).for_each(|_| admission.turn_away(addr(1), false));
        assert_eq!(admission.delay(addr(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_are_refused_for_now_are_delayed_only_if_they_come_too_often() {
        let admission = admission();
        // Five nodes for ten minutes.
        for _ in 0..600 {
            admission.refuse_for_now(addr(1));
            assert_eq!(admission.delay(addr(1)), Duration::ZERO);
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        (0..REFUSED_FOR_NOW + 20).for_each(|_| admission.refuse_for_now(addr(2)));
        assert_eq!(admission.delay(addr(2)), Duration::from_secs(5));
        assert_eq!(admission.delay(addr(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn peers_that_find_no_room_at_their_address_do_not_make_others_wait() {
        let admission = admission();
        for _ in 0..1_000 {
            admission.retry_after(addr(1), NoRoom::AtAddress);
        }
        assert!(admission.retry_after(addr(1), NoRoom::AtAddress) > LONG);
        assert!(admission.retry_after(addr(2), NoRoom::AtAll) < LONG / 5);
    }
}
