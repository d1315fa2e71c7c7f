//! Which thread runs which handler, for a look at what each is doing.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        pthread::{Pthread, pthread_kill, pthread_self},
        signal::Signal,
    },
    unistd::gettid,
};

use crate::{administration::ThreadState, id::CallId, service::method::MethodInfo};

/// The threads that have run handlers, and have not ended.
static THREADS: Mutex<Vec<Weak<HandlerThread>>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: Arc<HandlerThread> = HandlerThread::register();
}

/// A thread that runs handlers.
#[derive(Debug)]
pub(super) struct HandlerThread {
    /// As samples name it.
    pub(super) pthread: Pthread,
    /// As the system names it.
    id: i32,
    pub(super) name: String,
    /// The thread takes this before it goes on to another call. So it cannot end while somebody else holds it and there is a
    /// call.
    running: Mutex<Option<RunningCall>>,
}

/// A handler that runs.
#[derive(Clone, Debug)]
pub(super) struct RunningCall {
    pub(super) call: CallId,
    pub(super) attempt: u32,
    pub(super) method: Option<Arc<MethodInfo>>,
    pub(super) since: Instant,
}

impl RunningCall {
    /// Whether they are the same attempt at the same call.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.call, self.attempt) == (other.call, other.attempt)
    }
}

/// The handler of this call runs on this thread until the guard is dropped.
pub(in crate::node) fn running(call: CallId, attempt: u32, method: Option<&Arc<MethodInfo>>) -> RunningGuard {
    let running = RunningCall { call, attempt, method: method.cloned(), since: Instant::now() };
    // A thread that ends runs no handlers.
    RunningGuard { before: HERE.try_with(|here| here.lock().replace(running)).ok().flatten() }
}

/// Ends the call on this thread.
pub(in crate::node) struct RunningGuard {
    before: Option<RunningCall>,
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        let before = self.before.take();
        let _ = HERE.try_with(|here| std::mem::replace(&mut *here.lock(), before));
    }
}

impl HandlerThread {
    fn register() -> Arc<Self> {
        let name = thread::current().name().unwrap_or("a thread without a name").to_owned();
        let this = Arc::new(Self { pthread: pthread_self(), id: gettid().as_raw(), name, running: Mutex::new(None) });
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&this));
        this
    }

    fn lock(&self) -> MutexGuard<'_, Option<RunningCall>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a signal handler run on this thread, if it runs this call still.
    pub(super) fn interrupt(&self, call: &RunningCall, signal: Signal) {
        let running = self.lock();
        if running.as_ref().is_some_and(|running| running.is_same(call)) {
            // The thread has not ended, because it needs the lock before. Without the signal its stack is not seen.
            let _ = pthread_kill(self.pthread, signal);
        }
    }

    /// What the thread is doing, and the processor time that it has used.
    pub(super) fn look(&self) -> (ThreadState, Option<Duration>) {
        use procfs::process::{ProcState, Process};

        let stat = Process::myself().and_then(|process| process.task_from_tid(self.id)).and_then(|task| task.stat());
        let Ok(stat) = stat else { return (ThreadState::Unknown, None) };
        let state = match stat.state() {
            Ok(ProcState::Running) => ThreadState::Running,
            Ok(ProcState::Sleeping | ProcState::Idle) => ThreadState::Sleeping,
            Ok(ProcState::Waiting) => ThreadState::Disk,
            Ok(ProcState::Stopped | ProcState::Tracing) => ThreadState::Stopped,
            _ => ThreadState::Unknown,
        };
        (state, Some(processor_time(stat.utime + stat.stime)))
    }
}

/// The time of this many ticks of the system's clock.
pub(super) fn processor_time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// The threads that run a handler now, with it.
pub(super) fn busy() -> Vec<(Arc<HandlerThread>, RunningCall)> {
    let threads: Vec<_> = {
        let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().filter_map(Weak::upgrade).collect()
    };
    let busy = threads.into_iter().filter_map(|thread| {
        let running = thread.lock().clone()?;
        Some((thread, running))
    });
    busy.collect()
}
