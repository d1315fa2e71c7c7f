//! Runs async handlers, without a change of thread where they do not wait.
//!
//! Moving a handler to the handler runtime and its reply back wakes two threads, which takes longer than most handlers. So
//! a task on the node's own runtime, the runner, takes calls as they come and polls each handler once. It enters the handler
//! runtime for that, so the handler's tasks and sockets belong there. A handler that is pending after this poll moves to the
//! handler runtime. So does one that would delay others: because the first poll of its method takes long, or because all
//! waiting handlers together take longer than waking another thread.
//!
//! A handler that blocks, which none should, holds up the runner. The watchdog then replaces the runner by another one on
//! the handler runtime. The connection has a thread of its own in any case.
//!
//! The handler runtime may end before the node. Then calls whose handlers were not started are refused and go to other
//! nodes, calls that were started are lost, and the node ends (see [`super::handler_runtime`]).

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

use super::{
    active_calls::ActiveCallGuard,
    answer::{Completed, NodeRequest, answer},
    current::CurrentCall,
    handler_runtime::HandlerRuntime,
    handler_streams::HandlerStreams,
    runner_queue::{Labelled, Look, Pushed, RunnerQueue, RunnerRole, RunnerStep},
    waker::WatchdogWaker,
};
use crate::{
    id::{CallId, MethodName},
    service::{first_poll::FirstPollTime, panics},
    wire::{Outcome, Refusal, Reply},
};

/// How many calls are run before their answers are sent together.
const IN_A_ROW: usize = 64;

/// A handler whose first poll takes longer than this must not delay others.
const LONG_POLL: Duration = Duration::from_micros(100);

/// A queue may take this long in all: about twice the time that waking another thread takes.
const MAX_QUEUE_TIME: Duration = Duration::from_micros(50);

/// The time that moving a call to the handler runtime takes. A handler that is faster is run here, however many wait.
const MOVE_TIME: Duration = Duration::from_micros(5);

/// The reason of calls that are lost.
const RUNTIME_ENDED: &str = "the runtime that its async handlers run on has ended";

/// A call whose handler is to be run.
pub(super) struct AsyncCall {
    pub(super) request: NodeRequest,
    pub(super) call: CurrentCall,
    pub(super) guard: ActiveCallGuard,
    pub(super) handler: BoxFuture<'static, Reply>,
    /// To be ended before the call is answered.
    pub(super) streams: Option<HandlerStreams>,
    pub(super) method: MethodName,
    /// How long the first polls of the method take.
    pub(super) first_poll: Arc<FirstPollTime>,
}

/// The method and id of a call, for log lines.
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

/// Which threads a runner is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunsOn {
    NodeThreads,
    HandlerRuntime,
}

impl Runner {
    pub(super) fn new(handler_runtime: Arc<HandlerRuntime>, waker: Arc<WatchdogWaker>) -> Self {
        Self { queue: Arc::default(), handler_runtime, waker }
    }

    /// Gives a call to a runner. Must be called on the node's runtime.
    pub(super) fn push(self: &Arc<Self>, job: AsyncCall) {
        let node_runtime = Handle::current();
        if self.handler_runtime.has_ended() {
            return self.end(&node_runtime, Some(job));
        }
        if job.first_poll.is_long() {
            return self.move_to_handler_runtime(job, &node_runtime);
        }
        match self.queue.push(job) {
            Pushed::Waits => {}
            Pushed::Appointed(role) => {
                // If a runner is stuck, it blocks one of the node's threads, and the connection needs the other.
                let runs_on = if self.queue.is_one_stuck() { RunsOn::HandlerRuntime } else { RunsOn::NodeThreads };
                self.start(role, runs_on, &node_runtime);
            }
            Pushed::Ended(job) => return self.end(&node_runtime, Some(job)),
        }
        self.waker.wake();
    }

    /// Replaces a runner that makes no progress while calls wait by another one on the handler runtime. Returns the call
    /// whose handler has run since the last look, once for each call.
    pub(super) fn look(self: &Arc<Self>, node_runtime: &Handle) -> Option<Label> {
        let Look { blocked, replacement } = self.queue.look();
        if let Some(role) = replacement {
            self.start(role, RunsOn::HandlerRuntime, node_runtime);
        }
        blocked
    }

    /// Whether the watchdog has nothing to look at here.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    fn start(self: &Arc<Self>, role: RunnerRole<AsyncCall, Completed>, runs_on: RunsOn, node_runtime: &Handle) {
        // Made here and not in the task, so that its `Drop` also runs if the task never does.
        let run = RunnerTask {
            runner: Arc::clone(self),
            role,
            runs_on,
            node_runtime: node_runtime.clone(),
            due: Vec::new(),
            must_yield: false,
        };
        match runs_on {
            RunsOn::NodeThreads => drop(node_runtime.spawn(run.run())),
            RunsOn::HandlerRuntime => drop(self.handler_runtime.spawn(run.run())),
        }
    }

    /// Runs a handler on the handler runtime.
    fn move_to_handler_runtime(&self, job: AsyncCall, node_runtime: &Handle) {
        let AsyncCall { request, call, guard, handler, streams, .. } = job;
        let handling = self.handler_runtime.handling();
        let task = self.handler_runtime.spawn(call.scope(handler));
        // The request stays on the node's runtime, so that it is answered even if the handler panics when it is dropped, or
        // its runtime ends.
        node_runtime.spawn(async move {
            let reply = wait(&call, task).await;
            call.log_panic(&reply.outcome);
            drop((handling, streams));
            answer(guard.end(request, &reply), reply).await;
        });
        self.waker.wake();
    }

    /// The handler runtime has ended: refuses the calls that wait for it, and this one.
    fn end(&self, node_runtime: &Handle, job: Option<AsyncCall>) {
        for job in self.queue.end().into_iter().chain(job) {
            let (request, reply) = job.refuse(Refusal::Ended);
            node_runtime.spawn(answer(request, reply));
        }
    }
}

