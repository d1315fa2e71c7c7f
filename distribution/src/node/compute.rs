//! Compute calls: the threads they run on, of which there are as many at a time as the node has slots.
//!
//! The threads are those for blocking work of the link's own runtime. A handler has its thread to itself: what
//! it does with rayon or anything else happens elsewhere, and no other call is ever run on top of it.

use std::{
    fmt,
    pin::pin,
    sync::Arc,
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

/// How long a thread without a call looks for the next one before it sleeps. To wake one takes about as long
/// as a caller on the same network takes to make the next call, and costs both ends of the wake.
const LOOK_FOR: Duration = Duration::from_micros(50);

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
}

impl Pool {
    pub(super) fn new(slots: usize, users: Arc<Users>, alarm: Arc<Alarm>) -> Self {
        Self { slots: Arc::new(Slots::new(slots)), users, alarm }
    }

    /// Runs the job as soon as a slot is free, in the order of asking. Called on the link's runtime. A job must
    /// not panic.
    pub(super) fn run(self: &Arc<Self>, job: impl FnOnce(Turn) -> Done + Send + 'static) {
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
        loop {
            let is_late = idle_since.is_some_and(|since| since.elapsed() >= LOOK_FOR);
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
                    idle_since = None;
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
                Next::Leave => return,
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
