//! Runs async handlers where their calls arrive, as far as they need not wait.
//!
//! A handler belongs on the user's runtime, and the way there and back wakes two threads, which takes
//! longer than most handlers. So one task on the link's own runtime, the runner, takes calls as they come
//! and polls each handler once, inside the user's runtime: what it spawns and waits for are the user's.
//! One that is not done by then moves there, and calls of a method whose handlers take long over their
//! first poll go there at once.
//!
//! A handler that blocks, as none should, holds up the runner. The link's supervisor notices (see
//! [`super::enroll`]), gives that runner up and starts another on the user's runtime; the connection has a
//! thread of its own in any case.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use tarpc::server::InFlightRequest;
use tokio::{runtime::Handle, task::JoinHandle};

use super::{current::CurrentCall, running::RunningGuard, serve::answer};
use crate::{
    service::router::Pace,
    wire::{Outcome, Refusal, Reply, transport::Incoming},
};

/// So many calls are run before any of them is answered, if so many are there.
const IN_A_ROW: usize = 64;

/// A handler whose first poll takes longer shall not keep others waiting.
const SHORT: Duration = Duration::from_micros(100);

/// A call whose handler is to be run.
pub(super) struct Job {
    pub(super) request: InFlightRequest<Incoming, Reply>,
    pub(super) call: CurrentCall,
    pub(super) guard: RunningGuard,
    pub(super) handler: BoxFuture<'static, Reply>,
    /// What is known of the method.
    pub(super) pace: Arc<Pace>,
}

type Done = (InFlightRequest<Incoming, Reply>, Reply);

#[derive(Default)]
pub(super) struct Runner {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Calls that have run, and are answered together: each answer by itself would wake the connection.
    done: Vec<Done>,
    /// The number of the runner that takes from here, and whether it has begun to.
    runner: Option<(u64, bool)>,
    newest: u64,
    /// Runners that were given up and are inside a handler still.
    stuck: usize,
    /// Jobs taken so far, and as of the last look.
    taken: u64,
    seen: u64,
}

impl Runner {
    /// Takes a call, and gives it to a runner. Called on the link's runtime.
    pub(super) fn push(self: &Arc<Self>, job: Job, users: &Handle) {
        let link = Handle::current();
        if job.pace.is_long() {
            job.go(users, &link);
            return;
        }
        let mut queue = self.lock();
        queue.jobs.push_back(job);
        if queue.runner.is_none() {
            // One thread of the link's is blocked already; the other is the connection's.
            let place = if queue.stuck > 0 { users } else { &link };
            let run = Arc::clone(self).run(queue.appoint(), users.clone(), link.clone());
            drop(queue);
            place.spawn(run);
        }
    }

    /// Gives up a runner that has not taken a call since the last look although some wait, and starts
    /// another on the user's runtime.
    pub(super) fn relieve(self: &Arc<Self>, users: &Handle, link: &Handle) {
        let mut queue = self.lock();
        let waits = !queue.jobs.is_empty() || !queue.done.is_empty();
        let stands_still = waits && queue.taken == queue.seen;
        queue.seen = queue.taken;
        // One that has not begun is waiting for the user's runtime, and another would as well.
        if stands_still && matches!(queue.runner, Some((_, true))) {
            queue.stuck += 1;
            let run = Arc::clone(self).run(queue.appoint(), users.clone(), link.clone());
            drop(queue);
            users.spawn(run);
        }
    }