/// Whether a handler with this mean time delays this many waiting ones like it for too long.
fn delays_others(mean: Duration, waiting: usize) -> bool {
    mean > MOVE_TIME && mean.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX)) > MAX_QUEUE_TIME
}

/// The task of a runner.
struct RunnerTask {
    runner: Arc<Runner>,
    role: RunnerRole<AsyncCall, Completed>,
    runs_on: RunsOn,
    node_runtime: Handle,
    /// Answers that it is about to send.
    due: Vec<Completed>,
    /// It has woken the connection's task, which may be queued on this thread. So it has to yield before the next handler,
    /// which may block. Without a next handler it does not yield, because that could wake another thread for nothing.
    must_yield: bool,
}

impl RunnerTask {
    async fn run(mut self) {
        let mut left = None;
        loop {
            match self.role.next(left.take(), IN_A_ROW, self.must_yield) {
                RunnerStep::Yield => {
                    self.must_yield = false;
                    tokio::task::yield_now().await;
                }
                RunnerStep::Start(job, waiting) => {
                    if job.call.is_cancelled() {
                        left = Some(job.refuse(Refusal::Stopped));
                        continue;
                    }
                    if self.runner.handler_runtime.has_ended() {
                        left = Some(job.refuse(Refusal::Ended));
                        continue;
                    }
                    if delays_others(job.first_poll.mean(), waiting) {
                        self.move_to_handler_runtime(job).await;
                        continue;
                    }
                    let started = Instant::now();
                    match job.poll(&self.runner.handler_runtime) {
                        Ok(done) => left = Some(done),
                        Err(job) => self.move_to_handler_runtime(job).await,
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

    async fn move_to_handler_runtime(&mut self, job: AsyncCall) {
        self.runner.move_to_handler_runtime(job, &self.node_runtime);
        self.must_yield = false;
        // The task that was just spawned may be queued on this thread, so it has to run before the next handler, which may
        // block.
        tokio::task::yield_now().await;
    }

    /// Sends the answers of all calls that have run, and this one.
    async fn answer(&mut self, left: Option<Completed>) {
        self.role.take_done(&mut self.due);
        self.due.extend(left);
        for (request, reply) in self.due.drain(..) {
            match self.runs_on {
                RunsOn::NodeThreads => answer(request, reply).await,
                // This task may be dropped while it waits, and the answer must not be lost.
                RunsOn::HandlerRuntime => answer_from_elsewhere(&self.node_runtime, request, reply),
            }
        }
        self.must_yield = true;
    }
}

impl Drop for RunnerTask {
    fn drop(&mut self) {
        let was_active = self.role.leave();
        // The runner panicked, or its runtime has ended. If that is the node's, the connection and its calls have ended too.
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

/// Answers a call from a task on another runtime than the node's.
fn answer_from_elsewhere(node_runtime: &Handle, request: NodeRequest, reply: Reply) {
    let mut answer = Box::pin(answer(request, reply));
    if answer.as_mut().now_or_never().is_none() {
        node_runtime.spawn(answer);
    }
}

impl AsyncCall {
    /// Ends the call without its handler.
    fn refuse(self, why: Refusal) -> Completed {
        let reply = Reply::refused(why);
        drop(self.streams);
        (self.guard.end(self.request, &reply), reply)
    }

    /// Polls the handler once; returns the call if the handler is pending.
    #[allow(clippy::result_large_err, reason = "the call is returned as it came")]
    fn poll(mut self, handler_runtime: &HandlerRuntime) -> Result<Completed, Self> {
        let started = Instant::now();
        let polled = {
            let _inside = handler_runtime.enter();
            // Waking the runner would be useless: if the handler is pending, it is polled again on the handler runtime.
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let poll = AssertUnwindSafe(|| self.call.poll_in(&mut context, self.handler.as_mut()));
            panics::caught(poll).unwrap_or_else(|message| {
                Poll::Ready(Reply::without_payload(Outcome::Panicked(message), started.elapsed()))
            })
        };
        self.first_poll.note(started.elapsed(), LONG_POLL);
        match polled {
            Poll::Pending => Err(self),
            Poll::Ready(reply) => {
                self.call.log_panic(&reply.outcome);
                // The drop of the handler's captured values may panic; the reply is complete all the same.
                let handler = self.handler;
                let _ = panics::caught(AssertUnwindSafe(|| drop(handler)));
                // The reply may come from the errors that the sockets and timers of an ended runtime give.
                let reply = if handler_runtime.has_ended() { lost(&self.call) } else { reply };
                drop(self.streams);
                Ok((self.guard.end(self.request, &reply), reply))
            }
        }
    }
}

/// Waits for a handler's task; aborts it if the call is cancelled.
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
        // Nobody else has the task's handle, so only the end of its runtime can have cancelled it.
        Err(_) => lost(call),
    }
}

/// The reply to a call whose handler's runtime has ended.
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
    fn handlers_that_calculate_move_once_they_delay_others() {
        let busy = Duration::from_micros(80);
        assert!(!delays_others(busy, 0), "alone it ends soonest here");
        assert!(delays_others(busy, 1));
        assert!(!delays_others(busy / 4, 2) && delays_others(busy / 4, 3));
        assert!(!delays_others(Duration::from_nanos(300), 1000), "moving it takes longer");
    }
}
