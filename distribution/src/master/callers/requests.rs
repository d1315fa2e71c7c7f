//! The requests of one caller: each becomes a call in the core, and its end a response.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures::future::BoxFuture;
use tarpc::server;
use tokio_util::sync::CancellationToken;

use super::{
    call_state::{call_state, labels_of},
    declared::DeclaredMethods,
    lost_batches::LostBatches,
    numbers::Numbers,
    permission::{Permissions, has_stopped},
    unfinished::{AskOutcome, Request, Unfinished},
    watches::Watches,
};
use crate::{
    admin,
    config::{ValueLimits, from_micros, to_micros},
    error::{CallError, CallIdentity, Execution, Part},
    id::CallId,
    master::{admin::AdminWork, administrator::Administrator, caller_table::ConnectedCaller, shared::Shared},
    security::Operation,
    service::{
        dispatcher::Dispatcher,
        method::{MethodId, MethodInfo},
        options::Hedged,
        spans::CallTrace,
        state::{CallFailure, CallState, RawAnswer},
    },
    wire::{
        CallRequest, CallerEnd, CallerRequestBody, Control, Payload,
        connection_state::ConnectionState,
        fetched_arguments::FetchedArguments,
        frame::layout::BODY_HEADER_LIMIT,
        handshake::StreamShape,
        incoming_memory::{IncomingMemory, RESERVED_ABOVE},
        transport::{ONLY_ATTEMPT, OutgoingCallerReply},
    },
};

/// A request whose end is awaited.
pub(super) type Answering = BoxFuture<'static, ()>;

/// What the requests and the control frames of one caller share.
#[derive(Debug)]
pub(super) struct CallerRequests {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Arc<ConnectedCaller>,
    permissions: Permissions,
    /// The process of the node whose handlers make the calls, if they are nested calls.
    process: Option<u128>,
    /// The largest frame body that the caller accepts, in bytes.
    reply_limit: AtomicUsize,
    /// The memory for large arguments of its detached calls that wait.
    detached: Arc<IncomingMemory>,
    locked: Mutex<Locked>,
}

#[derive(Debug)]
pub(super) struct Locked {
    methods: DeclaredMethods,
    watches: Watches,
    numbers: Numbers,
    pub(super) calls: Unfinished,
    pub(super) lost: LostBatches,
    /// The connection; `None` while there is none.
    connection: Option<Arc<ConnectionState>>,
}

impl CallerRequests {
    pub(super) fn new(
        shared: Arc<Shared>,
        caller: Arc<ConnectedCaller>,
        permissions: Permissions,
        process: Option<u128>,
    ) -> Arc<Self> {
        let calls = Unfinished::new(Arc::clone(&shared.kept_ends), shared.max_queued_calls_per_caller);
        let locked = Mutex::new(Locked {
            methods: DeclaredMethods::default(),
            watches: Watches::default(),
            numbers: Numbers::new(caller.id, calls.most()),
            calls,
            lost: LostBatches::default(),
            connection: None,
        });
        let detached = shared.new_detached_memory();
        Arc::new(Self { shared, caller, permissions, process, reply_limit: AtomicUsize::new(0), detached, locked })
    }

    /// The caller has this connection from now on. It declares its methods, and says what it watches, on each anew.
    pub(super) fn on_connected(&self, connection: &Arc<ConnectionState>, max_message_size: u64, keeps: bool) {
        let limit = usize::try_from(max_message_size).unwrap_or(usize::MAX);
        self.reply_limit.store(limit, Ordering::Relaxed);
        let mut locked = self.lock();
        locked.methods = DeclaredMethods::default();
        locked.watches = Watches::default();
        locked.calls.on_connected(keeps);
        locked.connection = Some(Arc::clone(connection));
    }

    pub(super) fn on_connection_ended(&self) {
        let mut locked = self.lock();
        let lost = locked.calls.on_connection_ended();
        locked.connection = None;
        drop(locked);
        // What was on its way is lost, and the caller does not ask for these again, or sends them anew.
        lost.iter().for_each(|state| self.cancel(state));
    }

