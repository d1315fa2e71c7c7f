//! Slots: which thread runs which of the waiting jobs, and when one more thread is needed.
//!
//! A worker is a thread that holds a slot. It runs waiting jobs, one after the other, looks for more for a moment, and
//! leaves. Waking a thread takes longer than a short job, so at most one worker is being started at a time: it takes a job
//! first, and then asks for the next worker if jobs are left.
//!
//! Imports `crate::sync` only, so that loom can check it (`tests/loom`).

use std::{collections::VecDeque, mem};

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The waiting jobs, and the workers that take them. Each job produces a `D`.
pub(crate) struct Slots<J, D> {
    state: Mutex<State<J, D>>,
    most: usize,
}

struct State<J, D> {
    jobs: VecDeque<J>,
    /// Results of jobs, held back to be sent together with those of the next jobs.
    held: Vec<D>,
    /// The number of workers, with the one that is being started. Never more than slots.
    workers: usize,
    /// Whether a worker is about to look for a job: it is being started, or looks already.
    is_one_free: bool,
    /// Workers that have lent their slot and want it back. They come before waiting jobs.
    returning: VecDeque<Grant>,
    /// Jobs taken so far, now and at the watchdog's last look.
    taken: u64,
    seen: u64,
}

/// Called when a worker has its slot back.
pub(crate) type Grant = Box<dyn FnOnce() + Send>;

/// What a worker does next.
pub(crate) enum WorkerStep<J, D> {
    /// Start this worker, if there is one, and then run this job.
    Run(J, Option<Worker<J, D>>),
    /// Look again soon: no job waits at the moment.
    Look,
    /// Return from the thread. The slot is free already.
    Leave,
}

/// The right to run jobs in one slot. Dropping it gives the slot back.
pub(crate) struct Worker<J, D> {
    slots: Arc<Slots<J, D>>,
    /// Whether this is the worker that [`State::is_one_free`] is about.
    is_free: bool,
    has_left: bool,
}

impl<J, D> Slots<J, D> {
    /// For at most `most` workers at a time.
    pub(crate) fn new(most: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            held: Vec::new(),
            workers: 0,
            is_one_free: false,
            returning: VecDeque::new(),
            taken: 0,
            seen: 0,
        };
        Self { state: Mutex::new(state), most }
    }

    /// Adds a job. If it returns a worker, the caller must start it.
    pub(crate) fn push(self: &Arc<Self>, job: J) -> Option<Worker<J, D>> {
        let mut state = self.lock();
        state.jobs.push_back(job);
        self.one_more(&mut state)
    }

    /// A worker waits within its job, and lends its slot. If this returns a worker, the caller must start it.
    pub(crate) fn lend(self: &Arc<Self>) -> Option<Worker<J, D>> {
        let mut state = self.lock();
        state.give_up_slot();
        self.one_more(&mut state)
    }

    /// A worker that has lent its slot wants it back. Returns whether it has it; otherwise `grant` is called when it has.
    pub(crate) fn take_back(&self, grant: Grant) -> bool {
        let mut state = self.lock();
        if state.workers < self.most && state.returning.is_empty() {
            state.workers += 1;
            return true;
        }
        state.returning.push_back(grant);
        false
    }

    /// Takes the jobs that no worker has taken.
    pub(crate) fn take_waiting(&self) -> VecDeque<J> {
        mem::take(&mut self.lock().jobs)
    }

    /// Whether results are held back.
    pub(crate) fn is_holding(&self) -> bool {
        !self.lock().held.is_empty()
    }

    /// Takes the results that are held back, if no job was taken since the last look.
    pub(crate) fn take_overdue(&self) -> Vec<D> {
        let mut state = self.lock();
        let stands_still = state.taken == state.seen;
        state.seen = state.taken;
        if stands_still { mem::take(&mut state.held) } else { Vec::new() }
    }

    /// A worker for the waiting jobs, if there are any, no other worker is free, and a slot is.
    fn one_more(self: &Arc<Self>, state: &mut State<J, D>) -> Option<Worker<J, D>> {
        if state.jobs.is_empty() || state.is_one_free || state.workers >= self.most {
            return None;
        }
        state.workers += 1;
        state.is_one_free = true;
        Some(Worker { slots: Arc::clone(self), is_free: true, has_left: false })
    }

    fn lock(&self) -> MutexGuard<'_, State<J, D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J, D> State<J, D> {
    /// A worker gives its slot up: to one that wants its own back, if there is any.
    fn give_up_slot(&mut self) {
        match self.returning.pop_front() {
            // Under the lock, which is short: it wakes a thread.
            Some(grant) => grant(),
            None => self.workers -= 1,
        }
    }
}

impl<J, D> Worker<J, D> {
    /// Stores the result of the last job, and takes the next job.
    ///
    /// Moves the results that are held back to `due` if there is no next job, or `may_hold` allows no more. A worker that has
    /// looked for long enough (`is_last`) and finds nothing leaves.
    pub(crate) fn next(
        &mut self,
        left: Option<D>,
        may_hold: impl FnOnce(usize) -> bool,
        due: &mut Vec<D>,
        is_last: bool,
    ) -> WorkerStep<J, D> {
        let mut state = self.slots.lock();
        state.held.extend(left);
        let must_leave = !state.returning.is_empty();
        if must_leave || state.jobs.is_empty() || !may_hold(state.held.len()) {
            due.append(&mut state.held);
        }
        if mem::take(&mut self.is_free) {
            state.is_one_free = false;
        }
        if must_leave {
            state.give_up_slot();
            self.has_left = true;
            return WorkerStep::Leave;
        }
        match state.jobs.pop_front() {
            Some(job) => {
                state.taken += 1;
                let another = self.slots.one_more(&mut state);
                WorkerStep::Run(job, another)
            }
            // One worker that looks is enough.
            None if !is_last && !state.is_one_free => {
                state.is_one_free = true;
                self.is_free = true;
                WorkerStep::Look
            }
            None => {
                // At once, so that the next job finds a free slot.
                state.workers -= 1;
                self.has_left = true;
                WorkerStep::Leave
            }
        }
    }
}

impl<J, D> Drop for Worker<J, D> {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut state = self.slots.lock();
        state.give_up_slot();
        if self.is_free {
            state.is_one_free = false;
        }
    }
}
