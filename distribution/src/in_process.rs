//! [`InProcess`]: services that are called without a socket, for unit tests of code that makes calls.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::runtime::{Handle, Runtime};

use crate::{
    error::Error,
    master::Master,
    node::{Node, NodeBuilder},
    service::{
        Service,
        dispatcher::{Caller, Dispatcher},
    },
};

/// Threads of the runtime of master and, if there is no other, async handlers.
const THREADS: usize = 2;

/// Serves services in this process, without a socket: for unit tests of code that makes calls.
///
/// ```
/// use distribution::{CallError, InProcess, service};
///
/// #[service]
/// pub trait Arith {
///     /// Sum of `values`.
///     fn sum(&self, values: Vec<i64>) -> i64;
/// }
///
/// struct Calculator;
///
/// impl Arith for Calculator {
///     fn sum(&self, values: Vec<i64>) -> i64 {
///         values.iter().sum()
///     }
/// }
///
/// /// The code under test.
/// async fn mean(arith: &ArithClient, values: Vec<i64>) -> Result<i64, CallError> {
///     let count = values.len() as i64;
///     Ok(arith.sum(values).await? / count)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let direct = InProcess::new().serve(ArithServer::new(Calculator));
/// assert_eq!(mean(&ArithClient::new(&direct), vec![2, 4, 6]).await?, 4);
/// # Ok(()) }
/// ```
///
/// Calls take the same way as in a cluster, from a master to one node, but through memory. So arguments and results are
/// encoded and decoded, compute handlers run on threads of the node (one slot for each core), timeouts pass, dropping a
/// call cancels it, a panic comes back as [`CallError::Panicked`](crate::CallError::Panicked), and
/// [`current`](crate::current), `.distribute()` and `.broadcast()` work. A call of a service that is not served ends as
/// [`CallError::NoNode`](crate::CallError::NoNode) at once, because no other node can join.
///
/// Master and node start when the first client is made, and have threads of their own. Async handlers run on the runtime
/// that this client is made on; it must last as long as the calls, so do not share an `InProcess` between tests with
/// runtimes of their own. Without such a runtime async handlers run on one that belongs to the `InProcess`.
///
/// Dropping it ends all calls as [`CallError::Shutdown`](crate::CallError::Shutdown); clients do not keep it alive.
///
/// # Paused time
///
/// In a test with paused time (`#[tokio::test(start_paused = true)]`) calls work, and timers of async handlers are paused
/// like those of the test. But the timeouts of calls run in real time, and so do compute handlers. As soon as a test only
/// waits for a call, tokio advances the paused clock to its next timer, without knowing of the call. So a
/// `tokio::time::timeout` around a call may end although the call took no time: use [`Call::timeout`](crate::Call::timeout)
/// there.
#[must_use = "dropping it ends its calls"]
#[derive(Default)]
pub struct InProcess {
    /// Taken when the first client is made.
    node: Mutex<NodeBuilder>,
    running: OnceLock<Running>,
    was_started: AtomicBool,
}

/// Dropped in this order. The master ends the calls, before the node could report itself lost with them.
struct Running {
    master: Master,
    _node: Node,
    _runtime: OwnRuntime,
}

/// A runtime that may be dropped within another one.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl InProcess {
    /// Without services yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves this service. To be called before the first client is made.
    ///
    /// # Panics
    ///
    /// If a client was made before.
    #[track_caller]
    pub fn serve(mut self, service: impl Service) -> Self {
        assert!(self.running.get().is_none(), "`InProcess::serve` is called after a client was made");
        let node = self.node.get_mut().unwrap_or_else(PoisonError::into_inner);
        *node = std::mem::take(node).serve(service);
        self
    }

    fn start(&self) -> Running {
        // Here for a second time only if the first has panicked, and has taken the services.
        assert!(
            !self.was_started.swap(true, Ordering::Relaxed),
            "`InProcess` could not start: the first panic says why"
        );
        let node = std::mem::take(&mut *self.node.lock().unwrap_or_else(PoisonError::into_inner));
        let handlers = Handle::try_current().ok();
        // On a thread of its own, because this one may belong to a runtime, and then must not wait for another.
        let started = thread::scope(|scope| {
            let starting = thread::Builder::new().name("in-process".to_owned());
            starting.spawn_scoped(scope, || start(node, handlers)).map(|thread| thread.join())
        });
        match started {
            Ok(Ok(Ok(running))) => running,
            Ok(Ok(Err(error))) => panic!("`InProcess` cannot start: {error}"),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => panic!("`InProcess` cannot start a thread: {error}"),
        }
    }
}

/// Starts master and node, and returns when the node is registered.
fn start(node: NodeBuilder, handlers: Option<Handle>) -> Result<Running, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("in-process")
        .enable_all()
        .build()
        .map_err(|source| Error::Thread { what: "runtime of `InProcess`", source })?;
    // It is dropped in the background also where starting fails, which never waits for a task.
    let own = runtime.handle().clone();
    let runtime = OwnRuntime(Some(runtime));
    let inside = own.enter();
    // Only this node can register, so that a call to a service that it does not serve need not wait.
    let master = Master::builder().no_node_timeout(Duration::ZERO).start_in_process()?;
    let connector = master.connector();
    let node = {
        let _inside = handlers.as_ref().map(Handle::enter);
        node.name("in-process").beside(master.security_config()).start_in_process(connector)?
    };
    own.block_on(node.wait_until_registered())?;
    drop(inside);
    Ok(Running { master, _node: node, _runtime: runtime })
}

impl Caller for InProcess {
    /// # Panics
    ///
    /// If master and node cannot be started, for example because two services have the same name.
    #[track_caller]
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.running.get_or_init(|| self.start()).master.dispatcher()
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("is_running", &self.running.get().is_some()).finish_non_exhaustive()
    }
}