    /// Whether there is anything that the caller may come back for.
    pub(super) fn has_calls(&self) -> bool {
        !self.lock().calls.is_empty()
    }

    pub(super) fn reply_limit(&self) -> usize {
        self.reply_limit.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts what a request asks for, and returns what is to be awaited. A call is added to `calls`, which the core is still to
    /// be given.
    ///
    /// # Errors
    ///
    /// What a correct caller never sends, as the reason why the connection is closed.
    pub(super) fn start(
        self: &Arc<Self>,
        request: Request,
        calls: &mut Vec<Arc<CallState>>,
    ) -> Result<Option<Answering>, String> {
        let message = &request.get().message;
        match &message.body {
            CallerRequestBody::Call(call) | CallerRequestBody::LargeCall { call, .. } => {
                let payload = Payload::from(message.take_payload());
                let arguments = match &message.body {
                    CallerRequestBody::LargeCall { length, .. } => Some(self.fetched(call, *length, &payload)?),
                    _ => None,
                };
                let size = arguments.as_ref().map_or(payload.len(), |arguments| arguments.len());
                let method = self.method(call)?;
                let exceeded = self.lock().calls.exceeded();
                if let Some((under_way, limit)) = exceeded {
                    let error = self.permissions.session_full(call, &method, (under_way, limit));
                    return Ok(Some(Box::pin(self.answer(request, self.failure(None, &error, false)))));
                }
                let operation = self.operation(&method);
                let counted = match self.permissions.permit(call, &method, operation, size) {
                    Ok(counted) => counted,
                    Err(error) => {
                        return Ok(Some(Box::pin(self.answer(request, self.failure(None, &error, false)))));
                    }
                };
                let is_of_admin = matches!(operation, Operation::View | Operation::Administer);
                if is_of_admin && arguments.is_some() {
                    let (size, limit) = (size as u64, (RESERVED_ABOVE - BODY_HEADER_LIMIT) as u64);
                    let call = CallIdentity::new(Some(CallId(call.call)), method.name().clone());
                    let error = CallError::TooLarge { call, part: Part::Arguments, size, limit };
                    return Ok(Some(Box::pin(self.answer(request, self.failure(None, &error, false)))));
                }
                let (id, mut call) = (CallId(call.call), call.clone());
                if let Some((left, _)) = &mut call.timeout {
                    *left = left.saturating_sub(to_micros(message.took));
                }
                let state = self.call(&call, method, (payload, arguments), Some(request))?;
                if let Some(counted) = &counted {
                    state.hold(Arc::clone(counted) as _);
                }
                let requests = Arc::clone(self);
                // Ends what the master itself does for a call, once nobody waits for it.
                let mut stop = None;
                if is_of_admin {
                    // Not in the future below, because a connection that breaks must not end it half-way.
                    let (requests, call, stopped) = (Arc::clone(self), Arc::clone(&state), CancellationToken::new());
                    stop = Some(stopped.clone().drop_guard());
                    self.shared.track(async move {
                        if let Some(end) = requests.administer(&call, &stopped).await {
                            call.finish(end);
                        }
                    });
                } else {
                    calls.push(Arc::clone(&state));
                }
                Ok(Some(Box::pin(async move {
                    // The core holds the call and ends it, whatever happens to this future.
                    let end = poll_fn(|cx| state.poll_progress(cx, &requests)).await;
                    drop(stop);
                    if let Some(items) = &state.streams.items {
                        // The response must not overtake the items.
                        let _ = poll_fn(|cx| items.poll_all_taken(cx)).await;
                    }
                    requests.close_streams(id, &state);
                    if let Some(arguments) = &state.arguments {
                        arguments.end();
                    }
                    if let Some(counted) = counted.filter(|_| has_stopped(&end)) {
                        // Before the caller hears of the end, so that it can make its next call.
                        counted.end();
                    }
                    let reply = requests.reply(id, &state, end);
                    let lost = || requests.lost(id, &state);
                    let request = requests.lock().calls.on_end(id, &reply, lost);
                    requests.caller.on_calls_answered(state.submit_options.count);
                    if let Some(request) = request {
                        requests.answer(*request, reply).await;
                    }
                })))
            }
            CallerRequestBody::Serving { method, labels } => {
                let labels = labels_of(labels)?;
                // A method that was never declared is one that no call was made of, and its nodes are listed all the same.
                let nodes = self.shared.list_nodes(Some((MethodId(*method), &labels)));
                let reply = self.list(nodes);
                Ok(Some(Box::pin(self.answer(request, reply))))
            }
            CallerRequestBody::AskAgain { call } => {
                let id = CallId(*call);
                let mut locked = self.lock();
                let (request, reply) = match locked.calls.ask_again(id, request) {
                    AskOutcome::Answer(request, reply) => (request, reply),
                    AskOutcome::NotReceived(request) => (
                        request,
                        OutgoingCallerReply { call: None, end: CallerEnd::NotReceived, payload: Payload::EMPTY },
                    ),
                    AskOutcome::Runs { kept } => {
                        if let (Some(state), Some(connection)) = (locked.calls.active(id), &locked.connection) {
                            if let Some(arguments) = &state.arguments {
                                arguments.on_connected(connection);
                                if state.is_detached() {
                                    self.take_over(arguments);
                                }
                            }
                        }
                        // The frame that said so may have been lost with the earlier connection.
                        if let (Some(kept), Some(connection)) = (kept, &locked.connection) {
                            connection.send(Control::GiveBack { call: id.0, attempt: 0, kept });
                        }
                        return Ok(None);
                    }
                };
                drop(locked);
                Ok(Some(Box::pin(self.answer(*request, reply))))
            }
        }
    }

    /// What the caller wants to do by a call.
    fn operation(&self, method: &MethodInfo) -> Operation {
        let own = if self.process.is_some() { Operation::CallNested } else { Operation::Call };
        admin::operation(method).unwrap_or(own)
    }

    fn method(&self, call: &CallRequest) -> Result<Arc<MethodInfo>, String> {
        let method = self.lock().methods.get(call.method, call.idempotent).map(Arc::clone);
        method.ok_or_else(|| "it called a method that it had not declared".to_owned())
    }

    /// Answers a call of the admin service; `None` if it was `stopped` before.
    async fn administer(
        &self,
        state: &Arc<CallState>,
        stopped: &CancellationToken,
    ) -> Option<Result<RawAnswer, CallFailure>> {
        let by = Administrator::Elsewhere {
            principal: self.caller.principal.clone(),
            caller: self.caller.name.clone(),
            addr: self.caller.addr(),
        };
        let limits = ValueLimits {
            bytes: self.reply_limit().min(self.shared.max_message_size).saturating_sub(BODY_HEADER_LIMIT),
            depth: self.shared.limits.max_depth,
        };
        let end = match self.shared.administer(by, state, limits) {
            Ok(AdminWork::Compute(run)) => {
                let _turn = self.shared.administering.acquire().await;
                // It panics nowhere, so it fails only if the runtime ends.
                tokio::task::spawn_blocking(run).await.unwrap_or_else(|_| {
                    let error = CallError::Shutdown { call: state.identity(), execution: Execution::MayHaveRun };
                    Err(Box::new(CallFailure::after(Vec::new(), error)))
                })
            }
            // A shutdown waits for this task, and ends this future too.
            Ok(AdminWork::Async(end)) => tokio::select! {
                end = end => end,
                () = stopped.cancelled() => return None,
            },
            Err(failure) => Err(failure),
        };
        Some(end.map_err(|failure| *failure))
    }

    /// Answers a request. From now on the response counts among those that wait for the caller.
    fn answer(&self, request: Request, reply: OutgoingCallerReply) -> impl Future<Output = ()> + Send + use<> {
        if let Some(connection) = &self.lock().connection {
            connection.on_response_waits(reply.payload.len());
        }
        request.execute(server::serve(|_, _| std::future::ready(Ok(reply))))
    }

    /// The arguments of a call that are fetched from the caller.
    fn fetched(&self, call: &CallRequest, length: u64, payload: &Payload) -> Result<Arc<FetchedArguments>, String> {
        let most = self.shared.max_message_size.saturating_sub(BODY_HEADER_LIMIT);
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most) else {
            return Err(format!("it announced arguments of {length} bytes; the agreed limit is {most}"));
        };
        // They would be many.
        if length <= RESERVED_ABOVE - BODY_HEADER_LIMIT || payload.len() > 0 {
            return Err(format!("it announced arguments of {length} bytes, which come with the call"));
        }
        Ok(Arc::new(FetchedArguments::new(call.call, length, self.lock().connection.clone())))
    }

