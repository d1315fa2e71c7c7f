//! Compute calls: a rayon pool, and the rule that a node runs as many of them at once as it has slots.
//!
//! The pool has a thread per slot. A handler's own parallel iterators share it, so a handler that
//! spreads over all threads takes from the others, as it would on a machine of its own. A thread of
//! rayon that waits for the parts of one handler takes up other work meanwhile; it must not take up
//! another call, which would hold the first one up for as long as it runs.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tarpc::server::InFlightRequest;

use super::{current, serve::answer};
use crate::{
    error::Error,
    wire::{Reply, transport::Incoming},
};

/// Deals with one call: runs it from beginning to end, or gives it back.
type Job = Box<dyn FnOnce(Turn) -> Done + Send>;

/// A call that is over, and what is to be told the master.
pub(super) type Done = (InFlightRequest<Incoming, Reply>, Reply);

/// A call that took less than this is not answered at once if others wait: to wake the connection takes
/// longer than to run it.
const SHORT: Duration = Duration::from_micros(20);

/// So many answers are held back at most.
const HELD_MOST: usize = 32;

/// What has become of a call that waited for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has one, and the thread is its own.
    Run,
    /// It gets none here. The thread is the link's, which must not be blocked.
    GiveBack,
}

pub(super) struct Pool {
    threads: rayon::ThreadPool,
    queue: Mutex<Queue>,
    /// Answers to short calls, which go together. If a call that was thought to be short keeps a thread
    /// from sending them, the link's supervisor does.
    held: Mutex<Vec<Done>>,
    slots: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Slots that are taken.
    running: usize,
    /// Those of them whose handler runs at this moment.
    executing: u32,
    /// How many have been taken up, and as of the last look.
    taken: u64,
    seen: u64,
}

impl Pool {
    pub(super) fn new(slots: usize, name: &str) -> Result<Self, Error> {
        let short: String = name.chars().take(8).collect();
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(slots)
            .thread_name(move |at| format!("{short}-{at}"))
            .build()
            .map_err(|error| Error::Thread { what: "compute pool", source: io::Error::other(error) })?;
        Ok(Self { threads, queue: Mutex::default(), held: Mutex::default(), slots })
    }

    /// Runs the job as soon as a slot is free, in the order of asking. A job must not panic.
    pub(super) fn run(self: &Arc<Self>, job: impl FnOnce(Turn) -> Done + Send + 'static) {
        let mut queue = self.lock();
        queue.jobs.push_back(Box::new(job));
        if queue.running < self.slots {
            queue.running += 1;
            drop(queue);
            let pool = Arc::clone(self);
            self.threads.spawn(move || pool.work());
        }
    }

    /// Handlers that run at this moment, of this connection to the master or an earlier one.
    pub(super) fn busy(&self) -> u32 {
        self.lock().executing
    }

    /// Holds one slot while there are jobs.
    fn work(self: &Arc<Self>) {
        if current::is_computing() {
            // This thread waits inside a handler. The slot is offered to all threads: one that is idle
            // takes it; if none is, the first handler to return goes on with the queue.
            self.lock().running -= 1;
            let pool = Arc::clone(self);
            self.threads.spawn_broadcast(move |_| pool.take_up());
            return;
        }
        loop {
            let job = {
                let mut queue = self.lock();
                match queue.jobs.pop_front() {
                    Some(job) => {
                        queue.executing += 1;
                        queue.taken += 1;
                        job
                    }
                    None => {
                        queue.running -= 1;
                        return;
                    }
                }
            };
            let started = Instant::now();
            let done = job(Turn::Run);
            let short = started.elapsed() < SHORT;
            let more = {
                let mut queue = self.lock();
                queue.executing -= 1;
                !queue.jobs.is_empty()
            };
            let due = {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                held.push(done);
                if short && more && held.len() < HELD_MOST { Vec::new() } else { std::mem::take(&mut *held) }
            };
            due.into_iter().for_each(answer_from_here);
        }
    }

    /// Takes the answers that have been held back since the last look.
    pub(super) fn overdue(&self) -> Vec<Done> {
        let stands_still = {
            let mut queue = self.lock();
            let same = queue.taken == queue.seen;
            queue.seen = queue.taken;
            same
        };
        if !stands_still {
            return Vec::new();
        }
        std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a free slot, on a thread that is not inside a handler, if there are jobs for it.
    fn take_up(self: &Arc<Self>) {
        if current::is_computing() {
            return;
        }
        {
            let mut queue = self.lock();
            if queue.jobs.is_empty() || queue.running >= self.slots {
                return;
            }
            queue.running += 1;
        }
        self.work();
    }

    /// Gives back all calls that wait for a slot. Called on the link's thread.
    pub(super) fn give_back(&self) {
        let waiting = std::mem::take(&mut self.lock().jobs);
        for job in waiting {
            let (request, reply) = job(Turn::GiveBack);
            tokio::spawn(answer(request, reply));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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
        f.debug_struct("Pool").field("slots", &self.slots).finish_non_exhaustive()
    }
}
