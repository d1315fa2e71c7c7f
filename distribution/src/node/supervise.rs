//! The node's third thread: looks after handlers that hold up others, and sleeps while there is nothing to
//! look after.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::{compute::Pool, runner::Runner, serve::answer, users::Users};

/// How often a runner and held answers are looked after. A thread of tokio's that has waited for the sockets
/// and then runs a handler which blocks leaves the sockets to nobody, until another thread is woken.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the user's runtime is looked after while only it has handlers.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Wakes the supervisor when there is something to look after.
#[derive(Debug)]
pub(super) struct Alarm {
    is_on: AtomicBool,
    signals: Sender<Signal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// There is something to look after.
    Work,
    /// The node has ended.
    Ended,
}

impl Alarm {
    pub(super) fn new() -> (Arc<Self>, Receiver<Signal>) {
        let (signals, received) = channel();
        (Arc::new(Self { is_on: AtomicBool::new(false), signals }), received)
    }

    /// There is something to look after. Call it after that has been put in its place.
    pub(super) fn raise(&self) {
        // The supervisor turns the alarm off before it looks for the last time: either it finds what was put
        // there, or the alarm is seen to be off here.
        if !self.is_on.load(Ordering::SeqCst) && !self.is_on.swap(true, Ordering::SeqCst) {
            let _ = self.signals.send(Signal::Work);
        }
    }

    pub(super) fn end(&self) {
        let _ = self.signals.send(Signal::Ended);
    }
}

/// All that is looked after.
#[derive(Debug)]
pub(super) struct Supervised {
    pub(super) runner: Arc<Runner>,
    pub(super) pool: Arc<Pool>,
    pub(super) users: Arc<Users>,
    pub(super) alarm: Arc<Alarm>,
    /// How often a handler was seen to block.
    pub(super) blocked: Arc<AtomicU32>,
    pub(super) node: String,
}

impl Supervised {
    /// Looks after everything until the node ends.
    pub(super) fn run(&self, signals: &Receiver<Signal>, link: &Handle) {
        let mut pause = None;
        loop {
            let signal = match pause {
                Some(pause) => signals.recv_timeout(pause),
                None => signals.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            pause = match signal {
                Ok(Signal::Ended) | Err(RecvTimeoutError::Disconnected) => return,
                // It has only just come.
                Ok(Signal::Work) => Some(LOOK_EVERY),
                Err(RecvTimeoutError::Timeout) => {
                    self.look(link);
                    self.pause()
                }
            };
        }
    }

    fn look(&self, link: &Handle) {
        link.spawn(std::future::ready(()));
        if let Some(label) = self.runner.look(link) {
            self.blocked.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                node = self.node,
                method = %label.method,
                call = %label.call,
                "an async handler blocks its thread for over {LOOK_EVERY:?}; calculate in a `fn`, which takes a slot, or in `spawn_blocking`"
            );
        }
        for (request, reply) in self.pool.overdue() {
            link.spawn(answer(request, reply));
        }
        if self.users.are_handling() {
            if let Some(delay) = self.users.look() {
                self.blocked.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    node = self.node,
                    "the runtime of the async handlers has run nothing for {delay:?}; handlers may block all its threads"
                );
            }
        }
    }

    /// How long until the next look; `None` if nothing needs one.
    fn pause(&self) -> Option<Duration> {
        // Turned off before looking, see `raise`.
        self.alarm.is_on.store(false, Ordering::SeqCst);
        let pause = if !self.runner.is_idle() || self.pool.is_holding() {
            Some(LOOK_EVERY)
        } else if self.users.are_handling() {
            Some(PROBE_EVERY)
        } else {
            None
        };
        // What needs a look in 500 ms only shall be heard of what needs one earlier.
        if pause == Some(LOOK_EVERY) {
            self.alarm.is_on.store(true, Ordering::SeqCst);
        }
        pause
    }
}
