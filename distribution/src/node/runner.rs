//! Runs async handlers where their calls arrive, as far as they need not wait.
//!
//! A handler belongs on the handler runtime, and the way there and back wakes two threads, which takes
//! longer than most handlers. So one task on the node's own runtime, the runner, takes calls as they come
//! and polls each handler once, inside the handler runtime: what it spawns and waits for are the user's.
//! One that is not done by then moves there. So do those that would keep others waiting: of a method whose
//! handlers take long over their first poll, or together longer than it takes to wake another thread.
//!
//! A handler that blocks, as none should, holds up the runner. The watchdog notices, gives that runner up
//! and starts another on the handler runtime; the connection has a thread of its own in any case.
//!
//! The handler runtime may end before the node. What was not started then is refused and goes elsewhere, what
//! was is lost, and the node leaves (see [`super::handler_runtime`]).

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tarpc::server::InFlightRequest;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

use super::{
    active_calls::ActiveCallGuard,
    answer::{Completed, answer},
    current::CurrentCall,
    handler_runtime::HandlerRuntime,
    runner_queue::{Labelled, Look, Pushed, RunnerQueue, RunnerRole, RunnerStep},
    waker::WatchdogWaker,
};
use crate::{
    id::{CallId, MethodName},
    service::{panics, router::Pace},
    wire::{Outcome, Refusal, Reply, transport::Incoming},
};

/// This many calls are run before any of them is answered, if as many are there.
const IN_A_ROW: usize = 64;

/// A handler whose first poll takes longer must not keep others waiting.
const LONG_POLL: Duration = Duration::from_micros(100);

/// Nor must a queue that takes longer than this: it is about what waking another thread takes, twice.
const QUEUE_MOST: Duration = Duration::from_micros(50);

/// What it takes to hand a call over. A handler that is faster than that is run, however many wait.
const HAND_OVER: Duration = Duration::from_micros(5);

/// Why calls were lost.
const RUNTIME_ENDED: &str = "the runtime that its async handlers run on has ended";

/// A call whose handler is to be run.
pub(super) struct AsyncCall {
    pub(super) request: InFlightRequest<Incoming, Reply>,
    pub(super) call: CurrentCall,
    pub(super) guard: ActiveCallGuard,
    pub(super) handler: BoxFuture<'static, Reply>,
    pub(super) method: MethodName,
    /// What is known of the method.
    pub(super) pace: Arc<Pace>,
}

/// A method and a call of it, for people.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) method: MethodName,
    pub(super) call: CallId,
}

impl Labelled for AsyncCall {
    type Label = Label;

    fn label(&self) -> Label {
        Label { method: self.method.clone(), call: self.call.id() }
    }
}

pub(super) struct Runner {
    queue: Arc<RunnerQueue<AsyncCall, Completed>>,
    handler_runtime: Arc<HandlerRuntime>,
    waker: Arc<WatchdogWaker>,
}

/// Whose threads a runner is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunsOn {
    NodeThreads,
    HandlerRuntime,
}

impl Runner {
    pub(super) fn new(handler_runtime: Arc<HandlerRuntime>, waker: Arc<WatchdogWaker>) -> Self {
        Self { queue: Arc::default(), handler_runtime, waker }
    }

    /// Takes a call, and gives it to a runner. Called on the node's runtime.
    pub(super) fn push(self: &Arc<Self>, job: AsyncCall) {
        let node_runtime = Handle::current();
        if self.handler_runtime.has_ended() {
            return self.end(&node_runtime, Some(job));
        }
        if job.pace.is_long() {
            return self.hand_over(job, &node_runtime);
        }
        match self.queue.push(job) {
            Pushed::Waits => {}
            Pushed::Appointed(role) => {
                // With one thread of the link's blocked already, the other is the connection's.
                let runs_on = if self.queue.is_one_stuck() { RunsOn::HandlerRuntime } else { RunsOn::NodeThreads };
                self.start(role, runs_on, &node_runtime);
            }
            Pushed::Ended(job) => return self.end(&node_runtime, Some(job)),
        }
        self.waker.wake();
    }

