//! What a connection's owner shares with its transport: control frames to be sent, and how the peer behaves.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{sync::Notify, time::Instant};

use super::{budget::Budget, frame::Control};
#[cfg(feature = "simulation")]
use crate::config::LONGEST_TIME;
use crate::config::{PeerTimeouts, to_micros};

/// A frame that has begun must bring this many bytes a second, or its rest, within each
/// [`read_timeout`](PeerTimeouts::read_timeout). A sixth of a slow line of 100 KiB/s, so that several may share one and it may
/// fail for a while.
const SLOWEST_RATE: u64 = 16 * 1024;

/// While others wait for the memory that a frame was lent, it has this part of the time.
const HASTE: u32 = 3;

/// And this many times [`read_timeout`](PeerTimeouts::read_timeout) in all.
const LONGEST_LOAN: u32 = 4;

/// What a connection's owner shares with its transport.
#[derive(Debug)]
pub(crate) struct Side {
    opened: Instant,
    peer_timeouts: PeerTimeouts,
    /// What large frames that come in are lent their memory from; `None` where nobody else would need it.
    budget: Option<Arc<Budget>>,
    /// When the last byte came.
    heard: Moment,
    /// Since when the frame that is coming in has brought less than it must; never if none is, or if it waits for us.
    slow_since: Moment,
    /// Since when it has memory from the budget.
    lent_since: Moment,
    /// Since when it waits for memory from the budget, so that nothing is read.
    waits_since: Moment,
    /// How long frames have waited for memory, in microseconds.
    waited: AtomicU64,
    /// Since when the peer has read nothing of what waits for it; never if nothing does.
    unread_since: Moment,
    outbox: Mutex<Vec<Control>>,
    /// Told when the peer has closed its side; tarpc's server keeps that to itself while it has requests.
    ended: Notify,
    writer: AtomicWaker,
}

/// A time, in microseconds from when the connection was opened; 0 is never.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn set(&self, since_opened: Duration) {
        self.0.store(to_micros(since_opened).max(1), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn after(&self, opened: Instant) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(opened + Duration::from_micros(micros)),
        }
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