    /// What the core is to know of a call.
    fn call(
        &self,
        call: &CallRequest,
        method: Arc<MethodInfo>,
        (payload, arguments): (Payload, Option<Arc<FetchedArguments>>),
        request: Option<Request>,
    ) -> Result<Arc<CallState>, String> {
        let size = arguments.as_ref().map_or(payload.len(), |arguments| arguments.len());
        let (number, count) = (CallId(call.call), &call.count);
        // Each call of a batch has at least its length.
        if *count > 1 && size / 4 < *count as usize {
            return Err(format!("it sent {size} bytes as the arguments of {count} calls"));
        }
        if *count > 1 && method.streams() != StreamShape::default() {
            return Err("it sent calls with streams in a batch".to_owned());
        }
        // Outside of the lock, because a subscriber hears of it.
        let trace = CallTrace::relay(method.name(), *count, call.trace);
        let state = {
            let mut locked = self.lock();
            locked.numbers.take(number, *count)?;
            let failed_attempts = call.continues.map(|call| locked.lost.attempts_of(CallId(call))).unwrap_or_default();
            if let (Some(_), None) = (self.process, call.parent) {
                return Err("it made a nested call without saying of which call it is a part".to_owned());
            }
            // Another caller's calls are none of its business. After a new connection it may name one of its own earlier ones.
            let hedge_of = call.hedge_of.map(|(id, elapsed)| Hedged { id: CallId(id), elapsed: from_micros(elapsed) });
            let hedge_of = hedge_of.filter(|hedged| hedged.id.is_of(self.caller.id));
            let state = Arc::new(call_state(method, (payload, arguments), call, hedge_of, failed_attempts, trace)?);
            state.set_id(number);
            if let Some(parent) = call.parent.filter(|_| self.process.is_some()) {
                state.set_parent(CallId(parent), None);
            }
            if let Some(connection) = locked.connection.as_ref().filter(|_| !state.streams.is_none()) {
                connection.open_streams_of_handler((number.0, ONLY_ATTEMPT), &state.streams);
            }
            locked.calls.insert(number, Arc::clone(&state), request);
            self.caller.on_calls_made(*count);
            state
        };
        Ok(state)
    }

