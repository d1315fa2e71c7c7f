//! Runs async handlers where their calls arrive, as far as they need not wait.
//!
//! A handler belongs on the user's runtime, and the way there and back wakes two threads, which takes
//! longer than most handlers. So one task on the link's own runtime, the runner, takes calls as they come
//! and polls each handler once, inside the user's runtime: what it spawns and waits for are the user's.
//! Only one that is not done by then moves there. A handler that blocks, as none should, holds up the
//! runner. Then another is started on the user's runtime and takes the calls behind it, as the link's
//! supervisor notices (see [`super::enroll`]); the connection has a thread of its own in any case.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use futures::future::BoxFuture;
use tarpc::server::InFlightRequest;
use tokio::{runtime::Handle, task::JoinHandle};

use super::{current::CurrentCall, running::RunningGuard, serve::answer};
use crate::wire::{Outcome, Reply, transport::Incoming};

/// So many calls are run before any of them is answered, if so many are there.
const IN_A_ROW: usize = 64;

/// A call whose handler is to be run.
pub(super) struct Job {
    pub(super) request: InFlightRequest<Incoming, Reply>,
    pub(super) call: CurrentCall,
    pub(super) guard: RunningGuard,
    pub(super) handler: BoxFuture<'static, Reply>,
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
    /// Runners that take from here.
    active: usize,
    /// Jobs taken so far, and as of the last look.
    taken: u64,
    seen: u64,
}

impl Runner {
    /// Takes a call, and gives it to a runner. Called on the link's runtime.
    pub(super) fn push(self: &Arc<Self>, job: Job, users: &Handle) {
        let mut queue = self.lock();
        queue.jobs.push_back(job);
        if queue.active == 0 {
            queue.active = 1;
            drop(queue);
            let link = Handle::current();
            tokio::spawn(Arc::clone(self).run(users.clone(), link, Active(Arc::clone(self))));
        }
    }

    /// Starts another runner on the user's runtime, if calls wait and none was taken since the last look.
    pub(super) fn relieve(self: &Arc<Self>, users: &Handle, link: &Handle) {
        let mut queue = self.lock();
        let waits = !queue.jobs.is_empty() || !queue.done.is_empty();
        let stands_still = waits && queue.taken == queue.seen;
        queue.seen = queue.taken;
        if stands_still {
            queue.active += 1;
            drop(queue);
            users.spawn(Arc::clone(self).run(users.clone(), link.clone(), Active(Arc::clone(self))));
        }
    }

    async fn run(self: Arc<Self>, users: Handle, link: Handle, active: Active) {
        loop {
            match self.next() {
                Next::Start(job) => self.start(job, &users, &link).await,
                Next::Answer(done) => {
                    for (request, reply) in done {
                        answer(request, reply).await;
                    }
                }
                Next::Nothing => break,
            }
        }
        // `next` has counted it out, under the lock in which it saw that nothing waits.
        std::mem::forget(active);
    }

    fn next(&self) -> Next {
        let mut queue = self.lock();
        if queue.done.len() >= IN_A_ROW || queue.jobs.is_empty() && !queue.done.is_empty() {
            return Next::Answer(std::mem::take(&mut queue.done));
        }
        match queue.jobs.pop_front() {
            Some(job) => {
                queue.taken += 1;
                Next::Start(job)
            }
            None => {
                queue.active -= 1;
                Next::Nothing
            }
        }
    }

    /// Runs a handler to its end, or to where it waits.
    async fn start(&self, job: Job, users: &Handle, link: &Handle) {
        let Job { request, call, guard, mut handler } = job;
        let polled = std::future::poll_fn(|cx| {
            let _inside = users.enter();
            Poll::Ready(call.poll_in(cx, handler.as_mut()))
        })
        .await;
        match polled {
            Poll::Ready(reply) => {
                // What the handler has left behind may panic as it goes; its value is there all the same.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(handler)));
                drop(guard);
                self.lock().done.push((request, reply));
            }
            Poll::Pending => {
                let task = users.spawn(call.scope(handler));
                // The request stays on the link's runtime, so that it is answered also if the handler
                // panics as it is dropped, or its runtime ends.
                link.spawn(async move {
                    let reply = wait(&call, task).await;
                    drop(guard);
                    answer(request, reply).await;
                });
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a runner does next.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it is made, and the large one is the usual one")]
enum Next {
    Start(Job),
    Answer(Vec<Done>),
    Nothing,
}

/// Counts a runner out that ends before its time, with its runtime.
struct Active(Arc<Runner>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.lock().active -= 1;
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