    /// Gives up a runner that stands still while calls wait, and starts another on the handler runtime. Says which
    /// call has been running since the last look, once for each.
    pub(super) fn look(self: &Arc<Self>, node_runtime: &Handle) -> Option<Label> {
        let Look { blocked, relief } = self.queue.look();
        if let Some(role) = relief {
            self.start(role, RunsOn::HandlerRuntime, node_runtime);
        }
        blocked
    }

    /// Whether there is nothing to look at.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    fn start(self: &Arc<Self>, role: RunnerRole<AsyncCall, Completed>, runs_on: RunsOn, node_runtime: &Handle) {
        // Made here and not in the task, so that it also counts one out that never begins.
        let run = RunnerTask {
            runner: Arc::clone(self),
            role,
            runs_on,
            node_runtime: node_runtime.clone(),
            due: Vec::new(),
            owes_way: false,
        };
        match runs_on {
            RunsOn::NodeThreads => drop(node_runtime.spawn(run.run())),
            RunsOn::HandlerRuntime => drop(self.handler_runtime.spawn(run.run())),
        }
    }

    /// Runs a handler on the handler runtime.
    fn hand_over(&self, job: AsyncCall, node_runtime: &Handle) {
        let AsyncCall { request, call, guard, handler, .. } = job;
        let handling = self.handler_runtime.handling();
        let task = self.handler_runtime.spawn(call.scope(handler));
        // The request stays on the node's runtime, so that it is answered also if the handler panics as it
        // is dropped, or its runtime ends.
        node_runtime.spawn(async move {
            let reply = wait(&call, task).await;
            drop((guard, handling));
            answer(request, reply).await;
        });
        self.waker.wake();
    }

    /// The handler runtime has ended: refuses what waits for it, and this job.
    fn end(&self, node_runtime: &Handle, job: Option<AsyncCall>) {
        for AsyncCall { request, guard, .. } in self.queue.end().into_iter().chain(job) {
            drop(guard);
            node_runtime.spawn(answer(request, Reply::refused(Refusal::Ended)));
        }
    }
}

/// Whether a handler that takes this long on average keeps this many that are like it waiting for too long.
fn keeps_waiting(mean: Duration, waiting: usize) -> bool {
    mean > HAND_OVER && mean.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX)) > QUEUE_MOST
}

/// One runner at work.
struct RunnerTask {
    runner: Arc<Runner>,
    role: RunnerRole<AsyncCall, Completed>,
    runs_on: RunsOn,
    node_runtime: Handle,
    /// What it is about to answer.
    due: Vec<Completed>,
    /// It has woken the connection, maybe on this thread and for no other. So the connection goes before the next
    /// handler, which may block; where there is none, to yield would wake another thread for nothing.
    owes_way: bool,
}

impl RunnerTask {
    async fn run(mut self) {
        let mut left = None;
        loop {
            match self.role.next(left.take(), IN_A_ROW, self.owes_way) {
                RunnerStep::GiveWay => {
                    self.owes_way = false;
                    tokio::task::yield_now().await;
                }
                RunnerStep::Start(job, waiting) => {
                    if job.call.is_cancelled() {
                        left = Some((job.request, Reply::refused(Refusal::Stopped)));
                        continue;
                    }
                    if self.runner.handler_runtime.has_ended() {
                        left = Some((job.request, Reply::refused(Refusal::Ended)));
                        continue;
                    }
                    if keeps_waiting(job.pace.mean(), waiting) {
                        self.hand_over(job).await;
                        continue;
                    }
                    let started = Instant::now();
                    match job.poll(&self.runner.handler_runtime) {
                        Ok(done) => left = Some(done),
                        Err(job) => self.hand_over(job).await,
                    }
                    if started.elapsed() > LONG_POLL {
                        self.answer(left.take()).await;
                    }
                }
                RunnerStep::Answer => self.answer(None).await,
                RunnerStep::Nothing => return,
            }
        }
    }

    async fn hand_over(&mut self, job: AsyncCall) {
        self.runner.hand_over(job, &self.node_runtime);
        self.owes_way = false;
        // The task that was just spawned may be next on this thread and on no other, so it goes before the next
        // handler, which may block.
        tokio::task::yield_now().await;
    }