    /// Brings calls to the core.
    pub(super) fn submit(&self, calls: &mut Vec<Arc<CallState>>) {
        // A caller may cancel a call in the same moment, and then the core must not begin it.
        calls.retain(|call| !call.has_ended());
        // And it may have detached a call that the core did not know yet.
        let detached: Vec<_> = calls.iter().filter(|call| call.is_detached()).filter_map(|call| call.id()).collect();
        self.shared.submit_all(self.caller.id, self.process, calls);
        detached.into_iter().for_each(|call| self.detach(call));
    }

    /// Takes the arguments of a detached call over: the caller may leave before a node takes the call.
    fn take_over(&self, arguments: &Arc<FetchedArguments>) {
        let memory = [&self.detached, self.shared.detached_memory()].map(Arc::clone);
        self.shared.track(Arc::clone(arguments).take_over(memory));
    }

    fn detach(&self, call: CallId) {
        self.shared.with_core("a call is detached", |core, _, _| core.on_call_detached(call));
    }

    /// A control frame has come.
    ///
    /// # Errors
    ///
    /// What a correct caller never sends, as the reason why the connection is closed.
    pub(super) fn on_control(&self, control: Control) -> Result<(), String> {
        match control {
            Control::Declare { method } => self.lock().methods.declare(method)?,
            Control::CancelCall { call } => {
                // It may have ended at the same time.
                let state = self.lock().calls.active(CallId(call)).map(Arc::clone);
                if let Some(state) = state {
                    self.cancel(&state);
                }
            }
            Control::Detach { call } => {
                let state = self.lock().calls.active(CallId(call)).map(Arc::clone);
                if let Some(state) = state {
                    state.set_detached();
                    self.detach(CallId(call));
                    if let Some(arguments) = &state.arguments {
                        self.take_over(arguments);
                    }
                }
            }
            Control::Watch { watch, method, labels } => {
                let labels = labels_of(&labels)?;
                let mut locked = self.lock();
                locked.watches.watch(watch, MethodId(method), labels)?;
                let Locked { watches, connection, .. } = &mut *locked;
                if let Some(connection) = connection {
                    watches.tell_one(watch, &self.shared, connection);
                }
            }
            Control::Unwatch { watch } => self.lock().watches.unwatch(watch),
            Control::AskedAgain => {
                let unwanted = self.lock().calls.forget_others()?;
                unwanted.iter().for_each(|state| self.cancel(state));
            }
            other => return Err(other.unhandled()),
        }
        Ok(())
    }

