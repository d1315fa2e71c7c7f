//! The queue of async calls, and which runner takes them.
//!
//! One runner at a time is active. If it makes no progress, another one replaces it; the first counts as stuck until its
//! handler returns, and takes no more calls.
//!
//! Imports `crate::sync` only, so that loom can check it (`tests/loom`).

use std::{collections::VecDeque, mem};

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the queue has to know of a job.
pub(crate) trait Labelled {
    /// Identifies the job in log lines.
    type Label: Clone;
    fn label(&self) -> Self::Label;
}

/// The jobs that wait for the runner. Each produces a `D`, which is then answered.
pub(crate) struct RunnerQueue<J: Labelled, D> {
    queue: Mutex<State<J, D>>,
}

struct State<J: Labelled, D> {
    jobs: VecDeque<J>,
    /// Results of jobs, to be answered together: each answer alone would wake the connection.
    done: Vec<D>,
    active: Option<Active<J::Label>>,
    /// The number of the newest runner.
    newest: u64,
    /// How many runners were replaced and are still inside a handler.
    stuck: usize,
    /// Jobs taken so far, now and at the last look.
    taken: u64,
    seen: u64,
    /// The number of the job that was last reported to block.
    reported: u64,
    /// No more jobs are taken.
    has_ended: bool,
}

/// The runner that takes from the queue.
struct Active<L> {
    number: u64,
    has_begun: bool,
    /// The job that it runs.
    inside: Option<L>,
}

/// What happened to a job that was pushed.
pub(crate) enum Pushed<J: Labelled, D> {
    /// It waits for the active runner.
    Waits,
    /// It waits for this new runner, which the caller must start.
    Appointed(RunnerRole<J, D>),
    /// It was not taken.
    Ended(J),
}

/// The result of a look.
pub(crate) struct Look<J: Labelled, D> {
    /// The job that has run since the last look, if it was not reported before.
    pub(crate) blocked: Option<J::Label>,
    /// A new runner that replaces the active one; the caller must start it.
    pub(crate) replacement: Option<RunnerRole<J, D>>,
}

/// What a runner does next.
pub(crate) enum RunnerStep<J> {
    /// Run this job; this many wait after it.
    Start(J, usize),
    /// Yield to the other tasks of this thread, because another job waits.
    Yield,
    /// Send the answers of the jobs that have run.
    Answer,
    /// End: no job is left, or another runner has replaced this one.
    Nothing,
}

/// The right of one runner to take jobs while it is active. Dropping it gives the right back.
pub(crate) struct RunnerRole<J: Labelled, D> {
    queue: Arc<RunnerQueue<J, D>>,
    number: u64,
    /// Whether it has found no more jobs.
    is_over: bool,
}

impl<J: Labelled, D> Default for RunnerQueue<J, D> {
    fn default() -> Self {
        let queue = State {
            jobs: VecDeque::new(),
            done: Vec::new(),
            active: None,
            newest: 0,
            stuck: 0,
            taken: 0,
            seen: 0,
            reported: 0,
            has_ended: false,
        };
        Self { queue: Mutex::new(queue) }
    }
}

impl<J: Labelled, D> RunnerQueue<J, D> {
    /// Adds a job.
    pub(crate) fn push(self: &Arc<Self>, job: J) -> Pushed<J, D> {
        let mut queue = self.lock();
        if queue.has_ended {
            return Pushed::Ended(job);
        }
        queue.jobs.push_back(job);
        match queue.active {
            Some(_) => Pushed::Waits,
            None => Pushed::Appointed(self.appoint(&mut queue)),
        }
    }

    /// Checks whether the active runner has made progress since the last look, and replaces it if it has not and jobs wait.
    /// A runner that has not begun waits for a thread; a new one would wait as well.
    pub(crate) fn look(self: &Arc<Self>) -> Look<J, D> {
        let mut queue = self.lock();
        let stands_still = queue.taken == queue.seen;
        queue.seen = queue.taken;
        let waits = !queue.jobs.is_empty() || !queue.done.is_empty();
        let inside = queue.active.as_ref().and_then(|active| active.inside.clone());
        let blocked = inside.filter(|_| stands_still && queue.reported != queue.taken);
        if blocked.is_some() {
            queue.reported = queue.taken;
        }
        let replacement = match &queue.active {
            Some(active) if active.has_begun && stands_still && waits => {
                queue.stuck += 1;
                Some(self.appoint(&mut queue))
            }
            // The last runner panicked, which it should not.
            None if waits => Some(self.appoint(&mut queue)),
            _ => None,
        };
        Look { blocked, replacement }
    }

    /// Ends the queue, and returns the jobs that wait.
    pub(crate) fn end(&self) -> VecDeque<J> {
        let mut queue = self.lock();
        queue.has_ended = true;
        mem::take(&mut queue.jobs)
    }

    /// Whether looks find nothing until a job is pushed.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.active.is_none() && queue.jobs.is_empty() && queue.done.is_empty()
    }

    /// Whether a runner was replaced and is still inside a handler.
    pub(crate) fn is_one_stuck(&self) -> bool {
        self.lock().stuck > 0
    }

    fn appoint(self: &Arc<Self>, queue: &mut State<J, D>) -> RunnerRole<J, D> {
        queue.newest += 1;
        queue.active = Some(Active { number: queue.newest, has_begun: false, inside: None });
        RunnerRole { queue: Arc::clone(self), number: queue.newest, is_over: false }
    }

    fn lock(&self) -> MutexGuard<'_, State<J, D>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Labelled, D> RunnerRole<J, D> {
    /// Stores the result of the last job, if it ended here, and returns the next step. At most `most` jobs run before they
    /// are answered. With `must_yield`, the runner yields before it takes a job.
    pub(crate) fn next(&mut self, left: Option<D>, most: usize, must_yield: bool) -> RunnerStep<J> {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        // The active runner will answer it.
        queue.done.extend(left);
        let Some(active) = queue.active.as_mut().filter(|active| active.number == self.number) else {
            // This runner was replaced. If none is active, it has to answer itself.
            if queue.active.is_none() && !queue.done.is_empty() {
                return RunnerStep::Answer;
            }
            return RunnerStep::Nothing;
        };
        active.has_begun = true;
        active.inside = None;
        if queue.done.len() >= most || queue.jobs.is_empty() && !queue.done.is_empty() {
            return RunnerStep::Answer;
        }
        if must_yield && !queue.jobs.is_empty() {
            return RunnerStep::Yield;
        }
        match queue.jobs.pop_front() {
            Some(job) => {
                active.inside = Some(job.label());
                queue.taken += 1;
                RunnerStep::Start(job, queue.jobs.len())
            }
            None => {
                queue.active = None;
                self.is_over = true;
                RunnerStep::Nothing
            }
        }
    }

    /// Takes the results that are to be answered.
    pub(crate) fn take_done(&self, due: &mut Vec<D>) {
        due.append(&mut self.queue.lock().done);
    }

    /// Gives the right back. Returns whether the runner was active and had not ended by itself: its runtime has ended, or it
    /// panicked.
    pub(crate) fn leave(&mut self) -> bool {
        if mem::replace(&mut self.is_over, true) {
            return false;
        }
        let mut queue = self.queue.lock();
        match &queue.active {
            Some(active) if active.number == self.number => {
                queue.active = None;
                true
            }
            // It was replaced, and its handler has returned.
            _ => {
                queue.stuck -= 1;
                false
            }
        }
    }
}

impl<J: Labelled, D> Drop for RunnerRole<J, D> {
    fn drop(&mut self) {
        self.leave();
    }
}
