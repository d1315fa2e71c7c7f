//! Answers calls of the [admin service](crate::admin): the master runs them itself, on the thread that brings them.

use std::{sync::Arc, time::Instant};

use super::{administrator::Administrator, shared::Shared};
use crate::{
    admin::{Admin, AdminServer},
    administration::{CallFilter, CallPage, CallerInfo, MasterStatus, MethodSummary, ServiceSummary},
    config::ValueLimits,
    error::{AdminError, CallError, CodecError, Execution, Part},
    id::{CallId, NodeId},
    security::{Access, Operation, Principal},
    service::{
        Service as _,
        method::MethodInfo,
        outcome::failure,
        router::{Arguments, Handler, Router},
        state::{CallFailure, CallState, RawAnswer},
    },
    view::{NodeInfo, Stats},
    wire::{Outcome, codec::Encoder},
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

    fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn status(&self) -> MasterStatus {
        self.shared.status()
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

    /// Runs a call of the admin service, and returns how it ends.
    pub(super) fn administer(
        self: &Arc<Self>,
        by: Administrator,
        call: &CallState,
        limits: ValueLimits,
    ) -> Result<RawAnswer, Box<CallFailure>> {
        let started = Instant::now();
        let failed = |error: CallError| Err(Box::new(CallFailure::after(Vec::new(), error.with_id(call.id()))));
        if self.closed.is_cancelled() {
            return failed(CallError::Shutdown { call: call.identity(), execution: Execution::NotRun });
        }
        let routes = AdminServer::new(Administration { shared: Arc::clone(self), by }).routes();
        // A service has no two methods of one name.
        let router = Router::new([routes]).unwrap_or_default();
        let handler = match router.route(call.method.id().0).map(|route| &route.handler) {
            Some(Handler::Compute(handler)) => handler,
            _ => return failed(unknown(call)),
        };
        if call.submit_options.count > 1 {
            let source = CodecError::new("calls of the admin service do not travel in batches");
            return failed(CallError::Decode { call: call.identity(), part: Part::Arguments, source });
        }
        let mut reply = Encoder::new(limits);
        let outcome = handler(Arguments::Whole(call.payload.clone().into_bytes()), &mut reply);
        let (name, node) = (call.method.name(), &self.identity);
        if let Some(error) = failure(name, node, &outcome) {
            return failed(error);
        }
        let is_error = outcome == Outcome::Error;
        match reply.finish() {
            Ok(payload) => {
                let elapsed = started.elapsed();
                let (payload, node) = (payload.into_bytes(), node.clone());
                Ok(RawAnswer { is_error, payload, count: 1, node, attempts: 1, elapsed, run: elapsed })
            }
            Err(_) => failed(CallError::TooLarge {
                call: call.identity(),
                part: Part::Reply,
                size: limits.bytes as u64,
                limit: limits.bytes as u64,
            }),
        }
    }
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
