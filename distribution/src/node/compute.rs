//! Compute calls: the threads they run on, of which there are as many at a time as the node has slots.
//!
//! The threads are those for blocking work of the link's own runtime. A handler has its thread to itself: what
//! it does with rayon or anything else happens elsewhere, and no other call is ever run on top of it.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use tarpc::server::InFlightRequest;

use super::{
    serve::answer,
    slots::{Next, Slots, Worker},
    supervise::Alarm,
    users::Users,
};
use crate::wire::{Reply, transport::Incoming};

/// Deals with one call: runs it from beginning to end, or gives it back.
type Job = Box<dyn FnOnce(Turn) -> Done + Send>;

/// A call that is over, and what is to be told the master.
pub(super) type Done = (InFlightRequest<Incoming, Reply>, Reply);

/// A call that took less than this is not answered at once if others wait: to wake the connection takes
/// longer than to run it.
const SHORT: Duration = Duration::from_micros(20);

/// This many answers are held back at most.
const HELD_MOST: usize = 32;

/// How long a thread without a call looks for the next one before it sleeps, if calls come one by one and the one before
/// came as soon as that. To wake a thread takes longer than a caller on the same network takes to make its next call.
/// Where calls come further apart, to look for them finds nothing; where they come many at a time, one wake is for many.
/// It does not look then, and leaves the core to others.
const LOOK_FOR: Duration = Duration::from_micros(200);

/// How long it looks away between two looks: some tenths of a microsecond. It does not yield, which on a busy machine
/// would send it behind all others for milliseconds, and the next call with it.
const SPINS: u32 = 32;

/// What has become of a call that waited for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has one, and the thread is its own.
    Run,
    /// It gets none here. The thread is the link's, which must not be blocked.
    GiveBack,
}

pub(super) struct Pool {
    /// Answers to short calls go together, and are held until then. If a call that was thought to be short
    /// keeps a thread from sending them, the supervisor does.
    slots: Arc<Slots<Job, Done>>,
    users: Arc<Users>,
    alarm: Arc<Alarm>,
    gaps: Gaps,
}

impl Pool {
    pub(super) fn new(slots: usize, users: Arc<Users>, alarm: Arc<Alarm>) -> Self {
        Self { slots: Arc::new(Slots::new(slots)), users, alarm, gaps: Gaps::new() }
    }

    /// Runs the job as soon as a slot is free, in the order of asking. Called on the link's runtime. A job must
    /// not panic.
    pub(super) fn run(self: &Arc<Self>, job: impl FnOnce(Turn) -> Done + Send + 'static) {
        self.gaps.end();
        if let Some(worker) = self.slots.push(Box::new(job)) {
            self.start(worker);
        }
    }

    fn start(self: &Arc<Self>, worker: Worker<Job, Done>) {
        let pool = Arc::clone(self);
        tokio::task::spawn_blocking(move || pool.work(worker));
    }

    /// Holds one slot while there are jobs.
    fn work(self: Arc<Self>, mut worker: Worker<Job, Done>) {
        let (mut left, mut due, mut was_short) = (None, Vec::new(), false);
        let mut idle_since: Option<Instant> = None;
        // Calls since it was idle.
        let mut in_row = 0_u32;
        loop {
            let looks_for = if in_row <= 1 { self.gaps.look_for() } else { Duration::ZERO };
            let is_late = idle_since.is_some_and(|since| since.elapsed() >= looks_for);
            let has_left = left.is_some();
            let next = worker.next(left.take(), |held| was_short && held < HELD_MOST, &mut due, is_late);
            if has_left && due.is_empty() {
                self.alarm.raise();
            }
            due.drain(..).for_each(answer_from_here);
            match next {
                Next::Run(job, another) => {
                    if let Some(another) = another {
                        self.start(another);
                    }
                    in_row = if idle_since.take().is_some() { 1 } else { in_row.saturating_add(1) };
                    let started = Instant::now();
                    left = Some(self.run_here(job));
                    was_short = started.elapsed() < SHORT;
                }
                Next::Look => {
                    idle_since.get_or_insert_with(Instant::now);
                    for _ in 0..SPINS {
                        std::hint::spin_loop();
                    }
                }
                Next::Leave => return self.gaps.begin(idle_since),
            }
        }
    }

