//! The watchdog: a thread that finds handlers which hold up other calls, and sleeps while no handler can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    answer::answer,
    compute::ComputePool,
    handler_runtime::HandlerRuntime,
    runner::Runner,
    state::NodeShared,
    waker::{WatchdogMessage, WatchdogWaker},
};

/// How often the watchdog looks at the runner and at held answers. If one of tokio's threads has waited for the sockets and
/// then runs a handler that blocks, no thread waits for the sockets until another one is woken.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the watchdog looks at the handler runtime while handlers run nowhere else.
const CHECK_RUNTIME_EVERY: Duration = Duration::from_millis(500);

/// What the watchdog looks at.
#[derive(Debug)]
pub(super) struct Watchdog {
    runner: Arc<Runner>,
    compute_pool: Arc<ComputePool>,
    handler_runtime: Arc<HandlerRuntime>,
    waker: Arc<WatchdogWaker>,
    /// How often a handler was seen to block.
    blocked: Arc<AtomicU32>,
    node: String,
}

impl Watchdog {
    pub(super) fn new(node: &NodeShared) -> Self {
        Self {
            runner: Arc::clone(&node.runner),
            compute_pool: Arc::clone(&node.compute_pool),
            handler_runtime: Arc::clone(&node.handler_runtime),
            waker: Arc::clone(&node.waker),
            blocked: Arc::clone(&node.blocked),
            node: node.registration.name.clone(),
        }
    }

    /// Looks at everything, again and again, until the node ends.
    pub(super) fn run(&self, messages: &Receiver<WatchdogMessage>, node_runtime: &Handle) {
        let mut pause = None;
        loop {
            let message = match pause {
                Some(pause) => messages.recv_timeout(pause),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            pause = match message {
                Ok(WatchdogMessage::NodeEnded) | Err(RecvTimeoutError::Disconnected) => return,
                // The work has only just come.
                Ok(WatchdogMessage::Work) => Some(LOOK_EVERY),
                Err(RecvTimeoutError::Timeout) => {
                    self.look(node_runtime);
                    self.pause()
                }
            };
        }
    }

    fn look(&self, node_runtime: &Handle) {
        node_runtime.spawn(std::future::ready(()));
        if let Some(label) = self.runner.look(node_runtime) {
            self.blocked.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                node = self.node,
                method = %label.method,
                call = %label.call,
                duration = ?LOOK_EVERY,
                "an async handler has blocked its thread for longer than it may; calculate in a `fn` method, which takes a slot, \
                 or in `spawn_blocking`"
            );
        }
        for (request, reply) in self.compute_pool.overdue() {
            node_runtime.spawn(answer(request, reply));
        }
        if self.handler_runtime.has_handlers() {
            if let Some(delay) = self.handler_runtime.look() {
                self.blocked.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    node = self.node,
                    duration = ?delay,
                    "the runtime of the async handlers has run no task for long; handlers may block all its threads"
                );
            }
        }
    }

    /// How long until the next look; `None` if nothing needs one.
    fn pause(&self) -> Option<Duration> {
        // Before looking, see `WatchdogWaker::wake`.
        self.waker.set_asleep();
        let pause = if !self.runner.is_idle() || self.compute_pool.is_holding() {
            Some(LOOK_EVERY)
        } else if self.handler_runtime.has_handlers() {
            Some(CHECK_RUNTIME_EVERY)
        } else {
            None
        };
        // After a longer pause, new work has to wake this thread earlier.
        if pause == Some(LOOK_EVERY) {
            self.waker.set_awake();
        }
        pause
    }
}