    fn run(self: Arc<Self>, number: u64, users: Handle, link: Handle) -> impl Future<Output = ()> + Send + use<> {
        // Made here and not in the task, so that it also counts one out that never begins.
        let mut turn = Turn { runner: self, number, is_over: false };
        async move {
            loop {
                match turn.next() {
                    Next::Start(job) => {
                        if job.call.is_cancelled() {
                            turn.done((job.request, Reply::refused(Refusal::Stopped)));
                            continue;
                        }
                        let started = Instant::now();
                        match job.poll(&users) {
                            Ok(done) => turn.done(done),
                            Err(job) => {
                                job.go(&users, &link);
                                // The task that was just spawned may be next on this thread and on no
                                // other, so it goes before the next handler, which may block.
                                tokio::task::yield_now().await;
                            }
                        }
                        if started.elapsed() > SHORT {
                            turn.answer().await;
                        }
                    }
                    Next::Answer => turn.answer().await,
                    Next::Nothing => return,
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Makes a new runner the one.
    fn appoint(&mut self) -> u64 {
        self.newest += 1;
        self.runner = Some((self.newest, false));
        self.newest
    }
}

/// What a runner does next.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it is made, and the large one is the usual one")]
enum Next {
    Start(Job),
    Answer,
    Nothing,
}

/// One runner, counted out when dropped.
struct Turn {
    runner: Arc<Runner>,
    number: u64,
    /// Whether it has found nothing more to do.
    is_over: bool,
}

impl Turn {
    fn next(&mut self) -> Next {
        let mut queue = self.runner.lock();
        match &mut queue.runner {
            Some((number, begun)) if *number == self.number => *begun = true,
            // It was given up.
            _ => return Next::Nothing,
        }
        if queue.done.len() >= IN_A_ROW || queue.jobs.is_empty() && !queue.done.is_empty() {
            return Next::Answer;
        }
        match queue.jobs.pop_front() {
            Some(job) => {
                queue.taken += 1;
                Next::Start(job)
            }
            None => {
                queue.runner = None;
                self.is_over = true;
                Next::Nothing
            }
        }
    }

    fn done(&self, done: Done) {
        self.runner.lock().done.push(done);
    }

    /// Answers all that have run.
    async fn answer(&self) {
        let done = std::mem::take(&mut self.runner.lock().done);
        for (request, reply) in done {
            answer(request, reply).await;
        }
        // The connection was woken, maybe on this thread and for no other: it goes before the next handler.
        tokio::task::yield_now().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut queue = self.runner.lock();
        match queue.runner {
            // Its runtime has ended.
            Some((number, _)) if number == self.number => queue.runner = None,
            // It was given up, and is out of its handler at last.
            _ => queue.stuck = queue.stuck.saturating_sub(1),
        }
    }
}

impl Job {
    /// Polls the handler once; gives the job back if it is not done.
    #[allow(clippy::result_large_err, reason = "the job comes back as it went in")]
    fn poll(mut self, users: &Handle) -> Result<Done, Self> {
        let started = Instant::now();
        let polled = {
            let _inside = users.enter();
            // The one that is woken is the runner, for nothing. Wherever the handler goes on, it is
            // polled first.
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            self.call.poll_in(&mut context, self.handler.as_mut())
        };
        self.pace.note(started.elapsed() > SHORT);
        match polled {
            Poll::Pending => Err(self),
            Poll::Ready(reply) => {
                // What the handler has left behind may panic as it goes; its value is there all the same.
                let handler = self.handler;
                let _ = catch_unwind(AssertUnwindSafe(|| drop(handler)));
                Ok((self.request, reply))
            }
        }
    }

    /// Runs the handler on the user's runtime.
    fn go(self, users: &Handle, link: &Handle) {
        let Self { request, call, guard, handler, .. } = self;
        let task = users.spawn(call.scope(handler));
        // The request stays on the link's runtime, so that it is answered also if the handler panics as it
        // is dropped, or its runtime ends.
        link.spawn(async move {
            let reply = wait(&call, task).await;
            drop(guard);
            answer(request, reply).await;
        });
    }
}

/// Waits for a handler's task, and no longer than its caller does.
async fn wait(call: &CurrentCall, mut task: JoinHandle<Reply>) -> Reply {
    tokio::select! {
        biased;
        ended = &mut task => ended.unwrap_or_else(|error| {
            let message = format!("the handler's task ended without a value: {error}");
            Reply::without_payload(Outcome::Panicked(message), Duration::ZERO)
        }),
        () = call.stopped() => {
            task.abort();
            Reply::without_payload(Outcome::Stopped, Duration::ZERO)
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("waiting", &self.lock().jobs.len()).finish_non_exhaustive()
    }
}
