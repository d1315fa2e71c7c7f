//! Runs compute calls, on as many threads at a time as the node has slots.
//!
//! The threads are those for blocking work of the node's own runtime. A handler has its thread to itself: no other call is
//! ever run on the stack of a handler, whatever the handler waits for.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::runtime::Handle;

use super::{
    answer::{Completed, answer},
    arrival_gaps::ArrivalGaps,
    current::CurrentCall,
    handler_runtime::HandlerRuntime,
    slots::{Slots, Worker, WorkerStep},
    waker::WatchdogWaker,
};
use crate::service::wait::{Lend, holding};

/// Runs one call from beginning to end, or gives it back to the master.
type ComputeJob = Box<dyn FnOnce(JobAction) -> Completed + Send>;

/// The answer to a call that took less than this is held back if other calls wait: waking the connection takes longer than
/// running such a call.
const SHORT_CALL: Duration = Duration::from_micros(20);

/// How many answers are held back at most.
const MAX_HELD: usize = 32;

/// How long a thread spins between two looks for a call: some tenths of a microsecond. It does not yield, because on a busy
/// machine it would then wait for milliseconds behind all other threads, and the next call with it.
const SPINS: u32 = 32;

/// What to do with a call that waited for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobAction {
    /// Run it: it has a slot, and the thread to itself.
    Run,
    /// Give it back to the master. The thread is the connection's, which must not be blocked.
    GiveBack,
}

pub(super) struct ComputePool {
    /// Holds answers to short calls back, so that they are sent together. If the next call takes longer than expected, the
    /// watchdog sends them.
    slots: Arc<Slots<ComputeJob, Completed>>,
    handler_runtime: Arc<HandlerRuntime>,
    waker: Arc<WatchdogWaker>,
    gaps: ArrivalGaps,
}

impl ComputePool {
    pub(super) fn new(slots: usize, handler_runtime: Arc<HandlerRuntime>, waker: Arc<WatchdogWaker>) -> Self {
        Self { slots: Arc::new(Slots::new(slots)), handler_runtime, waker, gaps: ArrivalGaps::new() }
    }

    /// Runs the job as soon as a slot is free, in the order of calls to this method. Must be called on the node's runtime. A
    /// job must not panic.
    pub(super) fn run(self: &Arc<Self>, job: impl FnOnce(JobAction) -> Completed + Send + 'static) {
        self.gaps.end();
        if let Some(worker) = self.slots.push(Box::new(job)) {
            self.start(worker);
        }
    }

    fn start(self: &Arc<Self>, worker: Worker<ComputeJob, Completed>) {
        let pool = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let lender = Arc::new(SlotLender { pool: Arc::clone(&pool), node_runtime: Handle::current() });
            holding(lender, || pool.work(worker));
        });
    }

    /// Runs jobs in one slot while there are any.
    fn work(self: Arc<Self>, mut worker: Worker<ComputeJob, Completed>) {
        let (mut left, mut due, mut was_short) = (None, Vec::new(), false);
        let mut idle_since: Option<Instant> = None;
        // Calls since it was idle.
        let mut in_row = 0_u32;
        loop {
            let looks_for = if in_row <= 1 { self.gaps.look_for() } else { Duration::ZERO };
            let is_late = idle_since.is_some_and(|since| since.elapsed() >= looks_for);
            let has_left = left.is_some();
            let next = worker.next(left.take(), |held| was_short && held < MAX_HELD, &mut due, is_late);
            if has_left && due.is_empty() {
                self.waker.wake();
            }
            due.drain(..).for_each(answer_from_here);
            match next {
                WorkerStep::Run(job, another) => {
                    if let Some(another) = another {
                        self.start(another);
                    }
                    in_row = if idle_since.take().is_some() { 1 } else { in_row.saturating_add(1) };
                    let started = Instant::now();
                    left = Some(self.run_here(job));
                    was_short = started.elapsed() < SHORT_CALL;
                }
                WorkerStep::Look => {
                    idle_since.get_or_insert_with(Instant::now);
                    for _ in 0..SPINS {
                        std::hint::spin_loop();
                    }
                }
                WorkerStep::Leave => return self.gaps.begin(idle_since),
            }
        }
    }

    /// Runs a job. What its handler spawns goes to the handler runtime and not to the node's, which must not be kept busy.
    fn run_here(&self, job: ComputeJob) -> Completed {
        let _inside = self.handler_runtime.enter();
        job(JobAction::Run)
    }

    /// Whether answers are held back.
    pub(super) fn is_holding(&self) -> bool {
        self.slots.is_holding()
    }

    /// Takes the answers that have been held back since the last look.
    pub(super) fn overdue(&self) -> Vec<Completed> {
        self.slots.take_overdue()
    }

    /// Gives back all calls that wait for a slot. Must be called on the node's runtime.
    pub(super) fn give_back(&self) {
        for job in self.slots.take_waiting() {
            let (request, reply) = job(JobAction::GiveBack);
            tokio::spawn(answer(request, reply));
        }
    }
}

/// Lends the slot of a thread while the handler on it waits for a call, as `Call::wait` does.
struct SlotLender {
    pool: Arc<ComputePool>,
    node_runtime: Handle,
}

impl Lend for SlotLender {
    fn lend(&self) -> bool {
        let mut may_lend = true;
        CurrentCall::with_computing(|call| may_lend = call.on_waits());
        if !may_lend {
            return false;
        }
        if let Some(worker) = self.pool.slots.lend() {
            // The handler is inside the user's runtime.
            let _inside = self.node_runtime.enter();
            self.pool.start(worker);
        }
        true
    }

    fn take_back(&self) {
        CurrentCall::with_computing(|call| call.on_goes_on());
        let granted = Arc::new(AtomicBool::new(false));
        let grant = {
            let (granted, thread) = (Arc::clone(&granted), thread::current());
            Box::new(move || {
                granted.store(true, Ordering::Release);
                thread.unpark();
            })
        };
        if !self.pool.slots.take_back(grant) {
            while !granted.load(Ordering::Acquire) {
                thread::park();
            }
        }
    }
}

/// Answers a call, on a thread that may block: the handler has returned.
fn answer_from_here((request, reply): Completed) {
    let mut answer = pin!(answer(request, reply));
    if answer.as_mut().now_or_never().is_none() {
        // The connection has a buffer full of replies to write.
        futures::executor::block_on(answer);
    }
}

impl fmt::Debug for ComputePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComputePool").finish_non_exhaustive()
    }
}