impl Side {
    pub(crate) fn new(peer_timeouts: PeerTimeouts, budget: Option<Arc<Budget>>) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            peer_timeouts,
            budget,
            heard: Moment::default(),
            slow_since: Moment::default(),
            lent_since: Moment::default(),
            waits_since: Moment::default(),
            waited: AtomicU64::new(0),
            unread_since: Moment::default(),
            outbox: Mutex::default(),
            ended: Notify::new(),
            writer: AtomicWaker::new(),
        })
    }

    /// Sends a control frame with the next write.
    pub(crate) fn send(&self, control: Control) {
        let mut outbox = self.outbox();
        // One heartbeat says what many would, so that a peer which does not read for a while costs nothing, and is
        // not sent all of them at once afterwards. All others are bounded by what is in flight.
        let beat = |control: &Control| matches!(control, Control::Heartbeat(_) | Control::HeartbeatSeen);
        match outbox.iter_mut().find(|waiting| beat(waiting) && beat(&control)) {
            Some(waiting) => *waiting = control,
            None => outbox.push(control),
        }
        drop(outbox);
        self.writer.wake();
    }

    /// Waits until the peer has closed its side.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The peer has closed its side.
    pub(super) fn end(&self) {
        self.ended.notify_one();
    }

    /// Has this woken when a control frame is to be sent.
    pub(super) fn register_writer(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    pub(super) fn take_outbox(&self) -> Vec<Control> {
        std::mem::take(&mut *self.outbox())
    }

    pub(super) fn budget(&self) -> Option<&Arc<Budget>> {
        self.budget.as_ref()
    }

    fn outbox(&self) -> std::sync::MutexGuard<'_, Vec<Control>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the peer does that no well-meant peer does, if anything: it does not get on with a frame that it has begun,
    /// or does not read. Its time for either is counted from `since` at the earliest.
    pub(crate) fn violation(&self, since: Instant) -> Option<&'static str> {
        let PeerTimeouts { read_timeout, write_timeout } = self.peer_timeouts;
        let now = Instant::now();
        let past = |from: Instant, time: Duration| now.saturating_duration_since(from.max(since)) >= time;
        let moment = |moment: &Moment| moment.after(self.opened);
        if moment(&self.unread_since).is_some_and(|from| past(from, write_timeout)) {
            return Some("it does not read what it is sent");
        }
        let slow = moment(&self.slow_since)?;
        if past(slow, read_timeout) {
            return Some("it has begun a frame and does not finish it, nor sends 16 KiB of it a second");
        }
        let lent = moment(&self.lent_since)?;
        let waited_for = self.budget.as_ref()?.waited_for_since()?;
        if past(slow.max(waited_for), read_timeout / HASTE) {
            Some(
                "it has begun a large frame and does not finish it, nor sends 48 KiB of it a second while others wait for the memory",
            )
        } else if past(lent.max(waited_for), read_timeout.saturating_mul(LONGEST_LOAN)) {
            Some("it has begun a large frame and does not finish it, and others have waited too long for the memory")
        } else {
            None
        }
    }

    /// The peer has read something, or has nothing to read.
    pub(super) fn was_read(&self) {
        self.unread_since.clear();
    }

    /// Something waits for the peer to read.
    pub(super) fn wait_for_reader(&self) {
        if !self.unread_since.is_set() {
            self.unread_since.set(self.opened.elapsed());
        }
    }

    /// A frame has begun, or has brought what it must.
    pub(super) fn progress(&self) {
        self.slow_since.set(self.opened.elapsed());
    }

    pub(super) fn has_begun_frame(&self) -> bool {
        self.slow_since.is_set()
    }

    /// How much a frame must bring before its time begins anew.
    pub(super) fn least_progress(&self) -> u64 {
        let bytes = self.peer_timeouts.read_timeout.as_millis().saturating_mul(u128::from(SLOWEST_RATE)) / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The frame that is coming in waits for memory, and nothing is read. Meanwhile the peer can do nothing wrong.
    pub(super) fn wait_for_memory(&self) {
        self.slow_since.clear();
        if !self.waits_since.is_set() {
            self.waits_since.set(self.opened.elapsed());
        }
    }

    /// The frame that is coming in has got its memory.
    pub(super) fn has_memory(&self) {
        self.lent_since.set(self.opened.elapsed());
        if let Some(since) = self.waits_since.after(self.opened) {
            self.waited.fetch_add(to_micros(since.elapsed()), Ordering::Relaxed);
            self.hear();
            self.progress();
            self.waits_since.clear();
        }
    }

    /// For how long in all nothing was read because there was no memory. What the peer sent meanwhile comes at once.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }

    /// No frame is coming in.
    pub(super) fn frame_is_complete(&self) {
        self.slow_since.clear();
        self.lent_since.clear();
    }

    /// When the connection was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// When the peer was last heard: any byte counts. One that is not listened to is not silent.
    pub(crate) fn heard(&self) -> Instant {
        match self.waits_since.is_set() {
            true => Instant::now(),
            false => self.heard.after(self.opened).unwrap_or(self.opened),
        }
    }

    /// Nothing will come, and that is no silence.
    #[cfg(feature = "simulation")]
    pub(crate) fn hear_forever(&self) {
        self.heard.set(LONGEST_TIME);
    }

    pub(super) fn hear(&self) {
        self.heard.set(self.opened.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Begins a frame and brings this much of it each second; says after how many seconds there is a violation, if
    /// there is one within ten minutes.
    async fn complaint_after(side: &Side, each_second: u64) -> Option<(u32, &'static str)> {
        let mut since_progress = 0;
        side.progress();
        for seconds in 1..600 {
            advance(SECOND).await;
            since_progress += each_second;
            if since_progress >= side.least_progress() {
                since_progress = 0;
                side.progress();
            }
            if let Some(violation) = side.violation(side.opened()) {
                return Some((seconds, violation));
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_must_get_on_and_may_be_slow() {
        let side = Side::new(PeerTimeouts::default(), None);
        for rate in [17 * 1024, 100 * 1024, 100 << 20] {
            assert_eq!(complaint_after(&side, rate).await, None, "{rate} bytes a second");
        }
        for rate in [0, 1, 15 * 1024] {
            let (seconds, violation) = complaint_after(&side, rate).await.expect("is too slow");
            assert_eq!(seconds, 30, "{rate} bytes a second");
            assert!(violation.contains("does not finish it"), "{violation}");
        }
        side.frame_is_complete();
        advance(3600 * SECOND).await;
        assert_eq!(side.violation(side.opened()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_wait_for_its_memory_a_frame_must_be_quicker() {
        let budget = Budget::new(1 << 20);
        let side = Side::new(PeerTimeouts::default(), Some(Arc::clone(&budget)));
        // It has no memory that others could wait for.
        let wait = budget.wait(1);
        assert_eq!(complaint_after(&side, 20 * 1024).await, None);
        drop(wait);
        side.progress();
        side.has_memory();
        assert_eq!(complaint_after(&side, 20 * 1024).await, None);
        let wait = budget.wait(1);
        let (seconds, violation) = complaint_after(&side, 20 * 1024).await.expect("is too slow");
        assert_eq!(seconds, 10);
        assert!(violation.contains("while others wait"), "{violation}");
        drop(wait);
        let _wait = budget.wait(1);
        let (seconds, violation) = complaint_after(&side, 100 * 1024).await.expect("takes too long");
        assert_eq!(seconds, 120);
        assert!(violation.contains("have waited too long"), "{violation}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_us_or_is_held_up_by_us_is_not_late() {
        let budget = Budget::new(1 << 20);
        let side = Side::new(PeerTimeouts::default(), Some(budget));
        side.progress();
        advance(29 * SECOND).await;
        side.wait_for_memory();
        advance(3600 * SECOND).await;
        assert_eq!(side.violation(side.opened()), None);
        assert_eq!(side.heard(), Instant::now(), "that it is not heard is our doing");
        side.has_memory();
        assert_eq!(side.violation(side.opened()), None);
        assert_eq!((side.heard(), side.waited()), (Instant::now(), 3600 * SECOND));
        advance(29 * SECOND).await;
        assert_eq!(side.violation(side.opened()), None);
        advance(SECOND).await;
        assert!(side.violation(side.opened()).is_some());
        // The master itself was stalled until now.
        let stalled_until = Instant::now();
        assert_eq!(side.violation(stalled_until), None);
        advance(30 * SECOND).await;
        assert!(side.violation(stalled_until).is_some());
    }

    #[test]
    fn one_heartbeat_waits_at_a_time() {
        let side = Side::new(PeerTimeouts::default(), None);
        let load = |computing| Control::Heartbeat(super::super::Load { computing, ..Default::default() });
        for control in [load(1), Control::Drain, load(2), load(3)] {
            side.send(control);
        }
        assert_eq!(side.take_outbox(), [load(3), Control::Drain]);
    }
}
