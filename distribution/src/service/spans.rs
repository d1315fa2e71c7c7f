//! The spans of calls, and how the context of a trace gets into and out of them. No other file knows OpenTelemetry.
//!
//! | span | where | how long |
//! |---|---|---|
//! | `call` (client) | at the caller | from when the call is submitted until it has ended |
//! | `distribute` | at the caller | a run of `.distribute()`, whose batches are calls |
//! | `relay` | at the master, for a call of a caller elsewhere that belongs to a trace | as the caller's |
//! | `call` (server) | on the node | while the handler runs |
//!
//! The context of the first or third is what travels to the node with the call. Without a subscriber that wants spans of the
//! level `INFO`, all of this is one look at an atomic number.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use futures::future::BoxFuture;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::{Dispatch, Span, field::Empty, info_span, instrument::WithSubscriber as _, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{
    error::CallError,
    failed_attempt::FailedAttempt,
    id::{CallId, MethodName, NodeIdentity},
    wire::{Outcome, Reply, frame::call::Trace},
};

/// The error of a span whose method has returned an error of its own.
const OWN_ERROR: &str = "the method returned an error of its own";

/// Whether a subscriber may want the spans of calls.
fn are_wanted() -> bool {
    LevelFilter::current() >= LevelFilter::INFO
}

/// The span of a call where it was made or is passed on, and what travels with the call.
pub(crate) struct CallTrace {
    /// `None` if there is none, or the call has ended.
    span: Mutex<Option<Span>>,
    /// `None` if the call belongs to no trace.
    context: Option<Trace>,
}

impl CallTrace {
    /// Begins the span of a call that is about to be submitted, as a child of the current span. `None` if nobody wants it.
    #[inline]
    pub(crate) fn begin(method: &MethodName, count: u32) -> Option<Box<Self>> {
        if are_wanted() { Self::begin_wanted(method, count) } else { None }
    }

    #[cold]
    fn begin_wanted(method: &MethodName, count: u32) -> Option<Box<Self>> {
        let span = info_span!(
            "call",
            otel.kind = "client",
            otel.name = %method,
            otel.status_description = Empty,
            %method,
            call = Empty,
            count = (count > 1).then_some(count),
            node = Empty,
            attempts = Empty,
            error = Empty,
        );
        // If the subscriber leaves these spans out, a trace goes on below the span that it has.
        let context = context_of(&span).or_else(|| context_of(&Span::current()));
        let has_span = !span.is_disabled();
        (has_span || context.is_some()).then(|| Box::new(Self { span: Mutex::new(has_span.then_some(span)), context }))
    }

    /// Begins the span of a call of a caller elsewhere, at the master. `None` if the call belongs to no trace.
    pub(crate) fn relay(method: &MethodName, count: u32, from: Option<Trace>) -> Option<Box<Self>> {
        let from = from.filter(is_valid)?;
        let (mut span, mut context) = (None, None);
        if are_wanted() {
            let relay = info_span!(
                parent: None,
                "relay",
                otel.kind = "internal",
                otel.name = %format_args!("relay {method}"),
                otel.status_description = Empty,
                %method,
                call = Empty,
                count = (count > 1).then_some(count),
                node = Empty,
                attempts = Empty,
                error = Empty,
            );
            if set_parent(&relay, Some(from)) {
                context = context_of(&relay);
                span = Some(relay);
            }
        }
        Some(Box::new(Self { span: Mutex::new(span), context: Some(context.unwrap_or(from)) }))
    }

    /// What travels with the call.
    pub(crate) fn context(&self) -> Option<Trace> {
        self.context
    }

    /// An attempt has failed: an event in the span.
    pub(crate) fn on_attempt_failed(&self, failed: &FailedAttempt) {
        let span = self.lock().clone();
        if let Some(span) = span {
            let FailedAttempt { attempt, node, .. } = failed;
            tracing::info!(parent: &span, attempt, node = &*node.name, reason = %failed, "an attempt failed");
        }
    }

    /// A node has answered: ends the span. Of several ends only the first counts.
    pub(crate) fn on_answered(&self, call: Option<CallId>, node: &NodeIdentity, attempts: u32, is_error: bool) {
        let Some(span) = self.lock().take() else { return };
        span.record("node", &*node.name).record("attempts", attempts);
        if is_error {
            fail(&span, &OWN_ERROR);
        }
        close(span, call);
    }

    /// The call has failed: ends the span.
    pub(crate) fn on_failed(&self, call: Option<CallId>, error: &CallError) {
        let Some(span) = self.lock().take() else { return };
        fail(&span, error);
        close(span, call);
    }

    /// Nobody waits for the call any more: ends the span.
    pub(crate) fn on_abandoned(&self, call: Option<CallId>) {
        let Some(span) = self.lock().take() else { return };
        fail(&span, &"its caller has cancelled it");
        close(span, call);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Span>> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CallTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallTrace").field(&self.context).finish()
    }
}

/// Ends a span at this moment, also if spans below it have not ended.
fn close(span: Span, call: Option<CallId>) {
    if let Some(call) = call {
        span.record("call", tracing::field::display(call));
    }
    // A layer for OpenTelemetry takes the time when a span was left last for its end.
    drop(span.enter());
}

fn fail(span: &Span, error: &dyn fmt::Display) {
    // The second is what OpenTelemetry shows as the reason.
    span.record("error", tracing::field::display(error));
    span.record("otel.status_description", tracing::field::display(error));
}