    /// Answers all that have run, and this one.
    async fn answer(&mut self, left: Option<Completed>) {
        self.role.take_done(&mut self.due);
        self.due.extend(left);
        for (request, reply) in self.due.drain(..) {
            match self.runs_on {
                RunsOn::NodeThreads => answer(request, reply).await,
                // This task may be dropped while it waits, and the answer must not.
                RunsOn::HandlerRuntime => answer_from_elsewhere(&self.node_runtime, request, reply),
            }
        }
        self.owes_way = true;
    }
}

impl Drop for RunnerTask {
    fn drop(&mut self) {
        let was_active = self.role.leave();
        // It panicked, or its runtime has ended. If that is the link's, so have the connection and its calls.
        if self.runs_on == RunsOn::HandlerRuntime {
            for (request, reply) in self.due.drain(..) {
                answer_from_elsewhere(&self.node_runtime, request, reply);
            }
            if was_active && self.runner.handler_runtime.has_ended() {
                self.role.take_done(&mut self.due);
                for (request, reply) in self.due.drain(..) {
                    answer_from_elsewhere(&self.node_runtime, request, reply);
                }
                self.runner.end(&self.node_runtime, None);
            }
        }
    }
}

/// Answers a call from a task that is not the link's.
fn answer_from_elsewhere(node_runtime: &Handle, request: InFlightRequest<Incoming, Reply>, reply: Reply) {
    let mut answer = Box::pin(answer(request, reply));
    if answer.as_mut().now_or_never().is_none() {
        node_runtime.spawn(answer);
    }
}

impl AsyncCall {
    /// Polls the handler once; gives the job back if it is not done.
    #[allow(clippy::result_large_err, reason = "the job comes back as it went in")]
    fn poll(mut self, handler_runtime: &HandlerRuntime) -> Result<Completed, Self> {
        let started = Instant::now();
        let polled = {
            let _inside = handler_runtime.enter();
            // The one that is woken is the runner, for nothing. Wherever the handler goes on, it is
            // polled first.
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let poll = AssertUnwindSafe(|| self.call.poll_in(&mut context, self.handler.as_mut()));
            panics::caught(poll).unwrap_or_else(|message| {
                Poll::Ready(Reply::without_payload(Outcome::Panicked(message), started.elapsed()))
            })
        };
        self.pace.note(started.elapsed(), LONG_POLL);
        match polled {
            Poll::Pending => Err(self),
            Poll::Ready(reply) => {
                // What the handler has left behind may panic as it goes; its value is there all the same.
                let handler = self.handler;
                let _ = panics::caught(AssertUnwindSafe(|| drop(handler)));
                // It may have made its value of the errors that all sockets and timers of its runtime give.
                Ok(match handler_runtime.has_ended() {
                    true => (self.request, lost(&self.call)),
                    false => (self.request, reply),
                })
            }
        }
    }
}

/// Waits for a handler's task, and no longer than its caller does.
async fn wait(call: &CurrentCall, mut task: JoinHandle<Reply>) -> Reply {
    tokio::select! {
        biased;
        ended = &mut task => ended.unwrap_or_else(|error| without_value(call, error)),
        () = call.stopped() => {
            task.abort();
            Reply::without_payload(Outcome::Stopped, Duration::ZERO)
        }
    }
}

fn without_value(call: &CurrentCall, error: JoinError) -> Reply {
    match error.try_into_panic() {
        Ok(panic) => Reply::without_payload(Outcome::Panicked(panics::message(panic)), Duration::ZERO),
        // Nobody else has the task's handle, so that only its runtime can have cancelled it.
        Err(_) => lost(call),
    }
}

/// What becomes of a call with the runtime of its handler.
fn lost(call: &CurrentCall) -> Reply {
    match call.was_started() {
        true => Reply::without_payload(Outcome::Lost(RUNTIME_ENDED.to_owned()), Duration::ZERO),
        false => Reply::refused(Refusal::Ended),
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_that_calculate_are_handed_over_once_they_keep_others_waiting() {
        let busy = Duration::from_micros(80);
        assert!(!keeps_waiting(busy, 0), "alone it is done soonest here");
        assert!(keeps_waiting(busy, 1));
        assert!(!keeps_waiting(busy / 4, 2) && keeps_waiting(busy / 4, 3));
        assert!(!keeps_waiting(Duration::from_nanos(300), 1000), "to hand it over takes longer");
    }
}