    /// Tells the caller what has changed of what it watches.
    pub(super) fn tell_watches(&self) {
        let Locked { watches, connection, .. } = &mut *self.lock();
        if let Some(connection) = connection {
            watches.tell(&self.shared, connection);
        }
    }

    /// A call has ended, and its streams with it.
    fn close_streams(&self, id: CallId, state: &CallState) {
        if !state.streams.is_none() {
            state.streams.stop();
            if let Some(connection) = &self.lock().connection {
                connection.close_streams((id.0, ONLY_ATTEMPT));
            }
        }
    }

    /// Cancels a call, and ends it for the caller, which does not want its result.
    fn cancel(&self, state: &CallState) {
        state.streams.stop();
        if let Some(arguments) = &state.arguments {
            arguments.end();
        }
        self.shared.cancel(state);
        state.on_abandoned();
        let error = CallError::Shutdown { call: state.identity(), execution: Execution::MayHaveRun };
        state.finish(Err(CallFailure::after(Vec::new(), error)));
    }

    /// The caller is gone: cancels its calls, apart from those that it has detached.
    pub(super) fn on_gone(&self) {
        let lost = self.lock().calls.on_gone();
        lost.iter().for_each(|state| self.cancel(state));
        let caller = self.caller.id;
        self.shared.with_core("a caller is gone", |core, now, effects| core.on_caller_gone(now, caller, effects));
    }
}

impl CallState {
    /// Waits for the end of a caller's call, and passes on meanwhile how many calls of a batch its node has kept.
    fn poll_progress(
        &self,
        cx: &mut std::task::Context<'_>,
        requests: &CallerRequests,
    ) -> Poll<Result<RawAnswer, CallFailure>> {
        let polled = self.poll_end(cx);
        if polled.is_pending() {
            if let (Some(kept), Some(id)) = (self.take_kept(), self.id()) {
                let mut locked = requests.lock();
                locked.calls.on_kept(id, kept);
                if let Some(connection) = &locked.connection {
                    connection.send(Control::GiveBack { call: id.0, attempt: 0, kept });
                }
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests;