/// The span of a run of `.distribute()`, as a child of the current span.
pub(crate) fn of_run() -> RunSpan {
    RunSpan(if are_wanted() { info_span!("distribute", otel.kind = "internal") } else { Span::none() })
}

/// The span of a run. It ends when this is dropped.
pub(crate) struct RunSpan(Span);

impl RunSpan {
    /// Does something within the run.
    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.in_scope(work)
    }
}

impl Drop for RunSpan {
    fn drop(&mut self) {
        // A layer for OpenTelemetry takes the time when a span was left last for its end.
        drop(self.0.enter());
    }
}

/// Tells in the span of a run that a call of a batch is made again.
pub(crate) fn on_attempt_in_batch_failed(RunSpan(run): &RunSpan, failed: &FailedAttempt) {
    if context_of(run).is_some() {
        let FailedAttempt { attempt, node, .. } = failed;
        tracing::info!(parent: run, attempt, node = &*node.name, reason = %failed, "an attempt failed");
    }
}

/// What the span of a handler tells, kept from when its call comes until the handler is started.
pub(crate) struct HandlerSpan {
    method: MethodName,
    call: CallId,
    attempt: u32,
    count: u32,
    node: String,
    from: Option<Trace>,
}

impl HandlerSpan {
    /// `None` if nobody wants it.
    #[inline]
    pub(crate) fn of(
        method: &MethodName,
        (call, attempt, count): (CallId, u32, u32),
        node: &str,
        from: Option<Trace>,
    ) -> Option<Box<Self>> {
        are_wanted().then(|| {
            let (method, node, from) = (method.clone(), node.to_owned(), from.filter(is_valid));
            Box::new(Self { method, call, attempt, count, node, from })
        })
    }

    /// Begins the span, as a child of the caller's.
    fn begin(self) -> Span {
        let Self { method, call, attempt, count, node, from } = self;
        let span = info_span!(
            parent: None,
            "call",
            otel.kind = Empty,
            otel.name = Empty,
            otel.status_description = Empty,
            %method,
            %call,
            attempt,
            %node,
            count = (count > 1).then_some(count),
            error = Empty,
        );
        if set_parent(&span, from) {
            // Only there, because logs would show them in each line of a handler.
            span.record("otel.kind", "server").record("otel.name", tracing::field::display(&method));
        }
        span
    }

    /// Runs a compute handler in its span.
    #[inline]
    pub(crate) fn run(span: Option<Box<Self>>, run: impl FnOnce() -> Reply) -> Reply {
        let Some(span) = span else { return run() };
        let mut ends = EndsWithHandler { span: span.begin(), is_over: false };
        ends.span.clone().in_scope(|| {
            let reply = run();
            ends.on_reply(&reply);
            reply
        })
    }

    /// Polls an async handler in its span.
    pub(crate) fn wrap(span: Option<Box<Self>>, handler: BoxFuture<'static, Reply>) -> BoxFuture<'static, Reply> {
        let Some(span) = span else { return handler };
        let span = span.begin();
        let mut ends = EndsWithHandler { span: span.clone(), is_over: false };
        let run = async move {
            let reply = handler.await;
            ends.on_reply(&reply);
            reply
        };
        Box::pin(tracing::Instrument::instrument(run, span))
    }
}

/// Tells in the span of a handler how it has ended, also if it panics or is dropped.
struct EndsWithHandler {
    span: Span,
    is_over: bool,
}

impl EndsWithHandler {
    fn on_reply(&mut self, reply: &Reply) {
        self.is_over = true;
        match &reply.outcome {
            Outcome::Value => {}
            Outcome::Error => fail(&self.span, &OWN_ERROR),
            Outcome::Panicked(message) => fail(&self.span, &format_args!("the handler panicked: {message}")),
            Outcome::Stopped => fail(&self.span, &"it was stopped: it was cancelled, or its time was up"),
            other => fail(&self.span, &format_args!("{other:?}")),
        }
    }
}

impl Drop for EndsWithHandler {
    fn drop(&mut self) {
        match self.is_over {
            true => {}
            false if std::thread::panicking() => fail(&self.span, &"the handler panicked"),
            false => fail(&self.span, &"it was stopped: it was cancelled, or its time was up"),
        }
    }
}

/// A request of tarpc's client, without tarpc's own span: that would begin a trace for each request, and tell nothing that the
/// span of the call does not. The future is made in the box, because it is large.
pub(crate) fn without_own_span<F: Future + Send + 'static>(
    request: impl FnOnce() -> F,
) -> BoxFuture<'static, F::Output> {
    match are_wanted() {
        true => Box::pin(request().with_subscriber(Dispatch::none())),
        false => Box::pin(request()),
    }
}

/// Whether a peer has named a trace and a span.
fn is_valid(trace: &Trace) -> bool {
    trace.trace != 0 && trace.span != 0
}

/// The context of the trace that a span belongs to; `None` if no layer for OpenTelemetry knows it.
fn context_of(span: &Span) -> Option<Trace> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| Trace {
        trace: u128::from_be_bytes(context.trace_id().to_bytes()),
        span: u64::from_be_bytes(context.span_id().to_bytes()),
        sampled: context.is_sampled(),
    })
}

/// Makes a span a child of one elsewhere, or the root of a trace. Whether there is a layer for OpenTelemetry that wants it.
fn set_parent(span: &Span, parent: Option<Trace>) -> bool {
    let context = parent.map_or_else(Context::new, |Trace { trace, span, sampled }| {
        let (trace, span) = (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
        let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
    });
    span.set_parent(context).is_ok()
}
