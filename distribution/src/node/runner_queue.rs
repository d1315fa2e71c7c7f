//! The handoff of the runner: who takes the async calls that wait, and who goes on if that one is stuck.
//!
//! One runner at a time is the active one. One that stands still is given up and another is appointed; the
//! first is counted as stuck until it comes out of its handler, and takes nothing more.
//!
//! Nothing but `crate::sync` is imported, so that loom can check it (`tests/loom`).

use std::{collections::VecDeque, mem};

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A job, as far as the handoff needs to know it.
pub(crate) trait Labelled {
    /// Says which job it is, for people.
    type Label: Clone;
    fn label(&self) -> Self::Label;
}

/// The jobs that wait for the runner. Each becomes a `D`, which is answered.
pub(crate) struct RunnerQueue<J: Labelled, D> {
    queue: Mutex<State<J, D>>,
}

struct State<J: Labelled, D> {
    jobs: VecDeque<J>,
    /// Jobs that have run, and are answered together: each answer by itself would wake the connection.
    done: Vec<D>,
    active: Option<Active<J::Label>>,
    /// The number of the runner that was appointed last.
    newest: u64,
    /// Runners that were given up and are inside a handler still.
    stuck: usize,
    /// Jobs taken so far, and as of the last look.
    taken: u64,
    seen: u64,
    /// The job, by its number, that was seen to block.
    noticed: u64,
    /// No job is taken any more.
    has_ended: bool,
}

/// The runner that takes from the queue.
struct Active<L> {
    number: u64,
    has_begun: bool,
    /// The job that it is inside of.
    inside: Option<L>,
}

/// What has become of a job that was pushed.
pub(crate) enum Pushed<J: Labelled, D> {
    /// The active runner will come to it.
    Waits,
    /// It waits for this runner, which must be started.
    Appointed(RunnerRole<J, D>),
    /// Not taken.
    Ended(J),
}

/// What a look has found.
pub(crate) struct Look<J: Labelled, D> {
    /// The job that has been running since the last look, if it was not seen before.
    pub(crate) blocked: Option<J::Label>,
    /// A runner that takes over, and must be started.
    pub(crate) relief: Option<RunnerRole<J, D>>,
}

/// What a runner does next.
pub(crate) enum RunnerStep<J> {
    /// Run this job; this many wait behind it.
    Start(J, usize),
    /// Let others on this thread go first: another job waits.
    GiveWay,
    /// Answer what has run.
    Answer,
    /// End.
    Nothing,
}

/// One runner's turn; counted out when dropped.
pub(crate) struct RunnerRole<J: Labelled, D> {
    queue: Arc<RunnerQueue<J, D>>,
    number: u64,
    /// Whether it has found nothing more to do.
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
            noticed: 0,
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

    /// Looks whether the active runner stands still, and relieves it if it keeps others waiting. One that has
    /// not begun is waiting for a thread, and another would as well.
    pub(crate) fn look(self: &Arc<Self>) -> Look<J, D> {
        let mut queue = self.lock();
        let stands_still = queue.taken == queue.seen;
        queue.seen = queue.taken;
        let waits = !queue.jobs.is_empty() || !queue.done.is_empty();
        let inside = queue.active.as_ref().and_then(|active| active.inside.clone());
        let blocked = inside.filter(|_| stands_still && queue.noticed != queue.taken);
        if blocked.is_some() {
            queue.noticed = queue.taken;
        }
        let relief = match &queue.active {
            Some(active) if active.has_begun && stands_still && waits => {
                queue.stuck += 1;
                Some(self.appoint(&mut queue))
            }
            // The last one panicked, which it should not.
            None if waits => Some(self.appoint(&mut queue)),
            _ => None,
        };
        Look { blocked, relief }
    }

    /// Takes no more jobs, and gives back those that wait.
    pub(crate) fn end(&self) -> VecDeque<J> {
        let mut queue = self.lock();
        queue.has_ended = true;
        mem::take(&mut queue.jobs)
    }

    /// Whether a look would find nothing now and later, until something is pushed.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.active.is_none() && queue.jobs.is_empty() && queue.done.is_empty()
    }

    /// Whether a runner was given up and is inside a handler still.
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
    /// Leaves what came of the last job, if it was run to its end here, and says what is next. No more than
    /// `most` jobs are run before they are answered. One that owes others way takes no job before it has given it.
    pub(crate) fn next(&mut self, left: Option<D>, most: usize, owes_way: bool) -> RunnerStep<J> {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        // The runner that is active now answers it.
        queue.done.extend(left);
        let Some(active) = queue.active.as_mut().filter(|active| active.number == self.number) else {
            // This one was given up. With nobody active there is nobody else to answer.
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
        if owes_way && !queue.jobs.is_empty() {
            return RunnerStep::GiveWay;
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

    /// Takes what has run, to be answered.
    pub(crate) fn take_done(&self, due: &mut Vec<D>) {
        due.append(&mut self.queue.lock().done);
    }

    /// Counts this runner out, and says whether it was the active one and had not come to its end: the runtime
    /// that it was on has ended, or it panicked.
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
            // It was given up, and is out of its handler at last.
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
