//! Answers calls of the [admin service](crate::admin): the master runs them itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, future::BoxFuture, stream};

use super::{administrator::Administrator, logs::LogReader, shared::Shared};
use crate::{
    admin::{Admin, AdminServer},
    administration::{
        CallFilter, CallPage, CallerInfo, EventCursor, EventPage, FailureGroup, History, HistoryFilter, LogCursor,
        LogFilter, LogPage, MasterStatus, MethodSummary, Metrics, Profile, RunInfo, ServiceSummary, TimelineFilter,
        TimelinePage, Warning,
    },
    config::{LONGEST_TIME, ValueLimits},
    error::{AdminError, CallError, CallStage, CodecError, Execution, Part},
    id::{CallId, NodeId},
    security::{Access, Operation, Principal},
    service::{
        Service as _, metadata,
        method::MethodInfo,
        outcome::failure,
        router::{Arguments, Handler, Router},
        state::{CallFailure, CallState, RawAnswer},
    },
    view::{NodeInfo, Stats},
    wire::{Outcome, Reply, codec::Encoder, streams::CallStreams},
};

/// What an administrator asks a master through the service.
struct Administration {
    shared: Arc<Shared>,
    by: Administrator,
}

impl Admin for Administration {
    fn nodes(&self) -> Vec<NodeInfo> {
        self.shared.nodes()
    }

    fn calls(&self, filter: CallFilter) -> CallPage {
        self.shared.calls(filter)
    }

    fn methods(&self) -> Vec<MethodSummary> {
        self.shared.methods()
    }

    fn services(&self) -> Vec<ServiceSummary> {
        self.shared.services()
    }

    fn callers(&self) -> Vec<CallerInfo> {
        self.shared.list_callers()
    }

    fn event_pages(&self, after: Option<EventCursor>) -> impl Stream<Item = EventPage> + Send {
        let shared = Arc::clone(&self.shared);
        stream::unfold((shared, after), |(shared, after)| async move {
            loop {
                let page = {
                    let _turn = shared.following.acquire().await;
                    shared.events_after(after).await
                };
                if shared.events.has_ended() {
                    return None;
                }
                // The first one says where the reader is, also if there is nothing to tell.
                if after.is_none() || !page.events.is_empty() {
                    let next = Some(page.next);
                    return Some((page, (shared, next)));
                }
            }
        })
    }

