//! Whether a caller may make the call that it asks for, and the error if it may not.

use std::sync::Arc;

use crate::{
    error::{CallError, CallIdentity, Execution, LimitOf, QueueUnit},
    id::CallId,
    master::{
        admission::LogKind,
        allowance::{Allowance, CountedCall, Met},
        caller_table::ConnectedCaller,
        shared::Shared,
    },
    security::{Access, Operation, WantedCall},
    service::{
        method::MethodInfo,
        state::{CallFailure, RawAnswer},
    },
    wire::CallRequest,
};

/// The timeout of a call as its caller says it, in microseconds: what is left of it, and what was set.
fn asked_timeout(call: &CallRequest) -> Option<std::time::Duration> {
    call.timeout.map(|(left, set)| std::time::Duration::from_micros(left.max(set)))
}

/// What one caller may do.
#[derive(Debug)]
pub(super) struct Permissions {
    shared: Arc<Shared>,
    caller: Arc<ConnectedCaller>,
    /// The role in which it came.
    access: Access,
    /// What its credential allows, if it makes calls of its own.
    allowance: Option<Allowance>,
}

impl Permissions {
    pub(super) fn new(
        shared: &Arc<Shared>,
        caller: &Arc<ConnectedCaller>,
        access: Access,
        allowance: Option<Allowance>,
    ) -> Self {
        Self { shared: Arc::clone(shared), caller: Arc::clone(caller), access, allowance }
    }

    /// Checks whether the caller may make a call with arguments of this size, and counts it among those of its credential if
    /// that has limits.
    pub(super) fn permit(
        &self,
        call: &CallRequest,
        method: &Arc<MethodInfo>,
        operation: Operation,
        size: usize,
    ) -> Result<Option<Arc<CountedCall>>, Box<CallError>> {
        if !self.shared.allows(self.access, operation) {
            return Err(Box::new(self.denied(call, method, operation)));
        }
        let allowance = self.allowance.as_ref().filter(|_| operation == Operation::Call);
        let Some(allowance) = allowance else { return Ok(None) };
        let wanted = WantedCall {
            method: method.name(),
            on: call.node.is_some(),
            label: !call.labels.is_empty(),
            broadcast: call.is_broadcast,
            timeout: asked_timeout(call).or(self.shared.limits.default_timeout),
            // A batch that is too large is refused below, and sent again in parts.
            size: if call.count > 1 { 0 } else { size },
        };
        let identity = || CallIdentity::new(Some(CallId(call.call)), method.name().clone());
        let refused = &self.shared.refused_calls;
        if let Err(reason) = allowance.rights.check_call(&self.caller.principal, &wanted) {
            let ConnectedCaller { principal, name, .. } = &*self.caller;
            let addr = self.caller.addr();
            // Any caller can ask again and again.
            if let Some(suppressed) = self.shared.admission.should_log(LogKind::Denied, addr.ip()) {
                let method = method.name();
                tracing::warn!(%principal, caller = name, address = %addr, %method, reason, suppressed, "denied a call");
            }
            refused.on_denied(call.count);
            return Err(Box::new(CallError::Denied { call: identity(), reason }));
        }
        allowance.begin(size).map(Some).map_err(|Met { under_way, limit, unit }| {
            refused.on_credential_full(call.count);
            let limit_of = LimitOf::Credential;
            Box::new(CallError::Overloaded { call: identity(), limit_of, queued: under_way, limit, unit })
        })
    }

    /// The error of a call for which the session has no room, because this much is under way.
    pub(super) fn session_full(
        &self,
        call: &CallRequest,
        method: &MethodInfo,
        (under_way, limit): (usize, usize),
    ) -> CallError {
        self.shared.refused_calls.on_session_full(call.count);
        CallError::Overloaded {
            call: CallIdentity::new(Some(CallId(call.call)), method.name().clone()),
            limit_of: LimitOf::Session,
            queued: under_way,
            limit,
            unit: QueueUnit::Calls,
        }
    }

    /// The error of a call that the caller's role does not allow.
    fn denied(&self, call: &CallRequest, method: &Arc<MethodInfo>, operation: Operation) -> CallError {
        self.shared.refused_calls.on_denied(call.count);
        let ConnectedCaller { principal, name, .. } = &*self.caller;
        let addr = self.caller.addr();
        let reason = match operation {
            Operation::View | Operation::Administer => {
                let reason = self.shared.why_not_administer(principal, self.access);
                // Any caller can ask again and again.
                if let Some(suppressed) = self.shared.admission.should_log(LogKind::Denied, addr.ip()) {
                    tracing::warn!(target: "distribution::audit", %principal, caller = name, address = %addr, method = %method.name(), reason, suppressed, "a caller may not administer");
                }
                reason
            }
            _ => format!(
                "{principal} is for {}s, and calls are made with a token or certificate for callers",
                self.access
            ),
        };
        CallError::Denied { call: CallIdentity::new(Some(CallId(call.call)), method.name().clone()), reason }
    }
}

/// Whether no handler of a call that has ended like this goes on.
pub(super) fn has_stopped(end: &Result<RawAnswer, CallFailure>) -> bool {
    match end {
        Ok(_) => true,
        // The node is gone, and with it what the handler held of the cluster.
        Err(CallFailure { error: CallError::NodeLost { .. } | CallError::Poisoned { .. }, .. }) => true,
        Err(CallFailure { error, .. }) => error.execution() != Execution::MayHaveRun,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_of_a_timeout_counts_if_a_caller_says_that_it_is_more_than_was_set() {
        let of = |timeout| asked_timeout(&CallRequest { timeout, ..CallRequest::bare(1, 1) });
        assert_eq!(of(None), None);
        assert_eq!(of(Some((900, 1000))), Some(Duration::from_micros(1000)));
        assert_eq!(of(Some((u64::MAX, 1))), Some(Duration::from_micros(u64::MAX)));
    }
}