    /// Runs a job. To its handler the thread is one of the user's runtime, and not of the link's, which it must
    /// not keep busy.
    fn run_here(&self, job: Job) -> Done {
        let _inside = self.users.enter();
        job(Turn::Run)
    }

    /// Whether answers are held back.
    pub(super) fn is_holding(&self) -> bool {
        self.slots.is_holding()
    }

    /// Takes the answers that have been held back since the last look.
    pub(super) fn overdue(&self) -> Vec<Done> {
        self.slots.take_overdue()
    }

    /// Gives back all calls that wait for a slot. Called on the link's thread.
    pub(super) fn give_back(&self) {
        for job in self.slots.take_waiting() {
            let (request, reply) = job(Turn::GiveBack);
            tokio::spawn(answer(request, reply));
        }
    }
}

/// How far apart calls come, as far as it decides whether to look for the next one.
struct Gaps {
    epoch: Instant,
    /// When a thread that has left since the last call came had run out of calls, in nanoseconds since `epoch`; else 0.
    idle_since: AtomicU64,
    /// Whether the last gap was so short that a look would have found the call at its end.
    was_short: AtomicBool,
}

impl Gaps {
    fn new() -> Self {
        Self { epoch: Instant::now(), idle_since: AtomicU64::new(0), was_short: AtomicBool::new(true) }
    }

    fn look_for(&self) -> Duration {
        if self.was_short.load(Ordering::Relaxed) { LOOK_FOR } else { Duration::ZERO }
    }

    /// A thread leaves, and has looked for a call since then. One that leaves the looking to another has not.
    fn begin(&self, idle_since: Option<Instant>) {
        if let Some(since) = idle_since {
            let since = since.saturating_duration_since(self.epoch).as_nanos();
            self.idle_since.store(u64::try_from(since).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        }
    }

    /// A call comes.
    fn end(&self) {
        if self.idle_since.load(Ordering::Relaxed) > 0 {
            self.end_at(Instant::now());
        }
    }

    fn end_at(&self, now: Instant) {
        let since = Duration::from_nanos(self.idle_since.swap(0, Ordering::Relaxed));
        if !since.is_zero() {
            let gap = now.saturating_duration_since(self.epoch + since);
            self.was_short.store(gap < LOOK_FOR, Ordering::Relaxed);
        }
    }
}

/// Answers a call, on a thread that may block: the handler has returned.
fn answer_from_here((request, reply): Done) {
    let mut answer = pin!(answer(request, reply));
    if answer.as_mut().now_or_never().is_none() {
        // The connection has a buffer full of replies to write.
        futures::executor::block_on(answer);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_looks_for_calls_while_they_come_soon_and_not_while_they_come_late() {
        let gaps = Gaps::new();
        let start = gaps.epoch;
        let [soon, late] = [start + LOOK_FOR / 2, start + LOOK_FOR * 2];
        assert_eq!(gaps.look_for(), LOOK_FOR, "a first caller may be the only one");
        gaps.begin(Some(start));
        gaps.end_at(late);
        assert_eq!(gaps.look_for(), Duration::ZERO);
        gaps.begin(None);
        gaps.end_at(late);
        assert_eq!(gaps.look_for(), Duration::ZERO, "one that has not looked knows of no gap");
        gaps.begin(Some(start));
        assert_eq!(gaps.look_for(), Duration::ZERO, "the gap is not over");
        gaps.end_at(soon);
        assert_eq!(gaps.look_for(), LOOK_FOR);
        gaps.end_at(late);
        assert_eq!(gaps.look_for(), LOOK_FOR, "one gap ends once");
    }
}
