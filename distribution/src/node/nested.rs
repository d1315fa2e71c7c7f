//! Nested calls: what handlers make calls with, and what the master is told of handlers that wait.
//!
//! The calls go over a second connection to the master, which the node opens when a handler first needs it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::future::BoxFuture;
use tokio::runtime::Handle;

use super::{
    active_calls::ActiveCalls,
    current::{CurrentCall, Nesting},
    current_connection::CurrentConnection,
};
use crate::{
    cluster::NestedCaller,
    config::{MAX_DEPTH, MAX_MESSAGE_SIZE, ValueLimits},
    error::{CallError, Execution, ITS_MAKER},
    log_queue::NodeLogs,
    service::{
        dispatcher::{Caller, Capacity, Dispatcher},
        metadata::Metadata,
        method::MethodInfo,
        options::CallOptions,
        state::{CallFailure, CallState},
    },
    view::NodeInfo,
    wire::{Control, RunReport, frame::layout::BODY_HEADER_LIMIT},
};

/// What all sessions of a node need for nested calls.
pub(super) struct NestedCalls {
    caller: Mutex<CallerPlace>,
    /// Compute handlers that wait, each with a thread.
    waiting: AtomicU32,
    max_waiting: u32,
    /// Where records of the node's handlers go.
    logs: Arc<NodeLogs>,
}

/// The caller that nested calls go through.
enum CallerPlace {
    /// No handler has needed it yet. Opens the connection.
    Unopened(Box<dyn Fn(&Handle) -> NestedCaller + Send>),
    Open(NestedCaller),
    /// The node has ended.
    Closed,
}

impl NestedCalls {
    /// `open` opens the connection, on this runtime.
    pub(super) fn new(
        open: impl Fn(&Handle) -> NestedCaller + Send + 'static,
        max_waiting: u32,
        logs: Arc<NodeLogs>,
    ) -> Self {
        Self {
            caller: Mutex::new(CallerPlace::Unopened(Box::new(open))),
            waiting: AtomicU32::new(0),
            max_waiting,
            logs,
        }
    }

    fn caller(&self, node_runtime: &Handle) -> Option<Arc<dyn Dispatcher>> {
        let mut place = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let CallerPlace::Unopened(open) = &*place {
            *place = CallerPlace::Open(open(node_runtime));
        }
        match &*place {
            CallerPlace::Open(caller) => Some(caller.dispatcher()),
            CallerPlace::Unopened(_) | CallerPlace::Closed => None,
        }
    }

    /// Ends the connection, and the nested calls that have not ended: the node has ended.
    pub(super) fn close(&self) {
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = CallerPlace::Closed;
    }
}

impl fmt::Debug for NestedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NestedCalls").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// What the calls of one session need for nested calls.
#[derive(Debug)]
pub(super) struct NestingOfSession {
    calls: Arc<NestedCalls>,
    active: Arc<ActiveCalls>,
    connection: Arc<CurrentConnection>,
    node_runtime: Handle,
}

impl NestingOfSession {
    /// Must be called on the node's runtime.
    pub(super) fn new(
        calls: &Arc<NestedCalls>,
        active: &Arc<ActiveCalls>,
        connection: &Arc<CurrentConnection>,
    ) -> Arc<Self> {
        Arc::new(Self {
            calls: Arc::clone(calls),
            active: Arc::clone(active),
            connection: Arc::clone(connection),
            node_runtime: Handle::current(),
        })
    }
}

impl Nesting for NestingOfSession {
    fn dispatcher(&self, call: &CurrentCall) -> Arc<dyn Dispatcher> {
        let caller = self.calls.caller(&self.node_runtime).map(|caller| (caller, Arc::clone(&self.calls)));
        Arc::new(NestedDispatcher { call: call.clone(), caller })
    }

    fn on_waits(&self, call: &CurrentCall) -> bool {
        let limit = self.calls.max_waiting;
        let one_more = |waiting| Some(waiting + 1).filter(|waiting| *waiting <= limit);
        if self.calls.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return false;
        }
        self.lend(call);
        true
    }

    fn on_goes_on(&self, call: &CurrentCall) {
        self.calls.waiting.fetch_sub(1, Ordering::Relaxed);
        self.resume(call);
    }

    fn lend(&self, call: &CurrentCall) {
        let (request, attempt) = call.key();
        if self.active.set_lent((request, attempt), true) {
            self.connection.send(Control::Lend { call: request, attempt });
        }
    }

    fn resume(&self, call: &CurrentCall) {
        let (request, attempt) = call.key();
        if self.active.set_lent((request, attempt), false) {
            self.connection.send(Control::Resume { call: request, attempt });
        }
    }

    fn logs(&self) -> Option<&Arc<NodeLogs>> {
        Some(&self.calls.logs)
    }
}