    fn past_events(&self, most: u64) -> EventPage {
        self.shared.past_events(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn log_pages(&self, filter: LogFilter, after: Option<LogCursor>) -> impl Stream<Item = LogPage> + Send {
        let reader = LogReader::new(Arc::clone(&self.shared), filter, after);
        stream::unfold(reader, |mut reader| async move {
            let page = reader.next_page().await?;
            Some((page, reader))
        })
    }

    fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn status(&self) -> MasterStatus {
        self.shared.status()
    }

    fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    fn history(&self, filter: HistoryFilter) -> History {
        self.shared.history.read(&filter, self.shared.started)
    }

    fn timeline(&self, filter: TimelineFilter) -> TimelinePage {
        self.shared.timeline(&filter)
    }

    fn failures(&self) -> Vec<FailureGroup> {
        self.shared.failures()
    }

    fn warnings(&self) -> Vec<Warning> {
        self.shared.warnings()
    }

    fn runs(&self) -> Vec<RunInfo> {
        self.shared.runs()
    }

    async fn profile(&self, node: NodeId, length: Duration) -> Result<Profile, AdminError> {
        self.shared.profile(&self.by, node, length).await
    }

    fn cancel(&self, call: CallId) -> Result<(), AdminError> {
        self.shared.cancel_call(&self.by, call)
    }

    fn drain(&self, node: NodeId) -> Result<(), AdminError> {
        self.shared.drain(&self.by, node)
    }

    fn cordon(&self, node: NodeId) -> Result<(), AdminError> {
        self.shared.set_cordoned(&self.by, node, true)
    }

    fn uncordon(&self, node: NodeId) -> Result<(), AdminError> {
        self.shared.set_cordoned(&self.by, node, false)
    }

    fn kick(&self, node: NodeId) -> Result<(), AdminError> {
        self.shared.kick(&self.by, node)
    }
}

impl Shared {
    /// Whether a peer that came in this role may do this.
    pub(super) fn allows(&self, access: Access, operation: Operation) -> bool {
        match self.admission.authenticator.demands_proof() {
            true => access.may(operation),
            false => access.may_unproven(operation, self.local_addr.ip().to_canonical().is_loopback()),
        }
    }

    /// Why a caller may not administer, as a sentence for it.
    pub(super) fn why_not_administer(&self, principal: &Principal, access: Access) -> String {
        match self.admission.authenticator.demands_proof() {
            _ if access == Access::Viewers => format!(
                "{principal} is for viewers, who may look and change nothing. Connect with a token that was issued for admins, \
                 or with a certificate that the master lists with `Certificates::admins`"
            ),
            true => format!(
                "{principal} is for {access}s, and the admin service is for admins. Connect with a token that was issued for \
                 admins, or with a certificate that the master lists with `Certificates::admins`"
            ),
            false => {
                "the master has no security and listens beyond loopback, so nobody may administer it from another \
                      process. Start it with a token file or certificates"
                    .to_owned()
            }
        }
    }

    /// What has to be done for a call of the admin service.
    ///
    /// # Errors
    ///
    /// How the call ends instead, if it cannot be run.
    pub(super) fn administer(
        self: &Arc<Self>,
        by: Administrator,
        call: &Arc<CallState>,
        limits: ValueLimits,
    ) -> Result<AdminWork, Box<CallFailure>> {
        let failed = |error: CallError| Err(failure_of(call, error));
        if self.closed.is_cancelled() {
            return failed(CallError::Shutdown { call: call.identity(), execution: Execution::NotRun });
        }
        let by = by.with_metadata(metadata::entries(&call.options.metadata));
        let routes = AdminServer::new(Administration { shared: Arc::clone(self), by }).routes();
        // A service has no two methods of one name.
        let router = Router::new([routes]).unwrap_or_default();
        let Some(handler) = router.route(call.method.id().0).map(|route| route.handler.clone()) else {
            return failed(unknown(call));
        };
        if call.submit_options.count > 1 {
            let source = CodecError::new("calls of the admin service do not travel in batches");
            return failed(CallError::Decode { call: call.identity(), part: Part::Arguments, source });
        }
        let (shared, call, arguments) = (Arc::clone(self), Arc::clone(call), call.payload.clone().into_bytes());
        Ok(match handler {
            Handler::Compute(handler) => AdminWork::Compute(Box::new(move || {
                let started = Instant::now();
                let mut reply = Encoder::new(limits);
                let outcome = handler(Arguments::Whole(arguments, CallStreams::default()), &mut reply);
                shared.end_of(&call, Reply::new(outcome, started.elapsed(), reply))
            })),
            Handler::Async(handler, _) => AdminWork::Async(Box::pin(async move {
                let default = shared.limits.default_timeout.filter(|_| call.streams.is_none());
                let timeout = call.options.timeout.or(default);
                let handler = handler(arguments, call.streams.clone(), limits);
                let in_time = tokio::time::timeout(timeout.unwrap_or(LONGEST_TIME), handler);
                tokio::select! {
                    biased;
                    () = shared.closed.cancelled() => {
                        let execution = Execution::MayHaveRun;
                        Err(failure_of(&call, CallError::Shutdown { call: call.identity(), execution }))
                    }
                    reply = in_time => match reply {
                        Ok(reply) => shared.end_of(&call, reply),
                        Err(_) => Err(failure_of(&call, CallError::TimedOut {
                            call: call.identity(),
                            timeout: timeout.unwrap_or_default(),
                            stage: CallStage::Sent(shared.identity.clone()),
                        })),
                    },
                }
            })),
        })
    }

    /// How a call ends by the reply of its handler.
    fn end_of(&self, call: &CallState, reply: Reply) -> AdminEnd {
        if let Some(error) = failure(call.method.name(), &self.identity, &reply.outcome) {
            return Err(failure_of(call, error));
        }
        Ok(RawAnswer {
            is_error: reply.outcome == Outcome::Error,
            payload: reply.payload.into_bytes(),
            count: 1,
            node: self.identity.clone(),
            attempts: 1,
            elapsed: reply.run,
            run: reply.run,
        })
    }
}

/// How a call of the admin service ends.
pub(super) type AdminEnd = Result<RawAnswer, Box<CallFailure>>;

/// What has to be done for a call of the admin service.
pub(super) enum AdminWork {
    /// Holds a thread, and takes some time if a list is long.
    Compute(Box<dyn FnOnce() -> AdminEnd + Send>),
    /// Waits for something to happen, without a thread.
    Async(BoxFuture<'static, AdminEnd>),
}

fn failure_of(call: &CallState, error: CallError) -> Box<CallFailure> {
    Box::new(CallFailure::after(Vec::new(), error.with_id(call.id())))
}

/// The error of a call that was made by a program whose admin service is another than this master's.
fn unknown(call: &CallState) -> CallError {
    let describe = |method: &MethodInfo| format!("{}, version {}", method.signature(), method.version());
    CallError::Incompatible {
        call: call.identity(),
        expected: describe(&call.method),
        found: "another signature, structure of types, or no such method".to_owned(),
        difference: format!(
            "the master is of version {} of `distribution`, and its admin service has no `{}` with this signature and \
             these types; use a program that was built with the same version",
            env!("CARGO_PKG_VERSION"),
            call.method.name().method()
        ),
    }
}