/// Makes nested calls, as parts of this call: `ArithClient::new(&distribution::current())`.
///
/// A nested call goes through the master like any other. It ends at the latest with this call: it inherits the deadline,
/// and is cancelled when this call is cancelled or times out. It inherits the metadata. Its place in the queue is that of the call that all of this
/// began with, so that work that was begun is finished first. Calls can be nested 256 deep; the next one ends as
/// [`CallError::TooDeep`](crate::CallError::TooDeep).
///
/// A compute handler that blocks in [`wait`](crate::Call::wait) lends its slot to other calls, and takes one back, before new
/// calls do, when the result is there. An `async fn` that awaits nested calls does not count towards the node's
/// [`async_limit`](crate::NodeBuilder::async_limit). So no depth of nesting leaves all slots with handlers that wait for each
/// other.
///
/// Only while the call runs: once its handler has returned, and outside a handler, calls end as
/// [`CallError::Cancelled`](crate::CallError::Cancelled) or [`CallError::NoNode`](crate::CallError::NoNode).
impl Caller for CurrentCall {
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        match self.nesting() {
            Some(nesting) => nesting.dispatcher(self),
            None => Arc::new(NestedDispatcher { call: self.clone(), caller: None }),
        }
    }
}

/// Submits calls as parts of a call.
#[derive(Debug)]
struct NestedDispatcher {
    call: CurrentCall,
    /// What the calls go through. `None` outside a handler, and after the node has ended.
    caller: Option<(Arc<dyn Dispatcher>, Arc<NestedCalls>)>,
}

impl NestedDispatcher {
    /// Why a call cannot be made, if it cannot.
    fn refusal(&self, call: &CallState) -> Option<CallError> {
        let identity = || call.method.name().into();
        if self.call.is_cancelled() {
            return Some(CallError::Cancelled { call: identity(), by: ITS_MAKER.into(), execution: Execution::NotRun });
        }
        let Some((_, calls)) = &self.caller else {
            let wanted =
                "it was made with `distribution::current()` outside a handler, or on a node that has ended. Make \
                 the client of a `Cluster`, a `Master` or an `InProcess` there"
                    .to_owned();
            return Some(CallError::NoNode { call: identity(), wanted, waited: std::time::Duration::ZERO });
        };
        let limit = calls.max_waiting;
        let is_full = !self.call.is_asynchronous() && calls.waiting.load(Ordering::Relaxed) >= limit;
        is_full.then(|| CallError::TooManyWaiting { call: identity(), limit })
    }
}

impl Dispatcher for NestedDispatcher {
    fn argument_limits(&self) -> ValueLimits {
        match &self.caller {
            Some((caller, _)) => caller.argument_limits(),
            None => ValueLimits { bytes: MAX_MESSAGE_SIZE - BODY_HEADER_LIMIT, depth: MAX_DEPTH },
        }
    }

    fn default_timeout(&self) -> Option<std::time::Duration> {
        self.caller.as_ref().and_then(|(caller, _)| caller.default_timeout())
    }

    fn metadata(&self) -> Metadata {
        self.call.inherited_metadata()
    }

    fn runtime(&self) -> Option<Handle> {
        self.caller.as_ref().and_then(|(caller, _)| caller.runtime())
    }

    fn submit(&self, call: Arc<CallState>) {
        let caller = match (self.refusal(&call), &self.caller) {
            (None, Some((caller, _))) => caller,
            (error, _) => {
                // Without a caller there is an error.
                let error = error.unwrap_or(CallError::Cancelled {
                    call: call.method.name().into(),
                    by: ITS_MAKER.into(),
                    execution: Execution::NotRun,
                });
                return call.finish(Err(CallFailure::after(Vec::new(), error)));
            }
        };
        let on_end = self.call.is_asynchronous().then(|| {
            self.call.on_nested_begun();
            let parent = self.call.clone();
            Box::new(move || parent.on_nested_ended()) as Box<dyn FnOnce() + Send>
        });
        call.set_parent(self.call.request(), on_end);
        caller.submit(call);
    }

    fn cancel(&self, call: &CallState) {
        if let Some((caller, _)) = &self.caller {
            caller.cancel(call);
        }
        call.on_end();
    }

    fn detach(&self, call: &CallState) {
        if let Some((caller, _)) = &self.caller {
            caller.detach(call);
        }
        call.on_end();
    }

    fn take_back_unserved(&self, call: &CallState) -> bool {
        self.caller.as_ref().is_some_and(|(caller, _)| caller.take_back_unserved(call))
    }

    fn report_run(&self, report: RunReport) {
        if let Some((caller, _)) = &self.caller {
            caller.report_run(report);
        }
    }

    fn capacity(&self, method: &MethodInfo, options: &CallOptions) -> Capacity {
        match &self.caller {
            Some((caller, _)) => caller.capacity(method, options),
            None => Capacity { is_known: true, ..Capacity::default() },
        }
    }

    fn nodes_changed(&self) -> BoxFuture<'static, ()> {
        match &self.caller {
            Some((caller, _)) => caller.nodes_changed(),
            None => Box::pin(std::future::pending()),
        }
    }

    fn serving(&self, method: &MethodInfo, options: &CallOptions) -> BoxFuture<'static, Vec<NodeInfo>> {
        match &self.caller {
            Some((caller, _)) => caller.serving(method, options),
            None => Box::pin(std::future::ready(Vec::new())),
        }
    }
}
